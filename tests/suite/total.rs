//! Sums of losses, what is reported of them, and gradients that losses begin with, read as the numbers that they are.

use crate::harness::{Harness, Tensor, assert_close, values, wide};
use duet::diffusion::{DiffusionConfig, Schedule};
use duet::gpu::Slice;
use duet::graph::{Graph, NodeId, Place};
use duet::ops::total::{self, Summand};
use duet::tensor::pitch;

#[test]
fn sums_over_the_batch_and_their_gradients() {
    for batch in [1, 3, 4, 7, 70, 200] {
        let data = values(1, batch);
        let mut h = Harness::new();
        let losses = h.input(&[batch], &data).slice;
        let factor = h.input(&[1], &[-3.0]).slice;
        let [sum, weighed]: [Tensor; 2] = [(); 2].map(|()| h.output(&[1]));
        let [spread, both, constant]: [Tensor; 3] = [(); 3].map(|()| h.output(&[batch]));
        let mut launches = total::sum(batch, 0.25, losses, None, sum.slice);
        launches.extend(total::sum(batch, 0.25, losses, Some(factor), weighed.slice));
        launches.extend(total::spread(batch, -2.0, sum.slice, None, spread.slice));
        launches.extend(total::spread(batch, 0.5, sum.slice, Some(factor), both.slice));
        launches.extend(total::fill(batch, 0.75, constant.slice));
        h.run(launches);
        let want = 0.25 * wide(&data).iter().sum::<f64>();
        let got = h.read(&sum)[0];
        // A sum may cancel: its error is relative to the terms.
        assert!((f64::from(got) - want).abs() <= 1e-6 * batch as f64, "{got} instead of {want}");
        assert_eq!(h.read(&weighed), [-3.0 * got]);
        assert_eq!(h.read(&spread), vec![-2.0 * got; batch]);
        assert_eq!(h.read(&both), vec![0.5 * got * -3.0; batch]);
        assert_eq!(h.read(&constant), vec![0.75; batch]);
        assert_eq!(spread.slice.bytes as usize, 4 * pitch(batch));
    }
}

/// Numbers between two metrics.
const STRIDE: usize = 64;

/// What the summands add to each of `slots` metrics.
fn reported(summands: &[Summand<Vec<f32>>], slots: usize) -> Vec<f64> {
    let mut metrics = vec![0.0; slots];
    for summand in summands {
        let mut sum: f64 = wide(&summand.values).iter().sum::<f64>() * f64::from(summand.weight);
        if let Some(given) = &summand.given {
            sum *= f64::from(given[0]);
        }
        if let Some(metric) = summand.metric {
            metrics[metric] += sum;
        }
        if let Some(factor) = summand.total {
            metrics[0] += f64::from(factor) * sum;
        }
    }
    metrics
}

#[test]
fn all_that_is_reported_is_one_launch_for_eight_sums() {
    // As a joint step has it, with more losses than bindings, with more sums than lanes have room for.
    for (count, givens, launches) in
        [(1, 0, 1), (2, 1, 1), (6, 0, 1), (5, 1, 1), (6, 1, 2), (9, 3, 3), (17, 17, 6)]
    {
        let mut h = Harness::new();
        let number = |summand: usize| if givens > 0 { Some(summand % givens) } else { None };
        let all: Vec<Summand<Vec<f32>>> = (0..count)
            .map(|n| Summand {
                values: values(n as u64, 1 + 13 * n),
                count: 1 + 13 * n,
                weight: 0.25 + n as f32,
                given: number(n).map(|given| vec![0.5 + given as f32]),
                metric: if n % 3 == 2 { None } else { Some(1 + n % 3) },
                total: if n % 4 == 3 { None } else { Some(1.0 - 0.5 * n as f32) },
            })
            .collect();
        let weights: Vec<Slice> =
            (0..givens).map(|given| h.input(&[1], &[0.5 + given as f32]).slice).collect();
        let bound: Vec<Summand<Slice>> = (all.iter().enumerate())
            .map(|(n, summand)| Summand {
                values: h.input(&[summand.count], &summand.values).slice,
                given: number(n).map(|given| weights[given]),
                count: summand.count,
                weight: summand.weight,
                metric: summand.metric,
                total: summand.total,
            })
            .collect();
        let slots = 3;
        let before: Vec<f32> = values(50, 2 * STRIDE + 1);
        for first in [0u32, 1] {
            let metrics = h.input(&[2 * STRIDE + 1], &before);
            let first_slice = h.words(&[first, 0, 0, 0]);
            let made = total::report(&bound, [slots, STRIDE], first_slice, metrics.slice);
            assert_eq!(made.len(), launches, "{count} losses, {givens} weights");
            h.run(made);
            let got = h.read(&metrics);
            let sums = reported(&all, slots);
            let scale = sums.iter().fold(1.0f64, |most, sum| most.max(sum.abs()));
            for (i, got) in got.iter().enumerate() {
                if i % STRIDE > 0 {
                    assert_eq!(*got, before[i], "nothing between the metrics is touched");
                    continue;
                }
                let kept = if first == 1 { 0.0 } else { f64::from(before[i]) };
                let want = kept + sums[i / STRIDE];
                assert!((f64::from(*got) - want).abs() <= 1e-5 * scale, "metric {i}: {got} not {want}");
            }
        }
    }
}

