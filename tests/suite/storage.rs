//! Kernels whose tensors are stored as f16 compute what they compute of the same numbers in f32, rounded where it is stored.

use crate::harness::{Harness, families, pad, stores_f16, values};
use duet::autodiff::Precision;
use duet::diffusion::DiffusionConfig;
use duet::families::{Choices, Family};
use duet::gpu::{Launch, Slice};
use duet::model::{JointModel, ModelConfig};
use duet::ops::conv3x3::{self, Conv3x3};
use duet::ops::features::{self, FeatureMap, Timestep};
use duet::ops::groupnorm::{self, GroupNorm, Part, Source};
use duet::ops::matmul::{self, MatMul};
use duet::ops::{pointwise, random, reduce_rows, resample};
use duet::tensor::pitch;
use duet::train::{ClassifierInput, TrainOptions, TrainSpec, train_plan};
use half::f16;
use std::collections::HashMap;

/// Buffers of one run, its feature maps stored as f16 or as f32.
struct Made {
    harness: Harness,
    half: bool,
    seed: u64,
    /// What is compared.
    outputs: Vec<Slice>,
}

impl Made {
    fn stored(&mut self, words: usize, padded: &[f32], half: bool) -> Slice {
        if !half {
            return self.harness.words(bytemuck::cast_slice(padded));
        }
        let halves: Vec<f16> = padded.iter().map(|v| f16::from_f32(*v)).collect();
        let slice = self.harness.words(&bytemuck::pod_collect_to_vec(&halves));
        Slice { bytes: words as u64 * 2, half: true, ..slice }
    }

    fn input(&mut self, shape: &[usize], half: bool) -> Slice {
        self.seed += 1;
        let data = values(self.seed, shape.iter().product());
        let padded: Vec<f32> = pad(shape, &data).into_iter().map(|v| f16::from_f32(v).to_f32()).collect();
        self.stored(padded.len(), &padded, half)
    }

    /// A feature map, of numbers that f16 has.
    fn map(&mut self, shape: &[usize]) -> Slice {
        self.input(shape, self.half)
    }

    /// What is f32 always.
    fn vector(&mut self, shape: &[usize]) -> Slice {
        self.input(shape, false)
    }

    fn output(&mut self, shape: &[usize], half: bool) -> Slice {
        let columns = shape[shape.len() - 1];
        let words = shape.iter().product::<usize>() / columns * pitch(columns);
        let slice = self.stored(words, &vec![f32::NAN; words], half);
        self.outputs.push(slice);
        slice
    }

    fn map_out(&mut self, shape: &[usize]) -> Slice {
        self.output(shape, self.half)
    }

    fn vector_out(&mut self, shape: &[usize]) -> Slice {
        self.output(shape, false)
    }

    fn read(&self, slice: Slice) -> Vec<f32> {
        let words = self.harness.read_words(slice, slice.bytes as usize / 4);
        match slice.half {
            true => bytemuck::pod_collect_to_vec::<u32, f16>(&words).iter().map(|v| v.to_f32()).collect(),
            false => bytemuck::pod_collect_to_vec(&words),
        }
    }
}

/// Half a unit of the last place of f16 at `value`.
fn half_unit(value: f32) -> f32 {
    2f32.powi(value.abs().max(2f32.powi(-14)).log2().floor() as i32 - 11)
}

fn compare(what: &str, make: impl Fn(&mut Made) -> Vec<Launch>) {
    let run = |half| {
        let mut made = Made { harness: Harness::new(), half, seed: 0, outputs: Vec::new() };
        let launches = make(&mut made);
        if half {
            assert!(launches.iter().any(|launch| !launch.kernel.halves.is_empty()), "{what}: nothing is f16");
        }
        made.harness.run(launches);
        made.outputs.iter().map(|slice| (slice.half, made.read(*slice))).collect::<Vec<_>>()
    };
    for (number, ((half, got), (_, want))) in run(true).into_iter().zip(run(false)).enumerate() {
        assert_eq!(got.len(), want.len(), "{what}");
        let scale = want.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        assert!(scale > 0.0 && scale.is_finite(), "{what}: output {number} is empty");
        for (i, (g, w)) in got.iter().zip(&want).enumerate() {
            let bound = 2e-6 * scale + if half { half_unit(*w) } else { 0.0 };
            assert!((g - w).abs() <= bound, "{what}: output {number} at {i} is {g}, of f32 {w}");
        }
    }
}

