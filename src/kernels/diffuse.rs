//! Forward diffusion, and the gradient of a squared error: `wgsl/diffuse.wgsl`.

use super::loss::Mse;
use super::{invocations, pitch, shader};
use crate::gpu::{Launch, Slice};

shader!("diffuse");

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    batch: u32,
    pixels: u32,
    channels: u32,
    pitch: u32,
    other_pitch: u32,
    pairs: u32,
    scale: f32,
    pad: u32,
}

fn mix(size: &Mse, pairs: bool, scale: f32, reads: [Slice; 3], out: Slice) -> Vec<Launch> {
    let row = pitch(size.prediction_channels);
    let uniform = Size {
        batch: size.batch as u32,
        pixels: size.pixels as u32,
        channels: size.channels as u32,
        pitch: row as u32,
        other_pitch: pitch(size.channels) as u32,
        pairs: u32::from(pairs),
        scale,
        pad: 0,
    };
    let count = size.batch * size.pixels * row;
    let kernel = kernel("mix_samples", &super::WG);
    vec![invocations(kernel, reads.to_vec(), vec![out], bytemuck::bytes_of(&uniform), count)]
}

/// x_t of x_start and noise, all \[N, pixels, channels\]; two coefficients per sample.
pub fn q_sample(batch: usize, pixels: usize, channels: usize, reads: [Slice; 3], x_t: Slice) -> Vec<Launch> {
    let size = Mse { batch, pixels, channels, prediction_channels: channels };
    mix(&size, true, 0.0, reads, x_t)
}

/// Gradient of the prediction of a mean squared error; reads prediction, target, dloss \[N\].
pub fn mse_grad(size: &Mse, reads: [Slice; 3], gradient: Slice) -> Vec<Launch> {
    mix(size, false, 2.0 / (size.pixels * size.channels) as f32, reads, gradient)
}
