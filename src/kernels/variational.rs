//! The variational term of a learned sigma and its gradient: `wgsl/variational.wgsl`.

use super::{invocations, loss, pitch, shader};
use crate::gpu::{Launch, Slice};

shader!("variational");

/// Parts that one sample is summed in.
const PARTS: usize = 32;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    batch: u32,
    pixels: u32,
    channels: u32,
    pitch: u32,
    out_pitch: u32,
    parts: u32,
    scale: f32,
    pad: u32,
}

/// Sizes of the term: images of `channels`, network output of twice as many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variational {
    /// Samples.
    pub batch: usize,
    /// Height times width.
    pub pixels: usize,
    /// Channels of the images.
    pub channels: usize,
}

impl Variational {
    /// Mean over pixels and channels, in bits.
    fn mean(&self) -> f32 {
        (1.0 / (std::f64::consts::LN_2 * (self.pixels * self.channels) as f64)) as f32
    }

    fn uniform(&self) -> Size {
        Size {
            batch: self.batch as u32,
            pixels: self.pixels as u32,
            channels: self.channels as u32,
            pitch: pitch(self.channels) as u32,
            out_pitch: pitch(2 * self.channels) as u32,
            parts: PARTS as u32,
            scale: self.mean(),
            pad: 0,
        }
    }
}

/// Bytes of scratch that [`forward`] needs.
pub fn scratch(size: &Variational) -> u64 {
    (size.batch * PARTS * 4) as u64
}

/// The term per sample \[N\]; reads model_out, x_start, x_t, coefficients \[N, 8\].
pub fn forward(size: &Variational, reads: [Slice; 4], scratch: Slice, out: Slice) -> Vec<Launch> {
    let count = size.batch * PARTS;
    let kernel = kernel("forward", &super::WG);
    let parts =
        invocations(kernel, reads.to_vec(), vec![scratch], bytemuck::bytes_of(&size.uniform()), count);
    vec![parts, loss::sum_parts(size.batch, PARTS, size.mean(), scratch, out)]
}

/// Gradient of model_out \[N, pixels, 2·channels\]; reads as [`forward`], then dloss \[N\].
pub fn grad(size: &Variational, reads: [Slice; 5], gradient: Slice) -> Vec<Launch> {
    let count = size.batch * size.pixels * pitch(2 * size.channels);
    let kernel = kernel("grad", &super::WG);
    vec![invocations(kernel, reads.to_vec(), vec![gradient], bytemuck::bytes_of(&size.uniform()), count)]
}
