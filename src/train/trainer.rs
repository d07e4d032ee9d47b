//! The state of a training run and its steps; `trainer/upload.rs` what a step is given.

mod alternatives;
#[cfg(not(target_arch = "wasm32"))]
mod among;
mod metrics;
mod scale;
mod upload;

pub use metrics::Metrics;

use super::batch::Batch;
use super::exchange::{Exchange, GradientRange};
use super::groups::{Groups, Rate};
use super::options::TrainOptions;
use super::step::{TrainSpec, apply_plan, backward_plan_of, hyper_buffer, of_terms};
use super::terms::{Feed, LABEL_WEIGHT, Terms, feeds, joint};
use super::timesteps::{TimestepLosses, TimestepSampler};
use crate::checkpoint::{Checkpoint, TrainingState};
use crate::diffusion::{DiffusionConfig, Schedule};
use crate::error::{Error, Result};
use crate::gpu::Device;
#[cfg(not(target_arch = "wasm32"))]
use crate::graph::Plan;
use crate::model::{JointModel, ParamSet, Part};
use crate::ops::optimizer::{AdamW, hyper};
use crate::rng::Seed;
use crate::tensor::Tensors;
use crate::weights::{Loaded, Weights};
use alternatives::Alternative;
use std::sync::Arc;
use upload::Place;

/// A training run on a device. A step has three parts: backward passes leave gradients, an [`Exchange`] may replace them,
/// and they are applied.
///
/// The classifier's loss is the mean over the labelled images of a batch. A step whose batch has none leaves the classifier
/// as it is, bit for bit: weights, moments, averages and running statistics. So does every step of terms without a classifier.
/// (Where gradients are exchanged, other processes may have labelled images: then it is applied at every step, and the mean of
/// the processes' means counts.) The optimizer's bias corrections count all steps of the run.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::diffusion::DiffusionConfig;
/// use duet::gpu::{Device, DeviceOptions};
/// use duet::model::{JointModel, Labels, ModelConfig};
/// use duet::train::{Batch, TrainOptions, Trainer};
/// use std::sync::Arc;
///
/// // `config` says 8 × 8 grey pixels and two classes.
/// # let config = ModelConfig {
/// #     image_size: 8,
/// #     num_channels: 8,
/// #     num_res_blocks: 1,
/// #     channel_mult: vec![1, 2],
/// #     attention_resolutions: vec![],
/// #     num_groups: 4,
/// #     num_classes: 2,
/// #     ..ModelConfig::default()
/// # };
/// let device = Device::open(&DeviceOptions::default()).await?;
/// let model = Arc::new(JointModel::new(&config)?);
/// let options = TrainOptions { batch_size: 4, ..TrainOptions::default() };
/// let mut trainer = Trainer::new(&device, model, &DiffusionConfig::default(), &options).await?;
/// // Four images [N,C,H,W] in −1..1, two black and two white ones.
/// let images = [vec![-1.0; 2 * 64], vec![1.0; 2 * 64]].concat();
/// let batch = Batch { images, labels: Labels::Classes(vec![0, 0, 1, 1]) };
/// for _ in 0..3 {
///     trainer.train_step(&batch, options.learning_rate)?;
/// }
/// let metrics = trainer.metrics().await?;
/// assert!(metrics.steps == 3 && metrics.mse > 0.0 && metrics.classifier_loss > 0.0);
/// // Another run goes on from here.
/// let resumed = Trainer::resume(&device, &trainer.checkpoint().await?, &options).await?;
/// assert_eq!(resumed.step(), 3);
/// # Ok(()) }) }
/// ```
pub struct Trainer {
    weights: Weights,
    backward: Loaded,
    /// What `backward` was loaded from.
    #[cfg(not(target_arch = "wasm32"))]
    plan: Plan,
    apply: Loaded,
    /// What is applied where the classifier stays as it is; `None`: nothing.
    apply_others: Option<Loaded>,
    /// Whether the classifier learns only where images have labels.
    classifier_waits: bool,
    /// Whether any term counts labelled images.
    counts_labels: bool,
    /// Backward passes of steps that have other images.
    alternatives: Vec<Alternative>,
    exchange: Option<Box<dyn Exchange>>,
    /// The ranks that compute a step's other micro-batches.
    #[cfg(not(target_arch = "wasm32"))]
    among: Option<among::Among>,
    gradients: Vec<GradientRange>,
    feeds: Vec<Feed>,
    factors: Vec<f64>,
    diffusion: DiffusionConfig,
    schedule: Schedule,
    options: TrainOptions,
    step: u64,
    since: Since,
    /// Steps that had been skipped when means were last read.
    skipped: u32,
    /// What timesteps are drawn by, where that is their losses.
    losses: Option<TimestepLosses>,
    /// Timesteps of the last micro-batch, whose losses are still on the device.
    unheard: Vec<usize>,
}

