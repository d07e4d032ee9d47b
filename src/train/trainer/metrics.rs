//! What is told of the steps since it was last asked.

use super::{Since, Trainer};
use crate::error::{Error, Result};
use crate::train::step::METRIC_STRIDE;

/// Means since they were last read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Steps they are the mean of.
    pub steps: u64,
    /// Total loss.
    pub loss: f32,
    /// Noise error; 0 of a classifier alone.
    pub mse: f32,
    /// Classifier loss of the labelled images, unweighted (the sum where it sees clean and noised images): the mean over the
    /// steps that had any, 0 where none had.
    pub classifier_loss: f32,
    /// Variational term of a learned sigma.
    pub vb: f32,
    /// Global norm of the gradients before clipping; `None` where nothing is clipped.
    pub gradient_norm: Option<f32>,
    /// What the loss is multiplied by now; `None`: it is not ([`TrainOptions::precision`]).
    pub loss_scale: Option<f32>,
    /// Of these steps those that were skipped, because their gradients overflowed f16.
    pub skipped: u64,
}

impl Trainer {
    /// Means since the last call, or since a step that failed after it; waits for the steps submitted so far. Without any
    /// they are zeros.
    ///
    /// # Errors
    /// [`Error::NotFinite`] where a term of the loss or the gradients' norm is NaN or infinite, naming it; device errors.
    pub async fn metrics(&mut self) -> Result<Metrics> {
        let Since { all: steps, labelled, applied } = std::mem::take(&mut self.since);
        let scale = self.sound_loss_scale().await?;
        let skipped_before = std::mem::replace(&mut self.skipped, scale.map_or(0, |scale| scale.skipped));
        let skipped = u64::from(self.skipped.saturating_sub(skipped_before));
        let applied = applied.saturating_sub(skipped);
        let sums = self.loss_sums().await?;
        let mean = |(number, steps): (usize, u64)| {
            sums.get(number).filter(|_| steps > 0).map_or(0.0, |sum| sum / steps as f32)
        };
        let gradient_norm = match self.options.clip_grad_norm {
            Some(_) => {
                let sum = self.apply.read("gradient_norm").await?;
                Some(sum.first().filter(|_| applied > 0).map_or(0.0, |sum| sum / applied as f32))
            }
            None => None,
        };
        let [loss, mse, classifier_loss, vb] = [(0, steps), (1, steps), (2, labelled), (3, steps)].map(mean);
        // The loss is their sum: what is wrong with it is one of them, or that they were weighted beyond all numbers.
        let finite = [
            ("noise error", mse),
            ("classifier's loss", classifier_loss),
            ("variational term", vb),
            ("loss", loss),
            ("gradients' norm", gradient_norm.unwrap_or(0.0)),
        ];
        if let Some((what, value)) = finite.iter().find(|(_, value)| !value.is_finite()) {
            let detail = format!("the {what} became {value} within {steps} steps before step {}", self.step);
            return Err(Error::NotFinite { detail });
        }
        let loss_scale = scale.map(|scale| scale.scale);
        Ok(Metrics { steps, loss, mse, classifier_loss, vb, gradient_norm, loss_scale, skipped })
    }

    /// Sums of the losses, by their numbers.
    async fn loss_sums(&self) -> Result<Vec<f32>> {
        #[cfg(not(target_arch = "wasm32"))]
        if let Some(among) = &self.among {
            return Ok(among.sums.clone());
        }
        let sums = self.backward.read("metrics").await?;
        Ok(sums.into_iter().step_by(METRIC_STRIDE as usize / 4).collect())
    }
}
