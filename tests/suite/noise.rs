//! Noise prediction of networks that put out something else than eps alone. (What they predict is compared with golden
//! data.)

use super::harness::{assert_close, device, pad, tiny_config, values, wide};
use duet::diffusion::{DiffusionConfig, Prediction, Schedule};
use duet::graph::Place;
use duet::infer::{ImageClassifier, ImageFeatures, NoisePredictor, NoisedClassifier, NoisedFeatures};
use duet::model::{Builder, JointModel, Labels, ModelConfig, WeightSet};
use duet::rng::{Seed, Stream, normal_fill};
use duet::tensor::{Tensors, unpad_rows};
use duet::train::{ClassifierInput, StepInput, training_step};
use duet::weights::Weights;
use std::sync::Arc;

const TIMESTEPS: [usize; 3] = [0, 400, 999];

/// A tiny network none of whose weights is zero.
fn model(config: &ModelConfig) -> (Arc<JointModel>, Tensors) {
    let model = Arc::new(JointModel::new(config).unwrap());
    let mut weights = model.params.initial(Seed(3));
    for (number, (name, tensor)) in weights.iter_mut().enumerate() {
        if tensor.data.iter().all(|v| *v == 0.0) && !name.contains("running") {
            let fresh = values(number as u64, tensor.data.len());
            tensor.data = fresh.iter().map(|v| 0.1 * v).collect();
        }
    }
    (model, weights)
}

fn predictor(
    model: &Arc<JointModel>,
    weights: &Tensors,
    diffusion: &DiffusionConfig,
    batch: usize,
) -> NoisePredictor {
    let upload = Weights::upload(device(), Arc::clone(model), weights, None);
    let weights = pollster::block_on(upload).unwrap();
    pollster::block_on(NoisePredictor::new(&weights, diffusion, batch, WeightSet::Raw)).unwrap()
}

#[test]
fn noise_is_what_remains_of_an_image_without_a_predicted_x_start() {
    let (model, weights) = model(&tiny_config());
    let eps = DiffusionConfig::default();
    let x_start = DiffusionConfig { prediction: Prediction::XStart, ..eps.clone() };
    let len = model.config.in_channels * model.config.image_size.pow(2);
    let x = values(5, 3 * len);
    let predict = |diffusion: &DiffusionConfig| {
        let predictor = predictor(&model, &weights, diffusion, 2);
        pollster::block_on(predictor.predict(&x, &TIMESTEPS)).unwrap()
    };
    let (out, noise) = (predict(&eps), predict(&x_start));
    assert!(out.iter().any(|v| v.abs() > 1e-3), "the network puts out next to nothing");
    let schedule = Schedule::new(&eps).unwrap();
    let again: Vec<f32> = (0..x.len())
        .map(|i| {
            let [kept, noised] = schedule.q_sample_coefficients(TIMESTEPS[i / len]).unwrap();
            kept * out[i] + noised * noise[i]
        })
        .collect();
    assert_close("x_t", &again, &wide(&x), 1e-5);
}

#[test]
fn a_learned_variance_is_left_out() {
    let config = ModelConfig { learn_sigma: true, ..tiny_config() };
    let (model, weights) = model(&config);
    let diffusion = DiffusionConfig::default();
    let len = config.in_channels * config.image_size.pow(2);
    let input = StepInput {
        x_start: values(6, 3 * len),
        noise: values(7, 3 * len),
        timesteps: TIMESTEPS.to_vec(),
        labels: Labels::Classes(vec![0; 3]),
        classifier_input: ClassifierInput::None,
        classifier_loss_scaling: 0.0,
    };
    let step = pollster::block_on(training_step(device(), &model, &diffusion, &weights, &input)).unwrap();
    let schedule = Schedule::new(&diffusion).unwrap();
    let x: Vec<f32> = (0..3 * len)
        .map(|i| {
            let [kept, noised] = schedule.q_sample_coefficients(TIMESTEPS[i / len]).unwrap();
            kept * input.x_start[i] + noised * input.noise[i]
        })
        .collect();
    let predictor = predictor(&model, &weights, &diffusion, 3);
    let noise = pollster::block_on(predictor.predict(&x, &TIMESTEPS)).unwrap();
    let want: Vec<f32> = step.model_out.chunks(2 * len).flat_map(|row| &row[..len]).copied().collect();
    assert_close("eps", &noise, &wide(&want), 1e-5);
}

#[test]
fn images_and_timesteps_must_fit() {
    let (model, weights) = model(&tiny_config());
    let predictor = predictor(&model, &weights, &DiffusionConfig::default(), 2);
    let len = model.config.in_channels * model.config.image_size.pow(2);
    let fails = |values: usize, timesteps: &[usize]| {
        pollster::block_on(predictor.predict(&vec![0.0; values], timesteps)).unwrap_err().to_string()
    };
    assert!(fails(len + 1, &[0]).contains("1 images"), "part of an image");
    assert!(fails(2 * len, &[0]).contains("1 images"), "a timestep too few");
    assert!(fails(len, &[1000]).contains("below 1000"), "past the chain's end");
    assert!(pollster::block_on(predictor.predict(&[], &[])).unwrap().is_empty());
}

