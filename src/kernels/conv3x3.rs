//! 3×3 convolution with padding 1 and its gradients, the direct family: `wgsl/conv3x3.wgsl` (stride 1),
//! `wgsl/conv3x3_strided.wgsl` (2), `wgsl/conv3x3_weight.wgsl`; and the naive twin `wgsl/conv3x3_naive.wgsl`.

use super::{pitch, reduce_rows, shader, split_rows};
use crate::gpu::{Launch, Slice, spread};

shader!("conv3x3");

mod strided {
    use crate::kernels::shader;
    shader!("conv3x3_strided");
    pub(super) fn of(entry: &'static str, constants: &[(&'static str, f64)]) -> crate::gpu::Kernel {
        kernel(entry, constants)
    }
}

mod weight {
    use crate::kernels::shader;
    shader!("conv3x3_weight");
    pub(super) fn of(entry: &'static str, constants: &[(&'static str, f64)]) -> crate::gpu::Kernel {
        kernel(entry, constants)
    }
}

const WORKGROUP: u64 = 32;
/// Pixels per invocation, rows by columns; of the strided `grad_input`: blocks of 2 × 2 pixels, once for each row parity.
const TILE: [usize; 2] = [2, 7];
/// Invocations that `grad_weight` aims at, so that small layers still fill a device.
const WEIGHT_INVOCATIONS: usize = 1024;

/// Sizes of one convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv3x3 {
    /// Images.
    pub batch: usize,
    /// Height of the input.
    pub height: usize,
    /// Width of the input.
    pub width: usize,
    /// Input channels.
    pub in_channels: usize,
    /// Output channels.
    pub out_channels: usize,
    /// 1 or 2.
    pub stride: usize,
}

#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Size {
    pub batch: u32,
    pub in_height: u32,
    pub in_width: u32,
    pub in_quads: u32,
    pub out_height: u32,
    pub out_width: u32,
    pub out_quads: u32,
    pub weight_quads: u32,
    pub weight_rows: u32,
    pub stride: u32,
    pub has_bias: u32,
    pub has_residual: u32,
    pub slices: u32,
    pub slice_rows: u32,
    pub transposed: u32,
    pub pad: u32,
}

impl Conv3x3 {
    /// Height of the output.
    pub fn out_height(&self) -> usize {
        (self.height - 1) / self.stride + 1
    }

    /// Width of the output.
    pub fn out_width(&self) -> usize {
        (self.width - 1) / self.stride + 1
    }

    /// Struct and bindings of a forward pass; what is absent is bound to what is there, and not read.
    pub(super) fn forward_operands(
        &self,
        x: Slice,
        weight: Slice,
        bias: Option<Slice>,
        residual: Option<Slice>,
    ) -> (Size, Vec<Slice>) {
        let uniform = Size {
            has_bias: u32::from(bias.is_some()),
            has_residual: u32::from(residual.is_some()),
            ..self.uniform()
        };
        (uniform, vec![x, weight, bias.unwrap_or(weight), residual.unwrap_or(x)])
    }

    pub(super) fn multiply_adds(&self) -> u64 {
        let pixels = self.batch * self.out_height() * self.out_width();
        9 * (pixels * self.in_channels * self.out_channels) as u64
    }

    /// The struct of a pass that reads the input side and writes the output side.
    pub(super) fn uniform(&self) -> Size {
        Size {
            batch: self.batch as u32,
            in_height: self.height as u32,
            in_width: self.width as u32,
            in_quads: (pitch(self.in_channels) / 4) as u32,
            out_height: self.out_height() as u32,
            out_width: self.out_width() as u32,
            out_quads: (pitch(self.out_channels) / 4) as u32,
            weight_quads: (pitch(self.out_channels) / 4) as u32,
            weight_rows: pitch(self.in_channels) as u32,
            stride: self.stride as u32,
            ..Size::default()
        }
    }

    /// The struct of a pass that reads the output side and writes the input side.
    pub(super) fn transposed(&self) -> Size {
        let there = self.uniform();
        Size {
            in_height: there.out_height,
            in_width: there.out_width,
            in_quads: there.out_quads,
            out_height: there.in_height,
            out_width: there.in_width,
            out_quads: there.in_quads,
            transposed: 1,
            ..there
        }
    }

    /// Slices of `grad_weight` and rows of each.
    fn slices(&self) -> (usize, usize) {
        let tiles = 3 * (pitch(self.in_channels) / 4) * (pitch(self.out_channels) / 4).div_ceil(2);
        split_rows(self.batch * self.out_height(), WEIGHT_INVOCATIONS.div_ceil(tiles))
    }

    pub(super) fn weight_elements(&self) -> usize {
        9 * pitch(self.in_channels) * pitch(self.out_channels)
    }

    fn launch(&self, entry: &'static str, uniform: Size, invocations: u64) -> Launch {
        let constants = [("WG", WORKGROUP as f64)];
        let kernel = match entry {
            "grad_weight" => weight::of(entry, &constants),
            _ if self.stride == 2 => strided::of(entry, &constants),
            _ => kernel(entry, &constants),
        };
        Launch {
            kernel,
            reads: Vec::new(),
            writes: Vec::new(),
            uniform: bytemuck::bytes_of(&uniform).to_vec(),
            workgroups: spread(invocations.div_ceil(WORKGROUP)),
            multiply_adds: self.multiply_adds(),
        }
    }
}

