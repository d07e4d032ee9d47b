//! A model that explained nothing and guided nothing, asked what it makes of others' counterfactuals. The share that the
//! explained model itself calls the target is of a classifier that steered; a judge's is of one that did not.

use crate::io::session::{Session, load_checkpoint};
use duet::infer::ImageClassifier;
use duet::model::Head;
use duet::tensor::Tensors;
use duet::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Images that a judge sees at a time.
const BATCH: usize = 32;
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
        let names: Vec<String> = (0..config.num_classes).map(|class| config.class_name(class)).collect();
        let classes = other.match_classes(&names).map_err(|error| {
            refuse(
                path,
                format!("does not know all classes of the model ({error}; \"the data's\" are the model's)"),
            )
        })?;
        let stated = |topic: &str| checkpoint.info.get(topic);
        let last = || checkpoint.training.as_ref()?.last.as_ref()?.values.get("test_accuracy").copied();
        let seed = checkpoint.training.as_ref().map(|training| training.seed);
        let identity = Identity {
            file: path.display().to_string(),
            fingerprint: own,
            seed: stated("seed").and_then(|text| text.parse().ok()).or(seed),
            test_accuracy: stated("test_accuracy").and_then(|text| text.parse().ok()).or_else(last),
            test_images: stated("test_images").and_then(|text| text.parse().ok()),
        };
        let known = other.num_classes;
        let (weights, set) = session.beside(&checkpoint, path)?;
        Ok(Judge {
            identity,
            classifier: pollster::block_on(ImageClassifier::new(&weights, BATCH, set))?,
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
