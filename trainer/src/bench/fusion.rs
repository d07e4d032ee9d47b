//! What fusing operations spares: each the way the plans run it, and in separate passes.

use super::case::{Buffers, Cases};
use duet::families::Family;
use duet::gpu::{Launch, Slice};
use duet::ops::conv3x3::{self, Conv3x3};
use duet::ops::groupnorm::{self, GroupNorm, Source};
use duet::ops::normalize::{self, Moved, Samples, Step};
use duet::ops::{Activation, channels, optimizer, pointwise};
use duet::tensor::pitch;

/// The feature maps of 28×28 pixels of the network of 32 channels; the decoder's two halves have 64 and 32.
const SIDE: usize = 28;
const CHANNELS: usize = 32;
const HALVES: [usize; 2] = [64, 32];

/// Adds every comparison.
pub fn add(cases: &mut Cases, batch: usize) {
    norm_and_silu(cases, batch);
    residual(cases, batch);
    concatenation(cases, batch);
    optimizer_and_average(cases, 1_209_728);
}

fn pair(cases: &mut Cases, name: &str, make: impl Fn(&mut Buffers, bool) -> Vec<Launch>) {
    for (variant, fused) in [("one pass", true), ("apart", false)] {
        cases.add_variant(format!("fusion: {name}"), variant, |m| make(m, fused));
    }
}

fn quads(slice: Slice) -> usize {
    slice.bytes as usize / 16
}

fn norm_and_silu(cases: &mut Cases, batch: usize) {
    let pixels = SIDE * SIDE;
    let (n, gpu) = (batch * pixels, cases.is_gpu());
    pair(cases, &format!("groupnorm and silu {CHANNELS} {SIDE}x{SIDE} b{batch}"), |m, fused| {
        let size =
            GroupNorm { batch, pixels, channels: CHANNELS, groups: 32, silu: fused, scale_shift: false };
        let (x, stats) = (m.rows(n, CHANNELS), m.bytes(groupnorm::stats_bytes(&size)));
        let (affine, y) = ([m.rows(1, CHANNELS), m.rows(1, CHANNELS)], m.rows(n, CHANNELS));
        let source = Source::whole(&size, x);
        let mut launches = groupnorm::forward(&size, gpu, source, affine, None, stats, y);
        if !fused {
            launches.extend(pointwise::activate(Activation::Silu, quads(y), y, m.rows(n, CHANNELS)));
        }
        launches
    });
}

fn residual(cases: &mut Cases, batch: usize) {
    let size = Conv3x3 {
        batch,
        height: SIDE,
        width: SIDE,
        in_channels: CHANNELS,
        out_channels: CHANNELS,
        stride: 1,
    };
    let n = batch * SIDE * SIDE;
    pair(cases, &format!("conv3x3, bias and residual {CHANNELS} {SIDE}x{SIDE} b{batch}"), |m, fused| {
        let (x, w, bias) = (m.rows(n, CHANNELS), m.rows(9 * pitch(CHANNELS), CHANNELS), m.rows(1, CHANNELS));
        let (skip, y) = (m.rows(n, CHANNELS), m.rows(n, CHANNELS));
        let mut launches =
            conv3x3::forward(Family::Direct, &size, x, w, Some(bias), fused.then_some(skip), y);
        if !fused {
            launches.extend(pointwise::add(quads(y), y, skip, m.rows(n, CHANNELS)));
        }
        launches
    });
}

fn concatenation(cases: &mut Cases, batch: usize) {
    let pixels = SIDE * SIDE;
    let (n, gpu) = (batch * pixels, cases.is_gpu());
    let [a, b] = HALVES;
    let size = GroupNorm { batch, pixels, channels: a + b, groups: 32, silu: true, scale_shift: false };
    pair(cases, &format!("concatenation and groupnorm {a}+{b} {SIDE}x{SIDE} b{batch}"), |m, fused| {
        let (left, right, y) = (m.rows(n, a), m.rows(n, b), m.rows(n, a + b));
        let stats = m.bytes(groupnorm::stats_bytes(&size));
        let affine = [m.rows(1, a + b), m.rows(1, a + b)];
        let mut launches = Vec::new();
        let source = if fused {
            Source { x: left, first: a, other: Some(right) }
        } else {
            let both = m.rows(n, a + b);
            launches.extend(channels::concat(n, a, b, left, right, both));
            Source::whole(&size, both)
        };
        launches.extend(groupnorm::forward(&size, gpu, source, affine, None, stats, y));
        launches
    });
}

fn optimizer_and_average(cases: &mut Cases, parameters: usize) {
    pair(cases, &format!("adamw and average {parameters}"), |m, fused| {
        let (gradients, hyper) = (m.rows(1, parameters), m.rows(1, 12));
        let state = [(); 4].map(|()| m.rows(1, parameters));
        let quads = parameters / 4;
        let mut launches = optimizer::adamw_ema(quads, gradients, hyper, state);
        if !fused {
            // ema + rate · (params − ema), as two passes of element-wise kernels would do it.
            let (difference, average) = (m.rows(1, parameters), m.rows(1, parameters));
            let of = Samples { quads, elements: parameters };
            let step = Step { samples: 1, each: false };
            for (x, gradient, y) in [(state[0], state[3], difference), (state[3], difference, average)] {
                let moved = Moved { of, x, gradient, number: 0, y };
                launches.extend(normalize::along(step, &[moved], hyper, None));
            }
        }
        launches
    });
}
