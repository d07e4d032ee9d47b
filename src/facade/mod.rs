//! A trained model in few lines: load, classify, evaluate, explain, sample, save.

mod evaluate;
mod explain;

use crate::checkpoint::{Checkpoint, Dtype};
use crate::diffusion::Solver;
use crate::error::{Error, Result};
use crate::explain::Explainer;
use crate::families::{Choices, Tuning};
use crate::gpu::{Device, DeviceOptions};
use crate::infer::{DenoisingError, ImageClassifier, NoisePredictor, NoiseProfiles};
use crate::model::{Head, JointModel, Labels, ModelConfig, Target, WeightSet, argmax};
use crate::picture::Picture;
use crate::rng::Seed;
use crate::sampling::{ChainOptions, Guidance, Progress, Sampler, StepSpec, Watch};
use crate::typicality::Typicality;
use crate::weights::Weights;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// Images that are classified, sampled or looked at for noise together.
const BATCH: usize = 8;

/// How a model is opened.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::gpu::{Device, DeviceOptions};
/// use duet::{Duet, LoadOptions};
///
/// // Two models on one device.
/// let device = Device::open(&DeviceOptions::default()).await?;
/// let options = LoadOptions { adopted: Some(device.clone()), ..LoadOptions::default() };
/// let path = "web/demo/public/model.safetensors";
/// let one = Duet::load_with(path, &options).await?;
/// let other = Duet::load_with(path, &options).await?;
/// assert!(device.counters().live_bytes >= one.weights().bytes() + other.weights().bytes());
/// # Ok(()) }) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// A device that is open already; `None`: one is opened as `device` says.
    pub adopted: Option<Device>,
    /// How to open a device.
    pub device: DeviceOptions,
    /// Measured choices of kernels, beside the shipped ones.
    pub tuning: Vec<Tuning>,
    /// Which weights to use; `None`: the average where there is one.
    pub weights: Option<WeightSet>,
}

/// What a model says of an image.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::Duet;
///
/// let mut duet = Duet::load("web/demo/public/model.safetensors").await?;
/// // Two images [N,C,H,W], black and white: an answer each.
/// let images = [vec![-1.0; duet.image_len()], vec![1.0; duet.image_len()]].concat();
/// for answer in duet.classify(&images).await? {
///     let probability = answer.probabilities[answer.class];
///     println!("{} {:.1} %", answer.name, 100.0 * probability);
///     assert!(answer.probabilities.iter().all(|other| *other <= probability));
/// }
/// # Ok(()) }) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Classification {
    /// The most probable class; of a multi-label model the most probable label.
    pub class: usize,
    /// Its name, or its number where it has none.
    pub name: String,
    /// Probability of each class (softmax) or label (sigmoid).
    pub probabilities: Vec<f32>,
}

/// How images are generated.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::rng::Seed;
/// use duet::{Duet, SampleOptions};
///
/// let mut duet = Duet::load("web/demo/public/model.safetensors").await?;
/// // Two sneakers in five steps; the default's 50 make better ones.
/// let sneakers = duet.labels(duet.config().find_class("sneaker")?, 2)?;
/// let options = SampleOptions { respacing: "5".into(), seed: Seed(1), ..SampleOptions::default() };
/// let images = duet.sample(Some(&sneakers), 2, &options).await?;
/// assert_eq!(images.len(), 2 * duet.image_len()); // [N,C,H,W] in −1..1
/// # Ok(()) }) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SampleOptions {
    /// Steps of the chain: "" for all, "100", "10,10,5", "ddim25".
    pub respacing: String,
    /// Step size α of Algorithm 1; a model whose classifier never saw noised images cannot be guided.
    pub alpha: f32,
    /// Which solver.
    pub solver: Solver,
    /// Seed of the noise.
    pub seed: Seed,
}

impl Default for SampleOptions {
    fn default() -> SampleOptions {
        SampleOptions { respacing: "50".into(), alpha: 20.0, solver: Solver::default(), seed: Seed(0) }
    }
}

