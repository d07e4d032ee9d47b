//! What the classifier reads: pooled features, the raw timestep, BatchNorm1d.

use super::harness::{
    Harness, assert_close, assert_gradient, dot, finite_differences, spread_indices, values, wide,
};
use duet::ops::batchnorm;
use duet::ops::features::{self, FeatureMap};

/// Rows of the features, `columns` wide, with the map's columns filled and the others 0.
fn pooled(map: &FeatureMap, x: &[f64]) -> Vec<f64> {
    let FeatureMap { batch, pixels, channels, columns, offset, maximum } = *map;
    let mut f = vec![0.0; batch * columns];
    for n in 0..batch {
        for c in 0..channels {
            let values = (0..pixels).map(|p| x[(n * pixels + p) * channels + c]);
            f[n * columns + offset + c] = match maximum {
                true => values.fold(f64::NEG_INFINITY, f64::max),
                false => values.sum::<f64>() / pixels as f64,
            };
        }
    }
    f
}

#[test]
fn maps_are_pooled_side_by_side() {
    for maximum in [false, true] {
        for (batch, pixels, channels) in [(1, 1, 1), (3, 49, 5), (2, 784, 32), (5, 6, 7)] {
            // Two maps and the timestep: no column is left unwritten, no neighbour touched.
            let columns = 2 * channels + 1;
            let left = FeatureMap { batch, pixels, channels, columns, offset: 0, maximum };
            let right = FeatureMap { offset: channels, maximum: false, ..left };
            let (a, b) = (values(1, batch * pixels * channels), values(2, batch * pixels * channels));
            let t = values(3, batch);
            let df = values(4, batch * columns);
            let mut h = Harness::new();
            let shape = [batch, pixels, channels];
            let (ta, tb, tt) = (h.input(&shape, &a), h.input(&shape, &b), h.input(&[batch], &t));
            let tdf = h.input(&[batch, columns], &df);
            let (f, da) = (h.output(&[batch, columns]), h.output(&shape));
            let mut launches = features::pool_into(&left, ta.slice, f.slice);
            launches.extend(features::pool_into(&right, tb.slice, f.slice));
            launches.extend(features::timestep_into(batch, columns, tt.slice, f.slice));
            launches.extend(features::pool_grad(&left, ta.slice, f.slice, tdf.slice, da.slice));
            h.run(launches);
            let mut want: Vec<f64> =
                pooled(&left, &wide(&a)).iter().zip(pooled(&right, &wide(&b))).map(|(a, b)| a + b).collect();
            for (row, t) in want.chunks_mut(columns).zip(&t) {
                row[columns - 1] = f64::from(*t);
            }
            assert_close(&format!("{left:?}"), &h.read(&f), &want, 2e-6);
            let loss = |x: &[f64]| dot(&pooled(&left, x), &wide(&df));
            assert_gradient(&format!("gradient of {left:?}"), &h.read(&da), &wide(&a), loss);
        }
    }
}

#[test]
fn a_maximum_does_not_pass_over_nan() {
    let map = FeatureMap { batch: 1, pixels: 3, channels: 4, columns: 4, offset: 0, maximum: true };
    let mut h = Harness::new();
    let nan = f32::NAN;
    let x = h.input(&[1, 3, 4], &[nan, 1.0, 2.0, -3.0, 1.0, nan, 5.0, -f32::INFINITY, 1.0, 1.0, 0.0, -4.0]);
    let f = h.output(&[1, 4]);
    h.run(features::pool_into(&map, x.slice, f.slice));
    let got = h.read(&f);
    assert!(got[0].is_nan() && got[1].is_nan(), "{got:?}");
    assert_eq!(got[2..], [5.0, -3.0]);
}

