//! What the graph knows of an operation: its gradient, its kernels and how it may wait for the backward pass.

use super::{Graph, Node, NodeId};
use crate::error::{Error, Result};
use crate::families::{Choices, Family, Key};
use crate::gpu::{Launch, Slice};
use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

/// What a node computes. Its inputs and updates are listed by the method of [`Graph`] that adds it.
pub(crate) trait Operation: Any + Debug + Send + Sync {
    /// The launches over the memory of `context`, in the families of its choices.
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch>;

    /// The vector-Jacobian product: the part of the gradient of the input at `at.position` that flows through this use.
    /// `None`: that input is a constant, such as labels.
    ///
    /// # Errors
    /// [`Error::Shape`] where the operation has no gradient for that input.
    fn vjp(&self, _graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        self.no_gradient(at)
    }

    /// The error of an input that has no gradient.
    ///
    /// # Errors
    /// Always.
    fn no_gradient(&self, at: &Upstream) -> Result<Option<NodeId>> {
        Err(Error::shape("grad", format!("{self:?} has no gradient for its input {}", at.position)))
    }

    /// The keys of tuning tables, one a product; none: there is one family of kernels only.
    fn keys(&self) -> Vec<Key> {
        Vec::new()
    }

    /// Whether the result is cheap to make again, from tensors that the backward pass needs anyway.
    fn recomputable(&self) -> bool {
        false
    }

    /// The operation that makes the result of `node` again, and of what; `None`: this one of the node's inputs. What the node
    /// writes beside its result is there already.
    fn again(&self, _node: &Node) -> Option<(Arc<dyn Operation>, Vec<NodeId>)> {
        None
    }

    /// Whether the result may wait for the backward pass as f16.
    fn storable(&self) -> bool {
        true
    }

    /// Whether its kernels read the input at `position` as f16 too.
    fn reads_half(&self, _position: usize) -> bool {
        false
    }

    /// Whether its kernels write the result as f16 too.
    fn writes_half(&self) -> bool {
        false
    }

    /// Whether it is the sum of its two inputs, made by one launch.
    fn adds(&self) -> bool {
        false
    }

    /// Whether its kernels write the tensors beside the result as f16 too.
    fn updates_half(&self) -> bool {
        false
    }

    /// The same operation which adds one further input, its last, to its result; `None`: it cannot.
    fn with_addend(&self) -> Option<Arc<dyn Operation>> {
        None
    }

    /// The operation that does the same and what `maker` does, which makes the input at `position` of its `inputs`, the first that it
    /// makes, and what that operation reads; `None`: it cannot.
    fn absorb(
        &self,
        _inputs: &[NodeId],
        _position: usize,
        _maker: &Node,
        _choices: &Choices,
    ) -> Option<(Arc<dyn Operation>, Vec<NodeId>)> {
        None
    }

    /// Where in the memory of its first input the result lies, in bytes: nothing runs. `None`: it has memory of its own.
    fn view(&self) -> Option<u64> {
        None
    }

    /// Where in the result the input at `position` may lie, in bytes, so that it is made in its place. The operation copies
    /// one that lies elsewhere all the same.
    fn part(&self, _position: usize) -> Option<u64> {
        None
    }

    /// Whether its updates are best written side by side, those that have no place of their own.
    fn joins_updates(&self) -> bool {
        false
    }
}

impl dyn Operation {
    /// The operation as a `T`, where it is one.
    pub(crate) fn downcast_ref<T: Operation>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

/// One use of a tensor, whose gradient is asked for.
pub(crate) struct Upstream {
    /// The node that uses it.
    pub node: NodeId,
    /// Gradient of that node's result.
    pub dy: NodeId,
    /// The node's inputs.
    pub inputs: Vec<NodeId>,
    /// Which of them.
    pub position: usize,
    /// Of each of them whether its gradient is asked for.
    pub wanted: Vec<bool>,
}

impl Upstream {
    /// The tensor.
    pub(crate) fn target(&self) -> NodeId {
        self.inputs[self.position]
    }
}

/// Memory that an operation runs over, and which kernels it may choose.
pub(crate) struct Context<'a> {
    /// Which family runs.
    pub choices: &'a Choices,
    /// Tensors read.
    pub inputs: &'a [Slice],
    /// Tensors written beside the result.
    pub updates: &'a [Slice],
    /// Of each of them whether anything reads it or it outlives the run: what is for nobody need not be written.
    pub read: &'a [bool],
    /// The result.
    pub output: Slice,
    /// Gives memory that lives only during the operation.
    pub allocate: &'a mut dyn FnMut(u64) -> Slice,
}

impl Context<'_> {
    /// Memory of `bytes` bytes that lives only during the operation.
    pub(crate) fn scratch(&mut self, bytes: u64) -> Slice {
        (self.allocate)(bytes)
    }

    /// The family that runs `key`.
    pub(crate) fn family(&self, key: &Key) -> Family {
        self.choices.family(key)
    }

    /// The input at `position`, where it is there.
    pub(crate) fn optional(&self, present: bool, position: usize) -> Option<Slice> {
        present.then(|| self.inputs[position])
    }

    /// The first `N` inputs.
    pub(crate) fn first<const N: usize>(&self) -> [Slice; N] {
        std::array::from_fn(|i| self.inputs[i])
    }

    /// Vec4s of the result.
    pub(crate) fn quads(&self) -> usize {
        self.output.quads()
    }
}

/// A tensor that exists before the run: an input, a parameter or a state.
#[derive(Debug)]
pub(crate) struct Leaf;

impl Operation for Leaf {
    fn lower(&self, _context: &mut Context<'_>) -> Vec<Launch> {
        Vec::new()
    }

    fn storable(&self) -> bool {
        false
    }
}

/// Memory that other nodes write.
#[derive(Debug)]
pub(crate) struct Reserve;

impl Operation for Reserve {
    fn lower(&self, _context: &mut Context<'_>) -> Vec<Launch> {
        Vec::new()
    }

    /// Where those who write it do.
    fn writes_half(&self) -> bool {
        true
    }

    fn storable(&self) -> bool {
        false
    }
}
