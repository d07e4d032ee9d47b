//! The way back. The gradient of the statistics is inside that of the input.

use super::{Bound, GroupNorm, Part, Source};
use crate::families::Choices;
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Graph, Node, NodeId, Operation};
use crate::ops::kernel::shader;
use crate::ops::reduce_rows;
use crate::tensor::pitch;
use std::sync::Arc;

shader!("groupnorm_grad");

/// Rows of an image in the sums and in the means.
const ROWS: usize = 2;

/// Bytes of the sums: \[N, 2, C\], the sums over the pixels of dv·(1 + scale) and dv·xhat·(1 + scale), of which the sums over
/// the images are the gradients of β and γ. The means of γ·(1 + scale)·dv and γ·(1 + scale)·dv·xhat over each channel's group
/// are as large.
pub fn sums_bytes(size: &GroupNorm) -> u64 {
    (size.batch * ROWS * pitch(size.channels) * 4) as u64
}

/// Writes the gradient `dx` of a norm of one tensor, `addend`, another part of that gradient, added; the sums
/// ([`sums_bytes`]); and, where asked for, the gradient of `scale_shift` \[N, 2C\]: γ·Σ dv·xhat + β·Σ dv, then Σ dv.
pub fn grad_whole(
    size: &GroupNorm,
    gpu: bool,
    [x, dy, stats]: [Slice; 3],
    addend: Option<Slice>,
    dx: Slice,
    sums: Slice,
    scale_shift_gradient: Option<Slice>,
) -> Vec<Launch> {
    let entry = if scale_shift_gradient.is_some() { "grad_whole_modulated" } else { "grad_whole" };
    let writes: Vec<Slice> = [sums, dx].into_iter().chain(scale_shift_gradient).collect();
    let bound = size.whole().bound(x, addend);
    let launch = size.in_runs(gpu, kernel(entry, &[]), &bound, &[stats, dy], &writes);
    vec![launch.stored(&["X", "Second", "", "Dy", "", "Dx", ""])]
}

/// Writes of a norm of two tensors without a scale-shift's gradient that of x, `addend`, another part of it, added; the sums; and the
/// groups' means for the other tensor's [`grad_input`].
pub fn grad_first(
    size: &GroupNorm,
    gpu: bool,
    source: Source,
    [dy, stats]: [Slice; 2],
    addend: Option<Slice>,
    dx: Slice,
    [sums, means]: [Slice; 2],
) -> Vec<Launch> {
    let bound = Bound { addends: usize::from(addend.is_some()), ..source.bound() };
    let reads = [stats, dy, addend.unwrap_or(source.x)];
    let launch = size.in_runs(gpu, kernel("grad_first", &[]), &bound, &reads, &[sums, dx, means]);
    vec![launch.stored(&["X", "Second", "", "Dy", "Addend", "", "Dx", ""])]
}

/// As [`grad_whole`] without a scale-shift's gradient, with two `addends`; writes the groups' means beside the sums.
fn grad_with_two(
    size: &GroupNorm,
    gpu: bool,
    [x, dy, stats]: [Slice; 3],
    addends: [Slice; 2],
    dx: Slice,
    [sums, means]: [Slice; 2],
) -> Vec<Launch> {
    let bound = Bound { addends: 2, ..size.whole().bound(x, Some(addends[1])) };
    let reads = [stats, dy, addends[0]];
    let launch = size.in_runs(gpu, kernel("grad_first", &[]), &bound, &reads, &[sums, dx, means]);
    vec![launch.stored(&["X", "Second", "", "Dy", "Addend", "", "Dx", ""])]
}

/// Writes the sums, and the groups' means for [`grad_input`]; and, where asked for, the gradient of `scale_shift`.
pub fn grad_sums(
    size: &GroupNorm,
    gpu: bool,
    source: Source,
    [dy, stats]: [Slice; 2],
    [sums, means]: [Slice; 2],
    scale_shift_gradient: Option<Slice>,
) -> Vec<Launch> {
    let entry = if scale_shift_gradient.is_some() { "grad_sums_modulated" } else { "grad_sums" };
    let writes: Vec<Slice> = [sums, means].into_iter().chain(scale_shift_gradient).collect();
    let launch = size.in_runs(gpu, kernel(entry, &[]), &source.bound(), &[stats, dy], &writes);
    vec![launch.stored(&["X", "Second", "", "Dy", "", "", ""])]
}

