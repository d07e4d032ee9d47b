//! The direct family: register tiles, no barriers. `wgsl/attention.wgsl`.

use super::Attention;
use crate::gpu::{Kernel, Launch, Slice, spread};
use crate::ops::kernel::shader;

shader!("attention");

/// Invocations per workgroup, `WG` in the shader.
const WORKGROUP: u64 = 32;
/// Groups of four columns an invocation keeps the results of, `CHUNK` in the shader.
const CHUNK: usize = 4;
/// Heads of at most this many groups of four columns leave room for eight tokens per invocation instead of four.
const WIDE_QUADS: usize = 2;

/// One pass; `products` products of all pairs of tokens.
pub(super) fn launch(
    size: &Attention,
    entry: &'static str,
    reads: Vec<Slice>,
    writes: Vec<Slice>,
    products: usize,
) -> Launch {
    blocks(kernel, size, entry, reads, writes, products)
}

/// A kernel's entry point by its name and constants.
type Entry = fn(&'static str, &[(&'static str, f64)]) -> Kernel;

/// A pass of a kernel whose invocations have one or two blocks of four tokens each.
pub(super) fn blocks(
    kernel: Entry,
    size: &Attention,
    entry: &'static str,
    reads: Vec<Slice>,
    writes: Vec<Slice>,
    products: usize,
) -> Launch {
    let depth = size.depth();
    let quads = depth.div_ceil(4);
    let wide = quads <= WIDE_QUADS;
    let constants = [
        ("HEAD_QUADS", quads as f64),
        ("ALIGNED", f64::from(u8::from(depth.is_multiple_of(4)))),
        ("WIDE", f64::from(u8::from(wide))),
    ];
    let tiles = size.tokens.div_ceil(if wide { 8 } else { 4 });
    let invocations = size.batch * size.heads * tiles * quads.div_ceil(CHUNK);
    Launch {
        kernel: kernel(entry, &constants),
        reads,
        writes,
        uniform: bytemuck::bytes_of(&size.uniform()).to_vec(),
        workgroups: spread((invocations as u64).div_ceil(WORKGROUP)),
        multiply_adds: size.multiply_adds(products),
        spare: 0,
    }
}
