//! The direct family: register tiles, no barriers. `wgsl/matmul.wgsl`.

use super::{MatMul, Size};
use crate::gpu::{Launch, Slice, spread};
use crate::ops::kernel::{shader, split_rows};
use crate::ops::reduce_rows;
use crate::tensor::pitch;

shader!("matmul");

const WORKGROUP: u64 = 32;
/// Rows per invocation.
const TILE_ROWS: usize = 8;
/// Invocations that `grad_weight` aims at.
const WEIGHT_INVOCATIONS: usize = 1024;

/// Pairs of vec4s of `features`.
fn pairs(features: usize) -> usize {
    (pitch(features) / 4).div_ceil(2)
}

/// Slices of `grad_weight` and rows of each.
fn slices(size: &MatMul) -> (usize, usize) {
    let tiles = pairs(size.in_features) * pairs(size.out_features);
    split_rows(size.rows, WEIGHT_INVOCATIONS.div_ceil(tiles))
}

fn tiles(size: &MatMul, features: usize) -> usize {
    size.rows.div_ceil(TILE_ROWS) * pairs(features)
}

fn launch(size: &MatMul, entry: &'static str, uniform: Size, invocations: usize) -> Launch {
    Launch {
        kernel: kernel(entry, &[("WG", WORKGROUP as f64)]),
        reads: Vec::new(),
        writes: Vec::new(),
        uniform: bytemuck::bytes_of(&uniform).to_vec(),
        workgroups: spread((invocations as u64).div_ceil(WORKGROUP)),
        multiply_adds: size.multiply_adds(),
        spare: 0,
    }
}

/// y = x · weight (+ bias) (+ residual).
pub(super) fn forward(
    size: &MatMul,
    x: Slice,
    weight: Slice,
    bias: Option<Slice>,
    residual: Option<Slice>,
    y: Slice,
) -> Vec<Launch> {
    let (uniform, reads) = size.forward_operands(x, weight, bias, residual);
    let launch = launch(size, "forward", uniform, tiles(size, size.out_features));
    vec![Launch { reads, writes: vec![y], ..launch }.stored(&["Source", "", "", "Residual", "Result"])]
}

/// dx = dy · weightᵀ (+ addend).
pub(super) fn grad_input(
    size: &MatMul,
    dy: Slice,
    weight: Slice,
    addend: Option<Slice>,
    dx: Slice,
) -> Vec<Launch> {
    let (uniform, reads) = size.gradient_operands(dy, weight, addend);
    let launch = launch(size, "grad_input", uniform, tiles(size, size.in_features));
    vec![Launch { reads, writes: vec![dx], ..launch }.stored(&["Source", "", "Residual", "Gradient"])]
}

/// Bytes of scratch that [`grad_weight`] needs.
pub(super) fn grad_weight_scratch(size: &MatMul) -> u64 {
    let (slices, _) = slices(size);
    reduce_rows::slice_bytes(slices, size.weight_elements())
}

/// dw = xᵀ · dy.
pub(super) fn grad_weight(size: &MatMul, x: Slice, dy: Slice, scratch: Slice, dw: Slice) -> Vec<Launch> {
    let (slices, slice_rows) = slices(size);
    let uniform = Size { slices: slices as u32, slice_rows: slice_rows as u32, ..size.uniform() };
    let invocations = slices * pairs(size.in_features) * pairs(size.out_features);
    let launch = launch(size, "grad_weight", uniform, invocations);
    let partial = Launch { reads: vec![x, dy], ..launch }.stored(&["Source", "Upstream"]);
    reduce_rows::add_slices(partial, slices, size.weight_elements(), scratch, dw)
}
