//! What the library computes where an ONNX file of the same model is to compute the same: networks of every kind of layer, and
//! for each kind of file some inputs with the outputs that belong to them.

use super::interpreter::Array;
use duet::checkpoint::Checkpoint;
use duet::diffusion::{DiffusionConfig, NoiseSchedule, Prediction, Schedule, Solver};
use duet::gpu::{Device, DeviceOptions};
use duet::infer::{ImageClassifier, ImageFeatures};
use duet::model::{Head, JointModel, Labels, ModelConfig, Pooling, UNLABELLED, WeightSet};
use duet::rng::{Seed, Stream, normal_fill, uniform};
use duet::sampling::{Guidance, NoiseSource, Sampler, StepSpec};
use duet::tensor::Images;
use duet::weights::Weights;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

fn device() -> &'static Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(|| {
        let adapter = std::env::var("DUET_ADAPTER").ok();
        pollster::block_on(Device::open(&DeviceOptions { adapter, ..DeviceOptions::default() })).unwrap()
    })
}

/// A network whose every weight says something: nothing is zero, and the classifier knows noised images.
pub fn checkpoint(config: ModelConfig, diffusion: DiffusionConfig) -> Checkpoint {
    let mut tensors = JointModel::new(&config).unwrap().params.initial(Seed(1));
    for (number, (name, tensor)) in tensors.iter_mut().enumerate() {
        let mut drawn = vec![0.0f32; tensor.data.len()];
        uniform(Seed(2), Stream::Init, 1, number as u32, &mut drawn);
        let constant = tensor.data.iter().all(|v| *v == tensor.data[0]);
        for (value, u) in tensor.data.iter_mut().zip(&drawn).filter(|_| constant) {
            *value = if name.ends_with("running_var") { 0.5 + u } else { *value + 0.6 * (u - 0.5) };
        }
        let last = tensor.data.last_mut().unwrap();
        match name.as_str() {
            "clasifier.bn_1.running_var" => *last = 83_000.0,
            "clasifier.bn_1.running_mean" => *last = 500.0,
            _ => {}
        }
    }
    Checkpoint::new(config, diffusion, tensors)
}

/// Tiny networks that between them have every kind of layer.
pub fn tiny() -> Vec<(&'static str, Checkpoint)> {
    let base = ModelConfig {
        image_size: 8,
        num_channels: 8,
        num_res_blocks: 1,
        channel_mult: vec![1, 2],
        attention_resolutions: vec![4],
        num_heads: 2,
        num_groups: 4,
        num_classes: 3,
        class_names: vec!["cat".into(), "dog".into(), "Käuzchen".into()],
        dropout: 0.2,
        ..ModelConfig::default()
    };
    let labels = ModelConfig {
        image_size: 6,
        in_channels: 3,
        num_head_channels: Some(4),
        attention_resolutions: vec![6],
        use_new_attention_order: true,
        use_scale_shift_norm: false,
        resblock_updown: true,
        learn_sigma: true,
        head: Head::MultiLabel,
        pooling: Pooling::Max,
        ..base.clone()
    };
    let odd = ModelConfig {
        image_size: 7,
        num_channels: 5,
        channel_mult: vec![1],
        num_heads: 5,
        num_groups: 32,
        num_res_blocks: 2,
        attention_resolutions: vec![7],
        ..base.clone()
    };
    let diffusion = DiffusionConfig::default();
    let v = DiffusionConfig {
        prediction: Prediction::V,
        diffusion_steps: 400,
        noise_schedule: NoiseSchedule::Cosine,
        rescale_timesteps: true,
        ..diffusion.clone()
    };
    let x_start = DiffusionConfig { prediction: Prediction::XStart, ..diffusion.clone() };
    vec![
        ("plain", checkpoint(base, diffusion)),
        ("labels", checkpoint(labels, v)),
        ("odd", checkpoint(odd, x_start)),
    ]
}

/// Networks of the usual sizes of images, with few channels.
pub fn usual() -> Vec<(String, Checkpoint)> {
    let sizes = [(28, 1), (32, 3), (64, 3)];
    let made = sizes.into_iter().flat_map(|(image_size, in_channels)| {
        [false, true].map(|other| {
            let config = ModelConfig {
                image_size,
                in_channels,
                num_channels: 16,
                num_res_blocks: if other { 2 } else { 1 },
                num_groups: 8,
                // The reference's: at 28 pixels attention over the whole image.
                attention_resolutions: if image_size == 64 { vec![16, 8] } else { vec![8] },
                use_new_attention_order: other,
                use_scale_shift_norm: !other,
                resblock_updown: other,
                learn_sigma: other,
                head: if other { Head::MultiLabel } else { Head::Multiclass },
                ..ModelConfig::default()
            };
            (format!("{image_size} {other}"), checkpoint(config, DiffusionConfig::default()))
        })
    });
    made.collect()
}

