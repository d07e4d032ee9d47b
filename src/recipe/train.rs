//! How to train: the section `train` of recipes, with what is not the trainer's own.

use super::keeping::BestBy;
use super::schedule::RateSchedule;
use super::span::TimeSpan;
use crate::autodiff::{Activations, Precision};
use crate::diffusion::{DiffusionConfig, respaced_steps};
use crate::error::{Error, Result};
use crate::train::{ClassifierInput, Groups, TimestepSampler, TrainOptions};
use serde::{Deserialize, Serialize};

/// Settings of training that change no step: when it ends, and what is looked at along the way.
pub const CHANGE_NO_STEP: [&str; 12] = [
    "steps",
    "log_every",
    "eval_every",
    "eval_images",
    "sample_every",
    "sample_steps",
    "sample_alpha",
    "save_every",
    "keep_last",
    "keep_best",
    "early_stop",
    "max_time",
];

/// How to train. What is left out has the reference's value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainRecipe {
    /// Steps in all.
    pub steps: u64,
    /// Images per step.
    pub batch_size: usize,
    /// Parts of a batch, one after the other.
    pub micro_batches: usize,
    /// Learning rate.
    pub learning_rate: f64,
    /// How it changes.
    pub lr_schedule: RateSchedule,
    /// What an exponential schedule multiplies it by every 1,000 steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr_decay: Option<f64>,
    /// Steps over which it rises from 0.
    pub warmup_steps: u64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Rate of the weights' moving average.
    pub ema_rate: f64,
    /// That rate rises from 0 by 1 − (1 + step)^(−2/3), so that the average forgets fresh weights sooner.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ema_warmup: bool,
    /// Weight of the classifier's loss.
    pub classifier_loss_scaling: f32,
    /// What the classifier sees: "clean", "noised", "both" or "none".
    pub classifier_input: ClassifierInput,
    /// Train the classifier alone: no noise error, the decoder stays as it is. The model then does nothing but classify.
    pub classifier_only: bool,
    /// How activations wait for the backward pass: "keep" as f32, "recompute" the cheap ones, or those and the others as
    /// "f16"; less memory for a little time.
    pub activations: Activations,
    /// How feature maps and their gradients are stored between kernels: "f32", or "f16" with a scaled loss, half the memory and
    /// traffic of most of them, on devices with shader-f16. Arithmetic, weights and the optimizer's state are f32.
    #[serde(skip_serializing_if = "is_f32")]
    pub precision: Precision,
    /// Largest global norm of the gradients; longer ones are scaled down to it. Left out: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_grad_norm: Option<f64>,
    /// γ of Min-SNR weights of the noise error: timesteps whose signal is more than γ times the noise weigh less. 5 is usual.
    /// Left out: all weigh the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_snr_gamma: Option<f64>,
    /// How timesteps are drawn: "uniform", or "loss_second_moment": more often where the noise error is large.
    #[serde(skip_serializing_if = "is_uniform")]
    pub timestep_sampler: TimestepSampler,
    /// Seed of everything random.
    pub seed: u64,
    /// Mirror half of the images.
    pub flip: bool,
    /// Steps between log lines.
    pub log_every: u64,
    /// Steps between tests of accuracy; 0: only at the end.
    pub eval_every: u64,
    /// Test images for that; 0: all.
    pub eval_images: usize,
    /// Steps between sample grids; 0: only at the end.
    pub sample_every: u64,
    /// Respacing of their chain.
    pub sample_steps: String,
    /// Their step size of Algorithm 1.
    pub sample_alpha: f32,
    /// Steps between checkpoints.
    pub save_every: u64,
    /// Checkpoints that stay: the newest, and the ones before it, each under its step.
    pub keep_last: usize,
    /// Keep the checkpoint of the best evaluation, too: by "accuracy" or "loss".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_best: Option<BestBy>,
    /// End after so many evaluations without a better one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stop: Option<u64>,
    /// End after so much time in all, "2h" say; a linear or cosine schedule ends with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_time: Option<TimeSpan>,
    /// Share of the training images whose labels are used, of each class as many, chosen by the seed; the others teach the noise
    /// error alone. Left out: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labelled_share: Option<f64>,
    /// Which images with labels the classifier then sees: of the "buffer", when as many as a batch have come by in the batches
    /// of all images (the paper's way), or at every step a "batch" of them; "reference_buffer" does what the reference's code does.
    #[serde(skip_serializing_if = "LabelledBy::is_buffer")]
    pub labelled_by: LabelledBy,
    /// What is trained: of `encoder`, `decoder` and `classifier` a factor of the learning rate, or "frozen".
    pub groups: Groups,
}

