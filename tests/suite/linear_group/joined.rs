//! Which layers of a graph become one launch: what results are read by, and what changes between them.

use super::{Layers, Together, concat, first, launches, run, twin};
use crate::harness::{assert_close, pad, tiny_config, wide};
use duet::graph::{Graph, NodeId, Place, Plan};
use duet::infer::{classify_plan, predict_plan};
use duet::model::{JointModel, ModelConfig, WeightSet};
use duet::sampling::{Guidance, StepSpec, step_plan};
use std::collections::BTreeMap;

/// x \[2,5\], layers of 3, 10 and 4 columns in one buffer, and the plan's numbers.
struct Small {
    layers: Layers,
    together: Together,
    graph: Graph,
    x: NodeId,
    pairs: Vec<[NodeId; 2]>,
}

impl Small {
    fn new() -> Small {
        let layers = Layers::new(2, 5, &[3, 10, 4], false);
        let together = Together::new(&layers);
        let mut graph = Graph::new();
        let x = graph.leaf(&[2, 5], Place::whole("x"));
        let pairs = together.leaves(&mut graph, &layers);
        Small { layers, together, graph, x, pairs }
    }

    fn result(&self, layer: usize) -> Vec<f64> {
        let (weight, bias) = (wide(&self.layers.weights[layer]), wide(&self.layers.biases[layer]));
        twin(&self.layers.size, &wide(&self.layers.x), &weight, &bias)
    }

    fn place(&mut self, node: NodeId, name: &str) {
        self.graph.place(node, Place::whole(name));
    }

    /// Compiles and runs with a gradient dy \[2, columns\] of ones.
    fn run(&self, columns: usize) -> (Plan, BTreeMap<String, Vec<f32>>) {
        let plan = self.graph.compile().unwrap();
        let x = pad(&[2, 5], &self.layers.x);
        let ones = pad(&[2, columns], &vec![1.0; 2 * columns]);
        let given = [("x", &x[..]), ("params", &self.together.params[..]), ("dy", &ones[..])];
        let got = run(&plan, &given);
        (plan, got)
    }
}

#[test]
fn a_result_is_a_target_a_loss_and_read_twice() {
    let mut small = Small::new();
    let results = small.graph.linear_group(small.x, &small.pairs, false).unwrap();
    let dy = small.graph.leaf(&[2, 3], Place::whole("dy"));
    // v + 3 v of the first layer, the others unused.
    let three = small.graph.scale(results[0], 3.0);
    let y = small.graph.add(results[0], three).unwrap();
    let bias = small.pairs[0][1];
    let gradients = small.graph.grad_from(y, dy, &[results[0], bias, small.x]).unwrap();
    // Where the result itself is what is differentiated, its gradient is given.
    let alone = small.graph.grad_from(results[0], dy, &[bias]).unwrap();
    assert!(small.graph.grad_from(y, dy, &[small.pairs[1][0]]).is_err(), "no influence");
    small.place(results[0], "result");
    small.place(y, "y");
    for (name, node) in
        [("dv", gradients[0]), ("db", gradients[1]), ("dx", gradients[2]), ("alone", alone[0])]
    {
        small.place(node, name);
    }
    let (plan, got) = small.run(3);
    let v = small.result(0);
    assert_close("result", &first(&got["result"], 3, 2), &v, 1e-6);
    let four: Vec<f64> = v.iter().map(|v| 4.0 * v).collect();
    assert_close("y", &first(&got["y"], 3, 2), &four, 1e-6);
    assert_eq!(first(&got["dv"], 3, 2), [4.0; 6]);
    assert_eq!(first(&got["db"], 3, 1), [8.0; 3]);
    assert_eq!(first(&got["alone"], 3, 1), [2.0; 3]);
    let sums: Vec<f64> =
        small.layers.weights[0].chunks(3).map(|row| 4.0 * wide(row).iter().sum::<f64>()).collect();
    assert_close("dx", &first(&got["dx"], 5, 2), &[sums.clone(), sums].concat(), 1e-6);
    // Nobody asked for the weight's gradient: products are of the three layers forward and of one backward.
    assert_eq!(plan.stats().multiply_adds, 2 * 5 * (3 + 10 + 4) + 2 * 5 * 3);
}

#[test]
fn one_gradient_of_two_results_is_copied_to_both() {
    let mut small = Small::new();
    let twice = vec![small.pairs[1], small.pairs[1]];
    let same = small.graph.linear_group(small.x, &twice, false).unwrap();
    assert_eq!(same[0], same[1], "the same layer is computed once");
    // A layer of the same weight with another bias.
    let bias = small.graph.leaf(&[10], Place::whole("other bias"));
    let both = [small.pairs[1], [small.pairs[1][0], bias]];
    let results = small.graph.linear_group(small.x, &both, false).unwrap();
    let sum = small.graph.add(results[0], results[1]).unwrap();
    let y = small.graph.scale(sum, 1.0);
    let dy = small.graph.leaf(&[2, 10], Place::whole("dy"));
    let gradients = small.graph.grad_from(y, dy, &[small.pairs[1][0], bias, small.x]).unwrap();
    for (name, node) in [("dw", gradients[0]), ("db", gradients[1]), ("dx", gradients[2])] {
        small.place(node, name);
    }
    let (_, got) = small.run(10);
    let x = wide(&small.layers.x);
    let column = |c: usize| 2.0 * (x[c] + x[5 + c]);
    let want: Vec<f64> = (0..8).flat_map(|c| [if c < 5 { column(c) } else { 0.0 }; 10]).collect();
    assert_close("dw", &first(&got["dw"], 10, 8), &want, 1e-6);
    assert_eq!(first(&got["db"], 10, 1), [2.0; 10]);
    let sums: Vec<f64> =
        small.layers.weights[1].chunks(10).map(|row| 2.0 * wide(row).iter().sum::<f64>()).collect();
    assert_close("dx", &first(&got["dx"], 5, 2), &[sums.clone(), sums].concat(), 1e-6);
}

