//! A device's self-test: one small training step whose loss and gradients are compared with stored numbers. Some
//! drivers compile every shader and then return zeros; whoever trains on one for a night wants to know before. And every
//! operation by itself, in every family of kernels, for who has a device that nobody tried.

mod full;
mod operations;
mod report;

pub use full::{Checked, Print, operation_prints};
pub use report::{Limits, OPERATIONS, Progress, Report};

use crate::diffusion::DiffusionConfig;
use crate::error::{Error, Result};
use crate::gpu::Device;
use crate::model::{Init, JointModel, Labels, ModelConfig};
use crate::rng::{Seed, Stream, normal_fill, uniform};
use crate::train::{ClassifierInput, StepInput, StepOutput, training_step};
use std::sync::Arc;

/// Images of the test: three, so that BatchNorm's statistics are well conditioned.
const BATCH: usize = 3;
/// The network's loss. It and the norms were computed by kernels that the reference's golden data confirm.
const LOSS: f32 = 2.5351;
/// Norms of the gradients of every parameter, in the order of declaration.
const NORMS: [f32; 136] = [
    1.39136, 0.384364, 2.86801, 0.820173, 10.0182, 1.29931, 0.885093, 0.730063, 22.5489, 2.34707, 0.995467,
    1.6049, 1.32773, 0.933681, 10.5085, 1.12629, 0.189949, 0.205885, 0.990847, 0.482491, 1.98118, 1.19815,
    25.8944, 1.75952, 1.60515, 0.834328, 22.2545, 3.41362, 1.62622, 2.30213, 1.99064, 1.02572, 9.24907,
    0.668813, 2.07171, 0.668813, 0.742441, 0.517742, 17.2188, 1.08527, 1.27787, 0.796687, 0.551268, 0.44759,
    5.8924, 0.408371, 0.120132, 0.101245, 1.00259, 0.219342, 0.971823, 0.396874, 0.662703, 0.357782, 10.5333,
    0.603678, 0.934049, 0.549145, 0.479123, 0.190881, 3.63318, 0.0388114, 0.0649554, 0.0592624, 1.8139,
    0.197524, 0.044208, 0.121405, 0.0729859, 0.0623574, 0.533016, 0.0825098, 0.55953, 0.0825098, 0.076335,
    0.0751246, 1.82816, 0.312937, 0.0460264, 0.116419, 0.0711896, 0.0907685, 0.537238, 0.121441, 0.413536,
    0.121441, 1.78581, 0.215492, 0.145071, 0.113003, 2.3949, 0.288697, 0.0673827, 0.191004, 0.135666,
    0.115838, 0.812247, 0.176917, 0.57601, 0.176917, 0.022564, 0.0400304, 0.0884538, 0.0612636, 0.163495,
    0.156544, 0.200441, 0.200966, 2.92988, 0.547924, 0.102942, 0.303054, 0.232973, 0.240356, 1.16288,
    0.26917, 0.695822, 0.26917, 0.0156315, 0.0281656, 0.0958592, 0.0617028, 0.209662, 0.262247, 0.460111,
    0.389578, 2.45947, 0.725029, 0.60675, 0.232513, 7.428, 0.44939, 0.194833, 0.0329298, 2.12544, 0.0580751,
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
    let len = BATCH * config.in_channels * config.image_size * config.image_size;
    let noise = |stream| {
        let mut data = vec![0.0; len];
        normal_fill(seed, stream, 0, 0, &mut data);
        data
    };
    let input = StepInput {
        x_start: noise(Stream::InitialNoise),
        noise: noise(Stream::TrainNoise),
        timesteps: vec![1, 250, 900],
        labels: Labels::Classes(vec![0, 2, 1]),
        classifier_input: ClassifierInput::Both,
        classifier_loss_scaling: 0.5,
    };
    let StepOutput { loss, gradients, .. } =
        training_step(device, &model, &DiffusionConfig::default(), &tensors, &input).await?;
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
