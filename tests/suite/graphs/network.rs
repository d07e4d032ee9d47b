//! Random small networks: a list of operations over tensors, and the same as a graph.

use duet::graph::{Graph, NodeId, Place};
use duet::ops::conv2d::Window;
use duet::ops::{Activation, Pooling};
use duet::tensor::device_bytes;
use std::collections::BTreeMap;
use std::fmt;

/// What a tensor is. Numbers name the tensors before it.
#[derive(Clone, Debug)]
pub enum Op {
    /// Values that exist before the run and get a gradient: images and parameters.
    Leaf,
    /// Values without a gradient: timesteps, targets.
    Constant,
    /// Class numbers.
    Labels,
    /// Of x, weight, bias: 3×3, padding 1, plus a residual.
    Conv3x3 {
        stride: usize,
        residual: bool,
    },
    /// Of x, weight, bias.
    Conv2d(Window),
    /// Of x, weight, bias, perhaps a residual.
    MatMul {
        residual: bool,
    },
    /// Of rows, weight, bias: one of several layers of the same rows.
    Layer {
        silu: bool,
    },
    /// Of x, gamma, beta, perhaps the scale-shift.
    GroupNorm {
        groups: usize,
        scale_shift: bool,
        silu: bool,
    },
    /// Of x, weight, bias, running statistics, in training whether those learn.
    BatchNorm {
        train: bool,
    },
    /// Of q, k, v side by side.
    Attention {
        heads: usize,
        new_order: bool,
    },
    Activate(Activation),
    Add,
    Scale(f32),
    Concat,
    Slice {
        from: usize,
        count: usize,
    },
    Upsample,
    AveragePool,
    MaxPool2d(Window),
    AvgPool2d {
        window: Window,
        count_include_pad: bool,
    },
    AddRowwise,
    /// Of maps, then the timestep.
    Features(Pooling),
    /// Of prediction, target.
    Mse,
    /// Of logits, labels.
    CrossEntropy,
    /// Of logits, targets.
    Bce {
        mean: bool,
    },
    WeightedSum(f32),
}

/// A tensor.
#[derive(Clone, Debug)]
pub struct Node {
    pub op: Op,
    pub inputs: Vec<usize>,
    pub shape: Vec<usize>,
    /// Values of one that exists before the run.
    pub data: Vec<f32>,
}

/// Tensors in order; the last one is the loss \[1\].
#[derive(Clone, Debug)]
pub struct Network {
    pub nodes: Vec<Node>,
    /// Tensors whose values are compared too.
    pub watched: Vec<usize>,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Node { op, inputs, shape, .. }) in self.nodes.iter().enumerate() {
            let watched = if self.watched.contains(&number) { " (compared)" } else { "" };
            writeln!(f, "%{number} {shape:?} = {op:?} {inputs:?}{watched}")?;
        }
        Ok(())
    }
}

impl Network {
    /// Tensors that get a gradient.
    pub fn leaves(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|i| matches!(self.nodes[*i].op, Op::Leaf)).collect()
    }

    /// Name of the buffer of a tensor that is given or compared.
    pub fn buffer(node: usize) -> String {
        format!("tensor {node}")
    }

    /// Where the gradient of a leaf lies: those of parameters side by side, those of images by themselves.
    pub fn gradient(&self, leaf: usize) -> Place {
        let is_image = |i: &usize| self.nodes[*i].shape.len() == 4;
        if is_image(&leaf) {
            return Place::whole(format!("gradient {leaf}"));
        }
        let before = self.leaves().into_iter().filter(|i| *i < leaf && !is_image(i));
        let bytes = before.map(|i| device_bytes(&self.nodes[i].shape).next_multiple_of(256));
        Place { buffer: "gradients".into(), offset: bytes.sum() }
    }

    /// The network as a graph, its loss differentiated for all leaves; what is compared has a place: the watched tensors by
    /// their numbers, gradients as [`Network::gradient`] says.
    pub fn graph(&self) -> duet::Result<Graph> {
        let mut g = Graph::new();
        // What is given comes first, so that layers may join others.
        let given = |op: &Op| matches!(op, Op::Leaf | Op::Constant | Op::Labels);
        let mut leaves = BTreeMap::new();
        for (number, node) in self.nodes.iter().enumerate().filter(|(_, node)| given(&node.op)) {
            leaves.insert(number, g.leaf(&node.shape, Place::whole(Network::buffer(number))));
        }
        let mut made: Vec<NodeId> = Vec::new();
        for (number, node) in self.nodes.iter().enumerate() {
            let inputs: Vec<NodeId> = node.inputs.iter().map(|i| made[*i]).collect();
            let x = inputs.first().copied();
            let x = || x.expect("an input");
            let last = || inputs.last().copied();
            let id = match &node.op {
                Op::Leaf | Op::Constant | Op::Labels => leaves[&number],
                Op::Conv3x3 { stride, residual } => {
                    g.conv3x3(x(), inputs[1], *stride, Some(inputs[2]), last().filter(|_| *residual))?
                }
                Op::Conv2d(window) => g.conv2d(x(), inputs[1], *window, Some(inputs[2]))?,
                Op::MatMul { residual } => {
                    g.matmul(x(), inputs[1], Some(inputs[2]), last().filter(|_| *residual))?
                }
                Op::Layer { silu } => g.linear_group(x(), &[[inputs[1], inputs[2]]], *silu)?[0],
                Op::GroupNorm { groups, scale_shift, silu } => {
                    let scale_shift = last().filter(|_| *scale_shift);
                    g.group_norm(x(), inputs[1], inputs[2], *groups, scale_shift, *silu)?
                }
                Op::BatchNorm { train } => {
                    g.batch_norm(x(), inputs[1], inputs[2], inputs[3], train.then(|| inputs[4]))?
                }
                Op::Attention { heads, new_order } => g.attention(x(), *heads, *new_order)?,
                Op::Activate(activation) => g.activate(x(), *activation),
                Op::Add => g.add(x(), inputs[1])?,
                Op::Scale(factor) => g.scale(x(), *factor),
                Op::Concat => g.concat(x(), inputs[1])?,
                Op::Slice { from, count } => g.slice_channels(x(), *from, *count)?,
                Op::Upsample => g.upsample(x())?,
                Op::AveragePool => g.average_pool(x())?,
                Op::MaxPool2d(window) => g.max_pool2d(x(), *window)?,
                Op::AvgPool2d { window, count_include_pad } => {
                    g.avg_pool2d(x(), *window, *count_include_pad)?
                }
                Op::AddRowwise => g.add_rowwise(x(), inputs[1])?,
                Op::Features(pooling) => {
                    g.features(&inputs[..inputs.len() - 1], inputs[inputs.len() - 1], *pooling)?
                }
                Op::Mse => g.mse(x(), inputs[1])?,
                Op::CrossEntropy => g.cross_entropy(x(), inputs[1])?,
                Op::Bce { mean } => g.bce(x(), inputs[1], *mean)?,
                Op::WeightedSum(weight) => g.weighted_sum(x(), *weight),
            };
            assert_eq!(g.shape(id), node.shape, "%{number}");
            made.push(id);
        }
        let leaves: Vec<NodeId> = self.leaves().into_iter().map(|i| made[i]).collect();
        let gradients = g.grad(made[made.len() - 1], &leaves)?;
        for (leaf, gradient) in self.leaves().into_iter().zip(gradients) {
            g.place(gradient, self.gradient(leaf));
        }
        for node in &self.watched {
            g.place(made[*node], Place::whole(Network::buffer(*node)));
        }
        Ok(g)
    }
}
