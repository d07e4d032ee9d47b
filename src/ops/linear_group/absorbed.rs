//! Linear layers that make what they read by themselves ([`Operation::absorb`]), on GPUs, where a launch costs more than making it
//! once for every workgroup: the embedding of timesteps, and BatchNorm by running statistics, as a classifier's head has it, with
//! the gradients of both.

use super::launches::{Reading, forward_of, grad_input_of, grad_weights_of};
use super::{GradWeights, LinearGroup};
use crate::families::Choices;
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Node, NodeId, Operation};
use crate::ops::timestep_embedding;
use std::sync::Arc;

/// An operation and what it reads.
type Absorbed = (Arc<dyn Operation>, Vec<NodeId>);

/// Fewest rows of which matrix products have kernels that fill a GPU.
const MANY_ROWS: usize = 64;

/// Of timesteps, weights and biases, frequencies.
#[derive(Debug)]
struct OfTimesteps {
    size: LinearGroup,
    half: usize,
}

impl Operation for OfTimesteps {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let (frequencies, layers) = split_last(&context.inputs[1..]);
        let reading = Reading::Embedding { half: self.half, frequencies };
        let layers: Vec<[Slice; 2]> = layers.chunks_exact(2).map(|layer| [layer[0], layer[1]]).collect();
        forward_of(&self.size, &reading, context.inputs[0], &layers, context.output)
    }
}

/// Of timesteps, dy, frequencies; updates the gradients of weight and bias of each of some layers.
#[derive(Debug)]
struct WeightsOfTimesteps {
    of: GradWeights,
    half: usize,
}

impl Operation for WeightsOfTimesteps {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let [t, dy, frequencies] = context.first();
        let reading = Reading::Embedding { half: self.half, frequencies };
        grad_weights_of(&self.of.size, &reading, [t, dy], &self.of.targets(context))
    }

    fn joins_updates(&self) -> bool {
        true
    }
}

fn split_last(slices: &[Slice]) -> (Slice, &[Slice]) {
    (slices[slices.len() - 1], &slices[..slices.len() - 1])
}

/// [`Operation::absorb`] of layers.
pub(super) fn layers(
    size: &LinearGroup,
    inputs: &[NodeId],
    position: usize,
    maker: &Node,
    choices: &Choices,
) -> Option<Absorbed> {
    let half = timestep_embedding::frequencies_of(maker)?;
    let able = choices.is_gpu() && position == 0 && !size.silu;
    able.then(|| {
        let op: Arc<dyn Operation> = Arc::new(OfTimesteps { size: size.clone(), half });
        (op, [&maker.inputs[..1], &inputs[1..], &maker.inputs[1..2]].concat())
    })
}

/// [`Operation::absorb`] of the gradients of layers' weights.
pub(super) fn grad_weights(
    of: &GradWeights,
    inputs: &[NodeId],
    position: usize,
    maker: &Node,
    choices: &Choices,
) -> Option<Absorbed> {
    let half = timestep_embedding::frequencies_of(maker)?;
    let able = choices.is_gpu() && position == 0 && !of.size.silu;
    able.then(|| {
        let op: Arc<dyn Operation> = Arc::new(WeightsOfTimesteps { of: of.clone(), half });
        (op, vec![maker.inputs[0], inputs[1], maker.inputs[1]])
    })
}

/// A linear layer of few rows behind a BatchNorm by running statistics. Of x, running statistics, gain, offset, weight, bias.
#[derive(Debug)]
pub(in crate::ops) struct OfBatchNorm {
    size: LinearGroup,
    slope: f32,
}

impl OfBatchNorm {
    /// One of rows \[rows, in\] with a LeakyReLU of `slope` before the norm, where a GPU runs it.
    pub fn new(
        rows: usize,
        [in_features, out_features]: [usize; 2],
        slope: f32,
        choices: &Choices,
    ) -> Option<OfBatchNorm> {
        let size = LinearGroup { rows, in_features, out_features: vec![out_features], silu: false };
        (choices.is_gpu() && rows < MANY_ROWS).then_some(OfBatchNorm { size, slope })
    }

    /// Its gradient for x. Of x (without LeakyReLU anything), running statistics, gain, weight, dy.
    pub fn grad_input(self) -> impl Operation {
        GradOfBatchNorm(self)
    }
}

impl Operation for OfBatchNorm {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let [x, running, gain, offset, weight, bias] = context.first();
        let reading = Reading::BatchNorm { slope: self.slope, running, gain, offset };
        forward_of(&self.size, &reading, x, &[[weight, bias]], context.output)
    }
}

#[derive(Debug)]
struct GradOfBatchNorm(OfBatchNorm);

impl Operation for GradOfBatchNorm {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let OfBatchNorm { size, slope } = &self.0;
        let ([x, running, gain, weight, dy], dx) = (context.first(), context.output);
        let reading = Reading::BatchNorm { slope: *slope, running, gain, offset: gain };
        // One layer is one launch.
        grad_input_of(size, &reading, &[0], [x, dy], &[weight], || dx, dx)
    }
}
