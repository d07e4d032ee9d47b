//! Softmax attention, all families, against its f64 twin, and against each other.

use super::harness::{Harness, assert_close, assert_gradient, dot, values, wide};
use duet::families::Family;
use duet::ops::attention::{self, Attention};

/// The families that have attention.
const FAMILIES: [Family; 3] = [Family::Direct, Family::Tiled, Family::Subgroup];

/// Column of qkv where q (part 0), k (1) or v (2) of a head begins.
fn column(size: &Attention, part: usize, head: usize) -> usize {
    let depth = size.channels / size.heads;
    if size.new_order { part * size.channels + head * depth } else { (3 * head + part) * depth }
}

/// out \[N, T, C\] and lse \[N, heads, T\].
fn twin(size: &Attention, qkv: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let Attention { batch, tokens, channels, heads, .. } = *size;
    let depth = channels / heads;
    let mut out = vec![0.0; batch * tokens * channels];
    let mut lse = Vec::new();
    for n in 0..batch {
        for head in 0..heads {
            let row = |part: usize, token: usize| {
                let start = (n * tokens + token) * 3 * channels + column(size, part, head);
                &qkv[start..start + depth]
            };
            for i in 0..tokens {
                let scores: Vec<f64> =
                    (0..tokens).map(|j| dot(row(0, i), row(1, j)) / (depth as f64).sqrt()).collect();
                let most = scores.iter().fold(f64::NEG_INFINITY, |m, s| m.max(*s));
                let total: f64 = scores.iter().map(|s| (s - most).exp()).sum();
                lse.push(most + total.ln());
                for (j, score) in scores.iter().enumerate() {
                    let weight = (score - most).exp() / total;
                    for c in 0..depth {
                        out[(n * tokens + i) * channels + head * depth + c] += weight * row(2, j)[c];
                    }
                }
            }
        }
    }
    (out, lse)
}

#[derive(PartialEq)]
struct Outputs {
    out: Vec<f32>,
    lse: Vec<f32>,
    dqkv: Vec<f32>,
}

fn run(family: Family, size: &Attention, qkv: &[f32], dout: &[f32]) -> Outputs {
    let Attention { batch, tokens, channels, heads, .. } = *size;
    let mut harness = Harness::new();
    let qkv = harness.input(&[batch, tokens, 3 * channels], qkv).slice;
    let dout = harness.input(&[batch, tokens, channels], dout).slice;
    let out = harness.output(&[batch, tokens, channels]);
    let lse = harness.output(&[batch, heads, tokens]);
    assert_eq!(lse.slice.bytes, attention::lse_bytes(size));
    let dqkv = harness.output(&[batch, tokens, 3 * channels]);
    let scratch = harness.scratch(attention::grad_scratch(size));
    let mut launches = attention::forward(family, size, qkv, out.slice, lse.slice);
    launches.extend(attention::grad(family, size, [qkv, out.slice, lse.slice, dout], scratch, dqkv.slice));
    harness.run(launches);
    Outputs { out: harness.read(&out), lse: harness.read(&lse), dqkv: harness.read(&dqkv) }
}

/// Batch, tokens, channels, heads: heads of whole and of partial vec4s, narrower, as wide as and wider than an
/// invocation's columns; tokens below, at and beyond its tiles; channels that are no multiple of four.
const SIZES: [[usize; 4]; 17] = [
    [2, 49, 32, 4],
    [1, 196, 32, 2],
    [1, 1, 8, 1],
    [3, 7, 4, 1],
    [3, 3, 6, 2],
    [1, 14, 21, 3],
    [2, 9, 5, 1],
    [1, 10, 15, 3],
    [2, 13, 60, 5],
    [1, 33, 64, 2],
    [1, 17, 64, 1],
    [1, 6, 128, 1],
    [1, 11, 44, 2],
    [2, 5, 20, 1],
    [1, 50, 40, 1],
    [1, 32, 99, 1],
    [2, 65, 12, 2],
];

