//! Element-wise operations against f64 twins, and dispatches beyond one dimension's limit.

use crate::harness::{Harness, assert_close, assert_gradient, device, dot, values, wide};
use duet::gpu::Buffer;
use duet::graph::{Graph, Place, Plan};
use duet::ops::{Activation, pointwise};
use duet::tensor::{pad_rows, unpad_rows};
use std::collections::BTreeMap;

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
        let y: Vec<_> = (0..7).map(|_| h.output(&[count])).collect();
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
        launches.extend(pointwise::clamp(0.5, quads, ta.slice, y[6].slice));
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
        let held: Vec<f32> = a.iter().map(|v| v.clamp(-0.5, 0.5)).collect();
        assert_eq!(h.read(&y[6]), held, "clamp");
    }
}

#[test]
fn products_match() {
    for [samples, len] in [[1usize, 3], [3, 5], [4, 28]] {
        let (a, b) = (values(1, samples * len), values(2, samples * len));
        let mut h = Harness::new();
        let shape = [samples, len];
        let (ta, tb) = (h.input(&shape, &a), h.input(&shape, &b));
        let product = h.output(&shape);
        h.run(pointwise::multiply(samples * len.div_ceil(4), ta.slice, tb.slice, product.slice));
        let want: Vec<f64> = wide(&a).into_iter().zip(wide(&b)).map(|(a, b)| a * b).collect();
        assert_close("multiply", &h.read(&product), &want, 1e-6);
    }
}

#[test]
fn a_gradient_is_weighed_where_the_value_stays() {
    let (classes, logits, targets) = (3usize, values(1, 6), [1.0f32, 0.0, 1.0, 0.0, 0.0, 1.0]);
    let weights = [1.0f32, 0.25, 2.0, 0.0, 1.0, 1.0];
    let mut graph = Graph::new();
    let [z, t, w] = ["z", "t", "w"].map(|name| graph.leaf(&[2, classes], Place::whole(name)));
    let weighed = graph.weigh_gradient(z, w).unwrap();
    graph.place(weighed, Place::whole("same"));
    let loss = graph.bce(weighed, t, false).unwrap();
    let loss = graph.weighted_sum(loss, 1.0);
    let gradient = graph.grad(loss, &[z]).unwrap()[0];
    graph.place(gradient, Place::whole("gradient"));
    let plan = graph.compile().unwrap();
    let run = plan_results(&plan, &[("z", &logits), ("t", &targets), ("w", &weights)], classes);
    assert_eq!(run("same"), logits);
    let sum = |z: &[f64]| {
        let one = |(i, z): (usize, &f64)| {
            let bce = z.max(0.0) - z * f64::from(targets[i]) + (1.0 + (-z.abs()).exp()).ln();
            f64::from(weights[i]) * bce
        };
        z.iter().enumerate().map(one).sum()
    };
    assert_gradient("weighed", &run("gradient"), &wide(&logits), sum);
    assert!(graph_refuses());
}

/// Runs a plan once on rows of `columns`, and gives its results by name.
fn plan_results<'a>(
    plan: &'a Plan,
    inputs: &[(&str, &[f32])],
    columns: usize,
) -> impl Fn(&str) -> Vec<f32> + 'a {
    let buffers: BTreeMap<String, Buffer> = plan
        .externals()
        .map(|(name, bytes)| (name.to_owned(), pollster::block_on(device().buffer(name, bytes)).unwrap()))
        .collect();
    for (name, data) in inputs {
        device().write(&buffers[*name], 0, bytemuck::cast_slice(&pad_rows(data, columns))).unwrap();
    }
    let executable = pollster::block_on(plan.load(device(), |name| buffers.get(name).cloned())).unwrap();
    executable.run();
    move |name| {
        let buffer = &buffers[name];
        let data = pollster::block_on(device().read_f32(buffer, buffer.bytes() as usize / 4)).unwrap();
        unpad_rows(&data, columns)
    }
}

fn graph_refuses() -> bool {
    let mut graph = Graph::new();
    let [z, w] = [[2, 3], [2, 4]].map(|shape| graph.leaf(&shape, Place::whole("z")));
    graph.weigh_gradient(z, w).is_err()
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
