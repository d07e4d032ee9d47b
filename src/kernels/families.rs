//! Operations in any family: one function per operation, so that whoever plans or measures need not know which files
//! implement them. Where a family lacks a kernel the direct one runs ([`Family::or_direct`]).

use super::attention::{self, Attention};
use super::attention_tiled;
use super::conv3x3::{self, Conv3x3};
use super::conv3x3_subgroup;
use super::conv3x3_tiled;
use super::matmul::{self, MatMul};
use super::matmul_subgroup;
use super::matmul_tiled;
use crate::gpu::{Launch, Slice};
use crate::variants::{Family, Key, Operation};

impl Conv3x3 {
    /// This convolution as key of a tuning table.
    pub fn key(&self, operation: Operation) -> Key {
        let Conv3x3 { batch, height, width, in_channels, out_channels, stride } = *self;
        Key { operation, shape: vec![batch, height, width, in_channels, out_channels, stride] }
    }

    /// The convolution of a key; `None`: it is of another operation.
    pub fn of_key(key: &Key) -> Option<Conv3x3> {
        match (key.operation, key.shape.as_slice()) {
            (
                Operation::ConvForward | Operation::ConvGradInput | Operation::ConvGradWeight,
                &[batch, height, width, in_channels, out_channels, stride],
            ) => Some(Conv3x3 { batch, height, width, in_channels, out_channels, stride }),
            _ => None,
        }
    }
}

impl MatMul {
    /// This product as key of a tuning table.
    pub fn key(&self, operation: Operation) -> Key {
        Key { operation, shape: vec![self.rows, self.in_features, self.out_features] }
    }

    /// The product of a key; `None`: it is of another operation.
    pub fn of_key(key: &Key) -> Option<MatMul> {
        match (key.operation, key.shape.as_slice()) {
            (
                Operation::MatmulForward | Operation::MatmulGradInput | Operation::MatmulGradWeight,
                &[rows, in_features, out_features],
            ) => Some(MatMul { rows, in_features, out_features }),
            _ => None,
        }
    }
}

impl Attention {
    /// This attention as key of a tuning table; the order of q, k and v makes no difference there.
    pub fn key(&self, operation: Operation) -> Key {
        Key { operation, shape: vec![self.batch, self.tokens, self.channels, self.heads] }
    }

    /// The attention of a key, in the legacy order; `None`: it is of another operation.
    pub fn of_key(key: &Key) -> Option<Attention> {
        match (key.operation, key.shape.as_slice()) {
            (Operation::AttentionForward | Operation::AttentionGrad, &[batch, tokens, channels, heads]) => {
                Some(Attention { batch, tokens, channels, heads, new_order: false })
            }
            _ => None,
        }
    }
}

/// [`conv3x3::forward`].
pub fn conv_forward(
    family: Family,
    size: &Conv3x3,
    x: Slice,
    weight: Slice,
    bias: Option<Slice>,
    residual: Option<Slice>,
    y: Slice,
) -> Vec<Launch> {
    match family.or_direct(&size.key(Operation::ConvForward)) {
        Family::Direct => conv3x3::forward(size, x, weight, bias, residual, y),
        Family::Tiled => conv3x3_tiled::forward(size, x, weight, bias, residual, y),
        Family::Subgroup => conv3x3_subgroup::forward(size, x, weight, bias, residual, y),
    }
}

/// [`conv3x3::grad_input`].
pub fn conv_grad_input(family: Family, size: &Conv3x3, dy: Slice, weight: Slice, dx: Slice) -> Vec<Launch> {
    match family.or_direct(&size.key(Operation::ConvGradInput)) {
        Family::Direct => conv3x3::grad_input(size, dy, weight, dx),
        Family::Tiled => conv3x3_tiled::grad_input(size, dy, weight, dx),
        Family::Subgroup => conv3x3_subgroup::grad_input(size, dy, weight, dx),
    }
}

