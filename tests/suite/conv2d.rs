//! Convolution with any kernel, stride and padding: against an f64 twin and finite differences of it.

use crate::harness::{self, Harness, assert_close, assert_gradient, dot, values, wide};
use duet::Error;
use duet::families::Family;
use duet::graph::{Graph, Place};
use duet::ops::conv2d::Window;
use duet::tensor::pitch;

/// One convolution: batch, height, width, channels read and written.
struct Case {
    image: [usize; 4],
    out_channels: usize,
    window: Window,
}

fn case(
    image: [usize; 4],
    out_channels: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
) -> Case {
    Case { image, out_channels, window: Window { kernel, stride, padding } }
}

/// Kernels of every kind, strides and paddings of each axis apart, channels and widths that no tile divides, one pixel, a
/// kernel larger than the image, a padding in which windows see nothing of it, pixels that no window sees.
fn cases() -> Vec<Case> {
    vec![
        case([1, 1, 1, 1], 1, [1, 1], [1, 1], [0, 0]),
        case([3, 7, 7, 5], 3, [1, 1], [1, 1], [0, 0]),
        case([1, 14, 14, 3], 34, [3, 3], [1, 1], [1, 1]),
        case([3, 7, 7, 34], 5, [3, 3], [2, 2], [1, 1]),
        case([1, 14, 14, 1], 5, [5, 5], [2, 2], [2, 2]),
        case([3, 5, 9, 5], 3, [1, 7], [1, 1], [0, 3]),
        case([1, 5, 9, 3], 9, [7, 1], [1, 1], [3, 0]),
        case([3, 5, 9, 34], 1, [3, 5], [1, 2], [0, 1]),
        case([1, 9, 5, 4], 8, [5, 3], [3, 1], [2, 3]),
        case([1, 2, 3, 5], 6, [7, 7], [1, 1], [3, 3]),
        case([1, 3, 3, 2], 13, [1, 1], [2, 2], [3, 3]),
        case([3, 7, 7, 3], 5, [3, 3], [4, 5], [0, 0]),
        case([1, 7, 7, 9], 12, [7, 7], [1, 1], [0, 0]),
        case([3, 4, 4, 16], 13, [4, 4], [1, 1], [0, 0]),
        case([1, 5, 9, 3], 5, [2, 4], [2, 1], [1, 2]),
    ]
}

/// The families that have kernels of their own.
fn families() -> Vec<Family> {
    harness::families().into_iter().filter(|family| *family != Family::Tiled).collect()
}

/// Plain loops over \[N,H,W,C\] with a weight \[U·V,C,K\].
fn twin(case: &Case, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let ([batch, height, width, channels], Window { kernel, stride, padding }) = (case.image, case.window);
    let out = |side: usize, axis: usize| (side + 2 * padding[axis] - kernel[axis]) / stride[axis] + 1;
    let mut y = Vec::new();
    for n in 0..batch {
        for i in 0..out(height, 0) {
            for j in 0..out(width, 1) {
                for k in 0..case.out_channels {
                    let mut sum = bias.get(k).copied().unwrap_or(0.0);
                    for u in 0..kernel[0] {
                        for v in 0..kernel[1] {
                            let row = (i * stride[0] + u).wrapping_sub(padding[0]);
                            let column = (j * stride[1] + v).wrapping_sub(padding[1]);
                            if row >= height || column >= width {
                                continue;
                            }
                            for c in 0..channels {
                                let at = ((n * height + row) * width + column) * channels + c;
                                let tap = u * kernel[1] + v;
                                sum += x[at] * weight[(tap * channels + c) * case.out_channels + k];
                            }
                        }
                    }
                    y.push(sum);
                }
            }
        }
    }
    y
}

/// A weight \[U·V,C,K\] with rows of padded channels, zeros.
fn pad_weight(case: &Case, weight: &[f32]) -> Vec<f32> {
    let (channels, columns) = (case.image[3], case.out_channels);
    let pads = vec![0.0; (pitch(channels) - channels) * columns];
    weight.chunks(channels * columns).flat_map(|tap| [tap, &pads].concat()).collect()
}

/// The opposite; rows of padded channels must be zero.
fn unpad_weight(case: &Case, padded: &[f32]) -> Vec<f32> {
    let (channels, columns) = (case.image[3], case.out_channels);
    let split = padded.chunks(pitch(channels) * columns).map(|tap| tap.split_at(channels * columns));
    split
        .flat_map(|(tap, pads)| {
            assert!(pads.iter().all(|v| *v == 0.0), "padded channels have a gradient");
            tap.to_vec()
        })
        .collect()
}

