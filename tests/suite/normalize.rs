//! Normalised gradients and the steps of Algorithm 1 along them, against f64 twins at odd sizes.

use crate::harness::{Harness, Tensor, assert_close, values, wide};
use duet::gpu::Slice;
use duet::graph::{Graph, NodeId, Place};
use duet::ops::normalize::{self, Moved, Samples, Step};

/// Pixels and channels of a sample: one number, fewer and more vec4s than an invocation moves and a part sums.
const SIZES: [[usize; 2]; 8] = [[49, 5], [1, 1], [784, 32], [6, 7], [31, 4], [2, 33], [9, 3], [64, 20]];

/// A launch's tensors with the values of x and of its gradient, and the result.
type Case = (Moved<Slice>, Vec<f32>, Vec<f32>, Tensor);

fn samples_of([pixels, channels]: [usize; 2]) -> Samples {
    Samples { quads: pixels * channels.div_ceil(4), elements: pixels * channels }
}

/// The gradient as it is taken.
fn taken(gradient: &[f32], samples: usize, normalized: bool) -> Vec<f64> {
    let gradient = wide(gradient);
    if !normalized {
        return gradient;
    }
    let elements = gradient.len() / samples;
    let each = gradient.chunks_exact(elements).flat_map(|sample| {
        let rms = (sample.iter().map(|v| v * v).sum::<f64>() / elements as f64).sqrt() + 1e-12;
        sample.iter().map(move |v| v / rms).collect::<Vec<_>>()
    });
    each.collect()
}

#[test]
fn samples_get_the_length_of_one() {
    for size in SIZES {
        for (n, scale) in [(1, 1.0f32), (3, 1e-9), (2, 0.0)] {
            let of = samples_of(size);
            let x: Vec<f32> = values(1, n * of.elements).iter().map(|v| v * scale).collect();
            let mut h = Harness::new();
            let shape = [n, size[0], size[1]];
            let (tx, y) = (h.input(&shape, &x), h.output(&shape));
            let scratch = h.scratch(normalize::sums_bytes(n, 1));
            h.run(normalize::normalize(n, of, tx.slice, scratch, y.slice));
            assert_close(&format!("{shape:?}"), &h.read(&y), &taken(&x, n, true), 1e-5);
        }
    }
}

#[test]
fn tensors_move_along_their_gradients() {
    for (count, batch) in [(1, 1), (2, 3), (3, 2), (7, 5), (8, 1), (15, 3)] {
        for (each, normalized) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut h = Harness::new();
            let alphas: Vec<f32> = values(50, if each { batch } else { 1 });
            let alpha = h.input(&[alphas.len()], &alphas).slice;
            let mut all: Vec<Case> = Vec::new();
            for number in 0..count {
                let size = SIZES[number % SIZES.len()];
                let shape = [batch, size[0], size[1]];
                let elements = shape.iter().product();
                let [x, gradient] = [0, 100].map(|seed| values(seed + number as u64, elements));
                let y = h.output(&shape);
                let moved = Moved {
                    of: samples_of(size),
                    x: h.input(&shape, &x).slice,
                    gradient: h.input(&shape, &gradient).slice,
                    number,
                    y: y.slice,
                };
                all.push((moved, x, gradient, y));
            }
            let sums = h.scratch(normalize::sums_bytes(batch, count));
            let gradients: Vec<(Samples, Slice)> =
                all.iter().map(|(moved, ..)| (moved.of, moved.gradient)).collect();
            let mut launches = normalize::squares(batch, &gradients, sums);
            assert_eq!(launches.len(), count.div_ceil(7));
            let moved: Vec<Moved<Slice>> = all.iter().map(|(moved, ..)| *moved).collect();
            let step = Step { samples: batch, each };
            let along = normalize::along(step, &moved, alpha, normalized.then_some(sums));
            assert_eq!(along.len(), count.div_ceil(2));
            launches.extend(along);
            h.run(launches);
            for (number, (_, x, gradient, y)) in all.iter().enumerate() {
                let of_sample = x.len() / batch;
                let taken = taken(gradient, batch, normalized);
                let moved = |(i, (x, g)): (usize, (&f32, &f64))| {
                    f64::from(*x) + f64::from(alphas[if each { i / of_sample } else { 0 }]) * g
                };
                let want: Vec<f64> = x.iter().zip(&taken).enumerate().map(moved).collect();
                let what = format!("{number} of {count}, each {each}, normalised {normalized}");
                assert_close(&what, &h.read(y), &want, 5e-6);
            }
        }
    }
}

