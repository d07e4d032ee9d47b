//! Group normalisation (Wu and He 2018) with the reference's scale-shift and SiLU: `wgsl/groupnorm.wgsl`, and its
//! gradients: `wgsl/groupnorm_grad.wgsl`.
//!
//! With xhat = (x − mean)·rstd over the pixels and channels of a group: u = xhat·γ + β, v = u·(1 + scale) + shift,
//! y = SiLU(v); scale-shift and SiLU are optional. `scale_shift` is \[N, 2C\], scale first.
//!
//! The groups of an image know nothing of each other, so a workgroup that has whole groups needs no second launch: up to
//! [`GroupNorm::in_one_launch`] forward is one, and so is backward where the normalised tensor is one; of two it is two launches.

mod forward;
mod grad;

pub use forward::{forward, forward_whole, normalise, statistics, stats_bytes};
pub use grad::{grad_beta, grad_first, grad_gamma, grad_input, grad_sums, grad_whole, sums_bytes};

use crate::error::{Error, Result};
use crate::gpu::{Kernel, Launch, Slice, spread};
use crate::graph::{Graph, NodeId};
use crate::tensor::pitch;
use bytemuck::{Pod, Zeroable};

/// Most vec4s that a workgroup reads of an image in a launch that does everything: 32 for each of 256 invocations, in flights of
/// four. Read twice that takes a GPU about as long as the launches and barriers that are spared; larger images have too few
/// workgroups for their work.
const WHOLE: usize = 8192;

/// Vec4s of a run on a processor: 64 bytes, a line of its cache.
const SOFTWARE_RUN: usize = 4;

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
    per_group: u32,
    quads: u32,
    x_quads: u32,
    first_quad: u32,
    run_quads: u32,
    runs: u32,
    silu: u32,
    scale_shift: u32,
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

/// The normalised tensor where it lies: one, or two side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its first channels, \[N, H·W, first\].
    pub x: Slice,
    /// How many x has: a multiple of four, or all.
    pub first: usize,
    /// The others, where x has not all.
    pub other: Option<Slice>,
}

/// What a launch binds as x and as `second`.
#[derive(Clone, Copy)]
struct Bound {
    x: Slice,
    part: Part,
    second: Slice,
    two: bool,
    addends: usize,
}

impl Source {
    /// All channels in one tensor.
    pub fn whole(size: &GroupNorm, x: Slice) -> Source {
        Source { x, first: size.channels, other: None }
    }

    /// Of an operation's inputs: the first and, where that has only `first` channels, the last.
    fn of(size: &GroupNorm, first: usize, x: Slice, inputs: &[Slice]) -> Source {
        Source { x, first, other: inputs.last().copied().filter(|_| first < size.channels) }
    }

    fn bound(&self) -> Bound {
        Bound {
            x: self.x,
            part: Part { first: 0, channels: self.first },
            second: self.other.unwrap_or(self.x),
            two: self.other.is_some(),
            addends: 0,
        }
    }
}

impl Part {
    fn quads(self) -> usize {
        pitch(self.channels) / 4
    }

    /// x as this part, and what is added to its gradient.
    fn bound(self, x: Slice, addend: Option<Slice>) -> Bound {
        let second = addend.unwrap_or(x);
        Bound { x, part: self, second, two: false, addends: usize::from(addend.is_some()) }
    }
}

impl GroupNorm {
    fn quads(&self) -> usize {
        pitch(self.channels) / 4
    }

    fn per_group(&self) -> usize {
        self.channels / self.groups
    }

    /// The least vec4s that hold whole groups.
    fn least_run(&self) -> usize {
        let shared = self.per_group().trailing_zeros().min(2);
        (self.per_group() >> shared).min(self.quads())
    }

    /// Vec4s of a run: on a GPU as few as can be, so that there are many; else those of a line of a processor's cache.
    fn run_quads(&self, gpu: bool) -> usize {
        let least = self.least_run();
        let wanted = if gpu { least } else { SOFTWARE_RUN };
        (wanted / least).max(1).saturating_mul(least).min(self.quads())
    }