#[test]
fn convolutions() {
    if !stores_f16() {
        return;
    }
    for stride in [1, 2] {
        let size = Conv3x3 { batch: 2, height: 7, width: 5, in_channels: 18, out_channels: 21, stride };
        let x_shape = [2, 7, 5, 18];
        let y_shape = [2, size.out_height(), size.out_width(), 21];
        let weight = [9, pitch(18), 21];
        for family in families() {
            if stride == 2 && family != Family::Direct {
                continue;
            }
            compare(&format!("{family} forward, stride {stride}"), |made| {
                let (x, weight, bias) = (made.map(&x_shape), made.vector(&weight), made.vector(&[21]));
                let (residual, y) = (made.map(&y_shape), made.map_out(&y_shape));
                conv3x3::forward(family, &size, x, weight, Some(bias), Some(residual), y)
            });
            compare(&format!("{family} grad_input, stride {stride}"), |made| {
                let (dy, weight, addend) = (made.map(&y_shape), made.vector(&weight), made.map(&x_shape));
                conv3x3::grad_input(family, &size, dy, weight, Some(addend), made.map_out(&x_shape))
            });
            compare(&format!("{family} grad_weight, stride {stride}"), |made| {
                let scratch = made.harness.scratch(conv3x3::grad_weight_scratch(family, &size));
                let (x, dy, dw) = (made.map(&x_shape), made.map(&y_shape), made.vector_out(&weight));
                let db = made.vector_out(&[21]);
                conv3x3::grad_weight(family, &size, x, dy, scratch, dw, Some(db))
            });
        }
    }
}

#[test]
fn products() {
    if !stores_f16() {
        return;
    }
    let size = MatMul { rows: 37, in_features: 18, out_features: 21 };
    let weight = [pitch(18), 21];
    for family in families() {
        compare(&format!("{family} forward"), |made| {
            let (x, weight, bias) = (made.map(&[37, 18]), made.vector(&weight), made.vector(&[21]));
            let (residual, y) = (made.map(&[37, 21]), made.map_out(&[37, 21]));
            matmul::forward(family, &size, x, weight, Some(bias), Some(residual), y)
        });
        compare(&format!("{family} grad_input"), |made| {
            let (dy, weight, addend) = (made.map(&[37, 21]), made.vector(&weight), made.map(&[37, 18]));
            matmul::grad_input(family, &size, dy, weight, Some(addend), made.map_out(&[37, 18]))
        });
        compare(&format!("{family} grad_weight"), |made| {
            let scratch = made.harness.scratch(matmul::grad_weight_scratch(family, &size));
            let (x, dy, dw) = (made.map(&[37, 18]), made.map(&[37, 21]), made.vector_out(&weight));
            let db = made.vector_out(&[21]);
            matmul::grad_weight(family, &size, x, dy, scratch, dw, Some(db))
        });
    }
}

