//! Each sample divided by the root mean square of its elements: `wgsl/normalize.wgsl`.

use super::kernel::{WG, invocations, shader};
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Graph, NodeId, Operation};
use crate::tensor::device_bytes;

shader!("normalize");

/// Parts that one sample's squares are summed in.
const PARTS: usize = 32;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    samples: u32,
    quads: u32,
    share: f32,
    pad: u32,
}

/// Bytes of scratch that [`normalize`] needs.
pub fn scratch(samples: usize) -> u64 {
    (samples * PARTS * 4) as u64
}

/// y of x, both of `samples` times `quads` vec4, in which `elements` of a sample are no pads.
pub fn normalize(
    samples: usize,
    quads: usize,
    elements: usize,
    x: Slice,
    scratch: Slice,
    y: Slice,
) -> Vec<Launch> {
    let share = 1.0 / elements.max(1) as f32;
    let size = Size { samples: samples as u32, quads: quads as u32, share, pad: 0 };
    let uniform = bytemuck::bytes_of(&size);
    let [squares, whole] = ["squares", "normalize_samples"].map(|entry| kernel(entry, &WG));
    vec![
        invocations(squares, vec![x], vec![scratch], uniform, samples * PARTS),
        invocations(whole, vec![x, scratch], vec![y], uniform, samples * quads),
    ]
}

#[derive(Debug)]
struct Normalize {
    samples: usize,
    quads: usize,
    elements: usize,
}

impl Operation for Normalize {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let parts = context.scratch(scratch(self.samples));
        normalize(self.samples, self.quads, self.elements, context.inputs[0], parts, context.output)
    }
}

impl Graph {
    /// Each sample of `x` \[N,…\] divided by the root mean square of its elements (plus 1e-12, so that zeros stay): a gradient's
    /// direction, of the same length for every image.
    pub fn normalize(&mut self, x: NodeId) -> NodeId {
        let shape = self.shape(x);
        let samples = shape.first().copied().unwrap_or(1).max(1);
        let elements = shape.iter().skip(1).product();
        let quads = device_bytes(shape) as usize / 16 / samples;
        self.push_like(x, Normalize { samples, quads, elements }, vec![x])
    }
}
