//! GroupNorm with scale-shift and SiLU against its f64 twin.

use super::harness::{Harness, Tensor, assert_close, assert_gradient, dot, values, wide};
use duet::ops::groupnorm::{self, GroupNorm, Part};

/// The twin's inputs, logical layout: x \[N, HW, C\], gamma and beta \[C\], scale_shift \[N, 2C\].
#[derive(Clone)]
struct Inputs {
    x: Vec<f64>,
    gamma: Vec<f64>,
    beta: Vec<f64>,
    scale_shift: Vec<f64>,
}

fn twin(size: &GroupNorm, inputs: &Inputs) -> Vec<f64> {
    let GroupNorm { batch, pixels, channels, groups, .. } = *size;
    let per_group = channels / groups;
    let mut y = vec![0.0; inputs.x.len()];
    for n in 0..batch {
        for group in 0..groups {
            let at = |p: usize, c: usize| (n * pixels + p) * channels + group * per_group + c;
            let members: Vec<usize> =
                (0..pixels).flat_map(|p| (0..per_group).map(move |c| at(p, c))).collect();
            let count = members.len() as f64;
            let mean = members.iter().map(|&i| inputs.x[i]).sum::<f64>() / count;
            let variance = members.iter().map(|&i| (inputs.x[i] - mean).powi(2)).sum::<f64>() / count;
            for i in members {
                let c = i % channels;
                let mut v =
                    (inputs.x[i] - mean) / (variance + 1e-5).sqrt() * inputs.gamma[c] + inputs.beta[c];
                if size.scale_shift {
                    let row = &inputs.scale_shift[n * 2 * channels..];
                    v = v * (1.0 + row[c]) + row[channels + c];
                }
                y[i] = if size.silu { v / (1.0 + (-v).exp()) } else { v };
            }
        }
    }
    y
}

/// Inputs as f32 and, exactly equal, as f64.
fn inputs(size: &GroupNorm, mean: f32) -> Inputs {
    let elements = size.batch * size.pixels * size.channels;
    let around = |seed, count, middle: f32, width: f32| {
        wide(&values(seed, count).iter().map(|v| middle + width * v).collect::<Vec<f32>>())
    };
    Inputs {
        x: around(1, elements, mean, 2.0),
        gamma: around(2, size.channels, 1.0, 0.5),
        beta: around(3, size.channels, 0.0, 0.5),
        scale_shift: around(4, size.batch * 2 * size.channels, 0.0, 0.7),
    }
}

fn narrow(data: &[f64]) -> Vec<f32> {
    data.iter().map(|v| *v as f32).collect()
}

struct Outputs {
    y: Vec<f32>,
    dx: Vec<f32>,
    dgamma: Vec<f32>,
    dbeta: Vec<f32>,
    dscale_shift: Vec<f32>,
}

/// Forward and every gradient on the device.
fn run(size: &GroupNorm, inputs: &Inputs, dy: &[f32]) -> Outputs {
    run_parts(size, inputs, dy, &[size.channels], None)
}

/// Channels `from..from + count` of each row of `columns`.
fn columns_of(x: &[f32], columns: usize, from: usize, count: usize) -> Vec<f32> {
    x.chunks(columns).flat_map(|row| row[from..from + count].to_vec()).collect()
}