/// Steps since means were read.
#[derive(Clone, Copy, Debug, Default)]
struct Since {
    all: u64,
    /// Those with labelled images.
    labelled: u64,
    /// Those that applied anything.
    applied: u64,
}

impl Trainer {
    /// A run of the joint loss from fresh weights.
    ///
    /// # Errors
    /// Bad configuration; device errors.
    pub async fn new(
        device: &Device,
        model: Arc<JointModel>,
        diffusion: &DiffusionConfig,
        options: &TrainOptions,
    ) -> Result<Trainer> {
        options.validate()?;
        let terms = joint(&model, diffusion, &TrainSpec::of(options))?;
        Self::new_of(device, model, diffusion, options, &terms).await
    }

    /// As [`Trainer::new`], of the given terms, which alone then say what is minimised on how many images; `options` are
    /// checked as for the joint loss all the same.
    ///
    /// # Errors
    /// As [`Trainer::new`].
    pub async fn new_of(
        device: &Device,
        model: Arc<JointModel>,
        diffusion: &DiffusionConfig,
        options: &TrainOptions,
        terms: &Terms,
    ) -> Result<Trainer> {
        let weights = model.params.initial(Seed(options.seed));
        let mut weights = Weights::upload(device, Arc::clone(&model), &weights, Some(&weights)).await?;
        weights.zero_set(ParamSet::FirstMoment).await?;
        weights.zero_set(ParamSet::SecondMoment).await?;
        Self::with_weights(weights, diffusion, options, terms, None).await
    }

    /// A run continued from a checkpoint: bit for bit where it stopped if it holds the optimizer's state, else with
    /// fresh moments from its weights.
    ///
    /// # Errors
    /// Bad configuration; tensors that do not fit the model; device errors.
    pub async fn resume(device: &Device, checkpoint: &Checkpoint, options: &TrainOptions) -> Result<Trainer> {
        options.validate()?;
        let model = JointModel::new(&checkpoint.model)?;
        let terms = joint(&model, &checkpoint.diffusion, &TrainSpec::of(options))?;
        Self::resume_of(device, checkpoint, options, &terms).await
    }

    /// As [`Trainer::resume`], of the given terms, as [`Trainer::new_of`].
    ///
    /// # Errors
    /// As [`Trainer::resume`].
    pub async fn resume_of(
        device: &Device,
        checkpoint: &Checkpoint,
        options: &TrainOptions,
        terms: &Terms,
    ) -> Result<Trainer> {
        let model = Arc::new(JointModel::new(&checkpoint.model)?);
        let ema = checkpoint.ema.as_ref().unwrap_or(&checkpoint.weights);
        let mut weights = Weights::upload(device, model, &checkpoint.weights, Some(ema)).await?;
        let state = checkpoint.training.as_ref();
        match state {
            Some(state) => {
                weights.upload_set(ParamSet::FirstMoment, &state.adam_m).await?;
                weights.upload_set(ParamSet::SecondMoment, &state.adam_v).await?;
            }
            None => {
                weights.zero_set(ParamSet::FirstMoment).await?;
                weights.zero_set(ParamSet::SecondMoment).await?;
            }
        }
        Self::with_weights(weights, &checkpoint.diffusion, options, terms, state).await
    }