/// A kind of file with inputs and what must come of them.
pub struct Case {
    /// Words of the command line behind `--onnx`.
    pub arguments: &'static [&'static str],
    pub inputs: BTreeMap<String, Array>,
    pub outputs: BTreeMap<String, Array>,
    /// How often the network's rounding counts in each predicted image: 1/√ᾱ.
    pub gains: Vec<f64>,
}

type Named = (&'static str, Vec<usize>, Vec<f32>);

fn case<const I: usize, const O: usize>(
    arguments: &'static [&'static str],
    inputs: [Named; I],
    outputs: [Option<Named>; O],
) -> Case {
    let arrays = |list: Vec<Named>| {
        list.into_iter()
            .map(|(name, shape, data)| {
                (name.to_owned(), Array::new(&shape, data.into_iter().map(f64::from).collect()))
            })
            .collect()
    };
    let batch = inputs[0].1[0];
    Case {
        arguments,
        inputs: arrays(inputs.into()),
        outputs: arrays(outputs.into_iter().flatten().collect()),
        gains: vec![1.0; batch],
    }
}

/// Cases of every kind for `batch` images.
pub fn cases(checkpoint: &Checkpoint, batch: usize) -> Vec<Case> {
    let config = &checkpoint.model;
    let model = Arc::new(JointModel::new(config).unwrap());
    let weights = pollster::block_on(Weights::upload(device(), model, &checkpoint.weights, None)).unwrap();
    let images = config.images(batch);
    let (size, classes) = (config.image_size, config.num_classes);
    let shape = vec![batch, config.in_channels, size, size];
    let mut drawn = vec![0.0f32; images.len()];
    uniform(Seed(5), Stream::Init, 0, 0, &mut drawn);
    let levels: Vec<f32> = drawn.iter().map(|u| (u * 255.0).round()).collect();
    let clean: Vec<f32> = levels.iter().map(|level| level / 127.5 - 1.0).collect();
    let classifier = pollster::block_on(ImageClassifier::new(&weights, batch, WeightSet::Raw)).unwrap();
    let logits = pollster::block_on(classifier.logits(&clean)).unwrap();
    let features = pollster::block_on(ImageFeatures::new(&weights, batch, WeightSet::Raw)).unwrap();
    let pooled = pollster::block_on(features.get(&clean)).unwrap();
    let answers = |logits: &[f32]| {
        let probabilities = config.head.probabilities(logits, classes).unwrap();
        [
            Some(("logits", vec![batch, classes], logits.to_vec())),
            Some(("probabilities", vec![batch, classes], probabilities)),
        ]
    };
    let features = || [Some(("features", vec![batch, pooled.len() / batch], pooled.clone()))];
    // Bytes lie channels last.
    let area = size * size;
    let bytes: Vec<f32> = levels
        .chunks(images.image_len())
        .flat_map(|image| {
            (0..image.len()).map(|i| image[i % config.in_channels * area + i / config.in_channels])
        })
        .collect();
    let bytes = || ("image", vec![batch, size, size, config.in_channels], bytes.clone());
    let floats = || ("image", shape.clone(), clean.clone());
    let mut list = vec![
        case(&["classifier"], [floats()], answers(&logits)),
        case(&["classifier", "--uint8"], [bytes()], answers(&logits)),
        case(&["features"], [floats()], features()),
        case(&["features", "--uint8"], [bytes()], features()),
    ];

    // Noised images, each at a place of its own in a chain of 25 steps.
    let schedule = Schedule::respaced(&checkpoint.diffusion, "25").unwrap();
    let places: Vec<usize> = (0..batch).map(|i| [14, 3, 21][i % 3]).collect();
    let t = schedule.model_timesteps(&places).unwrap();
    let mut noise = [vec![0.0f32; images.len()], vec![0.0f32; images.len()]];
    for (row, noise) in noise.iter_mut().enumerate() {
        normal_fill(Seed(6), Stream::InitialNoise, 0, row as u32, noise);
    }
    let [noised, fresh] = noise;
    let x_t: Vec<f32> = clean
        .iter()
        .zip(&noised)
        .enumerate()
        .map(|(i, (x, z))| {
            let [kept, noised] = schedule.q_sample_coefficients(places[i / images.image_len()]).unwrap();
            kept * x + noised * z
        })
        .collect();
    let alpha = 40.0;
    // The first image is guided; another one may be not at all.
    let (labels, rows) = match config.head {
        Head::Multiclass => {
            let numbers: Vec<u32> = (0..batch)
                .map(|i| if i == 1 { UNLABELLED } else { (i as u32 + 1) % classes as u32 })
                .collect();
            let rows = numbers
                .iter()
                .flat_map(|number| (0..classes).map(|k| f32::from(u8::from(k as u32 == *number))));
            (Labels::Classes(numbers.clone()), rows.collect::<Vec<f32>>())
        }
        Head::MultiLabel => {
            let rows: Vec<f32> = (0..batch * classes).map(|i| f32::from(u8::from(i % 3 != 1))).collect();
            (Labels::MultiLabel(rows.clone()), rows)
        }
    };
    let solver = Solver::ddim(0.7);
    let step = |guidance: Guidance, clip: bool| {
        let spec = StepSpec { guidance, clip, solver, noise: NoiseSource::Given, ..StepSpec::new(batch) };
        let new = Sampler::new(&weights, &checkpoint.diffusion, "25", spec, WeightSet::Raw);
        let sampler = pollster::block_on(new).unwrap();
        sampler.set_images(&x_t).unwrap();
        sampler.guide(&labels, alpha).unwrap();
        sampler.prepare(&places, alpha).unwrap();
        sampler.loaded().write("z", bytemuck::cast_slice(&images.to_device(&fresh).unwrap())).unwrap();
        sampler.loaded().run();
        let read = |name: &str, channels: usize| {
            let data = pollster::block_on(sampler.loaded().read(name)).unwrap();
            Images { channels, ..images }.to_host(&data).unwrap()
        };
        let out = read("model_out", config.out_channels());
        // The first channels of an image are the prediction, the rest a learned variance.
        let part = |rest: bool| -> Vec<f32> {
            let len = images.image_len();
            out.chunks(out.len() / batch)
                .flat_map(|o| if rest { &o[len..] } else { &o[..len] })
                .copied()
                .collect()
        };
        let variance = config.learn_sigma.then(|| ("variance_values", shape.clone(), part(true)));
        let after = pollster::block_on(sampler.get_images()).unwrap();
        let logits = pollster::block_on(sampler.logits()).unwrap();
        (part(false), variance, read("pred_xstart", config.in_channels), after, logits)
    };

    let noised = || [("t", vec![batch], t.clone()), ("x_t", shape.clone(), x_t.clone())];
    let (out, variance, _, _, logits) = step(Guidance::None, false);
    let name = match checkpoint.diffusion.prediction {
        Prediction::Eps => "eps",
        Prediction::XStart => "x_start",
        Prediction::V => "v",
    };
    list.push(case(&["eps"], noised(), [Some((name, shape.clone(), out)), variance]));
    let image = [("t", vec![batch], t.clone()), ("image", shape.clone(), x_t.clone())];
    list.push(case(&["classifier", "--noised"], image, answers(&logits)));

    let levels = |table: &[f64]| -> Vec<f32> { places.iter().map(|i| table[*i] as f32).collect() };
    let kinds: [(&'static [&'static str], bool); 2] =
        [(&["guided-step"], true), (&["guided-step", "--no-clip"], false)];
    for (arguments, clip) in kinds {
        let (out, variance, x_start, after, logits) = step(Guidance::Representation, clip);
        let eps = out.iter().zip(&x_t).enumerate().map(|(i, (out, x))| {
            let mix = schedule.q_sample_coefficients(places[i / images.image_len()]).unwrap();
            checkpoint.diffusion.prediction.eps(*x, *out, mix)
        });
        let eps: Vec<f32> = eps.collect();
        let [t, x] = noised();
        let each = |name, values| (name, vec![batch], values);
        let inputs = [
            t,
            x,
            ("labels", vec![batch, classes], rows.clone()),
            each("alpha", vec![alpha; batch]),
            each("alpha_bar", levels(&schedule.alphas_cumprod)),
            each("alpha_bar_prev", levels(&schedule.alphas_cumprod_prev)),
            each("eta", vec![0.7; batch]),
            ("noise", shape.clone(), fresh.clone()),
        ];
        let [logits, probabilities] = answers(&logits);
        let image = |name, data| Some((name, shape.clone(), data));
        let outputs = [
            image("eps", eps),
            image("pred_xstart", x_start),
            image("x_prev", after),
            logits,
            probabilities,
            variance,
        ];
        let gains = places.iter().map(|place| schedule.alphas_cumprod[*place].sqrt().recip()).collect();
        list.push(Case { gains, ..case(arguments, inputs, outputs) });
    }
    list
}
