//! Nearest expansion by two and 2×2 sums: `wgsl/resample.wgsl`.

use super::{invocations, pitch, shader};
use crate::gpu::{Launch, Slice};

shader!("resample");

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    batch: u32,
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    quads: u32,
    scale: f32,
    average: u32,
}

fn launch(size: Size, x: Slice, y: Slice) -> Vec<Launch> {
    let count =
        size.batch as usize * size.out_height as usize * size.out_width as usize * size.quads as usize;
    vec![invocations(kernel("forward", &super::WG), vec![x], vec![y], bytemuck::bytes_of(&size), count)]
}

/// y\[i, j\] = scale · x\[i/2, j/2\] on an output of the given size, zero where that lies outside.
pub fn expand(
    batch: usize,
    [height, width]: [usize; 2],
    [out_height, out_width]: [usize; 2],
    channels: usize,
    scale: f32,
    x: Slice,
    y: Slice,
) -> Vec<Launch> {
    let size = Size {
        batch: batch as u32,
        height: height as u32,
        width: width as u32,
        out_height: out_height as u32,
        out_width: out_width as u32,
        quads: (pitch(channels) / 4) as u32,
        scale,
        average: 0,
    };
    launch(size, x, y)
}

/// y = scale · sums of whole 2×2 blocks.
pub fn pool(
    batch: usize,
    [height, width]: [usize; 2],
    channels: usize,
    scale: f32,
    x: Slice,
    y: Slice,
) -> Vec<Launch> {
    let size = Size {
        batch: batch as u32,
        height: height as u32,
        width: width as u32,
        out_height: (height / 2) as u32,
        out_width: (width / 2) as u32,
        quads: (pitch(channels) / 4) as u32,
        scale,
        average: 1,
    };
    launch(size, x, y)
}
