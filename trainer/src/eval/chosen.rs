//! Which test images are explained, and towards what.

use super::explanations::second;
use crate::data::Dataset;
use crate::io::session::Session;
use duet::infer::ImageClassifier;
use duet::model::{Head, ModelConfig, argmax};
use duet::{Error, Result};
use std::ops::Range;

/// Images classified at a time.
const BATCH: usize = 32;

/// What images are moved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    /// The class that comes second in the model's decision about the image.
    Second,
    /// The class after the image's true one, by number; after the last the first.
    Next,
    /// One class for all.
    Class(usize),
}

impl Towards {
    /// Of what the command line says: "second", "next", or a class by name or number. A class that is called so comes first.
    ///
    /// # Errors
    /// [`Error::Config`] for a class that the model does not have.
    pub fn named(config: &ModelConfig, text: &str) -> Result<Towards> {
        match (config.find_class(text), text.trim()) {
            (Ok(class), _) => Ok(Towards::Class(class)),
            (Err(_), "second") => Ok(Towards::Second),
            (Err(_), "next") => Ok(Towards::Next),
            (Err(error), _) => Err(error),
        }
    }

    /// For people, after "towards".
    pub fn words(self, config: &ModelConfig) -> String {
        match self {
            Towards::Second => "the model's second class".into(),
            Towards::Next => "the class after the true one".into(),
            Towards::Class(class) => config.class_name(class),
        }
    }
}

/// Test images and what each is to become.
pub struct Chosen {
    /// Rows of the test set.
    pub rows: Vec<usize>,
    /// \[N,C,H,W\] in −1..1.
    pub images: Vec<f32>,
    /// Classes.
    pub truths: Vec<usize>,
    /// What the model makes of each.
    pub decisions: Vec<usize>,
    /// Classes.
    pub targets: Vec<usize>,
}

impl Chosen {
    /// The first `count` images of each class after the first `skip` (0 to 1) of the test set, in its order. A class with fewer
    /// gives what it has.
    ///
    /// # Errors
    /// [`Error::Config`] for a model of several labels or of one class, and where no image is left; device errors.
    pub fn new(
        session: &Session,
        test: &Dataset,
        count: usize,
        skip: f64,
        towards: Towards,
    ) -> Result<Chosen> {
        let config = session.config();
        if config.head != Head::Multiclass || config.num_classes < 2 {
            let detail = "need a model that chooses one of several classes for an image";
            return Err(Error::config("counterfactuals", detail));
        }
        let classes = config.num_classes;
        // A tenth of ten images is one, whatever 0.1 is in binary.
        let first = (skip * test.len() as f64 + 1e-9) as usize;
        let rows = test.of_each_class_from(first, 0..count)?;
        if rows.is_empty() {
            let detail = format!("leaves none of {} test images with a class", test.len());
            return Err(Error::config("skip", detail));
        }
        let all = test.classes()?;
        let truths: Vec<usize> = rows.iter().map(|row| all[*row] as usize).collect();
        if let Some(stranger) = truths.iter().find(|truth| **truth >= classes) {
            let detail = format!("label {stranger} in the data, {classes} classes in the model");
            return Err(Error::config("num_classes", detail));
        }
        let images = test.images_f32(&rows);
        let classifier = pollster::block_on(ImageClassifier::new(&session.weights, BATCH, session.set))?;
        let before = pollster::block_on(classifier.probabilities(&images))?;
        let target = |(truth, row): (&usize, &[f32])| match towards {
            Towards::Second => second(row),
            Towards::Next => Ok((truth + 1) % classes),
            Towards::Class(class) => Ok(class),
        };
        let targets = truths.iter().zip(before.chunks_exact(classes)).map(target).collect::<Result<_>>()?;
        Ok(Chosen { rows, images, truths, decisions: argmax(&before, classes)?, targets })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Some of them, neighbours.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Chosen {
        let len = self.images.len() / self.len().max(1);
        let of = |list: &[usize]| list[range.clone()].to_vec();
        Chosen {
            rows: of(&self.rows),
            images: self.images[range.start * len..range.end * len].to_vec(),
            truths: of(&self.truths),
            decisions: of(&self.decisions),
            targets: of(&self.targets),
        }
    }

    /// Whether there are none: of a part that there was nothing left for.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_named_by_class_or_by_what_they_are_of_each_image() {
        let names = |names: [&str; 3]| ModelConfig {
            num_classes: 3,
            class_names: names.map(String::from).to_vec(),
            ..ModelConfig::default()
        };
        let plain = names(["Coat", "Shirt", "Bag"]);
        for (text, want) in [
            ("second", Towards::Second),
            (" next ", Towards::Next),
            ("shirt", Towards::Class(1)),
            ("2", Towards::Class(2)),
        ] {
            assert_eq!(Towards::named(&plain, text).unwrap(), want, "{text}");
        }
        assert!(Towards::named(&plain, "third").unwrap_err().to_string().contains("third"));
        assert_eq!(
            Towards::named(&names(["first", "second", "third"]), "second").unwrap(),
            Towards::Class(1)
        );
    }
}
