//! Operations that their readers make by themselves: the same graph where each operation runs by itself computes the same.

use crate::harness::{Differentiated, Harness, assert_close, pad, values, wide};
use crate::linear_group::run;
use duet::families::{Choices, Family};
use duet::graph::{Graph, NodeId, Place, Plan};
use duet::ops::timestep_embedding::frequencies;
use duet::ops::{Activation, Pooling};
use duet::tensor::pitch;

/// A convolution of the tiled family, of an expansion or not, plus a product of one tensor, of two side by side, or of none.
#[derive(Clone, Copy, Debug)]
struct Case {
    batch: usize,
    /// Of the result.
    height: usize,
    width: usize,
    in_channels: usize,
    out_channels: usize,
    stride: usize,
    expanded: bool,
    /// Channels of what the product reads; no second tensor where that is 0, and no product where both are.
    passing: [usize; 2],
    /// Whether the convolution and the product have a bias.
    biases: [bool; 2],
}

/// Shapes and values of the tensors that a graph reads.
type Tensors = Vec<(Vec<usize>, Vec<f32>)>;

impl Case {
    /// x, weight, bias, and of the product the tensors, weight, bias; those that the case does not have are missing.
    fn tensors(&self) -> Tensors {
        let Case { batch, in_channels, out_channels, stride, passing: [first, second], .. } = *self;
        let mut tensors = Tensors::new();
        let mut add = |shape: &[usize], rows: usize, real: usize| {
            let mut data = values(tensors.len() as u64 + 1, shape.iter().product());
            let columns = shape[shape.len() - 1];
            // Rows of a weight that pad its input channels are zero.
            data.iter_mut()
                .enumerate()
                .filter(|(i, _)| i / columns % rows >= real)
                .for_each(|(_, v)| *v = 0.0);
            tensors.push((shape.to_vec(), data));
        };
        let [height, width] = [self.height, self.width].map(|side| match (self.expanded, stride) {
            (true, _) => side * stride / 2,
            (false, 2) => 2 * side - 1,
            (false, _) => side,
        });
        add(&[batch, height, width, in_channels], 1, 1);
        add(&[9, pitch(in_channels), out_channels], pitch(in_channels), in_channels);
        if self.biases[0] {
            add(&[out_channels], 1, 1);
        }
        for channels in [first, second].into_iter().filter(|channels| *channels > 0) {
            add(&[batch, self.height, self.width, channels], 1, 1);
        }
        let channels = first + second;
        if channels > 0 {
            add(&[pitch(channels), out_channels], pitch(channels), channels);
            if self.biases[1] {
                add(&[out_channels], 1, 1);
            }
        }
        tensors
    }

    fn add_to(&self, graph: &mut Graph, leaves: &[NodeId]) -> NodeId {
        let mut leaves = leaves.iter().copied();
        let mut next = || leaves.next().unwrap();
        let (mut x, weight) = (next(), next());
        let bias = self.biases[0].then(&mut next);
        if self.expanded {
            x = graph.upsample(x).unwrap();
        }
        let passing = match self.passing {
            [0, _] => None,
            [_, 0] => Some(next()),
            _ => Some(graph.concat(next(), next()).unwrap()),
        };
        let residual = passing.map(|passing| {
            let weight = next();
            let bias = self.biases[1].then(&mut next);
            graph.matmul(passing, weight, bias, None).unwrap()
        });
        graph.conv3x3(x, weight, self.stride, bias, residual).unwrap()
    }

    fn run(&self, compile: impl FnOnce(&Graph) -> Plan) -> Differentiated {
        let tensors = self.tensors();
        let tensors: Vec<(&[usize], &[f32])> =
            tensors.iter().map(|(shape, data)| (shape.as_slice(), data.as_slice())).collect();
        Harness::differentiate_as(compile, &tensors, |graph, leaves| self.add_to(graph, leaves))
    }
}

/// Odd sizes, one pixel, channels of no whole vec4, both shapes of tiles, several workgroups, both strides.
fn cases() -> Vec<Case> {
    let case = |[batch, height, width]: [usize; 3], [in_channels, out_channels]: [usize; 2], passing| Case {
        batch,
        height,
        width,
        in_channels,
        out_channels,
        stride: 1,
        expanded: false,
        passing,
        biases: [true, true],
    };
    let expanded = |shape, channels, passing| Case { expanded: true, ..case(shape, channels, passing) };
    vec![
        case([1, 1, 1], [1, 1], [1, 0]),
        case([3, 7, 5], [5, 6], [9, 0]),
        case([2, 9, 7], [37, 30], [16, 21]),
        case([2, 14, 14], [17, 70], [64, 3]),
        Case { biases: [false, true], ..case([1, 11, 13], [20, 36], [4, 64]) },
        Case { biases: [true, false], ..case([2, 5, 7], [8, 33], [18, 0]) },
        Case { stride: 2, ..case([2, 4, 9], [6, 34], [20, 7]) },
        Case { stride: 2, biases: [false, false], ..case([1, 7, 3], [34, 5], [5, 0]) },
        expanded([1, 2, 2], [1, 1], [0, 0]),
        expanded([3, 6, 10], [5, 6], [0, 0]),
        expanded([2, 14, 18], [37, 30], [0, 0]),
        expanded([3, 14, 14], [34, 66], [0, 0]),
        Case { biases: [false; 2], ..expanded([1, 28, 6], [6, 35], [0, 0]) },
        Case { stride: 2, ..expanded([2, 7, 9], [9, 17], [0, 0]) },
        expanded([2, 10, 6], [13, 40], [16, 5]),
        Case { stride: 2, ..expanded([1, 5, 3], [4, 9], [7, 0]) },
    ]
}

