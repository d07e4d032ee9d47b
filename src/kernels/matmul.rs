//! Matrix product with a weight and its gradients, for linear layers and 1×1 convolutions: `wgsl/matmul.wgsl`.

use super::{pitch, reduce_rows, shader, split_rows};
use crate::gpu::{Launch, Slice, spread};

shader!("matmul");

const WORKGROUP: u64 = 32;
/// Rows per invocation.
const TILE_ROWS: usize = 8;
/// Invocations that `grad_weight` aims at.
const WEIGHT_INVOCATIONS: usize = 1024;

/// Sizes of one product \[rows, in\] · \[in, out\].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatMul {
    /// Rows: samples, or pixels of all samples.
    pub rows: usize,
    /// Input features.
    pub in_features: usize,
    /// Output features.
    pub out_features: usize,
}

#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Size {
    pub rows: u32,
    pub in_quads: u32,
    pub out_quads: u32,
    pub has_bias: u32,
    pub has_residual: u32,
    pub slices: u32,
    pub slice_rows: u32,
    pub pad: u32,
}

impl MatMul {
    /// The products of the first `first` input features and of the others, whose sum is this one.
    pub fn split(&self, first: usize) -> [MatMul; 2] {
        [first, self.in_features - first].map(|in_features| MatMul { in_features, ..*self })
    }

    pub(super) fn uniform(&self) -> Size {
        Size {
            rows: self.rows as u32,
            in_quads: (pitch(self.in_features) / 4) as u32,
            out_quads: (pitch(self.out_features) / 4) as u32,
            ..Size::default()
        }
    }

    fn slices(&self) -> (usize, usize) {
        let pairs = |features: usize| (pitch(features) / 4).div_ceil(2);
        let tiles = pairs(self.in_features) * pairs(self.out_features);
        split_rows(self.rows, WEIGHT_INVOCATIONS.div_ceil(tiles))
    }

    fn launch(&self, entry: &'static str, uniform: Size, invocations: u64) -> Launch {
        Launch {
            kernel: kernel(entry, &[("WG", WORKGROUP as f64)]),
            reads: Vec::new(),
            writes: Vec::new(),
            uniform: bytemuck::bytes_of(&uniform).to_vec(),
            workgroups: spread(invocations.div_ceil(WORKGROUP)),
            multiply_adds: self.multiply_adds(),
        }
    }

    /// Struct and bindings of a forward pass; what is absent is bound to what is there, and not read.
    pub(super) fn forward_operands(
        &self,
        x: Slice,
        weight: Slice,
        bias: Option<Slice>,
        residual: Option<Slice>,
    ) -> (Size, Vec<Slice>) {
        let uniform = Size {
            has_bias: u32::from(bias.is_some()),
            has_residual: u32::from(residual.is_some()),
            ..self.uniform()
        };
        (uniform, vec![x, weight, bias.unwrap_or(weight), residual.unwrap_or(x)])
    }

    pub(super) fn multiply_adds(&self) -> u64 {
        (self.rows * self.in_features * self.out_features) as u64
    }

    /// Values of the weight with its pads.
    pub(super) fn weight_elements(&self) -> usize {
        pitch(self.in_features) * pitch(self.out_features)
    }

    fn tiles(&self, features: usize) -> u64 {
        (self.rows.div_ceil(TILE_ROWS) * (pitch(features) / 4).div_ceil(2)) as u64
    }
}

/// Bytes of the first `rows` rows of the weight.
pub fn row_bytes(size: &MatMul, rows: usize) -> u64 {
    (rows * pitch(size.out_features) * 4) as u64
}

/// The rows of the weight before `row` and from there on; `row` is a multiple of four.
pub fn split_weight(size: &MatMul, row: usize, weight: Slice) -> [Slice; 2] {
    let bytes = row_bytes(size, row);
    let rest = Slice { offset: weight.offset + bytes, bytes: weight.bytes - bytes, ..weight };
    [Slice { bytes, ..weight }, rest]
}

/// y = x · weight (+ bias) (+ residual).
pub fn forward(
    size: &MatMul,
    x: Slice,
    weight: Slice,
    bias: Option<Slice>,
    residual: Option<Slice>,
    y: Slice,
) -> Vec<Launch> {
    let (uniform, reads) = size.forward_operands(x, weight, bias, residual);
    let launch = size.launch("forward", uniform, size.tiles(size.out_features));
    vec![Launch { reads, writes: vec![y], ..launch }]
}

/// dx = dy · weightᵀ.
pub fn grad_input(size: &MatMul, dy: Slice, weight: Slice, dx: Slice) -> Vec<Launch> {
    let launch = size.launch("grad_input", size.uniform(), size.tiles(size.in_features));
    vec![Launch { reads: vec![dy, weight], writes: vec![dx], ..launch }]
}

/// Bytes of scratch that [`grad_weight`] needs.
pub fn grad_weight_scratch(size: &MatMul) -> u64 {
    let (slices, _) = size.slices();
    reduce_rows::slice_bytes(slices, size.weight_elements())
}

/// dw = xᵀ · dy.
pub fn grad_weight(size: &MatMul, x: Slice, dy: Slice, scratch: Slice, dw: Slice) -> Vec<Launch> {
    let (slices, slice_rows) = size.slices();
    let uniform = Size { slices: slices as u32, slice_rows: slice_rows as u32, ..size.uniform() };
    let pairs = |features: usize| (pitch(features) / 4).div_ceil(2) as u64;
    let invocations = slices as u64 * pairs(size.in_features) * pairs(size.out_features);
    let launch = size.launch("grad_weight", uniform, invocations);
    let partial = Launch { reads: vec![x, dy], ..launch };
    reduce_rows::add_slices(partial, slices, size.weight_elements(), scratch, dw)
}
