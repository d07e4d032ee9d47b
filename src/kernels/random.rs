//! Noise and dropout masks by Philox counters: `wgsl/random.wgsl`.

use super::{invocations, pitch, shader};
use crate::gpu::{Launch, Slice};
use crate::rng::Stream;

shader!("random");

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    rows: u32,
    row_quads: u32,
    stream: u32,
    dropout: u32,
    threshold: u32,
    scale: f32,
    pixels: u32,
    channels: u32,
}

fn launch(size: Size, reads: [Slice; 2], y: Slice) -> Vec<Launch> {
    let count = size.rows as usize * size.row_quads as usize;
    vec![invocations(
        kernel("forward", &super::WG),
        reads.to_vec(),
        vec![y],
        bytemuck::bytes_of(&size),
        count,
    )]
}

/// Standard normal noise \[N,H,W,C\]; `run` holds seed low, seed high, step, first row.
pub fn normal(
    batch: usize,
    pixels: usize,
    channels: usize,
    stream: u32,
    run: Slice,
    y: Slice,
) -> Vec<Launch> {
    let size = Size {
        rows: batch as u32,
        row_quads: (pixels * pitch(channels) / 4) as u32,
        stream,
        dropout: 0,
        threshold: 0,
        scale: 0.0,
        pixels: pixels as u32,
        channels: channels as u32,
    };
    launch(size, [run, run], y)
}

/// x with each element dropped with `probability`, the others scaled by 1 / (1 − probability). A row has `columns`
/// device elements (a multiple of 4). The same launch serves backward: the mask is recomputed. Reads x and `run`.
pub fn dropout(
    rows: usize,
    columns: usize,
    layer: u32,
    probability: f32,
    reads: [Slice; 2],
    y: Slice,
) -> Vec<Launch> {
    let size = Size {
        rows: rows as u32,
        row_quads: (columns / 4) as u32,
        stream: Stream::Dropout as u32 + layer,
        dropout: 1,
        threshold: (f64::from(probability) * 4_294_967_296.0) as u32,
        scale: 1.0 / (1.0 - probability),
        pixels: 1,
        channels: 0,
    };
    launch(size, reads, y)
}
