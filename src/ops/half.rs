//! Tensors kept as f16 while they wait: `wgsl/half.wgsl`.

use super::kernel::{WG, invocations, shader};
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Operation};

shader!("half");

#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    quads: u32,
    pad: [u32; 3],
}

fn launch(entry: &'static str, quads: usize, source: Slice, result: Slice) -> Vec<Launch> {
    let uniform = Size { quads: quads as u32, ..Size::default() };
    let kernel = kernel(entry, &WG);
    vec![invocations(kernel, vec![source], vec![result], bytemuck::bytes_of(&uniform), quads.div_ceil(2))]
}

/// Bytes of `quads` vec4s of f32 as f16, whole vec4s of words.
pub fn bytes(quads: usize) -> u64 {
    quads.div_ceil(2) as u64 * 16
}

/// `halves` ([`bytes`]) of `x`, `quads` vec4s: rounded to the nearest f16, beyond ±65,504 to that.
pub fn store(quads: usize, x: Slice, halves: Slice) -> Vec<Launch> {
    launch("store", quads, x, halves)
}

/// `y`, `quads` vec4s, of what [`store`] kept.
pub fn load(quads: usize, halves: Slice, y: Slice) -> Vec<Launch> {
    launch("load", quads, halves, y)
}

/// x as f16, packed, of so many vec4s.
#[derive(Debug)]
pub(crate) struct StoreHalf {
    /// Vec4s of x.
    pub quads: usize,
}

impl Operation for StoreHalf {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        store(self.quads, context.inputs[0], context.output)
    }
}

/// What [`StoreHalf`] made: f32 again.
#[derive(Debug)]
pub(crate) struct LoadHalf {
    /// Vec4s of the result.
    pub quads: usize,
}

impl Operation for LoadHalf {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        load(self.quads, context.inputs[0], context.output)
    }
}
