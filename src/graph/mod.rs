//! Tensors, operations in general, shape checks, memory planning and the compiled [`Plan`].
//!
//! A [`Graph`] is built by the model code in the order in which it will run; each operation brings its own method
//! ([`crate::ops`]). Differentiation ([`crate::autodiff`]) adds the backward operations as ordinary nodes.
//! [`Graph::compile`] drops what nothing needs, chooses kernels, plans memory and gives a [`Plan`]; the device a plan is
//! loaded on may choose other families of kernels ([`crate::families`]).

mod absorb;
mod arenas;
mod gather;
mod memory;
mod operation;
mod parts;
mod plan;
mod sums;

pub use memory::{Lifetime, MemoryPlan, plan_memory};
pub(crate) use operation::{Context, Operation, Upstream};
use operation::{Leaf, Reserve};
pub use plan::{DEFAULT_MAX_BINDING, Plan, PlanStats};
pub(crate) use sums::Sum;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use sums::results as sum_results;

use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A tensor of a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(crate) u32);

impl NodeId {
    pub(crate) fn index(self) -> usize {
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
    pub op: Arc<dyn Operation>,
    /// Tensors read.
    pub inputs: Vec<NodeId>,
    /// Tensors written beside the result: states changed in place and secondary results.
    pub updates: Vec<NodeId>,
    /// Logical shape of the result; the last dimension is padded in memory. Empty: no result.
    pub shape: Vec<usize>,
    /// Where the result must lie; `None`: the planner chooses.
    pub place: Option<Place>,
    /// Whether the result is stored as f16.
    pub half: bool,
}

impl Node {
    /// Whether it only stands for memory: nothing runs.
    pub(crate) fn is_memory(&self) -> bool {
        let memory = self.op.downcast_ref::<Leaf>().is_some() || self.op.downcast_ref::<Reserve>().is_some();
        memory || self.op.view().is_some()
    }
}

/// Operations in execution order.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::gpu::{Device, DeviceOptions};
/// use duet::graph::{Graph, Place};
///
/// // y = 3 · x of one row of four numbers, in buffers named "x" and "y".
/// let mut graph = Graph::new();
/// let x = graph.leaf(&[1, 4], Place::whole("x"));
/// let y = graph.scale(x, 3.0);
/// graph.place(y, Place::whole("y"));
/// let plan = graph.compile()?;
///
/// let device = Device::open(&DeviceOptions::default()).await?;
/// let (x, y) = (device.buffer("x", 16).await?, device.buffer("y", 16).await?);
/// device.write(&x, 0, bytemuck::cast_slice(&[1.0f32, 2.0, 3.0, 4.0]))?;
/// plan.load(&device, |name| Some(if name == "x" { x.clone() } else { y.clone() })).await?.run();
/// assert_eq!(device.read_f32(&y, 4).await?, [3.0, 6.0, 9.0, 12.0]);
/// # Ok(()) }) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub(crate) nodes: Vec<Node>,
    /// First node of the backward pass.
    pub(crate) backward: Option<usize>,
    /// See [`Graph::hand_out_early`].
    pub(crate) early: Option<u64>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Graph {
        Graph::default()
    }

    /// A tensor that exists before the run at `place`.
    pub fn leaf(&mut self, shape: &[usize], place: Place) -> NodeId {
        let node = self.push(Leaf, Vec::new(), shape.to_vec());
        self.nodes[node.index()].place = Some(place);
        node
    }

    /// Memory of the given shape that another node writes.
    pub(crate) fn reserve(&mut self, shape: &[usize]) -> NodeId {
        self.push(Reserve, Vec::new(), shape.to_vec())
    }

    /// Has the gradients of parameters made whenever `bytes` of them are due, instead of all at the end where that costs fewer
    /// launches: a [`crate::gpu::Cut`] hands them out while the rest is computed. The bits are the same.
    pub(crate) fn hand_out_early(self, bytes: u64) -> Graph {
        Graph { early: Some(bytes), ..self }
    }

    /// Logical shape of a tensor; the last dimension is padded to a multiple of four in memory.
    pub fn shape(&self, node: NodeId) -> &[usize] {
        &self.nodes[node.index()].shape
    }

    /// \[batch, height, width, channels\] of an image tensor.
    pub fn image_shape(&self, op: &'static str, x: NodeId) -> Result<[usize; 4]> {
        <[usize; 4]>::try_from(self.shape(x))
            .map_err(|_| Error::shape(op, format!("needs [N,H,W,C], got {:?}", self.shape(x))))
    }

    pub(crate) fn expect(&self, op: &'static str, what: &str, node: NodeId, shape: &[usize]) -> Result<()> {
        if self.shape(node) == shape {
            return Ok(());
        }
        Err(Error::shape(op, format!("{what} must be {shape:?}, is {:?}", self.shape(node))))
    }

    pub(crate) fn node(&self, node: NodeId) -> &Node {
        &self.nodes[node.index()]
    }

    /// The operation of `node`, where it is a `T`.
    pub(crate) fn operation<T: Operation>(&self, node: NodeId) -> Option<&T> {
        self.node(node).op.downcast_ref()
    }

    /// Whether all of `nodes` are given before the run and the operations from `first` on leave them as they are: they may be
    /// read at any time from there on.
    pub(crate) fn are_given(&self, first: usize, nodes: &[NodeId]) -> bool {
        let buffer = |node: &NodeId| self.node(*node).place.as_ref().map(|place| place.buffer.as_str());
        let written = |buffer: &str| {
            let later = self.nodes[first..].iter().filter(|node| !node.is_memory());
            let mut places = later.flat_map(|node| {
                node.place
                    .iter()
                    .chain(node.updates.iter().filter_map(|update| self.node(*update).place.as_ref()))
            });
            places.any(|place| place.buffer == buffer)
        };
        let buffers: BTreeSet<Option<&str>> = nodes.iter().map(buffer).collect();
        nodes.iter().all(|node| self.operation::<Leaf>(*node).is_some())
            && buffers.into_iter().flatten().all(|buffer| !written(buffer))
    }

    /// The last node that computes `op` of `inputs`.
    pub(crate) fn find<T: Operation + PartialEq>(&self, op: &T, inputs: &[NodeId]) -> Option<NodeId> {
        let same = |node: &Node| node.inputs == inputs && node.op.downcast_ref() == Some(op);
        self.nodes.iter().rposition(same).map(|index| NodeId(index as u32))
    }

    pub(crate) fn push(&mut self, op: impl Operation, inputs: Vec<NodeId>, shape: Vec<usize>) -> NodeId {
        self.push_updating(op, inputs, Vec::new(), shape)
    }

    /// As [`Graph::push`], with a result of the shape of `like`.
    pub(crate) fn push_like(&mut self, like: NodeId, op: impl Operation, inputs: Vec<NodeId>) -> NodeId {
        self.push(op, inputs, self.shape(like).to_vec())
    }

    pub(crate) fn push_updating(
        &mut self,
        op: impl Operation,
        inputs: Vec<NodeId>,
        updates: Vec<NodeId>,
        shape: Vec<usize>,
    ) -> NodeId {
        self.nodes.push(Node { op: Arc::new(op), inputs, updates, shape, place: None, half: false });
        NodeId(self.nodes.len() as u32 - 1)
    }
}
