//! Random small networks: a plan against plain loops in f64, gradients against differences of those, memory against what
//! must not happen to it.

mod draw;
mod evaluate;
pub mod memory;
mod network;

use crate::harness::{device, families, pad, spread_indices, wide};
use duet::families::Choices;
use duet::gpu::{Buffer, BufferSpec, Launch, Program};
use duet::graph::Place;
use evaluate::evaluate;
use network::{Network, Op};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Networks of the suite, and of the slow tests.
const FEW: u64 = 20;
const MANY: u64 = 500;
/// Operations before the losses: from the first to the second.
const OPERATIONS: [usize; 2] = [3, 14];
/// Bound of values: share of the tensor's largest.
const VALUES: f64 = 5e-5;
/// Bound of gradients: share of the leaf's largest, and of the largest of all leaves, for a leaf's may cancel to nothing (a
/// bias before a norm of single channels), behind norms that multiply by what a small variance leaves.
const GRADIENTS: [f64; 2] = [2e-4, 1e-4];
/// Elements of each leaf whose gradient is compared by itself.
const ELEMENTS: usize = 6;

/// What a run leaves in the buffers that have names.
type Results = BTreeMap<String, Vec<u32>>;

/// Runs a program twice, the second time over what the first left in its memory, and refuses other bits.
fn run(program: &Program, network: &Network) -> Results {
    let number = |name: &str| name.strip_prefix("tensor ").and_then(|n| n.parse::<usize>().ok());
    let mut buffers: HashMap<String, Buffer> = HashMap::new();
    for spec in &program.buffers {
        let BufferSpec::External { name, bytes } = spec else { continue };
        let buffer = pollster::block_on(device().buffer(name, bytes.next_multiple_of(256))).unwrap();
        buffers.insert(name.clone(), buffer);
    }
    let executable = pollster::block_on(device().load(program, |n| buffers.get(n).cloned())).unwrap();
    let runs = [0, 1].map(|_| {
        for (name, buffer) in &buffers {
            let words: Vec<u32> = match number(name).map(|n| &network.nodes[n]) {
                Some(node) if !node.data.is_empty() => match node.op {
                    Op::Labels => node.data.iter().map(|v| *v as u32).collect(),
                    _ => bytemuck::pod_collect_to_vec(&pad(&node.shape, &node.data)),
                },
                // What is not written shows.
                _ => vec![f32::NAN.to_bits(); buffer.bytes() as usize / 4],
            };
            device().write(buffer, 0, bytemuck::cast_slice(&words)).unwrap();
        }
        executable.run();
        device().wait().unwrap();
        let results = buffers.iter().filter(|(name, _)| {
            name.starts_with("gradient") || number(name).is_some_and(|n| network.nodes[n].data.is_empty())
        });
        let read = |buffer: &Buffer| pollster::block_on(device().read(buffer, 0, buffer.bytes())).unwrap();
        results.map(|(name, buffer)| (name.clone(), bytemuck::pod_collect_to_vec(&read(buffer)))).collect()
    });
    let [first, second]: [Results; 2] = runs;
    assert!(first == second, "the same run twice gives other bits");
    first
}

/// The launches with their workgroups in two rows, as `spread` lays them beyond 65,535: the second row ends with workgroups
/// that have nothing to do.
fn folded(program: &Program) -> Program {
    let fold = |launch: &Launch| match launch.workgroups {
        [count, 1, 1] if count > 1 => Launch { workgroups: [count / 2 + 1, 2, 1], ..launch.clone() },
        _ => launch.clone(),
    };
    Program { launches: program.launches.iter().map(fold).collect(), ..program.clone() }
}

/// The logical values of a padded tensor; its pad lanes must be zero.
fn logical(words: &[u32], shape: &[usize]) -> Vec<f32> {
    let columns = shape[shape.len() - 1];
    let rows = shape.iter().product::<usize>() / columns;
    let pitch = duet::tensor::pitch(columns);
    let mut values = Vec::new();
    for row in words[..rows * pitch].chunks(pitch) {
        values.extend(row[..columns].iter().map(|w| f32::from_bits(*w)));
        assert!(row[columns..].iter().all(|w| f32::from_bits(*w) == 0.0), "pad lanes hold {row:?}");
    }
    values
}