/// A trained model on a device: classifies, explains, generates.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::Duet;
/// let mut duet = Duet::load("web/demo/public/model.safetensors").await?;
/// let image = vec![-1.0; duet.image_len()];
/// let answer = duet.classify(&image).await?.remove(0);
/// println!("{} {:.1} %", answer.name, 100.0 * answer.probabilities[answer.class]);
/// # Ok(()) }) }
/// ```
///
/// Plans are compiled at the first call that needs them and kept. Images are \[N,C,H,W\] in −1..1; [`Duet::image`] makes
/// one of a picture.
pub struct Duet {
    checkpoint: Arc<Checkpoint>,
    weights: Weights,
    set: WeightSet,
    classifiers: BTreeMap<usize, ImageClassifier>,
    predictors: BTreeMap<usize, NoisePredictor>,
    profiles: BTreeMap<usize, NoiseProfiles>,
    denoising: Option<DenoisingError>,
    explainer: Option<Explainer>,
    /// With the batch that was asked for.
    sampler: Option<(usize, Sampler)>,
}

impl Duet {
    /// Reads a checkpoint and opens the fastest kind of GPU there is.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] naming what is wrong with the file; [`Error::NoAdapter`] saying what to install; device errors.
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn load(path: impl AsRef<Path>) -> Result<Duet> {
        Self::load_with(path, &LoadOptions::default()).await
    }

