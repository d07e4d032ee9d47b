//! BatchNorm1d with what comes before it: the batch's statistics and the running ones, against f64 twins, and against LeakyReLU and
//! dropout as operations of their own.

use crate::harness::{
    Harness, Tensor, assert_close, assert_gradient, dot, finite_differences, spread_indices, values, wide,
};
use duet::graph::{Graph, Place};
use duet::ops::Activation;
use duet::ops::batchnorm::{self, BatchNorm};
use duet::rng::{Seed, Stream, block};

/// Seed low, seed high, step, first row.
const RUN: [u32; 4] = [99, 0, 4, 10];

/// What BatchNorm normalises: x after LeakyReLU and dropout.
fn before(of: &BatchNorm, x: &[f64]) -> Vec<f64> {
    let columns = of.features;
    let element = |(i, x): (usize, &f64)| {
        let value = if *x > 0.0 { *x } else { f64::from(of.slope) * x };
        let Some((layer, probability)) = of.dropout else { return value };
        let (row, column) = ((i / columns) as u32, i % columns);
        let seed = Seed(u64::from(RUN[0]));
        let words = block(seed, Stream::Dropout as u32 + layer, RUN[2], RUN[3] + row, (column / 4) as u32);
        let keeps = words[column % 4] >= (f64::from(probability) * 4_294_967_296.0) as u32;
        if keeps { value * f64::from(1.0 / (1.0 - probability)) } else { 0.0 }
    };
    x.iter().enumerate().map(element).collect()
}

/// BatchNorm1d with the batch's statistics.
fn normalised(z: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let columns = weight.len();
    let rows = (z.len() / columns) as f64;
    let mut y = vec![0.0; z.len()];
    for c in 0..columns {
        let column = || z.iter().skip(c).step_by(columns);
        let mean = column().sum::<f64>() / rows;
        let variance = column().map(|v| (v - mean).powi(2)).sum::<f64>() / rows;
        for (y, z) in y.iter_mut().skip(c).step_by(columns).zip(column()) {
            *y = (z - mean) / (variance + 1e-5).sqrt() * weight[c] + bias[c];
        }
    }
    y
}

/// Nothing before the norm, either and both.
fn ways(rows: usize, columns: usize) -> [BatchNorm; 4] {
    let plain = BatchNorm::new(rows, columns);
    let leaky = BatchNorm { slope: 0.1, ..plain };
    let dropped = |of: BatchNorm, layer| BatchNorm { dropout: Some((layer, 0.3)), ..of };
    [plain, leaky, dropped(plain, 2), dropped(leaky, 5)]
}

#[test]
fn batch_statistics_and_their_gradients() {
    for (rows, columns) in [(2, 3), (5, 32), (8, 301), (33, 1), (70, 6)] {
        for of in ways(rows, columns) {
            if rows == 2 && of.dropout.is_some() {
                continue;
            }
            let x: Vec<f32> = values(1, rows * columns).iter().map(|v| 0.7 + 2.0 * v).collect();
            let weight: Vec<f32> = values(2, columns).iter().map(|v| 1.0 + 0.5 * v).collect();
            let (bias, dy) = (values(3, columns), values(4, rows * columns));
            let running = [values(5, columns), values(6, columns)].concat();
            let mut h = Harness::new();
            let (tx, run) = (h.input(&[rows, columns], &x), h.words(&RUN));
            let [tw, tb] = [&weight, &bias].map(|data| h.input(&[columns], data).slice);
            let tdy = h.input(&[rows, columns], &dy).slice;
            let trunning = h.input(&[2, columns], &running);
            let kept = h.input(&[2, columns], &running);
            let [quiet, learns] = [0.0, 1.0].map(|v| h.input(&[1], &[v]).slice);
            let [z, y, dx] = [(); 3].map(|()| h.output(&[rows, columns]));
            let [dw, db] = [(); 2].map(|()| h.output(&[columns]));
            // Once without learning.
            let reads = [tx.slice, run, quiet, tw, tb];
            let mut launches = batchnorm::train(&of, reads, [z.slice, kept.slice, y.slice]);
            let reads = [tx.slice, run, learns, tw, tb];
            launches.extend(batchnorm::train(&of, reads, [z.slice, trunning.slice, y.slice]));
            let writes = [dx.slice, dw.slice, db.slice];
            launches.extend(batchnorm::train_grad(&of, [z.slice, run, tdy, tw], writes));
            h.run(launches);
            let (x, weight, bias, dy) = (wide(&x), wide(&weight), wide(&bias), wide(&dy));
            let name = |what: &str| format!("{what} of {of:?}");
            let seen = before(&of, &x);
            assert_close(&name("z"), &h.read(&z), &seen, 1e-6);
            assert_close(&name("y"), &h.read(&y), &normalised(&seen, &weight, &bias), 1e-5);
            let loss = |x: &[f64]| dot(&normalised(&before(&of, x), &weight, &bias), &dy);
            if rows > 2 {
                assert_gradient(&name("dx"), &h.read(&dx), &x, loss);
            } else {
                // Of two samples, what is left after three terms cancel is of the order of eps: it is exact against them.
                let want = finite_differences(&x, &spread_indices(x.len(), x.len()), loss);
                for (got, want) in h.read(&dx).iter().zip(want) {
                    assert!((f64::from(*got) - want).abs() < 1e-6, "{}: {got}, not {want}", name("dx"));
                }
            }
            assert_gradient(&name("dw"), &h.read(&dw), &weight, |w| dot(&normalised(&seen, w, &bias), &dy));
            assert_gradient(&name("db"), &h.read(&db), &bias, |b| dot(&normalised(&seen, &weight, b), &dy));
            // Momentum 0.1 towards the mean and the unbiased variance.
            let want: Vec<f64> = (0..2 * columns)
                .map(|i| {
                    let column = || seen.iter().skip(i % columns).step_by(columns);
                    let mean = column().sum::<f64>() / rows as f64;
                    let unbiased = column().map(|v| (v - mean).powi(2)).sum::<f64>() / (rows - 1) as f64;
                    0.9 * f64::from(running[i]) + 0.1 * if i < columns { mean } else { unbiased }
                })
                .collect();
            assert_close(&name("running statistics"), &h.read(&trunning), &want, 1e-5);
            assert_eq!(h.read(&kept), running, "what does not learn keeps its bits");
        }
    }
}

