//! 3×3 convolution and its gradients, the family for subgroups of exactly eight invocations: `wgsl/conv3x3_subgroup.wgsl`
//! and `wgsl/conv3x3_weight_subgroup.wgsl` at stride 1, `wgsl/conv3x3_strided_subgroup.wgsl` at stride 2 (all but the gradient
//! for the weight).

use super::{Conv3x3, FORWARD, GRAD_WEIGHT, Size};
use crate::gpu::{Launch, Slice, spread};
use crate::ops::kernel::{LANES, shader, split_rows};
use crate::ops::reduce_rows;
use crate::tensor::pitch;

shader!("conv3x3_subgroup");

mod strided {
    crate::ops::kernel::shader!("conv3x3_strided_subgroup");
}

mod weight {
    crate::ops::kernel::shader!("conv3x3_weight_subgroup");
}

/// Pixels of a tile, rows by columns; at stride 2 a subgroup makes as many one after the other.
const TILE: [u32; 2] = [4, 8];
/// Tiles of a subgroup at stride 1.
const TILES: u32 = 2;
/// Channels that a subgroup of `grad_weight` reads, in quads.
const WEIGHT_QUADS: usize = 4;
/// Subgroups that `grad_weight` aims at, so that small layers still fill a device.
const WEIGHT_SUBGROUPS: usize = 64;

fn launch(size: &Conv3x3, uniform: Size, reads: Vec<Slice>, write: Slice) -> Launch {
    let [rows, columns] = TILE;
    let Size { batch, out_height, out_width, .. } = uniform;
    let constants = [("TRANSPOSED", f64::from(uniform.transposed))];
    let (kernel, tiles) = match (uniform.stride, uniform.transposed) {
        (1, _) => {
            let tiles = batch * out_height.div_ceil(rows) * out_width.div_ceil(columns);
            (kernel("convolve", &constants), tiles.div_ceil(TILES))
        }
        // Of the gradient one pixel in four by itself: those of one parity of rows and columns.
        (_, transposed) => {
            let [height, width] = [out_height, out_width].map(|side| side.div_ceil(1 + transposed));
            let parities = if transposed == 1 { 4 } else { 1 };
            let tiles = (batch * height * width).div_ceil(rows * columns);
            (strided::kernel("convolve", &constants), parities * tiles)
        }
    };
    Launch {
        kernel,
        reads,
        writes: vec![write],
        uniform: bytemuck::bytes_of(&uniform).to_vec(),
        workgroups: spread(u64::from(tiles) * u64::from(uniform.out_quads).div_ceil(LANES)),
        multiply_adds: size.multiply_adds(),
        spare: 0,
    }
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
    vec![launch(size, uniform, reads, y).stored(&FORWARD)]
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
    let reads = vec![dy, weight, weight, addend.unwrap_or(dy)];
    vec![launch(size, uniform, reads, dx).stored(&FORWARD)]
}

/// Subgroups of one slice of `grad_weight`, slices, and rows of each.
fn slices(size: &Conv3x3) -> (usize, usize, usize) {
    let fours = (pitch(size.in_channels) / 4).div_ceil(WEIGHT_QUADS);
    let eights = (pitch(size.out_channels) / 4).div_ceil(LANES as usize);
    let tiles = 3 * fours * eights;
    let (slices, rows) = split_rows(size.batch * size.out_height(), WEIGHT_SUBGROUPS.div_ceil(tiles));
    (tiles, slices, rows)
}

/// Bytes of scratch that [`grad_weight`] needs.
pub(super) fn grad_weight_scratch(size: &Conv3x3) -> u64 {
    let (_, slices, _) = slices(size);
    reduce_rows::slice_bytes(slices, size.weight_elements())
}

/// dw of x and dy.
pub(super) fn grad_weight(size: &Conv3x3, x: Slice, dy: Slice, scratch: Slice, dw: Slice) -> Vec<Launch> {
    let (tiles, slices, slice_rows) = slices(size);
    let uniform = Size { slices: slices as u32, slice_rows: slice_rows as u32, ..size.uniform() };
    let partial = Launch {
        kernel: weight::kernel("grad_weight", &[]),
        reads: vec![x, dy],
        writes: Vec::new(),
        uniform: bytemuck::bytes_of(&uniform).to_vec(),
        workgroups: spread((tiles * slices) as u64),
        multiply_adds: size.multiply_adds(),
        spare: 0,
    };
    let partial = partial.stored(&GRAD_WEIGHT);
    reduce_rows::add_slices(partial, slices, size.weight_elements(), scratch, dw)
}