    /// As [`Duet::load`], with options.
    ///
    /// # Errors
    /// As [`Duet::load`]; [`Error::Config`] for weights that the file lacks.
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn load_with(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Duet> {
        let path = path.as_ref();
        let checkpoint = Checkpoint::load(path)?;
        let model = Arc::new(checkpoint.joint_model(path)?);
        Self::of(Arc::new(checkpoint), model, options).await
    }

    /// As [`Duet::load_with`] from the bytes of a file; `name` only names it in errors.
    ///
    /// # Errors
    /// As [`Duet::load_with`].
    pub async fn from_bytes(bytes: &[u8], name: &str, options: &LoadOptions) -> Result<Duet> {
        let path = Path::new(name);
        let checkpoint = Checkpoint::from_bytes(bytes, path)?;
        let model = Arc::new(checkpoint.joint_model(path)?);
        Self::of(Arc::new(checkpoint), model, options).await
    }

    /// A checkpoint that was read already, with its [`Checkpoint::joint_model`].
    ///
    /// # Errors
    /// [`Error::Config`] for weights that it lacks; device errors.
    pub async fn of(
        checkpoint: Arc<Checkpoint>,
        model: Arc<JointModel>,
        options: &LoadOptions,
    ) -> Result<Duet> {
        let set = match (options.weights, &checkpoint.ema) {
            (None, Some(_)) => WeightSet::Averaged,
            (None, None) => WeightSet::Raw,
            (Some(set), _) => set,
        };
        let device = match &options.adopted {
            Some(device) => device.clone(),
            None => Device::open(&options.device).await?,
        };
        if !options.tuning.is_empty() {
            Choices::install(&device, &options.tuning);
        }
        let average = checkpoint.ema.as_ref().filter(|_| set == WeightSet::Averaged);
        let weights = Weights::upload(&device, model, &checkpoint.weights, average).await?;
        weights.require(set)?;
        Ok(Duet {
            checkpoint,
            weights,
            set,
            classifiers: BTreeMap::new(),
            predictors: BTreeMap::new(),
            profiles: BTreeMap::new(),
            denoising: None,
            explainer: None,
            sampler: None,
        })
    }

    /// The model's configuration: sizes, classes and their names.
    pub fn config(&self) -> &ModelConfig {
        &self.checkpoint.model
    }

    /// What the file holds.
    pub fn checkpoint(&self) -> &Arc<Checkpoint> {
        &self.checkpoint
    }

    /// The weights on the device.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Which of its weights it uses.
    pub fn weight_set(&self) -> WeightSet {
        self.set
    }

    /// The device.
    pub fn device(&self) -> &Device {
        self.weights.device()
    }

    /// Values of one image: C · H · W.
    pub fn image_len(&self) -> usize {
        self.config().images(1).image_len()
    }

    /// A picture as the model sees it, \[C,H,W\] in −1..1: on its ground and fitted as its training pictures were.
    ///
    /// # Errors
    /// As [`Preparation::levels`](crate::picture::Preparation::levels).
    pub fn image(&self, picture: &Picture<'_>) -> Result<Vec<f32>> {
        self.checkpoint.preparation().values(picture)
    }

    /// What the model says of any number of images \[N,C,H,W\].
    ///
    /// # Errors
    /// [`Error::Shape`] for part of an image; [`Error::NotFinite`] where the answer is no number; device errors.
    pub async fn classify(&mut self, images: &[f32]) -> Result<Vec<Classification>> {
        let classes = self.config().num_classes;
        let rows = self.probabilities(images).await?;
        let answer = |(row, class): (&[f32], usize)| {
            let name = self.config().class_name(class);
            Classification { class, name, probabilities: row.to_vec() }
        };
        Ok(rows.chunks_exact(classes.max(1)).zip(argmax(&rows, classes)?).map(answer).collect())
    }

    /// Probabilities \[N,K\] of any number of images.
    ///
    /// # Errors
    /// As [`Duet::classify`].
    pub async fn probabilities(&mut self, images: &[f32]) -> Result<Vec<f32>> {
        let batch = if images.len() <= self.image_len() { 1 } else { BATCH };
        let classifier = match self.classifiers.remove(&batch) {
            Some(known) => known,
            None => ImageClassifier::new(&self.weights, batch, self.set).await?,
        };
        self.classifiers.entry(batch).or_insert(classifier).probabilities(images).await
    }

    /// How like its training data the model takes any number of images \[N,C,H,W\] to be; `None` where the file holds no
    /// statistics to compare with, or they are not of the weights in use.
    ///
    /// ```
    /// # fn main() -> duet::Result<()> {
    /// # pollster::block_on(async {
    /// use duet::Duet;
    ///
    /// let mut duet = Duet::load("web/demo/public/model.safetensors").await?;
    /// // A black and a white image: no garment is either.
    /// let images = [vec![-1.0; duet.image_len()], vec![1.0; duet.image_len()]].concat();
    /// for answer in duet.typicality(&images).await?.unwrap_or_default() {
    ///     assert!(answer.unlike);
    ///     assert_eq!(answer.to_string(), "unlike the training data (beyond all of it)");
    /// }
    /// # Ok(()) }) }
    /// ```
    ///
    /// # Errors
    /// As [`NoiseProfiles::get`].
    pub async fn typicality(&mut self, images: &[f32]) -> Result<Option<Vec<Typicality>>> {
        let Some(reference) = self.checkpoint.typicality_of(self.set == WeightSet::Averaged) else {
            return Ok(None);
        };
        let batch = if images.len() <= self.image_len() { 1 } else { BATCH };
        let profiles = match self.profiles.remove(&batch) {
            Some(known) => known,
            None => {
                let diffusion = &self.checkpoint.diffusion;
                NoiseProfiles::new(&self.weights, diffusion, reference.protocol(), batch, self.set).await?
            }
        };
        let rows = self.profiles.entry(batch).or_insert(profiles).get(images).await?;
        rows.iter().map(|row| reference.typicality(row)).collect::<Result<_>>().map(Some)
    }

    /// The noise in images, each at its timestep of the whole chain: the one question that every sampler asks.
    ///
    /// # Errors
    /// As [`NoisePredictor::predict`] and [`Checkpoint::require_denoising`].
    pub async fn predict_noise(&mut self, images: &[f32], timesteps: &[usize]) -> Result<Vec<f32>> {
        self.checkpoint.require_denoising()?;
        let batch = if timesteps.len() <= 1 { 1 } else { BATCH };
        let predictor = match self.predictors.remove(&batch) {
            Some(known) => known,
            None => NoisePredictor::new(&self.weights, &self.checkpoint.diffusion, batch, self.set).await?,
        };
        self.predictors.entry(batch).or_insert(predictor).predict(images, timesteps).await
    }

    /// New images \[N,C,H,W\], one for each label; `None`: `count` images of no class.
    ///
    /// # Errors
    /// As [`Sampler::new`], [`Sampler::run`] and [`Checkpoint::require_denoising`]; [`Error::NotFinite`] where the step size is
    /// too large.
    pub async fn sample(
        &mut self,
        wanted: Option<&Labels>,
        count: usize,
        options: &SampleOptions,
    ) -> Result<Vec<f32>> {
        self.sample_watched(wanted, count, options, &mut |_| ControlFlow::Continue(())).await
    }

    /// As [`Duet::sample`]; `on_step` hears of each step of each batch, and may stop it.
    ///
    /// # Errors
    /// As [`Duet::sample`]; [`Error::Aborted`].
    pub async fn sample_watched(
        &mut self,
        wanted: Option<&Labels>,
        count: usize,
        options: &SampleOptions,
        on_step: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<f32>> {
        self.checkpoint.require_denoising()?;
        let asked = count.clamp(1, BATCH);
        let guidance = if wanted.is_some() { Guidance::Representation } else { Guidance::None };
        let spec = StepSpec { solver: options.solver, guidance, clip: true, ..StepSpec::new(asked) };
        let fits = match &mut self.sampler {
            Some((size, sampler)) if *size == asked => {
                let spec = StepSpec { batch: sampler.batch(), ..spec };
                sampler.change(&options.respacing, spec).await?
            }
            _ => false,
        };
        let sampler = match &mut self.sampler {
            Some((_, sampler)) if fits => sampler,
            kept => {
                *kept = None;
                let (weights, diffusion) = (&self.weights, &self.checkpoint.diffusion);
                let new = Sampler::fitting(weights, diffusion, &options.respacing, spec, self.set).await?;
                &mut kept.insert((asked, new)).1
            }
        };
        let batch = sampler.batch();
        let classes = self.checkpoint.model.num_classes;
        let steps = sampler.schedule().len();
        let total = steps * count.div_ceil(batch);
        let len = self.checkpoint.model.images(1).image_len();
        let mut images = room(count, len)?;
        for (part, first) in (0..count).step_by(batch).enumerate() {
            // The last batch is filled up with images that are dropped.
            let rows: Vec<usize> = (first..first + batch).map(|row| row.min(count - 1)).collect();
            let labels = match wanted {
                Some(labels) => labels.pick(&rows, classes)?,
                None => Labels::Classes(Vec::new()),
            };
            let chain =
                ChainOptions { seed: options.seed, first_row: first as u32, labels, alpha: options.alpha };
            sampler.start_from_noise(options.seed, first as u32)?;
            let mut report = |p: Progress| on_step(Progress { done: part * steps + p.done, total });
            sampler.run(steps, &chain, Watch::Progress(&mut report)).await?;
            let made = sampler.get_images().await?;
            images.extend(made.into_iter().take((count - first).min(batch) * len));
            finite(&images)?;
        }
        Ok(images)
    }

    /// The labels that steer `count` images to one class: of a multi-label model that label alone.
    ///
    /// # Errors
    /// [`Error::Config`] for a class out of range and for more images than memory has room for.
    pub fn labels(&self, class: usize, count: usize) -> Result<Labels> {
        let ModelConfig { head, num_classes, .. } = *self.config();
        let mut classes = room(count, 1)?;
        classes.resize(count, Target::from(class));
        let mut none = Vec::new();
        if head == Head::MultiLabel {
            none = room(count, num_classes)?;
            none.resize(count * num_classes, 0.0);
        }
        head.toward(&none, &classes, num_classes)
    }

    /// Writes the model for inference: the weights in use, as f32 or half the size as f16; the file is replaced at once and
    /// as a whole.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for values beyond f16's range; [`Error::Write`] for a file that cannot be written.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn save(&self, path: impl AsRef<Path>, dtype: Dtype) -> Result<()> {
        crate::checkpoint::write_atomic(path.as_ref(), &self.to_bytes(dtype)?)
    }

    /// As [`Duet::save`], the file's bytes.
    ///
    /// # Errors
    /// As [`Duet::save`].
    pub fn to_bytes(&self, dtype: Dtype) -> Result<Vec<u8>> {
        self.checkpoint.export(dtype, self.set == WeightSet::Averaged)
    }
}

/// Memory for `count` times `len` values. Rows of noise are numbered by 32 bits: there are no more images.
fn room<T>(count: usize, len: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    let fits = count <= u32::MAX as usize
        && count.checked_mul(len).is_some_and(|need| values.try_reserve_exact(need).is_ok());
    if fits { Ok(values) } else { Err(Error::config("count", format!("{count} images are too many"))) }
}

fn finite(images: &[f32]) -> Result<()> {
    if images.iter().all(|v| v.is_finite()) {
        return Ok(());
    }
    Err(Error::NotFinite { detail: "the image became NaN or infinite; try a smaller alpha".into() })
}
