//! Noise and dropout masks by Philox counters: `wgsl/random.wgsl`.

use super::{pitch, shader};
use crate::gpu::{Launch, Slice, spread};
use crate::rng::Stream;

shader!("random");

const WORKGROUP: u64 = 64;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Normal {
    batch: u32,
    pixels: u32,
    channels: u32,
    pitch: u32,
    stream: u32,
    pad: [u32; 3],
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Dropout {
    rows: u32,
    row_quads: u32,
    stream: u32,
    threshold: u32,
    scale: f32,
    pad: [u32; 3],
}

/// Standard normal noise \[N,H,W,C\]; `run` holds seed low, seed high, step, first row.
pub fn normal(batch: usize, pixels: usize, channels: usize, stream: u32, run: Slice, y: Slice) -> Vec<Launch> {
    let row = pitch(channels);
    let uniform = Normal {
        batch: batch as u32,
        pixels: pixels as u32,
        channels: channels as u32,
        pitch: row as u32,
        stream,
        pad: [0; 3],
    };
    vec![Launch {
        kernel: kernel("normal", &[("WG", WORKGROUP as f64)]),
        reads: vec![run],
        writes: vec![y],
        uniform: bytemuck::bytes_of(&uniform).to_vec(),
        workgroups: spread(((batch * pixels * row / 4) as u64).div_ceil(WORKGROUP)),
        multiply_adds: 0,
    }]
}

/// x with each element dropped with `probability`, the others scaled by 1 / (1 − probability). A row has `columns`
/// device elements (a multiple of 4). The same launch serves backward: the mask is recomputed.
pub fn dropout(
    rows: usize,
    columns: usize,
    layer: u32,
    probability: f32,
    x: Slice,
    run: Slice,
    y: Slice,
) -> Vec<Launch> {
    let uniform = Dropout {
        rows: rows as u32,
        row_quads: (columns / 4) as u32,
        stream: Stream::Dropout as u32 + layer,
        threshold: (f64::from(probability) * 4_294_967_296.0) as u32,
        scale: 1.0 / (1.0 - probability),
        pad: [0; 3],
    };
    vec![Launch {
        kernel: kernel("dropout", &[("WG", WORKGROUP as f64)]),
        reads: vec![x, run],
        writes: vec![y],
        uniform: bytemuck::bytes_of(&uniform).to_vec(),
        workgroups: spread(((rows * columns / 4) as u64).div_ceil(WORKGROUP)),
        multiply_adds: 0,
    }]
}
