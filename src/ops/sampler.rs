//! One denoising step of an image in place: `wgsl/sampler.wgsl`.

use super::kernel::{WG, invocations, shader};
use crate::error::Result;
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Graph, NodeId, Operation};
use crate::tensor::pitch;

shader!("sampler");

/// What an ancestral step needs of one sample; 12 f32 in the coefficients' buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct AncestralCoefficients {
    /// √(1/ᾱ).
    pub sqrt_recip_alphas_cumprod: f32,
    /// √(1/ᾱ − 1).
    pub sqrt_recipm1_alphas_cumprod: f32,
    /// Weight of x0 in the posterior mean.
    pub posterior_mean_coef1: f32,
    /// Weight of x_t.
    pub posterior_mean_coef2: f32,
    /// Log of the fixed variance.
    pub log_variance: f32,
    /// Least log variance a learned sigma can reach.
    pub least_log_variance: f32,
    /// Largest one.
    pub largest_log_variance: f32,
    /// 0 at the last step, which adds no noise; else 1.
    pub noise: f32,
    /// Scale of the guiding gradient.
    pub guidance: f32,
    /// Unused.
    pub pad: [f32; 3],
}

/// What a DDIM step needs of one sample; 12 f32 in the coefficients' buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct DdimCoefficients {
    /// √(1/ᾱ).
    pub sqrt_recip_alphas_cumprod: f32,
    /// √(1/ᾱ − 1).
    pub sqrt_recipm1_alphas_cumprod: f32,
    /// √ of the next ᾱ: weight of x0.
    pub x_start: f32,
    /// Weight of eps.
    pub eps: f32,
    /// Standard deviation of the noise.
    pub sigma: f32,
    /// Unused.
    pub pad0: [f32; 2],
    /// 0 at the last step; else 1.
    pub noise: f32,
    /// Scale of the guiding gradient times √(1 − ᾱ).
    pub guidance: f32,
    /// Unused.
    pub pad1: [f32; 3],
}

/// Sizes and variants of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// Samples.
    pub batch: usize,
    /// Height times width.
    pub pixels: usize,
    /// Channels of the image.
    pub channels: usize,
    /// Channels of the network's output.
    pub model_channels: usize,
    /// DDIM instead of ancestral.
    pub ddim: bool,
    /// Clip the predicted x_start.
    pub clip: bool,
    /// The network predicts x_start.
    pub predict_xstart: bool,
    /// The log variance is learned.
    pub learned_variance: bool,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    batch: u32,
    pixels: u32,
    channels: u32,
    pitch: u32,
    model_pitch: u32,
    ddim: u32,
    clip: u32,
    predict_xstart: u32,
    learned_variance: u32,
    guided: u32,
    pad: [u32; 2],
}

/// Changes x \[N, pixels, channels\] and writes the predicted x_start; `state` is the two of them.
pub fn step(
    size: &Sampler,
    model_out: Slice,
    noise: Slice,
    gradient: Option<Slice>,
    coefficients: Slice,
    state: [Slice; 2],
) -> Vec<Launch> {
    let uniform = Size {
        batch: size.batch as u32,
        pixels: size.pixels as u32,
        channels: size.channels as u32,
        pitch: pitch(size.channels) as u32,
        model_pitch: pitch(size.model_channels) as u32,
        ddim: u32::from(size.ddim),
        clip: u32::from(size.clip),
        predict_xstart: u32::from(size.predict_xstart),
        learned_variance: u32::from(size.learned_variance),
        guided: u32::from(gradient.is_some()),
        pad: [0; 2],
    };
    let reads = vec![model_out, noise, gradient.unwrap_or(noise), coefficients];
    let count = size.batch * size.pixels * pitch(size.channels);
    vec![invocations(kernel("forward", &WG), reads, state.to_vec(), bytemuck::bytes_of(&uniform), count)]
}

/// What a sampler step does beside its formula.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SamplerFlags {
    /// Clip the predicted x_start to −1..1.
    pub clip: bool,
    /// The network predicts x_start instead of eps.
    pub predict_xstart: bool,
    /// The network's second half of channels interpolates the log variance.
    pub learned_variance: bool,
}

/// What a sampler step reads beside the image it changes.
#[derive(Clone, Copy, Debug)]
pub struct SamplerInputs {
    /// The network's output \[N,H,W,C or 2C\].
    pub model_out: NodeId,
    /// Standard normal noise \[N,H,W,C\].
    pub noise: NodeId,
    /// Gradient of the classifier's log probability on x_t, for Eq. 12.
    pub gradient: Option<NodeId>,
    /// Per-sample coefficients \[12 N\].
    pub coefficients: NodeId,
    /// Variants.
    pub flags: SamplerFlags,
}

/// Of model_out, noise, \[gradient\], coefficients; updates x and pred_xstart.
#[derive(Debug)]
struct SamplerStep {
    size: Sampler,
    guided: bool,
}

impl Operation for SamplerStep {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let (inputs, updates) = (context.inputs, context.updates);
        let gradient = context.optional(self.guided, 2);
        let coefficients = inputs[inputs.len() - 1];
        step(&self.size, inputs[0], inputs[1], gradient, coefficients, [updates[0], updates[1]])
    }
}

impl Graph {
    /// One sampling step of `x` \[N,H,W,C\] in place, ancestral or (forwards or backwards, as the coefficients say)
    /// DDIM; coefficients are [`AncestralCoefficients`] or [`DdimCoefficients`]. Returns the predicted x_start.
    pub fn sampler(&mut self, x: NodeId, step: SamplerInputs, ddim: bool) -> Result<NodeId> {
        let shape = self.image_shape("sampler", x)?;
        let [batch, height, width, channels] = shape;
        let model_channels = self.image_shape("sampler", step.model_out)?[3];
        let wanted = if step.flags.learned_variance { 2 * channels } else { channels };
        self.expect("sampler", "model_out", step.model_out, &[batch, height, width, wanted])?;
        self.expect("sampler", "noise", step.noise, &shape)?;
        self.expect("sampler", "coefficients", step.coefficients, &[12 * batch])?;
        let mut inputs = vec![step.model_out, step.noise];
        if let Some(gradient) = step.gradient {
            self.expect("sampler", "gradient", gradient, &shape)?;
            inputs.push(gradient);
        }
        inputs.push(step.coefficients);
        let pred_xstart = self.reserve(&shape);
        let size = Sampler {
            batch,
            pixels: height * width,
            channels,
            model_channels,
            ddim,
            clip: step.flags.clip,
            predict_xstart: step.flags.predict_xstart,
            learned_variance: step.flags.learned_variance,
        };
        let op = SamplerStep { size, guided: step.gradient.is_some() };
        self.push_updating(op, inputs, vec![x, pred_xstart], Vec::new());
        Ok(pred_xstart)
    }
}