/// Largest difference and where.
fn farthest(got: &[f32], want: &[f64]) -> (f64, usize) {
    assert_eq!(got.len(), want.len());
    let differences = got.iter().zip(want).map(|(g, w)| (f64::from(*g) - w).abs());
    // NaN is as far as can be.
    let differences = differences.map(|d| if d.is_nan() { f64::INFINITY } else { d });
    differences.enumerate().fold((0.0, 0), |(most, at), (i, d)| if d > most { (d, i) } else { (most, at) })
}

/// The loss where some values differ from the network's.
fn loss(network: &Network, given: &mut [Vec<f64>], change: impl Fn(&mut [Vec<f64>], f64), by: f64) -> f64 {
    change(given, by);
    let loss = evaluate(network, given).last().expect("a loss")[0];
    change(given, -by);
    loss
}

/// The derivative along `change` by differences; `None` at a kink, where those to the left and to the right differ.
fn slope(network: &Network, given: &mut [Vec<f64>], change: impl Fn(&mut [Vec<f64>], f64)) -> Option<f64> {
    const STEP: f64 = 1e-6;
    let [above, here, below] = [STEP, 0.0, -STEP].map(|by| loss(network, given, &change, by));
    let (right, left) = ((above - here) / STEP, (here - below) / STEP);
    // A second derivative may make them differ by as much as itself times the step.
    let smooth = (right - left).abs() <= 1e-3 * (right.abs() + left.abs()) + 1e-6;
    smooth.then_some((above - below) / (2.0 * STEP))
}

/// How many derivatives were compared, and how many lay at kinks.
#[derive(Default)]
struct Tally {
    compared: usize,
    kinks: usize,
    /// Launches that operations in other ones' kernels spared.
    spared: usize,
    kinds: BTreeSet<String>,
}

/// Refuses other bits, and says where they are.
fn same(what: &str, a: &Results, b: &Results) {
    assert!(a.keys().eq(b.keys()));
    for (name, words) in a {
        let differs = words.iter().zip(&b[name]).position(|(a, b)| a != b);
        if let Some(at) = differs {
            let [one, other] = [words[at], b[name][at]].map(f32::from_bits);
            panic!("other bits where {what}: {name}[{at}] is {one:e} instead of {other:e}");
        }
    }
}

