//! Group normalisation (Wu and He 2018) with the reference's scale-shift and SiLU, and its gradients.
//!
//! With xhat = (x − mean)·rstd over the pixels and channels of a group: u = xhat·γ + β, v = u·(1 + scale) + shift,
//! y = SiLU(v); scale-shift and SiLU are optional. `scale_shift` is \[N, 2C\], scale first.

use super::kernel::shader;
use crate::error::{Error, Result};
use crate::gpu::{Launch, Slice, spread};
use crate::graph::{Context, Graph, NodeId, Operation, Upstream};
use crate::tensor::pitch;
use bytemuck::{Pod, Zeroable};
use std::sync::Arc;

shader!("groupnorm");

/// Invocations per workgroup, `WG` in the shader.
const WORKGROUP: u64 = 32;
/// Pixels per invocation of `forward` and `grad_input`, `BLOCK` in the shader.
const BLOCK: usize = 16;

/// Sizes of one group normalisation. The variance gets 1e-5 added, as in the reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNorm {
    /// Images, N.
    pub batch: usize,
    /// Pixels of an image, H·W.
    pub pixels: usize,
    /// Channels, C: a multiple of `groups`.
    pub channels: usize,
    /// Groups of consecutive channels.
    pub groups: usize,
    /// Whether SiLU follows.
    pub silu: bool,
    /// Whether v = u·(1 + scale) + shift.
    pub scale_shift: bool,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Size {
    batch: u32,
    pixels: u32,
    channels: u32,
    groups: u32,
    quads: u32,
    modulation_quads: u32,
    silu: u32,
    scale_shift: u32,
    row: u32,
    first_quad: u32,
    part_quads: u32,
    has_addend: u32,
}

/// Consecutive channels of the normalised tensor that lie in a tensor of their own, so that a concatenation need not be
/// copied: both numbers are multiples of four unless the part ends with the last channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// First channel.
    pub first: usize,
    /// Number of channels.
    pub channels: usize,
}

impl GroupNorm {
    fn quads(&self) -> usize {
        pitch(self.channels) / 4
    }

    /// All channels in one tensor.
    pub fn whole(&self) -> Part {
        Part { first: 0, channels: self.channels }
    }

    fn uniform(&self, row: u32, part: Part, has_addend: bool) -> Vec<u8> {
        let size = Size {
            batch: self.batch as u32,
            pixels: self.pixels as u32,
            channels: self.channels as u32,
            groups: self.groups as u32,
            quads: self.quads() as u32,
            modulation_quads: (pitch(2 * self.channels) / 4) as u32,
            silu: u32::from(self.silu),
            scale_shift: u32::from(self.scale_shift),
            row,
            first_quad: (part.first / 4) as u32,
            part_quads: part.quads() as u32,
            has_addend: u32::from(has_addend),
        };
        bytemuck::bytes_of(&size).to_vec()
    }

    /// Workgroups where one invocation handles four channels of a block of pixels.
    fn blocks(&self, part: Part) -> [u32; 3] {
        let invocations = self.batch * self.pixels.div_ceil(BLOCK) * part.quads();
        spread((invocations as u64).div_ceil(WORKGROUP))
    }

    /// Workgroups where one workgroup handles four channels of an image.
    fn columns(&self, part: Part) -> [u32; 3] {
        spread((self.batch * part.quads()) as u64)
    }

    /// Workgroups where one invocation handles a group of an image.
    fn per_group(&self) -> [u32; 3] {
        spread(((self.batch * self.groups) as u64).div_ceil(WORKGROUP))
    }

    fn launch(&self, entry: &'static str, reads: Vec<Slice>, write: Slice, workgroups: [u32; 3]) -> Launch {
        Launch {
            kernel: kernel(entry, &[]),
            reads,
            writes: vec![write],
            uniform: self.uniform(0, self.whole(), false),
            workgroups,
            multiply_adds: 0,
        }
    }
}

impl Part {
    fn quads(self) -> usize {
        pitch(self.channels) / 4
    }
}

/// Bytes of the statistics: \[N, 2, C\], mean and 1/√(variance + 1e-5) of each channel's group.
pub fn stats_bytes(size: &GroupNorm) -> u64 {
    (size.batch * 2 * pitch(size.channels) * 4) as u64
}

