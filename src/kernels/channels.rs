//! Concatenation, slices, and rows added to or summed over pixels: `wgsl/channels.wgsl`.

use super::{concat, invocations, pitch, shader};
use crate::gpu::{Launch, Slice};

shader!("channels");

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct CopySize {
    rows: u32,
    y_quads: u32,
    a_pitch: u32,
    b_pitch: u32,
    a_from: u32,
    a_count: u32,
    b_count: u32,
    y_from: u32,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct PixelSize {
    batch: u32,
    pixels: u32,
    quads: u32,
    scale: f32,
}

fn copy(size: CopySize, a: Slice, b: Slice, y: Slice) -> Launch {
    let count = size.rows as usize * size.y_quads as usize;
    invocations(kernel("copy", &super::WG), vec![a, b], vec![y], bytemuck::bytes_of(&size), count)
}

/// y = a and b side by side, \[rows, a + b\].
pub fn concat(rows: usize, a_columns: usize, b_columns: usize, a: Slice, b: Slice, y: Slice) -> Vec<Launch> {
    if a_columns.is_multiple_of(4) {
        let quads = a_columns / 4;
        return vec![concat::launch(rows, [quads, 0, quads, pitch(b_columns) / 4], [a, b, y])];
    }
    let size = CopySize {
        rows: rows as u32,
        y_quads: (pitch(a_columns + b_columns) / 4) as u32,
        a_pitch: pitch(a_columns) as u32,
        b_pitch: pitch(b_columns) as u32,
        a_from: 0,
        a_count: a_columns as u32,
        b_count: b_columns as u32,
        y_from: 0,
    };
    vec![copy(size, a, b, y)]
}

/// y = columns `from..from + count` of x \[rows, columns\].
pub fn slice(rows: usize, columns: usize, from: usize, count: usize, x: Slice, y: Slice) -> Vec<Launch> {
    if from.is_multiple_of(4) && (count.is_multiple_of(4) || from + count == columns) {
        return vec![concat::launch(rows, [pitch(columns) / 4, from / 4, pitch(count) / 4, 0], [x, x, y])];
    }
    let size = CopySize {
        rows: rows as u32,
        y_quads: (pitch(count) / 4) as u32,
        a_pitch: pitch(columns) as u32,
        b_pitch: 0,
        a_from: from as u32,
        a_count: count as u32,
        b_count: 0,
        y_from: 0,
    };
    vec![copy(size, x, x, y)]
}

/// y \[rows, columns\] = x \[rows, count\] at columns `from..`, zeros around: the gradient of [`slice`].
pub fn embed(rows: usize, count: usize, columns: usize, from: usize, x: Slice, y: Slice) -> Vec<Launch> {
    let size = CopySize {
        rows: rows as u32,
        y_quads: (pitch(columns) / 4) as u32,
        a_pitch: pitch(count) as u32,
        b_pitch: 0,
        a_from: 0,
        a_count: count as u32,
        b_count: 0,
        y_from: from as u32,
    };
    vec![copy(size, x, x, y)]
}

/// y\[n, p\] = x\[n, p\] + m\[n\] over `channels`.
pub fn add_rowwise(
    batch: usize,
    pixels: usize,
    channels: usize,
    x: Slice,
    m: Slice,
    y: Slice,
) -> Vec<Launch> {
    let quads = pitch(channels) / 4;
    let size = PixelSize { batch: batch as u32, pixels: pixels as u32, quads: quads as u32, scale: 1.0 };
    let count = batch * pixels * quads;
    vec![invocations(
        kernel("add_rowwise", &super::WG),
        vec![x, m],
        vec![y],
        bytemuck::bytes_of(&size),
        count,
    )]
}

/// y\[n\] = scale · sum over pixels of x\[n\].
pub fn sum_pixels(
    batch: usize,
    pixels: usize,
    channels: usize,
    scale: f32,
    x: Slice,
    y: Slice,
) -> Vec<Launch> {
    let quads = pitch(channels) / 4;
    let size = PixelSize { batch: batch as u32, pixels: pixels as u32, quads: quads as u32, scale };
    let count = batch * quads;
    vec![invocations(kernel("sum_pixels", &super::WG), vec![x], vec![y], bytemuck::bytes_of(&size), count)]
}