/// What a graph makes of maps and their gradients, together or one by one, and with how many launches.
fn moved(count: usize, normalize: bool, together: bool) -> (Vec<Vec<f32>>, usize) {
    let batch = 2;
    let mut h = Harness::new();
    let mut graph = Graph::new();
    let place = |tensor: &Tensor| Place::whole(tensor.slice.buffer.0.to_string());
    let mut leaf = |graph: &mut Graph, shape: &[usize], seed: u64| {
        let tensor = h.input(shape, &values(seed, shape.iter().product()));
        graph.leaf(shape, place(&tensor))
    };
    let alpha = leaf(&mut graph, &[batch], 77);
    let mut all = |graph: &mut Graph, from: u64| -> Vec<NodeId> {
        let sizes = SIZES.into_iter().cycle().take(count).zip(from..);
        sizes.map(|([pixels, channels], seed)| leaf(graph, &[batch, 1, pixels, channels], seed)).collect()
    };
    let (xs, gradients) = (all(&mut graph, 0), all(&mut graph, 100));
    let ends = match together {
        true => graph.move_along(&xs, &gradients, alpha, normalize).unwrap(),
        false => {
            let one = |(x, gradient): (&NodeId, &NodeId)| {
                let gradient = if normalize { graph.normalize(*gradient) } else { *gradient };
                graph.axpy(*x, gradient, alpha).unwrap()
            };
            xs.iter().zip(&gradients).map(one).collect()
        }
    };
    let results: Vec<Tensor> = ends
        .into_iter()
        .map(|end| {
            let result = h.output(graph.shape(end));
            graph.place(end, place(&result));
            result
        })
        .collect();
    let plan = graph.compile().unwrap();
    h.run_plan(&plan);
    (results.iter().map(|result| h.read(result)).collect(), plan.stats().dispatches)
}

#[test]
fn two_maps_are_a_launch_with_the_same_bits() {
    for (count, plain, normalized) in [(1, 1, 2), (2, 1, 2), (7, 4, 5), (8, 4, 6), (15, 8, 11)] {
        let (together, launches) = moved(count, false, true);
        assert_eq!(launches, plain, "{count} maps");
        let (apart, many) = moved(count, false, false);
        assert_eq!(many, count);
        assert_eq!(together, apart, "{count} maps");
        let (together, launches) = moved(count, true, true);
        assert_eq!(launches, normalized, "{count} maps");
        let (apart, many) = moved(count, true, false);
        assert_eq!(many, 3 * count);
        assert_eq!(together, apart, "{count} maps, normalised");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut graph = Graph::new();
    let mut leaf = |shape: &[usize]| graph.leaf(shape, Place::whole("x"));
    let (x, other, one, two) = (leaf(&[2, 3]), leaf(&[2, 4]), leaf(&[1]), leaf(&[2]));
    let (row, third) = (leaf(&[2]), leaf(&[3, 3]));
    assert!(graph.axpy(x, x, other).is_err() && graph.axpy(x, other, one).is_err());
    assert!(graph.move_along(&[x, x], &[x], one, false).is_err(), "a gradient is missing");
    assert!(graph.move_along(&[x, third], &[x, third], two, false).is_err(), "other samples");
    assert!(graph.move_along(&[row], &[row], one, true).is_err(), "no samples");
    assert!(graph.move_along(&[], &[], one, true).unwrap().is_empty());
    // A gradient would end at the second result unnoticed.
    let ends = graph.move_along(&[x, x], &[x, x], one, false).unwrap();
    let loss = graph.weighted_sum(two, 1.0);
    assert!(graph.grad(loss, &[two]).is_ok());
    let read = graph.scale(ends[1], 1.0);
    let error = graph.grad_from(read, x, &[x]).unwrap_err().to_string();
    assert!(error.contains("several results"), "{error}");
    // Through one it goes.
    let end = graph.axpy(x, x, one).unwrap();
    assert!(graph.grad_from(end, x, &[x]).is_err(), "along a gradient there is none");
    let gradient = graph.scale(other, 1.0);
    let end = graph.axpy(other, gradient, one).unwrap();
    assert!(graph.grad_from(end, other, &[gradient]).is_err());
}
