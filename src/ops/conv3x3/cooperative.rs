//! 3×3 convolution with padding 1 and its gradient for the input where subgroups of a GPU multiply matrices of f16 themselves:
//! `wgsl/conv3x3_cooperative.wgsl`. What is multiplied is rounded to f16, sums are f32.
//!
//! The gradient exists at stride 1 and runs here only where dy is stored as f16 ([`rounds`]), as those of products.

use super::{Conv3x3, FORWARD, Size, tiled};
use crate::gpu::{Launch, Slice, spread};
use crate::ops::kernel::{rounds, shader};

shader!("conv3x3_cooperative");

/// Pixels of one subgroup, of which a workgroup has one or two, and channels.
const PIXELS: usize = 32;
const CHANNELS: usize = 64;

fn launch(size: &Conv3x3, uniform: Size, reads: Vec<Slice>, write: Slice) -> Launch {
    let pixels = (uniform.batch * uniform.out_height * uniform.out_width) as usize;
    // As many as there would be if each had one subgroup.
    let workgroups = pixels.div_ceil(PIXELS) * (4 * uniform.out_quads as usize).div_ceil(CHANNELS);
    Launch {
        kernel: kernel("cooperative", &[("TRANSPOSED", f64::from(uniform.transposed))]),
        reads,
        writes: vec![write],
        uniform: bytemuck::bytes_of(&uniform).to_vec(),
        workgroups: spread(workgroups as u64),
        multiply_adds: size.multiply_adds(),
        spare: 0,
    }
    .stored(&FORWARD)
}

/// y = conv(x, weight) (+ bias) (+ residual).
pub(super) fn forward(
    size: &Conv3x3,
    x: Slice,
    weight: Slice,
    bias: Option<Slice>,
    residual: Option<Slice>,
    y: Slice,
) -> Vec<Launch> {
    let (uniform, reads) = size.forward_operands(x, weight, bias, residual);
    vec![launch(size, uniform, reads, y)]
}

/// dx of dy (+ addend), at stride 1.
pub(super) fn grad_input(
    size: &Conv3x3,
    dy: Slice,
    weight: Slice,
    addend: Option<Slice>,
    dx: Slice,
) -> Vec<Launch> {
    if !rounds(dy) {
        return tiled::grad_input(size, dy, weight, addend, dx);
    }
    let uniform = Size { has_residual: u32::from(addend.is_some()), ..size.transposed() };
    vec![launch(size, uniform, vec![dy, weight, weight, addend.unwrap_or(dy)], dx)]
}
