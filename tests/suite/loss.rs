//! Forward diffusion and the losses against their f64 twins.

use super::harness::{Harness, assert_close, assert_gradient, dot, values, wide};
use duet::ops::diffuse::{self, Factors, Mix};
use duet::ops::loss::{self, Mse};
use duet::ops::solver::COEFFICIENTS;
use duet::ops::total::Dloss;

/// Batch, pixels, channels: size 1, odd sizes, fewer and more pixels than one sample is cut into parts, a batch beyond
/// one workgroup.
const IMAGES: [[usize; 3]; 6] = [[1, 1, 1], [3, 49, 1], [2, 196, 3], [3, 35, 5], [1, 784, 4], [70, 3, 3]];

/// Batch and classes.
const LOGITS: [[usize; 2]; 6] = [[1, 1], [1, 10], [3, 5], [3, 6], [7, 21], [70, 2]];

/// A label that says that there is none.
const UNLABELLED: u32 = u32::MAX;

fn scaled(seed: u64, count: usize, width: f32) -> Vec<f32> {
    values(seed, count).iter().map(|v| v * width).collect()
}

#[test]
fn q_sample_mixes_by_the_coefficients_of_each_sample() {
    // The last case needs more than 65,535 workgroups.
    for [batch, pixels, channels] in IMAGES.into_iter().chain([[2, 525_000, 3]]) {
        let row = pixels * channels;
        let (start, noise) = (values(1, batch * row), values(2, batch * row));
        let coefficients = values(3, 2 * batch);
        let want: Vec<f64> = (0..batch * row)
            .map(|i| {
                let of = |k: usize| f64::from(coefficients[2 * (i / row) + k]);
                of(0) * f64::from(start[i]) + of(1) * f64::from(noise[i])
            })
            .collect();
        let shape = [batch, pixels, channels];
        let mut h = Harness::new();
        let reads = [h.input(&shape, &start).slice, h.input(&shape, &noise).slice];
        let coefficients = h.words(bytemuck::cast_slice(&coefficients));
        let x_t = h.output(&shape);
        h.run(diffuse::q_sample(batch, pixels, channels, [reads[0], reads[1], coefficients], x_t.slice));
        assert_close(&format!("x_t of {shape:?}"), &h.read(&x_t), &want, 1e-6);
    }
}

#[test]
fn a_predicted_x_start_and_its_gradients_equal_the_twin() {
    for ([batch, pixels, channels], learned_sigma) in
        IMAGES.into_iter().flat_map(|image| [(image, false), (image, true)])
    {
        let other_columns = if learned_sigma { 2 * channels } else { channels };
        let (x, out) = (values(1, batch * pixels * channels), values(2, batch * pixels * other_columns));
        let (factors, dy) = (values(3, COEFFICIENTS * batch), values(4, batch * pixels * channels));
        let size = Mix { batch, pixels, channels, columns: channels, other_columns };
        let factor = |n: usize, k: usize| f64::from(factors[COEFFICIENTS * n + k]);
        let twin = |x: &[f64], out: &[f64]| -> Vec<f64> {
            (0..batch * pixels * channels)
                .map(|i| {
                    let (row, c) = (i / channels, i % channels);
                    let n = row / pixels;
                    factor(n, 0) * x[i] + factor(n, 1) * out[row * other_columns + c]
                })
                .collect()
        };
        let mut h = Harness::new();
        let (shape, wide_shape) = ([batch, pixels, channels], [batch, pixels, other_columns]);
        let reads = [h.input(&shape, &x).slice, h.input(&wide_shape, &out).slice];
        let upstream = h.input(&shape, &dy).slice;
        let coefficients = h.words(bytemuck::cast_slice(&factors));
        let [made, dx, dout] = [h.output(&shape), h.output(&shape), h.output(&wide_shape)];
        let stride = COEFFICIENTS;
        let reads = [reads[0], reads[1], coefficients];
        let mut launches = diffuse::mix(size, Factors::Pair { stride }, reads, made.slice);
        for (which, columns, gradient) in [(0, channels, &dx), (1, other_columns, &dout)] {
            let size = Mix { columns, other_columns: channels, ..size };
            let factors = Factors::One { stride, which };
            launches.extend(diffuse::mix(size, factors, [upstream, upstream, coefficients], gradient.slice));
        }
        h.run(launches);
        let (x, out, dy) = (wide(&x), wide(&out), wide(&dy));
        let what = format!("{size:?}");
        assert_close(&what, &h.read(&made), &twin(&x, &out), 1e-6);
        assert_gradient(&what, &h.read(&dx), &x, |x| dot(&twin(x, &out), &dy));
        assert_gradient(&what, &h.read(&dout), &out, |out| dot(&twin(&x, out), &dy));
    }
}

