//! What the classifier reads: pooled features and the raw timestep.

use super::harness::{Harness, Tensor, assert_close, assert_gradient, dot, values, wide};
use duet::graph::{Graph, NodeId, Place};
use duet::ops::Pooling;
use duet::ops::features::{self, FeatureMap, Timestep};

/// Maps of so many pixels and channels side by side, then the timestep; by their maximum those that `maxima` says.
fn side_by_side(batch: usize, sizes: &[[usize; 2]], maxima: impl Fn(usize) -> bool) -> Vec<FeatureMap> {
    let columns = 1 + sizes.iter().map(|size| size[1]).sum::<usize>();
    let mut offset = 0;
    let map = |(number, &[pixels, channels]): (usize, &[usize; 2])| {
        let map = FeatureMap { batch, pixels, channels, columns, offset, maximum: maxima(number) };
        offset += channels;
        map
    };
    sizes.iter().enumerate().map(map).collect()
}

/// Rows of the features with the map's columns filled and the others 0.
fn pooled(map: &FeatureMap, x: &[f64]) -> Vec<f64> {
    let FeatureMap { batch, pixels, channels, columns, offset, maximum } = *map;
    let mut f = vec![0.0; batch * columns];
    for n in 0..batch {
        for c in 0..channels {
            let values = (0..pixels).map(|p| x[(n * pixels + p) * channels + c]);
            f[n * columns + offset + c] = match maximum {
                true => values.fold(f64::NEG_INFINITY, f64::max),
                false => values.sum::<f64>() / pixels as f64,
            };
        }
    }
    f
}

/// Pixels and channels: one pixel, fewer and more than lanes, odd ones, channels that are no multiple of four.
const SIZES: [[usize; 2]; 8] = [[49, 5], [1, 1], [784, 32], [6, 7], [31, 4], [33, 9], [1, 12], [64, 3]];

#[test]
fn maps_are_pooled_side_by_side() {
    // With the timesteps: as many bindings as a launch has, one more, and those of two and a bit.
    for (count, launches) in [(0, 1), (1, 1), (6, 1), (7, 2), (8, 2), (13, 2), (15, 3)] {
        for (batch, maxima) in [(1, false), (3, true), (37, false)] {
            let sizes: Vec<[usize; 2]> = SIZES.into_iter().cycle().take(count).collect();
            let maps = side_by_side(batch, &sizes, |number| maxima && number % 3 == 0);
            let columns = 1 + sizes.iter().map(|size| size[1]).sum::<usize>();
            let mut h = Harness::new();
            let xs: Vec<Vec<f32>> = (maps.iter().enumerate())
                .map(|(n, map)| values(n as u64, batch * map.pixels * map.channels))
                .collect();
            let tensors: Vec<Tensor> = (maps.iter().zip(&xs))
                .map(|(map, x)| h.input(&[batch, map.pixels, map.channels], x))
                .collect();
            let t: Vec<f32> = values(99, batch).iter().map(|v| 1000.0 * v).collect();
            let given = h.input(&[batch], &t);
            let (f, same) = (h.output(&[batch, columns]), h.output(&[batch, columns]));
            let read: Vec<(FeatureMap, _)> =
                maps.iter().copied().zip(tensors.iter().map(|x| x.slice)).collect();
            let made = features::pool([batch, columns], &read, Timestep::Given(given.slice), f.slice);
            assert_eq!(made.len(), launches, "{count} maps");
            h.run(made);
            let mut want = vec![0.0; batch * columns];
            for (map, x) in maps.iter().zip(&xs) {
                want.iter_mut().zip(pooled(map, &wide(x))).for_each(|(sum, part)| *sum += part);
            }
            let with_times = |t: &dyn Fn(usize) -> f64| -> Vec<f64> {
                let at = |i: usize| if (i + 1).is_multiple_of(columns) { t(i / columns) } else { want[i] };
                (0..want.len()).map(at).collect()
            };
            let got = h.read(&f);
            let what = format!("{count} maps, batch {batch}, maxima {maxima}");
            let last = |n: usize| f64::from(t[n]);
            let rest = |rows: &[f32]| -> Vec<f32> {
                let rows = rows.chunks(columns);
                rows.flat_map(|row| row[..columns - 1].to_vec()).collect()
            };
            let rest_of_want: Vec<f64> =
                want.chunks(columns).flat_map(|row| row[..columns - 1].to_vec()).collect();
            assert_close(&what, &got, &with_times(&last), 2e-6);
            // Timesteps are large: the others for themselves.
            assert_close(&what, &rest(&got), &rest_of_want, 2e-6);
            if count > 0 {
                let made = features::pool([batch, columns], &read, Timestep::Constant(0.25), same.slice);
                assert_eq!(made.len(), count.div_ceil(7), "{count} maps");
                h.run(made);
                assert_close(&what, &h.read(&same), &with_times(&|_| 0.25), 2e-6);
                assert_eq!(rest(&h.read(&same)), rest(&got), "{what}: the same bits in other launches");
            }
        }
    }
}

