//! Reverse-mode differentiation: the gradient of a scalar, added to the graph as ordinary nodes.

use super::op::Op;
use super::{Graph, NodeId};
use crate::error::{Error, Result};
use crate::kernels::features::FeatureMap;
use crate::kernels::groupnorm::{self, Part};
use std::collections::HashMap;

impl Graph {
    /// Total derivatives of the scalar `loss` \[1\] with respect to `targets`, in their order. Only what these targets
    /// need is computed: for Algorithm 1's targets, the bottleneck and the skips, no weight gradient appears.
    ///
    /// # Errors
    /// [`Error::Shape`] where a target does not influence the loss or an operation on the way has no gradient.
    pub fn grad(&mut self, loss: NodeId, targets: &[NodeId]) -> Result<Vec<NodeId>> {
        self.expect("grad", "loss", loss, &[1])?;
        self.backward.get_or_insert(self.nodes.len());
        let seed = self.fill(1, 1.0);
        self.grad_from(loss, seed, targets)
    }

    /// As [`Graph::grad`] of any tensor `y`, given the gradient of some scalar with respect to it.
    ///
    /// # Errors
    /// As [`Graph::grad`].
    pub fn grad_from(&mut self, y: NodeId, dy: NodeId, targets: &[NodeId]) -> Result<Vec<NodeId>> {
        self.expect("grad", "upstream gradient", dy, self.shape(y))?;
        let count = y.index() + 1;
        let mut wanted = vec![false; count];
        for target in targets.iter().filter(|t| t.index() < count) {
            wanted[target.index()] = true;
        }
        for i in 0..count {
            wanted[i] |= self.nodes[i].inputs.iter().any(|input| wanted[input.index()]);
        }
        let mut gradients: HashMap<NodeId, NodeId> = HashMap::new();
        gradients.insert(y, dy);
        for i in (0..count).rev() {
            let node = NodeId(i as u32);
            let Some(&dy) = gradients.get(&node) else { continue };
            for (position, input) in self.nodes[i].inputs.clone().into_iter().enumerate() {
                if !wanted[input.index()] {
                    continue;
                }
                if let Some(part) = self.vjp(node, dy, position)? {
                    let total = match gradients.get(&input) {
                        Some(&sum) => self.add_part(sum, part)?,
                        None => part,
                    };
                    gradients.insert(input, total);
                }
            }
        }
        targets
            .iter()
            .map(|target| {
                let shape = self.shape(*target).to_vec();
                gradients.get(target).copied().ok_or_else(|| {
                    Error::shape("grad", format!("a tensor {shape:?} does not influence the loss"))
                })
            })
            .collect()
    }

    /// The vector-Jacobian product of `node` for its input at `position`: the part of that input's gradient that flows
    /// through this use. `None`: a constant input such as labels.
    fn vjp(&mut self, node: NodeId, dy: NodeId, position: usize) -> Result<Option<NodeId>> {
        let (op, inputs) = (self.node(node).op.clone(), self.node(node).inputs.clone());
        let target = inputs[position];
        let shape = self.shape(target).to_vec();
        let gradient = match op {
            Op::Conv3x3 { size, bias, .. } => match position {
                0 => self.push(Op::Conv3x3GradInput { size }, vec![dy, inputs[1]], shape),
                1 => self.push(Op::Conv3x3GradWeight { size }, vec![inputs[0], dy], shape),
                2 if bias => self.sum_rows(dy),
                _ => dy,
            },
            Op::MatMul { size, first, bias, .. } => {
                let other = inputs.last().filter(|_| first < size.in_features).copied();
                let part = |from, count| Op::MatMulGradInput { size, from, count };
                match position {
                    0 => self.push(part(0, first), vec![dy, inputs[1]], shape),
                    1 => {
                        let list = [inputs[0], dy].into_iter().chain(other).collect();
                        self.push(Op::MatMulGradWeight { size, first }, list, shape)
                    }
                    2 if bias => self.sum_rows(dy),
                    last if other.is_some() && last + 1 == inputs.len() => {
                        self.push(part(first, size.in_features - first), vec![dy, inputs[1]], shape)
                    }
                    _ => dy,
                }
            }
            // The statistics' part of the gradient is inside that of the tensors.
            Op::GroupNorm { .. } if position == 1 => return Ok(None),
            Op::GroupNorm { .. } => self.group_norm_vjp(node, dy, position)?,
            // The statistics' own dependence on x is part of GroupNormGradInput and BatchNormGradInput.
            Op::GroupNormStats { .. } | Op::BatchNormStats { .. } => return Ok(None),
            Op::Attention { size } => {
                let lse = self.node(node).updates[0];
                self.push(Op::AttentionGrad { size }, vec![target, node, lse, dy], shape)
            }
            Op::Activate { activation } => {
                self.push(Op::ActivateGrad { activation }, vec![target, dy], shape)
            }
            Op::Add => dy,
            Op::Scale { factor } => self.scale(dy, factor),
            Op::Axpy if position == 0 => dy,
            Op::Concat { rows, a, b } => {
                let (from, count) = if position == 0 { (0, a) } else { (a, b) };
                self.push(Op::SliceChannels { rows, columns: a + b, from, count }, vec![dy], shape)
            }
            Op::SliceChannels { rows, columns, from, count } => {
                self.push(Op::EmbedChannels { rows, count, columns, from }, vec![dy], shape)
            }
            Op::AddRowwise { batch, pixels, channels } => match position {
                0 => dy,
                _ => self.push(Op::SumPixels { batch, pixels, channels, scale: 1.0 }, vec![dy], shape),
            },
            Op::Expand { batch, source, target: wide, channels, scale } => {
                if wide != [2 * source[0], 2 * source[1]] {
                    return Err(Error::shape("grad", "expansion onto an odd size has no gradient here"));
                }
                self.push(Op::Pool { batch, source: wide, channels, scale }, vec![dy], shape)
            }
            Op::Pool { batch, source, channels, scale } => {
                let pooled = [source[0] / 2, source[1] / 2];
                let op = Op::Expand { batch, source: pooled, target: source, channels, scale };
                self.push(op, vec![dy], shape)
            }
            Op::Features { batch, maps, pooling } => {
                let Some(&[pixels, channels]) = maps.get(position) else { return Ok(None) };
                let offset = maps[..position].iter().map(|m| m[1]).sum();
                let columns = *self.shape(node).last().unwrap_or(&0);
                let maximum = pooling.takes_maximum(position);
                let map = FeatureMap { batch, pixels, channels, columns, offset, maximum };
                self.push(Op::FeaturesGrad { map }, vec![target, node, dy], shape)
            }
            Op::BatchNorm { batch, features, train } => {
                let (x, stats, weight) = (inputs[0], inputs[1], inputs[2]);
                match position {
                    0 => {
                        let op = Op::BatchNormGradInput { batch, features, train };
                        self.push(op, vec![x, dy, stats, weight], shape)
                    }
                    2 => self.push(
                        Op::BatchNormGradWeight { batch, features, train },
                        vec![x, dy, stats],
                        shape,
                    ),
                    3 => self.sum_rows(dy),
                    _ => return Ok(None),
                }
            }
            Op::Dropout { .. } if position == 0 => self.push(op, vec![dy, inputs[1]], shape),
            Op::QSample { .. } | Op::CrossEntropy { .. } | Op::Bce { .. } | Op::Vb { .. } if position > 0 => {
                return Ok(None);
            }
            Op::Mse { size } if position == 0 => {
                self.push(Op::MseGrad { size }, vec![target, inputs[1], dy], shape)
            }
            Op::CrossEntropy { batch, classes } => {
                self.push(Op::CrossEntropyGrad { batch, classes }, vec![target, inputs[1], dy], shape)
            }
            Op::Bce { batch, classes, mean } => {
                self.push(Op::BceGrad { batch, classes, mean }, vec![target, inputs[1], dy], shape)
            }
            Op::Vb { size } => {
                self.push(Op::VbGrad { size }, vec![target, inputs[1], inputs[2], inputs[3], dy], shape)
            }
            Op::WeightedSum { batch, weight } => match self.node(dy).op {
                Op::Fill { value, .. } => self.fill(batch, value * weight),
                _ => self.push(Op::WeightedSumGrad { batch, weight }, vec![target, dy], shape),
            },
            other => {
                return Err(Error::shape(
                    "grad",
                    format!("{other:?} has no gradient for its input {position}"),
                ));
            }
        };
        Ok(Some(gradient))
    }

