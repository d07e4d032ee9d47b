//! Which tensors of a training step are stored as f16.

use crate::graph::{Graph, Node};
use serde::{Deserialize, Serialize};

/// How a training step stores feature maps and their gradients between its kernels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// As f32.
    #[default]
    F32,
    /// As f16, wherever all kernels that write or read a tensor can; losses are scaled
    /// ([`crate::ops::loss_scale`]). All arithmetic is f32, and so are weights and their gradients, the optimizer's state,
    /// statistics, timestep embeddings, attention, the classifier's vectors and the losses. Needs a device with `shader-f16`.
    F16,
}

impl Graph {
    /// Stores feature maps as `precision` says: those of f16 that a run neither finds nor leaves, and that no kernel needs as
    /// f32.
    pub(crate) fn store_as(mut self, precision: Precision) -> Graph {
        if precision == Precision::F32 {
            return self;
        }
        let needed = self.needed();
        let able = |node: &Node| node.place.is_none() && node.shape.len() == 4 && node.op.writes_half();
        let mut half: Vec<bool> = self.nodes.iter().map(able).collect();
        for (node, _) in self.nodes.iter().zip(&needed).filter(|(_, needed)| **needed) {
            for (position, input) in node.inputs.iter().enumerate() {
                half[input.index()] &= node.op.reads_half(position);
            }
            for update in &node.updates {
                half[update.index()] &= node.op.updates_half();
            }
        }
        for (node, half) in self.nodes.iter_mut().zip(half) {
            node.half = half;
        }
        self
    }
}
