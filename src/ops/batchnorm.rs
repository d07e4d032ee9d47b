//! BatchNorm1d and its gradients: `wgsl/batchnorm.wgsl`. The gradient of the bias is a column sum.

use super::kernel::{WG, invocations, shader};
use crate::error::{Error, Result};
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Graph, NodeId, Operation, Upstream};
use crate::tensor::pitch;

shader!("batchnorm");

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    batch: u32,
    quads: u32,
    train: u32,
    pad: u32,
}

fn launch(
    entry: &'static str,
    batch: usize,
    features: usize,
    train: bool,
    (reads, writes): (Vec<Slice>, Vec<Slice>),
    count: usize,
) -> Vec<Launch> {
    let quads = pitch(features) / 4;
    let size = Size { batch: batch as u32, quads: quads as u32, train: u32::from(train), pad: 0 };
    vec![invocations(kernel(entry, &WG), reads, writes, bytemuck::bytes_of(&size), count)]
}

/// stats \[3, features\] = mean, biased variance and rounding rest of the mean of x \[batch, features\];
/// the running statistics \[2, features\] move towards them unless `learn` \[1\] is 0.
pub fn stats(
    batch: usize,
    features: usize,
    [x, learn]: [Slice; 2],
    [stats, running]: [Slice; 2],
) -> Vec<Launch> {
    launch("stats", batch, features, true, (vec![x, learn], vec![stats, running]), pitch(features) / 4)
}

/// y of x with the statistics of the batch (`train`, \[3, features\]) or the running ones \[2, features\].
pub fn forward(
    batch: usize,
    features: usize,
    train: bool,
    [x, stats, weight, bias]: [Slice; 4],
    y: Slice,
) -> Vec<Launch> {
    let count = batch * pitch(features) / 4;
    launch("forward", batch, features, train, (vec![x, stats, weight, bias], vec![y]), count)
}

/// dx of dy; `train`: the statistics are the batch's and depend on x.
pub fn grad_input(
    batch: usize,
    features: usize,
    train: bool,
    [x, dy, stats, weight]: [Slice; 4],
    dx: Slice,
) -> Vec<Launch> {
    let reads = vec![x, dy, stats, weight];
    launch("grad_input", batch, features, train, (reads, vec![dx]), pitch(features) / 4)
}

/// Gradient of the weight.
pub fn grad_weight(
    batch: usize,
    features: usize,
    train: bool,
    [x, dy, stats]: [Slice; 3],
    dweight: Slice,
) -> Vec<Launch> {
    launch("grad_weight", batch, features, train, (vec![x, dy, stats], vec![dweight]), pitch(features) / 4)
}

/// Of x, learn; updates the running statistics.
#[derive(Clone, Copy, Debug)]
struct BatchNormStats {
    batch: usize,
    features: usize,
}

impl Operation for BatchNormStats {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        stats(self.batch, self.features, context.first(), [context.output, context.updates[0]])
    }

    /// Their own dependence on x is part of [`BatchNormGradInput`].
    fn vjp(&self, _graph: &mut Graph, _at: &Upstream) -> Result<Option<NodeId>> {
        Ok(None)
    }
}

/// Of x, stats, weight, bias.
#[derive(Clone, Copy, Debug)]
struct BatchNorm {
    batch: usize,
    features: usize,
    train: bool,
}

impl Operation for BatchNorm {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        forward(self.batch, self.features, self.train, context.first(), context.output)
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        let (x, stats, weight) = (at.inputs[0], at.inputs[1], at.inputs[2]);
        Ok(match at.position {
            0 => Some(graph.push_like(x, BatchNormGradInput(*self), vec![x, at.dy, stats, weight])),
            2 => Some(graph.push_like(weight, BatchNormGradWeight(*self), vec![x, at.dy, stats])),
            3 => Some(graph.sum_rows(at.dy)),
            _ => None,
        })
    }
}

/// Of x, dy, stats, weight.
#[derive(Debug)]
struct BatchNormGradInput(BatchNorm);

impl Operation for BatchNormGradInput {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let BatchNorm { batch, features, train } = self.0;
        grad_input(batch, features, train, context.first(), context.output)
    }
}

/// Of x, dy, stats.
#[derive(Debug)]
struct BatchNormGradWeight(BatchNorm);

impl Operation for BatchNormGradWeight {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let BatchNorm { batch, features, train } = self.0;
        grad_weight(batch, features, train, context.first(), context.output)
    }
}

impl Graph {
    /// BatchNorm1d of `x` \[N,F\] with the `running` statistics \[2,F\] (mean, variance). In training the batch's own
    /// statistics are used, and the running ones are updated in place (momentum 0.1) unless the number \[1\] in `train` is 0.
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
        let stats = match train {
            Some(learn) => {
                self.expect("batch_norm", "what says whether it learns", learn, &[1])?;
                if batch < 2 {
                    let detail = "training needs a batch of at least 2: one sample has no variance";
                    return Err(Error::shape("batch_norm", detail));
                }
                let op = BatchNormStats { batch, features };
                self.push_updating(op, vec![x, learn], vec![running], vec![3, features])
            }
            None => running,
        };
        let op = BatchNorm { batch, features, train: train.is_some() };
        Ok(self.push_like(x, op, vec![x, stats, weight, bias]))
    }
}
