//! Checkpoints: one `.safetensors` file with the configuration, the weights, their average and the training state.
//!
//! # Format 1
//! A safetensors file whose `__metadata__` has the key `duet`: JSON text with `format` (1), `model`, `diffusion`,
//! `ema` (whether there is an average), `classifier_only` (absent where the whole network was trained), `pictures` (ground, fit and size; absent where those are black, the middle and the model's),
//! `training` (step, seed, recipe, data fingerprint, metrics, the loss's scale where it is scaled; absent in files for inference) and `info` (free text). A
//! second key, `typicality`, may hold statistics of the training data under these weights, as JSON text with a version of
//! its own. Tensors are named
//!
//! | name | holds |
//! |---|---|
//! | `NAME` | weights and BatchNorm's running statistics |
//! | `ema/NAME` | exponential moving average |
//! | `adam_m/NAME`, `adam_v/NAME` | the optimizer's moments |
//! | `timesteps/losses`, `timesteps/counts` | where timesteps are drawn by their losses: the last ten of each \[T, 10\], how many \[T\] |
//!
//! where `NAME` and the tensor's shape are those of the reference's `state_dict`. Weights and averages are F32 or F16;
//! running statistics and moments are always F32, for a variance easily leaves f16's range. Reading also accepts BF16
//! and F64. Repeated JSON keys, holes, overlaps, values that are not finite, negative variances and negative second moments
//! are refused in reading and in writing.

#[cfg(not(target_arch = "wasm32"))]
mod atomic;
mod foreign;
mod metadata;
mod names;
mod read;
mod state_dict;
mod write;

#[cfg(not(target_arch = "wasm32"))]
pub use atomic::{check_writable, remove_temporaries, write_atomic};
pub use metadata::FORMAT;
pub use names::check_names;
pub use state_dict::{StateDict, state_dict};

use crate::diffusion::DiffusionConfig;
use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::picture::{Pictures, Preparation};
use crate::tensor::Tensors;
use crate::typicality::Reference;
use metadata::Metadata;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// What errors name where there is no file.
const IN_MEMORY: &str = "(in memory)";

/// Number type of weights in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit floats: exact.
    F32,
    /// 16-bit floats, rounded to nearest even: half the size, for shipping. Magnitudes up to 2⁻²⁵ become zero.
    F16,
}

/// Figures measured at one step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// The step after which they were measured.
    pub step: u64,
    /// Figures by name; all finite.
    pub values: BTreeMap<String, f64>,
}

/// How the loss is scaled where gradients are stored as f16.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScale {
    /// What the loss is multiplied by, a power of two.
    pub scale: f32,
    /// Steps since it last changed.
    pub good_steps: u32,
    /// Steps that were skipped in all.
    pub skipped: u32,
}

/// What training needs beyond the weights to go on as if it had never stopped.
///
/// All random numbers and the order of the data are functions of `seed` and `step`, so those two are the state of every
/// generator and the position in the data.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingState {
    /// Optimizer steps done.
    pub step: u64,
    /// Seed of the run.
    pub seed: u64,
    /// AdamW's first moments.
    pub adam_m: Tensors,
    /// AdamW's second moments.
    pub adam_v: Tensors,
    /// What timesteps are drawn by: the last losses of each, and how many there are. Empty where they are drawn uniformly.
    pub timesteps: Tensors,
    /// How the loss is scaled; `None`: it is not.
    pub loss_scale: Option<LossScale>,
    /// The trainer's settings; opaque here. At most about 100 levels deep.
    pub recipe: serde_json::Value,
    /// Identifies the data set, so that a run is not continued on another one.
    pub data_fingerprint: String,
    /// The best figures so far.
    pub best: Option<Figures>,
    /// The latest figures.
    pub last: Option<Figures>,
}