#[test]
fn running_statistics_and_their_gradients() {
    for (rows, columns) in [(1, 5), (4, 32), (3, 301)] {
        for of in ways(rows, columns).into_iter().filter(|of| of.dropout.is_none()) {
            let x = values(1, rows * columns);
            let weight: Vec<f32> = values(2, columns).iter().map(|v| 1.0 + 0.5 * v).collect();
            let (bias, dy) = (values(3, columns), values(4, rows * columns));
            let mean = values(5, columns);
            let variance: Vec<f32> = values(6, columns).iter().map(|v| 1.5 + v).collect();
            let mut h = Harness::new();
            let tx = h.input(&[rows, columns], &x).slice;
            let [tw, tb] = [&weight, &bias].map(|data| h.input(&[columns], data).slice);
            let tdy = h.input(&[rows, columns], &dy).slice;
            let running = h.input(&[2, columns], &[mean.clone(), variance.clone()].concat()).slice;
            let [y, dx] = [(); 2].map(|()| h.output(&[rows, columns]));
            let [dw, db] = [(); 2].map(|()| h.output(&[columns]));
            let mut launches = batchnorm::forward(&of, [tx, running, tw, tb], y.slice);
            launches.extend(batchnorm::grad_input(&of, [tx, tdy, running, tw], dx.slice));
            launches.extend(batchnorm::grad_affine(&of, [tx, tdy, running], [dw.slice, db.slice]));
            h.run(launches);
            let (mean, variance, bias, dy) = (wide(&mean), wide(&variance), wide(&bias), wide(&dy));
            let twin = |x: &[f64], weight: &[f64], bias: &[f64]| -> Vec<f64> {
                let element = |(i, z): (usize, &f64)| {
                    let c = i % columns;
                    (z - mean[c]) / (variance[c] + 1e-5).sqrt() * weight[c] + bias[c]
                };
                before(&of, x).iter().enumerate().map(element).collect()
            };
            let (x, weight) = (wide(&x), wide(&weight));
            assert_close("y", &h.read(&y), &twin(&x, &weight, &bias), 1e-5);
            assert_gradient("dx", &h.read(&dx), &x, |x| dot(&twin(x, &weight, &bias), &dy));
            assert_gradient("dw", &h.read(&dw), &weight, |w| dot(&twin(&x, w, &bias), &dy));
            assert_gradient("db", &h.read(&db), &bias, |b| dot(&twin(&x, &weight, b), &dy));
        }
    }
}