#[test]
fn group_norms() {
    if !stores_f16() {
        return;
    }
    let size = GroupNorm { batch: 2, pixels: 35, channels: 18, groups: 6, silu: true, scale_shift: true };
    let parts = [Part { first: 0, channels: 8 }, Part { first: 8, channels: 10 }];
    for (gpu, whole) in [(false, true), (false, false), (true, true), (true, false)] {
        compare("group norm of two", |made| {
            let [x, other] = parts.map(|part| made.map(&[2, 35, part.channels]));
            let source = Source { x, first: 8, other: Some(other) };
            let (affine, modulation) = ([(); 2].map(|()| made.vector(&[18])), made.vector(&[2, 36]));
            let (dy, y) = (made.map(&[2, 35, 18]), made.map_out(&[2, 35, 18]));
            let (stats, sums) = (made.vector_out(&[10, 18]), made.vector_out(&[2, 2, 18]));
            let (means, gradient) = (made.vector_out(&[2, 2, 18]), made.vector_out(&[2, 36]));
            let addend = made.map(&[2, 35, 10]);
            let [first, second] = parts.map(|part| made.map_out(&[2, 35, part.channels]));
            let mut launches = match whole {
                true => groupnorm::forward_whole(&size, gpu, source, affine, Some(modulation), stats, y),
                false => {
                    let statistics =
                        groupnorm::statistics(&size, gpu, source, affine, Some(modulation), stats);
                    [statistics, groupnorm::normalise(&size, gpu, source, stats, y)].concat()
                }
            };
            launches.extend(groupnorm::grad_sums(
                &size,
                gpu,
                source,
                [dy, stats],
                [sums, means],
                Some(gradient),
            ));
            for (part, x, addend, dx) in [(parts[0], x, None, first), (parts[1], other, Some(addend), second)]
            {
                launches.extend(groupnorm::grad_input(&size, gpu, part, [x, dy, stats, means], addend, dx));
            }
            launches
        });
    }
    compare("group norm of two, its first gradient", |made| {
        let [x, other] = parts.map(|part| made.map(&[2, 35, part.channels]));
        let source = Source { x, first: 8, other: Some(other) };
        let (dy, stats) = (made.map(&[2, 35, 18]), made.vector(&[10, 18]));
        let (addend, dx) = (made.map(&[2, 35, 8]), made.map_out(&[2, 35, 8]));
        let writes = [(); 2].map(|()| made.vector_out(&[2, 2, 18]));
        groupnorm::grad_first(&size, true, source, [dy, stats], Some(addend), dx, writes)
    });
    for modulated in [false, true] {
        let size = GroupNorm { scale_shift: modulated, ..size };
        compare("group norm of one", |made| {
            let (x, dy, addend) = (made.map(&[2, 35, 18]), made.map(&[2, 35, 18]), made.map(&[2, 35, 18]));
            let (affine, modulation) = ([(); 2].map(|()| made.vector(&[18])), made.vector(&[2, 36]));
            let (y, dx) = (made.map_out(&[2, 35, 18]), made.map_out(&[2, 35, 18]));
            let stats = made.vector_out(&[if modulated { 10 } else { 6 }, 18]);
            let (sums, gradient) =
                (made.vector_out(&[2, 2, 18]), modulated.then(|| made.vector_out(&[2, 36])));
            let source = Source::whole(&size, x);
            let modulation = modulated.then_some(modulation);
            let mut launches = groupnorm::forward(&size, true, source, affine, modulation, stats, y);
            launches.extend(groupnorm::grad_whole(
                &size,
                true,
                [x, dy, stats],
                Some(addend),
                dx,
                sums,
                gradient,
            ));
            launches
        });
    }
}

#[test]
fn the_small_ones() {
    if !stores_f16() {
        return;
    }
    compare("expand", |made| {
        let (x, y) = (made.map(&[2, 3, 5, 6]), made.map_out(&[2, 7, 10, 6]));
        resample::expand(2, [3, 5], [7, 10], 6, 0.25, x, y)
    });
    compare("pool", |made| {
        let (x, y) = (made.map(&[2, 7, 5, 6]), made.map_out(&[2, 3, 2, 6]));
        resample::pool(2, [7, 5], 6, 0.25, x, y)
    });
    for rows in [35, 700] {
        compare("sum of rows", |made| {
            let scratch = made.harness.scratch(reduce_rows::scratch(rows, 9));
            let (x, y) = (made.map(&[rows, 9]), made.vector_out(&[9]));
            reduce_rows::launches(rows, 9, x, scratch, y)
        });
    }
    compare("sum", |made| {
        let (a, b, y) = (made.map(&[7, 9]), made.map(&[7, 9]), made.map_out(&[7, 9]));
        pointwise::add(21, a, b, y)
    });
    compare("dropout", |made| {
        let run = made.harness.words(&[1, 2, 3, 0]);
        let (x, y) = (made.map(&[3, 5, 7]), made.map_out(&[3, 5, 7]));
        random::dropout(3, 40, 1, 0.3, [x, run], y)
    });
    // Maps of both kinds of storage in one launch: those at odd places are f32 always.
    for maximum in [false, true] {
        compare("features", |made| {
            let sizes = [[15, 7], [1, 5], [49, 8], [6, 4], [2, 12], [4, 1], [9, 6]];
            let columns = 1 + sizes.iter().map(|[_, channels]| channels).sum::<usize>();
            let mut offset = 0;
            let maps: Vec<(FeatureMap, Slice, Slice)> = (sizes.into_iter().enumerate())
                .map(|(number, [pixels, channels])| {
                    let maximum = maximum && number == 0;
                    let map = FeatureMap { batch: 2, pixels, channels, columns, offset, maximum };
                    offset += channels;
                    let half = made.half && number % 2 == 0;
                    let shape = [2, pixels, channels];
                    (map, made.input(&shape, half), made.output(&shape, half))
                })
                .collect();
            let (df, features) = (made.vector(&[2, columns]), made.vector_out(&[2, columns]));
            let read: Vec<(FeatureMap, Slice)> = maps.iter().map(|(map, x, _)| (*map, *x)).collect();
            let t = Timestep::Constant(0.25);
            let mut launches = features::pool([2, columns], &read, t, features);
            let by_mean = maps.iter().filter(|(map, ..)| !map.maximum);
            let by_mean: Vec<(FeatureMap, Slice)> = by_mean.map(|(map, _, dx)| (*map, *dx)).collect();
            let scratch = made.harness.scratch(features::mean_grad_scratch(by_mean.len()));
            launches.extend(features::mean_grad(&by_mean, df, scratch));
            assert_eq!(launches.len(), 2);
            for (map, x, dx) in maps.iter().filter(|(map, ..)| map.maximum) {
                launches.extend(features::max_grad(map, *x, features, df, *dx));
            }
            launches
        });
    }
}

