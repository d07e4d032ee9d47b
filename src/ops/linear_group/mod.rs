//! Several linear layers of one input, whose rows are few, in one launch: `wgsl/linear_group.wgsl`.
//!
//! Their results lie in one tensor, and each is a view of it; of the gradient the views' gradients are the parts.

mod absorbed;
mod launches;
mod parts;

use crate::error::{Error, Result};
use crate::families::Choices;
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Graph, Node, NodeId, Operation, Upstream};
use crate::tensor::{device_bytes, pitch};
use std::sync::Arc;

pub(super) use absorbed::OfBatchNorm;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use launches::gradients;
pub use launches::{Target, forward, grad_input, grad_weights};

/// Results begin at multiples of this many bytes, WebGPU's alignment of bindings.
const ALIGNMENT: u64 = 256;

/// Sizes of linear layers \[rows, in\] · \[in, out\] of one input; a node's inputs are that and then weight and bias of each.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearGroup {
    /// Rows: samples.
    pub rows: usize,
    /// Input features.
    pub in_features: usize,
    /// Output features of each layer.
    pub out_features: Vec<usize>,
    /// Whether they read SiLU of the input.
    pub silu: bool,
}

impl LinearGroup {
    /// First bytes of the layers' results in the tensor of all, and its size.
    pub fn offsets(&self) -> Vec<u64> {
        let mut offsets = vec![0u64];
        let mut end = 0u64;
        for out in &self.out_features {
            let bytes = device_bytes(&[self.rows, *out]);
            // What is too large for any device is refused when the graph is compiled.
            end = end.saturating_add(bytes).checked_next_multiple_of(ALIGNMENT).unwrap_or(u64::MAX);
            offsets.push(end);
        }
        offsets
    }

    /// Shape of the tensor of all results.
    fn shape(&self) -> Vec<usize> {
        vec![self.offsets().last().map_or(0, |end| end / 4) as usize]
    }

    /// The layers whose results have a gradient, in order.
    fn differentiated(&self, graph: &Graph, dy: NodeId) -> Vec<usize> {
        let (offsets, parts) = (self.offsets(), graph.parts(dy));
        let known = |layer: &usize| parts.as_ref().is_none_or(|parts| parts.contains(&offsets[*layer]));
        (0..self.out_features.len()).filter(known).collect()
    }
}

impl Operation for LinearGroup {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let layers: Vec<[Slice; 2]> =
            context.inputs[1..].chunks_exact(2).map(|layer| [layer[0], layer[1]]).collect();
        forward(self, context.inputs[0], &layers, context.output)
    }

    fn storable(&self) -> bool {
        false
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        let layers = self.differentiated(graph, at.dy);
        let (x, size) = (at.inputs[0], self.clone());
        if at.position == 0 {
            let weights = layers.iter().map(|layer| at.inputs[1 + 2 * layer]);
            let inputs = [x, at.dy].into_iter().chain(weights).collect();
            return Ok(Some(graph.push_like(x, GradInput { size, layers }, inputs)));
        }
        let (layer, bias) = ((at.position - 1) / 2, (at.position - 1) % 2);
        let Some(number) = layers.iter().position(|known| *known == layer) else { return Ok(None) };
        // All of them are one operation; what nobody asks for is not computed.
        let op = GradWeights { size, layers };
        let made = match graph.find(&op, &[x, at.dy]) {
            Some(made) => made,
            None => {
                let parameters = op.layers.iter().flat_map(|layer| [1 + 2 * layer, 2 + 2 * layer]);
                let shapes = parameters.map(|position| graph.shape(at.inputs[position]).to_vec());
                let shapes: Vec<Vec<usize>> = shapes.collect();
                let gradients = shapes.iter().map(|shape| graph.reserve(shape)).collect();
                graph.push_updating(op, vec![x, at.dy], gradients, Vec::new())
            }
        };
        Ok(graph.node(made).updates.get(2 * number + bias).copied())
    }

    fn absorb(
        &self,
        inputs: &[NodeId],
        position: usize,
        maker: &Node,
        choices: &Choices,
    ) -> Option<(Arc<dyn Operation>, Vec<NodeId>)> {
        absorbed::layers(self, inputs, position, maker, choices)
    }
}

/// Of x, dy, the weights of some layers.
#[derive(Debug)]
struct GradInput {
    size: LinearGroup,
    layers: Vec<usize>,
}