    /// Column sums over all rows: the gradient of a bias.
    fn sum_rows(&mut self, dy: NodeId) -> NodeId {
        let mut shape = self.shape(dy).to_vec();
        let columns = shape.pop().unwrap_or(0);
        self.push(Op::SumRows { rows: shape.iter().product(), columns }, vec![dy], vec![columns])
    }

    /// sum + part, where `part` is a gradient just made for this sum: its kernel adds `sum` itself where it can.
    fn add_part(&mut self, sum: NodeId, part: NodeId) -> Result<NodeId> {
        let last = part.index() + 1 == self.nodes.len();
        let node = &mut self.nodes[part.index()];
        match &mut node.op {
            Op::GroupNormGradInput { addend, .. } if last && !*addend => {
                *addend = true;
                node.inputs.push(sum);
                Ok(part)
            }
            _ => self.add(sum, part),
        }
    }

    fn group_norm_vjp(&mut self, node: NodeId, dy: NodeId, position: usize) -> Result<NodeId> {
        let Op::GroupNorm { size, first } = self.node(node).op else {
            return Err(Error::shape("grad", "not a GroupNorm"));
        };
        let inputs = self.node(node).inputs.clone();
        let (stats, gamma, beta) = (inputs[1], inputs[2], inputs[3]);
        let scale_shift = inputs.get(4).filter(|_| size.scale_shift).copied();
        let sums = self.group_norm_sums(node, dy);
        let shape = self.shape(inputs[position]).to_vec();
        let affine: Vec<NodeId> = [sums].into_iter().chain(scale_shift).collect();
        Ok(match position {
            2 => self.push(Op::GroupNormGradGamma { size }, affine, shape),
            3 => self.push(Op::GroupNormGradBeta { size }, affine, shape),
            4 if size.scale_shift => {
                self.push(Op::GroupNormGradScaleShift { size }, vec![sums, gamma, beta], shape)
            }
            _ => {
                let part = match position {
                    0 => Part { first: 0, channels: first },
                    _ => Part { first, channels: size.channels - first },
                };
                let op = Op::GroupNormGradInput { size, part, addend: false };
                self.push(op, vec![inputs[position], dy, stats, sums], shape)
            }
        })
    }

    /// The sums that all of a GroupNorm's gradients share, computed once for a given `dy`.
    fn group_norm_sums(&mut self, node: NodeId, dy: NodeId) -> NodeId {
        let Op::GroupNorm { size, first } = self.node(node).op else { return dy };
        let op = Op::GroupNormGradSums { size, first };
        let inputs = self.node(node).inputs.clone();
        let mut list = vec![inputs[0], dy];
        list.extend(&inputs[1..]);
        let known = self.nodes.iter().rposition(|n| n.op == op && n.inputs == list);
        if let Some(index) = known {
            return NodeId(index as u32);
        }
        let words = groupnorm::sums_bytes(&size) as usize / 4;
        self.push(op, list, vec![words])
    }
}