/// As [`run`], the input cut into tensors of `counts` channels; `addend` is added to its gradient.
fn run_parts(
    size: &GroupNorm,
    inputs: &Inputs,
    dy: &[f32],
    counts: &[usize],
    addend: Option<&[f32]>,
) -> Outputs {
    let GroupNorm { batch, pixels, channels, .. } = *size;
    let mut harness = Harness::new();
    let shape = [batch, pixels, channels];
    let mut parts = Vec::new();
    let mut gradients = Vec::new();
    let mut first = 0;
    for &count in counts {
        let part = Part { first, channels: count };
        let shape = [batch, pixels, count];
        let values = columns_of(&narrow(&inputs.x), channels, first, count);
        parts.push((part, harness.input(&shape, &values).slice));
        let addend = addend.map(|a| harness.input(&shape, &columns_of(a, channels, first, count)).slice);
        gradients.push((harness.output(&shape), addend));
        first += count;
    }
    let gamma = harness.input(&[channels], &narrow(&inputs.gamma)).slice;
    let beta = harness.input(&[channels], &narrow(&inputs.beta)).slice;
    let modulation = harness.input(&[batch, 2 * channels], &narrow(&inputs.scale_shift)).slice;
    let modulation = size.scale_shift.then_some(modulation);
    let dy = harness.input(&shape, dy).slice;
    let stats = harness.scratch(groupnorm::stats_bytes(size));
    let sums = harness.scratch(groupnorm::sums_bytes(size));
    let y = harness.output(&shape);
    let [dgamma, dbeta] = [harness.output(&[channels]), harness.output(&[channels])];
    let dscale_shift = harness.output(&[batch, 2 * channels]);
    let mut launches = groupnorm::stats(size, &parts, stats);
    launches.extend(groupnorm::forward(size, &parts, stats, gamma, beta, modulation, y.slice));
    launches.extend(groupnorm::grad_sums(size, &parts, dy, stats, gamma, beta, modulation, sums));
    for ((part, x), (dx, addend)) in parts.iter().zip(&gradients) {
        launches.extend(groupnorm::grad_input(size, *part, *x, dy, stats, sums, *addend, dx.slice));
    }
    launches.extend(groupnorm::grad_gamma(size, sums, modulation, dgamma.slice));
    launches.extend(groupnorm::grad_beta(size, sums, modulation, dbeta.slice));
    launches.extend(groupnorm::grad_scale_shift(size, sums, gamma, beta, dscale_shift.slice));
    harness.run(launches);
    let read = |tensor: &Tensor| harness.read(tensor);
    let mut dx = vec![0.0; batch * pixels * channels];
    for ((part, _), (gradient, _)) in parts.iter().zip(&gradients) {
        for (row, values) in dx.chunks_mut(channels).zip(read(gradient).chunks(part.channels)) {
            row[part.first..part.first + part.channels].copy_from_slice(values);
        }
    }
    Outputs { y: read(&y), dx, dgamma: read(&dgamma), dbeta: read(&dbeta), dscale_shift: read(&dscale_shift) }
}

/// Batch, pixels, channels, groups: one or several channels per group, groups across vec4s, channels that are no
/// multiple of four, pixels below, at and beyond a workgroup's lanes and a block.
const SIZES: [[usize; 4]; 11] = [
    [1, 49, 32, 32],
    [2, 14 * 14, 96, 32],
    [3, 49, 6, 6],
    [3, 7, 20, 5],
    [2, 25, 21, 7],
    [1, 32, 5, 1],
    [3, 2, 6, 2],
    [1, 1, 8, 1],
    [2, 28 * 28, 7, 7],
    [1, 33, 64, 32],
    [2, 129, 13, 1],
];

fn cases() -> impl Iterator<Item = GroupNorm> {
    SIZES.into_iter().flat_map(|[batch, pixels, channels, groups]| {
        [(false, false), (true, false), (false, true), (true, true)].map(|(silu, scale_shift)| GroupNorm {
            batch,
            pixels,
            channels,
            groups,
            silu,
            scale_shift,
        })
    })
}

#[test]
fn forward_equals_the_twin() {
    for size in cases() {
        let inputs = inputs(&size, 0.3);
        let dy = values(9, inputs.x.len());
        assert_close(&format!("{size:?}"), &run(&size, &inputs, &dy).y, &twin(&size, &inputs), 1e-5);
    }
}

#[test]
fn gradients_equal_finite_differences() {
    for size in cases() {
        let inputs = inputs(&size, 0.3);
        let dy = values(9, inputs.x.len());
        let got = run(&size, &inputs, &dy);
        let dy = wide(&dy);
        let loss = |change: &dyn Fn(&mut Inputs)| {
            let mut changed = inputs.clone();
            change(&mut changed);
            dot(&twin(&size, &changed), &dy)
        };
        let name = |what: &str| format!("{what} of {size:?}");
        assert_gradient(&name("dx"), &got.dx, &inputs.x, |v| loss(&|i| i.x = v.to_vec()));
        assert_gradient(&name("dgamma"), &got.dgamma, &inputs.gamma, |v| loss(&|i| i.gamma = v.to_vec()));
        assert_gradient(&name("dbeta"), &got.dbeta, &inputs.beta, |v| loss(&|i| i.beta = v.to_vec()));
        if size.scale_shift {
            assert_gradient(&name("dscale_shift"), &got.dscale_shift, &inputs.scale_shift, |v| {
                loss(&|i| i.scale_shift = v.to_vec())
            });
        }
    }
}

