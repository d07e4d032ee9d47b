//! [`matmul`](super) where subgroups of a GPU multiply matrices of f16 themselves: `wgsl/matmul_cooperative.wgsl`. The same inputs
//! and outputs; what is multiplied is rounded to f16, sums are f32.
//!
//! Gradients run here only where dy is stored as f16 ([`rounds`]): the loss's scale keeps such gradients within what f16 can
//! hold. Rounding others would lose what is small in them.

use super::{MatMul, Size, tiled};
use crate::gpu::{Launch, Slice, spread};
use crate::ops::kernel::{rounds, shader};
use crate::ops::reduce_rows;
use crate::tensor::pitch;

shader!("matmul_cooperative");

/// Lines of one subgroup, of which a workgroup has one or two, and columns.
const LINES: usize = 32;
const COLUMNS: usize = 64;

fn launch(
    size: &MatMul,
    entry: &'static str,
    uniform: Size,
    [slices, lines, columns]: [usize; 3],
    reads: Vec<Slice>,
) -> Launch {
    // As many as there would be if each had one subgroup.
    let workgroups = slices * lines.div_ceil(LINES) * pitch(columns).div_ceil(COLUMNS);
    Launch {
        kernel: kernel(entry, &[]),
        reads,
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
    let (uniform, reads) = size.forward_operands(x, weight, bias, residual);
    let launch = launch(size, "forward", uniform, [1, size.rows, size.out_features], reads);
    vec![Launch { writes: vec![y], ..launch }.stored(&["Source", "", "", "Residual", "Result"])]
}

/// dx = dy · weightᵀ (+ addend).
pub(super) fn grad_input(
    size: &MatMul,
    dy: Slice,
    weight: Slice,
    addend: Option<Slice>,
    dx: Slice,
) -> Vec<Launch> {
    if !rounds(dy) {
        return tiled::grad_input(size, dy, weight, addend, dx);
    }
    let (uniform, reads) = size.gradient_operands(dy, weight, addend);
    let launch = launch(size, "grad_input", uniform, [1, size.rows, size.in_features], reads);
    vec![Launch { writes: vec![dx], ..launch }.stored(&["Source", "", "Residual", "Result"])]
}

/// Bytes of scratch that [`grad_weight`] needs for the weight, and for the bias, whichever family it runs in.
pub(super) fn grad_weight_scratch(size: &MatMul) -> [u64; 2] {
    let [weight, bias] = tiled::grad_weight_scratch(size);
    [weight, bias.max(reduce_rows::scratch(size.rows, size.out_features))]
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
    if !rounds(dy) {
        return tiled::grad_weight(size, x, dy, scratches, dw, db);
    }
    let (slices, slice_rows) = tiled::slices(size);
    let uniform = Size { slices: slices as u32, slice_rows: slice_rows as u32, ..size.uniform() };
    let lines = pitch(size.in_features);
    let partial = launch(size, "grad_weight", uniform, [slices, lines, size.out_features], vec![x, dy]);
    let partial = partial.stored(&["Source", "Upstream"]);
    let mut launches = reduce_rows::add_slices(partial, slices, size.weight_elements(), scratches[0], dw);
    let sum = |db| reduce_rows::launches(size.rows, size.out_features, dy, scratches[1], db);
    launches.extend(db.into_iter().flat_map(sum));
    launches
}