/// Which images with labels the classifier sees where few have any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelledBy {
    /// Those that come by in the batches of all images, when there are as many as a batch (paper 0.B.2).
    #[default]
    Buffer,
    /// A batch of them at every step.
    Batch,
    /// As the reference's code does it, to compare with: labels are chosen whatever their class; a step whose labelled images fill
    /// the buffer empties it, however many more than a batch there are then; and in all other steps the classifier sees the whole
    /// batch at no weight, which moves BatchNorm's statistics by images without labels and its weights by their momentum.
    ReferenceBuffer,
}

impl LabelledBy {
    fn is_buffer(&self) -> bool {
        *self == LabelledBy::Buffer
    }
}

impl Default for TrainRecipe {
    fn default() -> Self {
        let options = TrainOptions::default();
        TrainRecipe {
            steps: 100_000,
            batch_size: options.batch_size,
            micro_batches: options.micro_batches,
            learning_rate: options.learning_rate,
            lr_schedule: RateSchedule::Constant,
            lr_decay: None,
            warmup_steps: 0,
            weight_decay: options.weight_decay,
            ema_rate: options.ema_rate,
            ema_warmup: options.ema_warmup,
            classifier_loss_scaling: options.classifier_loss_scaling,
            classifier_input: options.classifier_input,
            classifier_only: options.classifier_only,
            activations: options.activations,
            precision: options.precision,
            clip_grad_norm: options.clip_grad_norm,
            min_snr_gamma: options.min_snr_gamma,
            timestep_sampler: options.timestep_sampler,
            seed: options.seed,
            flip: false,
            log_every: 50,
            eval_every: 1000,
            eval_images: 1000,
            sample_every: 5000,
            sample_steps: "50".into(),
            sample_alpha: 20.0,
            save_every: 500,
            keep_last: 1,
            keep_best: None,
            early_stop: None,
            max_time: None,
            labelled_share: None,
            labelled_by: LabelledBy::Buffer,
            groups: options.groups,
        }
    }
}

impl TrainRecipe {
    /// Whether only some of the training images have labels.
    pub fn has_few_labels(&self) -> bool {
        self.labelled_share.is_some_and(|share| share < 1.0)
    }

    /// Checks all but [`TrainRecipe::options`], which check themselves; samples are of a process's chain.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate_for(&self, diffusion: &DiffusionConfig) -> Result<()> {
        respaced_steps(diffusion.diffusion_steps, &self.sample_steps)
            .map_err(|error| Error::config("train.sample_steps", error.to_string()))?;
        if !self.sample_alpha.is_finite() {
            let detail = format!("must be a number, is {}", self.sample_alpha);
            return Err(Error::config("train.sample_alpha", detail));
        }
        if self.log_every == 0 || self.save_every == 0 {
            return Err(Error::config("train.log_every, train.save_every", "must be at least 1"));
        }
        self.validate_rates()?;
        self.validate_keeping()?;
        self.validate_labels()
    }

    /// Checks what is said of labels.
    fn validate_labels(&self) -> Result<()> {
        match self.labelled_share {
            None if !self.labelled_by.is_buffer() => {
                let detail = "says how images with labels are chosen where few have any: give train.labelled_share too";
                Err(Error::config("train.labelled_by", detail))
            }
            Some(share) if !(share > 0.0 && share <= 1.0) => Err(Error::config(
                "train.labelled_share",
                format!("must be above 0 and at most 1, is {share}"),
            )),
            Some(share) if share < 1.0 && self.classifier_input == ClassifierInput::None => {
                let detail = "needs a classifier that sees images: its input is \"none\"";
                Err(Error::config("train.labelled_share", detail))
            }
            Some(_) if self.labelled_by == LabelledBy::ReferenceBuffer && self.micro_batches > 1 => {
                let detail = "has steps of any number of images: \"reference_buffer\" takes one micro-batch";
                Err(Error::config("train.labelled_by", detail))
            }
            _ => Ok(()),
        }
    }

    /// What the library's trainer is told.
    pub fn options(&self) -> TrainOptions {
        TrainOptions {
            batch_size: self.batch_size,
            micro_batches: self.micro_batches,
            learning_rate: self.learning_rate,
            weight_decay: self.weight_decay,
            ema_rate: self.ema_rate,
            ema_warmup: self.ema_warmup,
            classifier_loss_scaling: self.classifier_loss_scaling,
            classifier_input: self.classifier_input,
            classifier_only: self.classifier_only,
            activations: self.activations,
            precision: self.precision,
            clip_grad_norm: self.clip_grad_norm,
            min_snr_gamma: self.min_snr_gamma,
            timestep_sampler: self.timestep_sampler,
            groups: self.groups.clone(),
            seed: self.seed,
            ..TrainOptions::default()
        }
    }
}

fn is_f32(precision: &Precision) -> bool {
    *precision == Precision::F32
}

fn is_uniform(sampler: &TimestepSampler) -> bool {
    *sampler == TimestepSampler::Uniform
}