#[test]
fn convolution_and_its_gradients_match_for_any_window() {
    for (case, family) in cases().iter().flat_map(|case| families().into_iter().map(move |f| (case, f))) {
        let taps = case.window.kernel[0] * case.window.kernel[1];
        let (channels, columns) = (case.image[3], case.out_channels);
        let name = format!("{family} {:?} to {columns}, {:?}", case.image, case.window);
        let x = values(1, case.image.iter().product());
        let weight = values(2, taps * channels * columns);
        let bias = values(3, columns);
        let padded = pad_weight(case, &weight);
        let weight_shape = [taps, pitch(channels), columns];
        let mut tensors: Vec<(&[usize], &[f32])> = vec![(&case.image, &x), (&weight_shape, &padded)];
        let plain = Harness::differentiate_in(family, &tensors, |graph, leaves| {
            graph.conv2d(leaves[0], leaves[1], case.window, None).unwrap()
        });
        let bias_shape = [columns];
        tensors.push((&bias_shape, &bias));
        let got = Harness::differentiate_in(family, &tensors, |graph, leaves| {
            graph.conv2d(leaves[0], leaves[1], case.window, Some(leaves[2])).unwrap()
        });
        let file = if family == Family::Subgroup { "conv2d_subgroup" } else { "conv2d" };
        assert_eq!(got.plan.program().launches[0].kernel.file, file);
        let (x, weight, bias) = (wide(&x), wide(&weight), wide(&bias));
        assert_close(&format!("{name} without bias"), &plain.y, &twin(case, &x, &weight, &[]), 1e-5);
        assert_close(&name, &got.y, &twin(case, &x, &weight, &bias), 1e-5);
        let dy = wide(&got.upstream);
        let loss = |x: &[f64], weight: &[f64], bias: &[f64]| dot(&twin(case, x, weight, bias), &dy);
        assert_gradient(&format!("{name} dx"), &got.gradients[0], &x, |x| loss(x, &weight, &bias));
        let dw = unpad_weight(case, &got.gradients[1]);
        assert_gradient(&format!("{name} dw"), &dw, &weight, |w| loss(&x, w, &bias));
        assert_gradient(&format!("{name} dbias"), &got.gradients[2], &bias, |b| loss(&x, &weight, b));
        let bits = |list: &[Vec<f32>]| -> Vec<u32> { list.concat().iter().map(|v| v.to_bits()).collect() };
        assert_eq!(bits(&plain.gradients), bits(&got.gradients[..2]), "{name}: other bits the second time");
    }
}

#[test]
fn more_workgroups_and_pixels_than_one_dimension_holds() {
    for family in families() {
        // A row of pixels, each three times the input's: one more workgroup than a dimension holds.
        let pixels = 65_536 * if family == Family::Subgroup { 32 } else { 128 };
        let window = Window { kernel: [1, 1], stride: [1, 1], padding: [0, 0] };
        let x: Vec<f32> = (0..pixels).map(|i| (i % 7) as f32).collect();
        let got = Harness::differentiate_in(
            family,
            &[(&[1, 1, pixels, 1], &x), (&[1, 4, 1], &[3.0, 0.0, 0.0, 0.0])],
            |graph, leaves| graph.conv2d(leaves[0], leaves[1], window, None).unwrap(),
        );
        assert!(got.plan.program().launches[0].workgroups[1] > 1);
        assert!(got.y.iter().zip(&x).all(|(y, x)| *y == 3.0 * x), "{family}");
        assert!(got.gradients[0].iter().zip(&got.upstream).all(|(dx, dy)| *dx == 3.0 * dy), "{family}");
        let dw = dot(&wide(&x), &wide(&got.upstream));
        // A sum of millions of terms that nearly cancel.
        assert_close("dw", &got.gradients[1], &[dw, 0.0, 0.0, 0.0], 1e-4);
    }
}

#[test]
fn windows_and_weights_that_do_not_fit_are_refused() {
    let good = Window { kernel: [3, 5], stride: [1, 2], padding: [1, 0] };
    let refused = |image: &[usize], weight: &[usize], window: Window, bias: Option<usize>| {
        let mut graph = Graph::new();
        let [x, w] = [image, weight].map(|shape| graph.leaf(shape, Place::whole("t")));
        let bias = bias.map(|count| graph.leaf(&[count], Place::whole("t")));
        matches!(graph.conv2d(x, w, window, bias), Err(Error::Shape { op: "conv2d", .. }))
    };
    let (image, weight): (&[usize], &[usize]) = (&[2, 7, 7, 3], &[15, 4, 6]);
    assert!(!refused(image, weight, good, Some(6)));
    assert!(refused(&[7, 7, 3], weight, good, None), "no image");
    assert!(refused(image, &[15, 3, 6], good, None), "rows of padded channels missing");
    assert!(refused(image, &[9, 4, 6], good, None), "another kernel");
    assert!(refused(image, weight, good, Some(5)), "another bias");
    assert!(refused(image, &[15, 4, 0], good, None), "no channels written");
    assert!(refused(&[2, 0, 7, 3], weight, good, None), "no rows");
    assert!(refused(&[0, 7, 7, 3], weight, good, None), "no samples");
    for kernel in [[0, 5], [11, 5], [usize::MAX, 5]] {
        let taps = kernel[0].wrapping_mul(kernel[1]);
        assert!(refused(image, &[taps, 4, 6], Window { kernel, ..good }, None), "{kernel:?}");
    }
    assert!(refused(image, weight, Window { stride: [0, 1], ..good }, None));
    assert!(refused(image, weight, Window { stride: [1, usize::MAX], ..good }, None));
    assert!(refused(image, weight, Window { padding: [usize::MAX, 0], ..good }, None));
}
