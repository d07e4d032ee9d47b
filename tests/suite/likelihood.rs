//! The bound on the negative log-likelihood against the reference's formulas in NumPy (`tests/fixtures/likelihood.py`), and of a
//! network on a device against the same terms from its output.

use super::harness::{device, tiny_config, values};
use duet::diffusion::{DiffusionConfig, Noised, Prediction, Schedule};
use duet::infer::{LikelihoodBound, NoisePredictor};
use duet::model::{JointModel, ModelConfig, WeightSet};
use duet::rng::{Seed, Stream, normal_fill};
use duet::weights::Weights;
use serde::Deserialize;
use std::sync::Arc;

#[derive(Deserialize)]
struct Case {
    t: usize,
    prediction: Prediction,
    learned: bool,
    x_start: Vec<f32>,
    noise: Vec<f32>,
    out: Vec<f32>,
    bits: f64,
    x_start_mse: f64,
    eps_mse: f64,
    prior: f64,
}

fn close(got: f64, want: f64, within: f64, what: &str) {
    assert!((got - want).abs() <= within * want.abs(), "{what}: {got} instead of {want}");
}

#[test]
fn terms_as_numpy_has_them() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../fixtures/likelihood.json")).unwrap();
    assert_eq!(cases.len(), 20);
    let schedule = Schedule::new(&DiffusionConfig::default()).unwrap();
    for case in &cases {
        let Case { t, prediction, learned, x_start, noise, out, .. } = case;
        let what = format!("t = {t}, {prediction:?}, learned {learned}");
        let term = schedule.bound_term(*t, *prediction, Noised { x_start, noise, out }).unwrap();
        close(term.bits, case.bits, 1e-7, &what);
        close(term.x_start_mse, case.x_start_mse, 1e-9, &what);
        close(term.eps_mse, case.eps_mse, 1e-9, &what);
        close(schedule.prior_bits(x_start), case.prior, 1e-9, &what);
    }
    let image = [0.0f32; 4];
    let fails = |t: usize, out: &[f32]| {
        let noised = Noised { x_start: &image, noise: &image, out };
        schedule.bound_term(t, Prediction::Eps, noised).unwrap_err().to_string()
    };
    assert!(fails(1000, &image).contains("1000") && fails(0, &image[..3]).contains("3 put out"));
}

#[test]
fn a_network_s_terms_are_those_of_its_output() {
    let diffusion = DiffusionConfig::default();
    let schedule = Schedule::new(&diffusion).unwrap();
    let weights = |learn_sigma: bool| {
        let config = ModelConfig { learn_sigma, ..tiny_config() };
        let model = Arc::new(JointModel::new(&config).unwrap());
        let mut weights = model.params.initial(Seed(3));
        for (number, (name, tensor)) in weights.iter_mut().enumerate() {
            if tensor.data.iter().all(|v| *v == 0.0) && !name.contains("running") {
                let fresh = values(number as u64, tensor.data.len());
                tensor.data = fresh.iter().map(|v| 0.1 * v).collect();
            }
        }
        pollster::block_on(Weights::upload(device(), model, &weights, None)).unwrap()
    };
    let plain = weights(false);
    let config = plain.model().config.clone();
    let len = config.images(1).image_len();
    let images: Vec<f32> = values(4, 3 * len).iter().map(|v| v.clamp(-1.0, 1.0)).collect();
    let (timesteps, rows) = ([0, 400, 999], [7, 7, 2]);
    // Three images in batches of two.
    let bound = LikelihoodBound::new(&plain, &diffusion, 2, WeightSet::Raw);
    let bound = pollster::block_on(bound).unwrap();
    let terms = pollster::block_on(bound.terms(&images, &timesteps, Seed(5), &rows)).unwrap();
    let predictor = NoisePredictor::new(&plain, &diffusion, 3, WeightSet::Raw);
    let predictor = pollster::block_on(predictor).unwrap();
    for (((image, t), row), term) in images.chunks(len).zip(timesteps).zip(rows).zip(&terms) {
        let mut noise = vec![0.0; len];
        normal_fill(Seed(5), Stream::TrainNoise, t as u32, row, &mut noise);
        let noised = schedule.noised(t, image, &noise).unwrap();
        let out = pollster::block_on(predictor.predict(&noised, &[t])).unwrap();
        let noised = Noised { x_start: image, noise: &noise, out: &out };
        let want = schedule.bound_term(t, Prediction::Eps, noised).unwrap();
        close(term.bits, want.bits, 1e-4, "bits");
        close(term.eps_mse, want.eps_mse, 1e-4, "eps");
        close(bound.prior(image), schedule.prior_bits(image), 0.0, "prior");
    }
    // The same image at the same step and row again, in another place of another batch.
    let again = pollster::block_on(bound.terms(&images[len..2 * len], &[400], Seed(5), &[7])).unwrap();
    close(again[0].bits, terms[1].bits, 1e-5, "alone");
    let wrong = pollster::block_on(bound.terms(&images, &[0, 1], Seed(5), &rows)).unwrap_err();
    assert!(wrong.to_string().contains("2 timesteps"), "{wrong}");
    assert!(pollster::block_on(bound.terms(&images[..len], &[1000], Seed(5), &[0])).is_err());

    // A learned variance is read from behind the prediction, and makes another term of it.
    let weights = weights(true);
    let learned = LikelihoodBound::new(&weights, &diffusion, 3, WeightSet::Raw);
    let learned = pollster::block_on(learned).unwrap();
    let terms = pollster::block_on(learned.terms(&images, &timesteps, Seed(5), &rows)).unwrap();
    assert!(terms.iter().all(|term| term.bits.is_finite() && term.bits > 0.0), "{terms:?}");
}