/// Everything a checkpoint file holds.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::checkpoint::{Checkpoint, Dtype};
/// use std::path::Path;
///
/// let checkpoint = Checkpoint::load(Path::new("web/demo/public/model.safetensors"))?;
/// assert_eq!(checkpoint.model.class_name(7), "Sneaker");
/// assert_eq!(checkpoint.diffusion.diffusion_steps, 1000);
/// assert!(checkpoint.training.is_none()); // exported for inference alone
/// // For shipping: half the bytes.
/// let [exact, half] = [Dtype::F32, Dtype::F16].map(|dtype| checkpoint.export(dtype, false));
/// assert!((half?.len() as f64) < 0.52 * exact?.len() as f64);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The network.
    pub model: ModelConfig,
    /// The diffusion process.
    pub diffusion: DiffusionConfig,
    /// Parameters and running statistics.
    pub weights: Tensors,
    /// Exponential moving average of the parameters; what it lacks (running statistics) is taken from `weights`.
    pub ema: Option<Tensors>,
    /// Present in checkpoints that training can be continued from.
    pub training: Option<TrainingState>,
    /// Its encoder and head were trained by the classifier's loss alone: it classifies, and that is all it can do.
    pub classifier_only: bool,
    /// What pictures it was trained on.
    pub pictures: Pictures,
    /// What its training data look like to it, for `weights` as they are here; `None` where that was never measured.
    pub typicality: Option<Reference>,
    /// Free text by topic: data set, command, figures.
    pub info: BTreeMap<String, String>,
}

impl Checkpoint {
    /// A checkpoint for inference, of which nothing else is known: of pictures on black, cropped; the other fields say more.
    pub fn new(model: ModelConfig, diffusion: DiffusionConfig, weights: Tensors) -> Checkpoint {
        Checkpoint {
            model,
            diffusion,
            weights,
            ema: None,
            training: None,
            classifier_only: false,
            pictures: Pictures::default(),
            typicality: None,
            info: BTreeMap::new(),
        }
    }

