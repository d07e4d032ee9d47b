//! Linear layers of one input: against plain loops in f64 and finite differences of them, over memory of every layout.

mod joined;

use crate::harness::{Harness, assert_close, assert_gradient, device, dot, pad, values, wide};
use duet::gpu::{Buffer, BufferId, Slice};
use duet::graph::{Graph, NodeId, Place, Plan};
use duet::ops::linear_group::{self, LinearGroup};
use duet::tensor::{pitch, unpad_rows};
use std::collections::BTreeMap;

/// The layers' numbers: weights \[in, out\] without pads.
struct Layers {
    size: LinearGroup,
    x: Vec<f32>,
    weights: Vec<Vec<f32>>,
    biases: Vec<Vec<f32>>,
}

impl Layers {
    fn new(rows: usize, in_features: usize, out_features: &[usize], silu: bool) -> Layers {
        let of_each = |seed: u64, rows: usize| {
            let widths = (seed..).zip(out_features);
            widths.map(|(seed, out)| values(seed, rows * out)).collect::<Vec<_>>()
        };
        Layers {
            size: LinearGroup { rows, in_features, out_features: out_features.to_vec(), silu },
            x: values(1, rows * in_features).iter().map(|v| 3.0 * v).collect(),
            weights: of_each(100, in_features),
            biases: of_each(200, 1),
        }
    }

    /// A weight with the rows that pad the input's features.
    fn padded(&self, weight: &[f32]) -> Vec<f32> {
        let out = weight.len() / self.size.in_features;
        let mut weight = weight.to_vec();
        weight.resize(pitch(self.size.in_features) * out, 0.0);
        weight
    }

    /// Shapes of a layer's weight and bias on the device.
    fn shapes(&self, layer: usize) -> [Vec<usize>; 2] {
        let out = self.size.out_features[layer];
        [vec![pitch(self.size.in_features), out], vec![out]]
    }
}

fn activated(silu: bool, v: f64) -> f64 {
    if silu { v / (1.0 + (-v).exp()) } else { v }
}

/// One layer's result \[rows, out\].
fn twin(size: &LinearGroup, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let (out, mut y) = (bias.len(), Vec::new());
    for row in x.chunks(size.in_features) {
        for k in 0..out {
            let term = |(c, v): (usize, &f64)| activated(size.silu, *v) * weight[c * out + k];
            y.push(row.iter().enumerate().map(term).sum::<f64>() + bias[k]);
        }
    }
    y
}

/// Results side by side.
fn beside(results: &[Vec<f64>], rows: usize) -> Vec<f64> {
    let row = |n: usize| {
        results.iter().flat_map(move |y| {
            let columns = y.len() / rows;
            y[n * columns..(n + 1) * columns].to_vec()
        })
    };
    (0..rows).flat_map(row).collect()
}

fn concat(graph: &mut Graph, results: &[NodeId]) -> NodeId {
    results[1..].iter().fold(results[0], |all, result| graph.concat(all, *result).unwrap())
}

/// Rows, input features, output features of each layer: one row, several tiles of rows, features of no whole vec4, more than
/// a workgroup makes, one layer.
fn sizes() -> Vec<(usize, usize, Vec<usize>)> {
    vec![
        (1, 5, vec![3, 10, 64]),
        (3, 16, vec![64, 3, 10]),
        (8, 5, vec![10, 10]),
        (8, 36, vec![3, 64, 130]),
        (19, 16, vec![1, 34]),
        (1, 1, vec![1]),
        (8, 70, vec![7]),
    ]
}

