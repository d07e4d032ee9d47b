//! GroupNorm with scale-shift and SiLU against its f64 twin.

use super::harness::{Harness, Tensor, assert_close, assert_gradient, device, dot, values, wide};
use duet::families::{Choices, Family};
use duet::gpu::{Kernel, Launch, with_subgroup_sums};
use duet::graph::{Graph, Place};
use duet::ops::groupnorm::{self, GroupNorm, Part, Source};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// The twin's inputs, logical layout: x \[N, HW, C\], gamma and beta \[C\], scale_shift \[N, 2C\].
#[derive(Clone)]
struct Inputs {
    x: Vec<f64>,
    gamma: Vec<f64>,
    beta: Vec<f64>,
    scale_shift: Vec<f64>,
}

fn twin(size: &GroupNorm, inputs: &Inputs) -> Vec<f64> {
    let GroupNorm { batch, pixels, channels, groups, .. } = *size;
    let per_group = channels / groups;
    let mut y = vec![0.0; inputs.x.len()];
    for n in 0..batch {
        for group in 0..groups {
            let at = |p: usize, c: usize| (n * pixels + p) * channels + group * per_group + c;
            let members: Vec<usize> =
                (0..pixels).flat_map(|p| (0..per_group).map(move |c| at(p, c))).collect();
            let count = members.len() as f64;
            let mean = members.iter().map(|&i| inputs.x[i]).sum::<f64>() / count;
            let variance = members.iter().map(|&i| (inputs.x[i] - mean).powi(2)).sum::<f64>() / count;
            for i in members {
                let c = i % channels;
                let mut v =
                    (inputs.x[i] - mean) / (variance + 1e-5).sqrt() * inputs.gamma[c] + inputs.beta[c];
                if size.scale_shift {
                    let row = &inputs.scale_shift[n * 2 * channels..];
                    v = v * (1.0 + row[c]) + row[channels + c];
                }
                y[i] = if size.silu { v / (1.0 + (-v).exp()) } else { v };
            }
        }
    }
    y
}

/// Inputs as f32 and, exactly equal, as f64.
fn inputs(size: &GroupNorm, mean: f32) -> Inputs {
    let elements = size.batch * size.pixels * size.channels;
    let around = |seed, count, middle: f32, width: f32| {
        wide(&values(seed, count).iter().map(|v| middle + width * v).collect::<Vec<f32>>())
    };
    Inputs {
        x: around(1, elements, mean, 2.0),
        gamma: around(2, size.channels, 1.0, 0.5),
        beta: around(3, size.channels, 0.0, 0.5),
        scale_shift: around(4, size.batch * 2 * size.channels, 0.0, 0.7),
    }
}

fn narrow(data: &[f64]) -> Vec<f32> {
    data.iter().map(|v| *v as f32).collect()
}

struct Outputs {
    y: Vec<f32>,
    dx: Vec<f32>,
    dgamma: Vec<f32>,
    dbeta: Vec<f32>,
    dscale_shift: Vec<f32>,
}

/// How it runs: with workgroups for a GPU or not, each step in as few launches as there are or with the result apart; in the text for GPUs
/// whose subgroups add, where this device's can, whatever their size.
#[derive(Clone, Copy, Debug)]
struct Way {
    gpu: bool,
    whole: bool,
    subgroups: bool,
}

const WAYS: [Way; 6] = [
    Way { gpu: false, whole: true, subgroups: false },
    Way { gpu: false, whole: false, subgroups: false },
    Way { gpu: true, whole: true, subgroups: false },
    Way { gpu: true, whole: false, subgroups: false },
    Way { gpu: true, whole: true, subgroups: true },
    Way { gpu: true, whole: false, subgroups: true },
];

/// The launches in the text that GPUs with subgroups get.
fn by_subgroups(launches: Vec<Launch>) -> Vec<Launch> {
    static TEXTS: [OnceLock<(String, String)>; 2] = [const { OnceLock::new() }; 2];
    let other = |mut launch: Launch| {
        if let Some(number) = ["groupnorm", "groupnorm_grad"].iter().position(|f| *f == launch.kernel.file) {
            let Kernel { file, source, .. } = launch.kernel;
            let texts = &TEXTS[number];
            let (file, source) = texts
                .get_or_init(|| (format!("{file} by subgroups"), with_subgroup_sums(source).into_owned()));
            assert!(source.matches("subgroupAdd(").count() >= 2 && source.contains("subgroup = Subgroup("));
            (launch.kernel.file, launch.kernel.source) = (file.as_str(), source.as_str());
        }
        launch
    };
    launches.into_iter().map(other).collect()
}