/// Bytes of the gradients' sums: \[N, 6, C\], the sums over the pixels of dv and dv·xhat, the means of γ·(1 + scale)
/// times these over each channel's group, and the gain and bias that make v of xhat.
pub fn sums_bytes(size: &GroupNorm) -> u64 {
    (size.batch * 6 * pitch(size.channels) * 4) as u64
}

/// Writes the statistics ([`stats_bytes`]) of the tensor whose `parts` \[N, H·W, part\] are given in order.
pub fn stats(size: &GroupNorm, parts: &[(Part, Slice)], stats: Slice) -> Vec<Launch> {
    let moments = |&(part, x): &(Part, Slice)| Launch {
        uniform: size.uniform(0, part, false),
        ..size.launch("moments", vec![x], stats, size.columns(part)).stored(&["X"])
    };
    let mut launches: Vec<Launch> = parts.iter().map(moments).collect();
    launches.push(size.launch("combine", vec![], stats, size.per_group()));
    launches
}

/// Writes `y` \[N, H·W, C\] from the `parts` and their [`stats`]; `gamma` and `beta` are \[C\], `scale_shift` \[N, 2C\].
pub fn forward(
    size: &GroupNorm,
    parts: &[(Part, Slice)],
    stats: Slice,
    gamma: Slice,
    beta: Slice,
    scale_shift: Option<Slice>,
    y: Slice,
) -> Vec<Launch> {
    let launch = |&(part, x): &(Part, Slice)| {
        let reads = vec![x, stats, gamma, beta, scale_shift.unwrap_or(gamma)];
        let uniform = size.uniform(0, part, false);
        let names = ["X", "", "", "", "", "Y"];
        Launch { uniform, ..size.launch("forward", reads, y, size.blocks(part)).stored(&names) }
    };
    parts.iter().map(launch).collect()
}

/// Writes the sums ([`sums_bytes`]) that all gradients share, from the gradient `dy` of the output.
#[expect(clippy::too_many_arguments, reason = "one argument per tensor")]
pub fn grad_sums(
    size: &GroupNorm,
    parts: &[(Part, Slice)],
    dy: Slice,
    stats: Slice,
    gamma: Slice,
    beta: Slice,
    scale_shift: Option<Slice>,
    sums: Slice,
) -> Vec<Launch> {
    let launch = |&(part, x): &(Part, Slice)| {
        let reads = vec![x, stats, gamma, beta, scale_shift.unwrap_or(gamma), dy];
        let uniform = size.uniform(0, part, false);
        let names = ["X", "", "", "", "", "Dy"];
        Launch { uniform, ..size.launch("grad_sums", reads, sums, size.columns(part)).stored(&names) }
    };
    let mut launches: Vec<Launch> = parts.iter().map(launch).collect();
    launches.push(size.launch("group_means", vec![], sums, size.per_group()));
    launches
}

/// Writes the gradient `dx` of the part `x`, through the statistics too; `sums` are those of [`grad_sums`]. `addend`,
/// another part of that gradient, is added.
#[expect(clippy::too_many_arguments, reason = "one argument per tensor")]
pub fn grad_input(
    size: &GroupNorm,
    part: Part,
    x: Slice,
    dy: Slice,
    stats: Slice,
    sums: Slice,
    addend: Option<Slice>,
    dx: Slice,
) -> Vec<Launch> {
    let reads = vec![x, stats, dy, sums, addend.unwrap_or(x)];
    let uniform = size.uniform(0, part, addend.is_some());
    let names = ["X", "", "Upstream", "", "Addend", "Dx"];
    vec![Launch { uniform, ..size.launch("grad_input", reads, dx, size.blocks(part)).stored(&names) }]
}

/// Writes the gradient of γ \[C\]: Σₙ (1 + scale)·Σ dv·xhat.
pub fn grad_gamma(size: &GroupNorm, sums: Slice, scale_shift: Option<Slice>, dgamma: Slice) -> Vec<Launch> {
    grad_affine(size, sums, scale_shift, 1, dgamma)
}