    async fn with_weights(
        mut weights: Weights,
        diffusion: &DiffusionConfig,
        options: &TrainOptions,
        terms: &Terms,
        state: Option<&TrainingState>,
    ) -> Result<Trainer> {
        options.validate()?;
        scale::check_device(weights.device(), options)?;
        diffusion.validate()?;
        let schedule = Schedule::new(diffusion)?;
        let spec = TrainSpec { groups: options.groups.clone(), ..TrainSpec::of(options) };
        let spec = of_terms(weights.model(), spec, terms)?;
        let feeds = feeds(terms)?;
        weights.zero_set(ParamSet::Gradient).await?;
        if spec.gradients() != ParamSet::Gradient {
            weights.zero_set(spec.gradients()).await?;
        }
        let plan = backward_plan_of(weights.model(), &spec, terms)?.on(weights.device())?;
        let backward = weights.load(&plan).await?;
        scale::begin(&backward, state)?;
        let apply =
            weights.load_beside(&apply_plan(weights.model(), &spec)?, &scale::shared(&backward)).await?;
        let counts_labels = feeds.iter().any(|feed| backward.buffer(&feed.buffer(LABEL_WEIGHT)).is_some());
        let classifier_waits = counts_labels && spec.groups.trains(Part::Classifier);
        let apply_others = others(&weights, &spec, &apply).await?;
        let losses = match options.timestep_sampler {
            TimestepSampler::Uniform => None,
            TimestepSampler::LossSecondMoment => {
                upload::check_losses(&backward)?;
                let known = state.map(|state| &state.timesteps);
                Some(TimestepLosses::of(known.unwrap_or(&Tensors::new()), schedule.len())?)
            }
        };
        let ranges = spec.groups.ranges(&weights.model().params);
        let gradients = ranges.iter().filter_map(|(range, _)| {
            let buffer = weights.buffer(spec.gradients(), range.chunk)?.clone();
            Some(GradientRange { buffer, offset: range.offset, bytes: range.bytes })
        });
        Ok(Trainer {
            gradients: gradients.collect(),
            weights,
            backward,
            #[cfg(not(target_arch = "wasm32"))]
            plan,
            apply,
            apply_others,
            classifier_waits,
            counts_labels,
            alternatives: Vec::new(),
            exchange: None,
            #[cfg(not(target_arch = "wasm32"))]
            among: None,
            feeds,
            factors: spec.groups.factors(),
            schedule,
            diffusion: diffusion.clone(),
            options: options.clone(),
            step: state.map_or(0, |state| state.step),
            since: Since::default(),
            skipped: state.and_then(|state| state.loss_scale).map_or(0, |scale| scale.skipped),
            losses,
            unheard: Vec::new(),
        })
    }

    /// From now on gradients go through `exchange` between backward and apply.
    pub fn exchange_by(&mut self, exchange: Box<dyn Exchange>) {
        self.exchange = Some(exchange);
    }

    /// One optimizer step on a batch of `batch_size` images with the given learning rate. Only submits: nothing is
    /// allocated or read back.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Config`] for a batch that does not fit; what the exchange of gradients reports.
    pub fn train_step(&mut self, batch: &Batch, learning_rate: f64) -> Result<()> {
        self.train_step_of(&[batch], learning_rate)
    }