impl Operation for GradInput {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let (operands, weights, dx) = (context.first(), &context.inputs[2..], context.output);
        grad_input(&self.size, &self.layers, operands, weights, || context.scratch(dx.bytes), dx)
    }
}

/// Of x, dy; updates the gradients of weight and bias of each of some layers.
#[derive(Clone, Debug, PartialEq)]
struct GradWeights {
    size: LinearGroup,
    layers: Vec<usize>,
}

impl GradWeights {
    /// The gradients that are asked for.
    fn targets(&self, context: &Context<'_>) -> Vec<Target> {
        let gradients = context.updates.iter().zip(context.read).enumerate();
        let asked = gradients.filter(|(_, (_, read))| **read);
        let target = |(number, (to, _)): (usize, (&Slice, &bool))| Target {
            layer: self.layers[number / 2],
            bias: number % 2 == 1,
            to: *to,
        };
        asked.map(target).collect()
    }
}

impl Operation for GradWeights {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        grad_weights(&self.size, context.inputs[0], context.inputs[1], &self.targets(context))
    }

    fn absorb(
        &self,
        inputs: &[NodeId],
        position: usize,
        maker: &Node,
        choices: &Choices,
    ) -> Option<(Arc<dyn Operation>, Vec<NodeId>)> {
        absorbed::grad_weights(self, inputs, position, maker, choices)
    }

    fn joins_updates(&self) -> bool {
        true
    }
}

impl Graph {
    /// x · weight + bias over the last dimension for each weight \[pitch(in), out\] and bias of `layers`, of SiLU of `x` where
    /// `silu`: one launch for all of them where their memory lies together, and for those of other calls with the same `x`,
    /// which are the same results where they are of the same weights. Meant for few rows.
    ///
    /// # Errors
    /// [`Error::Shape`] where a weight or bias does not fit.
    pub fn linear_group(&mut self, x: NodeId, layers: &[[NodeId; 2]], silu: bool) -> Result<Vec<NodeId>> {
        let Some((&in_features, rows)) = self.shape(x).split_last() else {
            return Err(Error::shape("linear_group", "x needs at least one dimension"));
        };
        let lead = rows.to_vec();
        for [weight, bias] in layers {
            let out = self.shape(*weight).last().copied().unwrap_or(0);
            self.expect("linear_group", "weight", *weight, &[pitch(in_features), out])?;
            self.expect("linear_group", "bias", *bias, &[out])?;
        }
        if layers.is_empty() {
            return Ok(Vec::new());
        }
        let new = LinearGroup { rows: lead.iter().product(), in_features, out_features: Vec::new(), silu };
        let (made, mut group) = match self.open_group(x, layers, silu) {
            Some(known) => known,
            None => (self.push(new.clone(), vec![x], new.shape()), new),
        };
        let mut results = Vec::new();
        for layer in layers {
            let out = self.shape(layer[1]).last().copied().unwrap_or(0);
            let known = self.node(made).inputs[1..].chunks_exact(2).position(|known| known == layer);
            let number = known.unwrap_or_else(|| {
                group.out_features.push(out);
                self.nodes[made.index()].inputs.extend(layer);
                group.out_features.len() - 1
            });
            let offset = group.offsets()[number];
            results.push(self.view(made, offset, lead.iter().copied().chain([out]).collect()));
        }
        let node = &mut self.nodes[made.index()];
        node.shape = group.shape();
        node.op = Arc::new(group);
        Ok(results)
    }

    /// The last layers of `x` that `layers` may join: whose own memory is given before them and stays as it is since.
    fn open_group(&self, x: NodeId, layers: &[[NodeId; 2]], silu: bool) -> Option<(NodeId, LinearGroup)> {
        let known = self.nodes.iter().rposition(|node| {
            let of_x = node.inputs.first() == Some(&x);
            of_x && node.op.downcast_ref::<LinearGroup>().is_some_and(|group| group.silu == silu)
        })?;
        let parameters = layers.as_flattened();
        let input = self.node(x);
        let stays = match input.place {
            Some(_) => self.are_given(known, &[x]),
            // What others write may be written again; a view is of an operation's own result.
            None => !input.is_memory() || input.op.view().is_some(),
        };
        let open = stays && parameters.iter().all(|p| p.index() < known) && self.are_given(known, parameters);
        let made = NodeId(known as u32);
        open.then(|| self.operation::<LinearGroup>(made).cloned()).flatten().map(|group| (made, group))
    }
}
