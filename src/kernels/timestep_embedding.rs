//! Sinusoidal timestep embedding: `wgsl/timestep_embedding.wgsl`.

use super::{invocations, pitch, shader};
use crate::gpu::{Launch, Slice};

shader!("timestep_embedding");

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    batch: u32,
    half: u32,
    pitch: u32,
    pad: u32,
}

/// The table of frequencies of an embedding of `dim` columns: exp(−ln(10000)·k/half) in f32, as the reference computes
/// it.
pub fn frequencies(dim: usize) -> Vec<f32> {
    let half = dim / 2;
    let scale = -(10_000f64.ln());
    // The reference multiplies by the f64 constant rounded to f32, divides and exponentiates in f32.
    (0..half).map(|k| ((scale as f32 * k as f32) / half as f32).exp()).collect()
}

/// y \[N, dim\] of t \[N\].
pub fn forward(batch: usize, dim: usize, t: Slice, frequencies: Slice, y: Slice) -> Vec<Launch> {
    let row = pitch(dim);
    let size = Size { batch: batch as u32, half: (dim / 2) as u32, pitch: row as u32, pad: 0 };
    let reads = vec![t, frequencies];
    vec![invocations(kernel("forward", &super::WG), reads, vec![y], bytemuck::bytes_of(&size), batch * row)]
}
