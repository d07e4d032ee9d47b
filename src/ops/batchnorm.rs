//! BatchNorm1d and its gradients, with what comes before it: `wgsl/batchnorm.wgsl`.
//!
//! A LeakyReLU whose result is normalised, in training also the dropout after it, is a part of the same launches, forward and
//! backward: both stay in the graph, where nothing runs for them unless something else reads their results.

use super::kernel::{WG, invocations, shader};
use super::linear_group::OfBatchNorm;
use super::matmul;
use super::pointwise::{Activate, Activation};
use super::random::Dropout;
use crate::error::{Error, Result};
use crate::families::Choices;
use crate::gpu::{Launch, Slice, spread};
use crate::graph::{Context, Graph, Node, NodeId, Operation, Upstream};
use crate::tensor::pitch;
use std::sync::Arc;

shader!("batchnorm");

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    batch: u32,
    quads: u32,
    slope: f32,
    drops: u32,
    stream: u32,
    threshold: u32,
    scale: f32,
    pad: u32,
}

/// A BatchNorm of values \[batch, features\].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm {
    /// Samples.
    pub batch: usize,
    /// Features of a sample.
    pub features: usize,
    /// Slope of the LeakyReLU before it, above 0; 1: there is none.
    pub slope: f32,
    /// Dropout between the two: its layer's number and its probability.
    pub dropout: Option<(u32, f32)>,
}

impl BatchNorm {
    /// Of values as they come.
    pub fn new(batch: usize, features: usize) -> BatchNorm {
        BatchNorm { batch, features, slope: 1.0, dropout: None }
    }

    fn quads(&self) -> usize {
        pitch(self.features) / 4
    }

    fn uniform(&self) -> Size {
        let [stream, threshold, scale] = match self.dropout {
            Some((layer, probability)) => Dropout::numbers(layer, probability),
            None => [0, 0, 0],
        };
        Size {
            batch: self.batch as u32,
            quads: self.quads() as u32,
            slope: self.slope,
            drops: u32::from(self.dropout.is_some()),
            stream,
            threshold,
            scale: f32::from_bits(scale),
            pad: 0,
        }
    }

    /// A launch of a workgroup for each vec4 of features.
    fn columns(&self, entry: &'static str, reads: Vec<Slice>, writes: Vec<Slice>) -> Vec<Launch> {
        vec![Launch {
            kernel: kernel(entry, &WG),
            reads,
            writes,
            uniform: bytemuck::bytes_of(&self.uniform()).to_vec(),
            workgroups: spread(self.quads() as u64),
            multiply_adds: 0,
            spare: 0,
        }]
    }
}

/// In training: y of x by the statistics of the batch, and z, what is normalised, for [`train_grad`]. The running statistics
/// \[2, features\] move towards those of the batch unless `learn` \[1\] is 0. Reads x, run (of dropout; without it anything),
/// learn, weight, bias; writes z, running, y.
pub fn train(of: &BatchNorm, reads: [Slice; 5], writes: [Slice; 3]) -> Vec<Launch> {
    of.columns("train", reads.to_vec(), writes.to_vec())
}

/// Gradients of x, weight and bias in training; reads z, run, dy, weight.
pub fn train_grad(of: &BatchNorm, reads: [Slice; 4], writes: [Slice; 3]) -> Vec<Launch> {
    of.columns("train_grad", reads.to_vec(), writes.to_vec())
}

/// y of x by the running statistics; reads x, running, weight, bias.
pub fn forward(of: &BatchNorm, reads: [Slice; 4], y: Slice) -> Vec<Launch> {
    let (count, uniform) = (of.batch * of.quads(), of.uniform());
    vec![invocations(kernel("forward", &WG), reads.to_vec(), vec![y], bytemuck::bytes_of(&uniform), count)]
}

