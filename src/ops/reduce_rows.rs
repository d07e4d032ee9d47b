//! Column sums in a fixed order, for the gradients of biases and weights: `wgsl/reduce_rows.wgsl`.

use super::kernel::{shader, split_rows};
use crate::gpu::{Launch, Slice, spread};
use crate::graph::{Context, Graph, NodeId, Operation};
use crate::tensor::pitch;

shader!("reduce_rows");

const WORKGROUP: u64 = 32;
/// Invocations that the first of two passes aims at.
const INVOCATIONS: usize = 1024;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    rows: u32,
    quads: u32,
    slices: u32,
    slice_rows: u32,
    stride: u32,
    first: u32,
    pad: [u32; 2],
}

/// Sums `rows` rows of `quads` vec4 into `slices` rows.
pub(super) fn sum(rows: usize, quads: usize, slices: usize, x: Slice, y: Slice) -> Launch {
    launch([rows, quads, slices], [quads, 0], x, y)
}

/// Sums `rows` rows of `quads` vec4 that begin `stride_quads` apart, the first of them at `first_quad`, into one.
pub(super) fn sum_strided(
    rows: usize,
    quads: usize,
    stride_quads: usize,
    first_quad: usize,
    x: Slice,
    y: Slice,
) -> Launch {
    launch([rows, quads, 1], [stride_quads, first_quad], x, y)
}

fn launch([rows, quads, slices]: [usize; 3], [stride, first]: [usize; 2], x: Slice, y: Slice) -> Launch {
    let uniform = Size {
        rows: rows as u32,
        quads: quads as u32,
        slices: slices as u32,
        slice_rows: rows.div_ceil(slices) as u32,
        stride: stride as u32,
        first: first as u32,
        pad: [0; 2],
    };
    Launch {
        kernel: kernel("forward", &[("WG", WORKGROUP as f64)]),
        reads: vec![x],
        writes: vec![y],
        uniform: bytemuck::bytes_of(&uniform).to_vec(),
        workgroups: spread(((slices * quads) as u64).div_ceil(WORKGROUP)),
        multiply_adds: 0,
    }
    .stored(&["X"])
}

/// Bytes of scratch that `slices` partial sums of `elements` values need in [`add_slices`].
pub(super) fn slice_bytes(slices: usize, elements: usize) -> u64 {
    if slices == 1 { 0 } else { (slices * elements * 4) as u64 }
}

/// `partial`, which sums `elements` values of the gradient `dw` over each of `slices` slices, and the addition of these. One
/// slice is `dw` itself.
pub(super) fn add_slices(
    partial: Launch,
    slices: usize,
    elements: usize,
    scratch: Slice,
    dw: Slice,
) -> Vec<Launch> {
    if slices == 1 {
        return vec![Launch { writes: vec![dw], ..partial }];
    }
    vec![Launch { writes: vec![scratch], ..partial }, sum(slices, elements / 4, 1, scratch, dw)]
}

fn slices(rows: usize, columns: usize) -> usize {
    let quads = pitch(columns) / 4;
    // Below this many rows a second pass costs more than it saves.
    if rows <= 64 { 1 } else { split_rows(rows, INVOCATIONS.div_ceil(quads)).0 }
}

/// Bytes of scratch that [`launches`] needs.
pub fn scratch(rows: usize, columns: usize) -> u64 {
    let slices = slices(rows, columns);
    slice_bytes(slices, pitch(columns))
}

/// y \[columns\] = sum of the rows of x \[rows, columns\].
pub fn launches(rows: usize, columns: usize, x: Slice, scratch: Slice, y: Slice) -> Vec<Launch> {
    let (slices, quads) = (slices(rows, columns), pitch(columns) / 4);
    if slices == 1 {
        return vec![sum(rows, quads, 1, x, y)];
    }
    vec![sum(rows, quads, slices, x, scratch), sum(slices, quads, 1, scratch, y)]
}

#[derive(Debug)]
struct SumRows {
    rows: usize,
    columns: usize,
}

impl Operation for SumRows {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let partial = context.scratch(scratch(self.rows, self.columns));
        launches(self.rows, self.columns, context.inputs[0], partial, context.output)
    }

    fn reads_half(&self, _position: usize) -> bool {
        true
    }
}

impl Graph {
    /// Column sums over all rows: the gradient of a bias.
    pub(super) fn sum_rows(&mut self, dy: NodeId) -> NodeId {
        let mut shape = self.shape(dy).to_vec();
        let columns = shape.pop().unwrap_or(0);
        self.push(SumRows { rows: shape.iter().product(), columns }, vec![dy], vec![columns])
    }
}
