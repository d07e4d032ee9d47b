//! A model that explained nothing and guided nothing, asked what it makes of others' counterfactuals. The share that the
//! explained model itself calls the target is of a classifier that steered; a judge's is of one that did not.

use super::accuracy::{TEST_ACCURACY, TEST_IMAGES};
use crate::data::Dataset;
use crate::io::session::{Session, load_checkpoint};
use crate::metrics::frechet::{Gaussian, Reference};
use duet::infer::{ImageClassifier, ImageFeatures};
use duet::model::{Head, ModelConfig};
use duet::tensor::Tensors;
use duet::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Images that a judge sees at a time.
const BATCH: usize = 32;
/// Training images of its target class that each counterfactual is compared with.
pub const NEIGHBOURS: usize = 20;
/// How far two weights may be apart for one to be the other in 16 bits: as a share, and where those are subnormal.
const HALF: [f32; 2] = [1.0 / 1024.0, 1.0 / (1 << 24) as f32];

/// Which judge, as it stands beside its figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// Its file, as it was given.
    pub file: String,
    /// Hash of the file's bytes.
    pub fingerprint: String,
    /// Seed of its training; `None` of a file that does not say.
    pub seed: Option<u64>,
    /// Accuracy on test images that training noted in the file, 0 to 1.
    pub test_accuracy: Option<f64>,
    /// Of how many test images.
    pub test_images: Option<u64>,
}

impl Identity {
    /// For people: file, seed and accuracy.
    pub fn words(&self) -> String {
        let seed = self.seed.map_or("seed not stated".into(), |seed| format!("seed {seed}"));
        let accuracy = match (self.test_accuracy, self.test_images) {
            (Some(share), Some(images)) => format!("states {:.2} % of {images} test images", 100.0 * share),
            (Some(share), None) => format!("states {:.2} % of its test images", 100.0 * share),
            _ => "states no accuracy".into(),
        };
        format!("{} ({seed}, {accuracy})", self.file)
    }
}

/// A judge on the device.
pub struct Judge {
    /// Which.
    pub identity: Identity,
    classifier: ImageClassifier,
    features: ImageFeatures,
    /// The judge's number of each of the model's classes.
    classes: Vec<usize>,
    /// Classes that the judge knows.
    known: usize,
}

/// A judge that cannot judge.
fn refuse(path: &Path, detail: impl std::fmt::Display) -> Error {
    Error::config("judge", format!("{} {detail}", path.display()))
}

/// Whether both are the same weights, but for rounding to 16 bits.
fn same(a: &Tensors, b: &Tensors) -> bool {
    let near = |a: &f32, b: &f32| (a - b).abs() <= HALF[0] * a.abs().max(b.abs()) + HALF[1];
    a.len() == b.len()
        && a.iter().all(|(name, tensor)| {
            b.get(name).is_some_and(|other| {
                tensor.shape == other.shape && tensor.data.iter().zip(&other.data).all(|(a, b)| near(a, b))
            })
        })
}

impl Judge {
    /// Loads the model at `path` beside the one that explains, whose file is `model`.
    ///
    /// # Errors
    /// [`Error::Config`] for the model itself, also under another name or in 16 bits, and for one of other pictures or classes;
    /// a bad file; device errors.
    pub fn open(session: &Session, model: &Path, path: &Path) -> Result<Judge> {
        let fingerprint = |path: &Path| -> Result<String> {
            let bytes = std::fs::read(path).map_err(|error| Error::Checkpoint {
                path: path.to_owned(),
                detail: format!("cannot be read: {error}"),
            })?;
            Ok(format!("blake3:{}", blake3::hash(&bytes).to_hex()))
        };
        let itself = "is the model that explains: its word on its own explanations counts for nothing; give one that was \
                      trained apart (`duet train --classifier-only` with another seed)";
        // What is no model is refused by its kind first.
        let (checkpoint, _) = load_checkpoint(path)?;
        let own = fingerprint(path)?;
        if own == fingerprint(model)? {
            return Err(refuse(path, itself));
        }
        if same(
            &checkpoint.clone().into_inference().weights,
            &session.checkpoint.clone().into_inference().weights,
        ) {
            return Err(refuse(path, itself));
        }
        let (config, other) = (session.config(), &checkpoint.model);
        if other.head != Head::Multiclass {
            return Err(refuse(path, "decides labels one by one; a judge needs one class per image"));
        }
        let shape = [config.in_channels, config.image_size];
        if shape != [other.in_channels, other.image_size] {
            let detail = format!(
                "sees {}×{2}×{2} images, the model {1}×{3}×{3}",
                other.in_channels, shape[0], other.image_size, shape[1]
            );
            return Err(refuse(path, detail));
        }
        let grounds = [&checkpoint, &session.checkpoint].map(|checkpoint| checkpoint.pictures.ground);
        if grounds[0] != grounds[1] {
            let detail = format!("knows pictures on grey level {}, the model on {}", grounds[0], grounds[1]);
            return Err(refuse(path, detail));
        }
        let named = |config: &ModelConfig| -> Vec<String> {
            (0..config.num_classes).map(|class| config.class_name(class)).collect()
        };
        let classes = other.match_classes(&named(config)).map_err(|_| {
            let [of_model, of_judge] = [config, other].map(|config| named(config).join(", "));
            refuse(path, format!("does not know all of the model's classes ({of_model}), but {of_judge}"))
        })?;
        let stated = |topic: &str| checkpoint.info.get(topic);
        let training = checkpoint.training.as_ref();
        let last = || training?.last.as_ref()?.values.get(TEST_ACCURACY).copied();
        let identity = Identity {
            file: path.display().to_string(),
            fingerprint: own,
            seed: stated("seed")
                .and_then(|text| text.parse().ok())
                .or(training.map(|training| training.seed)),
            test_accuracy: stated(TEST_ACCURACY).and_then(|text| text.parse().ok()).or_else(last),
            test_images: stated(TEST_IMAGES).and_then(|text| text.parse().ok()),
        };
        let known = other.num_classes;
        let (weights, set) = session.beside(&checkpoint, path)?;
        Ok(Judge {
            identity,
            classifier: pollster::block_on(ImageClassifier::new(&weights, BATCH, set))?,
            features: pollster::block_on(ImageFeatures::new(&weights, BATCH, set))?,
            classes,
            known,
        })
    }

