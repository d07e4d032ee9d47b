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
pub(super) fn slices(size: &MatMul) -> (usize, usize) {
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
    forward_of_two(size, size.in_features, [x, x], weight, bias, residual, y)
}

/// As [`forward`] of an input whose first `first` features are the first tensor and the others the second one.
pub(super) fn forward_of_two(
    size: &MatMul,
    first: usize,
    [x, other]: [Slice; 2],
    weight: Slice,
    bias: Option<Slice>,
    residual: Option<Slice>,
    y: Slice,
) -> Vec<Launch> {
    let (mut uniform, mut reads) = size.forward_operands(x, weight, bias, residual);
    uniform.first_quads = (pitch(first) / 4) as u32;
    reads.push(other);
    let launch = launch(size, "forward", uniform, tiles(size.rows, size.out_features));
    vec![Launch { reads, writes: vec![y], ..launch }.stored(&["Left", "", "", "Residual", "Other", "Result"])]
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
    let launch = launch(size, "grad_input", uniform, tiles(size.rows, size.in_features));
    vec![Launch { reads, writes: vec![dx], ..launch }.stored(&["Left", "", "Residual", "Gradient"])]
}

/// Bytes of scratch that [`grad_weight`] needs for the weight, and for the bias.
pub(super) fn grad_weight_scratch(size: &MatMul) -> [u64; 2] {
    let (slices, _) = slices(size);
    let bias = slices * pitch(size.out_features) * 4;
    [reduce_rows::slice_bytes(slices, size.weight_elements()), bias as u64]
}

/// dw = xᵀ · dy, and db.
pub(super) fn grad_weight(
    size: &MatMul,
    x: Slice,
    dy: Slice,
    scratches: [Slice; 2],
    dw: Slice,
    db: Option<Slice>,
) -> Vec<Launch> {
    grad_weight_of_two(size, size.in_features, [x, x], dy, scratches, dw, db)
}

/// As [`grad_weight`] of an input as that of [`forward_of_two`].
pub(super) fn grad_weight_of_two(
    size: &MatMul,
    first: usize,
    [x, other]: [Slice; 2],
    dy: Slice,
    scratches: [Slice; 2],
    dw: Slice,
    db: Option<Slice>,
) -> Vec<Launch> {
    let (slices, slice_rows) = slices(size);
    let mut uniform = size.uniform();
    uniform.slices = slices as u32;
    uniform.slice_rows = slice_rows as u32;
    uniform.first_quads = (pitch(first) / 4) as u32;
    let workgroups = slices * tiles(pitch(size.in_features), size.out_features);
    let launch = launch(size, "grad_weight", uniform, workgroups);
    let partial = Launch { reads: vec![x, dy, other], ..launch }.stored(&["Left", "Right", "Other"]);
    let elements = [size.weight_elements(), size.out_features];
    reduce_rows::add_slices_with_bias(partial, slices, elements, scratches, dw, db)
}