#[test]
fn weights_of_two_inputs_get_the_sum_of_both_gradients() {
    let mut small = Small::new();
    let other = small.graph.scale(small.x, -0.5);
    let one = small.graph.linear_group(small.x, &small.pairs, false).unwrap();
    let two = small.graph.linear_group(other, &small.pairs[..2], false).unwrap();
    let all: Vec<NodeId> = one.into_iter().chain(two).collect();
    let y = concat(&mut small.graph, &all);
    let dy = small.graph.leaf(&[2, 30], Place::whole("dy"));
    let targets = small.pairs.as_flattened().to_vec();
    let gradients = small.graph.grad_from(y, dy, &targets).unwrap();
    small.together.place(&mut small.graph, &gradients);
    let (plan, got) = small.run(30);
    // What is added later is written into one buffer by one launch, the rest straight to its places by another.
    assert_eq!(launches(&plan, "linear_group"), BTreeMap::from([("grad_weights", 3)]));
    let x = wide(&small.layers.x);
    for (number, columns) in [3usize, 10, 4].into_iter().enumerate() {
        let factor = if number < 2 { 0.5 } else { 1.0 };
        let sum = |c: usize| if c < 5 { factor * (x[c] + x[5 + c]) } else { 0.0 };
        let want: Vec<f64> = (0..8).flat_map(|c| vec![sum(c); columns]).collect();
        let at = small.together.places[number].map(|offset| offset as usize / 4);
        assert_close("dw", &first(&got["grads"][at[0]..], columns, 8), &want, 1e-5);
        let bias = if number < 2 { 4.0 } else { 2.0 };
        assert_eq!(first(&got["grads"][at[1]..], columns, 1), vec![bias; columns]);
    }
}

#[test]
fn later_layers_join_where_nothing_changed_meanwhile() {
    // Forward launches, and whether the second layer's result is right.
    let count = |change: &dyn Fn(&mut Small), weight_is_late: bool| {
        let mut small = Small::new();
        let given = small.pairs[1];
        let first_layer = small.graph.linear_group(small.x, &small.pairs[..1], true).unwrap();
        change(&mut small);
        let late = small.together.leaves(&mut small.graph, &small.layers)[1];
        let pair = if weight_is_late { late } else { given };
        let second = small.graph.linear_group(small.x, &[pair], true).unwrap();
        small.place(first_layer[0], "first");
        small.place(second[0], "second");
        let plan = small.graph.compile().unwrap();
        launches(&plan, "linear_group")["forward"]
    };
    assert_eq!(count(&|_| (), false), 1);
    assert_eq!(count(&|_| (), true), 2, "a leaf that is not there yet");
    let write = |buffer: &'static str| {
        move |small: &mut Small| {
            let value = small.graph.fill(4, 1.0);
            small.place(value, buffer);
        }
    };
    assert_eq!(count(&write("elsewhere"), false), 1);
    assert_eq!(count(&write("params"), false), 2, "weights that change");
    assert_eq!(count(&write("x"), false), 2, "an input that changes");
    let update = |small: &mut Small| {
        let (value, first) = (small.graph.fill(4, 1.0), small.graph.fill(1, 1.0));
        let state = small.graph.leaf(&[4], Place::whole("params"));
        small.graph.accumulate(value, first, state).unwrap();
    };
    assert_eq!(count(&update, false), 2, "a state that changes");
}

#[test]
fn a_network_reads_its_timestep_embedding_at_once() {
    let config =
        ModelConfig { num_channels: 32, num_res_blocks: 1, channel_mult: vec![1, 2], ..tiny_config() };
    let model = JointModel::new(&config).unwrap();
    // Of the forward launches how many layers they make: two of the embedding, then all blocks at once.
    let layers = |plan: &Plan| -> Vec<u32> {
        let launches = plan.program().launches.iter();
        let forward = launches.filter(|l| l.kernel.file == "linear_group" && l.kernel.entry == "forward");
        forward.map(|launch| bytemuck::pod_read_unaligned::<[u32; 4]>(&launch.uniform[..16])[2]).collect()
    };
    let set = WeightSet::Raw;
    // Blocks of two levels and of the middle; of the decoder two a level.
    assert_eq!(layers(&classify_plan(&model, 2, set).unwrap()), [1, 1, 4], "no decoder, no layers of it");
    assert_eq!(layers(&predict_plan(&model, 2, set).unwrap()), [1, 1, 8]);
    let guided = StepSpec { guidance: Guidance::Representation, ..StepSpec::new(2) };
    assert_eq!(layers(&step_plan(&model, &guided, set).unwrap()), [1, 1, 8]);
}
