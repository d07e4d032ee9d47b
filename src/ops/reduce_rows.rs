//! Column sums in a fixed order, for the gradients of biases and weights: `wgsl/reduce_rows.wgsl`, whose launches are
//! [`Sum`]s.

use super::kernel::split_rows;
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Graph, NodeId, Operation, Sum};
use crate::tensor::pitch;

/// Invocations that the first of two passes aims at.
const INVOCATIONS: usize = 1024;

/// Sums `rows` rows of `quads` vec4 into `slices` rows.
pub(super) fn sum(rows: usize, quads: usize, slices: usize, x: Slice, y: Slice) -> Launch {
    Sum { rows, quads, stride: quads, first: 0, x, y, copies: false }.launch(slices)
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
    Sum { rows, quads, stride: stride_quads, first: first_quad, x, y, copies: false }.launch(1)
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

/// As [`add_slices`] where `partial` also sums the gradient of a bias of `columns` values: `scratches` and `results` are of
/// weight and bias. A bias that nobody asks for goes to the scratch.
pub(super) fn add_slices_with_bias(
    partial: Launch,
    slices: usize,
    [elements, columns]: [usize; 2],
    scratches: [Slice; 2],
    dw: Slice,
    db: Option<Slice>,
) -> Vec<Launch> {
    if slices == 1 {
        return vec![Launch { writes: vec![dw, db.unwrap_or(scratches[1])], ..partial }];
    }
    let mut launches = vec![Launch { writes: scratches.to_vec(), ..partial }];
    launches.push(sum(slices, elements / 4, 1, scratches[0], dw));
    launches.extend(db.map(|db| sum(slices, pitch(columns) / 4, 1, scratches[1], db)));
    launches
}

/// Where the second of two scratches begins that lie in one: where it may be bound by itself.
fn second_scratch(first: u64) -> u64 {
    first.next_multiple_of(256)
}

/// Bytes of one scratch that holds two.
pub(super) fn both_scratches([first, second]: [u64; 2]) -> u64 {
    second_scratch(first) + second.max(16)
}

/// The two scratches that lie in one.
pub(super) fn split_scratch(scratch: Slice, [first, second]: [u64; 2]) -> [Slice; 2] {
    let offset = scratch.offset + second_scratch(first);
    [Slice { bytes: first, ..scratch }, Slice { offset, bytes: second.max(16), ..scratch }]
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
    /// Adds `op`, which makes the gradient of `weight` and, where there is a bias, updates that of the bias too.
    pub(super) fn push_with_bias(
        &mut self,
        op: impl Operation,
        bias: bool,
        inputs: Vec<NodeId>,
        weight: NodeId,
    ) -> NodeId {
        let shape = self.shape(weight).to_vec();
        let columns = shape.last().copied().unwrap_or(0);
        let updates = if bias { vec![self.reserve(&[columns])] } else { Vec::new() };
        self.push_updating(op, inputs, updates, shape)
    }

    /// The gradient of a bias that was added to what `dy` is the gradient of: what `op` of `inputs` made beside the weight's, else
    /// a sum of its own.
    pub(super) fn gradient_of_bias<T: Operation + PartialEq>(
        &mut self,
        op: &T,
        inputs: &[NodeId],
        dy: NodeId,
    ) -> NodeId {
        let known = self.find(op, inputs).and_then(|node| self.node(node).updates.first().copied());
        known.unwrap_or_else(|| self.sum_rows(dy))
    }

    /// Column sums over all rows: the gradient of a bias.
    pub(super) fn sum_rows(&mut self, dy: NodeId) -> NodeId {
        let mut shape = self.shape(dy).to_vec();
        let columns = shape.pop().unwrap_or(0);
        self.push(SumRows { rows: shape.iter().product(), columns }, vec![dy], vec![columns])
    }
}