#[test]
fn layers_and_their_gradients_match() {
    for (rows, in_features, out_features) in sizes() {
        for silu in [false, true] {
            let layers = Layers::new(rows, in_features, &out_features, silu);
            let size = &layers.size;
            let name = format!("{size:?}");
            let mut shapes = vec![vec![rows, in_features]];
            let mut data = vec![layers.x.clone()];
            for number in 0..out_features.len() {
                shapes.extend(layers.shapes(number));
                data.push(layers.padded(&layers.weights[number]));
                data.push(layers.biases[number].clone());
            }
            let tensors: Vec<(&[usize], &[f32])> =
                shapes.iter().zip(&data).map(|(shape, data)| (shape.as_slice(), data.as_slice())).collect();
            // Every tensor has a buffer of its own: a launch each.
            let got = Harness::differentiate(&tensors, |graph, leaves| {
                let pairs: Vec<[NodeId; 2]> = leaves[1..].chunks(2).map(|pair| [pair[0], pair[1]]).collect();
                let results = graph.linear_group(leaves[0], &pairs, silu).unwrap();
                concat(graph, &results)
            });
            let (x, dy) = (wide(&layers.x), wide(&got.upstream));
            let weights: Vec<Vec<f64>> = layers.weights.iter().map(|weight| wide(weight)).collect();
            let biases: Vec<Vec<f64>> = layers.biases.iter().map(|bias| wide(bias)).collect();
            let all = |x: &[f64], weights: &[Vec<f64>], biases: &[Vec<f64>]| {
                let results: Vec<Vec<f64>> =
                    weights.iter().zip(biases).map(|(w, b)| twin(size, x, w, b)).collect();
                beside(&results, rows)
            };
            assert_close(&name, &got.y, &all(&x, &weights, &biases), 1e-5);
            let loss = |x: &[f64]| dot(&all(x, &weights, &biases), &dy);
            assert_gradient(&format!("{name} dx"), &got.gradients[0], &x, loss);
            for number in 0..out_features.len() {
                let replaced = |list: &[Vec<f64>], by: &[f64]| {
                    let mut list = list.to_vec();
                    list[number] = by.to_vec();
                    list
                };
                let (dw, pads) = got.gradients[1 + 2 * number].split_at(weights[number].len());
                assert!(pads.iter().all(|v| *v == 0.0), "{name}: padded rows have a gradient");
                let loss = |w: &[f64]| dot(&all(&x, &replaced(&weights, w), &biases), &dy);
                assert_gradient(&format!("{name} dw {number}"), dw, &weights[number], loss);
                let loss = |b: &[f64]| dot(&all(&x, &weights, &replaced(&biases, b)), &dy);
                let db = &got.gradients[2 + 2 * number];
                assert_gradient(&format!("{name} db {number}"), db, &biases[number], loss);
            }
        }
    }
}

/// Runs a plan over buffers of its names, which hold `given` as it lies there and are NaN else; gives what they hold then.
pub fn run(plan: &Plan, given: &[(&str, &[f32])]) -> BTreeMap<String, Vec<f32>> {
    let mut buffers: BTreeMap<String, Buffer> = BTreeMap::new();
    for (name, bytes) in plan.externals() {
        let given = given.iter().find(|(other, _)| *other == name).map(|(_, data)| *data);
        let least = given.map_or(0, |data| data.len() as u64 * 4);
        let buffer = pollster::block_on(device().buffer(name, bytes.max(least))).unwrap();
        let mut data = vec![f32::NAN; buffer.bytes() as usize / 4];
        let given = given.unwrap_or_default();
        data[..given.len()].copy_from_slice(given);
        device().write(&buffer, 0, bytemuck::cast_slice(&data)).unwrap();
        buffers.insert(name.to_owned(), buffer);
    }
    let executable = pollster::block_on(plan.load(device(), |name| buffers.get(name).cloned())).unwrap();
    executable.run();
    device().wait().unwrap();
    let read = |(name, buffer): (String, Buffer)| {
        let count = buffer.bytes() as usize / 4;
        (name, pollster::block_on(device().read_f32(&buffer, count)).unwrap())
    };
    buffers.into_iter().map(read).collect()
}

/// What lies between the tensors of a buffer, untouched.
const BETWEEN: f32 = 7.0;

/// Weights and biases in one buffer, in another order than the layers' and apart.
struct Together {
    /// Of weight and bias of each layer.
    places: Vec<[u64; 2]>,
    params: Vec<f32>,
}

impl Together {
    fn new(layers: &Layers) -> Together {
        let (mut places, mut params) = (vec![[0; 2]; layers.weights.len()], vec![BETWEEN; 64]);
        for number in (0..layers.weights.len()).rev() {
            let [weight, bias] = layers.shapes(number);
            for (kind, shape, data) in [
                (1, bias, layers.biases[number].clone()),
                (0, weight, layers.padded(&layers.weights[number])),
            ] {
                places[number][kind] = params.len() as u64 * 4;
                params.extend(pad(&shape, &data));
                params.resize(params.len().next_multiple_of(64) + 64, BETWEEN);
            }
        }
        Together { places, params }
    }

    fn leaves(&self, graph: &mut Graph, layers: &Layers) -> Vec<[NodeId; 2]> {
        let leaves = self.places.iter().enumerate().map(|(number, places)| {
            let [weight, bias] = layers.shapes(number);
            [(weight, places[0]), (bias, places[1])]
                .map(|(shape, offset)| graph.leaf(&shape, Place { buffer: "params".into(), offset }))
        });
        leaves.collect()
    }