/// A training step with every kind of layer.
fn plan_options() -> (JointModel, TrainSpec) {
    let config = ModelConfig {
        image_size: 12,
        num_channels: 32,
        num_res_blocks: 1,
        num_groups: 8,
        channel_mult: vec![1, 2],
        dropout: 0.1,
        ..ModelConfig::default()
    };
    let options = TrainOptions {
        batch_size: 4,
        classifier_input: ClassifierInput::Both,
        clip_grad_norm: Some(1.0),
        precision: Precision::F16,
        ..TrainOptions::default()
    };
    (JointModel::new(&config).unwrap(), TrainSpec::of(&options))
}

#[test]
fn programs_for_f16_are_valid_and_declare_what_launches_bind() {
    let (model, spec) = plan_options();
    let plan = train_plan(&model, &DiffusionConfig::default(), &spec).unwrap();
    let mut seen = HashMap::new();
    for family in Family::ALL {
        for launch in &plan.chosen(&Choices::all(family)).unwrap().program().launches {
            seen.entry(launch.kernel.clone()).or_insert_with(|| launch.clone());
        }
    }
    let halves = seen.values().filter(|launch| !launch.kernel.halves.is_empty()).count();
    assert!(halves > 20, "{halves} kernels of {}", seen.len());
    for (kernel, launch) in seen {
        let text = kernel.program();
        let capabilities = naga::valid::Capabilities::SHADER_FLOAT16
            | naga::valid::Capabilities::SHADER_FLOAT16_IN_FLOAT32
            | naga::valid::Capabilities::SUBGROUP
            | naga::valid::Capabilities::COOPERATIVE_MATRIX;
        let module = naga::front::wgsl::parse_str(&text)
            .unwrap_or_else(|e| panic!("{}", e.emit_to_string_with_path(&text, &kernel.to_string())));
        let info = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities)
            .validate(&module)
            .unwrap_or_else(|e| panic!("{}", e.emit_to_string_with_path(&text, &kernel.to_string())));
        let number = module.entry_points.iter().position(|entry| entry.name == kernel.entry).unwrap();
        let function = info.get_entry_point(number);
        let bound: Vec<&Slice> = launch.reads.iter().chain(&launch.writes).collect();
        for (handle, variable) in module.global_variables.iter() {
            let Some(binding) = variable.binding.filter(|_| !function[handle].is_empty()) else { continue };
            let naga::TypeInner::Array { base, .. } = module.types[variable.ty].inner else { continue };
            let half = matches!(
                module.types[base].inner,
                naga::TypeInner::Vector { scalar: naga::Scalar { width: 2, .. }, .. }
            );
            assert_eq!(half, bound[binding.binding as usize].half, "{kernel}: binding {}", binding.binding);
        }
    }
}

#[test]
fn a_step_moves_fewer_bytes_and_needs_less_memory() {
    let (model, spec) = plan_options();
    let [half, full] = [Precision::F16, Precision::F32].map(|precision| {
        // Many images: what does not depend on their number is small.
        let spec = TrainSpec { precision, batch: 64, ..spec.clone() };
        train_plan(&model, &DiffusionConfig::default(), &spec).unwrap()
    });
    // The most that is alive at once: how closely that is packed is a matter of chance, and of another test.
    let activations = |plan: &duet::graph::Plan| plan.stats().lower_bound;
    println!(
        "moved {} of {}, activations {} of {}",
        half.program().bytes_moved(),
        full.program().bytes_moved(),
        activations(&half),
        activations(&full)
    );
    assert!(activations(&half) * 100 < activations(&full) * 66);
    assert!(half.program().bytes_moved() * 100 < full.program().bytes_moved() * 70);
    assert!(full.program().launches.iter().all(|launch| launch.kernel.halves.is_empty()));
}
