//! Noise and dropout masks by Philox counters: `wgsl/random.wgsl`.

use super::kernel::{WG, invocations, shader};
use crate::error::Result;
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Graph, NodeId, Operation, Upstream};
use crate::rng::Stream;
use crate::tensor::{device_bytes, pitch};

shader!("random");

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    rows: u32,
    row_quads: u32,
    stream: u32,
    kind: u32,
    threshold: u32,
    scale: f32,
    pixels: u32,
    channels: u32,
}

fn launch(size: Size, reads: [Slice; 2], y: Slice) -> Vec<Launch> {
    let count = size.rows as usize * size.row_quads as usize;
    vec![invocations(kernel("forward", &WG), reads.to_vec(), vec![y], bytemuck::bytes_of(&size), count)]
}

/// Standard normal noise \[N,H,W,C\]; `run` holds seed low, seed high, step, first row, or where it is of each row \[N,4\], seed
/// low, seed high, step and row.
pub fn normal(
    [batch, pixels, channels]: [usize; 3],
    stream: u32,
    each_row: bool,
    run: Slice,
    y: Slice,
) -> Vec<Launch> {
    let size = Size {
        rows: batch as u32,
        row_quads: (pixels * pitch(channels) / 4) as u32,
        stream,
        kind: if each_row { 2 } else { 0 },
        threshold: 0,
        scale: 0.0,
        pixels: pixels as u32,
        channels: channels as u32,
    };
    launch(size, [run, run], y)
}

/// x with each element dropped with `probability`, the others scaled by 1 / (1 − probability). A row has `columns`
/// device elements (a multiple of 4). The same launch serves backward: the mask is recomputed. Reads x and `run`.
pub fn dropout(
    rows: usize,
    columns: usize,
    layer: u32,
    probability: f32,
    reads: [Slice; 2],
    y: Slice,
) -> Vec<Launch> {
    let [stream, threshold, scale] = Dropout::numbers(layer, probability);
    let size = Size {
        rows: rows as u32,
        row_quads: (columns / 4) as u32,
        stream,
        kind: 1,
        threshold,
        scale: f32::from_bits(scale),
        pixels: 1,
        channels: 0,
    };
    launch(size, reads, y).into_iter().map(|made| made.stored(&["X", "", "Y"])).collect()
}

/// Of x, run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dropout {
    rows: usize,
    columns: usize,
    pub layer: u32,
    pub probability: f32,
}

impl Dropout {
    /// What a kernel is told of a layer: the stream, the least word of an element that stays, and the bits of what that is
    /// multiplied by.
    pub fn numbers(layer: u32, probability: f32) -> [u32; 3] {
        let threshold = (f64::from(probability) * 4_294_967_296.0) as u32;
        [Stream::Dropout as u32 + layer, threshold, (1.0 / (1.0 - probability)).to_bits()]
    }
}

impl Operation for Dropout {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        dropout(self.rows, self.columns, self.layer, self.probability, context.first(), context.output)
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        match at.position {
            0 => Ok(Some(graph.push_like(at.target(), *self, vec![at.dy, at.inputs[1]]))),
            _ => self.no_gradient(at),
        }
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

/// Of run, or runs: standard normal noise.
#[derive(Debug)]
struct Normal {
    batch: usize,
    pixels: usize,
    channels: usize,
    stream: u32,
    each_row: bool,
}

impl Normal {
    fn of([batch, height, width, channels]: [usize; 4], stream: u32, each_row: bool) -> Normal {
        Normal { batch, pixels: height * width, channels, stream, each_row }
    }
}

impl Operation for Normal {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let Normal { batch, pixels, channels, stream, each_row } = *self;
        normal([batch, pixels, channels], stream, each_row, context.inputs[0], context.output)
    }

    /// Rounded noise would be other noise.
    fn storable(&self) -> bool {
        false
    }
}

impl Graph {
    /// Dropout with the mask of the next layer number, step and seed in `run` \[4\] (u32 words: seed low, seed high,
    /// step, first row); none where `probability` is 0.
    pub fn dropout(&mut self, x: NodeId, run: NodeId, probability: f32) -> NodeId {
        if probability == 0.0 {
            return x;
        }
        let shape = self.shape(x);
        let rows = shape.first().copied().unwrap_or(1);
        // A row is one sample, so that the mask of a sample does not depend on the batch it is in.
        let columns = device_bytes(shape) as usize / 4 / rows.max(1);
        let layers = self.nodes.iter().filter_map(|node| node.op.downcast_ref::<Dropout>());
        // Layers are numbered as they are added; a backward pass repeats the numbers.
        let layer = layers.map(|known| known.layer + 1).max().unwrap_or(0);
        self.push_like(x, Dropout { rows, columns, layer, probability }, vec![x, run])
    }

    /// Standard normal noise \[N,H,W,C\] of stream `stream`, by seed, step and first row in `run`.
    pub fn normal(&mut self, run: NodeId, shape: [usize; 4], stream: u32) -> NodeId {
        self.push(Normal::of(shape, stream, false), vec![run], shape.to_vec())
    }

    /// As [`Graph::normal`], each row by seed, step and row of its own in `runs` \[N,4\]: images of several seeds and steps in
    /// one batch.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where the runs are not one for each row.
    pub fn normal_rows(&mut self, runs: NodeId, shape: [usize; 4], stream: u32) -> Result<NodeId> {
        self.expect("normal", "runs", runs, &[shape[0], 4])?;
        Ok(self.push(Normal::of(shape, stream, true), vec![runs], shape.to_vec()))
    }
}