#[test]
fn of_equal_maxima_the_first_takes_the_gradient() {
    let map = FeatureMap { batch: 1, pixels: 4, channels: 2, columns: 2, offset: 0, maximum: true };
    let mut h = Harness::new();
    let x = h.input(&[1, 4, 2], &[0.0, 3.0, 1.0, 3.0, 1.0, -1.0, 0.5, 3.0]);
    let df = h.input(&[1, 2], &[5.0, 7.0]);
    let (f, dx) = (h.output(&[1, 2]), h.output(&[1, 4, 2]));
    let mut launches = features::pool_into(&map, x.slice, f.slice);
    launches.extend(features::pool_grad(&map, x.slice, f.slice, df.slice, dx.slice));
    h.run(launches);
    assert_eq!(h.read(&dx), [0.0, 7.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
}

/// BatchNorm1d with the batch's statistics.
fn normalised(x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let columns = weight.len();
    let rows = (x.len() / columns) as f64;
    let mut y = vec![0.0; x.len()];
    for c in 0..columns {
        let column = || x.iter().skip(c).step_by(columns);
        let mean = column().sum::<f64>() / rows;
        let variance = column().map(|v| (v - mean).powi(2)).sum::<f64>() / rows;
        for (y, x) in y.iter_mut().skip(c).step_by(columns).zip(column()) {
            *y = (x - mean) / (variance + 1e-5).sqrt() * weight[c] + bias[c];
        }
    }
    y
}

#[test]
fn batch_statistics_and_their_gradients() {
    for (rows, columns) in [(2, 3), (5, 32), (8, 301), (33, 1)] {
        let x: Vec<f32> = values(1, rows * columns).iter().map(|v| 0.7 + 2.0 * v).collect();
        let weight: Vec<f32> = values(2, columns).iter().map(|v| 1.0 + 0.5 * v).collect();
        let (bias, dy) = (values(3, columns), values(4, rows * columns));
        let running = [values(5, columns), values(6, columns)].concat();
        let mut h = Harness::new();
        let tx = h.input(&[rows, columns], &x);
        let (tw, tb) = (h.input(&[columns], &weight), h.input(&[columns], &bias));
        let tdy = h.input(&[rows, columns], &dy);
        let trunning = h.input(&[2, columns], &running);
        let (kept, learn) = (h.input(&[2, columns], &running), [0.0, 1.0].map(|v| h.input(&[1], &[v])));
        let stats = h.output(&[3, columns]);
        let y = h.output(&[rows, columns]);
        let (dx, dw) = (h.output(&[rows, columns]), h.output(&[columns]));
        // Once without learning.
        let quiet = [stats.slice, kept.slice];
        let mut launches = batchnorm::stats(rows, columns, [tx.slice, learn[0].slice], quiet);
        let written = [stats.slice, trunning.slice];
        launches.extend(batchnorm::stats(rows, columns, [tx.slice, learn[1].slice], written));
        let reads = [tx.slice, stats.slice, tw.slice, tb.slice];
        launches.extend(batchnorm::forward(rows, columns, true, reads, y.slice));
        let reads = [tx.slice, tdy.slice, stats.slice, tw.slice];
        launches.extend(batchnorm::grad_input(rows, columns, true, reads, dx.slice));
        let reads = [tx.slice, tdy.slice, stats.slice];
        launches.extend(batchnorm::grad_weight(rows, columns, true, reads, dw.slice));
        h.run(launches);
        let (x, weight, bias, dy) = (wide(&x), wide(&weight), wide(&bias), wide(&dy));
        let name = |what: &str| format!("{what} of [{rows}, {columns}]");
        assert_close(&name("y"), &h.read(&y), &normalised(&x, &weight, &bias), 1e-5);
        let loss = |x: &[f64]| dot(&normalised(x, &weight, &bias), &dy);
        if rows > 2 {
            assert_gradient(&name("dx"), &h.read(&dx), &x, loss);
        } else {
            // Of two samples, what is left after three terms cancel is of the order of eps: it is exact against them.
            let want = finite_differences(&x, &spread_indices(x.len(), x.len()), loss);
            for (got, want) in h.read(&dx).iter().zip(want) {
                assert!((f64::from(*got) - want).abs() < 1e-6, "{}: {got} instead of {want}", name("dx"));
            }
        }
        assert_gradient(&name("dw"), &h.read(&dw), &weight, |w| dot(&normalised(&x, w, &bias), &dy));
        // Momentum 0.1 towards the mean and the unbiased variance.
        let want: Vec<f64> = (0..2 * columns)
            .map(|i| {
                let column = || x.iter().skip(i % columns).step_by(columns);
                let mean = column().sum::<f64>() / rows as f64;
                let unbiased = column().map(|v| (v - mean).powi(2)).sum::<f64>() / (rows - 1) as f64;
                0.9 * f64::from(running[i]) + 0.1 * if i < columns { mean } else { unbiased }
            })
            .collect();
        assert_close(&name("running statistics"), &h.read(&trunning), &want, 1e-5);
        assert_eq!(h.read(&kept), running, "what does not learn keeps its bits");
    }
}

#[test]
fn running_statistics_and_their_gradients() {
    for (rows, columns) in [(1, 5), (4, 32), (3, 301)] {
        let x = values(1, rows * columns);
        let weight: Vec<f32> = values(2, columns).iter().map(|v| 1.0 + 0.5 * v).collect();
        let (bias, dy) = (values(3, columns), values(4, rows * columns));
        let mean = values(5, columns);
        let variance: Vec<f32> = values(6, columns).iter().map(|v| 1.5 + v).collect();
        let mut h = Harness::new();
        let tx = h.input(&[rows, columns], &x);
        let (tw, tb) = (h.input(&[columns], &weight), h.input(&[columns], &bias));
        let tdy = h.input(&[rows, columns], &dy);
        let running = h.input(&[2, columns], &[mean.clone(), variance.clone()].concat());
        let y = h.output(&[rows, columns]);
        let (dx, dw) = (h.output(&[rows, columns]), h.output(&[columns]));
        let reads = [tx.slice, running.slice, tw.slice, tb.slice];
        let mut launches = batchnorm::forward(rows, columns, false, reads, y.slice);
        let reads = [tx.slice, tdy.slice, running.slice, tw.slice];
        launches.extend(batchnorm::grad_input(rows, columns, false, reads, dx.slice));
        let reads = [tx.slice, tdy.slice, running.slice];
        launches.extend(batchnorm::grad_weight(rows, columns, false, reads, dw.slice));
        h.run(launches);
        let (mean, variance, bias, dy) = (wide(&mean), wide(&variance), wide(&bias), wide(&dy));
        let twin = |x: &[f64], weight: &[f64]| -> Vec<f64> {
            let at = |i: usize| i % columns;
            x.iter()
                .enumerate()
                .map(|(i, x)| {
                    (x - mean[at(i)]) / (variance[at(i)] + 1e-5).sqrt() * weight[at(i)] + bias[at(i)]
                })
                .collect()
        };
        let (x, weight) = (wide(&x), wide(&weight));
        assert_close("y", &h.read(&y), &twin(&x, &weight), 1e-5);
        assert_gradient("dx", &h.read(&dx), &x, |x| dot(&twin(x, &weight), &dy));
        assert_gradient("dw", &h.read(&dw), &weight, |w| dot(&twin(&x, w), &dy));
    }
}
