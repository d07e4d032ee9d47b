//! Concatenation, slices, and rows added to or summed over pixels: `wgsl/channels.wgsl`.

use super::concat;
use super::kernel::{WG, invocations, shader};
use crate::error::{Error, Result};
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Graph, NodeId, Operation, Upstream};
use crate::tensor::pitch;

shader!("channels");

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct CopySize {
    rows: u32,
    y_quads: u32,
    a_pitch: u32,
    b_pitch: u32,
    a_from: u32,
    a_count: u32,
    b_count: u32,
    y_from: u32,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct PixelSize {
    batch: u32,
    pixels: u32,
    quads: u32,
    scale: f32,
}

fn copy(size: CopySize, a: Slice, b: Slice, y: Slice) -> Launch {
    let count = size.rows as usize * size.y_quads as usize;
    invocations(kernel("copy", &WG), vec![a, b], vec![y], bytemuck::bytes_of(&size), count)
}

/// y = a and b side by side, \[rows, a + b\].
pub fn concat(rows: usize, a_columns: usize, b_columns: usize, a: Slice, b: Slice, y: Slice) -> Vec<Launch> {
    if a_columns.is_multiple_of(4) {
        let quads = a_columns / 4;
        return vec![concat::launch(rows, [quads, 0, quads, pitch(b_columns) / 4], [a, b, y])];
    }
    let size = CopySize {
        rows: rows as u32,
        y_quads: (pitch(a_columns + b_columns) / 4) as u32,
        a_pitch: pitch(a_columns) as u32,
        b_pitch: pitch(b_columns) as u32,
        a_from: 0,
        a_count: a_columns as u32,
        b_count: b_columns as u32,
        y_from: 0,
    };
    vec![copy(size, a, b, y)]
}

/// y = columns `from..from + count` of x \[rows, columns\].
pub fn slice(rows: usize, columns: usize, from: usize, count: usize, x: Slice, y: Slice) -> Vec<Launch> {
    if from.is_multiple_of(4) && (count.is_multiple_of(4) || from + count == columns) {
        return vec![concat::launch(rows, [pitch(columns) / 4, from / 4, pitch(count) / 4, 0], [x, x, y])];
    }
    let size = CopySize {
        rows: rows as u32,
        y_quads: (pitch(count) / 4) as u32,
        a_pitch: pitch(columns) as u32,
        b_pitch: 0,
        a_from: from as u32,
        a_count: count as u32,
        b_count: 0,
        y_from: 0,
    };
    vec![copy(size, x, x, y)]
}

/// y \[rows, columns\] = x \[rows, count\] at columns `from..`, zeros around: the gradient of [`slice()`].
pub fn embed(rows: usize, count: usize, columns: usize, from: usize, x: Slice, y: Slice) -> Vec<Launch> {
    let size = CopySize {
        rows: rows as u32,
        y_quads: (pitch(columns) / 4) as u32,
        a_pitch: pitch(count) as u32,
        b_pitch: 0,
        a_from: 0,
        a_count: count as u32,
        b_count: 0,
        y_from: from as u32,
    };
    vec![copy(size, x, x, y)]
}

/// y\[n, p\] = x\[n, p\] + m\[n\] over `channels`.
pub fn add_rowwise(
    batch: usize,
    pixels: usize,
    channels: usize,
    x: Slice,
    m: Slice,
    y: Slice,
) -> Vec<Launch> {
    let quads = pitch(channels) / 4;
    let size = PixelSize { batch: batch as u32, pixels: pixels as u32, quads: quads as u32, scale: 1.0 };
    let count = batch * pixels * quads;
    vec![invocations(kernel("add_rowwise", &WG), vec![x, m], vec![y], bytemuck::bytes_of(&size), count)]
}

/// y\[n\] = scale · sum over pixels of x\[n\].
pub fn sum_pixels(
    batch: usize,
    pixels: usize,
    channels: usize,
    scale: f32,
    x: Slice,
    y: Slice,
) -> Vec<Launch> {
    let quads = pitch(channels) / 4;
    let size = PixelSize { batch: batch as u32, pixels: pixels as u32, quads: quads as u32, scale };
    let count = batch * quads;
    vec![invocations(kernel("sum_pixels", &WG), vec![x], vec![y], bytemuck::bytes_of(&size), count)]
}

/// Of a, b: side by side.
#[derive(Debug)]
struct Concat {
    rows: usize,
    a: usize,
    b: usize,
}

impl Operation for Concat {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let [a, b] = context.first();
        concat(self.rows, self.a, self.b, a, b, context.output)
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        let (from, count) = if at.position == 0 { (0, self.a) } else { (self.a, self.b) };
        let op = SliceChannels { rows: self.rows, columns: self.a + self.b, from, count };
        Ok(Some(graph.push_like(at.target(), op, vec![at.dy])))
    }

    fn recomputable(&self) -> bool {
        true
    }
}

