//! The direct family: register tiles, no barriers. `wgsl/conv2d.wgsl`.

use super::{Conv2d, Size};
use crate::gpu::{Launch, Slice, spread};
use crate::ops::kernel::{shader, split_rows};
use crate::ops::reduce_rows;
use crate::tensor::pitch;

shader!("conv2d");

const WORKGROUP: u64 = 32;
/// Pixels and vec4s of channels per invocation.
const TILE: [usize; 2] = [4, 2];
/// Invocations that `grad_weight` aims at, so that small layers still fill a device.
const WEIGHT_INVOCATIONS: usize = 1024;
/// Pixels of a slice of `grad_weight` at most: some software devices end a loop after 65,535 rounds.
const SLICE_PIXELS: usize = 32_768;

/// Pairs of vec4s of `channels`.
fn pairs(channels: usize) -> usize {
    (pitch(channels) / 4).div_ceil(TILE[1])
}

/// Slices of `grad_weight` and pixels of each.
fn slices(size: &Conv2d) -> (usize, usize) {
    let pixels = size.pixels(size.out_sides);
    let tiles = size.taps() * pairs(size.in_channels) * pairs(size.out_channels);
    split_rows(pixels, WEIGHT_INVOCATIONS.div_ceil(tiles).max(pixels.div_ceil(SLICE_PIXELS)))
}

fn launch(
    size: &Conv2d,
    entry: &'static str,
    uniform: Size,
    invocations: usize,
    reads: Vec<Slice>,
) -> Launch {
    Launch {
        kernel: kernel(entry, &[("WG", WORKGROUP as f64)]),
        reads,
        writes: Vec::new(),
        uniform: bytemuck::bytes_of(&uniform).to_vec(),
        workgroups: spread((invocations as u64).div_ceil(WORKGROUP)),
        multiply_adds: size.multiply_adds(),
        spare: 0,
    }
}

/// y = conv(x, weight) (+ bias).
pub(super) fn forward(size: &Conv2d, x: Slice, weight: Slice, bias: Option<Slice>, y: Slice) -> Vec<Launch> {
    let (uniform, reads) = size.forward_operands(x, weight, bias);
    let tiles = size.pixels(size.out_sides).div_ceil(TILE[0]) * pairs(size.out_channels);
    vec![Launch { writes: vec![y], ..launch(size, "forward", uniform, tiles, reads) }]
}

/// dx of dy.
pub(super) fn grad_input(size: &Conv2d, dy: Slice, weight: Slice, dx: Slice) -> Vec<Launch> {
    let tiles = size.pixels(size.sides).div_ceil(TILE[0]) * pairs(size.in_channels);
    let launch = launch(size, "grad_input", size.uniform(), tiles, vec![dy, weight]);
    vec![Launch { writes: vec![dx], ..launch }]
}

/// Bytes of scratch that [`grad_weight`] needs.
pub fn grad_weight_scratch(size: &Conv2d) -> u64 {
    reduce_rows::slice_bytes(slices(size).0, size.weight_elements())
}

/// dw of x and dy.
pub fn grad_weight(size: &Conv2d, x: Slice, dy: Slice, scratch: Slice, dw: Slice) -> Vec<Launch> {
    let (slices, slice_pixels) = slices(size);
    let uniform = Size { slices: slices as u32, slice_pixels: slice_pixels as u32, ..size.uniform() };
    let tiles = slices * size.taps() * pairs(size.in_channels) * pairs(size.out_channels);
    let partial = launch(size, "grad_weight", uniform, tiles, vec![x, dy]);
    reduce_rows::add_slices(partial, slices, size.weight_elements(), scratch, dw)
}
