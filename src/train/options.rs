//! What training is told.

use super::augment::Augment;
use super::groups::Groups;
use super::timesteps::TimestepSampler;
use crate::autodiff::{Activations, Precision};
use crate::error::{Error, Result};
use crate::model::Part;
use crate::tensor::check_batch;
use serde::{Deserialize, Serialize};

/// Which images the classifier sees in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassifierInput {
    /// x_start at t = 0 (paper Eq. 5 to 8).
    Clean,
    /// x_t at t (paper Eq. 9 and 10): one encoder pass serves both losses, and guided sampling becomes possible.
    Noised,
    /// Both, each with the full weight.
    Both,
    /// None: only the diffusion loss (a plain DDGM, or adaptation to a domain without labels).
    None,
}

/// Hyper-parameters of training; the defaults are the reference's.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::train::{ClassifierInput, TrainOptions};
///
/// // A classifier that can guide: it sees noised images too.
/// let options = TrainOptions {
///     batch_size: 128,
///     micro_batches: 4, // 32 images at a time, where memory is short
///     classifier_input: ClassifierInput::Both,
///     clip_grad_norm: Some(1.0),
///     ..TrainOptions::default()
/// };
/// options.validate()?;
/// assert!(TrainOptions { micro_batches: 3, ..options }.validate().is_err());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainOptions {
    /// Images per step.
    pub batch_size: usize,
    /// Parts a batch is cut into, one after the other (gradient accumulation); divides `batch_size`.
    pub micro_batches: usize,
    /// Learning rate of AdamW.
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// First moment's decay.
    pub beta1: f64,
    /// Second moment's decay.
    pub beta2: f64,
    /// Rate of the exponential moving average of the weights.
    pub ema_rate: f64,
    /// The average's rate rises to `ema_rate`, see [`TrainOptions::ema_rate_at`]: it forgets fresh weights sooner.
    pub ema_warmup: bool,
    /// Weight of the cross-entropy beside the noise error.
    pub classifier_loss_scaling: f32,
    /// What the classifier sees.
    pub classifier_input: ClassifierInput,
    /// The classifier's loss is all that is minimised, at its full weight: there is no noise error, and the decoder is
    /// neither computed nor changed. What is trained so classifies, and can do nothing else.
    pub classifier_only: bool,
    /// How activations wait for the backward pass.
    pub activations: Activations,
    /// How feature maps and their gradients are stored between kernels. Running statistics of the classifier see every batch,
    /// those of skipped steps too.
    pub precision: Precision,
    /// Largest global norm of the gradients of all that is trained: longer ones are scaled down to it. `None`: never.
    pub clip_grad_norm: Option<f64>,
    /// γ of Min-SNR weights of the noise error ([`crate::diffusion::Prediction::min_snr_weight`]); `None`: all timesteps weigh
    /// the same. The noise error that is reported is without them.
    pub min_snr_gamma: Option<f64>,
    /// How timesteps are drawn.
    pub timestep_sampler: TimestepSampler,
    /// What is trained, and how fast.
    pub groups: Groups,
    /// What happens to images before the classifier sees them. It is the clean ones that it happens to; noised ones are the
    /// noise error's own, but for a classifier that is trained alone.
    pub augment: Augment,
    /// Seed of weights, order, timesteps, noise and dropout.
    pub seed: u64,
}

impl Default for TrainOptions {
    fn default() -> Self {
        TrainOptions {
            batch_size: 128,
            micro_batches: 1,
            learning_rate: 1e-4,
            weight_decay: 0.0,
            beta1: 0.9,
            beta2: 0.999,
            ema_rate: 0.9999,
            ema_warmup: false,
            classifier_loss_scaling: 0.001,
            classifier_input: ClassifierInput::Clean,
            classifier_only: false,
            activations: Activations::Keep,
            precision: Precision::F32,
            clip_grad_norm: None,
            min_snr_gamma: None,
            timestep_sampler: TimestepSampler::Uniform,
            groups: Groups::default(),
            augment: Augment::default(),
            seed: 0,
        }
    }
}