/// Forward and every gradient on the device.
fn run(size: &GroupNorm, inputs: &Inputs, dy: &[f32], way: Way) -> Outputs {
    run_parts(size, inputs, dy, &[size.channels], None, way)
}

/// Channels `from..from + count` of each row of `columns`.
fn columns_of(x: &[f32], columns: usize, from: usize, count: usize) -> Vec<f32> {
    x.chunks(columns).flat_map(|row| row[from..from + count].to_vec()).collect()
}

/// As [`run`], the input cut into tensors of `counts` channels; `addend` is added to its gradient.
fn run_parts(
    size: &GroupNorm,
    inputs: &Inputs,
    dy: &[f32],
    counts: &[usize],
    addend: Option<&[f32]>,
    Way { gpu, whole, subgroups }: Way,
) -> Outputs {
    let GroupNorm { batch, pixels, channels, .. } = *size;
    let mut harness = Harness::new();
    let shape = [batch, pixels, channels];
    let mut parts = Vec::new();
    let mut gradients = Vec::new();
    let mut first = 0;
    for &count in counts {
        let part = Part { first, channels: count };
        let shape = [batch, pixels, count];
        let values = columns_of(&narrow(&inputs.x), channels, first, count);
        parts.push((part, harness.input(&shape, &values).slice));
        let addend = addend.map(|a| harness.input(&shape, &columns_of(a, channels, first, count)).slice);
        gradients.push((harness.output(&shape), addend));
        first += count;
    }
    let (x, other) = (parts[0].1, parts.get(1).map(|(_, x)| *x));
    let source = Source { x, first: counts[0], other };
    let affine = [&inputs.gamma, &inputs.beta].map(|v| harness.input(&[channels], &narrow(v)).slice);
    let modulation = harness.input(&[batch, 2 * channels], &narrow(&inputs.scale_shift)).slice;
    let modulation = size.scale_shift.then_some(modulation);
    let dy = harness.input(&shape, dy).slice;
    let stats = harness.scratch(groupnorm::stats_bytes(size));
    let [sums, means] = [(); 2].map(|()| harness.scratch(groupnorm::sums_bytes(size)));
    let [y, again] = [(); 2].map(|()| harness.output(&shape));
    let [dgamma, dbeta] = [harness.output(&[channels]), harness.output(&[channels])];
    let dscale_shift = harness.output(&[batch, 2 * channels]);
    let dmodulation = size.scale_shift.then_some(dscale_shift.slice);
    let mut launches = if whole {
        groupnorm::forward_whole(size, gpu, source, affine, modulation, stats, y.slice)
    } else {
        let statistics = groupnorm::statistics(size, gpu, source, affine, modulation, stats);
        [statistics, groupnorm::normalise(size, gpu, source, stats, y.slice)].concat()
    };
    launches.extend(groupnorm::normalise(size, gpu, source, stats, again.slice));
    let (dx, addend) = &gradients[0];
    if whole && other.is_none() {
        let reads = [x, dy, stats];
        launches.extend(groupnorm::grad_whole(size, gpu, reads, *addend, dx.slice, sums, dmodulation));
    } else if whole && !size.scale_shift {
        let (reads, writes) = ([dy, stats], [sums, means]);
        launches.extend(groupnorm::grad_first(size, gpu, source, reads, *addend, dx.slice, writes));
        for ((part, x), (dx, addend)) in parts.iter().zip(&gradients).skip(1) {
            let reads = [*x, dy, stats, means];
            launches.extend(groupnorm::grad_input(size, gpu, *part, reads, *addend, dx.slice));
        }
    } else {
        let (reads, writes) = ([dy, stats], [sums, means]);
        launches.extend(groupnorm::grad_sums(size, gpu, source, reads, writes, dmodulation));
        for ((part, x), (dx, addend)) in parts.iter().zip(&gradients) {
            let reads = [*x, dy, stats, means];
            launches.extend(groupnorm::grad_input(size, gpu, *part, reads, *addend, dx.slice));
        }
    }
    launches.extend(groupnorm::grad_gamma(size, sums, dgamma.slice));
    launches.extend(groupnorm::grad_beta(size, sums, dbeta.slice));
    harness.run(if subgroups && device().traits().lanes > 0 { by_subgroups(launches) } else { launches });
    let read = |tensor: &Tensor| harness.read(tensor);
    let mut dx = vec![0.0; batch * pixels * channels];
    for ((part, _), (gradient, _)) in parts.iter().zip(&gradients) {
        for (row, values) in dx.chunks_mut(channels).zip(read(gradient).chunks(part.channels)) {
            row[part.first..part.first + part.channels].copy_from_slice(values);
        }
    }
    let bits = |tensor| read(tensor).into_iter().map(f32::to_bits).collect::<Vec<u32>>();
    assert!(bits(&y) == bits(&again), "made again by the statistics: {size:?}");
    let dscale_shift = if size.scale_shift { read(&dscale_shift) } else { Vec::new() };
    Outputs { y: read(&y), dx, dgamma: read(&dgamma), dbeta: read(&dbeta), dscale_shift }
}