#[test]
fn sums_of_the_same_losses_share_a_binding() {
    let mut h = Harness::new();
    let data = values(1, 30);
    let [losses, weight] = [h.input(&[30], &data), h.input(&[1], &[2.0])].map(|tensor| tensor.slice);
    let summand = |n: usize| Summand {
        values: losses,
        count: 30,
        weight: n as f32,
        given: n.is_multiple_of(2).then_some(weight),
        metric: Some(1),
        total: None,
    };
    let summands: Vec<Summand<Slice>> = (0..10).map(summand).collect();
    let metrics = h.input(&[STRIDE + 1], &vec![7.0; STRIDE + 1]);
    let first = h.words(&[1, 0, 0, 0]);
    let made = total::report(&summands, [2, STRIDE], first, metrics.slice);
    assert_eq!(made.len(), 2, "of eight sums at most");
    h.run(made);
    let sum = wide(&data).iter().sum::<f64>();
    // 2 (0 + 2 + 4 + 6 + 8) + 1 + 3 + 5 + 7 + 9
    let got = h.read(&metrics);
    assert!((f64::from(got[STRIDE]) - 65.0 * sum).abs() < 1e-3, "{} not {}", got[STRIDE], 65.0 * sum);
    assert_eq!(got[0], 0.0, "nothing is part of the total");
}

#[test]
fn what_is_no_part_of_the_total_leaves_it_alone() {
    let mut h = Harness::new();
    let losses = h.input(&[2], &[f32::INFINITY, 1.0]).slice;
    let other = h.input(&[2], &[1.0, 2.0]).slice;
    let summand =
        |values, metric, total| Summand { values, count: 2, weight: 1.0, given: None, metric, total };
    let summands = [summand(losses, Some(1), None), summand(other, None, Some(0.5))];
    let metrics = h.input(&[STRIDE + 1], &vec![0.0; STRIDE + 1]);
    let first = h.words(&[1, 0, 0, 0]);
    h.run(total::report(&summands, [2, STRIDE], first, metrics.slice));
    let got = h.read(&metrics);
    assert_eq!((got[0], got[STRIDE]), (1.5, f32::INFINITY));
}

/// A way from losses to a scalar, and which other launches its gradient needs.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// Each is multiplied by a number of its own.
    each: bool,
    /// The sum's weight is given.
    given: bool,
    /// The gradient is scaled by a state.
    scaled: bool,
    launches: usize,
}

const BATCH: usize = 3;
const WEIGHT: f32 = 0.125;
const SCALE: f32 = -0.75;

