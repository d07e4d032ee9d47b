//! Less memory for the activations that wait for the backward pass: some are computed again, others wait as f16.

use crate::graph::{Graph, Node, NodeId, Operation};
use crate::ops::half::{LoadHalf, StoreHalf};
use crate::tensor::device_bytes;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

/// Tensors below this size are left alone: they would spare little and cost dispatches.
const LEAST_BYTES: u64 = 16 << 10;
/// A tensor made again for the backward pass serves the uses within this many operations, then it is made anew.
const REUSE: usize = 24;

/// How a training step keeps what its forward pass made for the backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activations {
    /// As computed.
    #[default]
    Keep,
    /// What is cheap to make (normalised, activated, dropped-out and resampled tensors) is made again: the same bits.
    Recompute,
    /// As [`Activations::Recompute`], and the rest waits as f16; all arithmetic, norms, softmax and losses stay f32.
    /// Gradients then carry the rounding of f16, 2⁻¹¹ relative in each activation.
    F16,
}

struct Rewriter<'a> {
    old: &'a [Node],
    new: Vec<Node>,
    /// First operation of the backward pass.
    backward: usize,
    /// Of each old node, its place in the new graph.
    map: Vec<NodeId>,
    halves: HashMap<NodeId, NodeId>,
    /// Tensors made again, and where they were last used.
    again: HashMap<NodeId, (NodeId, usize)>,
}

impl Rewriter<'_> {
    fn push(&mut self, node: Node) -> NodeId {
        self.new.push(node);
        NodeId(self.new.len() as u32 - 1)
    }

    fn plain(&mut self, op: impl Operation, input: NodeId, shape: Vec<usize>) -> NodeId {
        self.push(Node {
            op: Arc::new(op),
            inputs: vec![input],
            updates: Vec::new(),
            shape,
            place: None,
            half: false,
        })
    }

    fn is_forward(&self, node: NodeId) -> bool {
        node.index() < self.backward
    }

    fn large(&self, node: NodeId) -> bool {
        let node = &self.old[node.index()];
        node.place.is_none() && device_bytes(&node.shape) >= LEAST_BYTES
    }

    fn recomputable(&self, node: NodeId) -> bool {
        self.is_forward(node) && self.large(node) && self.old[node.index()].op.recomputable()
    }

    /// Whether a tensor that the backward pass reads can wait as f16.
    fn storable(&self, node: NodeId) -> bool {
        let old = &self.old[node.index()];
        // Feature maps: statistics and masks have fewer dimensions.
        self.large(node) && old.op.storable() && old.shape.len() == 4 && !self.recomputable(node)
    }

    /// What makes a tensor again, and of what.
    fn remake(&self, node: NodeId) -> (Arc<dyn Operation>, Vec<NodeId>) {
        let old = &self.old[node.index()];
        old.op.again(old).unwrap_or_else(|| (old.op.clone(), old.inputs.clone()))
    }

    /// The tensor as an operation of the backward pass reads it.
    fn late(&mut self, node: NodeId) -> NodeId {
        let half = self.halves.get(&node).copied();
        if half.is_none() && !self.recomputable(node) {
            return self.map[node.index()];
        }
        if let Some((known, used)) = self.again.get(&node).copied()
            && self.new.len() - used <= REUSE
        {
            self.again.insert(node, (known, self.new.len()));
            return known;
        }
        let shape = self.old[node.index()].shape.clone();
        let made = match half {
            Some(half) => {
                let quads = device_bytes(&shape) as usize / 16;
                self.plain(LoadHalf { quads }, half, shape)
            }
            None => {
                let (op, inputs) = self.remake(node);
                let inputs = inputs.into_iter().map(|input| self.late(input)).collect();
                self.push(Node { op, inputs, updates: Vec::new(), shape, place: None, half: false })
            }
        };
        self.again.insert(node, (made, self.new.len()));
        made
    }

    fn store(&mut self, node: NodeId) {
        let quads = device_bytes(&self.old[node.index()].shape) as usize / 16;
        let x = self.map[node.index()];
        let half = self.plain(StoreHalf { quads }, x, vec![quads.div_ceil(2) * 4]);
        self.halves.insert(node, half);
    }

    /// The tensors that the backward pass will read, through what it makes again.
    fn read_late(&self) -> Vec<bool> {
        let mut read = vec![false; self.old.len()];
        let mut stack: Vec<NodeId> =
            self.old[self.backward..].iter().flat_map(|n| n.inputs.clone()).collect();
        while let Some(node) = stack.pop() {
            if self.is_forward(node) && !read[node.index()] {
                read[node.index()] = true;
                if self.recomputable(node) {
                    stack.extend(self.remake(node).1);
                }
            }
        }
        read
    }
}

impl Graph {
    /// Rewrites a graph to which [`Graph::grad`] was applied, so that its activations need less memory. Nodes get new
    /// numbers: nothing may be added to the graph afterwards by old ones.
    pub(crate) fn spare_activations(self, how: Activations) -> Graph {
        let Some(backward) = self.backward.filter(|_| how != Activations::Keep) else { return self };
        let mut rewriter = Rewriter {
            old: &self.nodes,
            new: Vec::new(),
            backward,
            map: Vec::new(),
            halves: HashMap::new(),
            again: HashMap::new(),
        };
        // The last use of each tensor in the forward pass: from there on it can wait.
        let mut waits: Vec<Vec<NodeId>> = vec![Vec::new(); backward];
        if how == Activations::F16 {
            let mut last: Vec<usize> = (0..backward).collect();
            for (i, node) in self.nodes[..backward].iter().enumerate() {
                node.inputs.iter().chain(&node.updates).for_each(|input| last[input.index()] = i);
            }
            let read = rewriter.read_late();
            for i in 0..backward {
                let node = NodeId(i as u32);
                if read[i] && rewriter.storable(node) {
                    waits[last[i]].push(node);
                }
            }
        }
        for (i, node) in self.nodes.iter().enumerate() {
            let mut copy = node.clone();
            for input in &mut copy.inputs {
                *input = if i < backward { rewriter.map[input.index()] } else { rewriter.late(*input) };
            }
            for update in &mut copy.updates {
                *update = rewriter.map[update.index()];
            }
            let new = rewriter.push(copy);
            rewriter.map.push(new);
            for node in waits.get(i).into_iter().flatten() {
                rewriter.store(*node);
            }
        }
        let nodes = rewriter.new;
        // The rewritten graph is complete: what comes later belongs to no pass.
        Graph { nodes, backward: None, early: self.early }
    }
}