    /// Reads a checkpoint from the bytes of its file. Memory needed is bounded by the length of `bytes`, whatever the
    /// header claims. `path` only names the file in errors.
    ///
    /// Names and shapes are not compared with the configuration's model: see [`check_names`].
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a file that is truncated, damaged, not a checkpoint, of a newer format, or holds values
    /// that are not finite, or negative variances; it names the tensor and the first such value.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Checkpoint> {
        Self::decode(bytes).map_err(|detail| error_at(path, detail))
    }

    /// Makes a checkpoint of the reference's `state_dict` saved as a plain safetensors file. Its
    /// `num_batches_tracked` counters, which nothing uses, are left out. `path` only names the file in errors.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a file that is truncated or damaged, holds values that are not finite, or is one of
    /// ours already.
    pub fn from_reference(
        bytes: &[u8],
        path: &Path,
        model: ModelConfig,
        diffusion: DiffusionConfig,
    ) -> Result<Checkpoint> {
        let weights = state_dict(bytes, path)?;
        Ok(Checkpoint::new(model, diffusion, weights))
    }

    /// What a picture becomes for this model.
    pub fn preparation(&self) -> Preparation {
        Preparation::of(self.pictures, self.model.in_channels, self.model.image_size)
    }

    /// The statistics of the training data under the weights, or with `ema` under their average, which has none; nor has a
    /// classifier alone.
    pub fn typicality_of(&self, ema: bool) -> Option<&Reference> {
        self.typicality.as_ref().filter(|_| !ema && !self.classifier_only)
    }

    /// Checks that the network was trained to denoise: whatever samples, explains or predicts noise needs that.
    ///
    /// # Errors
    /// [`Error::Config`] for a classifier alone.
    pub fn require_denoising(&self) -> Result<()> {
        if self.classifier_only {
            let detail = "is a classifier alone, trained without the noise error: it classifies, but cannot generate, explain or predict noise";
            return Err(Error::config("model", detail));
        }
        Ok(())
    }

    /// The weights to use: the average where there is one, without what only training needs.
    #[must_use]
    pub fn into_inference(mut self) -> Checkpoint {
        if let Some(ema) = self.ema.take() {
            // The running statistics are not averaged: they stay.
            self.weights.extend(ema);
            self.typicality = None;
        }
        Checkpoint { training: None, ..self }
    }

    /// The bytes of the checkpoint's file, everything included; equal checkpoints give equal bytes. With
    /// [`Dtype::F16`] weights and average are rounded; running statistics and moments stay F32.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for anything [`Checkpoint::from_bytes`] would refuse (values that are not finite, a shape
    /// that does not fit its data, a reserved name) and for values beyond f16's range.
    pub fn to_bytes(&self, dtype: Dtype) -> Result<Vec<u8>> {
        let typicality = self.typicality.as_ref();
        let encode = || write::Encoder::new(&self.metadata(), typicality, self.entries(dtype)?)?.to_bytes();
        encode().map_err(|detail| error_at(Path::new(IN_MEMORY), detail))
    }

    /// The bytes of a file for inference alone: no training state and one set of weights, the average if `ema` is set.
    /// With [`Dtype::F16`] running statistics stay F32.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] as [`Checkpoint::to_bytes`], where `ema` is asked for and there is none, and where it does
    /// not fit the weights.
    pub fn export(&self, dtype: Dtype, ema: bool) -> Result<Vec<u8>> {
        let encode = || {
            let metadata = Metadata { ema: false, training: None, ..self.metadata() };
            write::Encoder::new(&metadata, self.typicality_of(ema), self.inference_entries(dtype, ema)?)?
                .to_bytes()
        };
        encode().map_err(|detail| error_at(Path::new(IN_MEMORY), detail))
    }

    /// Reads the checkpoint at `path`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] as [`Checkpoint::from_bytes`], and for a file that cannot be read. One that is plainly something
    /// else is refused by its first bytes, however long it is.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn load(path: &Path) -> Result<Checkpoint> {
        let bytes = foreign::read(path).map_err(|detail| error_at(path, detail))?;
        Self::from_bytes(&bytes, path)
    }

    /// Writes the checkpoint to `path` in F32, everything included, atomically and durably: see [`write_atomic`].
    ///
    /// # Errors
    /// [`Error::Checkpoint`] as [`Checkpoint::to_bytes`], [`Error::Write`] as [`write_atomic`]; the file at `path` is then
    /// unchanged.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn save(&self, path: &Path) -> Result<()> {
        let encoder = self
            .entries(Dtype::F32)
            .and_then(|entries| write::Encoder::new(&self.metadata(), self.typicality.as_ref(), entries))
            .map_err(|detail| error_at(path, detail))?;
        atomic::replace("checkpoint", encoder.len(), path, |file| encoder.write(file))
    }

    /// Says what no tensor may hold and one does.
    pub(crate) fn finite(&self) -> std::result::Result<(), String> {
        let entries = self.entries(Dtype::F32)?;
        read::refuse_impossible(entries.iter().map(write::Entry::named))
    }

    fn decode(bytes: &[u8]) -> std::result::Result<Checkpoint, String> {
        let container = read::Container::open(bytes)?;
        let text = container.text(metadata::KEY).ok_or(
            "has no `duet` metadata: it is not a checkpoint of this program \
             (`duet import` makes one of a plain state_dict)",
        )?;
        let metadata = metadata::parse(text)?;
        let pictures = metadata.pictures.check(metadata.model.image_size);
        pictures.map_err(|error| format!("has malformed pictures: {error}"))?;
        let mut checkpoint = Checkpoint {
            classifier_only: metadata.classifier_only,
            model: metadata.model,
            diffusion: metadata.diffusion,
            weights: Tensors::new(),
            ema: metadata.ema.then(Tensors::new),
            training: metadata.training.map(metadata::TrainingMetadata::into_state),
            pictures: metadata.pictures,
            typicality: match container.text(metadata::TYPICALITY) {
                Some(text) => metadata::parse_typicality(text)?,
                None => None,
            },
            info: metadata.info,
        };
        let timesteps = checkpoint.typicality.iter().flat_map(|t| t.protocol().timesteps());
        let steps = checkpoint.diffusion.diffusion_steps;
        if let Some(beyond) = timesteps.copied().find(|t| *t >= steps) {
            return Err(format!(
                "has malformed statistics of typicality: timestep {beyond} of a chain of {steps}"
            ));
        }
        for (name, tensor) in container.tensors(|_| true)? {
            let unexpected = || format!("holds `{name}` though its metadata says there is none of that kind");
            let (set, name) = if let Some(rest) = name.strip_prefix(write::EMA) {
                (checkpoint.ema.as_mut().ok_or_else(unexpected)?, rest)
            } else if let Some(rest) = name.strip_prefix(write::ADAM_M) {
                (&mut checkpoint.training.as_mut().ok_or_else(unexpected)?.adam_m, rest)
            } else if let Some(rest) = name.strip_prefix(write::ADAM_V) {
                (&mut checkpoint.training.as_mut().ok_or_else(unexpected)?.adam_v, rest)
            } else if let Some(rest) = name.strip_prefix(write::TIMESTEPS) {
                (&mut checkpoint.training.as_mut().ok_or_else(unexpected)?.timesteps, rest)
            } else {
                (&mut checkpoint.weights, name.as_str())
            };
            set.insert(name.to_owned(), tensor);
        }
        Ok(checkpoint)
    }
}

/// The error of the file at `path`.
fn error_at(path: &Path, detail: impl Into<String>) -> Error {
    Error::Checkpoint { path: path.to_owned(), detail: detail.into() }
}
