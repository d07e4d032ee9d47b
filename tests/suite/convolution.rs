//! 3×3 convolution: forward against f64 twins, gradients against finite differences of the twins, and every variant
//! against its naive twin.

use crate::harness::{Harness, assert_close, assert_gradient, dot, values, wide};
use duet::kernels::conv3x3::{self, Conv3x3};
use duet::kernels::pitch;

/// Plain loops over \[N,H,W,C\] with a weight \[9,C,K\].
fn conv_twin(size: &Conv3x3, x: &[f64], weight: &[f64], bias: &[f64], residual: &[f64]) -> Vec<f64> {
    let (c_in, c_out, stride) = (size.in_channels, size.out_channels, size.stride);
    let mut y = Vec::new();
    for n in 0..size.batch {
        for i in 0..size.out_height() {
            for j in 0..size.out_width() {
                for k in 0..c_out {
                    let mut sum = bias.get(k).copied().unwrap_or(0.0);
                    sum += residual.get(y.len()).copied().unwrap_or(0.0);
                    for tap in 0..9 {
                        let (row, column) =
                            ((i * stride + tap / 3).wrapping_sub(1), (j * stride + tap % 3).wrapping_sub(1));
                        if row >= size.height || column >= size.width {
                            continue;
                        }
                        for c in 0..c_in {
                            let at = ((n * size.height + row) * size.width + column) * c_in + c;
                            sum += x[at] * weight[(tap * c_in + c) * c_out + k];
                        }
                    }
                    y.push(sum);
                }
            }
        }
    }
    y
}

/// Sizes that touch every edge: odd, one pixel, one channel, channels that are no multiple of four, tiles that do not
/// divide, both strides.
fn conv_sizes() -> Vec<Conv3x3> {
    let size = |batch, height, width, in_channels, out_channels, stride| Conv3x3 {
        batch,
        height,
        width,
        in_channels,
        out_channels,
        stride,
    };
    vec![
        size(1, 1, 1, 1, 1, 1),
        size(3, 7, 7, 5, 6, 1),
        size(1, 14, 14, 4, 8, 1),
        size(2, 5, 15, 3, 12, 1),
        size(1, 8, 9, 21, 10, 1),
        size(1, 28, 28, 1, 5, 1),
        size(3, 7, 7, 6, 5, 2),
        size(1, 8, 8, 4, 12, 2),
        size(2, 1, 5, 3, 3, 2),
        size(1, 28, 28, 5, 3, 2),
        size(1, 1, 1, 2, 9, 2),
        size(2, 6, 31, 9, 17, 2),
    ]
}

/// A weight \[9,C,K\] with rows padded to whole vec4s of input channels.
fn pad_weight(size: &Conv3x3, weight: &[f32]) -> Vec<f32> {
    let (c_in, c_out) = (size.in_channels, size.out_channels);
    let mut padded = vec![0.0; 9 * pitch(c_in) * c_out];
    for tap in 0..9 {
        let from = tap * c_in * c_out;
        let to = tap * pitch(c_in) * c_out;
        padded[to..to + c_in * c_out].copy_from_slice(&weight[from..from + c_in * c_out]);
    }
    padded
}

/// The opposite; rows of padded channels must be zero.
fn unpad_weight(size: &Conv3x3, padded: &[f32]) -> Vec<f32> {
    let (c_in, c_out) = (size.in_channels, size.out_channels);
    padded
        .chunks(pitch(c_in) * c_out)
        .flat_map(|tap| {
            assert!(tap[c_in * c_out..].iter().all(|v| *v == 0.0), "padded channels have a gradient");
            tap[..c_in * c_out].to_vec()
        })
        .collect()
}