    /// Places gradients as the weights lie.
    fn place(&self, graph: &mut Graph, gradients: &[NodeId]) {
        for (gradient, offset) in gradients.iter().zip(self.places.as_flattened()) {
            graph.place(*gradient, Place { buffer: "grads".into(), offset: *offset });
        }
    }
}

/// How often a plan runs each kernel of a file.
fn launches(plan: &Plan, file: &str) -> BTreeMap<&'static str, usize> {
    let mut count = BTreeMap::new();
    for launch in plan.program().launches.iter().filter(|launch| launch.kernel.file == file) {
        *count.entry(launch.kernel.entry).or_insert(0) += 1;
    }
    count
}

/// The gradients of weights and biases for upstream gradients of the layers' results.
fn weight_gradients(layers: &Layers, dys: &[Vec<f64>]) -> Vec<[Vec<f64>; 2]> {
    let size = &layers.size;
    let gradient = |(dy, out): (&Vec<f64>, &usize)| {
        let (mut dw, mut db) = (vec![0.0; pitch(size.in_features) * out], vec![0.0; *out]);
        for (x, dy) in layers.x.chunks(size.in_features).zip(dy.chunks(*out)) {
            for (k, dy) in dy.iter().enumerate() {
                db[k] += dy;
                for (c, v) in x.iter().enumerate() {
                    dw[c * out + k] += activated(size.silu, f64::from(*v)) * dy;
                }
            }
        }
        [dw, db]
    };
    dys.iter().zip(&size.out_features).map(gradient).collect()
}

#[test]
fn layers_whose_memory_lies_together_are_one_launch() {
    for (rows, in_features, out_features) in sizes() {
        let layers = Layers::new(rows, in_features, &out_features, true);
        let together = Together::new(&layers);
        let mut graph = Graph::new();
        let x = graph.leaf(&[rows, in_features], Place::whole("x"));
        let pairs = together.leaves(&mut graph, &layers);
        let results = graph.linear_group(x, &pairs, true).unwrap();
        // Each goes another way, so that each has a gradient of its own.
        let scaled: Vec<NodeId> = results.iter().map(|result| graph.scale(*result, 2.0)).collect();
        let y = concat(&mut graph, &scaled);
        let columns = out_features.iter().sum::<usize>();
        let dy = graph.leaf(&[rows, columns], Place::whole("dy"));
        let targets: Vec<NodeId> = [x].into_iter().chain(pairs.into_flattened()).collect();
        let gradients = graph.grad_from(y, dy, &targets).unwrap();
        graph.place(y, Place::whole("y"));
        graph.place(gradients[0], Place::whole("dx"));
        together.place(&mut graph, &gradients[1..]);
        let plan = graph.compile().unwrap();
        let one = [("forward", 1), ("grad_input", 1), ("grad_weights", 1)];
        assert_eq!(launches(&plan, "linear_group"), BTreeMap::from(one), "{:?}", layers.size);
        // Nothing is copied: there are the factors, forward and backward.
        let scales = launches(&plan, "pointwise").values().sum::<usize>();
        assert_eq!(scales, 2 * out_features.len(), "{:?}", layers.size);

        let upstream = values(9, rows * columns);
        let given = [("x", pad(&[rows, in_features], &layers.x)), ("dy", pad(&[rows, columns], &upstream))];
        let mut given: Vec<(&str, &[f32])> = given.iter().map(|(name, data)| (*name, &data[..])).collect();
        let untouched = vec![BETWEEN; together.params.len()];
        given.extend([("params", &together.params[..]), ("grads", &untouched[..])]);
        let [got, again] = [0, 1].map(|_| run(&plan, &given));
        let bits = |results: &BTreeMap<String, Vec<f32>>| -> Vec<u32> {
            results.values().flatten().map(|v| v.to_bits()).collect()
        };
        assert!(bits(&got) == bits(&again), "{:?}: other bits the second time", layers.size);

        let name = format!("{:?} together", layers.size);
        let (x, dy) = (wide(&layers.x), wide(&upstream));
        let results = |x: &[f64]| {
            let of_each = layers.weights.iter().zip(&layers.biases);
            let results: Vec<Vec<f64>> =
                of_each.map(|(w, b)| twin(&layers.size, x, &wide(w), &wide(b))).collect();
            beside(&results, rows).iter().map(|v| 2.0 * v).collect::<Vec<f64>>()
        };
        let logical = |name: &str, columns: usize| {
            let mut values = unpad_rows(&got[name], columns);
            values.truncate(rows * columns);
            values
        };
        assert_close(&name, &logical("y", columns), &results(&x), 1e-5);
        assert_gradient(&format!("{name} dx"), &logical("dx", in_features), &x, |x| dot(&results(x), &dy));
        let starts = out_features.iter().scan(0, |end, out| {
            *end += out;
            Some(*end - out)
        });
        let dys: Vec<Vec<f64>> = starts
            .zip(&out_features)
            .map(|(first, out)| {
                let rows = dy.chunks(columns);
                rows.flat_map(|row| row[first..first + out].iter().map(|v| 2.0 * v)).collect()
            })
            .collect();
        // The whole buffer: gradients in their places and nothing between them.
        let mut want = wide(&untouched);
        let gradients = weight_gradients(&layers, &dys);
        for (number, (places, gradients)) in together.places.iter().zip(&gradients).enumerate() {
            for ((offset, gradient), shape) in places.iter().zip(gradients).zip(layers.shapes(number)) {
                let columns = shape[shape.len() - 1];
                for (row, values) in gradient.chunks(columns).enumerate() {
                    let at = *offset as usize / 4 + row * pitch(columns);
                    want[at..at + pitch(columns)].fill(0.0);
                    want[at..at + columns].copy_from_slice(values);
                }
            }
        }
        let grads = &got["grads"][..want.len()];
        assert_close(&format!("{name} gradients"), grads, &want, 1e-5);
        let between = |i: &usize| want[*i] == f64::from(BETWEEN) && together.params[*i] == BETWEEN;
        assert!((0..want.len()).filter(between).all(|i| grads[i] == BETWEEN), "{name}: written between");
    }
}