/// Compares everything about one network.
fn check(network: &Network, seed: u64, tally: &mut Tally) {
    let graph = network.graph().unwrap();
    let families = families();
    let choices = Choices::all(families[seed as usize % families.len()]);
    let (plan, apart) = (graph.compile_for(&choices).unwrap(), graph.compile_unshared(&choices).unwrap());
    memory::check(plan.program(), apart.program());
    let singly = graph.compile_apart(&choices).unwrap();
    tally.spared += singly.stats().dispatches - plan.stats().dispatches;
    let results = run(plan.program(), network);
    let plain = graph.compile_as_made(&choices).unwrap();
    same("no sums are gathered", &results, &run(plain.program(), network));
    same("no memory is shared", &results, &run(apart.program(), network));
    same("workgroups are folded", &results, &run(&folded(plan.program()), network));

    let mut given: Vec<Vec<f64>> = network.nodes.iter().map(|n| wide(&n.data)).collect();
    let values = evaluate(network, &given);
    for node in &network.watched {
        let got = logical(&results[&Network::buffer(*node)], &network.nodes[*node].shape);
        let scale = values[*node].iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let (difference, at) = farthest(&got, &values[*node]);
        let (value, want) = (got[at], values[*node][at]);
        assert!(difference <= VALUES * scale + 1e-12, "%{node}[{at}] is {value:e} instead of {want:e}");
    }

    let gradient = |leaf: usize| {
        let Place { buffer, offset } = network.gradient(leaf);
        logical(&results[&buffer][offset as usize / 4..], &network.nodes[leaf].shape)
    };
    let gradients: BTreeMap<usize, Vec<f32>> =
        network.leaves().into_iter().map(|l| (l, gradient(l))).collect();
    let largest = |list: &[f32]| list.iter().fold(0.0f64, |m, v| m.max(f64::from(v.abs())));
    let all = gradients.values().map(|list| largest(list)).fold(0.0, f64::max);
    assert!(all > 1e-6 && all.is_finite(), "the largest gradient is {all:e}");
    for (leaf, got) in &gradients {
        let bound = GRADIENTS[0] * largest(got) + GRADIENTS[1] * all;
        // Rows of a weight that pad its input channels have no gradient.
        let real: Vec<usize> = (0..got.len()).filter(|i| !is_pad(network, *leaf, *i)).collect();
        assert!(
            (0..got.len()).all(|i| got[i] == 0.0 || !is_pad(network, *leaf, i)),
            "%{leaf}: pads have a gradient"
        );
        for index in spread_indices(real.len(), ELEMENTS) {
            let i = real[index];
            match slope(network, &mut given, |given, by| given[*leaf][i] += by) {
                None => tally.kinks += 1,
                Some(want) => {
                    tally.compared += 1;
                    let difference = (f64::from(got[i]) - want).abs();
                    assert!(
                        difference <= bound,
                        "gradient of %{leaf}[{i}] is {:e} instead of {want:e}",
                        got[i]
                    );
                }
            }
        }
    }
    // All the others together: along a direction of ones and minus ones.
    let sign = |leaf: usize, i: usize| if (leaf * 7 + i * 13 + i / 8).is_multiple_of(3) { -1.0 } else { 1.0 };
    let along = |given: &mut [Vec<f64>], by: f64| {
        for leaf in gradients.keys() {
            for (i, value) in given[*leaf].iter_mut().enumerate().filter(|(i, _)| !is_pad(network, *leaf, *i))
            {
                *value += by * sign(*leaf, i);
            }
        }
    };
    let parts = || {
        gradients.iter().flat_map(|(l, list)| list.iter().enumerate().map(|(i, g)| (*l, i, f64::from(*g))))
    };
    let got: f64 = parts().map(|(leaf, i, g)| g * sign(leaf, i)).sum();
    let norm = parts().map(|(_, _, g)| g * g).sum::<f64>().sqrt();
    match slope(network, &mut given, along) {
        None => tally.kinks += 1,
        Some(want) => {
            tally.compared += 1;
            assert!(
                (got - want).abs() <= 1e-4 * norm + 1e-3 * want.abs(),
                "derivative along a direction is {got:e} instead of {want:e}"
            );
        }
    }
}

/// Whether an element of a leaf is in a row that pads a weight's input channels: the only elements that are 0.
fn is_pad(network: &Network, leaf: usize, i: usize) -> bool {
    network.nodes[leaf].data[i] == 0.0
}

/// Checks the networks of some seeds; of one that fails the smallest beginning that fails is shown.
fn check_all(seeds: std::ops::Range<u64>) -> Tally {
    let mut tally = Tally::default();
    let span = OPERATIONS[1] - OPERATIONS[0];
    for seed in seeds {
        let operations = OPERATIONS[0] + seed as usize % (span + 1);
        let network = Network::random(seed, operations);
        for node in &network.nodes {
            let name = format!("{:?}", node.op);
            let end = name.find([' ', '(']).unwrap_or(name.len());
            tally.kinds.insert(name[..end].to_owned());
        }
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(&network, seed, &mut tally))) else {
            continue;
        };
        let fails = |operations: &usize| {
            let network = Network::random(seed, *operations);
            catch_unwind(AssertUnwindSafe(|| check(&network, seed, &mut Tally::default()))).is_err()
        };
        let least = (0..operations).find(fails).unwrap_or(operations);
        println!("seed {seed} fails with {least} operations:\n{}", Network::random(seed, least));
        resume_unwind(panic);
    }
    tally
}

#[test]
fn random_networks_compute_what_they_say() {
    let tally = check_all(0..FEW);
    println!("{} derivatives, {} at kinks; {:?}", tally.compared, tally.kinks, tally.kinds);
    assert!(tally.compared > 500 && 20 * tally.kinks < tally.compared);
    assert!(tally.spared >= 4, "{} operations ran in other ones' kernels", tally.spared);
    assert_eq!(tally.kinds.len(), 25, "every operation occurs: {:?}", tally.kinds);
}

#[test]
#[ignore = "takes minutes on a software device"]
fn many_random_networks_compute_what_they_say() {
    let tally = check_all(FEW..FEW + MANY);
    assert!(20 * tally.kinks < tally.compared, "{} of {}", tally.kinks, tally.compared);
}