fn losses(
    graph: &mut Graph,
    kind: &str,
    leaf: &mut dyn FnMut(&mut Graph, &[usize], u64) -> NodeId,
) -> [NodeId; 2] {
    match kind {
        "mse" => {
            let (x, target) = (leaf(graph, &[BATCH, 5, 7, 6], 1), leaf(graph, &[BATCH, 5, 7, 3], 2));
            [x, graph.mse(x, target).unwrap()]
        }
        "cross-entropy" => {
            let x = leaf(graph, &[BATCH, 5], 1);
            // Numbers below one as words are classes beyond all others: the last one.
            let labels = leaf(graph, &[BATCH], 2);
            [x, graph.cross_entropy(x, labels).unwrap()]
        }
        "shares" => {
            let (x, shares) = (leaf(graph, &[BATCH, 5], 1), leaf(graph, &[BATCH, 5], 2));
            [x, graph.soft_cross_entropy(x, shares).unwrap()]
        }
        "binary" => {
            let (x, targets) = (leaf(graph, &[BATCH, 5], 1), leaf(graph, &[BATCH, 5], 2));
            [x, graph.bce(x, targets, true).unwrap()]
        }
        _ => {
            let x = leaf(graph, &[BATCH, 3, 3, 4], 1);
            let [start, noised] = [2, 3].map(|seed| leaf(graph, &[BATCH, 3, 3, 2], seed));
            let coefficients = graph.leaf(&[8 * BATCH], Place::whole("coefficients"));
            [x, graph.vb(x, start, noised, coefficients).unwrap()]
        }
    }
}

#[test]
fn gradients_of_losses_need_no_launch_of_their_own() {
    let ways = [
        Way { each: false, given: false, scaled: false, launches: 0 },
        Way { each: false, given: true, scaled: false, launches: 0 },
        Way { each: true, given: false, scaled: false, launches: 0 },
        Way { each: true, given: true, scaled: false, launches: 2 },
        Way { each: false, given: false, scaled: true, launches: 0 },
        // Two numbers that only the device knows.
        Way { each: false, given: true, scaled: true, launches: 1 },
        Way { each: true, given: true, scaled: true, launches: 2 },
    ];
    let schedule = Schedule::new(&DiffusionConfig::default()).unwrap();
    for kind in ["mse", "cross-entropy", "shares", "binary", "variational"] {
        for way in ways {
            let mut h = Harness::new();
            let mut graph = Graph::new();
            let place = |slice: Slice| Place::whole(slice.buffer.0.to_string());
            let mut leaf = |graph: &mut Graph, shape: &[usize], seed: u64| {
                let tensor = h.input(shape, &values(seed, shape.iter().product()));
                graph.leaf(shape, place(tensor.slice))
            };
            let [x, values_of] = losses(&mut graph, kind, &mut leaf);
            let each = leaf(&mut graph, &[BATCH], 7);
            let given = leaf(&mut graph, &[1], 8);
            let state = h.input(&[4], &[1024.0, 3.0, 0.0, 0.0]);
            let state = graph.leaf(&[4], place(state.slice));
            let weighed = if way.each { graph.multiply(values_of, each).unwrap() } else { values_of };
            let sum = match way.given {
                true => graph.weighted_sum_by(weighed, given).unwrap(),
                false => graph.weighted_sum(weighed, WEIGHT),
            };
            let loss = graph.scale(sum, SCALE);
            let gradient = match way.scaled {
                true => graph.grad_scaled(loss, state, &[x]).unwrap()[0],
                false => graph.grad(loss, &[x]).unwrap()[0],
            };
            let result = h.output(graph.shape(gradient));
            graph.place(gradient, place(result.slice));
            // The same of a gradient that lies in memory.
            let mut factor = SCALE * if way.given { values(8, 1)[0] } else { WEIGHT };
            factor *= if way.scaled { 1024.0 } else { 1.0 };
            let upstream: Vec<f32> =
                values(7, BATCH).iter().map(|v| factor * if way.each { *v } else { 1.0 }).collect();
            let dy = h.input(&[BATCH], &upstream);
            let dy = graph.leaf(&[BATCH], place(dy.slice));
            let apart = graph.grad_from(values_of, dy, &[x]).unwrap()[0];
            let known = h.output(graph.shape(apart));
            graph.place(apart, place(known.slice));
            let plan = graph.compile().unwrap();
            let coefficients = schedule.vb_coefficients(300).unwrap().repeat(BATCH);
            let coefficients = h.words(bytemuck::cast_slice(&coefficients));
            h.run_plan_with(&plan, &[("coefficients", coefficients)]);
            let (got, want) = (h.read(&result), wide(&h.read(&known)));
            assert!(want.iter().any(|v| *v != 0.0), "{kind}, {way:?}");
            assert_close(&format!("{kind}, {way:?}"), &got, &want, 1e-6);
            assert_eq!(plan.stats().dispatches, 2 + way.launches, "{kind}, {way:?}");
        }
    }
}
