//! Tensors in parts: views of a tensor, and its gradient, which is those of the views side by side.

use crate::error::Result;
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Graph, NodeId, Operation, Upstream};
use crate::ops::pointwise;
use std::sync::Arc;

/// Of a tensor: what lies in it from a byte on.
#[derive(Debug, PartialEq)]
struct View {
    offset: u64,
}

impl Operation for View {
    fn lower(&self, _context: &mut Context<'_>) -> Vec<Launch> {
        Vec::new()
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        let op = Parts { offset: self.offset, others: false };
        Ok(Some(graph.push_like(at.target(), op, vec![at.dy])))
    }

    fn storable(&self) -> bool {
        false
    }

    fn view(&self) -> Option<u64> {
        Some(self.offset)
    }
}

/// Of a part, \[other parts\]: a tensor of which the parts alone are known. What reads it asks [`Graph::parts`] which there are.
#[derive(Clone, Copy, Debug)]
struct Parts {
    /// First byte of the part.
    offset: u64,
    others: bool,
}

impl Operation for Parts {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let mut launches = Vec::new();
        for (position, part) in context.inputs.iter().enumerate() {
            let offset = context.output.offset + self.part(position).unwrap_or(0);
            let there = Slice { offset, bytes: part.bytes, ..context.output };
            if *part != there {
                launches.extend(pointwise::scale(1.0, part.quads(), *part, there));
            }
        }
        launches
    }

    fn storable(&self) -> bool {
        false
    }

    fn with_addend(&self) -> Option<Arc<dyn Operation>> {
        let other: Arc<dyn Operation> = Arc::new(Parts { others: true, ..*self });
        Some(other).filter(|_| !self.others)
    }

    fn part(&self, position: usize) -> Option<u64> {
        Some(if position == 0 { self.offset } else { 0 })
    }
}

impl Graph {
    /// What lies in `tensor`, an operation's own result, from byte `offset` on, a multiple of 256: there is one view of a place.
    pub(super) fn view(&mut self, tensor: NodeId, offset: u64, shape: Vec<usize>) -> NodeId {
        let op = View { offset };
        self.find(&op, &[tensor]).unwrap_or_else(|| self.push(op, vec![tensor], shape))
    }

    /// First bytes of the parts of the gradient of a tensor that is read by its views alone; `None`: it is whole.
    pub(super) fn parts(&self, mut gradient: NodeId) -> Option<Vec<u64>> {
        let mut offsets = Vec::new();
        loop {
            offsets.push(self.operation::<Parts>(gradient)?.offset);
            match self.node(gradient).inputs.get(1) {
                Some(others) => gradient = *others,
                None => return Some(offsets),
            }
        }
    }
}