fn cases() -> impl Iterator<Item = Attention> {
    SIZES.into_iter().flat_map(|[batch, tokens, channels, heads]| {
        [false, true].map(|new_order| Attention { batch, tokens, channels, heads, new_order })
    })
}

fn inputs(size: &Attention, amplitude: f32) -> (Vec<f32>, Vec<f32>) {
    let elements = size.batch * size.tokens * size.channels;
    let qkv = values(1, 3 * elements).iter().map(|v| v * amplitude).collect();
    (qkv, values(2, elements))
}

fn check(size: &Attention, amplitude: f32, bound: f64) {
    let (qkv, dout) = inputs(size, amplitude);
    let got = FAMILIES.map(|family| run(family, size, &qkv, &dout));
    let (qkv, dout) = (wide(&qkv), wide(&dout));
    let (out, lse) = twin(size, &qkv);
    for (name, got) in FAMILIES.iter().zip(&got) {
        assert_close(&format!("{name} out of {size:?}"), &got.out, &out, bound);
        assert_close(&format!("{name} lse of {size:?}"), &got.lse, &lse, bound);
        let loss = |v: &[f64]| dot(&twin(size, v).0, &dout);
        assert_gradient(&format!("{name} dqkv of {size:?}"), &got.dqkv, &qkv, loss);
    }
    let [direct, others @ ..] = got;
    for other in others {
        assert_close(&format!("families of {size:?}"), &other.dqkv, &wide(&direct.dqkv), 2e-5);
    }
}

#[test]
fn forward_and_gradient_equal_the_twin() {
    for size in cases() {
        check(&size, 1.5, 1e-5);
    }
}

#[test]
fn sharp_softmax() {
    // Scores up to about 50: rows are nearly one-hot, and a score's rounding of 50 * 2^-24 a step is a weight's.
    for [batch, tokens, channels, heads] in [[1, 49, 32, 4], [2, 20, 32, 2], [1, 30, 18, 3]] {
        let size = Attention { batch, tokens, channels, heads, new_order: false };
        check(&size, 6.5, 2e-5);
    }
    // Scores in the thousands neither overflow nor give NaN.
    let size = Attention { batch: 1, tokens: 12, channels: 8, heads: 1, new_order: true };
    let (qkv, dout) = inputs(&size, 60.0);
    for family in FAMILIES {
        let got = run(family, &size, &qkv, &dout);
        assert_close("huge scores", &got.out, &twin(&size, &wide(&qkv)).0, 1e-3);
        assert!(got.dqkv.iter().all(|v| v.is_finite()), "{}", family.name());
    }
}

#[test]
fn full_resolution() {
    // A 28 x 28 map. Finite differences of the twin would take minutes here; the sizes above check the gradient.
    let size = Attention { batch: 1, tokens: 28 * 28, channels: 16, heads: 2, new_order: false };
    let (qkv, dout) = inputs(&size, 1.5);
    let (out, lse) = twin(&size, &wide(&qkv));
    let [direct, others @ ..] = FAMILIES.map(|family| {
        let got = run(family, &size, &qkv, &dout);
        assert_close(&format!("{} out", family.name()), &got.out, &out, 1e-5);
        assert_close(&format!("{} lse", family.name()), &got.lse, &lse, 1e-5);
        got
    });
    for other in others {
        assert_close("dqkv", &other.dqkv, &wide(&direct.dqkv), 2e-5);
    }
}

#[test]
fn same_inputs_give_the_same_bits() {
    for channels in [32, 60, 256] {
        let size = Attention { batch: 2, tokens: 50, channels, heads: 4, new_order: false };
        let (qkv, dout) = inputs(&size, 1.5);
        for family in FAMILIES {
            let [first, second] = [0, 1].map(|_| run(family, &size, &qkv, &dout));
            assert!(first == second, "{} {size:?}", family.name());
        }
    }
}
