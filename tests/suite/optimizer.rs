//! AdamW with the moving average, sums of gradients and their norm against f64 twins.

use super::harness::{Harness, assert_close, values, wide};
use duet::ops::optimizer::{self, AdamW};

/// Vec4s: one, fewer than a workgroup, no multiple of one, more than one part of the sum of squares holds.
const QUADS: [usize; 6] = [1, 5, 64, 67, 257, 5000];

const SETTINGS: AdamW =
    AdamW { learning_rate: 1e-2, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.05, ema_rate: 0.9 };

/// Parameter, first and second moment, average of one element after a step, as the reference computes them.
fn twin([p, m, v, average]: [f64; 4], gradient: f64, step: i32, settings: &AdamW) -> [f64; 4] {
    let AdamW { learning_rate, beta1, beta2, eps, weight_decay, ema_rate } = *settings;
    let p = p - learning_rate * weight_decay * p;
    let m = beta1 * m + (1.0 - beta1) * gradient;
    let v = beta2 * v + (1.0 - beta2) * gradient * gradient;
    let root = (v / (1.0 - beta2.powi(step))).sqrt();
    let p = p - learning_rate * (m / (1.0 - beta1.powi(step))) / (root + eps);
    [p, m, v, ema_rate * average + (1.0 - ema_rate) * p]
}

#[test]
fn adamw_and_the_average_equal_the_twin() {
    let plain = AdamW { weight_decay: 0.0, ema_rate: 0.5, eps: 1e-3, ..SETTINGS };
    for (quads, settings) in QUADS.into_iter().flat_map(|q| [(q, SETTINGS), (q, plain)]) {
        let count = 4 * quads;
        let gradient_scale = 0.5;
        let mut start = values(1, count);
        start[count - 1] = 0.0;
        let mut h = Harness::new();
        let state =
            [&start, &vec![0.0; count], &vec![0.0; count], &start].map(|data| h.input(&[count], data));
        let mut want: Vec<[f64; 4]> =
            start.iter().map(|p| [f64::from(*p), 0.0, 0.0, f64::from(*p)]).collect();
        let slices = state.each_ref().map(|tensor| tensor.slice);
        let mut launches = Vec::new();
        for step in 1..=4u8 {
            let mut gradients = values(1 + u64::from(step), count);
            // A pad: no value, no gradient; and a gradient so small that its square underflows beside others.
            gradients[count - 1] = 0.0;
            gradients[0] *= 1e-12;
            for (element, g) in want.iter_mut().zip(&gradients) {
                *element = twin(*element, gradient_scale * f64::from(*g), step.into(), &settings);
            }
            let g = h.input(&[count], &gradients).slice;
            let hyper = optimizer::hyper(step.into(), &settings, gradient_scale);
            let hyper = h.words(bytemuck::cast_slice(&hyper));
            launches.extend(optimizer::adamw_ema(quads, g, hyper, slices));
        }
        h.run(launches);
        for (part, tensor) in state.iter().enumerate() {
            let want: Vec<f64> = want.iter().map(|element| element[part]).collect();
            let got = h.read(tensor);
            assert_close(&format!("part {part} of {quads} vec4s"), &got, &want, 2e-6);
            assert_eq!(got[count - 1], 0.0, "a pad of part {part} has changed");
        }
    }
}

#[test]
fn hyper_parameters_are_computed_in_double_precision() {
    let first = optimizer::hyper(1, &SETTINGS, 0.25);
    let corrected = [1.0 / (1.0 - 0.9), 1.0 / (1.0f64 - 0.999).sqrt()];
    let want = [
        1e-2,
        0.9,
        0.999,
        1e-8,
        5e-4,
        corrected[0],
        corrected[1],
        0.9,
        0.25,
        1.0 - 0.9,
        1.0 - 0.999,
        1.0 - 0.9,
    ];
    for (i, (got, want)) in first.iter().zip(want).enumerate() {
        assert!((f64::from(*got) / want - 1.0).abs() < 1e-7, "{i}: {got} instead of {want}");
    }
    let late = optimizer::hyper(10_000_000, &SETTINGS, 1.0);
    assert_eq!(late[5..7], [1.0, 1.0], "corrections vanish");
}

