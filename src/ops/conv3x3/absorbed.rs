//! Convolutions in tiles that make what they read by themselves ([`Operation::absorb`]): an expansion to twice the size, and a
//! product that is added, as residual blocks have it where channels change.

use super::tiled::{self, Beside, Passing};
use super::{Conv3x3, Conv3x3Forward, Conv3x3GradWeight};
use crate::families::{Choices, Family, KeyKind};
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Node, NodeId, Operation};
use crate::ops::matmul::{self, Product};
use crate::ops::{reduce_rows, resample};
use std::sync::Arc;

/// An operation and what it reads.
type Absorbed = (Arc<dyn Operation>, Vec<NodeId>);

/// Of x, weight, \[bias\], and then a residual or what a product reads: x, weight, \[bias\], \[other\].
#[derive(Clone, Copy, Debug)]
pub(super) struct Absorbing {
    size: Conv3x3,
    bias: bool,
    residual: bool,
    /// Whether x is half as high and wide as what the convolution sees.
    expanded: bool,
    product: Option<Product>,
}

impl From<&Conv3x3Forward> for Absorbing {
    fn from(plain: &Conv3x3Forward) -> Absorbing {
        let Conv3x3Forward { size, bias, residual } = *plain;
        Absorbing { size, bias, residual, expanded: false, product: None }
    }
}

impl Operation for Absorbing {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let [x, weight] = context.first();
        let bias = context.optional(self.bias, 2);
        let own = 2 + usize::from(self.bias);
        let residual = context.optional(self.residual, own);
        let passing = self.product.map(|Product { size, first, bias }| {
            let there: &[Slice] = &context.inputs[own..];
            let tensors = [there[0], there[there.len() - 1]];
            Passing { size, first, tensors, weight: there[1], bias: bias.then(|| there[2]) }
        });
        let beside = Beside { expanded: self.expanded, passing };
        tiled::forward_beside(&self.size, [x, weight], bias, residual, &beside, context.output)
    }

    fn absorb(
        &self,
        inputs: &[NodeId],
        position: usize,
        maker: &Node,
        choices: &Choices,
    ) -> Option<Absorbed> {
        if choices.family(&self.size.key(KeyKind::ConvForward)) != Family::Tiled {
            return None;
        }
        let (mut other, mut inputs) = (*self, inputs.to_vec());
        if position == 0 && resample::doubles(maker) && !self.expanded {
            other.expanded = true;
            inputs[0] = maker.inputs[0];
        } else if self.residual && position == 2 + usize::from(self.bias) {
            let product = matmul::product_in_tiles(maker, choices)?;
            other = Absorbing { residual: false, product: Some(product), ..other };
            inputs.truncate(position);
            inputs.extend(&maker.inputs);
        } else {
            return None;
        }
        Some((Arc::new(other), inputs))
    }

    fn reads_half(&self, position: usize) -> bool {
        // Of the residual or the product's tensors, all but weights and biases.
        let own = 2 + usize::from(self.bias);
        let parameters = self.product.map_or(0, |product| 1 + usize::from(product.bias));
        position == 0 || position == own || position > own + parameters
    }

    fn writes_half(&self) -> bool {
        true
    }
}

/// Of x, which is half as high and wide as what the convolution saw, dy; updates the gradient of the bias, where there is one.
#[derive(Debug)]
struct ExpandedGradWeight(Conv3x3);

impl Operation for ExpandedGradWeight {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let bytes = tiled::grad_weight_scratch(&self.0);
        let scratch = context.scratch(reduce_rows::both_scratches(bytes));
        let scratches = reduce_rows::split_scratch(scratch, bytes);
        let bias = context.updates.first().copied();
        tiled::grad_weight_of(&self.0, true, context.first(), scratches, context.output, bias)
    }

    fn reads_half(&self, _position: usize) -> bool {
        true
    }
}

/// [`Operation::absorb`] of the gradient of a weight.
pub(super) fn grad_weight(
    of: &Conv3x3GradWeight,
    inputs: &[NodeId],
    position: usize,
    maker: &Node,
    choices: &Choices,
) -> Option<Absorbed> {
    let tiled = choices.family(&of.size.key(KeyKind::ConvGradWeight)) == Family::Tiled;
    let able = tiled && position == 0 && resample::doubles(maker);
    able.then(|| {
        let op: Arc<dyn Operation> = Arc::new(ExpandedGradWeight(of.size));
        (op, vec![maker.inputs[0], inputs[1]])
    })
}
