//! Multi-head softmax attention over all pairs of tokens, and its gradient; no tokens × tokens matrix is stored
//! (Dao et al. 2022; Rabe and Staats 2021).
//!
//! Per head with d columns: out = softmax(q·kᵀ/√d)·v over the keys. `qkv` is \[N, T, 3C\]; the reference's legacy order
//! gives head j the 3d columns from 3dj (q, then k, then v), the new order is all q, all k, all v.
//!
//! The families: `direct` (`wgsl/attention.wgsl`), `tiled` (`wgsl/attention_tiled.wgsl`) and `subgroup`
//! (`wgsl/attention_subgroup.wgsl`, `wgsl/attention_grad_subgroup.wgsl`), which passes nothing between lanes but is made for the same
//! devices as others of its name.

mod direct;
mod subgroup;
mod tiled;

use crate::error::{Error, Result};
use crate::families::{Family, Key, KeyKind};
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Graph, NodeId, Operation, Upstream};
use crate::tensor::pitch;
use bytemuck::{Pod, Zeroable};

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

    /// This attention as key of a tuning table; the order of q, k and v makes no difference there.
    pub fn key(&self, operation: KeyKind) -> Key {
        Key { operation, shape: vec![self.batch, self.tokens, self.channels, self.heads] }
    }

    /// The attention of a key, in the legacy order; `None`: it is of another operation.
    pub fn of_key(key: &Key) -> Option<Attention> {
        match (key.operation, key.shape.as_slice()) {
            (KeyKind::AttentionForward | KeyKind::AttentionGrad, &[batch, tokens, channels, heads]) => {
                Some(Attention { batch, tokens, channels, heads, new_order: false })
            }
            _ => None,
        }
    }
}

/// Bytes of the log-sum-exps: \[N, heads, T\], log Σⱼ exp(qᵢ·kⱼ/√d) of each query.
pub fn lse_bytes(size: &Attention) -> u64 {
    (size.batch * size.heads * pitch(size.tokens) * 4) as u64
}

/// Writes `out` \[N, T, C\], heads side by side, and `lse` ([`lse_bytes`]) of `qkv` \[N, T, 3C\].
pub fn forward(family: Family, size: &Attention, qkv: Slice, out: Slice, lse: Slice) -> Vec<Launch> {
    let launch = match family.or_direct(&size.key(KeyKind::AttentionForward)) {
        Family::Direct | Family::Cooperative => direct::launch,
        Family::Tiled => tiled::launch,
        Family::Subgroup => subgroup::launch,
    };
    vec![launch(size, "forward", vec![qkv], vec![out, lse], 2)]
}

/// Bytes of [`grad`]'s scratch memory in any family: \[N, heads, T\], dout·out of each query.
pub fn grad_scratch(size: &Attention) -> u64 {
    lse_bytes(size)
}

/// Writes the gradient `dqkv` of `qkv` from the gradient `dout` of `out`; `out` and `lse` are those of [`forward`].
pub fn grad(
    family: Family,
    size: &Attention,
    [qkv, out, lse, dout]: [Slice; 4],
    scratch: Slice,
    dqkv: Slice,
) -> Vec<Launch> {
    let launch = match family.or_direct(&size.key(KeyKind::AttentionGrad)) {
        Family::Direct | Family::Cooperative => direct::launch,
        Family::Tiled => tiled::launch,
        Family::Subgroup => subgroup::launch,
    };
    vec![
        launch(size, "grad_query", vec![qkv, dout, lse, out], vec![dqkv, scratch], 3),
        launch(size, "grad_key_value", vec![qkv, dout, lse, scratch], vec![dqkv], 4),
    ]
}

/// Of qkv; updates lse.
#[derive(Debug)]
struct AttentionForward(Attention);

impl Operation for AttentionForward {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let family = context.family(&self.0.key(KeyKind::AttentionForward));
        forward(family, &self.0, context.inputs[0], context.output, context.updates[0])
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        let lse = graph.node(at.node).updates[0];
        let reads = vec![at.target(), at.node, lse, at.dy];
        Ok(Some(graph.push_like(at.target(), AttentionGrad(self.0), reads)))
    }

    fn keys(&self) -> Vec<Key> {
        vec![self.0.key(KeyKind::AttentionForward)]
    }
}

/// Of qkv, out, lse, dout.
#[derive(Debug)]
struct AttentionGrad(Attention);

impl Operation for AttentionGrad {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let family = context.family(&self.0.key(KeyKind::AttentionGrad));
        let partial = context.scratch(grad_scratch(&self.0));
        grad(family, &self.0, context.first(), partial, context.output)
    }

    fn keys(&self) -> Vec<Key> {
        vec![self.0.key(KeyKind::AttentionGrad)]
    }
}

impl Graph {
    /// Multi-head attention over the pixels of `qkv` \[N,H,W,3C\], giving \[N,H,W,C\].
    pub fn attention(&mut self, qkv: NodeId, heads: usize, new_order: bool) -> Result<NodeId> {
        let [batch, height, width, columns] = self.image_shape("attention", qkv)?;
        let channels = columns / 3;
        if heads == 0 || columns % 3 != 0 || !channels.is_multiple_of(heads) {
            let detail = format!("{columns} columns do not make q, k, v of {heads} heads");
            return Err(Error::shape("attention", detail));
        }
        let size = Attention { batch, tokens: height * width, channels, heads, new_order };
        let lse = self.reserve(&[lse_bytes(&size) as usize / 4]);
        Ok(self.push_updating(
            AttentionForward(size),
            vec![qkv],
            vec![lse],
            vec![batch, height, width, channels],
        ))
    }
}
