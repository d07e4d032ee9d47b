//! Concatenation, slices and per-sample rows against their twins, at channel counts on and off whole vec4s.

use super::harness::{Harness, assert_close, assert_gradient, dot, values, wide};
use duet::ops::channels;

/// Rows, columns of a, columns of b.
const PAIRS: [[usize; 3]; 6] = [[1, 4, 8], [5, 32, 7], [3, 6, 5], [7, 1, 1], [2, 3, 32], [9, 21, 64]];

/// a and b side by side.
fn beside(a: &[f32], a_columns: usize, b: &[f32], b_columns: usize) -> Vec<f32> {
    a.chunks(a_columns).zip(b.chunks(b_columns)).flat_map(|(a, b)| [a, b].concat()).collect()
}

#[test]
fn concatenation_and_its_slices() {
    for [rows, left, right] in PAIRS {
        let (a, b) = (values(1, rows * left), values(2, rows * right));
        let mut h = Harness::new();
        let (ta, tb) = (h.input(&[rows, left], &a), h.input(&[rows, right], &b));
        let y = h.output(&[rows, left + right]);
        // Slicing is concatenation's gradient.
        let (back_a, back_b) = (h.output(&[rows, left]), h.output(&[rows, right]));
        let mut launches = channels::concat(rows, left, right, ta.slice, tb.slice, y.slice);
        launches.extend(channels::slice(rows, left + right, 0, left, y.slice, back_a.slice));
        launches.extend(channels::slice(rows, left + right, left, right, y.slice, back_b.slice));
        h.run(launches);
        assert_eq!(h.read(&y), beside(&a, left, &b, right), "{rows} rows of {left} and {right}");
        assert_eq!(h.read(&back_a), a, "left of {left} and {right}");
        assert_eq!(h.read(&back_b), b, "right of {left} and {right}");
    }
}

#[test]
fn a_slice_and_its_gradient() {
    for [rows, columns, from, count] in
        [[3, 12, 4, 4], [2, 13, 4, 9], [5, 13, 3, 6], [1, 9, 8, 1], [4, 96, 32, 32]]
    {
        let x = values(3, rows * columns);
        let got = Harness::differentiate(&[(&[rows, columns], &x)], |graph, leaves| {
            graph.slice_channels(leaves[0], from, count).unwrap()
        });
        let twin = |x: &[f64]| -> Vec<f64> {
            x.chunks(columns).flat_map(|row| row[from..from + count].to_vec()).collect()
        };
        assert_close("slice", &got.y, &twin(&wide(&x)), 1e-7);
        assert_eq!((&got.shape[..], got.plan.stats().dispatches), (&[rows, count][..], 2));
        let loss = |x: &[f64]| dot(&twin(x), &wide(&got.upstream));
        assert_gradient("embed", &got.gradients[0], &wide(&x), loss);
    }
}

#[test]
fn rows_added_to_pixels_and_summed_over_them() {
    for [batch, pixels, columns] in [[1, 1, 1], [3, 49, 5], [2, 7, 32], [5, 784, 6]] {
        let (x, m) = (values(5, batch * pixels * columns), values(6, batch * columns));
        let dy = values(7, x.len());
        let mut h = Harness::new();
        let tx = h.input(&[batch, pixels, columns], &x);
        let tm = h.input(&[batch, columns], &m);
        let tdy = h.input(&[batch, pixels, columns], &dy);
        let (y, dm) = (h.output(&[batch, pixels, columns]), h.output(&[batch, columns]));
        let scale = 0.5;
        let mut launches = channels::add_rowwise(batch, pixels, columns, tx.slice, tm.slice, y.slice);
        launches.extend(channels::sum_pixels(batch, pixels, columns, scale, tdy.slice, dm.slice));
        h.run(launches);
        let twin = |m: &[f64]| -> Vec<f64> {
            let at = |i: usize| m[i / (pixels * columns) * columns + i % columns];
            x.iter().enumerate().map(|(i, v)| f64::from(*v) + at(i)).collect()
        };
        assert_close("add_rowwise", &h.read(&y), &twin(&wide(&m)), 1e-6);
        // The sum over pixels is the gradient of the row, here scaled.
        assert_gradient("sum_pixels", &h.read(&dm), &wide(&m), |m| {
            f64::from(scale) * dot(&twin(m), &wide(&dy))
        });
    }
}
