//! Programs that together use every kernel.

use duet::autodiff::{Activations, Precision};
use duet::explain::{LocalStep, inversion_plan, local_step_plan};
use duet::families::{Choices, Family};
use duet::gpu::{BufferId, Launch, Program, Slice};
use duet::graph::{Graph, Place, Plan};
use duet::model::{JointModel, ModelConfig, WeightSet};
use duet::ops::Pooling;
use duet::ops::attention::{self, Attention};
use duet::ops::conv2d::Window;
use duet::ops::matmul::{self, MatMul};
use duet::ops::probe;

/// Plans that together use every operation of the models, in all families of kernels.
pub fn programs() -> Vec<Program> {
    use duet::diffusion::DiffusionConfig;
    use duet::model::Head;
    use duet::sampling::{Guidance, NoiseSource, StepSpec, step_plan};
    use duet::train::{ClassifierInput, Groups, Rate, TrainOptions, TrainSpec, apply_plan, train_plan};
    // The kernels of the default model at its 28 pixels, in a quarter of them: attention over 784 tokens takes minutes.
    let small = ModelConfig {
        image_size: 14,
        num_channels: 32,
        num_res_blocks: 1,
        channel_mult: vec![1, 2],
        attention_resolutions: vec![14],
        ..ModelConfig::default()
    };
    let odd = ModelConfig {
        image_size: 12,
        in_channels: 3,
        num_channels: 12,
        num_res_blocks: 1,
        num_groups: 6,
        channel_mult: vec![1, 2],
        resblock_updown: true,
        use_scale_shift_norm: false,
        learn_sigma: true,
        dropout: 0.1,
        head: Head::MultiLabel,
        ..ModelConfig::default()
    };
    let diffusion = DiffusionConfig::default();
    let mut list = Vec::new();
    for config in [small, odd] {
        let model = JointModel::new(&config).unwrap();
        for (noise, guidance) in [
            (NoiseSource::Generator, Guidance::Representation),
            (NoiseSource::Given, Guidance::Gradient),
            (NoiseSource::Given, Guidance::None),
        ] {
            let spec = StepSpec { noise, guidance, masked: guidance != Guidance::None, ..StepSpec::new(3) };
            list.push(step_plan(&model, &spec, WeightSet::Raw).unwrap());
            let kind = LocalStep { guidance, normalize: true, masked: spec.masked };
            list.push(local_step_plan(&model, kind, 3, [12, 10], WeightSet::Raw).unwrap());
        }
        list.push(inversion_plan(&model, 5, WeightSet::Raw).unwrap());
        for (micro_batches, activations) in [(1, Activations::Keep), (2, Activations::F16)] {
            let spec = TrainSpec {
                batch: 3,
                micro_batches,
                classifier_loss_scaling: 0.1,
                classifier_input: ClassifierInput::Both,
                activations,
                ..TrainSpec::of(&TrainOptions::default())
            };
            list.push(train_plan(&model, &diffusion, &spec).unwrap());
        }
        let groups = Groups { encoder: Rate::Factor(0.5), decoder: Rate::Frozen, ..Groups::default() };
        let options = TrainOptions { groups, clip_grad_norm: Some(1.0), ..TrainOptions::default() };
        list.push(apply_plan(&model, &TrainSpec::of(&options)).unwrap());
        let scaled = TrainOptions { precision: Precision::F16, ..options };
        list.push(apply_plan(&model, &TrainSpec::of(&scaled)).unwrap());
    }
    list.push(beyond_the_models());
    let families = Family::ALL.map(Choices::all);
    let chosen = |choices| list.iter().map(move |plan| plan.chosen(choices).unwrap().program().clone());
    families.iter().flat_map(chosen).chain(probe::programs()).collect()
}