/// Per-sample mean squared error; further columns of the prediction do not count.
fn mse_twin(size: &Mse, prediction: &[f64], target: &[f64]) -> Vec<f64> {
    let rows = prediction.chunks(size.prediction_channels).zip(target.chunks(size.channels));
    let pixels: Vec<f64> = rows.map(|(p, t)| t.iter().zip(p).map(|(t, p)| (p - t).powi(2)).sum()).collect();
    let count = (size.pixels * size.channels) as f64;
    pixels.chunks(size.pixels).map(|sample| sample.iter().sum::<f64>() / count).collect()
}

#[test]
fn squared_error_and_its_gradient_equal_the_twin() {
    for ([batch, pixels, channels], learned_sigma) in
        IMAGES.into_iter().flat_map(|image| [(image, false), (image, true)])
    {
        let prediction_channels = if learned_sigma { 2 * channels } else { channels };
        let size = Mse { batch, pixels, channels, prediction_channels };
        let prediction = scaled(1, batch * pixels * prediction_channels, 2.0);
        let (target, weights) = (values(2, batch * pixels * channels), values(3, batch));
        let mut h = Harness::new();
        let shape = [batch, pixels, prediction_channels];
        let p = h.input(&shape, &prediction).slice;
        let t = h.input(&[batch, pixels, channels], &target).slice;
        let dloss = h.input(&[batch], &weights).slice;
        let (out, gradient) = (h.output(&[batch]), h.output(&shape));
        let mut launches = loss::mse(&size, p, t, out.slice);
        launches.extend(loss::mse_grad(&size, Dloss::EACH, [p, t, dloss], gradient.slice));
        assert_eq!(launches.len(), 2);
        h.run(launches);
        let (prediction, target, weights) = (wide(&prediction), wide(&target), wide(&weights));
        let what = format!("{size:?}");
        assert_close(&what, &h.read(&out), &mse_twin(&size, &prediction, &target), 1e-6);
        let got = h.read(&gradient);
        assert_gradient(&what, &got, &prediction, |p| dot(&mse_twin(&size, p, &target), &weights));
        for row in got.chunks(prediction_channels) {
            assert!(row[channels..].iter().all(|v| *v == 0.0), "{what}: the variance has a gradient");
        }
    }
}

fn cross_entropy_twin(classes: usize, logits: &[f64], labels: &[u32]) -> Vec<f64> {
    let rows = logits.chunks(classes).zip(labels);
    rows.map(|(row, &label)| {
        if label == UNLABELLED {
            return 0.0;
        }
        let largest = row.iter().copied().fold(f64::MIN, f64::max);
        row.iter().map(|z| (z - largest).exp()).sum::<f64>().ln() + (largest - row[label as usize])
    })
    .collect()
}

/// Cross-entropy and the gradient of the logits on the device.
fn cross_entropy(classes: usize, logits: &[f32], labels: &[u32], dloss: &[f32]) -> [Vec<f32>; 2] {
    let batch = labels.len();
    let mut h = Harness::new();
    let z = h.input(&[batch, classes], logits).slice;
    let (y, dloss) = (h.words(labels), h.input(&[batch], dloss).slice);
    let (out, gradient) = (h.output(&[batch]), h.output(&[batch, classes]));
    let mut launches = loss::cross_entropy(batch, classes, z, y, out.slice);
    launches.extend(loss::cross_entropy_grad(batch, classes, Dloss::EACH, [z, y, dloss], gradient.slice));
    h.run(launches);
    [h.read(&out), h.read(&gradient)]
}

