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
    pad: [u32; 3],
}

impl GroupNorm {
    fn quads(&self) -> usize {
        pitch(self.channels) / 4
    }

    fn uniform(&self, row: u32) -> Vec<u8> {
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
            pad: [0; 3],
        };
        bytemuck::bytes_of(&size).to_vec()
    }

    /// Workgroups where one invocation handles four channels of a block of pixels.
    fn blocks(&self) -> [u32; 3] {
        let invocations = self.batch * self.pixels.div_ceil(BLOCK) * self.quads();
        spread((invocations as u64).div_ceil(WORKGROUP))
    }

    /// Workgroups where one workgroup handles four channels of an image.
    fn columns(&self) -> [u32; 3] {
        spread((self.batch * self.quads()) as u64)
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
            uniform: self.uniform(0),
            workgroups,
            multiply_adds: 0,
        }
    }
}

/// Bytes of the statistics: \[N, 2, C\], mean and 1/√(variance + 1e-5) of each channel's group.
pub fn stats_bytes(size: &GroupNorm) -> u64 {
    (size.batch * 2 * pitch(size.channels) * 4) as u64
}

/// Bytes of the gradients' sums: \[N, 4, C\], the sums over the pixels of dv and dv·xhat, and the means of γ·(1 + scale)
/// times these over each channel's group.
pub fn sums_bytes(size: &GroupNorm) -> u64 {
    (size.batch * 4 * pitch(size.channels) * 4) as u64
}

/// Writes the statistics ([`stats_bytes`]) of `x` \[N, H·W, C\].
pub fn stats(size: &GroupNorm, x: Slice, stats: Slice) -> Vec<Launch> {
    vec![
        size.launch("moments", vec![x], stats, size.columns()),
        size.launch("combine", vec![], stats, size.per_group()),
    ]
}

/// Writes `y` \[N, H·W, C\] from `x` and its [`stats`]; `gamma` and `beta` are \[C\], `scale_shift` \[N, 2C\].
pub fn forward(
    size: &GroupNorm,
    x: Slice,
    stats: Slice,
    gamma: Slice,
    beta: Slice,
    scale_shift: Option<Slice>,
    y: Slice,
) -> Vec<Launch> {
    let reads = vec![x, stats, gamma, beta, scale_shift.unwrap_or(gamma)];
    vec![size.launch("forward", reads, y, size.blocks())]
}

/// Writes the sums ([`sums_bytes`]) that all gradients share, from the gradient `dy` of the output.
#[expect(clippy::too_many_arguments, reason = "one argument per tensor")]
pub fn grad_sums(
    size: &GroupNorm,
    x: Slice,
    dy: Slice,
    stats: Slice,
    gamma: Slice,
    beta: Slice,
    scale_shift: Option<Slice>,
    sums: Slice,
) -> Vec<Launch> {
    let modulation = scale_shift.unwrap_or(gamma);
    vec![
        size.launch("grad_sums", vec![x, stats, gamma, beta, modulation, dy], sums, size.columns()),
        size.launch("group_means", vec![gamma, modulation], sums, size.per_group()),
    ]
}

/// Writes the gradient `dx` of `x`, through the statistics too; `sums` are those of [`grad_sums`].
#[expect(clippy::too_many_arguments, reason = "one argument per tensor")]
pub fn grad_input(
    size: &GroupNorm,
    x: Slice,
    dy: Slice,
    stats: Slice,
    gamma: Slice,
    beta: Slice,
    scale_shift: Option<Slice>,
    sums: Slice,
    dx: Slice,
) -> Vec<Launch> {
    let reads = vec![x, stats, gamma, beta, scale_shift.unwrap_or(gamma), dy, sums];
    vec![size.launch("grad_input", reads, dx, size.blocks())]
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
    vec![Launch { uniform: size.uniform(row), ..launch }]
}

/// Writes the gradient of `scale_shift` \[N, 2C\]: γ·Σ dv·xhat + β·Σ dv, then Σ dv.
pub fn grad_scale_shift(size: &GroupNorm, sums: Slice, gamma: Slice, beta: Slice, to: Slice) -> Vec<Launch> {
    let elements = size.batch * pitch(2 * size.channels);
    let workgroups = spread((elements as u64).div_ceil(WORKGROUP));
    let launch = size.launch("grad_affine", vec![sums, gamma, beta], to, workgroups);
    vec![Launch { uniform: size.uniform(2), ..launch }]
}
