//! Reverse-mode differentiation: the gradient of a scalar, added to the graph as ordinary nodes, each by the rule of its
//! operation; and how a training step keeps its activations meanwhile.

mod activations;
mod storage;

pub use activations::Activations;
pub use storage::Precision;

use crate::error::{Error, Result};
use crate::graph::{Graph, NodeId, Upstream};
use std::collections::HashMap;
use std::sync::Arc;

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

    /// As [`Graph::grad`], times the scale of `state` ([`crate::ops::loss_scale`]).
    ///
    /// # Errors
    /// As [`Graph::grad`].
    pub fn grad_scaled(&mut self, loss: NodeId, state: NodeId, targets: &[NodeId]) -> Result<Vec<NodeId>> {
        self.expect("grad", "loss", loss, &[1])?;
        self.backward.get_or_insert(self.nodes.len());
        let seed = self.loss_scale(state)?;
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
        // Results beside the first, which a target influences: their gradient would be lost.
        let mut results = vec![false; count];
        for i in 0..count {
            let node = &self.nodes[i];
            let influenced = node.inputs.iter().any(|input| wanted[input.index()]);
            wanted[i] |= influenced;
            for update in node.updates.iter().filter(|update| influenced && self.node(**update).is_memory()) {
                let beside = self.node(*update).place.is_none();
                wanted[update.index()] |= beside;
                results[update.index()] |= beside;
            }
        }
        let mut gradients: HashMap<NodeId, NodeId> = HashMap::new();
        gradients.insert(y, dy);
        for i in (0..count).rev() {
            let node = NodeId(i as u32);
            let Some(&dy) = gradients.get(&node) else { continue };
            if results[i] {
                let detail =
                    format!("no gradient goes through {:?}, one of several results", self.shape(node));
                return Err(Error::shape("grad", detail));
            }
            let (op, inputs) = (Arc::clone(&self.node(node).op), self.node(node).inputs.clone());
            let asked: Vec<bool> = inputs.iter().map(|input| wanted[input.index()]).collect();
            for (position, input) in inputs.iter().enumerate().filter(|(position, _)| asked[*position]) {
                let at = Upstream { node, dy, inputs: inputs.clone(), position, wanted: asked.clone() };
                if let Some(part) = op.vjp(self, &at)? {
                    let total = match gradients.get(input) {
                        Some(&sum) => self.add_part(sum, part)?,
                        None => part,
                    };
                    gradients.insert(*input, total);
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

    /// sum + part, where `part` is a gradient just made for this sum: its kernel adds `sum` itself where it can.
    fn add_part(&mut self, sum: NodeId, part: NodeId) -> Result<NodeId> {
        let last = part.index() + 1 == self.nodes.len();
        match self.node(part).op.with_addend().filter(|_| last) {
            Some(op) => {
                let node = &mut self.nodes[part.index()];
                node.op = op;
                node.inputs.push(sum);
                Ok(part)
            }
            None => self.add(sum, part),
        }
    }
}