fn tiles(uniform: &Size, [rows, columns]: [usize; 2]) -> u64 {
    let (height, width) = (uniform.out_height as usize, uniform.out_width as usize);
    let pairs = (uniform.out_quads as usize).div_ceil(2);
    uniform.batch as u64 * (height.div_ceil(rows) * width.div_ceil(columns) * pairs) as u64
}

/// y = conv(x, weight) (+ bias) (+ residual).
pub fn forward(
    size: &Conv3x3,
    x: Slice,
    weight: Slice,
    bias: Option<Slice>,
    residual: Option<Slice>,
    y: Slice,
) -> Vec<Launch> {
    let (uniform, reads) = size.forward_operands(x, weight, bias, residual);
    let launch = size.launch("forward", uniform, tiles(&uniform, TILE));
    vec![Launch { reads, writes: vec![y], ..launch }]
}

/// dx of dy.
pub fn grad_input(size: &Conv3x3, dy: Slice, weight: Slice, dx: Slice) -> Vec<Launch> {
    let uniform = size.transposed();
    let invocations = match size.stride {
        1 => tiles(&uniform, TILE),
        _ => 2 * tiles(&uniform, TILE.map(|blocks| 2 * blocks)),
    };
    let launch = size.launch("grad_input", uniform, invocations);
    vec![Launch { reads: vec![dy, weight], writes: vec![dx], ..launch }]
}

/// Bytes of scratch that [`grad_weight`] needs.
pub fn grad_weight_scratch(size: &Conv3x3) -> u64 {
    let (slices, _) = size.slices();
    reduce_rows::slice_bytes(slices, size.weight_elements())
}

/// dw of x and dy.
pub fn grad_weight(size: &Conv3x3, x: Slice, dy: Slice, scratch: Slice, dw: Slice) -> Vec<Launch> {
    let (slices, slice_rows) = size.slices();
    let uniform = Size { slices: slices as u32, slice_rows: slice_rows as u32, ..size.uniform() };
    let pairs = u64::from(uniform.out_quads).div_ceil(2);
    let invocations = slices as u64 * 3 * u64::from(uniform.in_quads) * pairs;
    let launch = size.launch("grad_weight", uniform, invocations);
    let partial = Launch { reads: vec![x, dy], ..launch };
    reduce_rows::add_slices(partial, slices, size.weight_elements(), scratch, dw)
}

/// One output value per invocation: the baseline of benchmarks and a second opinion in tests.
pub mod naive {
    use super::{Conv3x3, Launch, Slice, pitch, spread};

    mod file {
        use crate::kernels::shader;
        shader!("conv3x3_naive");
        pub(super) fn of(entry: &'static str) -> crate::gpu::Kernel {
            kernel(entry, &[("WG", super::super::WORKGROUP as f64)])
        }
    }

    #[repr(C)]
    #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
    struct Size {
        batch: u32,
        height: u32,
        width: u32,
        in_channels: u32,
        in_pitch: u32,
        out_height: u32,
        out_width: u32,
        out_channels: u32,
        out_pitch: u32,
        stride: u32,
        has_bias: u32,
        pad: u32,
    }

    fn launch(size: &Conv3x3, entry: &'static str, has_bias: bool, outputs: usize) -> Launch {
        let uniform = Size {
            batch: size.batch as u32,
            height: size.height as u32,
            width: size.width as u32,
            in_channels: size.in_channels as u32,
            in_pitch: pitch(size.in_channels) as u32,
            out_height: size.out_height() as u32,
            out_width: size.out_width() as u32,
            out_channels: size.out_channels as u32,
            out_pitch: pitch(size.out_channels) as u32,
            stride: size.stride as u32,
            has_bias: u32::from(has_bias),
            pad: 0,
        };
        Launch {
            kernel: file::of(entry),
            reads: Vec::new(),
            writes: Vec::new(),
            uniform: bytemuck::bytes_of(&uniform).to_vec(),
            workgroups: spread((outputs as u64).div_ceil(super::WORKGROUP)),
            multiply_adds: size.multiply_adds(),
        }
    }

    /// As [`super::forward`] without a residual.
    pub fn forward(size: &Conv3x3, x: Slice, weight: Slice, bias: Option<Slice>, y: Slice) -> Vec<Launch> {
        let outputs = size.batch * size.out_height() * size.out_width() * pitch(size.out_channels);
        let launch = launch(size, "forward", bias.is_some(), outputs);
        vec![Launch { reads: vec![x, weight, bias.unwrap_or(weight)], writes: vec![y], ..launch }]
    }

    /// As [`super::grad_input`].
    pub fn grad_input(size: &Conv3x3, dy: Slice, weight: Slice, dx: Slice) -> Vec<Launch> {
        let outputs = size.batch * size.height * size.width * pitch(size.in_channels);
        let launch = launch(size, "grad_input", false, outputs);
        vec![Launch { reads: vec![dy, weight], writes: vec![dx], ..launch }]
    }

    /// As [`super::grad_weight`].
    pub fn grad_weight(size: &Conv3x3, x: Slice, dy: Slice, dw: Slice) -> Vec<Launch> {
        let launch = launch(size, "grad_weight", false, size.weight_elements());
        vec![Launch { reads: vec![x, dy], writes: vec![dw], ..launch }]
    }
}