    /// As [`Trainer::train_step`], with a batch for each of the terms' feeds in their order of appearance, of as many images as
    /// the feed has in all micro-batches. Among ranks these may be the images of its own rows alone ([`Trainer::own_rows`]).
    ///
    /// # Errors
    /// As [`Trainer::train_step`].
    pub fn train_step_of(&mut self, batches: &[&Batch], learning_rate: f64) -> Result<()> {
        let micro = self.options.micro_batches;
        if batches.len() != self.feeds.len() {
            let detail = format!("{} batches for {} feeds", batches.len(), self.feeds.len());
            return Err(Error::shape("train_step", detail));
        }
        let config = &self.weights.model().config;
        let (mut labelled, mut idle) = (0, Vec::new());
        let alternative = self.alternative(batches);
        let (backward, feeds) = self.pass(alternative);
        for (feed, batch) in feeds.iter().zip(batches) {
            let Some(feed) = feed else { continue };
            let count = feed.batch * micro;
            let need = config.images(count).len();
            if batch.images.len() != need && !self.is_own(batch, count) {
                let detail = format!("{} values, need {need}", batch.images.len());
                return Err(Error::shape("train_step", detail));
            }
            config.head.check(&batch.labels, count, config.num_classes)?;
            let name = feed.buffer(LABEL_WEIGHT);
            if backward.buffer(&name).is_some() {
                let have = batch.labels.labelled(config.num_classes);
                backward.write(&name, bytemuck::bytes_of(&[label_weight(have), 0.0, 0.0, 0.0]))?;
                labelled += have;
                if have == 0 {
                    idle.push(name);
                }
            }
        }
        self.gather(batches, alternative, &idle)?;
        self.update(learning_rate, labelled)
    }

    /// The backward passes of a step and the exchange of what they leave. Where it fails, losses of a step that is not
    /// taken may be in the sums on the device: the means begin anew.
    fn gather(&mut self, batches: &[&Batch], alternative: Option<usize>, idle: &[String]) -> Result<()> {
        let since = std::mem::take(&mut self.since);
        #[cfg(not(target_arch = "wasm32"))]
        if self.among.is_some() {
            self.gather_among(batches, alternative, idle, since.all == 0)?;
            self.since = since;
            return Ok(());
        }
        #[cfg(target_arch = "wasm32")]
        let _ = idle;
        self.try_gather(batches, alternative, since.all == 0)?;
        self.since = since;
        Ok(())
    }

    /// Whether a batch of `count` rows has the images of this rank's rows alone.
    fn is_own(&self, batch: &Batch, count: usize) -> bool {
        #[cfg(not(target_arch = "wasm32"))]
        if self.among.is_some() {
            let config = &self.weights.model().config;
            return batch.images.len() == config.images(self.own_rows(count).len()).len();
        }
        let _ = (batch, count);
        false
    }

    fn try_gather(&mut self, batches: &[&Batch], alternative: Option<usize>, fresh: bool) -> Result<()> {
        let micro = self.options.micro_batches;
        if self.losses.is_some() && self.exchange.is_some() {
            let detail =
                "\"loss_second_moment\" goes by the losses of one process: with several, use \"uniform\"";
            return Err(Error::config("timestep_sampler", detail));
        }
        if alternative.is_some() && self.exchange.is_some() {
            let detail =
                "gradients that are exchanged are those of all feeds, of as many images in each step";
            return Err(Error::config("terms", detail));
        }
        if fresh {
            // A step without a feed does not begin the sums of its terms.
            self.backward.write("metrics", &vec![0; self.backward.require("metrics")?.bytes() as usize])?;
        }
        self.hear()?;
        // All micro-batches of a step are drawn by what was known before it.
        let chances = self.losses.as_ref().and_then(TimestepLosses::chances);
        for number in 0..micro {
            self.hear()?;
            let (mut first_row, mut drawn) = (0, Vec::new());
            let (backward, feeds) = self.pass(alternative);
            for ((own, feed), batch) in self.feeds.iter().zip(&feeds).zip(batches) {
                if let Some(feed) = feed {
                    let from = number * feed.batch;
                    let place = Place { from, image: from, first_row };
                    let timesteps = self.write_batch(backward, feed, batch, place, chances.as_ref())?;
                    if feed.prefix.is_empty() {
                        drawn = timesteps;
                    }
                }
                first_row += own.batch * micro;
            }
            backward.write("first", bytemuck::bytes_of(&[u32::from(number == 0), 0, 0, 0]))?;
            let first = u32::from(fresh && number == 0);
            backward.write("metrics_first", bytemuck::bytes_of(&[first, 0, 0, 0]))?;
            backward.run();
            if self.losses.is_some() {
                self.unheard = drawn;
            }
        }
        if let Some(exchange) = &mut self.exchange {
            exchange.exchange(self.weights.device(), &self.gradients)?;
        }
        Ok(())
    }

