//! Nearest expansion by two and 2×2 sums: `wgsl/resample.wgsl`.

use super::kernel::{WG, invocations, shader};
use crate::error::{Error, Result};
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Graph, Node, NodeId, Operation, Upstream};
use crate::tensor::pitch;

shader!("resample");

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    batch: u32,
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    quads: u32,
    scale: f32,
    average: u32,
}

fn launch(size: Size, x: Slice, y: Slice) -> Vec<Launch> {
    let count =
        size.batch as usize * size.out_height as usize * size.out_width as usize * size.quads as usize;
    let made = invocations(kernel("forward", &WG), vec![x], vec![y], bytemuck::bytes_of(&size), count);
    vec![made.stored(&["X", "Y"])]
}

/// y\[i, j\] = scale · x\[i/2, j/2\] on an output of the given size, zero where that lies outside.
pub fn expand(
    batch: usize,
    [height, width]: [usize; 2],
    [out_height, out_width]: [usize; 2],
    channels: usize,
    scale: f32,
    x: Slice,
    y: Slice,
) -> Vec<Launch> {
    let size = Size {
        batch: batch as u32,
        height: height as u32,
        width: width as u32,
        out_height: out_height as u32,
        out_width: out_width as u32,
        quads: (pitch(channels) / 4) as u32,
        scale,
        average: 0,
    };
    launch(size, x, y)
}

/// y = scale · sums of whole 2×2 blocks.
pub fn pool(
    batch: usize,
    [height, width]: [usize; 2],
    channels: usize,
    scale: f32,
    x: Slice,
    y: Slice,
) -> Vec<Launch> {
    let size = Size {
        batch: batch as u32,
        height: height as u32,
        width: width as u32,
        out_height: (height / 2) as u32,
        out_width: (width / 2) as u32,
        quads: (pitch(channels) / 4) as u32,
        scale,
        average: 1,
    };
    launch(size, x, y)
}

/// Nearest expansion by two onto an output of a given size.
#[derive(Debug)]
struct Expand {
    batch: usize,
    source: [usize; 2],
    target: [usize; 2],
    channels: usize,
    scale: f32,
}

impl Operation for Expand {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let Expand { batch, source, target, channels, scale } = *self;
        expand(batch, source, target, channels, scale, context.inputs[0], context.output)
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        let Expand { batch, source, target, channels, scale } = *self;
        if target != source.map(|side| 2 * side) {
            return Err(Error::shape("grad", "expansion onto an odd size has no gradient here"));
        }
        let op = Pool { batch, source: target, channels, scale };
        Ok(Some(graph.push_like(at.target(), op, vec![at.dy])))
    }

    fn recomputable(&self) -> bool {
        true
    }

    fn reads_half(&self, position: usize) -> bool {
        position == 0
    }

    fn writes_half(&self) -> bool {
        true
    }
}

/// Whether a node repeats each pixel of its input twice in both directions and does nothing else.
pub(super) fn doubles(node: &Node) -> bool {
    let expand = node.op.downcast_ref::<Expand>();
    expand.is_some_and(|Expand { source, target, scale, .. }| {
        *target == source.map(|side| 2 * side) && *scale == 1.0
    })
}

/// 2×2 block sums.
#[derive(Debug)]
struct Pool {
    batch: usize,
    source: [usize; 2],
    channels: usize,
    scale: f32,
}

impl Operation for Pool {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        pool(self.batch, self.source, self.channels, self.scale, context.inputs[0], context.output)
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        let Pool { batch, source: target, channels, scale } = *self;
        let op = Expand { batch, source: target.map(|side| side / 2), target, channels, scale };
        Ok(Some(graph.push_like(at.target(), op, vec![at.dy])))
    }

    fn recomputable(&self) -> bool {
        true
    }

    fn reads_half(&self, position: usize) -> bool {
        position == 0
    }

    fn writes_half(&self) -> bool {
        true
    }
}

impl Graph {
    /// Nearest-neighbour upsampling by two.
    pub fn upsample(&mut self, x: NodeId) -> Result<NodeId> {
        let [batch, height, width, channels] = self.image_shape("upsample", x)?;
        let (source, target) = ([height, width], [2 * height, 2 * width]);
        let op = Expand { batch, source, target, channels, scale: 1.0 };
        Ok(self.push(op, vec![x], vec![batch, target[0], target[1], channels]))
    }

    /// 2×2 mean with stride two; an odd last row or column is dropped.
    pub fn average_pool(&mut self, x: NodeId) -> Result<NodeId> {
        let [batch, height, width, channels] = self.image_shape("average_pool", x)?;
        if height < 2 || width < 2 {
            return Err(Error::shape("average_pool", format!("{height}×{width} is too small")));
        }
        let op = Pool { batch, source: [height, width], channels, scale: 0.25 };
        Ok(self.push(op, vec![x], vec![batch, height / 2, width / 2, channels]))
    }
}
