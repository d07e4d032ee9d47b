//! Bilinear resizing of images to any size, and its gradient: `wgsl/resize.wgsl`. Half-pixel centres, no antialiasing.

use super::kernel::{WG, invocations, shader};
use crate::error::{Error, Result};
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Graph, NodeId, Operation, Upstream};
use crate::tensor::pitch;

shader!("resize");

/// Largest side: positions are then exact in the shader's f32.
const LARGEST: usize = 1 << 20;

/// Sizes of one resizing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resize {
    batch: usize,
    sides: [usize; 2],
    out_sides: [usize; 2],
    channels: usize,
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
    scale_height: f32,
    scale_width: f32,
}

impl Resize {
    /// The resizing of an image \[batch, height, width, channels\] to `out_sides`, \[height, width\].
    ///
    /// # Errors
    /// [`Error::Shape`] for what is empty, and for sides beyond 2²⁰.
    pub fn new(image: [usize; 4], out_sides: [usize; 2]) -> Result<Resize> {
        let [batch, height, width, channels] = image;
        let sides = [height, width];
        let wrong = |side: &usize| !(1..=LARGEST).contains(side);
        if [batch, channels].contains(&0) || sides.iter().chain(&out_sides).any(wrong) {
            return Err(Error::shape("resize_bilinear", format!("{image:?} cannot become {out_sides:?}")));
        }
        Ok(Resize { batch, sides, out_sides, channels })
    }

    /// One vec4 per invocation, over `sides`.
    fn launch(&self, entry: &'static str, read: Slice, write: Slice, sides: [usize; 2]) -> Vec<Launch> {
        let quads = pitch(self.channels) / 4;
        let scale = |axis: usize| self.sides[axis] as f32 / self.out_sides[axis] as f32;
        let size = Size {
            batch: self.batch as u32,
            height: self.sides[0] as u32,
            width: self.sides[1] as u32,
            quads: quads as u32,
            out_height: self.out_sides[0] as u32,
            out_width: self.out_sides[1] as u32,
            scale_height: scale(0),
            scale_width: scale(1),
        };
        let count = self.batch * sides[0] * sides[1] * quads;
        vec![invocations(kernel(entry, &WG), vec![read], vec![write], bytemuck::bytes_of(&size), count)]
    }
}

/// y of x.
pub fn forward(size: &Resize, x: Slice, y: Slice) -> Vec<Launch> {
    size.launch("forward", x, y, size.out_sides)
}

/// dx of dy.
pub fn grad(size: &Resize, dy: Slice, dx: Slice) -> Vec<Launch> {
    size.launch("grad", dy, dx, size.sides)
}

#[derive(Clone, Copy, Debug)]
struct Bilinear(Resize);

impl Operation for Bilinear {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        forward(&self.0, context.inputs[0], context.output)
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        Ok(Some(graph.push_like(at.target(), BilinearGrad(self.0), vec![at.dy])))
    }

    fn recomputable(&self) -> bool {
        true
    }
}

/// Of dy.
#[derive(Debug)]
struct BilinearGrad(Resize);

impl Operation for BilinearGrad {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        grad(&self.0, context.inputs[0], context.output)
    }
}

impl Graph {
    /// `x` \[N,H,W,C\] resized to `sides` \[height, width\] by bilinear interpolation between half-pixel centres, without
    /// antialiasing: PyTorch's `interpolate` with `align_corners=False`.
    ///
    /// # Errors
    /// [`Error::Shape`] as [`Resize::new`].
    pub fn resize_bilinear(&mut self, x: NodeId, sides: [usize; 2]) -> Result<NodeId> {
        let size = Resize::new(self.image_shape("resize_bilinear", x)?, sides)?;
        let shape = vec![size.batch, sides[0], sides[1], size.channels];
        Ok(self.push(Bilinear(size), vec![x], shape))
    }
}