#[test]
fn convolutions_in_tiles_make_what_they_read() {
    let tiled = Choices::all(Family::Tiled);
    for case in cases() {
        let name = format!("{case:?}");
        let one = case.run(|graph| graph.compile_for(&tiled).unwrap());
        let apart = case.run(|graph| graph.compile_apart(&tiled).unwrap());
        let direct = case.run(|graph| graph.compile().unwrap());
        let products = case.passing[0] > 0;
        let [few, many] = [&one, &apart].map(|run| run.plan.stats().dispatches);
        // The expansion is read by the convolution and its weight's gradient.
        let spared = usize::from(products) + usize::from(case.expanded);
        assert_eq!(few + spared, many, "{name}");
        assert_eq!(one.plan.stats().multiply_adds, apart.plan.stats().multiply_adds, "{name}");
        let lists = |run: &Differentiated| [vec![run.y.clone()], run.gradients.clone()].concat();
        let others = lists(&apart).into_iter().zip(lists(&direct));
        for (number, (got, (apart, direct))) in lists(&one).iter().zip(others).enumerate() {
            assert_close(&format!("{name} {number}"), got, &wide(&apart), 1e-5);
            assert_close(&format!("{name} {number} direct"), got, &wide(&direct), 1e-5);
            // Where values come from changes no bit; only the product changes the order of a sum.
            assert!(*got == apart || (products && number == 0), "{name} {number}: other bits");
        }
    }
}

#[test]
fn other_families_run_every_operation_by_itself() {
    let dispatches = |family: Family, apart: bool| {
        let case = cases().into_iter().find(|case| case.expanded && case.passing[0] > 0).unwrap();
        let choices = Choices::all(family);
        let compile = |graph: &Graph| match apart {
            true => graph.compile_apart(&choices),
            false => graph.compile_for(&choices),
        };
        case.run(|graph| compile(graph).unwrap()).plan.stats().dispatches
    };
    for family in crate::harness::families() {
        let same = dispatches(family, false) == dispatches(family, true);
        assert_eq!(same, family != Family::Tiled, "{family}");
    }
}

/// A graph, and what lies in the buffers that it reads, by name; what it places is compared.
type Given = (Graph, Vec<(String, Vec<f32>)>);

/// Runs a graph in the kernels of GPUs, each operation by itself and not, and compares what it places. Gives how many launches were
/// spared.
fn compare(name: &str, (graph, given): &Given, bound: f64) -> usize {
    let choices = Choices::all(Family::Tiled);
    let given: Vec<(&str, &[f32])> =
        given.iter().map(|(name, data)| (name.as_str(), data.as_slice())).collect();
    let plans = [graph.compile_for(&choices).unwrap(), graph.compile_apart(&choices).unwrap()];
    let [got, want] = plans.each_ref().map(|plan| run(plan, &given));
    for (buffer, want) in want.iter().filter(|(buffer, _)| given.iter().all(|(name, _)| name != buffer)) {
        assert_close(&format!("{name} {buffer}"), &got[buffer], &wide(want), bound);
    }
    plans[1].stats().dispatches - plans[0].stats().dispatches
}

/// Adds a tensor of values in `middle` ± `width`, whose rows from `real` on are zero.
fn given(of: &mut Given, shape: &[usize], [middle, width]: [f32; 2], real: usize) -> NodeId {
    let name = format!("given {}", of.1.len());
    let data = values(of.1.len() as u64 + 1, shape.iter().product()).into_iter().map(|v| middle + width * v);
    let (mut data, columns): (Vec<f32>, usize) = (data.collect(), shape[shape.len() - 1]);
    data.iter_mut().skip(real * columns).for_each(|v| *v = 0.0);
    let leaf = of.0.leaf(shape, Place::whole(&name));
    of.1.push((name, pad(shape, &data)));
    leaf
}