/// [`conv3x3::grad_weight_scratch`].
pub fn conv_grad_weight_scratch(family: Family, size: &Conv3x3) -> u64 {
    match family.or_direct(&size.key(Operation::ConvGradWeight)) {
        Family::Direct => conv3x3::grad_weight_scratch(size),
        Family::Tiled => conv3x3_tiled::grad_weight_scratch(size),
        Family::Subgroup => conv3x3_subgroup::grad_weight_scratch(size),
    }
}

/// [`conv3x3::grad_weight`].
pub fn conv_grad_weight(
    family: Family,
    size: &Conv3x3,
    x: Slice,
    dy: Slice,
    scratch: Slice,
    dw: Slice,
) -> Vec<Launch> {
    match family.or_direct(&size.key(Operation::ConvGradWeight)) {
        Family::Direct => conv3x3::grad_weight(size, x, dy, scratch, dw),
        Family::Tiled => conv3x3_tiled::grad_weight(size, x, dy, scratch, dw),
        Family::Subgroup => conv3x3_subgroup::grad_weight(size, x, dy, scratch, dw),
    }
}

/// [`matmul::forward`].
pub fn matmul_forward(
    family: Family,
    size: &MatMul,
    x: Slice,
    weight: Slice,
    bias: Option<Slice>,
    residual: Option<Slice>,
    y: Slice,
) -> Vec<Launch> {
    match family {
        Family::Direct => matmul::forward(size, x, weight, bias, residual, y),
        Family::Tiled => matmul_tiled::forward(size, x, weight, bias, residual, y),
        Family::Subgroup => matmul_subgroup::forward(size, x, weight, bias, residual, y),
    }
}

/// [`matmul::grad_input`].
pub fn matmul_grad_input(family: Family, size: &MatMul, dy: Slice, weight: Slice, dx: Slice) -> Vec<Launch> {
    match family {
        Family::Direct => matmul::grad_input(size, dy, weight, dx),
        Family::Tiled => matmul_tiled::grad_input(size, dy, weight, dx),
        Family::Subgroup => matmul_subgroup::grad_input(size, dy, weight, dx),
    }
}

/// [`matmul::grad_weight_scratch`].
pub fn matmul_grad_weight_scratch(family: Family, size: &MatMul) -> u64 {
    match family {
        Family::Direct => matmul::grad_weight_scratch(size),
        Family::Tiled => matmul_tiled::grad_weight_scratch(size),
        Family::Subgroup => matmul_subgroup::grad_weight_scratch(size),
    }
}

/// [`matmul::grad_weight`].
pub fn matmul_grad_weight(
    family: Family,
    size: &MatMul,
    x: Slice,
    dy: Slice,
    scratch: Slice,
    dw: Slice,
) -> Vec<Launch> {
    match family {
        Family::Direct => matmul::grad_weight(size, x, dy, scratch, dw),
        Family::Tiled => matmul_tiled::grad_weight(size, x, dy, scratch, dw),
        Family::Subgroup => matmul_subgroup::grad_weight(size, x, dy, scratch, dw),
    }
}

/// [`attention::forward`].
pub fn attention_forward(
    family: Family,
    size: &Attention,
    qkv: Slice,
    out: Slice,
    lse: Slice,
) -> Vec<Launch> {
    match family {
        Family::Direct | Family::Subgroup => attention::forward(size, qkv, out, lse),
        Family::Tiled => attention_tiled::forward(size, qkv, out, lse),
    }
}

/// [`attention::grad_scratch`].
pub fn attention_grad_scratch(family: Family, size: &Attention) -> u64 {
    match family {
        Family::Direct | Family::Subgroup => attention::grad_scratch(size),
        Family::Tiled => attention_tiled::grad_scratch(size),
    }
}

/// [`attention::grad`], with the four tensors it reads as \[qkv, out, lse, dout\].
pub fn attention_grad(
    family: Family,
    size: &Attention,
    [qkv, out, lse, dout]: [Slice; 4],
    scratch: Slice,
    dqkv: Slice,
) -> Vec<Launch> {
    match family {
        Family::Direct | Family::Subgroup => attention::grad(size, qkv, out, lse, dout, scratch, dqkv),
        Family::Tiled => attention_tiled::grad(size, qkv, out, lse, dout, scratch, dqkv),
    }
}