#[test]
fn noised_images_are_classified_as_if_the_host_had_noised_them() {
    let (model, weights) = model(&tiny_config());
    let upload = Weights::upload(device(), Arc::clone(&model), &weights, None);
    let weights = pollster::block_on(upload).unwrap();
    let diffusion = DiffusionConfig::default();
    let schedule = Schedule::new(&diffusion).unwrap();
    let len = model.config.in_channels * model.config.image_size.pow(2);
    let images = values(7, 3 * len);
    let noised = |times: [usize; 3], batch: usize| {
        let new = NoisedClassifier::new(&weights, &diffusion, batch, WeightSet::Raw);
        let classifier = pollster::block_on(new).unwrap();
        pollster::block_on(classifier.logits(&images, &times, Seed(4), 5)).unwrap()
    };
    // At step 0 the network is told what a clean image tells it.
    let [kept, share] = schedule.q_sample_coefficients(0).unwrap();
    let mut x_t = images.clone();
    for (row, image) in x_t.chunks_mut(len).enumerate() {
        let mut noise = vec![0.0; len];
        normal_fill(Seed(4), Stream::TrainNoise, 0, 5 + row as u32, &mut noise);
        image.iter_mut().zip(&noise).for_each(|(pixel, noise)| *pixel = kept * *pixel + share * noise);
    }
    let clean = pollster::block_on(ImageClassifier::new(&weights, 3, WeightSet::Raw)).unwrap();
    let want = pollster::block_on(clean.logits(&x_t)).unwrap();
    assert_close("logits", &noised([0; 3], 3), &wide(&want), 1e-4);
    // Another batch, the same noise; other steps, other answers.
    assert_close("batches", &noised(TIMESTEPS, 2), &wide(&noised(TIMESTEPS, 3)), 1e-5);
    assert_ne!(noised(TIMESTEPS, 3), noised([0; 3], 3));
}

#[test]
fn representations_of_noised_images_are_what_their_classifier_reads() {
    let (model, weights) = model(&tiny_config());
    let upload = Weights::upload(device(), Arc::clone(&model), &weights, None);
    let weights = pollster::block_on(upload).unwrap();
    let diffusion = DiffusionConfig::default();
    let len = model.config.in_channels * model.config.image_size.pow(2);
    let images = values(7, 3 * len);
    let new = NoisedFeatures::new(&weights, &diffusion, 2, WeightSet::Raw);
    let features = pollster::block_on(new).unwrap();
    let columns = features.columns();
    let get = |images: &[f32], times: &[usize], first_row: u32| {
        pollster::block_on(features.get(images, times, Seed(4), first_row)).unwrap()
    };
    let rows = get(&images, &TIMESTEPS, 5);
    assert_eq!(rows.len(), 3 * columns);

    // The head by itself, on them with the timestep at the end: the logits of the classifier of noised images.
    let mut b = Builder::new(&model.params, WeightSet::Raw, false);
    let leaf = b.graph.leaf(&[3, columns + 1], Place::whole("features"));
    let logits = model.classifier.logits(&mut b, leaf).unwrap();
    b.graph.place(logits, Place::whole("logits"));
    let head = pollster::block_on(weights.load(&b.graph.compile().unwrap())).unwrap();
    let told = Schedule::new(&diffusion).unwrap().model_timesteps(&TIMESTEPS).unwrap();
    let with_timestep: Vec<f32> =
        rows.chunks(columns).zip(&told).flat_map(|(row, t)| [row, &[*t]].concat()).collect();
    head.write("features", bytemuck::cast_slice(&pad(&[3, columns + 1], &with_timestep))).unwrap();
    head.run();
    let classes = model.config.num_classes;
    let got = unpad_rows(&pollster::block_on(head.read("logits")).unwrap(), classes);
    let new = NoisedClassifier::new(&weights, &diffusion, 3, WeightSet::Raw);
    let classifier = pollster::block_on(new).unwrap();
    let want = pollster::block_on(classifier.logits(&images, &TIMESTEPS, Seed(4), 5)).unwrap();
    assert_close("logits", &got, &wide(&want), 1e-4);

    // An image's row is its own, whatever batch it is in; another row's noise gives others.
    let last = &images[2 * len..];
    assert_eq!(get(last, &TIMESTEPS[2..], 7), rows[2 * columns..]);
    assert_ne!(get(last, &TIMESTEPS[2..], 8), rows[2 * columns..]);
    // Of hardly any noise they are next to those of clean images, which are told the same timestep.
    let new = ImageFeatures::new(&weights, 3, WeightSet::Raw);
    let clean = pollster::block_on(pollster::block_on(new).unwrap().get(&images)).unwrap();
    let apart = |rows: &[f32]| rows.iter().zip(&clean).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let (little, much) = (apart(&get(&images, &[0; 3], 5)), apart(&get(&images, &[999; 3], 5)));
    assert!(little < 0.1 * much, "{little} at step 0, {much} at the end");
    let error = pollster::block_on(features.get(&images, &[0, 0, 1000], Seed(4), 0)).unwrap_err().to_string();
    assert!(error.contains("represent noised images") && error.contains("1000"), "{error}");
}
