//! [`matmul`](super) in tiles of workgroup memory, for devices where a barrier costs little:
//! `wgsl/matmul_tiled.wgsl`. The same inputs and outputs.

use super::{MatMul, Size};
use crate::gpu::{Launch, Slice, spread};
use crate::ops::kernel::shader;
use crate::ops::reduce_rows;
use crate::tensor::pitch;

shader!("matmul_tiled");

/// Rows and columns a workgroup makes, `ROWS` in the shader.
const TILE: usize = 64;
/// Terms a workgroup reads between two barriers.
const STEP: usize = 16;
/// Workgroups that `grad_weight` aims at, so that small layers still fill a device.
const WEIGHT_WORKGROUPS: usize = 256;

fn tiles(rows: usize, columns: usize) -> usize {
    rows.div_ceil(TILE) * pitch(columns).div_ceil(TILE)
}

/// Slices of `grad_weight` and rows of each: whole steps, but for the last slice.
fn slices(size: &MatMul) -> (usize, usize) {
    let wanted = WEIGHT_WORKGROUPS.div_ceil(tiles(pitch(size.in_features), size.out_features));
    let each = size.rows.div_ceil(wanted).next_multiple_of(STEP);
    (size.rows.div_ceil(each), each)
}

fn launch(size: &MatMul, entry: &'static str, uniform: Size, workgroups: usize) -> Launch {
    Launch {
        kernel: kernel(entry, &[]),
        reads: Vec::new(),
        writes: Vec::new(),
        uniform: bytemuck::bytes_of(&uniform).to_vec(),
        workgroups: spread(workgroups as u64),
        multiply_adds: size.multiply_adds(),
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
    let launch = launch(size, "forward", uniform, tiles(size.rows, size.out_features));
    vec![Launch { reads, writes: vec![y], ..launch }.stored(&["Left", "", "", "Residual", "Result"])]
}

/// dx = dy · weightᵀ.
pub(super) fn grad_input(size: &MatMul, dy: Slice, weight: Slice, dx: Slice) -> Vec<Launch> {
    let launch = launch(size, "grad_input", size.uniform(), tiles(size.rows, size.in_features));
    vec![Launch { reads: vec![dy, weight], writes: vec![dx], ..launch }.stored(&["Left", "", "Gradient"])]
}

/// Bytes of scratch that [`grad_weight`] needs.
pub(super) fn grad_weight_scratch(size: &MatMul) -> u64 {
    let (slices, _) = slices(size);
    reduce_rows::slice_bytes(slices, size.weight_elements())
}

/// dw = xᵀ · dy.
pub(super) fn grad_weight(size: &MatMul, x: Slice, dy: Slice, scratch: Slice, dw: Slice) -> Vec<Launch> {
    let (slices, slice_rows) = slices(size);
    let mut uniform = size.uniform();
    uniform.slices = slices as u32;
    uniform.slice_rows = slice_rows as u32;
    let workgroups = slices * tiles(pitch(size.in_features), size.out_features);
    let launch = launch(size, "grad_weight", uniform, workgroups);
    let partial = Launch { reads: vec![x, dy], ..launch }.stored(&["Left", "Right"]);
    reduce_rows::add_slices(partial, slices, size.weight_elements(), scratch, dw)
}
