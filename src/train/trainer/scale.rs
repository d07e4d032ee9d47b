//! The loss's scale of a run that stores gradients as f16.

use super::Trainer;
use crate::autodiff::Precision;
use crate::checkpoint::{LossScale, TrainingState};
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Device};
use crate::ops::loss_scale::{FIRST_SCALE, STATE};
use crate::train::options::TrainOptions;
use crate::train::step::LOSS_SCALE;
use crate::weights::Loaded;

/// Makes sure that the device can store f16 where that is asked for.
pub(super) fn check_device(device: &Device, options: &TrainOptions) -> Result<()> {
    if options.precision == Precision::F32 || device.has_f16() {
        return Ok(());
    }
    let detail = format!(
        "{} offers no shader-f16, which \"f16\" needs: use \"f32\", with activations = \"f16\" where memory is short, or \
         another adapter",
        device.info().name
    );
    Err(Error::config("precision", detail))
}

/// Writes the scale that a run begins with, anew or from where it stopped.
pub(super) fn begin(backward: &Loaded, state: Option<&TrainingState>) -> Result<()> {
    let fresh = LossScale { scale: FIRST_SCALE, good_steps: 0, skipped: 0 };
    let known = state.and_then(|state| state.loss_scale).unwrap_or(fresh);
    if !known.scale.is_finite() || known.scale < 1.0 {
        return Err(Error::config("loss_scale", format!("must be a number from 1, is {}", known.scale)));
    }
    let values: [f32; STATE] = [known.scale, known.good_steps as f32, known.skipped as f32, 0.0];
    backward.write(LOSS_SCALE, bytemuck::cast_slice(&values))
}

/// The loss's scale, which the plans of a step share.
pub(super) fn shared(backward: &Loaded) -> Vec<(&'static str, &Buffer)> {
    backward.buffer(LOSS_SCALE).map(|buffer| (LOSS_SCALE, buffer)).into_iter().collect()
}

impl Trainer {
    /// How the loss is scaled after the steps submitted so far; `None`: it is not.
    ///
    /// # Errors
    /// Device errors.
    pub async fn loss_scale(&self) -> Result<Option<LossScale>> {
        if self.options.precision == Precision::F32 {
            return Ok(None);
        }
        match self.backward.read(LOSS_SCALE).await?.as_slice() {
            &[scale, good_steps, skipped, _] => {
                Ok(Some(LossScale { scale, good_steps: good_steps as u32, skipped: skipped as u32 }))
            }
            _ => Err(Error::shape("read", "the loss's scale has another size")),
        }
    }

    /// As [`Trainer::loss_scale`], of a run that can go on.
    pub(super) async fn sound_loss_scale(&self) -> Result<Option<LossScale>> {
        let known = self.loss_scale().await?;
        match known {
            Some(LossScale { scale, skipped, .. }) if scale < 1.0 => {
                let detail = format!(
                    "gradients overflow f16 or are NaN whatever the loss is scaled by: {skipped} steps were skipped before \
                     step {}, the last ones until its scale fell to {scale}",
                    self.step
                );
                Err(Error::NotFinite { detail })
            }
            known => Ok(known),
        }
    }
}
