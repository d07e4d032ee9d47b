//! Counterfactuals by either method: masks, reuse of what is compiled, and options out of range.

use super::harness::{as_trained_on_noise, device, tiny_config, values};
use duet::Error;
use duet::diffusion::{DiffusionConfig, Solver};
use duet::explain::{ExplainOptions, Explainer, Explanation, Local, Method, Paper, Request};
use duet::gpu::{Device, DeviceOptions};
use duet::infer::{ImageClassifier, ImageFeatures};
use duet::model::{Head, JointModel, ModelConfig, ParamSet, Target, WeightSet};
use duet::rng::Seed;
use duet::sampling::{Guidance, Watch};
use duet::weights::Weights;
use std::sync::Arc;

const SIZE: usize = 8;
const BATCH: usize = 2;

fn weights(device: &Device) -> Weights {
    weights_of(device, Head::Multiclass)
}

fn weights_of(device: &Device, head: Head) -> Weights {
    let config = ModelConfig { in_channels: 3, attention_resolutions: vec![], head, ..tiny_config() };
    let model = Arc::new(JointModel::new(&config).unwrap());
    let mut tensors = model.params.initial(Seed(2));
    as_trained_on_noise(&mut tensors);
    pollster::block_on(Weights::upload(device, model, &tensors, None)).unwrap()
}

fn images() -> Vec<f32> {
    values(8, BATCH * 3 * SIZE * SIZE)
}

fn explainer(weights: &Weights, options: &ExplainOptions) -> Explainer {
    let diffusion = DiffusionConfig::default();
    pollster::block_on(Explainer::new(weights, &diffusion, BATCH, options, WeightSet::Raw)).unwrap()
}

fn request(image: usize, target: impl Into<Target>, options: &ExplainOptions) -> Request {
    Request { image, target: target.into(), seed: options.seed }
}

fn explain(explainer: &mut Explainer, options: &ExplainOptions) -> Vec<Explanation> {
    let requests = [request(0, 1, options), request(1, 2, options)];
    pollster::block_on(explainer.explain(&images(), &requests, 0, Watch::None)).unwrap()
}

fn paper(paper: Paper) -> ExplainOptions {
    ExplainOptions {
        respacing: "20".into(),
        noise: 0.3,
        method: Method::Paper(paper),
        ..ExplainOptions::paper()
    }
}

/// A chain of each method that changes much of an image of a fresh network.
fn both() -> [ExplainOptions; 2] {
    let local = Local { ladder: vec![8.0], locality: 0.05, ..Local::default() };
    let method = Method::Local(local);
    let local = ExplainOptions { respacing: "20".into(), noise: 0.3, method, ..ExplainOptions::default() };
    [paper(Paper { alpha: 5.0, ..Paper::default() }), local]
}

fn counterfactuals(made: &[Explanation]) -> Vec<f32> {
    made.iter().flat_map(|one| one.counterfactual.iter().copied()).collect()
}

#[test]
fn representations_are_of_each_image_alone() {
    let weights = weights(device());
    let features = pollster::block_on(ImageFeatures::new(&weights, 2, WeightSet::Raw)).unwrap();
    let len = 3 * SIZE * SIZE;
    let three = values(9, 3 * len);
    let got = pollster::block_on(features.get(&three)).unwrap();
    assert_eq!(got.len(), 3 * features.columns());
    assert!(features.columns() > tiny_config().num_channels);
    for (i, row) in got.chunks_exact(features.columns()).enumerate() {
        let alone = pollster::block_on(features.get(&three[i * len..][..len])).unwrap();
        assert_eq!(row, alone, "image {i}");
        assert!(row.iter().any(|v| *v != 0.0) && row.iter().all(|v| v.is_finite()));
    }
    assert_ne!(got[..features.columns()], got[features.columns()..2 * features.columns()]);
    let error = pollster::block_on(features.get(&three[1..])).unwrap_err();
    assert!(error.to_string().contains("features"), "{error}");
}

