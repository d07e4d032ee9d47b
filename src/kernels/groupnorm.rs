//! Group normalisation (Wu and He 2018) with the reference's scale-shift and SiLU, and its gradients.
//!
//! With xhat = (x − mean)·rstd over the pixels and channels of a group: u = xhat·γ + β, v = u·(1 + scale) + shift,
//! y = SiLU(v); scale-shift and SiLU are optional. `scale_shift` is \[N, 2C\], scale first.

use super::{pitch, shader};
use crate::gpu::{Launch, Slice, spread};
use bytemuck::{Pod, Zeroable};

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
        ..size.launch("moments", vec![x], stats, size.columns(part))
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
        Launch { uniform, ..size.launch("forward", reads, y, size.blocks(part)) }
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
        Launch { uniform, ..size.launch("grad_sums", reads, sums, size.columns(part)) }
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
    vec![Launch { uniform, ..size.launch("grad_input", reads, dx, size.blocks(part)) }]
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