/// dx of dy by the running statistics; reads x (without LeakyReLU anything of its size), dy, running, weight.
pub fn grad_input(of: &BatchNorm, reads: [Slice; 4], dx: Slice) -> Vec<Launch> {
    let (count, uniform) = (of.batch * of.quads(), of.uniform());
    vec![invocations(
        kernel("grad_input", &WG),
        reads.to_vec(),
        vec![dx],
        bytemuck::bytes_of(&uniform),
        count,
    )]
}

/// Gradients of weight and bias by the running statistics; reads x, dy, running.
pub fn grad_affine(of: &BatchNorm, reads: [Slice; 3], writes: [Slice; 2]) -> Vec<Launch> {
    let uniform = of.uniform();
    let (kernel, writes) = (kernel("grad_affine", &WG), writes.to_vec());
    vec![invocations(kernel, reads.to_vec(), writes, bytemuck::bytes_of(&uniform), of.quads())]
}

/// Of x, learn, weight, bias, \[run\]; updates the running statistics and z.
#[derive(Clone, Copy, Debug)]
struct Train(BatchNorm);

impl Operation for Train {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let [x, learn, weight, bias] = context.first();
        let run = context.optional(self.0.dropout.is_some(), 4).unwrap_or(learn);
        let [running, z] = [context.updates[0], context.updates[1]];
        train(&self.0, [x, run, learn, weight, bias], [z, running, context.output])
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        let [x, weight, bias] = [at.inputs[0], at.inputs[2], at.inputs[3]];
        // All of them are one operation's.
        let z = graph.node(at.node).updates[1];
        let inputs: Vec<NodeId> = [z, at.dy, weight].into_iter().chain(at.inputs.get(4).copied()).collect();
        let op = TrainGrad(self.0);
        let node = graph.find(&op, &inputs).unwrap_or_else(|| {
            let shapes = [weight, bias].map(|vector| graph.shape(vector).to_vec());
            let vectors = shapes.iter().map(|shape| graph.reserve(shape)).collect();
            let shape = graph.shape(x).to_vec();
            graph.push_updating(op, inputs, vectors, shape)
        });
        let vector = |number: usize| graph.node(node).updates.get(number).copied();
        Ok(match at.position {
            0 => Some(node),
            2 => vector(0),
            3 => vector(1),
            _ => None,
        })
    }
}

/// Of z, dy, weight, \[run\]; gives dx and updates the gradients of weight and bias.
#[derive(Debug, PartialEq)]
struct TrainGrad(BatchNorm);

impl Operation for TrainGrad {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let [z, dy, weight] = context.first();
        let run = context.optional(self.0.dropout.is_some(), 3).unwrap_or(weight);
        let [dw, db] = [context.updates[0], context.updates[1]];
        train_grad(&self.0, [z, run, dy, weight], [context.output, dw, db])
    }
}

/// Of x, running, weight, bias.
#[derive(Clone, Copy, Debug)]
struct Inference(BatchNorm);

impl Operation for Inference {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        forward(&self.0, context.first(), context.output)
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        let [x, running, weight] = [at.inputs[0], at.inputs[1], at.inputs[2]];
        if at.position == 0 {
            // Without an activation before it, it is the same everywhere.
            let seen = if self.0.slope == 1.0 { at.dy } else { x };
            let inputs = vec![seen, at.dy, running, weight];
            return Ok(Some(graph.push_like(x, GradInput(self.0), inputs)));
        }
        let op = GradAffine(self.0);
        let inputs = vec![x, at.dy, running];
        let node = graph.find(&op, &inputs).unwrap_or_else(|| {
            let shape = graph.shape(weight).to_vec();
            let vectors = vec![graph.reserve(&shape), graph.reserve(&shape)];
            graph.push_updating(op, inputs, vectors, Vec::new())
        });
        let vector = |number: usize| graph.node(node).updates.get(number).copied();
        Ok(match at.position {
            2 => vector(0),
            3 => vector(1),
            _ => None,
        })
    }
}

/// Of x, dy, running, weight.
#[derive(Debug)]
struct GradInput(BatchNorm);

