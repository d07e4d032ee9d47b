//! A device's self-test: one small training step whose loss and gradients are compared with stored numbers. Some
//! drivers compile every shader and then return zeros; whoever trains on one for a night wants to know before.

use crate::diffusion::DiffusionConfig;
use crate::error::{Error, Result};
use crate::gpu::Device;
use crate::model::{Init, JointModel, ModelConfig};
use crate::rng::{Seed, Stream, normal_fill, uniform};
use crate::runtime::{Images, Weights};
use crate::train::{ClassifierInput, TrainSpec, train_plan};
use std::sync::Arc;

/// Images of the test: three, so that BatchNorm's statistics are well conditioned.
const BATCH: usize = 3;
/// The network's loss. It and the norms were computed by kernels that the reference's golden data confirm.
const LOSS: f32 = 2.48954;
/// Norms of the gradients of every parameter, in the order of declaration.
const NORMS: [f32; 136] = [
    0.628462, 0.150957, 1.23285, 0.499262, 7.80697, 0.826467, 0.807011, 0.727074, 15.025, 1.20932, 0.99013,
    1.27201, 1.11082, 0.608102, 7.32327, 0.817025, 0.163697, 0.134018, 0.765415, 0.372397, 1.53754, 0.830862,
    14.9463, 1.17043, 1.00186, 0.520823, 11.0615, 1.10305, 0.418786, 0.914018, 0.913219, 0.392756, 6.29004,
    0.308697, 1.26011, 0.308697, 0.314057, 0.207703, 6.58031, 0.573798, 0.304232, 0.521745, 0.467866,
    0.215873, 2.45063, 0.168395, 0.04086, 0.046456, 0.432048, 0.0809891, 0.637395, 0.168404, 0.27921,
    0.212595, 4.87031, 0.419101, 0.275262, 0.284592, 0.264793, 0.0997436, 2.03178, 0.0354786, 0.0454672,
    0.0457079, 1.46674, 0.141512, 0.0351946, 0.0871591, 0.057373, 0.0458521, 0.440438, 0.0675359, 0.437067,
    0.0675359, 0.0611243, 0.0631081, 1.64169, 0.301138, 0.0437124, 0.11758, 0.0748732, 0.0884146, 0.447837,
    0.103191, 0.357792, 0.103191, 1.5969, 0.187396, 0.139467, 0.0942978, 2.19756, 0.250911, 0.0692049,
    0.204326, 0.15542, 0.121622, 0.782388, 0.182632, 0.584815, 0.182632, 0.022139, 0.0427194, 0.093184,
    0.0646595, 0.172675, 0.160433, 0.198913, 0.209127, 3.03893, 0.546538, 0.098051, 0.28484, 0.221737,
    0.228562, 1.13162, 0.262908, 0.731985, 0.262908, 0.0148038, 0.0263473, 0.0886497, 0.0570021, 0.200025,
    0.255798, 0.42202, 0.37725, 2.39237, 0.712174, 0.498385, 0.24311, 6.01254, 0.430203, 0.196053, 0.0324183,
    2.09088, 0.0571785,
];
/// Relative error allowed; devices differ in the last bits of exp and division, faults are of the order of one.
const TOLERANCE: f32 = 2e-3;

/// What the device computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// The loss.
    pub loss: f32,
    /// Name and norm of the gradient of every parameter.
    pub norms: Vec<(String, f32)>,
}

impl Figures {
    /// Compares with the stored numbers.
    ///
    /// # Errors
    /// [`Error::Gpu`] naming the first that differs.
    pub fn check(&self) -> Result<()> {
        let differ = |what: &str, got: f32, want: f32| {
            // NaN must not pass: it compares false with everything.
            let near = (got - want).abs() <= TOLERANCE * want.abs() + 1e-6;
            let detail = format!("self-test: {what} is {got}, must be {want}; this driver computes wrongly");
            if near { Ok(()) } else { Err(Error::Gpu { detail }) }
        };
        differ("the loss", self.loss, LOSS)?;
        if self.norms.len() != NORMS.len() {
            let detail = format!("self-test: {} gradients instead of {}", self.norms.len(), NORMS.len());
            return Err(Error::Gpu { detail });
        }
        self.norms
            .iter()
            .zip(NORMS)
            .try_for_each(|((name, got), want)| differ(&format!("the gradient's norm of {name}"), *got, want))
    }
}

impl Device {
    /// Runs one small training step, forward and backward, and compares its loss and gradients with stored numbers.
    ///
    /// # Errors
    /// [`Error::Gpu`] naming what is wrong; device errors.
    pub async fn self_test(&self) -> Result<()> {
        figures(self).await?.check()
    }
}

/// The step's numbers on a device.
///
/// # Errors
/// Device errors.
pub async fn figures(device: &Device) -> Result<Figures> {
    let config = ModelConfig {
        image_size: 8,
        num_channels: 8,
        num_res_blocks: 1,
        channel_mult: vec![1, 2],
        attention_resolutions: vec![8],
        num_heads: 2,
        num_groups: 4,
        num_classes: 3,
        classifier_dropout: 0.0,
        ..ModelConfig::default()
    };
    let spec = TrainSpec {
        batch: BATCH,
        micro_batches: 1,
        classifier_loss_scaling: 0.5,
        classifier_input: ClassifierInput::Both,
        given_noise: true,
    };
    let model = Arc::new(JointModel::new(&config)?);
    let seed = Seed(20);
    let mut tensors = model.params.initial(seed);
    // Layers that begin with zeros would stop the gradients behind them.
    for (number, spec) in model.params.specs().iter().enumerate() {
        if matches!(spec.init, Init::Zero | Init::One) {
            for (name, _) in spec.reference() {
                if let Some(tensor) = tensors.get_mut(&name) {
                    let mut noise = vec![0.0; tensor.data.len()];
                    uniform(seed, Stream::Init, 1, number as u32, &mut noise);
                    tensor.data.iter_mut().zip(noise).for_each(|(v, u)| *v += 0.2 * (2.0 * u - 1.0));
                }
            }
        }
    }
    let mut weights = Weights::upload(device, Arc::clone(&model), &tensors, Some(&tensors)).await?;
    for set in ["m", "v", "grads"] {
        weights.zero_set(set).await?;
    }
    let step = weights.load(&train_plan(&model, &DiffusionConfig::default(), &spec)?).await?;
    let images = Images::of(&config, BATCH);
    for (name, stream) in [("x_start", Stream::InitialNoise), ("noise", Stream::TrainNoise)] {
        let mut data = vec![0.0; images.len()];
        normal_fill(seed, stream, 0, 0, &mut data);
        step.write(name, bytemuck::cast_slice(&images.to_device(&data)?))?;
    }
    step.write("t", bytemuck::cast_slice(&[1.0f32, 250.0, 900.0]))?;
    step.write("coefficients", bytemuck::cast_slice(&[0.9f32, 0.4, 0.6, 0.8, 0.1, 0.99]))?;
    step.write("labels", bytemuck::cast_slice(&[0u32, 2, 1]))?;
    step.write("metrics_first", bytemuck::bytes_of(&[1u32, 0, 0, 0]))?;
    step.run();
    let loss = step.read("metrics").await?.first().copied().unwrap_or(f32::NAN);
    let gradients = weights.download("grads", false).await?;
    let norm = |data: &[f32]| data.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt() as f32;
    let norms = model
        .params
        .expected(true)
        .into_iter()
        .map(|(name, _)| {
            let size = gradients.get(&name).map_or(f32::NAN, |t| norm(&t.data));
            (name, size)
        })
        .collect();
    Ok(Figures { loss, norms })
}