#[test]
fn gradients_of_maps_are_one_launch_for_seven() {
    for count in [1, 7, 8, 15] {
        let batch = 3;
        let sizes: Vec<[usize; 2]> = SIZES.into_iter().cycle().take(count).collect();
        let maps = side_by_side(batch, &sizes, |_| false);
        let columns = maps[0].columns;
        let df = values(1, batch * columns);
        let mut h = Harness::new();
        let given = h.input(&[batch, columns], &df);
        let results: Vec<Tensor> =
            maps.iter().map(|map| h.output(&[batch, map.pixels, map.channels])).collect();
        let scratch = h.scratch(features::mean_grad_scratch(count));
        let written: Vec<(FeatureMap, _)> =
            maps.iter().copied().zip(results.iter().map(|dx| dx.slice)).collect();
        let launches = features::mean_grad(&written, given.slice, scratch);
        assert_eq!(launches.len(), count.div_ceil(7));
        h.run(launches);
        for (number, (map, dx)) in maps.iter().zip(&results).enumerate() {
            let x = wide(&values(2, batch * map.pixels * map.channels));
            let loss = |x: &[f64]| dot(&pooled(map, x), &wide(&df));
            assert_gradient(&format!("map {number} of {count}"), &h.read(dx), &x, loss);
        }
    }
}

#[test]
fn gradients_of_a_maximum() {
    for (batch, pixels, channels) in [(1, 1, 1), (3, 49, 5), (2, 784, 32), (5, 6, 7)] {
        let map = side_by_side(batch, &[[pixels, channels]], |_| true)[0];
        let (x, df) = (values(1, batch * pixels * channels), values(2, batch * map.columns));
        let mut h = Harness::new();
        let shape = [batch, pixels, channels];
        let (tx, tdf) = (h.input(&shape, &x), h.input(&[batch, map.columns], &df));
        let (f, dx) = (h.output(&[batch, map.columns]), h.output(&shape));
        let size = [batch, map.columns];
        let mut launches = features::pool(size, &[(map, tx.slice)], Timestep::Constant(0.0), f.slice);
        launches.extend(features::max_grad(&map, tx.slice, f.slice, tdf.slice, dx.slice));
        h.run(launches);
        let loss = |x: &[f64]| dot(&pooled(&map, x), &wide(&df));
        assert_gradient(&format!("{map:?}"), &h.read(&dx), &wide(&x), loss);
    }
}

/// Gradients of those of `maps` that are wanted, in their order, and the launches that make them.
fn graph_gradients(
    sizes: &[[usize; 2]],
    wanted: &[usize],
    pooling: Pooling,
    xs: &[Vec<f32>],
    df: &[f32],
) -> (Vec<Vec<f32>>, usize) {
    let mut h = Harness::new();
    let mut graph = Graph::new();
    let place = |tensor: &Tensor| Place::whole(tensor.slice.buffer.0.to_string());
    let maps: Vec<NodeId> = (sizes.iter().zip(xs))
        .map(|([pixels, channels], x)| {
            let tensor = h.input(&[2, 1, *pixels, *channels], x);
            graph.leaf(&tensor.shape, place(&tensor))
        })
        .collect();
    let t = h.input(&[2], &[3.0, 700.0]);
    let t = graph.leaf(&[2], place(&t));
    let f = graph.features(&maps, t, pooling).unwrap();
    let columns = graph.shape(f)[1];
    let dy = h.input(&[2, columns], df);
    let dy = graph.leaf(&[2, columns], place(&dy));
    let targets: Vec<NodeId> = wanted.iter().map(|number| maps[*number]).collect();
    let gradients = graph.grad_from(f, dy, &targets).unwrap();
    let results: Vec<Tensor> = gradients
        .into_iter()
        .map(|gradient| {
            let result = h.output(graph.shape(gradient));
            graph.place(gradient, place(&result));
            result
        })
        .collect();
    let plan = graph.compile().unwrap();
    let launches = plan.program().launches.iter();
    let grads = launches.filter(|launch| launch.kernel.entry.ends_with("_grad")).count();
    h.run_plan(&plan);
    (results.iter().map(|result| h.read(result)).collect(), grads)
}