#[test]
fn a_mask_keeps_what_is_not_free() {
    let weights = weights(device());
    // The upper half is free.
    let mask: Vec<f32> = (0..SIZE * SIZE).map(|p| f32::from(u8::from(p < SIZE * SIZE / 2))).collect();
    for options in both() {
        let masked = ExplainOptions { mask: Some(mask.clone()), ..options.clone() };
        let made = explain(&mut explainer(&weights, &masked), &masked);
        let free = explain(&mut explainer(&weights, &options), &options);
        let (mut moved, mut would) = (0, 0);
        for (one, free) in made.iter().zip(&free) {
            for (i, difference) in one.difference.iter().enumerate() {
                if mask[i % (SIZE * SIZE)] == 0.0 {
                    assert_eq!(*difference, 0.0, "{}: element {i} is kept", options.method.name());
                    would += usize::from(free.difference[i] != 0.0);
                } else {
                    moved += usize::from(*difference != 0.0);
                }
            }
            assert_eq!(one.curve.len(), 6);
        }
        let third = images().len() / 3;
        assert!(moved > third && would > third, "{}: {moved}, {would}", options.method.name());
    }
}

#[test]
fn options_change_without_compiling_and_give_the_same_as_afresh() {
    // A device of its own: what other tests compile does not count.
    let device = pollster::block_on(Device::open(&DeviceOptions::default())).unwrap();
    let weights = weights(&device);
    for options in both() {
        let name = options.method.name();
        let mut kept = explainer(&weights, &options);
        let first = explain(&mut kept, &options);
        let method = match &options.method {
            Method::Paper(paper) => {
                Method::Paper(Paper { alpha: 9.0, solver: Solver::ddim(0.5), ..paper.clone() })
            }
            Method::Local(local) => {
                Method::Local(Local { ladder: vec![3.0, 5.0], locality: 0.02, keep: 0.5, ..local.clone() })
            }
        };
        let chain = ExplainOptions { respacing: "30".into(), noise: 0.2, seed: Seed(4), ..options.clone() };
        let other = ExplainOptions { method: method.clone(), ..chain };
        let before = device.counters().pipelines;
        assert!(pollster::block_on(kept.change(&other)).unwrap(), "{name}");
        let changed = explain(&mut kept, &other);
        assert!(counterfactuals(&changed) != counterfactuals(&first), "{name}");
        let afresh = explain(&mut explainer(&weights, &other), &other);
        assert_eq!(counterfactuals(&changed), counterfactuals(&afresh), "{name}");
        assert_eq!(device.counters().pipelines, before, "{name}: every pipeline was there already");
        let masked = ExplainOptions { mask: Some(vec![1.0; SIZE * SIZE]), ..other.clone() };
        assert!(!pollster::block_on(kept.change(&masked)).unwrap(), "{name}: a mask is another step");
        // Back again: what was kept of the other chain is not taken for this one's.
        assert!(pollster::block_on(kept.change(&options)).unwrap());
        assert_eq!(explain(&mut kept, &options), first, "{name}");
    }
    // Solvers are numbers: every one runs the same step.
    let [options, local] = both();
    let mut kept = explainer(&weights, &options);
    let ancestral = paper(Paper { alpha: 5.0, solver: Solver::ancestral(), ..Paper::default() });
    let before = device.counters().pipelines;
    assert!(pollster::block_on(kept.change(&ancestral)).unwrap());
    let changed = explain(&mut kept, &ancestral);
    let afresh = explain(&mut explainer(&weights, &ancestral), &ancestral);
    assert_eq!(counterfactuals(&changed), counterfactuals(&afresh));
    assert_eq!(device.counters().pipelines, before, "nor has another solver a kernel of its own");
    assert!(!pollster::block_on(kept.change(&local)).unwrap(), "another method is another step");
}