#[test]
fn cross_entropy_and_its_gradient_equal_the_twin() {
    for [batch, classes] in LOGITS {
        let (logits, weights) = (scaled(1, batch * classes, 6.0), values(2, batch));
        let label = |n: usize| if n % 3 == 1 { UNLABELLED } else { (n * 7 % classes) as u32 };
        let labels: Vec<u32> = (0..batch).map(label).collect();
        let [losses, gradient] = cross_entropy(classes, &logits, &labels, &weights);
        let what = format!("cross-entropy of {batch} x {classes}");
        let (logits, weights) = (wide(&logits), wide(&weights));
        assert_close(&what, &losses, &cross_entropy_twin(classes, &logits, &labels), 1e-5);
        assert_gradient(&what, &gradient, &logits, |z| {
            dot(&cross_entropy_twin(classes, z, &labels), &weights)
        });
        for (n, row) in gradient.chunks(classes).enumerate().filter(|(n, _)| labels[*n] == UNLABELLED) {
            assert_eq!(losses[n], 0.0, "{what}: an unlabelled sample has a loss");
            assert!(row.iter().all(|v| *v == 0.0), "{what}: an unlabelled sample has a gradient");
        }
    }
}

#[test]
fn cross_entropy_of_shares_and_its_gradient_equal_the_twin() {
    for [batch, classes] in LOGITS {
        let (logits, weights) = (scaled(1, batch * classes, 6.0), values(2, batch));
        // Two classes mixed, one alone, none.
        let other = |n: usize| (n * 5 + 1) % classes;
        let class = |n: usize| n * 7 % classes;
        let lambda = |n: usize| [0.25f32, 0.0, 0.9][n % 3];
        let mut shares = vec![0.0f32; batch * classes];
        for n in (0..batch).filter(|n| n % 4 != 3) {
            shares[n * classes + class(n)] += 1.0 - lambda(n);
            shares[n * classes + other(n)] += lambda(n);
        }
        let mut h = Harness::new();
        let [z, y] = [&logits, &shares].map(|data| h.input(&[batch, classes], data).slice);
        let dloss = h.input(&[batch], &weights).slice;
        let (out, gradient) = (h.output(&[batch]), h.output(&[batch, classes]));
        let mut launches = loss::soft_cross_entropy(batch, classes, z, y, out.slice);
        let reads = [z, y, dloss];
        launches.extend(loss::soft_cross_entropy_grad(batch, classes, Dloss::EACH, reads, gradient.slice));
        h.run(launches);
        let label =
            |n: usize, of: &dyn Fn(usize) -> usize| if n % 4 == 3 { UNLABELLED } else { of(n) as u32 };
        let own: Vec<u32> = (0..batch).map(|n| label(n, &class)).collect();
        let others: Vec<u32> = (0..batch).map(|n| label(n, &other)).collect();
        // (1 - lambda) CE(y) + lambda CE(y_other).
        let twin = |z: &[f64]| -> Vec<f64> {
            let [own, other] = [&own, &others].map(|labels| cross_entropy_twin(classes, z, labels));
            let mixed = |(n, (a, b)): (usize, (&f64, &f64))| {
                let lambda = f64::from(lambda(n));
                (1.0 - lambda) * a + lambda * b
            };
            own.iter().zip(&other).enumerate().map(mixed).collect()
        };
        let what = format!("shares of {batch} x {classes}");
        let (logits, weights) = (wide(&logits), wide(&weights));
        assert_close(&what, &h.read(&out), &twin(&logits), 1e-5);
        assert_gradient(&what, &h.read(&gradient), &logits, |z| dot(&twin(z), &weights));
    }
}

