//! The joint model's own features: what its encoder makes of clean images.

use super::{Extracted, Features, Pixels};
use crate::io::session::Session;
use duet::infer::ImageRepresentations;
use duet::model::{Head, ModelConfig, WeightSet};
use duet::tensor::Tensors;
use duet::{Error, Result};

/// Channels of the spatial features, the first ones: as many as spatial FID takes of Inception's (Nash et al. 2021).
const SPATIAL_CHANNELS: usize = 7;

/// Features of a model that generates and classifies, at t = 0: every encoder level and the bottleneck, averaged over the
/// image (what its classifier reads); the bottleneck's first channels as a map; the classifier's logits.
///
/// A model's own features judge its samples more kindly than those of a network would that was trained apart.
pub struct OwnFeatures {
    all: ImageRepresentations,
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
        let averaged = session.checkpoint.ema.as_ref().filter(|_| set == WeightSet::Averaged);
        let identity = identity(&config, &session.checkpoint.weights, averaged)?;
        let all = pollster::block_on(ImageRepresentations::new(weights, batch, set))?;
        Ok(OwnFeatures { all, config, identity })
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
        format!("{0}×{0} not resized, −1..1", self.config.image_size)
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
        let found = pollster::block_on(self.all.get(&values))?;
        let [height, width, depth] = self.all.bottleneck();
        let kept = depth.min(SPATIAL_CHANNELS);
        let places = found.bottleneck.chunks_exact(depth.max(1));
        let spatial = places.flat_map(|place| place.iter().take(kept)).copied().collect();
        // Labels that do not exclude each other are no distribution.
        let one = self.config.head == Head::Multiclass;
        Ok(Extracted {
            pooled: found.features,
            len: self.all.columns(),
            spatial: Some((spatial, height * width * kept)),
            logits: one.then_some((found.logits, self.config.num_classes)),
        })
    }
}
