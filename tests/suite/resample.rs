//! Nearest upsampling, 2×2 averages and the gradients of both, odd sizes included.

use super::harness::{Harness, assert_close, assert_gradient, dot, values, wide};
use duet::ops::resample;

/// Batch, height, width, channels.
const SIZES: [[usize; 4]; 6] =
    [[1, 1, 1, 1], [2, 7, 7, 5], [3, 3, 5, 8], [1, 14, 14, 32], [2, 9, 2, 3], [1, 1, 6, 4]];

fn upsampled(x: &[f64], [batch, height, width, channels]: [usize; 4]) -> Vec<f64> {
    let mut y = Vec::new();
    for n in 0..batch {
        for i in 0..2 * height {
            for j in 0..2 * width {
                let at = ((n * height + i / 2) * width + j / 2) * channels;
                y.extend_from_slice(&x[at..at + channels]);
            }
        }
    }
    y
}

/// Means of whole 2×2 blocks; an odd last row or column is left out, as the reference's average pooling does.
fn averaged(x: &[f64], [batch, height, width, channels]: [usize; 4]) -> Vec<f64> {
    let mut y = Vec::new();
    let at = |n: usize, i: usize, j: usize, c: usize| x[((n * height + i) * width + j) * channels + c];
    for n in 0..batch {
        for i in 0..height / 2 {
            for j in 0..width / 2 {
                for c in 0..channels {
                    let block =
                        [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(di, dj)| at(n, 2 * i + di, 2 * j + dj, c));
                    y.push(block.iter().sum::<f64>() / 4.0);
                }
            }
        }
    }
    y
}

#[test]
fn upsampling_and_its_gradient() {
    for shape in SIZES {
        let [batch, height, width, channels] = shape;
        let large = [batch, 2 * height, 2 * width, channels];
        let x = values(1, shape.iter().product());
        let dy = values(2, large.iter().product());
        let mut h = Harness::new();
        let (tx, tdy) = (h.input(&shape, &x), h.input(&large, &dy));
        let (y, dx) = (h.output(&large), h.output(&shape));
        let sizes = ([height, width], [2 * height, 2 * width]);
        let mut launches = resample::expand(batch, sizes.0, sizes.1, channels, 1.0, tx.slice, y.slice);
        launches.extend(resample::pool(batch, sizes.1, channels, 1.0, tdy.slice, dx.slice));
        h.run(launches);
        assert_close("upsampling", &h.read(&y), &upsampled(&wide(&x), shape), 1e-7);
        assert_gradient("upsampling", &h.read(&dx), &wide(&x), |x| dot(&upsampled(x, shape), &wide(&dy)));
    }
}

#[test]
fn averaging_and_its_gradient() {
    for shape in SIZES.into_iter().filter(|[_, height, width, _]| *height > 1 && *width > 1) {
        let [batch, height, width, channels] = shape;
        let small = [batch, height / 2, width / 2, channels];
        let x = values(3, shape.iter().product());
        let dy = values(4, small.iter().product());
        let mut h = Harness::new();
        let (tx, tdy) = (h.input(&shape, &x), h.input(&small, &dy));
        let (y, dx) = (h.output(&small), h.output(&shape));
        let sizes = ([height, width], [height / 2, width / 2]);
        let mut launches = resample::pool(batch, sizes.0, channels, 0.25, tx.slice, y.slice);
        launches.extend(resample::expand(batch, sizes.1, sizes.0, channels, 0.25, tdy.slice, dx.slice));
        h.run(launches);
        assert_close("averaging", &h.read(&y), &averaged(&wide(&x), shape), 1e-6);
        assert_gradient("averaging", &h.read(&dx), &wide(&x), |x| dot(&averaged(x, shape), &wide(&dy)));
    }
}
