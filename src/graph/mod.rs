//! Tensors, operations, shape checks, reverse-mode differentiation, memory planning and the compiled [`Plan`].
//!
//! A [`Graph`] is built by the model code in the order in which it will run. [`Graph::grad`] adds the backward
//! operations as ordinary nodes. [`Graph::compile`] drops what nothing needs, chooses kernels, plans memory and gives
//! a [`Plan`]; the device a plan is loaded on may choose other families of kernels ([`crate::variants`]).

mod activations;
mod autodiff;
mod build;
mod lower;
mod memory;
mod op;
mod plan;

pub use activations::Activations;
pub use build::SolverInputs;
pub use memory::{Lifetime, MemoryPlan, plan_memory};
pub use op::{Activation, Op, Pooling};
pub use plan::{DEFAULT_MAX_BINDING, Plan, PlanStats};

/// A tensor of a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(crate) u32);

impl NodeId {
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// A fixed place in memory that outlives a run: part of a named buffer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Name of the buffer, resolved when the plan is loaded.
    pub buffer: String,
    /// First byte, a multiple of 256.
    pub offset: u64,
}

impl Place {
    /// The beginning of the buffer `name`.
    pub fn whole(name: impl Into<String>) -> Place {
        Place { buffer: name.into(), offset: 0 }
    }
}

/// One operation with its result.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub op: Op,
    /// Tensors read.
    pub inputs: Vec<NodeId>,
    /// Tensors written beside the result: states changed in place and secondary results.
    pub updates: Vec<NodeId>,
    /// Logical shape of the result; the last dimension is padded in memory. Empty: no result.
    pub shape: Vec<usize>,
    /// Where the result must lie; `None`: the planner chooses.
    pub place: Option<Place>,
}

/// Operations in execution order.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub(crate) nodes: Vec<Node>,
    dropout_layers: u32,
    /// First node of the backward pass.
    backward: Option<usize>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Graph {
        Graph::default()
    }

    /// Logical shape of a tensor; the last dimension is padded to a multiple of four in memory.
    pub fn shape(&self, node: NodeId) -> &[usize] {
        &self.nodes[node.index()].shape
    }

    pub(crate) fn node(&self, node: NodeId) -> &Node {
        &self.nodes[node.index()]
    }

    pub(crate) fn push(&mut self, op: Op, inputs: Vec<NodeId>, shape: Vec<usize>) -> NodeId {
        self.push_updating(op, inputs, Vec::new(), shape)
    }

    pub(crate) fn push_updating(
        &mut self,
        op: Op,
        inputs: Vec<NodeId>,
        updates: Vec<NodeId>,
        shape: Vec<usize>,
    ) -> NodeId {
        self.nodes.push(Node { op, inputs, updates, shape, place: None });
        NodeId(self.nodes.len() as u32 - 1)
    }

    /// Makes the result of `node` lie at `place` and so survive the run; where it has another place already, or is
    /// nobody's own result, a copy is added.
    pub fn place(&mut self, node: NodeId, place: Place) -> NodeId {
        let fixed = self.nodes[node.index()].place.is_some();
        if fixed {
            let copy = self.scale(node, 1.0);
            self.nodes[copy.index()].place = Some(place);
            return copy;
        }
        self.nodes[node.index()].place = Some(place);
        node
    }
}
