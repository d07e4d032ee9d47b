//! The joint model's own features: what its classifier reads of clean images.

use super::{Extracted, Features, Pixels};
use crate::io::session::Session;
use duet::infer::{ImageClassifier, ImageFeatures};
use duet::model::{Head, ModelConfig, WeightSet};
use duet::tensor::Tensors;
use duet::{Error, Result};

/// Features of a model that generates and classifies: every encoder level and the bottleneck at t = 0, averaged over the image,
/// and the classifier's logits.
///
/// A model's own features judge its samples more kindly than a network would that was trained apart.
pub struct OwnFeatures {
    features: ImageFeatures,
    classifier: Option<ImageClassifier>,
    config: ModelConfig,
    identity: String,
}

impl OwnFeatures {
    /// Loads what a session's model needs to give its features, of `batch` images at a time.
    ///
    /// # Errors
    /// Device errors.
    pub fn new(session: &Session, batch: usize) -> Result<OwnFeatures> {
        let (weights, set) = (&session.weights, session.set);
        let config = session.config().clone();
        // Labels that do not exclude each other are no distribution.
        let classifier = match config.head {
            Head::Multiclass => Some(pollster::block_on(ImageClassifier::new(weights, batch, set))?),
            Head::MultiLabel => None,
        };
        let averaged = session.checkpoint.ema.as_ref().filter(|_| set == WeightSet::Averaged);
        let identity = identity(&config, &session.checkpoint.weights, averaged)?;
        let features = pollster::block_on(ImageFeatures::new(weights, batch, set))?;
        Ok(OwnFeatures { features, classifier, config, identity })
    }
}

/// A hash of a network and its weights.
fn identity(config: &ModelConfig, weights: &Tensors, averaged: Option<&Tensors>) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let text = serde_json::to_string(config).map_err(|e| Error::config("model", e.to_string()))?;
    hasher.update(text.as_bytes());
    for (name, tensor) in weights {
        let used = averaged.and_then(|averaged| averaged.get(name)).unwrap_or(tensor);
        hasher.update(name.as_bytes()).update(bytemuck::cast_slice(&used.data));
    }
    Ok(hasher.finalize().to_hex()[..16].to_owned())
}

impl Features for OwnFeatures {
    fn name(&self) -> String {
        "own".into()
    }

    fn reads(&self) -> String {
        format!("{0}×{0} as they are, −1..1", self.config.image_size)
    }

    fn identity(&self) -> String {
        self.identity.clone()
    }

    fn extract(&mut self, images: &Pixels) -> Result<Extracted> {
        let (size, channels) = (self.config.image_size, self.config.in_channels);
        if [images.height, images.width, images.channels] != [size, size, channels] {
            let &Pixels { height, width, channels: has, .. } = images;
            let detail =
                format!("images of {height}×{width}×{has}; the model reads {size}×{size}×{channels}");
            return Err(Error::shape("features", detail));
        }
        let values: Vec<f32> = images.planes().iter().copied().map(duet::picture::value).collect();
        let logits = match &self.classifier {
            None => None,
            Some(of) => Some((pollster::block_on(of.logits(&values))?, self.config.num_classes)),
        };
        let (pooled, len) = (pollster::block_on(self.features.get(&values))?, self.features.columns());
        Ok(Extracted { pooled, len, spatial: None, logits })
    }
}
