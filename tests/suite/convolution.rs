//! 3×3 convolution: forward against f64 twins, gradients against finite differences of the twins, and
//! every variant of all families against its naive twin.

use crate::harness::{self, Harness, assert_close, assert_gradient, dot, values, wide};
use duet::families::Family;
use duet::ops::conv3x3::{self, Conv3x3};
use duet::tensor::pitch;

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
/// divide (of both shapes of the tiled family, of one and of several workgroups), both strides.
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
        size(3, 7, 7, 34, 66, 1),
        size(1, 14, 14, 37, 30, 1),
        size(3, 28, 28, 6, 35, 1),
        size(3, 14, 14, 17, 70, 2),
        size(1, 28, 28, 35, 6, 2),
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
        let naive = h.output(&out_shape);
        let (x_slice, w_slice) = (tx.slice, tw.slice);
        let (bias_slice, residual_slice) = (Some(tb.slice), Some(tr.slice));
        let mut launches = conv3x3::naive::forward(&size, x_slice, w_slice, bias_slice, naive.slice);
        let outputs = harness::families().into_iter().map(|family| {
            let (plain, full) = (h.output(&out_shape), h.output(&out_shape));
            let (y, both) = (plain.slice, full.slice);
            launches.extend(conv3x3::forward(family, &size, x_slice, w_slice, None, None, y));
            let more = conv3x3::forward(family, &size, x_slice, w_slice, bias_slice, residual_slice, both);
            launches.extend(more);
            (family, plain, full)
        });
        let outputs: Vec<_> = outputs.collect();
        h.run(launches);
        let twin = |b: &[f64], r: &[f64]| conv_twin(&size, &wide(&x), &wide(&weight), b, r);
        for (family, plain, full) in outputs {
            let name = format!("{family} {size:?}");
            assert_close(&name, &h.read(&plain), &twin(&[], &[]), 1e-5);
            let want = twin(&wide(&bias), &wide(&residual));
            assert_close(&format!("{name} with bias and residual"), &h.read(&full), &want, 1e-5);
        }
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
        let (naive_dx, naive_dw) = (h.output(&in_shape), h.output(&weight_shape));
        let (x_slice, w_slice, d_slice) = (tx.slice, tw.slice, td.slice);
        let mut launches = conv3x3::naive::grad_input(&size, d_slice, w_slice, naive_dx.slice);
        launches.extend(conv3x3::naive::grad_weight(&size, x_slice, d_slice, naive_dw.slice));
        let outputs = harness::families().into_iter().map(|family| {
            let (dx, dw) = (h.output(&in_shape), h.output(&weight_shape));
            let db = h.output(&[size.out_channels]);
            let scratch = h.scratch(conv3x3::grad_weight_scratch(family, &size));
            let more = h.output(&in_shape);
            launches.extend(conv3x3::grad_input(family, &size, d_slice, w_slice, None, dx.slice));
            launches.extend(conv3x3::grad_input(family, &size, d_slice, w_slice, Some(x_slice), more.slice));
            let bias = Some(db.slice);
            launches.extend(conv3x3::grad_weight(family, &size, x_slice, d_slice, scratch, dw.slice, bias));
            (family, [dx, more], dw, db)
        });
        let outputs: Vec<_> = outputs.collect();
        h.run(launches);
        let (x, weight, dy) = (wide(&x), wide(&weight), wide(&dy));
        let (naive_dx, naive_dw) = (wide(&h.read(&naive_dx)), unpad_weight(&size, &h.read(&naive_dw)));
        let name = format!("{size:?}");
        let loss = |x: &[f64]| dot(&conv_twin(&size, x, &weight, &[], &[]), &dy);
        assert_gradient(&format!("{name} naive dx"), &narrow(&naive_dx), &x, loss);
        let loss = |w: &[f64]| dot(&conv_twin(&size, &x, w, &[], &[]), &dy);
        assert_gradient(&format!("{name} naive dw"), &naive_dw, &weight, loss);
        let of_channel = |k: usize| dy.iter().skip(k).step_by(size.out_channels).sum();
        let want_db: Vec<f64> = (0..size.out_channels).map(of_channel).collect();
        for (family, [dx, more], dw, db) in outputs {
            let name = format!("{family} {name}");
            // Every element by the naive twin, which the finite differences have confirmed.
            assert_close(&format!("{name} dx"), &h.read(&dx), &naive_dx, 1e-5);
            let want: Vec<f64> = naive_dx.iter().zip(&x).map(|(dx, x)| dx + x).collect();
            assert_close(&format!("{name} dx and x"), &h.read(&more), &want, 1e-5);
            assert_close(&format!("{name} dw"), &unpad_weight(&size, &h.read(&dw)), &wide(&naive_dw), 1e-5);
            assert_close(&format!("{name} db"), &h.read(&db), &want_db, 1e-5);
        }
    }
}

fn narrow(data: &[f64]) -> Vec<f32> {
    data.iter().map(|v| *v as f32).collect()
}

#[test]
fn convolutions_repeat_bit_for_bit() {
    for family in harness::families() {
        repeat_bit_for_bit(family);
    }
}

fn repeat_bit_for_bit(family: Family) {
    let size = Conv3x3 { batch: 3, height: 14, width: 14, in_channels: 37, out_channels: 66, stride: 1 };
    let in_shape = [size.batch, size.height, size.width, size.in_channels];
    let out_shape = [size.batch, size.height, size.width, size.out_channels];
    let weight_shape = [9, pitch(size.in_channels), size.out_channels];
    let mut h = Harness::new();
    let x = h.input(&in_shape, &values(1, in_shape.iter().product())).slice;
    let dy = h.input(&out_shape, &values(2, out_shape.iter().product())).slice;
    let weight = values(3, 9 * size.in_channels * size.out_channels);
    let w = h.input(&weight_shape, &pad_weight(&size, &weight)).slice;
    let scratch = h.scratch(conv3x3::grad_weight_scratch(family, &size));
    let runs = [0, 1].map(|_| {
        let (y, dx, dw) = (h.output(&out_shape), h.output(&in_shape), h.output(&weight_shape));
        let mut launches = conv3x3::forward(family, &size, x, w, None, None, y.slice);
        launches.extend(conv3x3::grad_input(family, &size, dy, w, None, dx.slice));
        launches.extend(conv3x3::grad_weight(family, &size, x, dy, scratch, dw.slice, None));
        h.run(launches);
        [y, dx, dw].map(|tensor| h.read(&tensor).into_iter().map(f32::to_bits).collect::<Vec<_>>())
    });
    assert!(runs[0] == runs[1], "{family}: the same run gave other bits");
}
