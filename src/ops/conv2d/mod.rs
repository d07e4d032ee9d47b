//! Convolution with any kernel, stride and padding, and its gradients. The gradient of the bias is a column sum. For 3×3 kernels
//! of padding 1 and strides 1 and 2 [`conv3x3`](super::conv3x3) is faster.
//!
//! The families: `direct` (`wgsl/conv2d.wgsl`) and `subgroup` (`wgsl/conv2d_subgroup.wgsl`), which lacks the gradient for the
//! weight. Where a family lacks a kernel the direct one runs ([`Family::or_direct`]).

mod direct;
mod subgroup;

pub use direct::{grad_weight, grad_weight_scratch};

use crate::error::{Error, Result};
use crate::families::{Family, Key, KeyKind};
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Graph, NodeId, Operation, Upstream};
use crate::tensor::pitch;

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

impl Conv2d {
    /// The convolution of an image \[batch, height, width, channels\] to `out_channels`.
    ///
    /// # Errors
    /// [`Error::Shape`] for no samples or channels, and what [`Window::output`] refuses.
    pub fn new(image: [usize; 4], out_channels: usize, window: Window) -> Result<Conv2d> {
        let [batch, height, width, in_channels] = image;
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

    fn multiply_adds(&self) -> u64 {
        (self.taps() * self.pixels(self.out_sides) * self.in_channels * self.out_channels) as u64
    }

    /// Struct and bindings of a forward pass; what is absent is bound to what is there, and not read.
    fn forward_operands(&self, x: Slice, weight: Slice, bias: Option<Slice>) -> (Size, Vec<Slice>) {
        let uniform = Size { has_bias: u32::from(bias.is_some()), ..self.uniform() };
        (uniform, vec![x, weight, bias.unwrap_or(weight)])
    }

    /// This convolution as key of a tuning table.
    pub fn key(&self, operation: KeyKind) -> Key {
        let ([height, width], Window { kernel, stride, padding }) = (self.sides, self.window);
        let image = [self.batch, height, width, self.in_channels, self.out_channels];
        Key { operation, shape: [&image[..], &kernel, &stride, &padding].concat() }
    }

    /// The convolution of a key; `None`: it is of another operation, or of a shape that no convolution has.
    pub fn of_key(key: &Key) -> Option<Conv2d> {
        match (key.operation, key.shape.as_slice()) {
            (
                KeyKind::Conv2dForward | KeyKind::Conv2dGradInput,
                &[batch, height, width, channels, out_channels, u, v, s, t, p, q],
            ) => {
                let window = Window { kernel: [u, v], stride: [s, t], padding: [p, q] };
                Conv2d::new([batch, height, width, channels], out_channels, window).ok()
            }
            _ => None,
        }
    }

    /// Rows and columns of x, of the weight and of y.
    pub fn operands(&self) -> [[usize; 2]; 3] {
        let weight_rows = self.taps() * pitch(self.in_channels);
        [
            [self.pixels(self.sides), self.in_channels],
            [weight_rows, self.out_channels],
            [self.pixels(self.out_sides), self.out_channels],
        ]
    }
}

/// y = conv(x, weight) (+ bias); the weight is \[kernel height · kernel width, pitch(C), K\].
pub fn forward(
    family: Family,
    size: &Conv2d,
    x: Slice,
    weight: Slice,
    bias: Option<Slice>,
    y: Slice,
) -> Vec<Launch> {
    match family.or_direct(&size.key(KeyKind::Conv2dForward)) {
        Family::Subgroup => subgroup::forward(size, x, weight, bias, y),
        _ => direct::forward(size, x, weight, bias, y),
    }
}

/// dx of dy.
pub fn grad_input(family: Family, size: &Conv2d, dy: Slice, weight: Slice, dx: Slice) -> Vec<Launch> {
    match family.or_direct(&size.key(KeyKind::Conv2dGradInput)) {
        Family::Subgroup => subgroup::grad_input(size, dy, weight, dx),
        _ => direct::grad_input(size, dy, weight, dx),
    }
}

/// Of x, weight, \[bias\].
#[derive(Debug)]
struct Conv2dForward {
    size: Conv2d,
    bias: bool,
}

impl Operation for Conv2dForward {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let family = context.family(&self.size.key(KeyKind::Conv2dForward));
        let [x, weight] = context.first();
        forward(family, &self.size, x, weight, context.optional(self.bias, 2), context.output)
    }

    fn keys(&self) -> Vec<Key> {
        vec![self.size.key(KeyKind::Conv2dForward)]
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
        let family = context.family(&self.0.key(KeyKind::Conv2dGradInput));
        grad_input(family, &self.0, context.inputs[0], context.inputs[1], context.output)
    }

    fn keys(&self) -> Vec<Key> {
        vec![self.0.key(KeyKind::Conv2dGradInput)]
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
