//! Multi-head softmax attention over all pairs of tokens, and its gradient; no tokens × tokens matrix is stored
//! (Dao et al. 2022; Rabe and Staats 2021).
//!
//! Per head with d columns: out = softmax(q·kᵀ/√d)·v over the keys. `qkv` is \[N, T, 3C\]; the reference's legacy order
//! gives head j the 3d columns from 3dj (q, then k, then v), the new order is all q, all k, all v.

use super::{pitch, shader};
use crate::gpu::{Launch, Slice, spread};
use bytemuck::{Pod, Zeroable};

shader!("attention");

/// Invocations per workgroup, `WG` in the shader.
const WORKGROUP: u64 = 32;
/// Groups of four columns an invocation keeps the results of, `CHUNK` in the shader.
const CHUNK: usize = 4;
/// Heads of at most this many groups of four columns leave room for eight tokens per invocation instead of four.
const WIDE_QUADS: usize = 2;

/// Sizes of one attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Sequences, N.
    pub batch: usize,
    /// Tokens of a sequence, T = H·W.
    pub tokens: usize,
    /// Channels of the output, C: a multiple of `heads`.
    pub channels: usize,
    /// Heads; each has d = C / heads columns.
    pub heads: usize,
    /// Whether q, k and v are outermost in qkv's columns, the heads within; else the other way round.
    pub new_order: bool,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct Size {
    batch: u32,
    tokens: u32,
    heads: u32,
    depth: u32,
    qkv_pitch: u32,
    out_pitch: u32,
    lse_pitch: u32,
    head_step: u32,
    part_step: u32,
    scale: f32,
    pad: [u32; 2],
}

impl Attention {
    pub(super) fn depth(&self) -> usize {
        self.channels / self.heads
    }

    pub(super) fn uniform(&self) -> Size {
        let depth = self.depth();
        let (head_step, part_step) = if self.new_order { (depth, self.channels) } else { (3 * depth, depth) };
        Size {
            batch: self.batch as u32,
            tokens: self.tokens as u32,
            heads: self.heads as u32,
            depth: depth as u32,
            qkv_pitch: pitch(3 * self.channels) as u32,
            out_pitch: pitch(self.channels) as u32,
            lse_pitch: pitch(self.tokens) as u32,
            head_step: head_step as u32,
            part_step: part_step as u32,
            scale: (depth as f64).powf(-0.5) as f32,
            pad: [0; 2],
        }
    }

    /// Multiply-adds of `products` products of all pairs of tokens.
    pub(super) fn multiply_adds(&self, products: usize) -> u64 {
        (products * self.batch * self.tokens * self.tokens * self.channels) as u64
    }

    fn launch(&self, entry: &'static str, reads: Vec<Slice>, writes: Vec<Slice>, products: usize) -> Launch {
        let depth = self.depth();
        let quads = depth.div_ceil(4);
        let wide = quads <= WIDE_QUADS;
        let constants = [
            ("HEAD_QUADS", quads as f64),
            ("ALIGNED", f64::from(u8::from(depth.is_multiple_of(4)))),
            ("WIDE", f64::from(u8::from(wide))),
        ];
        let tiles = self.tokens.div_ceil(if wide { 8 } else { 4 });
        let invocations = self.batch * self.heads * tiles * quads.div_ceil(CHUNK);
        Launch {
            kernel: kernel(entry, &constants),
            reads,
            writes,
            uniform: bytemuck::bytes_of(&self.uniform()).to_vec(),
            workgroups: spread((invocations as u64).div_ceil(WORKGROUP)),
            multiply_adds: self.multiply_adds(products),
        }
    }
}

/// Bytes of the log-sum-exps: \[N, heads, T\], log Σⱼ exp(qᵢ·kⱼ/√d) of each query.
pub fn lse_bytes(size: &Attention) -> u64 {
    (size.batch * size.heads * pitch(size.tokens) * 4) as u64
}

/// Writes `out` \[N, T, C\], heads side by side, and `lse` ([`lse_bytes`]) of `qkv` \[N, T, 3C\].
pub fn forward(size: &Attention, qkv: Slice, out: Slice, lse: Slice) -> Vec<Launch> {
    vec![size.launch("forward", vec![qkv], vec![out, lse], 2)]
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
        size.launch("grad_query", vec![qkv, dout, lse, out], vec![dqkv, scratch], 3),
        size.launch("grad_key_value", vec![qkv, dout, lse, scratch], vec![dqkv], 4),
    ]
}
