//! [`attention`](super::attention) in tiles of workgroup memory, for devices where a barrier costs little:
//! `wgsl/attention_tiled.wgsl`. The same inputs and outputs.

use super::attention::{Attention, lse_bytes};
use super::shader;
use crate::gpu::{Launch, Slice, spread};

shader!("attention_tiled");

/// Tokens a workgroup computes and those it streams between two barriers, `TILE` in the shader.
const TILE: usize = 32;
/// Columns of a head that a workgroup makes the results of.
const BLOCK: usize = 64;

fn launch(
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
    }
}

/// Writes `out` \[N, T, C\], heads side by side, and `lse` ([`lse_bytes`]) of `qkv` \[N, T, 3C\].
pub fn forward(size: &Attention, qkv: Slice, out: Slice, lse: Slice) -> Vec<Launch> {
    vec![launch(size, "forward", vec![qkv], vec![out, lse], 2)]
}

/// Bytes of [`grad`]'s scratch memory: \[N, heads, T\], dout·out of each query.
pub fn grad_scratch(size: &Attention) -> u64 {
    lse_bytes(size)
}

/// Writes the gradient `dqkv` of `qkv` from the gradient `dout` of `out`; `out` and `lse` are those of [`forward`].
pub fn grad(
    size: &Attention,
    qkv: Slice,
    out: Slice,
    lse: Slice,
    dout: Slice,
    scratch: Slice,
    dqkv: Slice,
) -> Vec<Launch> {
    vec![
        launch(size, "grad_query", vec![qkv, dout, lse, out], vec![dqkv, scratch], 3),
        launch(size, "grad_key_value", vec![qkv, dout, lse, scratch], vec![dqkv], 4),
    ]
}
