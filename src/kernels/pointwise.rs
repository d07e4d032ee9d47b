//! Element-wise operations: `wgsl/pointwise.wgsl`.

use super::{invocations, shader};
use crate::gpu::{Launch, Slice};

shader!("pointwise");

/// Operations on one tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// x · sigmoid(x).
    Silu,
    /// x where positive, else slope · x.
    LeakyRelu {
        /// Slope of the negative half.
        slope: f32,
    },
    /// factor · x.
    Scale {
        /// The factor.
        factor: f32,
    },
    /// x between −bound and bound; NaN stays.
    Clamp {
        /// The bound.
        bound: f32,
    },
}

/// Operations on two tensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Binary {
    /// a + b.
    Add,
    /// Of x and dy: dx of SiLU.
    SiluGrad,
    /// Of x and dy: dx of LeakyReLU.
    LeakyReluGrad {
        /// Slope of the negative half.
        slope: f32,
    },
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    quads: u32,
    operation: u32,
    factor: f32,
    pad: u32,
}

fn launch(
    entry: &'static str,
    quads: usize,
    operation: u32,
    factor: f32,
    reads: Vec<Slice>,
    y: Slice,
) -> Launch {
    let uniform = Size { quads: quads as u32, operation, factor, pad: 0 };
    invocations(kernel(entry, &super::WG), reads, vec![y], bytemuck::bytes_of(&uniform), quads)
}

/// y of x, both of `quads` vec4.
pub fn unary(operation: Unary, quads: usize, x: Slice, y: Slice) -> Vec<Launch> {
    let (number, factor) = match operation {
        Unary::Silu => (0, 0.0),
        Unary::LeakyRelu { slope } => (1, slope),
        Unary::Scale { factor } => (2, factor),
        Unary::Clamp { bound } => (6, bound),
    };
    vec![launch("forward", quads, number, factor, vec![x, x], y)]
}

/// y of a and b, all of `quads` vec4.
pub fn binary(operation: Binary, quads: usize, a: Slice, b: Slice, y: Slice) -> Vec<Launch> {
    let (number, factor) = match operation {
        Binary::Add => (3, 0.0),
        Binary::SiluGrad => (4, 0.0),
        Binary::LeakyReluGrad { slope } => (5, slope),
    };
    vec![launch("forward", quads, number, factor, vec![a, b], y)]
}

/// y = x + alpha\[0\] · g.
pub fn axpy(quads: usize, x: Slice, g: Slice, alpha: Slice, y: Slice) -> Vec<Launch> {
    vec![launch("axpy", quads, 0, 0.0, vec![x, g, alpha], y)]
}

/// x = mask · x + (1 − mask) · known.
pub fn blend(quads: usize, mask: Slice, known: Slice, x: Slice) -> Vec<Launch> {
    vec![launch("blend", quads, 0, 0.0, vec![mask, known], x)]
}