#[test]
fn convolution_forward_matches_its_twins() {
    for size in conv_sizes() {
        let in_shape = [size.batch, size.height, size.width, size.in_channels];
        let out_shape = [size.batch, size.out_height(), size.out_width(), size.out_channels];
        let x = values(1, in_shape.iter().product());
        let weight = values(2, 9 * size.in_channels * size.out_channels);
        let bias = values(3, size.out_channels);
        let residual = values(4, out_shape.iter().product());
        let mut h = Harness::new();
        let tx = h.input(&in_shape, &x);
        let tw = h.input(&[9, pitch(size.in_channels), size.out_channels], &pad_weight(&size, &weight));
        let tb = h.input(&[size.out_channels], &bias);
        let tr = h.input(&out_shape, &residual);
        let (plain, full, naive) = (h.output(&out_shape), h.output(&out_shape), h.output(&out_shape));
        let mut launches = conv3x3::forward(&size, tx.slice, tw.slice, None, None, plain.slice);
        let (bias_slice, residual_slice) = (Some(tb.slice), Some(tr.slice));
        launches.extend(conv3x3::forward(&size, tx.slice, tw.slice, bias_slice, residual_slice, full.slice));
        launches.extend(conv3x3::naive::forward(&size, tx.slice, tw.slice, bias_slice, naive.slice));
        h.run(launches);
        let twin = |b: &[f64], r: &[f64]| conv_twin(&size, &wide(&x), &wide(&weight), b, r);
        assert_close(&format!("{size:?}"), &h.read(&plain), &twin(&[], &[]), 1e-5);
        let want = twin(&wide(&bias), &wide(&residual));
        assert_close(&format!("{size:?} with bias and residual"), &h.read(&full), &want, 1e-5);
        assert_close(&format!("{size:?} naive"), &h.read(&naive), &twin(&wide(&bias), &[]), 1e-5);
    }
}

#[test]
fn convolution_gradients_match_finite_differences() {
    for size in conv_sizes() {
        let in_shape = [size.batch, size.height, size.width, size.in_channels];
        let out_shape = [size.batch, size.out_height(), size.out_width(), size.out_channels];
        let weight_shape = [9, pitch(size.in_channels), size.out_channels];
        let x = values(5, in_shape.iter().product());
        let weight = values(6, 9 * size.in_channels * size.out_channels);
        let dy = values(7, out_shape.iter().product());
        let mut h = Harness::new();
        let tx = h.input(&in_shape, &x);
        let tw = h.input(&weight_shape, &pad_weight(&size, &weight));
        let td = h.input(&out_shape, &dy);
        let (dx, naive_dx) = (h.output(&in_shape), h.output(&in_shape));
        let (dw, naive_dw) = (h.output(&weight_shape), h.output(&weight_shape));
        let scratch = h.scratch(conv3x3::grad_weight_scratch(&size));
        let mut launches = conv3x3::grad_input(&size, td.slice, tw.slice, dx.slice);
        launches.extend(conv3x3::naive::grad_input(&size, td.slice, tw.slice, naive_dx.slice));
        launches.extend(conv3x3::grad_weight(&size, tx.slice, td.slice, scratch, dw.slice));
        launches.extend(conv3x3::naive::grad_weight(&size, tx.slice, td.slice, naive_dw.slice));
        h.run(launches);
        let (x, weight, dy) = (wide(&x), wide(&weight), wide(&dy));
        let name = format!("{size:?}");
        let got = h.read(&dx);
        assert_gradient(&format!("{name} dx"), &got, &x, |x| {
            dot(&conv_twin(&size, x, &weight, &[], &[]), &dy)
        });
        assert_close(&format!("{name} dx of the twin"), &h.read(&naive_dx), &wide(&got), 1e-5);
        let got = unpad_weight(&size, &h.read(&dw));
        let loss = |w: &[f64]| dot(&conv_twin(&size, &x, w, &[], &[]), &dy);
        assert_gradient(&format!("{name} dw"), &got, &weight, loss);
        let twin = unpad_weight(&size, &h.read(&naive_dw));
        assert_close(&format!("{name} dw of the twin"), &twin, &wide(&got), 1e-5);
    }
}