#[test]
fn cross_entropy_keeps_its_digits_where_logits_share_a_large_offset() {
    // Multiples of 1/64, so that adding the offset is exact and changes nothing but what the kernel makes of it.
    let near: Vec<f32> = values(1, 40).iter().map(|v| (v * 256.0).round() / 64.0).collect();
    let labels = [3, 0, 7, 9];
    let want = cross_entropy_twin(10, &wide(&near), &labels);
    for offset in [4096.0, -4096.0] {
        let far: Vec<f32> = near.iter().map(|z| z + offset).collect();
        let [losses, gradient] = cross_entropy(10, &far, &labels, &[1.0; 4]);
        assert_close(&format!("offset {offset}"), &losses, &want, 1e-5);
        assert!(gradient.iter().all(|v| v.abs() <= 1.0), "{gradient:?}");
    }
}

fn bce_twin(classes: usize, mean: bool, logits: &[f64], targets: &[f64]) -> Vec<f64> {
    let element = |(z, y): (&f64, &f64)| z.max(0.0) - z * y + (-z.abs()).exp().ln_1p();
    let rows = logits.chunks(classes).zip(targets.chunks(classes));
    let scale = if mean { 1.0 / classes as f64 } else { 1.0 };
    rows.map(|(z, y)| scale * z.iter().zip(y).map(element).sum::<f64>()).collect()
}

/// Binary cross-entropy and the gradient of the logits on the device.
fn bce(classes: usize, mean: bool, logits: &[f32], targets: &[f32], dloss: &[f32]) -> [Vec<f32>; 2] {
    let batch = dloss.len();
    let mut h = Harness::new();
    let shape = [batch, classes];
    let [z, y] = [logits, targets].map(|data| h.input(&shape, data).slice);
    let dloss = h.input(&[batch], dloss).slice;
    let (out, gradient) = (h.output(&[batch]), h.output(&shape));
    let mut launches = loss::bce(batch, classes, mean, z, y, out.slice);
    launches.extend(loss::bce_grad(batch, classes, mean, Dloss::EACH, [z, y, dloss], gradient.slice));
    h.run(launches);
    [h.read(&out), h.read(&gradient)]
}

#[test]
fn binary_cross_entropy_and_its_gradient_equal_the_twin() {
    for ([batch, classes], mean) in LOGITS.into_iter().flat_map(|size| [(size, false), (size, true)]) {
        let (logits, weights) = (scaled(1, batch * classes, 6.0), values(3, batch));
        // Hard and soft targets.
        let soft = values(2, batch * classes).into_iter().enumerate();
        let targets: Vec<f32> =
            soft.map(|(i, v)| if i % 2 == 0 { (v > 0.0).into() } else { 0.5 + 0.5 * v }).collect();
        let [losses, gradient] = bce(classes, mean, &logits, &targets, &weights);
        let what = format!("binary cross-entropy of {batch} x {classes}, mean {mean}");
        let (logits, targets, weights) = (wide(&logits), wide(&targets), wide(&weights));
        assert_close(&what, &losses, &bce_twin(classes, mean, &logits, &targets), 1e-5);
        assert_gradient(&what, &gradient, &logits, |z| dot(&bce_twin(classes, mean, z, &targets), &weights));
    }
}

#[test]
fn extreme_logits_stay_finite() {
    let logits = [300.0, -300.0, 0.0, -1000.0, 1000.0, 90.0];
    let [losses, gradient] = cross_entropy(3, &logits, &[1, 1], &[1.0; 2]);
    assert_close("cross-entropy", &losses, &[600.0, 0.0], 1e-6);
    assert_close("its gradient", &gradient, &[1.0, -1.0, 0.0, 0.0, 0.0, 0.0], 1e-6);
    let targets = [0.0, 1.0, 0.0, 1.0, 1.0, 0.0];
    let [losses, gradient] = bce(6, false, &logits, &targets, &[1.0]);
    let want = 300.0 + 300.0 + std::f64::consts::LN_2 + 1000.0 + 0.0 + 90.0;
    assert_close("binary cross-entropy", &losses, &[want], 1e-6);
    assert_close("its gradient", &gradient, &[1.0, -1.0, 0.5, -1.0, 0.0, 1.0], 1e-6);
}
