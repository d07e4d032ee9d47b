//! Maximum and mean over windows of any size, stride and padding, and their gradients: `wgsl/pool2d.wgsl`. The 2×2 mean of
//! [`resample`](super::resample) is a kernel of its own.

use super::conv2d::Window;
use super::kernel::{WG, invocations, shader};
use crate::error::{Error, Result};
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Graph, NodeId, Operation, Upstream};
use crate::tensor::pitch;

shader!("pool2d");

/// Sizes of one pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool2d {
    batch: usize,
    sides: [usize; 2],
    out_sides: [usize; 2],
    channels: usize,
    window: Window,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    batch: u32,
    height: u32,
    width: u32,
    quads: u32,
    out_height: u32,
    out_width: u32,
    kernel_height: u32,
    kernel_width: u32,
    stride_height: u32,
    stride_width: u32,
    padding_height: u32,
    padding_width: u32,
    clipped: u32,
    pad: [u32; 3],
}

impl Pool2d {
    /// The pooling of an image \[batch, height, width, channels\]; `op` names it in errors.
    ///
    /// # Errors
    /// [`Error::Shape`] for paddings of more than half the kernel, as PyTorch: a window could lie outside of the image; for
    /// no samples or channels, and what [`Window::output`] refuses.
    pub fn new(op: &'static str, image: [usize; 4], window: Window) -> Result<Pool2d> {
        let [batch, height, width, channels] = image;
        if [batch, channels].contains(&0) {
            return Err(Error::shape(op, format!("{image:?} is empty")));
        }
        let sides = [height, width];
        let out_sides = window.output(op, sides)?;
        if (0..2).any(|axis| window.padding[axis] > window.kernel[axis] / 2) {
            let detail = format!("a padding is at most half the kernel, this is {window:?}");
            return Err(Error::shape(op, detail));
        }
        Ok(Pool2d { batch, sides, out_sides, channels, window })
    }

    /// Shape of the result.
    pub fn shape(&self) -> [usize; 4] {
        [self.batch, self.out_sides[0], self.out_sides[1], self.channels]
    }

    /// One vec4 per invocation, over `sides`.
    fn launch(
        &self,
        entry: &'static str,
        clipped: bool,
        (reads, writes): (Vec<Slice>, Vec<Slice>),
        sides: [usize; 2],
    ) -> Vec<Launch> {
        let quads = pitch(self.channels) / 4;
        let Window { kernel: extent, stride, padding } = self.window;
        let size = Size {
            batch: self.batch as u32,
            height: self.sides[0] as u32,
            width: self.sides[1] as u32,
            quads: quads as u32,
            out_height: self.out_sides[0] as u32,
            out_width: self.out_sides[1] as u32,
            kernel_height: extent[0] as u32,
            kernel_width: extent[1] as u32,
            stride_height: stride[0] as u32,
            stride_width: stride[1] as u32,
            padding_height: padding[0] as u32,
            padding_width: padding[1] as u32,
            clipped: u32::from(clipped),
            pad: [0; 3],
        };
        let count = self.batch * sides[0] * sides[1] * quads;
        vec![invocations(kernel(entry, &WG), reads, writes, bytemuck::bytes_of(&size), count)]
    }
}

/// y of x, and where in an image each maximum lies first: `places`, u32 words as many as y's.
pub fn max(size: &Pool2d, x: Slice, y: Slice, places: Slice) -> Vec<Launch> {
    size.launch("max_forward", false, (vec![x], vec![y, places]), size.out_sides)
}

/// dx of dy and the places of the maxima.
pub fn max_grad(size: &Pool2d, dy: Slice, places: Slice, dx: Slice) -> Vec<Launch> {
    size.launch("max_grad", false, (vec![dy, places], vec![dx]), size.sides)
}

/// y of x; padding counts as zeros, or with `clipped` not at all.
pub fn average(size: &Pool2d, clipped: bool, x: Slice, y: Slice) -> Vec<Launch> {
    size.launch("average_forward", clipped, (vec![x], vec![y]), size.out_sides)
}

/// dx of dy.
pub fn average_grad(size: &Pool2d, clipped: bool, dy: Slice, dx: Slice) -> Vec<Launch> {
    size.launch("average_grad", clipped, (vec![dy], vec![dx]), size.sides)
}

/// Of x; updates the places.
#[derive(Debug)]
struct MaxPool(Pool2d);

impl Operation for MaxPool {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        max(&self.0, context.inputs[0], context.output, context.updates[0])
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        let places = graph.node(at.node).updates[0];
        Ok(Some(graph.push_like(at.target(), MaxPoolGrad(self.0), vec![at.dy, places])))
    }
}

/// Of dy, places.
#[derive(Debug)]
struct MaxPoolGrad(Pool2d);

impl Operation for MaxPoolGrad {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        max_grad(&self.0, context.inputs[0], context.inputs[1], context.output)
    }
}

#[derive(Clone, Copy, Debug)]
struct AveragePool {
    size: Pool2d,
    clipped: bool,
}

impl Operation for AveragePool {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        average(&self.size, self.clipped, context.inputs[0], context.output)
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        Ok(Some(graph.push_like(at.target(), AveragePoolGrad(*self), vec![at.dy])))
    }

    fn recomputable(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct AveragePoolGrad(AveragePool);

impl Operation for AveragePoolGrad {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        average_grad(&self.0.size, self.0.clipped, context.inputs[0], context.output)
    }
}

impl Graph {
    /// Maximum of `x` \[N,H,W,C\] over every position of `window`; padding never wins. The gradient goes to the first maximum
    /// of a window, row by row, as in PyTorch.
    ///
    /// # Errors
    /// [`Error::Shape`] as [`Pool2d::new`].
    pub fn max_pool2d(&mut self, x: NodeId, window: Window) -> Result<NodeId> {
        let size = Pool2d::new("max_pool2d", self.image_shape("max_pool2d", x)?, window)?;
        let shape = size.shape().to_vec();
        let places = self.reserve(&shape);
        Ok(self.push_updating(MaxPool(size), vec![x], vec![places], shape))
    }

    /// Mean of `x` \[N,H,W,C\] over every position of `window`. With `count_include_pad` the padding counts as zeros, else the
    /// mean is over what lies in the image.
    ///
    /// # Errors
    /// [`Error::Shape`] as [`Pool2d::new`].
    pub fn avg_pool2d(&mut self, x: NodeId, window: Window, count_include_pad: bool) -> Result<NodeId> {
        let size = Pool2d::new("avg_pool2d", self.image_shape("avg_pool2d", x)?, window)?;
        let op = AveragePool { size, clipped: !count_include_pad };
        Ok(self.push(op, vec![x], size.shape().to_vec()))
    }
}