fn first(values: &[f32], columns: usize, rows: usize) -> Vec<f32> {
    unpad_rows(values, columns)[..rows * columns].to_vec()
}

#[test]
fn a_table_is_as_long_as_a_launch_takes() {
    let count = 150;
    let layers = Layers::new(1, 3, &vec![1; count], false);
    let together = Together::new(&layers);
    let mut graph = Graph::new();
    let x = graph.leaf(&[1, 3], Place::whole("x"));
    let pairs = together.leaves(&mut graph, &layers);
    let results = graph.linear_group(x, &pairs, false).unwrap();
    let y = concat(&mut graph, &results);
    let dy = graph.leaf(&[1, count], Place::whole("dy"));
    let targets: Vec<NodeId> = [x].into_iter().chain(pairs.into_flattened()).collect();
    let gradients = graph.grad_from(y, dy, &targets).unwrap();
    graph.place(y, Place::whole("y"));
    graph.place(gradients[0], Place::whole("dx"));
    together.place(&mut graph, &gradients[1..]);
    let plan = graph.compile().unwrap();
    let two = [("forward", 2), ("grad_input", 2), ("grad_weights", 3)];
    assert_eq!(launches(&plan, "linear_group"), BTreeMap::from(two));
    let (x, upstream) = (pad(&[1, 3], &layers.x), values(9, count));
    let dy = pad(&[1, count], &upstream);
    let got = run(&plan, &[("x", &x), ("dy", &dy), ("params", &together.params)]);
    let x = wide(&layers.x);
    let results = |x: &[f64]| -> Vec<f64> {
        let of_each = layers.weights.iter().zip(&layers.biases);
        of_each.flat_map(|(w, b)| twin(&layers.size, x, &wide(w), &wide(b))).collect()
    };
    assert_close("many layers", &first(&got["y"], count, 1), &results(&x), 1e-5);
    let loss = |x: &[f64]| dot(&results(x), &wide(&upstream));
    assert_gradient("many layers dx", &first(&got["dx"], 3, 1), &x, loss);
    let last = together.places[count - 1].map(|offset| offset as usize / 4);
    assert_eq!(got["grads"][last[1]], upstream[count - 1]);
    assert_eq!(got["grads"][last[0]], layers.x[0] * upstream[count - 1]);
}

#[test]
fn what_one_binding_cannot_hold_is_several_launches() {
    let size = LinearGroup { rows: 1, in_features: 4, out_features: vec![4; 3], silu: false };
    let slice = |buffer: u32, offset: u64| Slice { buffer: BufferId(buffer), offset, bytes: 64, half: false };
    let (x, y) = (slice(8, 0), slice(9, 0));
    // The third weight lies farther away than a binding reaches.
    let far = 128 << 20;
    let layers =
        [[slice(0, 0), slice(1, 0)], [slice(0, far - 64), slice(1, 256)], [slice(0, far), slice(1, 512)]];
    let launches = linear_group::forward(&size, x, &layers, y);
    let bound: Vec<(u64, u64)> = launches.iter().map(|l| (l.reads[2].offset, l.reads[2].bytes)).collect();
    assert_eq!(bound, [(0, far), (far, 64)]);
}
