//! The way forward: statistics of the groups, and the normalised tensor by them.

use super::grad::{GroupNormGrad, GroupNormGradAffine, GroupNormGradInput, GroupNormGradSums};
use super::{GroupNorm, Part, Source};
use crate::error::Result;
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Graph, Node, NodeId, Operation, Upstream};
use crate::ops::kernel::shader;
use crate::tensor::pitch;
use std::sync::Arc;

shader!("groupnorm");

/// Bytes of the statistics: \[N, 2, C\], of each channel the mean and 1/√(variance + 1e-5) of its group, or \[N, 4, C\] with
/// 1 + scale and shift; then γ and β, so that what is computed by them binds one buffer.
pub fn stats_bytes(size: &GroupNorm) -> u64 {
    let rows = if size.scale_shift { 4 } else { 2 };
    ((size.batch * rows + 2) * pitch(size.channels) * 4) as u64
}

/// Writes `y` \[N, H·W, C\] and the statistics ([`stats_bytes`]); γ and β are \[C\], `scale_shift` \[N, 2C\]. `gpu`: with
/// workgroups for a GPU, and small images in one launch; elsewhere a launch costs next to nothing, and neighbours in memory that
/// are read and written together are worth more.
pub fn forward(
    size: &GroupNorm,
    gpu: bool,
    source: Source,
    affine: [Slice; 2],
    scale_shift: Option<Slice>,
    stats: Slice,
    y: Slice,
) -> Vec<Launch> {
    if gpu && size.in_one_launch() {
        return forward_whole(size, gpu, source, affine, scale_shift, stats, y);
    }
    let mut launches = statistics(size, gpu, source, affine, scale_shift, stats);
    launches.extend(normalise(size, gpu, source, stats, y));
    launches
}

/// As [`forward`], in one launch whatever the size.
pub fn forward_whole(
    size: &GroupNorm,
    gpu: bool,
    source: Source,
    [gamma, beta]: [Slice; 2],
    scale_shift: Option<Slice>,
    stats: Slice,
    y: Slice,
) -> Vec<Launch> {
    let reads = [gamma, beta, scale_shift.unwrap_or(gamma)];
    let kernel = kernel("forward_whole", &[]);
    let launch = size.in_runs(gpu, kernel, &source.bound(), &reads, &[stats, y]);
    vec![launch.stored(&["X", "Second", "", "", "", "", "Y"])]
}

/// Writes the statistics alone.
pub fn statistics(
    size: &GroupNorm,
    gpu: bool,
    source: Source,
    [gamma, beta]: [Slice; 2],
    scale_shift: Option<Slice>,
    stats: Slice,
) -> Vec<Launch> {
    let reads = [gamma, beta, scale_shift.unwrap_or(gamma)];
    let launch = size.in_runs(gpu, kernel("statistics", &[]), &source.bound(), &reads, &[stats]);
    vec![launch.stored(&["X", "Second"])]
}

/// Writes `y` by the statistics, the same bits as [`forward`].
pub fn normalise(size: &GroupNorm, gpu: bool, source: Source, stats: Slice, y: Slice) -> Vec<Launch> {
    let launch = size.in_blocks(gpu, kernel("forward", &[]), size.quads(), &source.bound(), &[stats], &[y]);
    vec![launch.stored(&["X", "Second", "", "Y"])]
}

/// Of x, gamma, beta, \[scale_shift\], \[other\]; updates the statistics. Where the normalised tensor is two, `first` is the
/// channels of x.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupNormForward {
    pub size: GroupNorm,
    pub first: usize,
}

impl Operation for GroupNormForward {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let size = &self.size;
        let [x, gamma, beta] = context.first();
        let source = Source::of(size, self.first, x, context.inputs);
        let scale_shift = context.optional(size.scale_shift, 3);
        let (stats, y) = (context.updates[0], context.output);
        forward(size, context.choices.is_gpu(), source, [gamma, beta], scale_shift, stats, y)
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        let GroupNormForward { size, first } = *self;
        let stats = graph.node(at.node).updates[0];
        let inputs = [at.inputs[0], at.dy, stats];
        let modulation = size.scale_shift && at.wanted[3];
        let affine = at.wanted[1] || at.wanted[2];
        let last = at.inputs.len() - 1;
        let other = Some(at.inputs[last]).filter(|_| first < size.channels);
        // Eight buffers hold all that a norm of one tensor has gradients of, and of two those of the first tensor.
        let of_two = at.wanted[last] && !modulation;
        let together = size.in_one_launch() && at.wanted[0] && (other.is_none() || of_two);
        let shared = match (together, at.position, other) {
            (true, 0, None) => {
                return Ok(Some(GroupNormGrad::push(graph, size, inputs, affine, modulation)));
            }
            (true, 0, Some(other)) => {
                return Ok(Some(GroupNormGrad::push_first(graph, size, first, inputs, other)));
            }
            (true, ..) => GroupNormGrad::find(graph, inputs),
            (false, ..) => {
                let op = GroupNormGradSums { size, first, affine, modulation };
                Some(op.find_or_push(graph, inputs, other))
            }
        };
        let Some(shared) = shared else { return self.no_gradient(at) };
        let beside = |number: usize| graph.node(shared).updates.get(number).copied();
        let part = match at.position {
            1 | 2 => {
                let op = GroupNormGradAffine { size, gamma: at.position == 1 };
                return Ok(beside(0).map(|sums| graph.push_like(at.target(), op, vec![sums])));
            }
            3 if size.scale_shift => return Ok(beside(1)),
            0 => Part { first: 0, channels: first },
            _ => Part { first, channels: size.channels - first },
        };
        let means = if together { beside(1) } else { Some(shared) };
        let Some(means) = means else { return self.no_gradient(at) };
        let op = GroupNormGradInput { size, part, addend: false };
        Ok(Some(graph.push_like(at.target(), op, vec![at.target(), at.dy, stats, means])))
    }

    fn recomputable(&self) -> bool {
        true
    }

    fn again(&self, node: &Node) -> Option<(Arc<dyn Operation>, Vec<NodeId>)> {
        let GroupNormForward { size, first } = *self;
        let other = node.inputs.last().filter(|_| first < size.channels);
        let inputs = [node.inputs[0], node.updates[0]].into_iter().chain(other.copied()).collect();
        Some((Arc::new(Normalise { size, first }), inputs))
    }

    fn reads_half(&self, position: usize) -> bool {
        position == 0 || position >= 3 + usize::from(self.size.scale_shift)
    }

    fn writes_half(&self) -> bool {
        true
    }
}

/// Of x, stats, \[other\]: the same once more.
#[derive(Debug)]
struct Normalise {
    size: GroupNorm,
    first: usize,
}

impl Operation for Normalise {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let [x, stats] = context.first();
        let source = Source::of(&self.size, self.first, x, context.inputs);
        normalise(&self.size, context.choices.is_gpu(), source, stats, context.output)
    }

    fn reads_half(&self, position: usize) -> bool {
        position != 1
    }

    fn writes_half(&self) -> bool {
        true
    }
}