/// Columns `from..from + count` of x.
#[derive(Clone, Copy, Debug)]
struct SliceChannels {
    rows: usize,
    columns: usize,
    from: usize,
    count: usize,
}

impl Operation for SliceChannels {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        slice(self.rows, self.columns, self.from, self.count, context.inputs[0], context.output)
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        Ok(Some(graph.push_like(at.target(), EmbedChannels(*self), vec![at.dy])))
    }
}

/// The opposite: zeros around.
#[derive(Debug)]
struct EmbedChannels(SliceChannels);

impl Operation for EmbedChannels {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let SliceChannels { rows, columns, from, count } = self.0;
        embed(rows, count, columns, from, context.inputs[0], context.output)
    }
}

/// Of x \[N,HW,C\], m \[N,C\].
#[derive(Clone, Copy, Debug)]
struct AddRowwise {
    batch: usize,
    pixels: usize,
    channels: usize,
}

impl Operation for AddRowwise {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let [x, m] = context.first();
        add_rowwise(self.batch, self.pixels, self.channels, x, m, context.output)
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        Ok(Some(match at.position {
            0 => at.dy,
            _ => graph.push_like(at.target(), SumPixels(*self), vec![at.dy]),
        }))
    }

    fn recomputable(&self) -> bool {
        true
    }
}

/// Of x \[N,HW,C\] to \[N,C\].
#[derive(Debug)]
struct SumPixels(AddRowwise);

impl Operation for SumPixels {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let AddRowwise { batch, pixels, channels } = self.0;
        sum_pixels(batch, pixels, channels, 1.0, context.inputs[0], context.output)
    }
}

impl Graph {
    /// Concatenation along the channels, `a` first.
    pub fn concat(&mut self, a: NodeId, b: NodeId) -> Result<NodeId> {
        let (mut shape, other) = (self.shape(a).to_vec(), self.shape(b).to_vec());
        let (Some(columns), Some(more)) = (shape.pop(), other.last().copied()) else {
            return Err(Error::shape("concat", "needs at least one dimension"));
        };
        if shape != other[..other.len() - 1] {
            return Err(Error::shape("concat", format!("{:?} and {other:?}", self.shape(a))));
        }
        let rows = shape.iter().product();
        shape.push(columns + more);
        Ok(self.push(Concat { rows, a: columns, b: more }, vec![a, b], shape))
    }

    /// The two tensors that a concatenation consists of, with the channels of the first, so that a kernel which can
    /// read both spares the copy; other tensors as they are.
    pub(super) fn sources(&self, x: NodeId, channels: usize) -> (NodeId, usize, Option<NodeId>) {
        match self.operation::<Concat>(x) {
            // The second tensor must begin with a whole vec4.
            Some(Concat { a, .. }) if a.is_multiple_of(4) => {
                let inputs = &self.node(x).inputs;
                (inputs[0], *a, Some(inputs[1]))
            }
            _ => (x, channels, None),
        }
    }

    /// Channels `from..from + count`.
    pub fn slice_channels(&mut self, x: NodeId, from: usize, count: usize) -> Result<NodeId> {
        let mut shape = self.shape(x).to_vec();
        let columns = shape.pop().unwrap_or(0);
        if from + count > columns {
            let detail = format!("{from}..{} of {columns} channels", from + count);
            return Err(Error::shape("slice_channels", detail));
        }
        let rows = shape.iter().product();
        shape.push(count);
        Ok(self.push(SliceChannels { rows, columns, from, count }, vec![x], shape))
    }

    /// x \[N,H,W,C\] + m \[N,C\] in every pixel.
    pub fn add_rowwise(&mut self, x: NodeId, m: NodeId) -> Result<NodeId> {
        let [batch, height, width, channels] = self.image_shape("add_rowwise", x)?;
        self.expect("add_rowwise", "m", m, &[batch, channels])?;
        Ok(self.push_like(x, AddRowwise { batch, pixels: height * width, channels }, vec![x, m]))
    }
}