impl TrainOptions {
    /// The average's rate in step `step`, counted from 0: `ema_rate`, or with `ema_warmup` 1 − (1 + step)^(−2/3) where that is
    /// less (the warm-up of diffusers' `EMAModel`). The first step then makes the average the weights themselves.
    pub fn ema_rate_at(&self, step: u64) -> f64 {
        if self.ema_warmup {
            self.ema_rate.min(1.0 - (1.0 + step as f64).powf(-2.0 / 3.0))
        } else {
            self.ema_rate
        }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<()> {
        let micro = self.micro_batches;
        check_batch(self.batch_size)?;
        if micro == 0 || !self.batch_size.is_multiple_of(micro) {
            let detail = format!("{} images do not divide into {micro} micro-batches", self.batch_size);
            return Err(Error::config("batch_size", detail));
        }
        if self.precision == Precision::F16 && self.activations == Activations::F16 {
            let detail = "\"f16\" packs activations that precision = \"f16\" stores so anyway: give \"keep\" or \"recompute\"";
            return Err(Error::config("activations", detail));
        }
        self.groups.validate()?;
        let classifies = self.classifier_input != ClassifierInput::None;
        if self.classifier_only && !classifies {
            let detail = "a classifier alone has nothing to learn from the input \"none\": give \"clean\", \"noised\" or \"both\"";
            return Err(Error::config("classifier_only", detail));
        }
        self.check_augment(classifies)?;
        self.check_noise_error()?;
        let has_loss = |part| match part {
            Part::Encoder => true,
            Part::Decoder => !self.classifier_only,
            Part::Classifier => classifies,
        };
        let learns = Part::ALL.map(|part| self.groups.trains(part) && has_loss(part));
        if !learns.contains(&true) {
            return Err(Error::config("groups", "nothing is trained: every part with a loss is frozen"));
        }
        if classifies && self.groups.trains(Part::Classifier) && self.batch_size / micro < 2 {
            let detail = "the classifier's BatchNorm needs at least 2 images per micro-batch";
            return Err(Error::config("batch_size", detail));
        }
        let rates = [("beta1", self.beta1), ("beta2", self.beta2), ("ema_rate", self.ema_rate)];
        for (field, value) in rates {
            if !(0.0..1.0).contains(&value) {
                return Err(Error::config(field, format!("must be at least 0 and below 1, is {value}")));
            }
        }
        let amounts = [
            ("learning_rate", self.learning_rate),
            ("weight_decay", self.weight_decay),
            ("classifier_loss_scaling", f64::from(self.classifier_loss_scaling)),
        ];
        // Numbers of the step are f32 on the device.
        for (field, value) in amounts {
            if !(value as f32).is_finite() || value < 0.0 {
                let detail = format!("must be a number from 0 to {:e}, is {value:?}", f32::MAX);
                return Err(Error::config(field, detail));
            }
        }
        if let Some(norm) = self.clip_grad_norm
            && !(norm as f32 > 0.0 && (norm as f32).is_finite())
        {
            return Err(Error::config("clip_grad_norm", format!("must be a number above 0, is {norm}")));
        }
        Ok(())
    }

    /// What weighs the noise error, which a classifier alone has not.
    fn check_noise_error(&self) -> Result<()> {
        if let Some(gamma) = self.min_snr_gamma
            && !(gamma as f32 > 0.0 && (gamma as f32).is_finite())
        {
            return Err(Error::config("min_snr_gamma", format!("must be a number above 0, is {gamma}")));
        }
        let uses = [
            ("min_snr_gamma", self.min_snr_gamma.is_some()),
            ("timestep_sampler", self.timestep_sampler != TimestepSampler::Uniform),
        ];
        match uses.into_iter().find(|(_, used)| *used && self.classifier_only) {
            Some((field, _)) => {
                Err(Error::config(field, "a classifier alone has no noise error: leave it out"))
            }
            None => Ok(()),
        }
    }

    fn check_augment(&self, classifies: bool) -> Result<()> {
        self.augment.validate()?;
        if !self.augment.is_on() {
            return Ok(());
        }
        let shares = !self.classifier_only && self.classifier_input == ClassifierInput::Noised;
        if !classifies || shares {
            let detail = "the classifier sees no images of its own: give it the classifier_input \"clean\" or \"both\"";
            return Err(Error::config("augment", detail));
        }
        let each = self.batch_size / self.micro_batches.max(1);
        if self.augment.mixup.is_some() && !each.is_multiple_of(2) {
            let detail =
                format!("mixes pairs of images: {each} images per micro-batch must be an even number");
            return Err(Error::config("augment.mixup", detail));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_warms_up_by_its_formula() {
        let options = TrainOptions { ema_rate: 0.9, ema_warmup: true, ..TrainOptions::default() };
        // 1 − 1, 1 − 2^(−2/3), 1 − 8^(−2/3) = 1 − 1/4, 1 − 27^(−2/3) = 1 − 1/9, and 1 − 1/16 is beyond the rate.
        let want =
            [(0, 0.0), (1, 0.370_039_475_052_563), (7, 0.75), (26, 8.0 / 9.0), (63, 0.9), (1 << 40, 0.9)];
        for (step, rate) in want {
            assert!(
                (options.ema_rate_at(step) - rate).abs() < 1e-12,
                "{step}: {}",
                options.ema_rate_at(step)
            );
        }
        assert_eq!(TrainOptions { ema_warmup: false, ..options }.ema_rate_at(0), 0.9);
    }
}
