//! The direct family: register tiles, no barriers. `wgsl/conv3x3.wgsl` is for stride 1, `wgsl/conv3x3_strided.wgsl` for 2.

use super::{Conv3x3, FORWARD, GRAD_WEIGHT, Size};
use crate::gpu::{Launch, Slice, spread};
use crate::ops::kernel::{shader, split_rows};
use crate::ops::reduce_rows;
use crate::tensor::pitch;

shader!("conv3x3");

mod strided {
    crate::ops::kernel::shader!("conv3x3_strided");
}

mod weight {
    crate::ops::kernel::shader!("conv3x3_weight");
}

const WORKGROUP: u64 = 32;
/// Pixels per invocation, rows by columns; of the strided `grad_input`: blocks of 2 × 2 pixels, once for each row parity.
const TILE: [usize; 2] = [2, 7];
/// Invocations that `grad_weight` aims at, so that small layers still fill a device.
const WEIGHT_INVOCATIONS: usize = 1024;

/// Slices of `grad_weight` and rows of each.
fn slices(size: &Conv3x3) -> (usize, usize) {
    let tiles = 3 * (pitch(size.in_channels) / 4) * (pitch(size.out_channels) / 4).div_ceil(2);
    split_rows(size.batch * size.out_height(), WEIGHT_INVOCATIONS.div_ceil(tiles))
}

fn launch(size: &Conv3x3, entry: &'static str, uniform: Size, invocations: u64) -> Launch {
    let constants = [("WG", WORKGROUP as f64)];
    let kernel = match entry {
        "grad_weight" => weight::kernel(entry, &constants),
        _ if size.stride == 2 => strided::kernel(entry, &constants),
        _ => kernel(entry, &constants),
    };
    Launch {
        kernel,
        reads: Vec::new(),
        writes: Vec::new(),
        uniform: bytemuck::bytes_of(&uniform).to_vec(),
        workgroups: spread(invocations.div_ceil(WORKGROUP)),
        multiply_adds: size.multiply_adds(),
        spare: 0,
    }
}

fn tiles(uniform: &Size, [rows, columns]: [usize; 2]) -> u64 {
    let (height, width) = (uniform.out_height as usize, uniform.out_width as usize);
    let pairs = (uniform.out_quads as usize).div_ceil(2);
    uniform.batch as u64 * (height.div_ceil(rows) * width.div_ceil(columns) * pairs) as u64
}

/// y = conv(x, weight) (+ bias) (+ residual).
pub(super) fn forward(
    size: &Conv3x3,
    x: Slice,
    weight: Slice,
    bias: Option<Slice>,
    residual: Option<Slice>,
    y: Slice,
) -> Vec<Launch> {
    let (uniform, reads) = size.forward_operands(x, weight, bias, residual);
    let launch = launch(size, "forward", uniform, tiles(&uniform, TILE));
    vec![Launch { reads, writes: vec![y], ..launch }.stored(&FORWARD)]
}

/// dx of dy (+ addend).
pub(super) fn grad_input(
    size: &Conv3x3,
    dy: Slice,
    weight: Slice,
    addend: Option<Slice>,
    dx: Slice,
) -> Vec<Launch> {
    let uniform = Size { has_residual: u32::from(addend.is_some()), ..size.transposed() };
    let invocations = match size.stride {
        1 => tiles(&uniform, TILE),
        _ => 2 * tiles(&uniform, TILE.map(|blocks| 2 * blocks)),
    };
    let launch = launch(size, "grad_input", uniform, invocations);
    let reads = vec![dy, weight, addend.unwrap_or(dy)];
    vec![Launch { reads, writes: vec![dx], ..launch }.stored(&["Source", "", "Residual", "Gradient"])]
}

/// Bytes of scratch that [`grad_weight`] needs.
pub(super) fn grad_weight_scratch(size: &Conv3x3) -> u64 {
    let (slices, _) = slices(size);
    reduce_rows::slice_bytes(slices, size.weight_elements())
}

/// dw of x and dy.
pub(super) fn grad_weight(size: &Conv3x3, x: Slice, dy: Slice, scratch: Slice, dw: Slice) -> Vec<Launch> {
    let (slices, slice_rows) = slices(size);
    let uniform = Size { slices: slices as u32, slice_rows: slice_rows as u32, ..size.uniform() };
    let pairs = u64::from(uniform.out_quads).div_ceil(2);
    let invocations = slices as u64 * 3 * u64::from(uniform.in_quads) * pairs;
    let launch = launch(size, "grad_weight", uniform, invocations);
    let partial = Launch { reads: vec![x, dy], ..launch }.stored(&GRAD_WEIGHT);
    reduce_rows::add_slices(partial, slices, size.weight_elements(), scratch, dw)
}
