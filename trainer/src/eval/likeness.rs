//! How much generated images are like real ones, in two spaces.

use super::chains::Chains;
use crate::metrics::frechet::{Gaussian, Reference};
use crate::metrics::manifold::{Manifold, Quality, Scale};
use duet::Result;

/// Real images in the spaces where likeness is measured.
pub struct Real {
    pixels: Manifold,
    model: Manifold,
    features: Reference,
    scale: Scale,
    neighbours: usize,
}

/// Precision and recall in both spaces, and how far the sets are apart.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Qualities {
    /// In the space of the model's own pooled representations of clean images, each divided by its spread over the real
    /// ones. Guidance moves these very representations, so the model judges its own work.
    pub model: Quality,
    /// In the space of pixels.
    pub pixels: Quality,
    /// Fréchet distance of the model's representations. Of few images it is too large, so that only distances of equally many
    /// compare.
    pub frechet: f64,
}

impl Real {
    /// The real `images`, of `len` values each, with `neighbours` neighbours.
    ///
    /// # Errors
    /// Too few images; device errors.
    pub fn new(images: Vec<f32>, len: usize, chains: &Chains, neighbours: usize) -> Result<Real> {
        let (features, columns) = chains.features(&images)?;
        let scale = Scale::of(&features, columns);
        Ok(Real {
            pixels: Manifold::new(images, len, neighbours)?,
            features: Reference::new(Gaussian::of(&features, columns)?)?,
            model: Manifold::new(scale.apply(features), columns, neighbours)?,
            scale,
            neighbours,
        })
    }

    /// Precision and recall of generated images of `len` values each.
    ///
    /// # Errors
    /// Too few images; device errors.
    pub fn compare(&self, images: Vec<f32>, len: usize, chains: &Chains) -> Result<Qualities> {
        let (features, columns) = chains.features(&images)?;
        let frechet = self.features.distance(&Gaussian::of(&features, columns)?)?;
        let model = Manifold::new(self.scale.apply(features), columns, self.neighbours)?;
        let pixels = Manifold::new(images, len, self.neighbours)?;
        let (model, pixels) = (self.model.quality_of(&model), self.pixels.quality_of(&pixels));
        Ok(Qualities { model, pixels, frechet })
    }
}