/// Writes the gradient of β \[C\]: Σₙ (1 + scale)·Σ dv.
pub fn grad_beta(size: &GroupNorm, sums: Slice, scale_shift: Option<Slice>, dbeta: Slice) -> Vec<Launch> {
    grad_affine(size, sums, scale_shift, 0, dbeta)
}

fn grad_affine(
    size: &GroupNorm,
    sums: Slice,
    scale_shift: Option<Slice>,
    row: u32,
    to: Slice,
) -> Vec<Launch> {
    let workgroups = spread((4 * size.quads() as u64).div_ceil(WORKGROUP));
    let factors = scale_shift.unwrap_or(sums);
    let launch = size.launch("grad_affine", vec![sums, factors, factors], to, workgroups);
    vec![Launch { uniform: size.uniform(row, size.whole(), false), ..launch }]
}

/// Writes the gradient of `scale_shift` \[N, 2C\]: γ·Σ dv·xhat + β·Σ dv, then Σ dv.
pub fn grad_scale_shift(size: &GroupNorm, sums: Slice, gamma: Slice, beta: Slice, to: Slice) -> Vec<Launch> {
    let elements = size.batch * pitch(2 * size.channels);
    let workgroups = spread((elements as u64).div_ceil(WORKGROUP));
    let launch = size.launch("grad_affine", vec![sums, gamma, beta], to, workgroups);
    vec![Launch { uniform: size.uniform(2, size.whole(), false), ..launch }]
}

/// The tensors that a GroupNorm normalises: its first input and, where that has only `first` channels, its last.
fn parts(size: &GroupNorm, first: usize, inputs: &[Slice]) -> Vec<(Part, Slice)> {
    let mut list = vec![(Part { first: 0, channels: first }, inputs[0])];
    if let Some(other) = inputs.last().filter(|_| first < size.channels) {
        list.push((Part { first, channels: size.channels - first }, *other));
    }
    list
}

/// Of x, \[other\]: where the normalised tensor is two, `first` is the channels of x.
#[derive(Debug)]
struct GroupNormStats {
    size: GroupNorm,
    first: usize,
}

impl Operation for GroupNormStats {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        stats(&self.size, &parts(&self.size, self.first, context.inputs), context.output)
    }

    fn reads_half(&self, _position: usize) -> bool {
        true
    }

    /// Their own dependence on x is part of [`GroupNormGradInput`].
    fn vjp(&self, _graph: &mut Graph, _at: &Upstream) -> Result<Option<NodeId>> {
        Ok(None)
    }
}

/// Of x, stats, gamma, beta, \[scale_shift\], \[other\].
#[derive(Debug)]
struct Normalise {
    size: GroupNorm,
    first: usize,
}

impl Operation for Normalise {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let parts = parts(&self.size, self.first, context.inputs);
        let [_, stats, gamma, beta] = context.first();
        let scale_shift = context.optional(self.size.scale_shift, 4);
        forward(&self.size, &parts, stats, gamma, beta, scale_shift, context.output)
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        let Normalise { size, first } = *self;
        // The statistics' part of the gradient is inside that of the tensors.
        if at.position == 1 {
            return Ok(None);
        }
        let (target, stats) = (at.target(), at.inputs[1]);
        let sums = self.shared_sums(graph, at);
        let affine = match at.position {
            2 => Some(Affine::Gamma),
            3 => Some(Affine::Beta),
            4 if size.scale_shift => Some(Affine::ScaleShift),
            _ => None,
        };
        if let Some(of) = affine {
            let factors = match of {
                Affine::ScaleShift => &at.inputs[2..4],
                _ => &at.inputs[4..4 + usize::from(size.scale_shift)],
            };
            let inputs = [sums].into_iter().chain(factors.iter().copied()).collect();
            return Ok(Some(graph.push_like(target, GroupNormGradAffine { size, of }, inputs)));
        }
        let part = match at.position {
            0 => Part { first: 0, channels: first },
            _ => Part { first, channels: size.channels - first },
        };
        let op = GroupNormGradInput { size, part, addend: false };
        Ok(Some(graph.push_like(target, op, vec![target, at.dy, stats, sums])))
    }

    fn recomputable(&self) -> bool {
        true
    }

    fn reads_half(&self, position: usize) -> bool {
        position == 0 || position >= 4 + usize::from(self.size.scale_shift)
    }

    fn writes_half(&self) -> bool {
        true
    }
}