/// What a graph of LeakyReLU, in training dropout, and BatchNorm computes with its gradients; `apart`: each for itself.
fn chain(rows: usize, columns: usize, train: bool, apart: bool) -> (Vec<Vec<f32>>, usize) {
    let mut h = Harness::new();
    let mut graph = Graph::new();
    let place = |tensor: &Tensor| Place::whole(tensor.slice.buffer.0.to_string());
    let mut given = |graph: &mut Graph, shape: &[usize], middle: f32, seed: u64| {
        let data: Vec<f32> = values(seed, shape.iter().product()).iter().map(|v| middle + 0.5 * v).collect();
        let tensor = h.input(shape, &data);
        (graph.leaf(shape, place(&tensor)), tensor)
    };
    let (x, _) = given(&mut graph, &[rows, columns], 0.0, 1);
    let (weight, _) = given(&mut graph, &[columns], 1.0, 2);
    let (bias, _) = given(&mut graph, &[columns], 0.0, 3);
    let (running, running_tensor) = given(&mut graph, &[2, columns], 1.0, 4);
    let (dy, _) = given(&mut graph, &[rows, columns], 0.0, 5);
    let (learn, _) = given(&mut graph, &[1], 2.0, 6);
    let run = graph.leaf(&[4], Place::whole(h.words(&RUN).buffer.0.to_string()));
    let mut seen = graph.activate(x, Activation::LeakyRelu { slope: 0.01 });
    if train {
        seen = graph.dropout(seen, run, 0.4);
    }
    if apart {
        seen = graph.scale(seen, 1.0);
    }
    let y = graph.batch_norm(seen, weight, bias, running, train.then_some(learn)).unwrap();
    let gradients = graph.grad_from(y, dy, &[x, weight, bias]).unwrap();
    let results: Vec<Tensor> = [y]
        .into_iter()
        .chain(gradients)
        .map(|node| {
            let result = h.output(graph.shape(node));
            graph.place(node, place(&result));
            result
        })
        .collect();
    let plan = graph.compile().unwrap();
    h.run_plan(&plan);
    let mut read: Vec<Vec<f32>> = results.iter().map(|result| h.read(result)).collect();
    read.push(h.read(&running_tensor));
    (read, plan.stats().dispatches)
}

#[test]
fn activation_and_dropout_are_part_of_the_norm() {
    for (rows, columns) in [(2, 7), (9, 33), (40, 5)] {
        let (fused, launches) = chain(rows, columns, true, false);
        let (apart, many) = chain(rows, columns, true, true);
        assert_eq!(fused, apart, "in training, [{rows}, {columns}]");
        assert_eq!((launches, many), (2, 8));
        let (fused, launches) = chain(rows, columns, false, false);
        let (apart, many) = chain(rows, columns, false, true);
        assert_eq!(fused, apart, "in inference, [{rows}, {columns}]");
        assert_eq!((launches, many), (3, 7));
    }
}

#[test]
fn what_is_normalised_can_be_read_all_the_same() {
    // Dropout's result is also a result of its own, and numbers of layers are those of the graph's order.
    let mut h = Harness::new();
    let mut graph = Graph::new();
    let place = |tensor: &Tensor| Place::whole(tensor.slice.buffer.0.to_string());
    let (rows, columns) = (5, 9);
    let x = h.input(&[rows, columns], &values(1, rows * columns));
    let x = graph.leaf(&x.shape, place(&x));
    let run = graph.leaf(&[4], Place::whole(h.words(&RUN).buffer.0.to_string()));
    let ones = h.input(&[columns], &vec![1.0; columns]);
    let ones = graph.leaf(&[columns], place(&ones));
    let running = h.input(&[2, columns], &vec![1.0; 2 * columns]);
    let running = graph.leaf(&[2, columns], place(&running));
    let learn = graph.fill(1, 1.0);
    let mut y = x;
    let mut dropped = Vec::new();
    for _ in 0..3 {
        let seen = graph.dropout(y, run, 0.5);
        y = graph.batch_norm(seen, ones, ones, running, Some(learn)).unwrap();
        dropped.push(seen);
    }
    let places = [dropped[0], dropped[2], y].map(|node| {
        let result = h.output(&[rows, columns]);
        graph.place(node, place(&result));
        result
    });
    let plan = graph.compile().unwrap();
    h.run_plan(&plan);
    let [first, third, _] = places.map(|result| h.read(&result));
    let zeros = |layer: u32| -> Vec<bool> {
        let of = BatchNorm { dropout: Some((layer, 0.5)), ..BatchNorm::new(rows, columns) };
        before(&of, &vec![1.0; rows * columns]).iter().map(|z| *z == 0.0).collect()
    };
    let are = |values: &[f32]| -> Vec<bool> { values.iter().map(|v| *v == 0.0).collect() };
    assert_eq!(are(&first), zeros(0));
    assert_eq!(are(&third), zeros(2));
    // Three norms, two layers of dropout that are read, and what says that it learns.
    assert_eq!(plan.stats().dispatches, 6);
}
