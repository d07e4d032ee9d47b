//! The state of a training run and its steps.

use super::options::TrainOptions;
use super::step::{METRIC_STRIDE, TrainSpec, train_plan, update_plan};
use crate::checkpoint::{Checkpoint, TrainingState};
use crate::diffusion::{DiffusionConfig, Schedule};
use crate::error::{Error, Result};
use crate::gpu::Device;
use crate::model::{JointModel, Labels, ParamSet};
use crate::ops::optimizer::{AdamW, hyper};
use crate::rng::{Seed, Stream, uniform_u32_below};
use crate::weights::{Loaded, Weights};
use std::sync::Arc;

/// A batch on the host.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Images \[N,C,H,W\] in −1..1.
    pub images: Vec<f32>,
    /// What they are.
    pub labels: Labels,
}

/// Means since they were last read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Steps they are the mean of.
    pub steps: u64,
    /// Total loss.
    pub loss: f32,
    /// Noise error.
    pub mse: f32,
    /// Classifier loss, unweighted (the sum where it sees clean and noised images).
    pub classifier_loss: f32,
    /// Variational term of a learned sigma.
    pub vb: f32,
}

/// A training run on a device.
pub struct Trainer {
    weights: Weights,
    step_plan: Loaded,
    update_plan: Option<Loaded>,
    diffusion: DiffusionConfig,
    schedule: Schedule,
    options: TrainOptions,
    step: u64,
    since_metrics: u64,
}

impl Trainer {
    /// A run from fresh weights.
    ///
    /// # Errors
    /// Bad configuration; device errors.
    pub async fn new(
        device: &Device,
        model: Arc<JointModel>,
        diffusion: &DiffusionConfig,
        options: &TrainOptions,
    ) -> Result<Trainer> {
        let weights = model.params.initial(Seed(options.seed));
        let mut weights = Weights::upload(device, Arc::clone(&model), &weights, Some(&weights)).await?;
        weights.zero_set(ParamSet::FirstMoment).await?;
        weights.zero_set(ParamSet::SecondMoment).await?;
        Self::with_weights(weights, diffusion, options, 0).await
    }

    /// A run continued from a checkpoint: bit for bit where it stopped if it holds the optimizer's state, else with
    /// fresh moments from its weights.
    ///
    /// # Errors
    /// Bad configuration; tensors that do not fit the model; device errors.
    pub async fn resume(device: &Device, checkpoint: &Checkpoint, options: &TrainOptions) -> Result<Trainer> {
        let model = Arc::new(JointModel::new(&checkpoint.model)?);
        let ema = checkpoint.ema.as_ref().unwrap_or(&checkpoint.weights);
        let mut weights = Weights::upload(device, model, &checkpoint.weights, Some(ema)).await?;
        let step = match &checkpoint.training {
            Some(state) => {
                weights.upload_set(ParamSet::FirstMoment, &state.adam_m).await?;
                weights.upload_set(ParamSet::SecondMoment, &state.adam_v).await?;
                state.step
            }
            None => {
                weights.zero_set(ParamSet::FirstMoment).await?;
                weights.zero_set(ParamSet::SecondMoment).await?;
                0
            }
        };
        Self::with_weights(weights, &checkpoint.diffusion, options, step).await
    }

    async fn with_weights(
        mut weights: Weights,
        diffusion: &DiffusionConfig,
        options: &TrainOptions,
        step: u64,
    ) -> Result<Trainer> {
        options.validate()?;
        diffusion.validate()?;
        weights.zero_set(ParamSet::Gradient).await?;
        if options.micro_batches > 1 {
            weights.zero_set(ParamSet::GradientSum).await?;
        }
        let plan = train_plan(weights.model(), diffusion, &TrainSpec::of(options))?;
        let step_plan = weights.load(&plan).await?;
        let update_plan = if options.micro_batches > 1 {
            Some(weights.load(&update_plan(weights.model())?).await?)
        } else {
            None
        };
        let schedule = Schedule::new(diffusion)?;
        let (diffusion, options) = (diffusion.clone(), options.clone());
        Ok(Trainer { weights, step_plan, update_plan, diffusion, schedule, options, step, since_metrics: 0 })
    }