    /// All channels in one tensor.
    pub fn whole(&self) -> Part {
        Part { first: 0, channels: self.channels }
    }

    /// Whether an image is so small that a workgroup normalises its groups in the launch that computes their statistics.
    pub fn in_one_launch(&self) -> bool {
        self.pixels * self.least_run() <= WHOLE
    }

    /// Invocations of a workgroup that has a run. On software devices barriers are dear; a GPU wants several waves, but for
    /// images of few pixels, which would leave most of them idle.
    fn run_lanes(&self, gpu: bool) -> usize {
        match gpu {
            false => 32,
            true if self.pixels * self.run_quads(gpu) <= 128 => 64,
            true => 256,
        }
    }

    fn uniform(&self, gpu: bool, bound: &Bound) -> Vec<u8> {
        let size = Size {
            batch: self.batch as u32,
            pixels: self.pixels as u32,
            channels: self.channels as u32,
            per_group: self.per_group() as u32,
            quads: self.quads() as u32,
            x_quads: bound.part.quads() as u32,
            first_quad: (bound.part.first / 4) as u32,
            run_quads: self.run_quads(gpu) as u32,
            runs: self.quads().div_ceil(self.run_quads(gpu)) as u32,
            silu: u32::from(self.silu),
            scale_shift: u32::from(self.scale_shift),
            has_addend: bound.addends as u32,
        };
        bytemuck::bytes_of(&size).to_vec()
    }

    /// A launch that reads what is bound and `reads`: in workgroups of `lanes` invocations, or enough of them for `invocations`,
    /// each with `block` pixels.
    fn launch(
        &self,
        gpu: bool,
        kernel: Kernel,
        [lanes, block, workgroups]: [usize; 3],
        bound: &Bound,
        reads: &[Slice],
        writes: &[Slice],
    ) -> Launch {
        let constants =
            [("WG", lanes as f64), ("BLOCK", block as f64), ("TWO", f64::from(u8::from(bound.two)))];
        Launch {
            kernel: Kernel { constants: constants.to_vec(), ..kernel },
            reads: [bound.x, bound.second].iter().chain(reads).copied().collect(),
            writes: writes.to_vec(),
            uniform: self.uniform(gpu, bound),
            workgroups: spread(workgroups as u64),
            multiply_adds: 0,
            spare: 0,
        }
    }

    /// A launch in which each workgroup has a run of an image.
    fn in_runs(&self, gpu: bool, kernel: Kernel, bound: &Bound, reads: &[Slice], writes: &[Slice]) -> Launch {
        let workgroups = self.batch * self.quads().div_ceil(self.run_quads(gpu));
        self.launch(gpu, kernel, [self.run_lanes(gpu), 1, workgroups], bound, reads, writes)
    }

    /// A launch in which each invocation has one of `quads` vec4s in some pixels: few where there are cores for all.
    fn in_blocks(
        &self,
        gpu: bool,
        kernel: Kernel,
        quads: usize,
        bound: &Bound,
        reads: &[Slice],
        writes: &[Slice],
    ) -> Launch {
        let [lanes, block] = if gpu { [64, 4] } else { [32, 16] };
        let invocations = self.batch * self.pixels.div_ceil(block) * quads;
        self.launch(gpu, kernel, [lanes, block, invocations.div_ceil(lanes)], bound, reads, writes)
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
        if let Some(scale_shift) = scale_shift {
            self.expect("group_norm", "scale_shift", scale_shift, &[batch, 2 * channels])?;
        }
        let size = GroupNorm {
            batch,
            pixels: height * width,
            channels,
            groups,
            silu,
            scale_shift: scale_shift.is_some(),
        };
        let (x, first, other) = self.sources(x, channels);
        let inputs = [x, gamma, beta].into_iter().chain(scale_shift).chain(other).collect();
        let stats = self.reserve(&[stats_bytes(&size) as usize / 4]);
        Ok(self.push_updating(forward::GroupNormForward { size, first }, inputs, vec![stats], shape.to_vec()))
    }
}
