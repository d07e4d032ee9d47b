//! Counterfactuals: masks, reuse of what is compiled, and options out of range.

use super::harness::{as_trained_on_noise, device, tiny_config, values};
use duet::diffusion::{DiffusionConfig, Solver};
use duet::explain::{ExplainOptions, Explainer, Explanation};
use duet::gpu::{Device, DeviceOptions};
use duet::infer::{ImageClassifier, ImageFeatures};
use duet::model::{Head, JointModel, Labels, ModelConfig, ParamSet, WeightSet};
use duet::rng::Seed;
use duet::sampling::Watch;
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

fn explain(explainer: &Explainer) -> Explanation {
    pollster::block_on(explainer.explain(&images(), &Labels::Classes(vec![1, 2]), 0, Watch::None)).unwrap()
}

fn options() -> ExplainOptions {
    ExplainOptions { respacing: "20".into(), noise: 0.3, alpha: 5.0, ..ExplainOptions::default() }
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
    let made = explain(&explainer(&weights, &ExplainOptions { mask: Some(mask.clone()), ..options() }));
    let mut moved = 0;
    for (i, difference) in made.difference.iter().enumerate() {
        if mask[i % (SIZE * SIZE)] == 0.0 {
            assert_eq!(*difference, 0.0, "element {i} is kept");
        } else {
            moved += usize::from(*difference != 0.0);
        }
    }
    assert!(moved > images().len() / 3, "{moved} free elements moved");
    assert_eq!(made.curve.len(), 6);
}

#[test]
fn options_change_without_compiling_and_give_the_same_as_afresh() {
    // A device of its own: what other tests compile does not count.
    let device = pollster::block_on(Device::open(&DeviceOptions::default())).unwrap();
    let weights = weights(&device);
    let mut kept = explainer(&weights, &options());
    let first = explain(&kept);
    let other = ExplainOptions {
        respacing: "30".into(),
        noise: 0.2,
        alpha: 9.0,
        seed: Seed(4),
        solver: Solver::ddim(0.5),
        ..options()
    };
    let before = device.counters().pipelines;
    assert!(pollster::block_on(kept.change(&other)).unwrap());
    let changed = explain(&kept);
    assert!(changed.counterfactual != first.counterfactual);
    assert_eq!(changed.counterfactual, explain(&explainer(&weights, &other)).counterfactual);
    assert_eq!(device.counters().pipelines, before, "every pipeline was there already");
    let masked = ExplainOptions { mask: Some(vec![1.0; SIZE * SIZE]), ..other.clone() };
    assert!(!pollster::block_on(kept.change(&masked)).unwrap(), "a mask is another step");
    // Solvers are numbers: every one runs the same step.
    let ancestral = ExplainOptions { solver: Solver::ancestral(), ..other };
    assert!(pollster::block_on(kept.change(&ancestral)).unwrap());
    assert_eq!(explain(&kept).counterfactual, explain(&explainer(&weights, &ancestral)).counterfactual);
    assert_eq!(device.counters().pipelines, before, "nor has another solver a kernel of its own");
}

#[test]
fn options_out_of_range_are_named() {
    let weights = weights(device());
    let mut kept = explainer(&weights, &options());
    for noise in [0.0, -0.1, 1.1, f64::NAN] {
        let error =
            pollster::block_on(kept.change(&ExplainOptions { noise, ..options() })).unwrap_err().to_string();
        assert!(error.contains("noise"), "{error}");
    }
    let eta = ExplainOptions { solver: Solver::ddim(1.5), ..options() };
    assert!(pollster::block_on(kept.change(&eta)).unwrap_err().to_string().contains("eta"));
    for mask in [vec![1.0; 3], vec![2.0; SIZE * SIZE]] {
        let explainer = explainer(&weights, &ExplainOptions { mask: Some(mask), ..options() });
        let images = images();
        let wanted = Labels::Classes(vec![1, 2]);
        let run = explainer.explain(&images, &wanted, 0, Watch::None);
        assert!(pollster::block_on(run).unwrap_err().to_string().contains("mask"));
    }
}

#[test]
fn a_label_is_added_to_those_decided_now() {
    let weights = weights_of(device(), Head::MultiLabel);
    let explainer = explainer(&weights, &options());
    let targets = pollster::block_on(explainer.targets(&images(), &[0, 2])).unwrap();
    let Labels::MultiLabel(wanted) = &targets else { panic!("{targets:?}") };
    assert!(wanted[0] == 1.0 && wanted[3 + 2] == 1.0, "{targets:?}");
    let images = images();
    let run = explainer.explain(&images, &targets, 0, Watch::None);
    let made = pollster::block_on(run).unwrap();
    for (i, (wanted, before)) in wanted.iter().zip(&made.before).enumerate() {
        assert!([0, 3 + 2].contains(&i) || *wanted == f32::from(u8::from(*before > 0.5)), "label {i}");
    }
    let error = pollster::block_on(explainer.targets(&images, &[0, 3])).unwrap_err().to_string();
    assert!(error.contains("class"), "{error}");
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