#[test]
fn only_wanted_gradients_are_made() {
    let sizes: Vec<[usize; 2]> = SIZES.into_iter().chain(SIZES).take(9).collect();
    let columns = 1 + sizes.iter().map(|size| size[1]).sum::<usize>();
    let xs: Vec<Vec<f32>> = sizes.iter().zip(0..).map(|([p, c], n)| values(n, 2 * p * c)).collect();
    let df = values(7, 2 * columns);
    let cases: [(&[usize], Pooling, usize); 6] = [
        (&[3], Pooling::Average, 1),
        (&[8, 1, 4], Pooling::Average, 1),
        (&[0, 1, 2, 3, 4, 5, 6], Pooling::Average, 1),
        (&[0, 1, 2, 3, 4, 5, 6, 7, 8], Pooling::Average, 2),
        (&[0], Pooling::Max, 1),
        (&[5, 0, 6], Pooling::Max, 2),
    ];
    for (wanted, pooling, launches) in cases {
        let (got, made) = graph_gradients(&sizes, wanted, pooling, &xs, &df);
        assert_eq!(made, launches, "{wanted:?} {pooling:?}");
        let maps = side_by_side(2, &sizes, |number| pooling == Pooling::Max && number == 0);
        for (number, got) in wanted.iter().zip(got) {
            let loss = |x: &[f64]| dot(&pooled(&maps[*number], x), &wide(&df));
            assert_gradient(&format!("{number} of {wanted:?}"), &got, &wide(&xs[*number]), loss);
        }
    }
}

#[test]
fn a_maximum_does_not_pass_over_nan() {
    // In a lane's own pixels, and between lanes.
    for pixels in [3, 40, 100] {
        let map = side_by_side(1, &[[pixels, 4]], |_| true)[0];
        let (nan, infinity) = (f32::NAN, f32::INFINITY);
        let mut data = vec![-5.0; 4 * pixels];
        data[..12]
            .copy_from_slice(&[nan, 1.0, 2.0, -infinity, 1.0, nan, 5.0, -infinity, 1.0, 1.0, 0.0, -infinity]);
        for row in data.chunks_mut(4) {
            row[3] = -infinity;
        }
        let mut h = Harness::new();
        let x = h.input(&[1, pixels, 4], &data);
        let f = h.output(&[1, 5]);
        h.run(features::pool([1, 5], &[(map, x.slice)], Timestep::Constant(0.0), f.slice));
        let got = h.read(&f);
        assert!(got[0].is_nan() && got[1].is_nan(), "{got:?}");
        assert_eq!(got[2..4], [5.0, -infinity], "{pixels} pixels");
    }
}

#[test]
fn of_equal_maxima_the_first_takes_the_gradient() {
    let map = side_by_side(1, &[[4, 2]], |_| true)[0];
    let mut h = Harness::new();
    let x = h.input(&[1, 4, 2], &[0.0, 3.0, 1.0, 3.0, 1.0, -1.0, 0.5, 3.0]);
    let df = h.input(&[1, 3], &[5.0, 7.0, 0.0]);
    let (f, dx) = (h.output(&[1, 3]), h.output(&[1, 4, 2]));
    let mut launches = features::pool([1, 3], &[(map, x.slice)], Timestep::Constant(0.0), f.slice);
    launches.extend(features::max_grad(&map, x.slice, f.slice, df.slice, dx.slice));
    h.run(launches);
    assert_eq!(h.read(&dx), [0.0, 7.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
}
