//! What became NaN or infinite is an error wherever it is read: no clip makes an image of it, no class is chosen of it.

use super::harness::{as_trained_on_noise, device, tiny_config, values};
use duet::checkpoint::Checkpoint;
use duet::diffusion::{DiffusionConfig, Solver};
use duet::error::Error;
use duet::explain::{ExplainOptions, Local, Method, Paper};
use duet::infer::{DenoisingError, ImageFeatures, NoisePredictor};
use duet::model::{Head, JointModel, Labels, ModelConfig, WeightSet};
use duet::rng::Seed;
use duet::sampling::Watch;
use duet::tensor::Tensors;
use duet::weights::Weights;
use duet::{Duet, LoadOptions, SampleOptions};
use std::ops::ControlFlow;
use std::sync::Arc;

const LEN: usize = 64;

/// A tiny model, opened as a file's is, some of its weights changed.
fn model(head: Head, change: impl FnOnce(&mut Tensors)) -> Duet {
    let config = ModelConfig { head, ..tiny_config() };
    let model = Arc::new(JointModel::new(&config).unwrap());
    let mut weights = model.params.initial(Seed(2));
    as_trained_on_noise(&mut weights);
    for (number, (name, tensor)) in weights.iter_mut().enumerate() {
        if tensor.data.iter().all(|v| *v == 0.0) && !name.contains("running") {
            tensor.data = values(number as u64, tensor.data.len()).iter().map(|v| 0.1 * v).collect();
        }
    }
    change(&mut weights);
    let diffusion = DiffusionConfig::default();
    let checkpoint = Checkpoint::new(config, diffusion, weights);
    let options = LoadOptions { adopted: Some(device().clone()), ..LoadOptions::default() };
    pollster::block_on(Duet::of(Arc::new(checkpoint), model, &options)).unwrap()
}

