//! Convolution with any odd kernel, stride and padding, and its gradients: `wgsl/conv2d.wgsl`. The gradient of the bias is a
//! column sum. For 3×3 kernels of padding 1 and strides 1 and 2 [`conv3x3`](super::conv3x3) is faster.

use super::kernel::{shader, split_rows};
use super::reduce_rows;
use crate::error::{Error, Result};
use crate::gpu::{Launch, Slice, spread};
use crate::graph::{Context, Graph, NodeId, Operation, Upstream};
use crate::tensor::pitch;

shader!("conv2d");

const WORKGROUP: u64 = 32;
/// Pixels and vec4s of channels per invocation.
const TILE: [usize; 2] = [4, 2];
/// Invocations that `grad_weight` aims at, so that small layers still fill a device.
const WEIGHT_INVOCATIONS: usize = 1024;
/// Pixels of a slice of `grad_weight` at most: some software devices end a loop after 65,535 rounds.
const SLICE_PIXELS: usize = 32_768;
/// Largest kernel, stride or padding: positions in an image then fit the shader's integers.
const LARGEST: usize = 32_767;

/// Where a window lies on its input; each pair is \[vertical, horizontal\].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Pixels that it covers.
    pub kernel: [usize; 2],
    /// Pixels from one to the next.
    pub stride: [usize; 2],
    /// Pixels by which the input is extended on every side.
    pub padding: [usize; 2],
}

impl Window {
    /// Height and width of what windows over an image of `sides` give.
    ///
    /// # Errors
    /// [`Error::Shape`] naming `op` for a window that is empty, does not move, is larger than the padded image, or has a
    /// number beyond 32,767.
    pub fn output(&self, op: &'static str, sides: [usize; 2]) -> Result<[usize; 2]> {
        let Window { kernel, stride, padding } = *self;
        let mut output = [0; 2];
        for axis in 0..2 {
            let (kernel, stride, padding) = (kernel[axis], stride[axis], padding[axis]);
            let extent = sides[axis].saturating_add(2 * padding.min(LARGEST));
            let wrong = [kernel, stride].contains(&0) || kernel.max(stride).max(padding) > LARGEST;
            if wrong || sides[axis] == 0 || extent < kernel {
                return Err(Error::shape(op, format!("{self:?} does not fit {}×{}", sides[0], sides[1])));
            }
            output[axis] = (extent - kernel) / stride + 1;
        }
        Ok(output)
    }
}

/// Sizes of one convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    batch: usize,
    sides: [usize; 2],
    out_sides: [usize; 2],
    in_channels: usize,
    out_channels: usize,
    window: Window,
}

#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    batch: u32,
    in_height: u32,
    in_width: u32,
    in_quads: u32,
    out_height: u32,
    out_width: u32,
    out_quads: u32,
    kernel_height: u32,
    kernel_width: u32,
    stride_height: u32,
    stride_width: u32,
    padding_height: u32,
    padding_width: u32,
    has_bias: u32,
    slices: u32,
    slice_pixels: u32,
}

/// Pairs of vec4s of `channels`.
fn pairs(channels: usize) -> usize {
    (pitch(channels) / 4).div_ceil(TILE[1])
}

impl Conv2d {
    /// The convolution of an image \[batch, height, width, channels\] to `out_channels`.
    ///
    /// # Errors
    /// [`Error::Shape`] for kernels of even size, no samples or channels, and what [`Window::output`] refuses.
    pub fn new(image: [usize; 4], out_channels: usize, window: Window) -> Result<Conv2d> {
        let [batch, height, width, in_channels] = image;
        if window.kernel.iter().any(|side| side.is_multiple_of(2)) {
            return Err(Error::shape("conv2d", format!("kernels are odd, this is {:?}", window.kernel)));
        }
        if [batch, in_channels, out_channels].contains(&0) {
            return Err(Error::shape("conv2d", format!("{image:?} to {out_channels} channels is empty")));
        }
        let sides = [height, width];
        let out_sides = window.output("conv2d", sides)?;
        Ok(Conv2d { batch, sides, out_sides, in_channels, out_channels, window })
    }

    /// Shape of the result.
    pub fn shape(&self) -> [usize; 4] {
        [self.batch, self.out_sides[0], self.out_sides[1], self.out_channels]
    }

    fn taps(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1]
    }

    fn pixels(&self, sides: [usize; 2]) -> usize {
        self.batch * sides[0] * sides[1]
    }

    fn weight_elements(&self) -> usize {
        self.taps() * pitch(self.in_channels) * pitch(self.out_channels)
    }

    /// Slices of `grad_weight` and pixels of each.
    fn slices(&self) -> (usize, usize) {
        let pixels = self.pixels(self.out_sides);
        let tiles = self.taps() * pairs(self.in_channels) * pairs(self.out_channels);
        split_rows(pixels, WEIGHT_INVOCATIONS.div_ceil(tiles).max(pixels.div_ceil(SLICE_PIXELS)))
    }

    fn uniform(&self) -> Size {
        let Window { kernel, stride, padding } = self.window;
        Size {
            batch: self.batch as u32,
            in_height: self.sides[0] as u32,
            in_width: self.sides[1] as u32,
            in_quads: (pitch(self.in_channels) / 4) as u32,
            out_height: self.out_sides[0] as u32,
            out_width: self.out_sides[1] as u32,
            out_quads: (pitch(self.out_channels) / 4) as u32,
            kernel_height: kernel[0] as u32,
            kernel_width: kernel[1] as u32,
            stride_height: stride[0] as u32,
            stride_width: stride[1] as u32,
            padding_height: padding[0] as u32,
            padding_width: padding[1] as u32,
            ..Size::default()
        }
    }

    fn launch(&self, entry: &'static str, uniform: Size, invocations: usize, reads: Vec<Slice>) -> Launch {
        let products = self.taps() * self.pixels(self.out_sides) * self.in_channels * self.out_channels;
        Launch {
            kernel: kernel(entry, &[("WG", WORKGROUP as f64)]),
            reads,
            writes: Vec::new(),
            uniform: bytemuck::bytes_of(&uniform).to_vec(),
            workgroups: spread((invocations as u64).div_ceil(WORKGROUP)),
            multiply_adds: products as u64,
        }
    }
}

