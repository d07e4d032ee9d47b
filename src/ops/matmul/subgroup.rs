//! [`matmul`](super) where subgroups are of exactly eight invocations: `wgsl/matmul_subgroup.wgsl`. The same inputs
//! and outputs.

use super::{MatMul, Size};
use crate::gpu::{Launch, Slice, spread};
use crate::ops::kernel::{shader, split_rows};
use crate::ops::reduce_rows;
use crate::tensor::pitch;

shader!("matmul_subgroup");

/// Rows and columns of a subgroup.
const TILE: usize = 32;
/// Subgroups that `grad_weight` aims at, so that small layers still fill a device.
const WEIGHT_SUBGROUPS: usize = 64;

fn tiles(rows: usize, columns: usize) -> usize {
    rows.div_ceil(TILE) * pitch(columns).div_ceil(TILE)
}

/// Slices of `grad_weight` and rows of each.
fn slices(size: &MatMul) -> (usize, usize) {
    split_rows(size.rows, WEIGHT_SUBGROUPS.div_ceil(tiles(pitch(size.in_features), size.out_features)))
}

fn product(size: &MatMul, transposed: bool, uniform: Size, reads: Vec<Slice>, write: Slice) -> Launch {
    let columns = if transposed { size.in_features } else { size.out_features };
    Launch {
        kernel: kernel("product", &[("TRANSPOSED", f64::from(u8::from(transposed)))]),
        reads,
        writes: vec![write],
        uniform: bytemuck::bytes_of(&uniform).to_vec(),
        workgroups: spread(tiles(size.rows, columns) as u64),
        multiply_adds: size.multiply_adds(),
        spare: 0,
    }
    .stored(&["Source", "", "", "Residual", "Result"])
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
    vec![product(size, false, uniform, reads, y)]
}

/// dx = dy · weightᵀ (+ addend).
pub(super) fn grad_input(
    size: &MatMul,
    dy: Slice,
    weight: Slice,
    addend: Option<Slice>,
    dx: Slice,
) -> Vec<Launch> {
    let (uniform, reads) = size.forward_operands(dy, weight, None, addend);
    vec![product(size, true, uniform, reads, dx)]
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
    let partial = Launch {
        kernel: kernel("grad_weight", &[]),
        reads: vec![x, dy],
        writes: Vec::new(),
        uniform: bytemuck::bytes_of(&uniform).to_vec(),
        workgroups: spread((slices * tiles(pitch(size.in_features), size.out_features)) as u64),
        multiply_adds: size.multiply_adds(),
        spare: 0,
    };
    let partial = partial.stored(&["Source", "Upstream"]);
    reduce_rows::add_slices(partial, slices, size.weight_elements(), scratch, dw)
}
