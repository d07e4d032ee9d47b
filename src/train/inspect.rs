//! One training step looked at from outside: losses, outputs and every gradient for given images, noise and timesteps,
//! without an update. It checks devices, and lets tests compare a browser with the reference.

use super::augment::Augment;
use super::groups::Groups;
use super::options::ClassifierInput;
use super::step::{TrainSpec, backward_plan};
use super::terms::LABEL_WEIGHT;
use super::timesteps::TimestepSampler;
use super::trainer::label_weight;
use crate::autodiff::{Activations, Precision};
use crate::diffusion::{DiffusionConfig, Schedule};
use crate::error::{Error, Result};
use crate::gpu::Device;
use crate::model::{JointModel, Labels, ParamSet};
use crate::tensor::{Images, Tensors, unpad_rows};
use crate::weights::Weights;
use std::sync::Arc;

/// What the step computes with.
#[derive(Clone, Debug)]
pub struct StepInput {
    /// Images \[N,C,H,W\] in −1..1.
    pub x_start: Vec<f32>,
    /// Noise \[N,C,H,W\].
    pub noise: Vec<f32>,
    /// Timestep of each image, an index into the whole chain.
    pub timesteps: Vec<usize>,
    /// What the images are.
    pub labels: Labels,
    /// What the classifier sees.
    pub classifier_input: ClassifierInput,
    /// Weight of its loss.
    pub classifier_loss_scaling: f32,
}

/// What the step computed.
#[derive(Clone, Debug)]
pub struct StepOutput {
    /// Total loss.
    pub loss: f32,
    /// Noise error of each image.
    pub mse: Vec<f32>,
    /// Logits \[N,K\] with batch statistics; empty without a classifier.
    pub logits: Vec<f32>,
    /// The network's output \[N,C or 2C,H,W\].
    pub model_out: Vec<f32>,
    /// Gradients of the loss, by the parameters' names in the reference's state_dict.
    pub gradients: Tensors,
}

/// Runs one step of `model` with the given weights; dropout draws from seed 0.
///
/// # Errors
/// [`Error::Shape`] or [`Error::Config`] for input that does not fit the model; device errors.
pub async fn training_step(
    device: &Device,
    model: &Arc<JointModel>,
    diffusion: &DiffusionConfig,
    tensors: &Tensors,
    input: &StepInput,
) -> Result<StepOutput> {
    let config = &model.config;
    let batch = input.timesteps.len();
    let schedule = Schedule::new(diffusion)?;
    if batch == 0 || input.timesteps.iter().any(|t| *t >= schedule.len()) {
        let detail = format!("must be below {}: {:?}", schedule.len(), input.timesteps);
        return Err(Error::config("timesteps", detail));
    }
    let labels = config.head.pack(&input.labels, batch, config.num_classes)?;
    let spec = TrainSpec {
        batch,
        micro_batches: 1,
        classifier_loss_scaling: input.classifier_loss_scaling,
        classifier_input: input.classifier_input,
        classifier_only: false,
        given_noise: true,
        activations: Activations::Keep,
        precision: Precision::F32,
        groups: Groups::default(),
        clip_grad_norm: None,
        augment: Augment::default(),
        weighs_noise: false,
        timestep_sampler: TimestepSampler::Uniform,
    };
    let mut weights = Weights::upload(device, Arc::clone(model), tensors, None).await?;
    weights.zero_set(ParamSet::Gradient).await?;
    let step = weights.load(&backward_plan(model, diffusion, &spec)?).await?;
    let images = config.images(batch);
    step.write("x_start", bytemuck::cast_slice(&images.to_device(&input.x_start)?))?;
    step.write("noise", bytemuck::cast_slice(&images.to_device(&input.noise)?))?;
    let t = schedule.model_timesteps(&input.timesteps)?;
    step.write("t", bytemuck::cast_slice(&t))?;
    let mix =
        input.timesteps.iter().map(|t| schedule.q_sample_coefficients(*t)).collect::<Result<Vec<_>>>()?;
    step.write("coefficients", bytemuck::cast_slice(mix.as_flattened()))?;
    if config.learn_sigma {
        let of = |t: &usize| schedule.vb_coefficients_of(*t, diffusion.prediction);
        let vb = input.timesteps.iter().map(of).collect::<Result<Vec<_>>>()?;
        step.write("vb_coefficients", bytemuck::cast_slice(vb.as_flattened()))?;
    }
    step.write("labels", &labels)?;
    let weight = label_weight(input.labels.labelled(config.num_classes));
    step.write(LABEL_WEIGHT, bytemuck::bytes_of(&[weight, 0.0, 0.0, 0.0]))?;
    step.write("metrics_first", bytemuck::bytes_of(&[1u32, 0, 0, 0]))?;
    step.run();
    let loss = step.read("metrics").await?.first().copied().unwrap_or(f32::NAN);
    let mut mse = step.read("mse").await?;
    mse.truncate(batch);
    let out = Images { channels: config.out_channels(), ..images };
    let logits = match input.classifier_input {
        ClassifierInput::None => Vec::new(),
        _ => unpad_rows(&step.read("logits").await?, config.num_classes),
    };
    Ok(StepOutput {
        loss,
        mse,
        logits,
        model_out: out.to_host(&step.read("model_out").await?)?,
        gradients: weights.download(ParamSet::Gradient, false).await?,
    })
}