/// Batch, pixels, channels, groups: one or several channels per group, groups across vec4s, channels that are no
/// multiple of four, runs that are shorter at the end, runs of more vec4s than a workgroup of any width has invocations; pixels
/// below, at and beyond a workgroup's invocations and a block, and beyond what one launch normalises.
const SIZES: [[usize; 4]; 16] = [
    [1, 49, 32, 32],
    [2, 14 * 14, 96, 32],
    [3, 49, 6, 6],
    [3, 7, 20, 5],
    [2, 25, 21, 7],
    [1, 32, 5, 1],
    [3, 2, 6, 2],
    [1, 1, 8, 1],
    [2, 28 * 28, 7, 7],
    [1, 33, 64, 32],
    [2, 129, 13, 1],
    [2, 9, 30, 6],
    [1, 5, 132, 4],
    [2, 1, 300, 4],
    [1, 2, 1030, 1],
    [1, 8200, 3, 1],
];

fn cases() -> impl Iterator<Item = GroupNorm> {
    SIZES.into_iter().flat_map(|[batch, pixels, channels, groups]| {
        [(false, false), (true, false), (false, true), (true, true)].map(|(silu, scale_shift)| GroupNorm {
            batch,
            pixels,
            channels,
            groups,
            silu,
            scale_shift,
        })
    })
}

#[test]
fn forward_equals_the_twin() {
    for size in cases() {
        let inputs = inputs(&size, 0.3);
        let (dy, want) = (values(9, inputs.x.len()), twin(&size, &inputs));
        for way in WAYS {
            let got = run(&size, &inputs, &dy, way);
            assert_close(&format!("{size:?} {way:?}"), &got.y, &want, 1e-5);
        }
    }
}