#[test]
fn two_tensors_give_the_same_as_their_concatenation() {
    for size in cases().filter(|size| size.channels > 4) {
        let inputs = inputs(&size, 0.3);
        let dy = values(9, inputs.x.len());
        let whole = run(&size, &inputs, &dy);
        for first in [4, (size.channels - 1) / 4 * 4] {
            let counts = [first, size.channels - first];
            let parts = run_parts(&size, &inputs, &dy, &counts, None);
            let pairs = [
                ("y", &parts.y, &whole.y),
                ("dx", &parts.dx, &whole.dx),
                ("dgamma", &parts.dgamma, &whole.dgamma),
                ("dbeta", &parts.dbeta, &whole.dbeta),
                ("dscale_shift", &parts.dscale_shift, &whole.dscale_shift),
            ];
            for (name, part, whole) in pairs {
                assert!(part == whole, "{name} of {size:?} cut at {first}");
            }
            let addend = values(10, dy.len());
            let added = run_parts(&size, &inputs, &dy, &counts, Some(&addend)).dx;
            let sum: Vec<f32> = whole.dx.iter().zip(&addend).map(|(dx, a)| dx + a).collect();
            assert_close(&format!("dx + addend of {size:?}"), &added, &wide(&sum), 1e-6);
        }
    }
}

#[test]
fn large_means_do_not_cancel() {
    for [batch, pixels, channels, groups] in [[2, 28 * 28, 32, 32], [1, 50, 12, 4]] {
        let size = GroupNorm { batch, pixels, channels, groups, silu: true, scale_shift: false };
        let inputs = inputs(&size, 1000.0);
        let dy = values(9, inputs.x.len());
        // The mean itself is rounded to 6e-5, twice that against a deviation of 1.15.
        assert_close(&format!("{size:?}"), &run(&size, &inputs, &dy).y, &twin(&size, &inputs), 5e-5);
    }
}

#[test]
fn extreme_values_stay_finite() {
    let size = GroupNorm { batch: 1, pixels: 16, channels: 4, groups: 4, silu: true, scale_shift: true };
    let mut inputs = inputs(&size, 0.0);
    inputs.scale_shift.iter_mut().for_each(|v| *v *= 3000.0);
    inputs.x[0] = 1e6;
    let dy = values(9, inputs.x.len());
    let got = run(&size, &inputs, &dy);
    assert_close("y", &got.y, &twin(&size, &inputs), 1e-5);
    assert!(got.dx.iter().all(|v| v.is_finite()));
    // A constant group has variance 0 and gives beta.
    inputs.x.fill(5.0);
    assert_close("constant", &run(&size, &inputs, &dy).y, &twin(&size, &inputs), 1e-5);
}

#[test]
fn squares_that_overflow_are_not_made_zeros() {
    let size = GroupNorm { batch: 2, pixels: 16, channels: 4, groups: 4, silu: true, scale_shift: true };
    let mut inputs = inputs(&size, 0.0);
    // The values can be said in 32 bits, their squares cannot.
    inputs.x[..8].iter_mut().for_each(|v| *v *= 1e25);
    let got = run(&size, &inputs, &values(9, inputs.x.len()));
    let (first, second) = got.y.split_at(64);
    assert!(first.iter().all(|v| v.is_nan()), "the image that overflows: {first:?}");
    assert!(second.iter().all(|v| v.is_finite()), "and no other");
}

#[test]
fn more_workgroups_than_one_dimension_holds() {
    let size = GroupNorm { batch: 70_000, pixels: 2, channels: 4, groups: 1, silu: false, scale_shift: true };
    let inputs = inputs(&size, 0.0);
    let dy = values(9, inputs.x.len());
    let got = run(&size, &inputs, &dy);
    assert_close("y", &got.y, &twin(&size, &inputs), 1e-5);
    // The gradient of the shift is the image's sum of dy.
    let dshift: Vec<f32> = got.dscale_shift.chunks(8).flat_map(|row| row[4..].to_vec()).collect();
    let sums: Vec<f64> = wide(&dy)
        .chunks(8)
        .flat_map(|image| (0..4).map(|c| image[c] + image[4 + c]).collect::<Vec<_>>())
        .collect();
    assert_close("dshift", &dshift, &sums, 1e-6);
}