fn not_finite<T>(outcome: duet::Result<T>, words: &str) {
    match outcome {
        Err(Error::NotFinite { detail }) => assert!(detail.contains(words), "{detail}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("an answer was given"),
    }
}

#[test]
fn a_step_size_that_overflows_is_an_error_clipped_or_not() {
    let mut duet = model(Head::Multiclass, |_| {});
    let image = values(8, LEN);
    let base = ExplainOptions { respacing: "20".into(), noise: 0.3, ..ExplainOptions::paper() };
    let paper = |paper| ExplainOptions { method: Method::Paper(paper), ..base.clone() };
    let local = |strength, locality| {
        let local = Local { ladder: vec![strength], locality, normalize: false, ..Local::default() };
        ExplainOptions { method: Method::Local(local), ..base.clone() }
    };
    // From where the norms' squares overflow to where the moved representation does.
    for alpha in [1e25, 1e30, 3e38, -3e38] {
        for clip in [true, false] {
            for solver in [Solver::default(), Solver::ancestral(), Solver::named("dpm++", 0.0).unwrap()] {
                let options = paper(Paper { alpha, clip, solver, ..Paper::default() });
                let made = pollster::block_on(duet.explain(&image, 1, &options));
                not_finite(made, "the counterfactual became NaN; try a smaller --alpha");
            }
        }
        let mut hear = |_, _: &[Vec<f32>]| ControlFlow::Continue(());
        let options = paper(Paper { alpha, ..Paper::default() });
        let watched = duet.explain_watched(&image, 1, &options, Watch::Curve(&mut hear));
        not_finite(pollster::block_on(watched), "the counterfactual became NaN");
        let labels = duet.labels(1, 3).unwrap();
        let options = SampleOptions { alpha, respacing: "5".into(), ..SampleOptions::default() };
        not_finite(pollster::block_on(duet.sample(Some(&labels), 3, &options)), "smaller alpha");
    }
    for alpha in [f32::NAN, f32::INFINITY] {
        let options = paper(Paper { alpha, ..Paper::default() });
        let error = pollster::block_on(duet.explain(&image, 1, &options)).unwrap_err();
        assert!(matches!(&error, Error::Config { field, .. } if field == "alpha"), "{error}");
        let options = SampleOptions { alpha, respacing: "5".into(), ..SampleOptions::default() };
        let labels = Labels::Classes(vec![0]);
        let error = pollster::block_on(duet.sample(Some(&labels), 1, &options)).unwrap_err();
        assert!(matches!(&error, Error::Config { field, .. } if field == "alpha"), "{error}");
        // Where nothing guides it is not looked at.
        pollster::block_on(duet.sample(None, 1, &options)).unwrap();
    }
    // The model is none the worse for it.
    pollster::block_on(duet.explain(&image, 1, &paper(Paper { alpha: 5.0, ..Paper::default() }))).unwrap();
    pollster::block_on(duet.explain(&image, 1, &local(2.0, 0.2))).unwrap();
}

#[test]
fn logits_that_overflow_are_no_answer() {
    for head in [Head::Multiclass, Head::MultiLabel] {
        let mut duet = model(head, |weights| {
            for name in ["clasifier.fc_2.weight", "clasifier.bn_2.weight"] {
                weights.get_mut(name).unwrap().data.fill(3e38);
            }
        });
        let images = values(8, 3 * LEN);
        not_finite(pollster::block_on(duet.classify(&images)), "image 0");
        not_finite(pollster::block_on(duet.probabilities(&images)), "image 0");
    }
}

#[test]
fn a_network_that_overflows_has_no_features_no_noise_and_no_error_of_it() {
    let duet = model(Head::Multiclass, |weights| {
        weights.get_mut("input_blocks.0.0.weight").unwrap().data.fill(3e38);
        weights.get_mut("out.2.weight").unwrap().data.fill(3e38);
    });
    let (weights, diffusion) = (duet.weights(), DiffusionConfig::default());
    let images = values(8, 2 * LEN);
    let features = pollster::block_on(ImageFeatures::new(weights, 2, WeightSet::Raw)).unwrap();
    not_finite(pollster::block_on(features.get(&images)), "features");
    let noise = pollster::block_on(NoisePredictor::new(weights, &diffusion, 2, WeightSet::Raw)).unwrap();
    not_finite(pollster::block_on(noise.predict(&images, &[0, 900])), "noise");
    let error = pollster::block_on(DenoisingError::new(weights, &diffusion, 2, WeightSet::Raw)).unwrap();
    not_finite(pollster::block_on(error.measure(&images, &[0, 900], Seed(0), 0)), "noise error");
}

#[test]
fn a_refused_option_keeps_what_is_compiled() {
    let mut duet = model(Head::Multiclass, |_| {});
    let image = values(8, LEN);
    let fine = ExplainOptions { respacing: "20".into(), noise: 0.1, ..ExplainOptions::default() };
    let first = pollster::block_on(duet.explain(&image, 1, &fine)).unwrap();
    let made = |duet: &mut Duet| {
        // Refused, then fine again: nothing is to be made anew.
        let bad = ExplainOptions { respacing: "20,".into(), ..fine.clone() };
        assert!(pollster::block_on(duet.explain(&image, 1, &bad)).is_err());
        let before = device().counters();
        let again = pollster::block_on(duet.explain(&image, 1, &fine)).unwrap();
        assert_eq!(again.counterfactual, first.counterfactual);
        device().counters().buffers - before.buffers
    };
    // Other tests share the device: retry until one run was undisturbed.
    assert!((0..50).any(|_| made(&mut duet) == 0), "the explainer was made anew after every refusal");
    let samples = SampleOptions { respacing: "3".into(), ..SampleOptions::default() };
    pollster::block_on(duet.sample(None, 1, &samples)).unwrap();
    let made = |duet: &mut Duet| {
        let bad = SampleOptions { respacing: "0".into(), ..samples.clone() };
        assert!(pollster::block_on(duet.sample(None, 1, &bad)).is_err());
        let before = device().counters();
        pollster::block_on(duet.sample(None, 1, &samples)).unwrap();
        device().counters().buffers - before.buffers
    };
    assert!((0..50).any(|_| made(&mut duet) == 0), "the sampler was made anew after every refusal");
}

#[test]
fn values_that_do_not_fill_a_tensor_are_refused() {
    let model = Arc::new(JointModel::new(&tiny_config()).unwrap());
    for count in [0, 3, 1000] {
        let mut weights = model.params.initial(Seed(2));
        weights.get_mut("out.2.bias").unwrap().data = vec![0.0; count];
        let upload = Weights::upload(device(), Arc::clone(&model), &weights, None);
        let error = pollster::block_on(upload).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("out.2.bias") && error.contains(&count.to_string()), "{error}");
    }
}
