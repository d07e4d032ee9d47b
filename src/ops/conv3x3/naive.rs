//! One output value per invocation: the baseline of benchmarks and a second opinion in tests. `wgsl/conv3x3_naive.wgsl`.

use super::Conv3x3;
use crate::gpu::{Launch, Slice, spread};
use crate::ops::kernel::shader;
use crate::tensor::pitch;

shader!("conv3x3_naive");

const WORKGROUP: u64 = 32;

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
        kernel: kernel(entry, &[("WG", WORKGROUP as f64)]),
        reads: Vec::new(),
        writes: Vec::new(),
        uniform: bytemuck::bytes_of(&uniform).to_vec(),
        workgroups: spread((outputs as u64).div_ceil(WORKGROUP)),
        multiply_adds: size.multiply_adds(),
        spare: 0,
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