#[test]
fn layers_embed_timesteps_by_themselves() {
    for (rows, dim, outputs) in
        [(1, 5, [3, 70]), (3, 8, [10, 4]), (8, 32, [64, 130]), (19, 70, [5, 9]), (2, 1, [4, 1])]
    {
        let name = format!("{rows} timesteps, {dim} columns, layers of {outputs:?}");
        let mut of = Given::default();
        let t = of.0.leaf(&[rows], Place::whole("t"));
        of.1.push(("t".into(), pad(&[rows], &(0..rows).map(|n| 53.0 * n as f32).collect::<Vec<_>>())));
        let mut table = frequencies(dim);
        // A leaf has at least one number.
        table.resize(table.len().max(1), 0.0);
        let known = of.0.leaf(&[table.len()], Place::whole("frequencies"));
        of.1.push(("frequencies".into(), pad(&[table.len()], &table)));
        let layers = outputs.map(|out| {
            let weight = given(&mut of, &[pitch(dim), out], [0.0, 0.5], dim);
            [weight, given(&mut of, &[out], [0.0, 0.5], 1)]
        });
        let x = of.0.timestep_embedding(t, known, dim);
        let results = of.0.linear_group(x, &layers, false).unwrap();
        let y = of.0.concat(results[0], results[1]).unwrap();
        let upstream = given(&mut of, &[rows, outputs[0] + outputs[1]], [0.0, 1.0], rows);
        let gradients = of.0.grad_from(y, upstream, layers.as_flattened()).unwrap();
        of.0.place(y, Place::whole("y"));
        for (number, gradient) in gradients.into_iter().enumerate() {
            of.0.place(gradient, Place::whole(format!("gradient {number}")));
        }
        assert_eq!(compare(&name, &of, 1e-6), 1, "{name}");
    }
}

#[test]
fn a_layer_normalises_by_itself() {
    for (rows, features, outputs, slope) in [
        (1, 5, 3, None),
        (8, 37, 10, Some(0.01)),
        (19, 70, 33, None),
        (63, 12, 5, Some(0.2)),
        (2, 385, 192, None),
    ] {
        let name = format!("[{rows}, {features}] · [{features}, {outputs}], {slope:?}");
        let mut of = Given::default();
        let x = given(&mut of, &[rows, features], [0.2, 1.0], rows);
        let gain = given(&mut of, &[features], [1.0, 0.4], 1);
        let offset = given(&mut of, &[features], [0.0, 0.4], 1);
        let running = given(&mut of, &[2, features], [1.0, 0.5], 2);
        let weight = given(&mut of, &[pitch(features), outputs], [0.0, 0.3], features);
        let bias = given(&mut of, &[outputs], [0.0, 0.5], 1);
        let seen = match slope {
            Some(slope) => of.0.activate(x, Activation::LeakyRelu { slope }),
            None => x,
        };
        let h = of.0.batch_norm(seen, gain, offset, running, None).unwrap();
        let y = of.0.matmul(h, weight, Some(bias), None).unwrap();
        let upstream = given(&mut of, &[rows, outputs], [0.0, 1.0], rows);
        let dx = of.0.grad_from(y, upstream, &[x]).unwrap()[0];
        of.0.place(y, Place::whole("y"));
        of.0.place(dx, Place::whole("dx"));
        // Forward and backward.
        assert_eq!(compare(&name, &of, 1e-5), 2, "{name}");
    }
}

#[test]
fn products_of_many_rows_have_kernels_of_their_own() {
    let mut of = Given::default();
    let x = given(&mut of, &[64, 20], [0.2, 1.0], 64);
    let [gain, offset] = [1.0, 0.0].map(|middle| given(&mut of, &[20], [middle, 0.4], 1));
    let running = given(&mut of, &[2, 20], [1.0, 0.5], 2);
    let (weight, bias) = (given(&mut of, &[20, 17], [0.0, 0.3], 20), given(&mut of, &[17], [0.0, 0.5], 1));
    let h = of.0.batch_norm(x, gain, offset, running, None).unwrap();
    let y = of.0.matmul(h, weight, Some(bias), None).unwrap();
    of.0.place(y, Place::whole("y"));
    assert_eq!(compare("64 rows", &of, 1e-6), 0);
}

#[test]
fn the_gradient_of_a_norm_adds_two_others() {
    for (shape, groups) in [([2, 5, 7, 12], 3), ([3, 7, 9, 15], 5), ([1, 14, 14, 36], 4), ([4, 1, 1, 8], 8)] {
        let [batch, .., channels] = shape;
        let name = format!("{shape:?}, {groups} groups");
        let mut of = Given::default();
        let x = given(&mut of, &shape, [0.3, 1.0], batch * shape[1] * shape[2]);
        let [gamma, beta] = [1.0, 0.0].map(|middle| given(&mut of, &[channels], [middle, 0.3], 1));
        let t = given(&mut of, &[batch], [0.0, 1.0], 1);
        let normalised = of.0.group_norm(x, gamma, beta, groups, None, true).unwrap();
        // Of the sum x gets what the sum gets, of the means a tensor of its own.
        let sum = of.0.add(normalised, x).unwrap();
        let means = of.0.features(&[x], t, Pooling::Average).unwrap();
        let means = of.0.slice_channels(means, 0, channels).unwrap();
        let y = of.0.add_rowwise(sum, means).unwrap();
        let upstream = given(&mut of, &shape, [0.0, 1.0], batch * shape[1] * shape[2]);
        let gradients = of.0.grad_from(y, upstream, &[x, gamma, beta]).unwrap();
        of.0.place(y, Place::whole("y"));
        for (number, gradient) in gradients.into_iter().enumerate() {
            of.0.place(gradient, Place::whole(format!("gradient {number}")));
        }
        assert_eq!(compare(&name, &of, 1e-6), 1, "{name}");
    }
}