#[test]
fn options_out_of_range_are_named() {
    let weights = weights(device());
    let pixels = images();
    for options in both() {
        let mut kept = explainer(&weights, &options);
        let mut said =
            |options: &ExplainOptions| pollster::block_on(kept.change(options)).unwrap_err().to_string();
        for noise in [0.0, -0.1, 1.1, f64::NAN] {
            let error = said(&ExplainOptions { noise, ..options.clone() });
            assert!(error.contains("noise"), "{error}");
        }
        for mask in [vec![1.0; 3], vec![2.0; SIZE * SIZE]] {
            let error = said(&ExplainOptions { mask: Some(mask), ..options.clone() });
            assert!(error.contains("mask"), "{error}");
        }
        let requests = [request(0, 1, &options), request(2, 1, &options)];
        let run = kept.explain(&pixels, &requests, 0, Watch::None);
        assert!(pollster::block_on(run).unwrap_err().to_string().contains("image 2"));
        let without = Target { class: 0, present: false };
        for (target, word) in [(Target::from(3), "class"), (without, "cannot be taken away")] {
            let requests = [request(0, target, &options)];
            let run = kept.explain(&pixels, &requests, 0, Watch::None);
            let error = pollster::block_on(run).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        let run = kept.variants(&pixels[..3 * SIZE * SIZE], 1.into(), 0, Watch::None);
        assert!(pollster::block_on(run).unwrap_err().to_string().contains("variants"));
    }
    let [options, local] = both();
    let mut kept = explainer(&weights, &options);
    let eta = paper(Paper { solver: Solver::ddim(1.5), ..Paper::default() });
    assert!(pollster::block_on(kept.change(&eta)).unwrap_err().to_string().contains("eta"));
    let mut kept = explainer(&weights, &local);
    let bad = [
        (Local { ladder: vec![], ..Local::default() }, "strength"),
        (Local { ladder: vec![1.0, f32::NAN], ..Local::default() }, "strength"),
        (Local { locality: -0.1, ..Local::default() }, "locality"),
        (Local { locality: f32::INFINITY, ..Local::default() }, "locality"),
        (Local { keep: f32::NAN, ..Local::default() }, "keep"),
    ];
    for (bad, field) in bad {
        let options = ExplainOptions { method: Method::Local(bad), ..local.clone() };
        let error = pollster::block_on(kept.change(&options)).unwrap_err();
        assert!(matches!(&error, Error::Config { field: named, .. } if named == field), "{error}");
    }
}

#[test]
fn a_classifier_of_clean_images_alone_does_not_guide() {
    let config = ModelConfig { in_channels: 3, attention_resolutions: vec![], ..tiny_config() };
    let model = Arc::new(JointModel::new(&config).unwrap());
    let mut tensors = model.params.initial(Seed(2));
    tensors.get_mut("clasifier.bn_1.running_var").unwrap().data.fill(0.0);
    let weights = pollster::block_on(Weights::upload(device(), model, &tensors, None)).unwrap();
    let diffusion = DiffusionConfig::default();
    for options in both() {
        let new = |options: &ExplainOptions| {
            pollster::block_on(Explainer::new(&weights, &diffusion, 1, options, WeightSet::Raw)).map(|_| ())
        };
        let error = new(&options).unwrap_err().to_string();
        assert!(error.contains("clean images only"), "{error}");
        new(&ExplainOptions { force: true, ..options.clone() }).unwrap();
        let method = match options.method.clone() {
            Method::Paper(paper) => Method::Paper(Paper { guidance: Guidance::None, ..paper }),
            Method::Local(local) => Method::Local(Local { guidance: Guidance::None, ..local }),
        };
        new(&ExplainOptions { method, ..options }).unwrap();
    }
}

#[test]
fn a_label_is_added_to_or_taken_from_those_decided_now() {
    let weights = weights_of(device(), Head::MultiLabel);
    let pixels = images();
    for options in both() {
        let mut explainer = explainer(&weights, &options);
        let before = pollster::block_on(explainer.probabilities(&images())).unwrap();
        let flipped =
            |image: usize, class: usize| Target { class, present: before[image * 3 + class] <= 0.5 };
        let requests = [request(0, flipped(0, 0), &options), request(1, flipped(1, 2), &options)];
        let run = explainer.explain(&pixels, &requests, 0, Watch::None);
        for made in pollster::block_on(run).unwrap() {
            let (reached, moved) = Head::MultiLabel.reached(&made.before, &made.after, made.target).unwrap();
            assert_eq!((made.reached, made.moved), (reached, moved));
            let p = made.after[made.target.class];
            let was = made.before[made.target.class];
            let towards = if made.target.present { p - was } else { was - p };
            assert!(towards > 0.0, "{}: {was} became {p}", options.method.name());
            assert_eq!(made.curve.len(), 6);
        }
    }
}

#[test]
fn weights_that_are_not_there_are_an_error_and_not_zeros() {
    let weights = weights_of(device(), Head::Multiclass);
    let of = |set| pollster::block_on(ImageClassifier::new(&weights, 1, set)).map(|_| ());
    of(WeightSet::Raw).unwrap();
    let error = of(WeightSet::Averaged).unwrap_err().to_string();
    assert!(error.contains("no moving average"), "{error}");
    assert!(pollster::block_on(weights.download(ParamSet::FirstMoment, false)).is_err());
}