    /// Its probabilities \[N,K\] of images \[N,C,H,W\], in the order of the model's classes. Of classes that the model does not
    /// have nothing is given, so rows may sum to less than 1.
    ///
    /// # Errors
    /// Device errors.
    pub fn probabilities(&self, images: &[f32]) -> Result<Vec<f32>> {
        let rows = pollster::block_on(self.classifier.probabilities(images))?;
        let in_order = |row: &'_ [f32]| self.classes.iter().map(|class| row[*class]).collect::<Vec<f32>>();
        Ok(rows.chunks_exact(self.known.max(1)).flat_map(in_order).collect())
    }

    /// What it sees in images \[N,C,H,W\]: rows of [`Judge::columns`] numbers.
    ///
    /// # Errors
    /// Device errors.
    pub fn features(&self, images: &[f32]) -> Result<Vec<f32>> {
        pollster::block_on(self.features.get(images))
    }

    /// Numbers of a row of features.
    pub fn columns(&self) -> usize {
        self.features.columns()
    }
}

/// Which training images counterfactuals should look like: for each target [`NEIGHBOURS`] of its class, in the data's order, those of a
/// class from its first one on again where there are too few.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Likes {
    /// Rows of the training images, class by class.
    pub rows: Vec<usize>,
    /// Of each class its images among them, and how many there should be.
    classes: Vec<[usize; 2]>,
}

impl Likes {
    /// Of counterfactuals towards `targets`.
    ///
    /// # Errors
    /// A class without training images.
    pub fn of(train: &Dataset, targets: &[usize]) -> Result<Likes> {
        let mut wanted: BTreeMap<usize, usize> = BTreeMap::new();
        for target in targets {
            *wanted.entry(*target).or_default() += NEIGHBOURS;
        }
        let truths = train.classes()?;
        let mut likes = Likes { rows: Vec::new(), classes: Vec::new() };
        for (class, count) in wanted {
            let of_class = (0..truths.len()).filter(|row| truths[*row] as usize == class);
            let of_class: Vec<usize> = of_class.take(count).collect();
            if of_class.is_empty() {
                let name = train.class_names.get(class).cloned().unwrap_or_else(|| class.to_string());
                let detail = format!("have no training images of {name} to compare counterfactuals with");
                return Err(Error::config("data", detail));
            }
            likes.classes.push([of_class.len(), count]);
            likes.rows.extend(of_class);
        }
        Ok(likes)
    }

    /// What counterfactuals are compared with, by the features \[N,columns\] of these images.
    ///
    /// # Errors
    /// [`Error::Shape`] where there are fewer; features that are not finite.
    pub fn reference(&self, features: &[f32], columns: usize) -> Result<Reference> {
        let mut rows = Vec::new();
        let mut first = 0;
        for [there, count] in &self.classes {
            for at in 0..*count {
                let row = (first + at % there.max(&1)) * columns;
                let row = features.get(row..row + columns);
                rows.extend_from_slice(
                    row.ok_or_else(|| Error::shape("judge", "features of too few images"))?,
                );
            }
            first += there;
        }
        Reference::new(Gaussian::of(&rows, columns)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use duet::tensor::HostTensor;

    #[test]
    fn weights_are_the_same_in_16_bits_and_no_further() {
        let tensors = |values: &[f32]| {
            let tensor = HostTensor { shape: vec![values.len()], data: values.to_vec() };
            Tensors::from([("a".to_owned(), tensor)])
        };
        let exact = tensors(&[1.0, -0.123_456, 0.0]);
        assert!(same(&exact, &exact));
        assert!(same(&exact, &tensors(&[1.0, -0.123_474, 0.0])), "rounded to 16 bits");
        assert!(!same(&exact, &tensors(&[1.0, -0.125, 0.0])));
        assert!(!same(&exact, &tensors(&[1.0, -0.123_456])));
        assert!(!same(&exact, &Tensors::new()));
    }
}
