//! One denoising step of an image in place: `wgsl/sampler.wgsl`.

use super::{invocations, pitch, shader};
use crate::gpu::{Launch, Slice};

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
    vec![invocations(
        kernel("forward", &super::WG),
        reads,
        state.to_vec(),
        bytemuck::bytes_of(&uniform),
        count,
    )]
}