    /// One optimizer step on a batch of `batch_size` images with the given learning rate. Only submits: nothing is
    /// allocated or read back.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Config`] for a batch that does not fit.
    pub fn train_step(&mut self, batch: &Batch, learning_rate: f64) -> Result<()> {
        let micro = self.options.micro_batches;
        let rows = self.options.batch_size / micro;
        let images = self.weights.model().config.images(self.options.batch_size);
        if batch.images.len() != images.len() {
            let detail = format!("{} values, need {}", batch.images.len(), images.len());
            return Err(Error::shape("train_step", detail));
        }
        let optimizer = AdamW {
            learning_rate,
            beta1: self.options.beta1,
            beta2: self.options.beta2,
            eps: 1e-8,
            weight_decay: self.options.weight_decay,
            ema_rate: self.options.ema_rate,
        };
        let values = hyper(self.step + 1, &optimizer, 1.0);
        for number in 0..micro {
            let from = number * rows;
            self.write_batch(batch, from, rows)?;
            let plan = &self.step_plan;
            plan.write("hyper", bytemuck::cast_slice(&values))?;
            plan.write("first", bytemuck::bytes_of(&[u32::from(number == 0), 0, 0, 0]))?;
            let fresh = self.since_metrics == 0 && number == 0;
            plan.write("metrics_first", bytemuck::bytes_of(&[u32::from(fresh), 0, 0, 0]))?;
            plan.run();
        }
        if let Some(plan) = &self.update_plan {
            plan.write("hyper", bytemuck::cast_slice(&values))?;
            plan.run();
        }
        self.step += 1;
        self.since_metrics += 1;
        Ok(())
    }

    /// Uploads rows `from..from + rows` of a batch with their timesteps and coefficients.
    fn write_batch(&self, batch: &Batch, from: usize, rows: usize) -> Result<()> {
        let plan = &self.step_plan;
        let config = &self.weights.model().config;
        let images = config.images(rows);
        let len = images.image_len();
        let part = &batch.images[from * len..(from + rows) * len];
        plan.write("x_start", bytemuck::cast_slice(&images.to_device(part)?))?;
        let seed = Seed(self.options.seed);
        let (mut t, mut q, mut vb) = (Vec::new(), Vec::new(), Vec::new());
        for row in from..from + rows {
            let steps = self.schedule.len() as u32;
            let index =
                uniform_u32_below(steps, seed, Stream::Timestep, self.step as u32, row as u32) as usize;
            t.push(self.schedule.model_timestep(index));
            q.push(self.schedule.sqrt_alphas_cumprod[index] as f32);
            q.push(self.schedule.sqrt_one_minus_alphas_cumprod[index] as f32);
            if config.learn_sigma {
                vb.extend(self.schedule.vb_coefficients(index));
            }
        }
        plan.write("t", bytemuck::cast_slice(&t))?;
        plan.write("coefficients", bytemuck::cast_slice(&q))?;
        plan.write("vb_coefficients", bytemuck::cast_slice(&vb))?;
        let run = [seed.0 as u32, (seed.0 >> 32) as u32, self.step as u32, from as u32];
        plan.write("run", bytemuck::cast_slice(&run))?;
        let labels = batch.labels.rows(from..from + rows, config.num_classes)?;
        plan.write("labels", &config.head.pack(&labels, rows, config.num_classes)?)
    }

    /// Means since the last call; waits for the steps submitted so far.
    ///
    /// # Errors
    /// [`Error::NotFinite`] where the loss is NaN or infinite; device errors.
    pub async fn metrics(&mut self) -> Result<Metrics> {
        let steps = std::mem::take(&mut self.since_metrics);
        let sums = self.step_plan.read("metrics").await?;
        let mean = |number: u64| {
            let index = (number * METRIC_STRIDE / 4) as usize;
            sums.get(index).map_or(0.0, |sum| sum / steps.max(1) as f32)
        };
        let metrics = Metrics { steps, loss: mean(0), mse: mean(1), classifier_loss: mean(2), vb: mean(3) };
        if steps > 0 && !metrics.loss.is_finite() {
            let detail =
                format!("the loss became {} within {steps} steps before step {}", metrics.loss, self.step);
            return Err(Error::NotFinite { detail });
        }
        Ok(metrics)
    }

    /// Everything a resumed run needs.
    ///
    /// # Errors
    /// Device errors.
    pub async fn checkpoint(&self) -> Result<Checkpoint> {
        let training = TrainingState {
            step: self.step,
            seed: self.options.seed,
            adam_m: self.weights.download(ParamSet::FirstMoment, false).await?,
            adam_v: self.weights.download(ParamSet::SecondMoment, false).await?,
            recipe: serde_json::Value::Null,
            data_fingerprint: String::new(),
            best: None,
            last: None,
        };
        Ok(Checkpoint {
            model: self.weights.model().config.clone(),
            diffusion: self.diffusion.clone(),
            weights: self.weights.download(ParamSet::Weights, true).await?,
            ema: Some(self.weights.download(ParamSet::Average, false).await?),
            training: Some(training),
            info: std::collections::BTreeMap::new(),
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

    /// The training plan's own buffers.
    pub fn loaded(&self) -> &Loaded {
        &self.step_plan
    }
}
