//! Sinusoidal timestep embedding: `wgsl/timestep_embedding.wgsl`.

use super::kernel::{WG, invocations, shader};
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Graph, Node, NodeId, Operation};
use crate::tensor::pitch;

shader!("timestep_embedding");

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    batch: u32,
    half: u32,
    pitch: u32,
    pad: u32,
}

/// The table of frequencies of an embedding of `dim` columns: exp(−ln(10000)·k/half) in f32, as the reference computes
/// it.
pub fn frequencies(dim: usize) -> Vec<f32> {
    let half = dim / 2;
    let scale = -(10_000f64.ln());
    // The reference multiplies by the f64 constant rounded to f32, divides and exponentiates in f32.
    (0..half).map(|k| ((scale as f32 * k as f32) / half as f32).exp()).collect()
}

/// y \[N, dim\] of t \[N\].
pub fn forward(batch: usize, dim: usize, t: Slice, frequencies: Slice, y: Slice) -> Vec<Launch> {
    let row = pitch(dim);
    let size = Size { batch: batch as u32, half: (dim / 2) as u32, pitch: row as u32, pad: 0 };
    let reads = vec![t, frequencies];
    vec![invocations(kernel("forward", &WG), reads, vec![y], bytemuck::bytes_of(&size), batch * row)]
}

/// Of t, frequencies.
#[derive(Debug)]
struct TimestepEmbedding {
    batch: usize,
    dim: usize,
}

impl Operation for TimestepEmbedding {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let [t, frequencies] = context.first();
        forward(self.batch, self.dim, t, frequencies, context.output)
    }
}

/// Of a node that embeds timesteps, of t and frequencies, how many those are.
pub(super) fn frequencies_of(node: &Node) -> Option<usize> {
    node.op.downcast_ref::<TimestepEmbedding>().map(|embedding| embedding.dim / 2)
}

impl Graph {
    /// Sinusoidal embedding of `t` \[N\] with the table `frequencies` \[dim / 2\].
    pub fn timestep_embedding(&mut self, t: NodeId, frequencies: NodeId, dim: usize) -> NodeId {
        let batch = self.shape(t).first().copied().unwrap_or(0);
        self.push(TimestepEmbedding { batch, dim }, vec![t, frequencies], vec![batch, dim])
    }
}
