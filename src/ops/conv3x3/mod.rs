//! 3×3 convolution with padding 1, stride 1 or 2, and its gradients.
//!
//! The families: `direct` (`wgsl/conv3x3.wgsl`, `wgsl/conv3x3_strided.wgsl`, `wgsl/conv3x3_weight.wgsl`), `tiled`
//! (`wgsl/conv3x3_tiled.wgsl`, `wgsl/conv3x3_weight_tiled.wgsl`), `subgroup` (`wgsl/conv3x3_subgroup.wgsl`,
//! `wgsl/conv3x3_strided_subgroup.wgsl`, `wgsl/conv3x3_weight_subgroup.wgsl`) and `cooperative` (`wgsl/conv3x3_cooperative.wgsl`).
//! Where a family lacks a kernel another one runs ([`Family::or_direct`]).

mod absorbed;
mod cooperative;
mod direct;
pub mod naive;
mod subgroup;
mod tiled;

use crate::error::{Error, Result};
use crate::families::{Choices, Family, Key, KeyKind};
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Graph, Node, NodeId, Operation, Upstream};
use crate::ops::reduce_rows;
use crate::tensor::pitch;
use absorbed::Absorbing;
use std::sync::Arc;

/// Sizes of one convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv3x3 {
    /// Images.
    pub batch: usize,
    /// Height of the input.
    pub height: usize,
    /// Width of the input.
    pub width: usize,
    /// Input channels.
    pub in_channels: usize,
    /// Output channels.
    pub out_channels: usize,
    /// 1 or 2.
    pub stride: usize,
}

#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Size {
    pub batch: u32,
    pub in_height: u32,
    pub in_width: u32,
    pub in_quads: u32,
    pub out_height: u32,
    pub out_width: u32,
    pub out_quads: u32,
    pub weight_quads: u32,
    pub weight_rows: u32,
    pub stride: u32,
    pub has_bias: u32,
    pub has_residual: u32,
    pub slices: u32,
    pub slice_rows: u32,
    pub transposed: u32,
    pub pad: u32,
}

/// Names of what a forward kernel binds (`Launch::stored`): x, weight, bias, residual and y.
const FORWARD: [&str; 5] = ["Source", "", "", "Residual", "Result"];
/// Of a weight's gradient: x and dy.
const GRAD_WEIGHT: [&str; 2] = ["Source", "Upstream"];

impl Conv3x3 {
    /// Height of the output.
    pub fn out_height(&self) -> usize {
        (self.height - 1) / self.stride + 1
    }

    /// Width of the output.
    pub fn out_width(&self) -> usize {
        (self.width - 1) / self.stride + 1
    }

    fn out_pixels(&self) -> usize {
        self.batch * self.out_height() * self.out_width()
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
        9 * (self.out_pixels() * self.in_channels * self.out_channels) as u64
    }

    /// The struct of a pass that reads the input side and writes the output side.
    pub(super) fn uniform(&self) -> Size {
        Size {
            batch: self.batch as u32,
            in_height: self.height as u32,
            in_width: self.width as u32,
            in_quads: (pitch(self.in_channels) / 4) as u32,
            out_height: self.out_height() as u32,
            out_width: self.out_width() as u32,
            out_quads: (pitch(self.out_channels) / 4) as u32,
            weight_quads: (pitch(self.out_channels) / 4) as u32,
            weight_rows: pitch(self.in_channels) as u32,
            stride: self.stride as u32,
            ..Size::default()
        }
    }

    /// The struct of a pass that reads the output side and writes the input side.
    pub(super) fn transposed(&self) -> Size {
        let there = self.uniform();
        Size {
            in_height: there.out_height,
            in_width: there.out_width,
            in_quads: there.out_quads,
            out_height: there.in_height,
            out_width: there.in_width,
            out_quads: there.in_quads,
            transposed: 1,
            ..there
        }
    }

    pub(super) fn weight_elements(&self) -> usize {
        9 * pitch(self.in_channels) * pitch(self.out_channels)
    }

    /// This convolution as key of a tuning table.
    pub fn key(&self, operation: KeyKind) -> Key {
        let Conv3x3 { batch, height, width, in_channels, out_channels, stride } = *self;
        Key { operation, shape: vec![batch, height, width, in_channels, out_channels, stride] }
    }