/// Writes the gradient `dx` of the part `x`; `means` are those of [`grad_sums`]. `addend`, another part of that gradient, is
/// added.
pub fn grad_input(
    size: &GroupNorm,
    gpu: bool,
    part: Part,
    [x, dy, stats, means]: [Slice; 4],
    addend: Option<Slice>,
    dx: Slice,
) -> Vec<Launch> {
    let (reads, kernel) = ([stats, dy, means], kernel("grad_input", &[]));
    let launch = size.in_blocks(gpu, kernel, part.quads(), &part.bound(x, addend), &reads, &[dx]);
    vec![launch.stored(&["X", "Second", "", "Dy", "", "Dx"])]
}

/// Writes the gradient of γ \[C\] from the sums.
pub fn grad_gamma(size: &GroupNorm, sums: Slice, dgamma: Slice) -> Vec<Launch> {
    sum_images(size, 1, sums, dgamma)
}

/// Writes the gradient of β \[C\] from the sums.
pub fn grad_beta(size: &GroupNorm, sums: Slice, dbeta: Slice) -> Vec<Launch> {
    sum_images(size, 0, sums, dbeta)
}

/// A row of the sums, over the images.
fn sum_images(size: &GroupNorm, row: usize, sums: Slice, to: Slice) -> Vec<Launch> {
    let quads = size.quads();
    vec![reduce_rows::sum_strided(size.batch, quads, ROWS * quads, row * quads, sums, to)]
}

/// Memory for the sums, or as much.
fn reserve(graph: &mut Graph, size: &GroupNorm) -> NodeId {
    graph.reserve(&[sums_bytes(size) as usize / 4])
}

/// What is written beside a result: the sums where they or the scale-shift's gradient are wanted, then that.
fn reserved(graph: &mut Graph, size: &GroupNorm, affine: bool, modulation: bool) -> Vec<NodeId> {
    let mut updates = Vec::new();
    if affine || modulation {
        updates.push(reserve(graph, size));
    }
    if modulation {
        updates.push(graph.reserve(&[size.batch, 2 * size.channels]));
    }
    updates
}

/// What [`reserved`] gave, and scratch for sums that nobody wants.
fn written(context: &mut Context<'_>, size: &GroupNorm) -> (Slice, Option<Slice>) {
    let sums = context.updates.first().copied();
    (sums.unwrap_or_else(|| context.scratch(sums_bytes(size))), context.updates.get(1).copied())
}

/// Of x, dy, stats, \[other\], \[addend\] or on GPUs two of them: the gradient of x; updates [`reserved`], of two tensors the sums and the means.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupNormGrad {
    size: GroupNorm,
    first: usize,
    addends: usize,
}

impl GroupNormGrad {
    /// Adds it for a norm of one tensor, and what is wanted beside.
    pub fn push(
        graph: &mut Graph,
        size: GroupNorm,
        inputs: [NodeId; 3],
        affine: bool,
        modulation: bool,
    ) -> NodeId {
        let updates = reserved(graph, &size, affine, modulation);
        let op = GroupNormGrad { size, first: size.channels, addends: 0 };
        let shape = graph.shape(inputs[0]).to_vec();
        graph.push_updating(op, inputs.to_vec(), updates, shape)
    }

    /// Adds it for a norm of two tensors, the first of `first` channels.
    pub fn push_first(
        graph: &mut Graph,
        size: GroupNorm,
        first: usize,
        [x, dy, stats]: [NodeId; 3],
        other: NodeId,
    ) -> NodeId {
        let updates = vec![reserve(graph, &size), reserve(graph, &size)];
        let op = GroupNormGrad { size, first, addends: 0 };
        let shape = graph.shape(x).to_vec();
        graph.push_updating(op, vec![x, dy, stats, other], updates, shape)
    }

    /// The last one of these inputs, whatever it adds.
    pub fn find(graph: &Graph, inputs: [NodeId; 3]) -> Option<NodeId> {
        let number = graph.nodes.iter().rposition(|node| {
            node.op.downcast_ref::<GroupNormGrad>().is_some() && node.inputs.starts_with(&inputs)
        });
        number.map(|number| NodeId(number as u32))
    }
}