#[test]
fn accumulate_overwrites_first_and_adds_then() {
    for quads in QUADS {
        let count = 4 * quads;
        let batches = [values(1, count), values(2, count), values(3, count)];
        let mut h = Harness::new();
        // Starts as NaN: the first micro-batch must not read it.
        let sum = h.output(&[count]);
        let flags = [h.words(&[1]), h.words(&[0]), h.words(&[0])];
        let launches = batches.iter().zip(flags).flat_map(|(batch, flag)| {
            let gradients = h.input(&[count], batch).slice;
            optimizer::accumulate(quads, gradients, flag, sum.slice)
        });
        let launches = launches.collect();
        h.run(launches);
        let want: Vec<f64> =
            (0..count).map(|i| batches.iter().map(|batch| f64::from(batch[i])).sum()).collect();
        assert_close(&format!("{quads} vec4s"), &h.read(&sum), &want, 1e-6);
    }
}

#[test]
fn clipping_scales_what_is_too_long_and_shows_nan() {
    for (squares, scale, max, want) in [
        (25.0f32, 1.0, 10.0f32, Some((5.0, 1.0))),
        (25.0, 1.0, 5.0, Some((5.0, 1.0))),
        (25.0, 1.0, 2.0, Some((5.0, 0.4))),
        (25.0, 0.5, 1.0, Some((2.5, 0.4))),
        (0.0, 1.0, 1.0, Some((0.0, 1.0))),
        (f32::INFINITY, 1.0, 1.0, Some((f64::INFINITY, 0.0))),
        (f32::NAN, 1.0, 1.0, None),
    ] {
        let hyper = optimizer::hyper(3, &SETTINGS, scale);
        let mut h = Harness::new();
        let x = h.input(&[1], &[squares]).slice;
        let before = h.words(bytemuck::cast_slice(&hyper));
        let (norm, clipped) = (h.output(&[1]), h.output(&[optimizer::HYPERS]));
        h.run(optimizer::clip(max, x, before, norm.slice, clipped.slice));
        let (norm, clipped) = (h.read(&norm)[0], h.read(&clipped));
        for (i, (got, before)) in clipped.iter().zip(hyper).enumerate().filter(|(i, _)| *i != 8) {
            assert_eq!(got.to_bits(), before.to_bits(), "number {i} is not the scale");
        }
        match want {
            None => assert!(norm.is_nan() && clipped[8].is_nan(), "{norm} and {} hide NaN", clipped[8]),
            Some((length, factor)) if f64::is_finite(length) => {
                assert_close("norm", &[norm], &[length], 1e-6);
                assert_close("scale", &[clipped[8]], &[scale * factor], 1e-6);
                assert!(factor < 1.0 || clipped[8] == hyper[8], "a short gradient keeps its bits");
            }
            Some(_) => assert!(norm.is_infinite() && clipped[8] == 0.0, "{norm}, {}", clipped[8]),
        }
    }
}

#[test]
fn the_sum_of_squares_is_exact_repeatable_and_shows_nan() {
    let run = |data: &[f32]| {
        let mut h = Harness::new();
        let x = h.input(&[data.len()], data).slice;
        let out = h.output(&[1]);
        let scratch = optimizer::sum_squares_scratch(data.len() / 4).map(|bytes| h.scratch(bytes));
        h.run(optimizer::sum_squares(data.len() / 4, x, scratch, out.slice));
        h.read(&out)
    };
    // Also more than the first pass has parts for at its usual length.
    for quads in QUADS.into_iter().chain([20_003, 1_100_000]) {
        let mut data = values(1, 4 * quads);
        let want = wide(&data).iter().map(|v| v * v).sum();
        let got = run(&data);
        assert_close(&format!("{quads} vec4s"), &got, &[want], 1e-6);
        assert_eq!(got[0].to_bits(), run(&data)[0].to_bits(), "not repeatable");
        let last = data.len() - 1;
        data[last] = f32::NAN;
        assert!(run(&data)[0].is_nan(), "NaN at the end of {quads} vec4s is lost");
    }
}