    /// The convolution of a key; `None`: it is of another operation.
    pub fn of_key(key: &Key) -> Option<Conv3x3> {
        match (key.operation, key.shape.as_slice()) {
            (
                KeyKind::ConvForward | KeyKind::ConvGradInput | KeyKind::ConvGradWeight,
                &[batch, height, width, in_channels, out_channels, stride],
            ) => Some(Conv3x3 { batch, height, width, in_channels, out_channels, stride }),
            _ => None,
        }
    }
}

/// y = conv(x, weight) (+ bias) (+ residual).
pub fn forward(
    family: Family,
    size: &Conv3x3,
    x: Slice,
    weight: Slice,
    bias: Option<Slice>,
    residual: Option<Slice>,
    y: Slice,
) -> Vec<Launch> {
    let run = match family.or_direct(&size.key(KeyKind::ConvForward)) {
        Family::Direct => direct::forward,
        Family::Tiled => tiled::forward,
        Family::Subgroup => subgroup::forward,
        Family::Cooperative => cooperative::forward,
    };
    run(size, x, weight, bias, residual, y)
}

/// dx of dy (+ addend).
pub fn grad_input(
    family: Family,
    size: &Conv3x3,
    dy: Slice,
    weight: Slice,
    addend: Option<Slice>,
    dx: Slice,
) -> Vec<Launch> {
    let run = match family.or_direct(&size.key(KeyKind::ConvGradInput)) {
        Family::Direct => direct::grad_input,
        Family::Tiled => tiled::grad_input,
        Family::Subgroup => subgroup::grad_input,
        Family::Cooperative => cooperative::grad_input,
    };
    run(size, dy, weight, addend, dx)
}

/// Bytes of scratch that [`grad_weight`] needs for the weight, and for the bias.
fn grad_weight_scratches(family: Family, size: &Conv3x3) -> [u64; 2] {
    let weight = match family.or_direct(&size.key(KeyKind::ConvGradWeight)) {
        Family::Direct => direct::grad_weight_scratch(size),
        Family::Tiled | Family::Cooperative => return tiled::grad_weight_scratch(size),
        Family::Subgroup => subgroup::grad_weight_scratch(size),
    };
    [weight, reduce_rows::scratch(size.out_pixels(), size.out_channels)]
}

/// Bytes of scratch that [`grad_weight`] needs.
pub fn grad_weight_scratch(family: Family, size: &Conv3x3) -> u64 {
    reduce_rows::both_scratches(grad_weight_scratches(family, size))
}

/// dw of x and dy; the gradient of the bias too, where `db` is given.
pub fn grad_weight(
    family: Family,
    size: &Conv3x3,
    x: Slice,
    dy: Slice,
    scratch: Slice,
    dw: Slice,
    db: Option<Slice>,
) -> Vec<Launch> {
    let scratches = reduce_rows::split_scratch(scratch, grad_weight_scratches(family, size));
    let run = match family.or_direct(&size.key(KeyKind::ConvGradWeight)) {
        Family::Direct => direct::grad_weight,
        Family::Tiled | Family::Cooperative => {
            return tiled::grad_weight(size, x, dy, scratches, dw, db);
        }
        Family::Subgroup => subgroup::grad_weight,
    };
    let mut launches = run(size, x, dy, scratches[0], dw);
    let sum = |db| reduce_rows::launches(size.out_pixels(), size.out_channels, dy, scratches[1], db);
    launches.extend(db.into_iter().flat_map(sum));
    launches
}

/// Of x, weight, \[bias\], \[residual\].
#[derive(Debug)]
struct Conv3x3Forward {
    size: Conv3x3,
    bias: bool,
    residual: bool,
}

