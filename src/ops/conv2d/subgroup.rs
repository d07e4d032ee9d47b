//! [`conv2d`](super) and its gradient for the input where subgroups are of exactly eight invocations:
//! `wgsl/conv2d_subgroup.wgsl`.

use super::{Conv2d, Size};
use crate::gpu::{Launch, Slice, spread};
use crate::ops::kernel::shader;
use crate::tensor::pitch;

shader!("conv2d_subgroup");

/// Pixels and channels of a subgroup.
const TILE: usize = 32;

/// A launch that writes `channels` of each of `pixels`.
fn launch(
    size: &Conv2d,
    transposed: bool,
    uniform: Size,
    [pixels, channels]: [usize; 2],
    reads: Vec<Slice>,
    write: Slice,
) -> Launch {
    let tiles = pixels.div_ceil(TILE) * pitch(channels).div_ceil(TILE);
    Launch {
        kernel: kernel("convolve", &[("TRANSPOSED", f64::from(u8::from(transposed)))]),
        reads,
        writes: vec![write],
        uniform: bytemuck::bytes_of(&uniform).to_vec(),
        workgroups: spread(tiles as u64),
        multiply_adds: size.multiply_adds(),
        spare: 0,
    }
}

/// y = conv(x, weight) (+ bias).
pub(super) fn forward(size: &Conv2d, x: Slice, weight: Slice, bias: Option<Slice>, y: Slice) -> Vec<Launch> {
    let (uniform, reads) = size.forward_operands(x, weight, bias);
    let [_, _, written] = size.operands();
    vec![launch(size, false, uniform, written, reads, y)]
}

/// dx of dy.
pub(super) fn grad_input(size: &Conv2d, dy: Slice, weight: Slice, dx: Slice) -> Vec<Launch> {
    let [written, ..] = size.operands();
    vec![launch(size, true, size.uniform(), written, vec![dy, weight, weight], dx)]
}