impl Operation for GradInput {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        grad_input(&self.0, context.first(), context.output)
    }

    fn absorb(
        &self,
        inputs: &[NodeId],
        position: usize,
        maker: &Node,
        choices: &Choices,
    ) -> Option<(Arc<dyn Operation>, Vec<NodeId>)> {
        // Of what a linear layer behind the norm read; x may be the same tensor, where nobody looks at it.
        let (size, dy, weight) = matmul::whole_grad_input(maker)?;
        let [seen, upstream, running, gain] = *inputs else { return None };
        if inputs[position] != upstream {
            return None;
        }
        let features = [size.in_features, size.out_features];
        let layer = OfBatchNorm::new(size.rows, features, self.0.slope, choices)?;
        let seen = if seen == upstream { dy } else { seen };
        Some((Arc::new(layer.grad_input()), vec![seen, running, gain, weight, dy]))
    }
}

/// Of x, dy, running; updates the gradients of weight and bias.
#[derive(Debug, PartialEq)]
struct GradAffine(BatchNorm);

impl Operation for GradAffine {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        grad_affine(&self.0, context.first(), [context.updates[0], context.updates[1]])
    }
}

/// Of a node that is a BatchNorm by running statistics (of x, those, weight, bias) the slope of the LeakyReLU before it.
pub(super) fn slope_of(node: &Node) -> Option<f32> {
    node.op.downcast_ref::<Inference>().map(|Inference(of)| of.slope)
}

impl Graph {
    /// BatchNorm1d of `x` \[N,F\] with the `running` statistics \[2,F\] (mean, variance). In training the batch's own
    /// statistics are used, and the running ones are updated in place (momentum 0.1) unless the number \[1\] in `train` is 0.
    ///
    /// Where `x` is a LeakyReLU's result, in training perhaps with dropout, gradients go past it to what that reads.
    ///
    /// # Errors
    /// [`Error::Shape`] for shapes that do not fit each other, and for a single sample in training.
    pub fn batch_norm(
        &mut self,
        x: NodeId,
        weight: NodeId,
        bias: NodeId,
        running: NodeId,
        train: Option<NodeId>,
    ) -> Result<NodeId> {
        let &[batch, features] = self.shape(x) else {
            return Err(Error::shape("batch_norm", format!("needs [N,F], got {:?}", self.shape(x))));
        };
        self.expect("batch_norm", "weight", weight, &[features])?;
        self.expect("batch_norm", "bias", bias, &[features])?;
        self.expect("batch_norm", "running statistics", running, &[2, features])?;
        let mut of = BatchNorm::new(batch, features);
        let Some(learn) = train else {
            let source = self.activated(x, &mut of);
            return Ok(self.push_like(x, Inference(of), vec![source, running, weight, bias]));
        };
        self.expect("batch_norm", "what says whether it learns", learn, &[1])?;
        if batch < 2 {
            let detail = "training needs a batch of at least 2: one sample has no variance";
            return Err(Error::shape("batch_norm", detail));
        }
        let (mut source, mut run) = (x, None);
        if let Some(dropout) = self.operation::<Dropout>(x) {
            of.dropout = Some((dropout.layer, dropout.probability));
            source = self.node(x).inputs[0];
            run = self.node(x).inputs.get(1).copied();
        }
        let source = self.activated(source, &mut of);
        let z = self.reserve(&[batch, features]);
        let inputs = [source, learn, weight, bias].into_iter().chain(run).collect();
        Ok(self.push_updating(Train(of), inputs, vec![running, z], vec![batch, features]))
    }

    /// What the LeakyReLU reads that gives `x`, noted in `of`; x itself where there is none.
    fn activated(&self, x: NodeId, of: &mut BatchNorm) -> NodeId {
        match self.operation::<Activate>(x) {
            // Backward tells from the result which half it was.
            Some(Activate(Activation::LeakyRelu { slope })) if *slope > 0.0 => {
                of.slope = *slope;
                self.node(x).inputs[0]
            }
            _ => x,
        }
    }
}