/// A plan of the operations that no model uses, with their gradients: each adds its results to `list`.
fn beyond_the_models() -> Plan {
    let mut graph = Graph::new();
    let x = graph.leaf(&[2, 9, 7, 6], Place::whole("x"));
    let window = Window { kernel: [3, 5], stride: [1, 2], padding: [1, 2] };
    let weight = graph.leaf(&[15, 8, 10], Place::whole("weight"));
    let numbers = graph.leaf(&[3, 20], Place::whole("numbers"));
    let colors = graph.leaf(&[3, 9, 7, 3], Place::whole("colors"));
    let augmented = graph.augment(colors, numbers, [0.0; 4], true).unwrap();
    graph.place(augmented, Place::whole("augmented"));
    let scaling = graph.leaf(&[4], Place::whole("loss_scale"));
    let scale = graph.loss_scale(scaling).unwrap();
    graph.place(scale, Place::whole("scale"));
    // More pixels than one launch of a norm takes, of two tensors.
    let large = [4, 6].map(|c| graph.leaf(&[1, 91, 91, c], Place::whole(format!("large {c}"))));
    let [gamma, beta] = ["gamma", "beta"].map(|name| graph.leaf(&[10], Place::whole(name)));
    let modulation = graph.leaf(&[1, 20], Place::whole("modulation"));
    let both = graph.concat(large[0], large[1]).unwrap();
    let losses = graph.leaf(&[3], Place::whole("losses"));
    let given = graph.leaf(&[1], Place::whole("weight of losses"));
    let sum = graph.weighted_sum_by(losses, given).unwrap();
    graph.place(sum, Place::whole("sum"));
    let spread = graph.grad_scaled(sum, scaling, &[losses]).unwrap()[0];
    graph.place(spread, Place::whole("spread"));
    let maps = [[3, 4, 5, 6], [3, 2, 2, 9]].map(|shape| graph.leaf(&shape, Place::whole("map")));
    let features = graph.features(&maps, losses, Pooling::Max).unwrap();
    let [vector, running] = [&[16][..], &[2, 16]].map(|shape| graph.leaf(shape, Place::whole("vector")));
    let normalised = graph.batch_norm(features, vector, vector, running, None).unwrap();
    let logits = graph.leaf(&[3, 5], Place::whole("logits"));
    let shares = graph.leaf(&[3, 5], Place::whole("shares"));
    let list = [
        (graph.soft_cross_entropy(logits, shares).unwrap(), vec![logits]),
        (
            graph.group_norm(both, gamma, beta, 2, Some(modulation), true).unwrap(),
            vec![large[0], large[1], gamma, beta, modulation],
        ),
        (normalised, vec![maps[0], maps[1], vector]),
        (graph.slice_channels(x, 1, 3).unwrap(), vec![x]),
        (graph.conv2d(x, weight, window, None).unwrap(), vec![x, weight]),
        (graph.max_pool2d(x, window).unwrap(), vec![x]),
        (graph.avg_pool2d(x, window, false).unwrap(), vec![x]),
        (graph.resize_bilinear(x, [5, 20]).unwrap(), vec![x]),
    ];
    for (i, (y, targets)) in list.into_iter().enumerate() {
        let dy = graph.shape(y).to_vec();
        let dy = graph.leaf(&dy, Place::whole(format!("dy {i}")));
        let gradients = graph.grad_from(y, dy, &targets).unwrap();
        for (k, result) in [y].into_iter().chain(gradients).enumerate() {
            graph.place(result, Place::whole(format!("result {i} {k}")));
        }
    }
    graph.compile().unwrap()
}

/// Launches of the kernels in tiles of workgroup memory.
pub fn tiled() -> Vec<Launch> {
    let [a, b, c, d, e, f] = [0, 1, 2, 3, 4, 5].map(|buffer| Slice {
        buffer: BufferId(buffer),
        offset: 0,
        bytes: 16,
        half: false,
    });
    let size = MatMul { rows: 300, in_features: 5, out_features: 70 };
    let mut list = matmul::forward(Family::Tiled, &size, a, b, Some(c), None, d);
    list.extend(matmul::grad_input(Family::Tiled, &size, a, b, None, c));
    list.extend(matmul::grad_weight(Family::Tiled, &size, a, b, c, d, Some(e)));
    for (channels, heads) in [(64, 4), (64, 1), (15, 3)] {
        let size = Attention { batch: 2, tokens: 49, channels, heads, new_order: false };
        list.extend(attention::forward(Family::Tiled, &size, a, b, c));
        list.extend(attention::grad(Family::Tiled, &size, [a, b, c, d], e, f));
    }
    list
}