/// The outputs by name.
fn named(outputs: &Outputs) -> [(&'static str, &Vec<f32>); 5] {
    let Outputs { y, dx, dgamma, dbeta, dscale_shift } = outputs;
    [("y", y), ("dx", dx), ("dgamma", dgamma), ("dbeta", dbeta), ("dscale_shift", dscale_shift)]
}

#[test]
fn gradients_equal_finite_differences_whatever_the_way() {
    for size in cases() {
        let inputs = inputs(&size, 0.3);
        let dy = values(9, inputs.x.len());
        let got = run(&size, &inputs, &dy, WAYS[0]);
        for way in &WAYS[1..] {
            let other = run(&size, &inputs, &dy, *way);
            for ((name, first), (_, other)) in named(&got).into_iter().zip(named(&other)) {
                assert_close(&format!("{name} of {size:?} {way:?}"), other, &wide(first), 1e-5);
            }
        }
        let dy = wide(&dy);
        let loss = |change: &dyn Fn(&mut Inputs)| {
            let mut changed = inputs.clone();
            change(&mut changed);
            dot(&twin(&size, &changed), &dy)
        };
        let name = |what: &str| format!("{what} of {size:?}");
        assert_gradient(&name("dx"), &got.dx, &inputs.x, |v| loss(&|i| i.x = v.to_vec()));
        assert_gradient(&name("dgamma"), &got.dgamma, &inputs.gamma, |v| loss(&|i| i.gamma = v.to_vec()));
        assert_gradient(&name("dbeta"), &got.dbeta, &inputs.beta, |v| loss(&|i| i.beta = v.to_vec()));
        if size.scale_shift {
            assert_gradient(&name("dscale_shift"), &got.dscale_shift, &inputs.scale_shift, |v| {
                loss(&|i| i.scale_shift = v.to_vec())
            });
        }
    }
}

#[test]
fn two_tensors_give_the_same_as_their_concatenation() {
    for (number, size) in cases().filter(|size| size.channels > 4).enumerate() {
        let way = WAYS[number % WAYS.len()];
        let inputs = inputs(&size, 0.3);
        let dy = values(9, inputs.x.len());
        let whole = run(&size, &inputs, &dy, way);
        for first in [4, (size.channels - 1) / 4 * 4] {
            let counts = [first, size.channels - first];
            let parts = run_parts(&size, &inputs, &dy, &counts, None, way);
            for ((name, part), (_, whole)) in named(&parts).into_iter().zip(named(&whole)) {
                assert!(part == whole, "{name} of {size:?} {way:?} cut at {first}");
            }
            let addend = values(10, dy.len());
            let sum: Vec<f32> = whole.dx.iter().zip(&addend).map(|(dx, a)| dx + a).collect();
            for counts in [&counts[..], &[size.channels]] {
                let added = run_parts(&size, &inputs, &dy, counts, Some(&addend), way).dx;
                assert_close(&format!("dx + addend of {size:?} {way:?}"), &added, &wide(&sum), 1e-6);
            }
        }
    }
}

#[test]
fn large_means_do_not_cancel() {
    for [batch, pixels, channels, groups] in [[2, 28 * 28, 32, 32], [1, 50, 12, 4], [1, 300, 24, 3]] {
        let size = GroupNorm { batch, pixels, channels, groups, silu: true, scale_shift: false };
        let inputs = inputs(&size, 1000.0);
        let (dy, want) = (values(9, inputs.x.len()), twin(&size, &inputs));
        for way in WAYS {
            // The mean itself is rounded to 6e-5, twice that against a deviation of 1.15.
            assert_close(&format!("{size:?} {way:?}"), &run(&size, &inputs, &dy, way).y, &want, 5e-5);
        }
    }
}

#[test]
fn extreme_values_stay_finite() {
    let size = GroupNorm { batch: 1, pixels: 16, channels: 4, groups: 4, silu: true, scale_shift: true };
    let mut inputs = inputs(&size, 0.0);
    inputs.scale_shift.iter_mut().for_each(|v| *v *= 3000.0);
    inputs.x[0] = 1e6;
    let dy = values(9, inputs.x.len());
    for way in WAYS {
        let mut inputs = inputs.clone();
        let got = run(&size, &inputs, &dy, way);
        assert_close("y", &got.y, &twin(&size, &inputs), 1e-5);
        assert!(got.dx.iter().all(|v| v.is_finite()));
        // A constant group has variance 0 and gives beta, even where squares of its values would overflow.
        for value in [5.0, f64::from(1e25f32)] {
            inputs.x.fill(value);
            assert_close("constant", &run(&size, &inputs, &dy, way).y, &twin(&size, &inputs), 1e-5);
        }
    }
}

#[test]
fn squares_that_overflow_are_not_made_zeros() {
    for (pixels, way) in WAYS.map(|way| [16, 300].map(|pixels| (pixels, way))).concat() {
        let size = GroupNorm { batch: 2, pixels, channels: 4, groups: 4, silu: true, scale_shift: true };
        let mut inputs = inputs(&size, 0.0);
        // The values can be said in 32 bits, their squares cannot.
        inputs.x[..8].iter_mut().for_each(|v| *v *= 1e25);
        let got = run(&size, &inputs, &values(9, inputs.x.len()), way);
        let (first, second) = got.y.split_at(4 * pixels);
        assert!(first.iter().all(|v| v.is_nan()), "the image that overflows: {first:?} {way:?}");
        assert!(second.iter().all(|v| v.is_finite()), "and no other");
    }
}

/// What a norm's launches are, of images of `side` pixels a side, of one tensor or two: by file and entry how often, where all
/// gradients are asked for or only that of the normalised tensors.
fn launches(side: usize, two: bool, scale_shift: bool, all: bool) -> BTreeMap<String, usize> {
    let mut graph = Graph::new();
    let channels = [8, 4 + 4 * usize::from(two)];
    let parts = [0, 1].map(|n| graph.leaf(&[2, side, side, channels[n]], Place::whole(format!("x {n}"))));
    let (x, count) = if two { (graph.concat(parts[0], parts[1]).unwrap(), 16) } else { (parts[0], 8) };
    let leaf = |graph: &mut Graph, name: &str, shape: &[usize]| graph.leaf(shape, Place::whole(name));
    let [gamma, beta] = ["gamma", "beta"].map(|name| leaf(&mut graph, name, &[count]));
    let modulation = scale_shift.then(|| leaf(&mut graph, "modulation", &[2, 2 * count]));
    let y = graph.group_norm(x, gamma, beta, 4, modulation, true).unwrap();
    let dy = leaf(&mut graph, "dy", &[2, side, side, count]);
    let mut targets = if two { parts.to_vec() } else { vec![parts[0]] };
    if all {
        targets.extend([gamma, beta].into_iter().chain(modulation));
    }
    let gradients = graph.grad_from(y, dy, &targets).unwrap();
    for (number, result) in [y].into_iter().chain(gradients).enumerate() {
        graph.place(result, Place::whole(format!("result {number}")));
    }
    let mut counts = BTreeMap::new();
    for launch in &graph.compile_for(&Choices::all(Family::Tiled)).unwrap().program().launches {
        *counts.entry(format!("{}.{}", launch.kernel.file, launch.kernel.entry)).or_insert(0) += 1;
    }
    counts
}

#[test]
fn a_norm_is_few_launches() {
    for (side, two, scale_shift, all, want) in [
        (28, false, true, true, "forward_whole grad_whole_modulated"),
        (28, false, false, true, "forward_whole grad_whole"),
        (28, false, true, false, "forward_whole grad_whole"),
        (28, true, true, true, "forward_whole grad_input grad_input grad_sums_modulated"),
        (28, true, false, true, "forward_whole grad_first grad_input"),
        (28, true, true, false, "forward_whole grad_first grad_input"),
        (91, false, true, true, "forward grad_input grad_sums_modulated statistics"),
        (91, true, false, true, "forward grad_input grad_input grad_sums statistics"),
    ] {
        let counts = launches(side, two, scale_shift, all);
        let norm = counts.iter().filter(|(name, _)| name.starts_with("groupnorm"));
        let mut names: Vec<&str> = norm
            .flat_map(|(name, count)| std::iter::repeat_n(name.split('.').nth(1).unwrap(), *count))
            .collect();
        names.sort_unstable();
        assert_eq!(names.join(" "), want, "{side}x{side}, two {two}, {counts:?}");
        // Gamma's and beta's gradients are sums over the images, and nothing else runs.
        let sums: usize =
            counts.iter().filter(|(name, _)| !name.starts_with("groupnorm")).map(|(_, n)| n).sum();
        assert_eq!(sums, if all { 2 } else { 0 }, "{counts:?}");
    }
}

#[test]
fn more_workgroups_than_one_dimension_holds() {
    let size = GroupNorm { batch: 70_000, pixels: 2, channels: 4, groups: 1, silu: false, scale_shift: true };
    let inputs = inputs(&size, 0.0);
    let dy = values(9, inputs.x.len());
    let got = run(&size, &inputs, &dy, WAYS[0]);
    assert_close("y", &got.y, &twin(&size, &inputs), 1e-5);
    // The gradient of the shift is the image's sum of dy.
    let dshift: Vec<f32> = got.dscale_shift.chunks(8).flat_map(|row| row[4..].to_vec()).collect();
    let sums: Vec<f64> = wide(&dy)
        .chunks(8)
        .flat_map(|image| (0..4).map(|c| image[c] + image[4 + c]).collect::<Vec<_>>())
        .collect();
    assert_close("dshift", &dshift, &sums, 1e-6);
}