impl Operation for GroupNormGrad {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let (size, gpu, dx) = (&self.size, context.choices.is_gpu(), context.output);
        let [x, dy, stats] = context.first();
        let two = self.first < size.channels;
        let addend = context.optional(self.addends > 0, 3 + usize::from(two));
        let source = Source { x, first: self.first, other: two.then(|| context.inputs[3]) };
        let (sums, means, scale_shift_gradient) = match two {
            true => (context.updates[0], Some(context.updates[1]), None),
            false => {
                let (sums, scale_shift_gradient) = written(context, size);
                (sums, None, scale_shift_gradient)
            }
        };
        if self.addends == 2 {
            let means = context.scratch(sums_bytes(size));
            let addends = [context.inputs[3], context.inputs[4]];
            return grad_with_two(size, gpu, [x, dy, stats], addends, dx, [sums, means]);
        }
        if gpu {
            return match means {
                Some(means) => grad_first(size, gpu, source, [dy, stats], addend, dx, [sums, means]),
                None => grad_whole(size, gpu, [x, dy, stats], addend, dx, sums, scale_shift_gradient),
            };
        }
        // As in `forward`: in two launches.
        let means = means.unwrap_or_else(|| context.scratch(sums_bytes(size)));
        let mut launches = grad_sums(size, gpu, source, [dy, stats], [sums, means], scale_shift_gradient);
        let part = Part { first: 0, channels: self.first };
        launches.extend(grad_input(size, gpu, part, [x, dy, stats, means], addend, dx));
        launches
    }

    fn with_addend(&self) -> Option<Arc<dyn Operation>> {
        let other: Arc<dyn Operation> = Arc::new(GroupNormGrad { addends: 1, ..*self });
        Some(other).filter(|_| self.addends == 0)
    }

    fn absorb(
        &self,
        inputs: &[NodeId],
        position: usize,
        maker: &Node,
        choices: &Choices,
    ) -> Option<(Arc<dyn Operation>, Vec<NodeId>)> {
        let whole = self.first == self.size.channels && !self.size.scale_shift;
        let able = choices.is_gpu() && whole && self.addends == 1 && position == 3 && maker.op.adds();
        able.then(|| {
            let op: Arc<dyn Operation> = Arc::new(GroupNormGrad { addends: 2, ..*self });
            (op, [&inputs[..3], &maker.inputs[..]].concat())
        })
    }

    fn reads_half(&self, position: usize) -> bool {
        position != 2
    }

    fn writes_half(&self) -> bool {
        true
    }
}

/// Of x, dy, stats, \[other\]: the means; updates [`reserved`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct GroupNormGradSums {
    pub size: GroupNorm,
    pub first: usize,
    pub affine: bool,
    pub modulation: bool,
}

impl GroupNormGradSums {
    /// Computed once for a given dy.
    pub fn find_or_push(self, graph: &mut Graph, inputs: [NodeId; 3], other: Option<NodeId>) -> NodeId {
        let inputs: Vec<NodeId> = inputs.into_iter().chain(other).collect();
        graph.find(&self, &inputs).unwrap_or_else(|| {
            let updates = reserved(graph, &self.size, self.affine, self.modulation);
            let means = sums_bytes(&self.size) as usize / 4;
            graph.push_updating(self, inputs, updates, vec![means])
        })
    }
}

impl Operation for GroupNormGradSums {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let [x, dy, stats] = context.first();
        let source = Source::of(&self.size, self.first, x, context.inputs);
        let (sums, scale_shift_gradient) = written(context, &self.size);
        let (gpu, means) = (context.choices.is_gpu(), context.output);
        grad_sums(&self.size, gpu, source, [dy, stats], [sums, means], scale_shift_gradient)
    }

    fn reads_half(&self, position: usize) -> bool {
        position != 2
    }
}

/// Of x, dy, stats, means, \[addend\]: x and the result are `part`.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupNormGradInput {
    pub size: GroupNorm,
    pub part: Part,
    pub addend: bool,
}

impl Operation for GroupNormGradInput {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let addend = context.optional(self.addend, 4);
        let gpu = context.choices.is_gpu();
        grad_input(&self.size, gpu, self.part, context.first(), addend, context.output)
    }

    fn with_addend(&self) -> Option<Arc<dyn Operation>> {
        let other: Arc<dyn Operation> = Arc::new(GroupNormGradInput { addend: true, ..*self });
        Some(other).filter(|_| !self.addend)
    }

    fn reads_half(&self, position: usize) -> bool {
        matches!(position, 0 | 1 | 4)
    }

    fn writes_half(&self) -> bool {
        true
    }
}

/// Of the sums: the gradient of γ, or of β.
#[derive(Debug)]
pub(super) struct GroupNormGradAffine {
    pub size: GroupNorm,
    pub gamma: bool,
}

impl Operation for GroupNormGradAffine {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let grad = if self.gamma { grad_gamma } else { grad_beta };
        grad(&self.size, context.inputs[0], context.output)
    }
}
