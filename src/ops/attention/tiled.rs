//! [`attention`](super) in tiles of workgroup memory, for devices where a barrier costs little:
//! `wgsl/attention_tiled.wgsl`. The same inputs and outputs.

use super::Attention;
use crate::gpu::{Launch, Slice, spread};
use crate::ops::kernel::shader;

shader!("attention_tiled");

/// Tokens a workgroup computes and those it streams between two barriers, `TILE` in the shader.
const TILE: usize = 32;
/// Columns of a head that a workgroup makes the results of.
const BLOCK: usize = 64;

/// One pass; `products` products of all pairs of tokens.
pub(super) fn launch(
    size: &Attention,
    entry: &'static str,
    reads: Vec<Slice>,
    writes: Vec<Slice>,
    products: usize,
) -> Launch {
    let depth = size.depth();
    let aligned = f64::from(u8::from(depth.is_multiple_of(4)));
    let constants = [("HEAD_QUADS", depth.div_ceil(4) as f64), ("ALIGNED", aligned)];
    let workgroups = size.batch * size.heads * size.tokens.div_ceil(TILE) * depth.div_ceil(BLOCK);
    Launch {
        kernel: kernel(entry, &constants),
        reads,
        writes,
        uniform: bytemuck::bytes_of(&size.uniform()).to_vec(),
        workgroups: spread(workgroups as u64),
        multiply_adds: size.multiply_adds(products),
        spare: 0,
    }
}
