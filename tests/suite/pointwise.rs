//! Element-wise operations against f64 twins, and dispatches beyond one dimension's limit.

use crate::harness::{Harness, assert_close, assert_gradient, dot, values, wide};
use duet::ops::{Activation, pointwise};

fn sigmoid(v: f64) -> f64 {
    1.0 / (1.0 + (-v).exp())
}

#[test]
fn operations_match_their_twins() {
    for count in [1usize, 5, 28, 257] {
        let mut a = values(1, count);
        // Far out on both sides, where a careless sigmoid overflows.
        a[0] = -120.0;
        a[count / 2] = 95.0;
        let b = values(2, count);
        let (wa, wb) = (wide(&a), wide(&b));
        let quads = count.div_ceil(4);
        let mut h = Harness::new();
        let (ta, tb) = (h.input(&[count], &a), h.input(&[count], &b));
        let alpha = h.words(&[(-1.5f32).to_bits(), 0, 0, 0]);
        let y: Vec<_> = (0..8).map(|_| h.output(&[count])).collect();
        let slope = 0.01;
        let mut launches = pointwise::activate(Activation::Silu, quads, ta.slice, y[0].slice);
        launches.extend(pointwise::activate(Activation::LeakyRelu { slope }, quads, ta.slice, y[1].slice));
        launches.extend(pointwise::scale(-2.5, quads, ta.slice, y[2].slice));
        launches.extend(pointwise::add(quads, ta.slice, tb.slice, y[3].slice));
        launches.extend(pointwise::activate_grad(Activation::Silu, quads, ta.slice, tb.slice, y[4].slice));
        launches.extend(pointwise::activate_grad(
            Activation::LeakyRelu { slope },
            quads,
            ta.slice,
            tb.slice,
            y[5].slice,
        ));
        launches.extend(pointwise::axpy(quads, None, [ta.slice, tb.slice, alpha], y[6].slice));
        launches.extend(pointwise::clamp(0.5, quads, ta.slice, y[7].slice));
        h.run(launches);
        let silu = |x: &[f64]| -> Vec<f64> { x.iter().map(|v| v * sigmoid(*v)).collect() };
        let leaky = |x: &[f64]| -> Vec<f64> {
            x.iter().map(|v| if *v > 0.0 { *v } else { f64::from(slope) * v }).collect()
        };
        assert_close("silu", &h.read(&y[0]), &silu(&wa), 1e-6);
        assert_close("leaky", &h.read(&y[1]), &leaky(&wa), 1e-6);
        let scaled: Vec<f64> = wa.iter().map(|v| -2.5 * v).collect();
        assert_close("scale", &h.read(&y[2]), &scaled, 1e-6);
        let sum: Vec<f64> = wa.iter().zip(&wb).map(|(a, b)| a + b).collect();
        assert_close("add", &h.read(&y[3]), &sum, 1e-6);
        assert_gradient("silu", &h.read(&y[4]), &wa, |x| dot(&silu(x), &wb));
        assert_gradient("leaky", &h.read(&y[5]), &wa, |x| dot(&leaky(x), &wb));
        let moved: Vec<f64> = wa.iter().zip(&wb).map(|(a, b)| a - 1.5 * b).collect();
        assert_close("axpy", &h.read(&y[6]), &moved, 1e-6);
        let held: Vec<f32> = a.iter().map(|v| v.clamp(-0.5, 0.5)).collect();
        assert_eq!(h.read(&y[7]), held, "clamp");
    }
}

#[test]
fn relu_and_its_gradient_match() {
    for shape in [[1, 1], [3, 5], [7, 34]] {
        let mut x = values(6, shape.iter().product());
        // Far out on both sides, and zero, where neither the value nor the gradient passes.
        (x[0], x[shape[1] / 2]) = (-1e30, 1e30);
        *x.last_mut().unwrap() = 0.0;
        let got = Harness::differentiate(&[(&shape, &x)], |graph, leaves| {
            graph.activate(leaves[0], Activation::Relu)
        });
        let passed = |through: &[f32]| -> Vec<u32> {
            x.iter().zip(through).map(|(x, v)| if *x > 0.0 { v.to_bits() } else { 0 }).collect()
        };
        let bits = |data: &[f32]| -> Vec<u32> { data.iter().map(|v| v.to_bits()).collect() };
        assert_eq!(bits(&got.y), passed(&x), "{shape:?}");
        assert_eq!(bits(&got.gradients[0]), passed(&got.upstream), "{shape:?} dx");
    }
}

#[test]
fn a_clamp_keeps_what_is_not_finite() {
    let x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN, 0.25, -7.0, f32::MIN_POSITIVE, -0.0];
    let mut h = Harness::new();
    let (tx, y) = (h.input(&[8], &x), h.output(&[8]));
    h.run(pointwise::clamp(1.0, 2, tx.slice, y.slice));
    let held = h.read(&y);
    assert!(held[0].is_nan() && held[3].is_nan(), "{held:?}");
    assert_eq!([held[1], held[2], held[4], held[5]], [f32::INFINITY, f32::NEG_INFINITY, 0.25, -1.0]);
}

#[test]
fn a_mask_chooses_between_two_tensors() {
    for count in [3usize, 28, 257] {
        let (x, known) = (values(3, count), values(4, count));
        let mut mask: Vec<f32> = values(5, count).iter().map(|v| 0.5 * (v + 1.0)).collect();
        (mask[0], mask[1]) = (0.0, 1.0);
        let mut h = Harness::new();
        let [tm, tk, tx] = [&mask, &known, &x].map(|data| h.input(&[count], data));
        h.run(pointwise::blend(count.div_ceil(4), tm.slice, tk.slice, tx.slice));
        let blended = h.read(&tx);
        assert_eq!((blended[0], blended[1]), (known[0], x[1]), "the ends are exact");
        let twin: Vec<f64> = (wide(&mask).iter().zip(wide(&known)).zip(wide(&x)))
            .map(|((m, k), x)| m * x + (1.0 - m) * k)
            .collect();
        assert_close("blend", &blended, &twin, 1e-6);
    }
}

#[test]
fn more_workgroups_than_one_dimension_holds() {
    let quads = 65_536 * 64 + 3;
    let x: Vec<f32> = (0..quads * 4).map(|i| (i % 1021) as f32).collect();
    let mut h = Harness::new();
    let tx = h.input(&[x.len()], &x);
    let y = h.output(&[x.len()]);
    let launches = pointwise::scale(2.0, quads, tx.slice, y.slice);
    assert!(launches[0].workgroups[1] > 1);
    h.run(launches);
    assert!(h.read(&y).iter().zip(&x).all(|(y, x)| *y == 2.0 * x));
}