impl Normalise {
    /// The sums that all gradients share, computed once for a given dy.
    fn shared_sums(&self, graph: &mut Graph, at: &Upstream) -> NodeId {
        let op = GroupNormGradSums { size: self.size, first: self.first };
        let mut inputs = vec![at.inputs[0], at.dy];
        inputs.extend(&at.inputs[1..]);
        let words = sums_bytes(&self.size) as usize / 4;
        graph.find(&op, &inputs).unwrap_or_else(|| graph.push(op, inputs, vec![words]))
    }
}

/// Of x, dy, stats, gamma, beta, \[scale_shift\], \[other\].
#[derive(Debug, PartialEq)]
struct GroupNormGradSums {
    size: GroupNorm,
    first: usize,
}

impl Operation for GroupNormGradSums {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let parts = parts(&self.size, self.first, context.inputs);
        let [_, dy, stats, gamma, beta] = context.first();
        let scale_shift = context.optional(self.size.scale_shift, 5);
        grad_sums(&self.size, &parts, dy, stats, gamma, beta, scale_shift, context.output)
    }

    fn reads_half(&self, position: usize) -> bool {
        position < 2 || position >= 5 + usize::from(self.size.scale_shift)
    }
}

/// Of x, dy, stats, sums, \[addend\]: x and the result are `part`.
#[derive(Clone, Copy, Debug)]
struct GroupNormGradInput {
    size: GroupNorm,
    part: Part,
    addend: bool,
}

impl Operation for GroupNormGradInput {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let [x, dy, stats, sums] = context.first();
        let addend = context.optional(self.addend, 4);
        grad_input(&self.size, self.part, x, dy, stats, sums, addend, context.output)
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

/// What scales and shifts after the normalisation.
#[derive(Clone, Copy, Debug)]
enum Affine {
    Gamma,
    Beta,
    ScaleShift,
}

/// Of sums, \[scale_shift\]; of the scale-shift itself: sums, gamma, beta.
#[derive(Debug)]
struct GroupNormGradAffine {
    size: GroupNorm,
    of: Affine,
}

impl Operation for GroupNormGradAffine {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let (size, inputs, y) = (&self.size, context.inputs, context.output);
        let scale_shift = || context.optional(size.scale_shift, 1);
        match self.of {
            Affine::Gamma => grad_gamma(size, inputs[0], scale_shift(), y),
            Affine::Beta => grad_beta(size, inputs[0], scale_shift(), y),
            Affine::ScaleShift => grad_scale_shift(size, inputs[0], inputs[1], inputs[2], y),
        }
    }
}

impl Graph {
    /// GroupNorm of `x` \[N,H,W,C\], optionally scaled and shifted by `scale_shift` \[N,2C\] and followed by SiLU.
    pub fn group_norm(
        &mut self,
        x: NodeId,
        gamma: NodeId,
        beta: NodeId,
        groups: usize,
        scale_shift: Option<NodeId>,
        silu: bool,
    ) -> Result<NodeId> {
        let shape = self.image_shape("group_norm", x)?;
        let [batch, height, width, channels] = shape;
        if groups == 0 || !channels.is_multiple_of(groups) {
            let detail = format!("{channels} channels do not divide into {groups} groups");
            return Err(Error::shape("group_norm", detail));
        }
        self.expect("group_norm", "gamma", gamma, &[channels])?;
        self.expect("group_norm", "beta", beta, &[channels])?;
        let size = GroupNorm {
            batch,
            pixels: height * width,
            channels,
            groups,
            silu,
            scale_shift: scale_shift.is_some(),
        };
        let words = stats_bytes(&size) as usize / 4;
        let (x, first, other) = self.sources(x, channels);
        let read = [x].into_iter().chain(other).collect();
        let stats = self.push(GroupNormStats { size, first }, read, vec![words]);
        let mut inputs = vec![x, stats, gamma, beta];
        if let Some(scale_shift) = scale_shift {
            self.expect("group_norm", "scale_shift", scale_shift, &[batch, 2 * channels])?;
            inputs.push(scale_shift);
        }
        inputs.extend(other);
        Ok(self.push(Normalise { size, first }, inputs, shape.to_vec()))
    }
}