/// y = conv(x, weight) (+ bias); the weight is \[kernel height · kernel width, pitch(C), K\].
pub fn forward(size: &Conv2d, x: Slice, weight: Slice, bias: Option<Slice>, y: Slice) -> Vec<Launch> {
    let uniform = Size { has_bias: u32::from(bias.is_some()), ..size.uniform() };
    let tiles = size.pixels(size.out_sides).div_ceil(TILE[0]) * pairs(size.out_channels);
    // What is absent is bound to what is there, and not read.
    let reads = vec![x, weight, bias.unwrap_or(weight)];
    vec![Launch { writes: vec![y], ..size.launch("forward", uniform, tiles, reads) }]
}

/// dx of dy.
pub fn grad_input(size: &Conv2d, dy: Slice, weight: Slice, dx: Slice) -> Vec<Launch> {
    let tiles = size.pixels(size.sides).div_ceil(TILE[0]) * pairs(size.in_channels);
    let launch = size.launch("grad_input", size.uniform(), tiles, vec![dy, weight]);
    vec![Launch { writes: vec![dx], ..launch }]
}

/// Bytes of scratch that [`grad_weight`] needs.
pub fn grad_weight_scratch(size: &Conv2d) -> u64 {
    reduce_rows::slice_bytes(size.slices().0, size.weight_elements())
}

/// dw of x and dy.
pub fn grad_weight(size: &Conv2d, x: Slice, dy: Slice, scratch: Slice, dw: Slice) -> Vec<Launch> {
    let (slices, slice_pixels) = size.slices();
    let uniform = Size { slices: slices as u32, slice_pixels: slice_pixels as u32, ..size.uniform() };
    let tiles = slices * size.taps() * pairs(size.in_channels) * pairs(size.out_channels);
    let partial = size.launch("grad_weight", uniform, tiles, vec![x, dy]);
    reduce_rows::add_slices(partial, slices, size.weight_elements(), scratch, dw)
}

/// Of x, weight, \[bias\].
#[derive(Debug)]
struct Conv2dForward {
    size: Conv2d,
    bias: bool,
}

impl Operation for Conv2dForward {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let [x, weight] = context.first();
        forward(&self.size, x, weight, context.optional(self.bias, 2), context.output)
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        let (x, weight, dy) = (at.inputs[0], at.inputs[1], at.dy);
        Ok(Some(match at.position {
            0 => graph.push_like(x, Conv2dGradInput(self.size), vec![dy, weight]),
            1 => graph.push_like(weight, Conv2dGradWeight(self.size), vec![x, dy]),
            _ => graph.sum_rows(dy),
        }))
    }
}

/// Of dy, weight.
#[derive(Debug)]
struct Conv2dGradInput(Conv2d);

impl Operation for Conv2dGradInput {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        grad_input(&self.0, context.inputs[0], context.inputs[1], context.output)
    }
}

/// Of x, dy.
#[derive(Debug)]
struct Conv2dGradWeight(Conv2d);

impl Operation for Conv2dGradWeight {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let partial = context.scratch(grad_weight_scratch(&self.0));
        grad_weight(&self.0, context.inputs[0], context.inputs[1], partial, context.output)
    }
}

impl Graph {
    /// Convolution of `x` \[N,H,W,C\] with `weight` \[kernel height · kernel width, pitch(C), K\] (rows of padded channels are
    /// zero) at every position of `window`; `bias` \[K\] is added.
    ///
    /// # Errors
    /// [`Error::Shape`] as [`Conv2d::new`], and for tensors that do not fit.
    pub fn conv2d(
        &mut self,
        x: NodeId,
        weight: NodeId,
        window: Window,
        bias: Option<NodeId>,
    ) -> Result<NodeId> {
        let image = self.image_shape("conv2d", x)?;
        let out_channels = *self.shape(weight).last().unwrap_or(&0);
        let size = Conv2d::new(image, out_channels, window)?;
        self.expect("conv2d", "weight", weight, &[size.taps(), pitch(image[3]), out_channels])?;
        if let Some(bias) = bias {
            self.expect("conv2d", "bias", bias, &[out_channels])?;
        }
        let inputs = [x, weight].into_iter().chain(bias).collect();
        Ok(self.push(Conv2dForward { size, bias: bias.is_some() }, inputs, size.shape().to_vec()))
    }
}