impl Operation for Conv3x3Forward {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let family = context.family(&self.size.key(KeyKind::ConvForward));
        let [x, weight] = context.first();
        let bias = context.optional(self.bias, 2);
        let residual = context.optional(self.residual, 2 + usize::from(self.bias));
        forward(family, &self.size, x, weight, bias, residual, context.output)
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        let (x, weight, dy) = (at.inputs[0], at.inputs[1], at.dy);
        Ok(Some(match at.position {
            0 => graph.push_like(x, Conv3x3GradInput { size: self.size, addend: false }, vec![dy, weight]),
            1 => {
                let op = Conv3x3GradWeight { size: self.size, bias: self.bias };
                graph.push_with_bias(op, self.bias, vec![x, dy], weight)
            }
            2 if self.bias => {
                graph.gradient_of_bias(&Conv3x3GradWeight { size: self.size, bias: true }, &[x, dy], dy)
            }
            _ => dy,
        }))
    }

    fn keys(&self) -> Vec<Key> {
        vec![self.size.key(KeyKind::ConvForward)]
    }

    fn absorb(
        &self,
        inputs: &[NodeId],
        position: usize,
        maker: &Node,
        choices: &Choices,
    ) -> Option<(Arc<dyn Operation>, Vec<NodeId>)> {
        Absorbing::from(self).absorb(inputs, position, maker, choices)
    }

    fn reads_half(&self, position: usize) -> bool {
        position == 0 || (self.residual && position == 2 + usize::from(self.bias))
    }

    fn writes_half(&self) -> bool {
        true
    }
}

/// Of dy, weight, \[addend\].
#[derive(Clone, Copy, Debug)]
struct Conv3x3GradInput {
    size: Conv3x3,
    addend: bool,
}

impl Operation for Conv3x3GradInput {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let family = context.family(&self.size.key(KeyKind::ConvGradInput));
        let addend = context.optional(self.addend, 2);
        grad_input(family, &self.size, context.inputs[0], context.inputs[1], addend, context.output)
    }

    fn with_addend(&self) -> Option<Arc<dyn Operation>> {
        let other: Arc<dyn Operation> = Arc::new(Conv3x3GradInput { addend: true, ..*self });
        Some(other).filter(|_| !self.addend)
    }

    fn keys(&self) -> Vec<Key> {
        vec![self.size.key(KeyKind::ConvGradInput)]
    }

    fn reads_half(&self, position: usize) -> bool {
        position != 1
    }

    fn writes_half(&self) -> bool {
        true
    }
}

/// Of x, dy; updates the gradient of the bias, where there is one.
#[derive(Debug, PartialEq)]
struct Conv3x3GradWeight {
    size: Conv3x3,
    bias: bool,
}

impl Operation for Conv3x3GradWeight {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let size = &self.size;
        let family = context.family(&size.key(KeyKind::ConvGradWeight));
        let scratch = context.scratch(grad_weight_scratch(family, size));
        let [x, dy] = context.first();
        grad_weight(family, size, x, dy, scratch, context.output, context.updates.first().copied())
    }

    fn keys(&self) -> Vec<Key> {
        vec![self.size.key(KeyKind::ConvGradWeight)]
    }

    fn absorb(
        &self,
        inputs: &[NodeId],
        position: usize,
        maker: &Node,
        choices: &Choices,
    ) -> Option<(Arc<dyn Operation>, Vec<NodeId>)> {
        absorbed::grad_weight(self, inputs, position, maker, choices)
    }

    fn reads_half(&self, _position: usize) -> bool {
        true
    }
}

impl Graph {
    /// 3×3 convolution, padding 1, stride 1 or 2, of `x` \[N,H,W,C\] with `weight` \[9,pitch(C),K\]; `bias` \[K\] and
    /// `residual` (shape of the result) are added.
    pub fn conv3x3(
        &mut self,
        x: NodeId,
        weight: NodeId,
        stride: usize,
        bias: Option<NodeId>,
        residual: Option<NodeId>,
    ) -> Result<NodeId> {
        let [batch, height, width, in_channels] = self.image_shape("conv3x3", x)?;
        if !(1..=2).contains(&stride) {
            return Err(Error::shape("conv3x3", format!("stride must be 1 or 2, is {stride}")));
        }
        let out_channels = *self.shape(weight).last().unwrap_or(&0);
        self.expect("conv3x3", "weight", weight, &[9, pitch(in_channels), out_channels])?;
        let size = Conv3x3 { batch, height, width, in_channels, out_channels, stride };
        let shape = vec![batch, size.out_height(), size.out_width(), out_channels];
        let mut inputs = vec![x, weight];
        if let Some(bias) = bias {
            self.expect("conv3x3", "bias", bias, &[out_channels])?;
            inputs.push(bias);
        }
        if let Some(residual) = residual {
            self.expect("conv3x3", "residual", residual, &shape)?;
            inputs.push(residual);
        }
        let op = Conv3x3Forward { size, bias: bias.is_some(), residual: residual.is_some() };
        Ok(self.push(op, inputs, shape))
    }
}