    /// Applies the gradients of a step with so many labelled images.
    fn update(&mut self, learning_rate: f64, labelled: usize) -> Result<()> {
        for (number, factor) in self.factors.iter().enumerate() {
            let optimizer = AdamW {
                learning_rate: learning_rate * factor,
                beta1: self.options.beta1,
                beta2: self.options.beta2,
                eps: 1e-8,
                weight_decay: self.options.weight_decay,
                ema_rate: self.options.ema_rate_at(self.step),
            };
            let values = hyper(self.step + 1, &optimizer, 1.0);
            self.apply.write(&hyper_buffer(number), bytemuck::cast_slice(&values))?;
        }
        let whole = labelled > 0 || !self.classifier_waits || self.exchange.is_some();
        let apply = if whole { Some(&self.apply) } else { self.apply_others.as_ref() };
        if let Some(apply) = apply {
            let first = u32::from(self.since.applied == 0);
            apply.write("metrics_first", bytemuck::bytes_of(&[first, 0, 0, 0]))?;
            apply.run();
            self.since.applied += 1;
        }
        self.step += 1;
        self.since.all += 1;
        self.since.labelled += u64::from(labelled > 0 || !self.counts_labels);
        Ok(())
    }

    /// Everything a resumed run needs.
    ///
    /// # Errors
    /// [`Error::NotFinite`] where a weight, an average or a moment became NaN or infinite, naming it; device errors.
    pub async fn checkpoint(&self) -> Result<Checkpoint> {
        let made = self.download().await?;
        made.finite().map_err(|detail| {
            let detail = format!("step {} leaves what cannot be gone on from: it {detail}", self.step);
            Error::NotFinite { detail }
        })?;
        Ok(made)
    }

    async fn download(&self) -> Result<Checkpoint> {
        let training = TrainingState {
            step: self.step,
            seed: self.options.seed,
            adam_m: self.weights.download(ParamSet::FirstMoment, false).await?,
            adam_v: self.weights.download(ParamSet::SecondMoment, false).await?,
            timesteps: self.known_losses().await?.map(|losses| losses.tensors()).unwrap_or_default(),
            loss_scale: self.sound_loss_scale().await?,
            recipe: serde_json::Value::Null,
            data_fingerprint: String::new(),
            best: None,
            last: None,
        };
        let weights = self.weights.download(ParamSet::Weights, true).await?;
        Ok(Checkpoint {
            classifier_only: self.options.classifier_only,
            ema: Some(self.weights.download(ParamSet::Average, false).await?),
            training: Some(training),
            ..Checkpoint::new(self.weights.model().config.clone(), self.diffusion.clone(), weights)
        })
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The weights on the device, for evaluation between steps.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The plans of a step, backward and apply, with the buffers that are their own.
    pub fn plans(&self) -> [&Loaded; 2] {
        [&self.backward, &self.apply]
    }
}

/// Weight of one of `labelled` images in their mean.
pub(super) fn label_weight(labelled: usize) -> f32 {
    if labelled == 0 { 0.0 } else { 1.0 / labelled as f32 }
}

/// What applies the gradients of all that `spec` trains but the classifier's, beside what applies them all: it reads and
/// writes the same numbers. `None`: nothing else is trained.
async fn others(weights: &Weights, spec: &TrainSpec, apply: &Loaded) -> Result<Option<Loaded>> {
    let groups = Groups { classifier: Rate::Frozen, ..spec.groups.clone() };
    if groups == spec.groups || groups.factors().is_empty() {
        return Ok(None);
    }
    // The classifier is the last part: the factors of the others keep their numbers.
    let plan = apply_plan(weights.model(), &TrainSpec { groups, ..spec.clone() })?;
    let shared: Vec<_> = plan.externals().filter_map(|(name, _)| Some((name, apply.buffer(name)?))).collect();
    Ok(Some(weights.load_beside(&plan, &shared).await?))
}
