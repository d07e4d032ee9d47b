//! Whether weights still give numbers, looked at before they take the place of a good checkpoint.

use crate::recipe::Recipe;
use duet::infer::{DenoisingError, ImageClassifier};
use duet::model::WeightSet;
use duet::rng::Seed;
use duet::train::{Batch, ClassifierInput};
use duet::weights::Weights;
use duet::{Error, Result};

/// Images that are looked at.
const IMAGES: usize = 2;

/// The network as training uses it, without an update.
///
/// The loss of a step tells of the weights before it: what the step itself spoils would be seen by the next step alone, after
/// the spoilt weights, finite as they may be, were saved.
pub struct Probe {
    classifier: Option<ImageClassifier>,
    denoising: Option<DenoisingError>,
    image_len: usize,
    timestep: usize,
}

impl Probe {
    /// Of the weights as trained.
    ///
    /// # Errors
    /// Device errors.
    pub fn new(weights: &Weights, recipe: &Recipe) -> Result<Probe> {
        let classifies = recipe.train.classifier_input != ClassifierInput::None;
        let classifier = match classifies {
            true => Some(pollster::block_on(ImageClassifier::new(weights, IMAGES, WeightSet::Raw))?),
            false => None,
        };
        let denoising = match recipe.train.classifier_only {
            true => None,
            false => {
                let new = DenoisingError::new(weights, &recipe.diffusion, IMAGES, WeightSet::Raw);
                Some(pollster::block_on(new)?)
            }
        };
        let timestep = recipe.diffusion.diffusion_steps / 2;
        Ok(Probe { classifier, denoising, image_len: recipe.model.images(1).len(), timestep })
    }

    /// Looks at the first images of `batch`.
    ///
    /// # Errors
    /// [`Error::NotFinite`] where an answer is no number; device errors.
    pub fn look(&self, batch: &Batch) -> Result<()> {
        let images = batch.images.get(..IMAGES * self.image_len).unwrap_or(&batch.images);
        let of_step = |error: Error| match error {
            Error::NotFinite { detail } => {
                Error::NotFinite { detail: format!("the step's weights give no numbers any more: {detail}") }
            }
            other => other,
        };
        if let Some(classifier) = &self.classifier {
            pollster::block_on(classifier.logits(images)).map_err(of_step)?;
        }
        if let Some(denoising) = &self.denoising {
            let times = vec![self.timestep; images.len() / self.image_len.max(1)];
            pollster::block_on(denoising.measure(images, &times, Seed(0), 0)).map_err(of_step)?;
        }
        Ok(())
    }
}
