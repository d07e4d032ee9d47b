//! One denoising step of an image in place: `wgsl/solver.wgsl`.

use super::{invocations, pitch, shader};
use crate::gpu::{Launch, Slice};

shader!("solver");

/// Coefficients of a sample, in the order that the shader gives.
pub const COEFFICIENTS: usize = 12;

/// Sizes and variants of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SolverStep {
    /// Samples.
    pub batch: usize,
    /// Height times width.
    pub pixels: usize,
    /// Channels of the image.
    pub channels: usize,
    /// Channels of the network's output.
    pub model_channels: usize,
    /// Clip the predicted x_start.
    pub clip: bool,
    /// The second half of the network's output chooses the variance.
    pub learned_variance: bool,
}

/// What a step reads beside the network's output and the coefficients.
#[derive(Clone, Copy, Debug)]
pub struct Sources<S> {
    /// Standard normal noise \[N, pixels, channels\], or rows of such.
    pub noise: S,
    /// Gradient of the classifier's log probability on x_t.
    pub gradient: Option<S>,
    /// What is added as it is, rows of images.
    pub residual: Option<S>,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    batch: u32,
    pixels: u32,
    channels: u32,
    pitch: u32,
    model_pitch: u32,
    clip: u32,
    learned_variance: u32,
    guided: u32,
}

/// Changes x \[N, pixels, channels\] and the predicted x_start, `state`; [`COEFFICIENTS`] a
/// sample.
pub fn step(
    size: &SolverStep,
    model_out: Slice,
    sources: Sources<Slice>,
    coefficients: Slice,
    state: [Slice; 2],
) -> Vec<Launch> {
    let uniform = Size {
        batch: size.batch as u32,
        pixels: size.pixels as u32,
        channels: size.channels as u32,
        pitch: pitch(size.channels) as u32,
        model_pitch: pitch(size.model_channels) as u32,
        clip: u32::from(size.clip),
        learned_variance: u32::from(size.learned_variance),
        guided: u32::from(sources.gradient.is_some()),
    };
    // What there is none of is not read, but every binding must be something.
    let [gradient, residual] = [sources.gradient, sources.residual].map(|s| s.unwrap_or(sources.noise));
    let reads = vec![model_out, sources.noise, gradient, residual, coefficients];
    let count = size.batch * size.pixels * pitch(size.channels);
    vec![invocations(
        kernel("forward", &super::WG),
        reads,
        state.to_vec(),
        bytemuck::bytes_of(&uniform),
        count,
    )]
}
