//! Percentiles, profiles and files.

use super::reference::{File, LEVELS, level};
use super::{LEAST_IMAGES, Protocol, Reference, Typicality, UNLIKE, parse};
use crate::diffusion::{DiffusionConfig, Schedule};
use crate::error::Error;
use crate::rng::{Seed, Stream, normal_fill, uniform};

/// Profiles whose first two numbers go together: a common part and a little of each one's own.
fn profiles(count: usize, seed: u64) -> Vec<Vec<f64>> {
    let mut numbers = vec![0.0; 4 * count];
    normal_fill(Seed(seed), Stream::TrainNoise, 0, 0, &mut numbers);
    let row = |n: &[f32]| {
        let [common, a, b, c] = [n[0], n[1], n[2], n[3]].map(f64::from);
        vec![-3.0 + 0.5 * common + 0.05 * a, -5.0 + 0.5 * common + 0.05 * b, 0.1 * c]
    };
    numbers.chunks_exact(4).map(row).collect()
}

fn protocol() -> Protocol {
    Protocol { timesteps: vec![10], seed: Seed(0) }
}

fn reference() -> Reference {
    Reference::new(protocol(), &profiles(4000, 1)).unwrap()
}

#[test]
fn percentiles_of_images_like_the_training_data_are_uniform() {
    let reference = reference();
    for (seed, slack) in [(1, 0.003), (2, 0.03)] {
        let mut found: Vec<f64> = profiles(4000, seed)
            .iter()
            .map(|profile| reference.typicality(profile).unwrap().percentile / 100.0)
            .collect();
        found.sort_by(f64::total_cmp);
        // Kolmogorov and Smirnov's distance from the uniform distribution.
        let far = found.iter().enumerate().map(|(i, p)| (p - i as f64 / 4000.0).abs()).fold(0.0, f64::max);
        assert!(far < slack, "seed {seed}: {far}");
        let unlike = found.iter().filter(|p| 100.0 * **p > UNLIKE).count();
        assert!((25..60).contains(&unlike), "seed {seed}: {unlike} of 4000, nominal 40");
    }
}

#[test]
fn too_large_too_small_and_out_of_proportion_are_unlike() {
    let reference = reference();
    let unlike = |[a, b]: [f64; 2]| reference.typicality(&[a, b, 0.0]).unwrap();
    assert!(!unlike([-3.0, -5.0]).unlike && !unlike([-2.5, -4.5]).unlike);
    // Both numbers of the third are well within their own range.
    for profile in [[0.0, -2.0], [-6.0, -8.0], [-2.7, -5.3]] {
        let found = unlike(profile);
        assert!(found.unlike && found.percentile == 100.0, "{profile:?}: {found:?}");
        assert_eq!(found.to_string(), "unlike the training data (beyond all of it)");
    }
    let words = Typicality { percentile: 99.97, unlike: true }.to_string();
    assert_eq!(words, "unlike the training data (beyond 99.9 % of it)");
    assert!(reference.typicality(&[0.0]).is_err() && reference.typicality(&[f64::NAN, 0.0, 0.0]).is_err());
}

#[test]
fn the_score_is_the_distance_by_hand() {
    // Covariance [[4, 2], [2, 5]] of the first two: its inverse is [[5, −2], [−2, 4]] / 16. The third is on its own.
    let scores: Vec<f64> = (0..LEVELS).map(level).collect();
    let file = File {
        version: 1,
        timesteps: vec![1],
        seed: 0,
        images: 100,
        mean: vec![1.0, -1.0, 3.0],
        covariance: vec![4.0, 2.0, 0.0, 2.0, 5.0, 0.0, 0.0, 0.0, 9.0],
        scores,
    };
    let reference = Reference::try_from(file).unwrap();
    let [x, y, z] = [2.0f64, 4.0, 6.0];
    let by_hand = ((5.0 * x * x - 4.0 * x * y + 4.0 * y * y) / 16.0 + z * z / 9.0).sqrt();
    let found = reference.typicality(&[1.0 + x, -1.0 + y, 3.0 + z]).unwrap();
    assert!((found.percentile - by_hand).abs() < 1e-12, "the score of each percentile is itself here");
}

#[test]
fn a_profile_is_errors_and_their_mean() {
    let schedule = Schedule::new(&DiffusionConfig::default()).unwrap();
    let protocol = Protocol::new(&DiffusionConfig::default());
    // Two channels of 4 × 4 pixels: the border is one pixel wide.
    let mut image = vec![0.0; 32];
    uniform(Seed(3), Stream::Init, 0, 0, &mut image);
    let noised = protocol.noised(&schedule, &image).unwrap();
    // A network that takes the noised image itself for the noise.
    let profile = protocol.profile(&noised, 4).unwrap();
    for (slot, timestep) in protocol.timesteps().iter().enumerate() {
        let mut noise = vec![0.0; 32];
        normal_fill(Seed(0), Stream::TrainNoise, 0, slot as u32, &mut noise);
        let [kept, share] = schedule.q_sample_coefficients(*timestep).unwrap().map(f64::from);
        let error = |i: &usize| {
            let e = f64::from(noise[*i]);
            kept * f64::from(image[*i]) + share * e - e
        };
        let all: Vec<f64> = (0..32).map(|i| error(&i)).collect();
        let border: Vec<f64> =
            (0..32).filter(|i| ![5, 6, 9, 10].contains(&(i % 16))).map(|i| error(&i)).collect();
        let square = |errors: &[f64]| errors.iter().map(|e| e * e).sum::<f64>() / errors.len() as f64;
        let mean = all.iter().sum::<f64>() / 32.0;
        let expected = [square(&all).ln(), square(&border).ln(), mean / square(&all).sqrt()];
        for (found, expected) in profile[3 * slot..].iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{slot}: {found} {expected}");
        }
    }
    assert_eq!(profile.len(), protocol.profile_len());
    assert!(protocol.profile(&noised[1..], 4).is_err() && protocol.profile(&noised, 5).is_err());
    assert!(matches!(protocol.profile(&[f32::NAN; 2], 1), Err(Error::NotFinite { .. })));
    let short = Schedule::new(&DiffusionConfig { diffusion_steps: 100, ..Default::default() }).unwrap();
    assert!(protocol.noised(&short, &image).is_err());
    for steps in [1, 2, 7, 4000] {
        let config = DiffusionConfig { diffusion_steps: steps, ..Default::default() };
        assert!(Protocol::new(&config).timesteps().iter().all(|t| *t < steps));
    }
}

#[test]
fn files_are_read_as_written_and_malformed_ones_refused() {
    let written = reference();
    let text = serde_json::to_string(&written).unwrap();
    assert_eq!(parse(&text).unwrap(), Some(written));
    assert!(text.len() < 3000, "{}", text.len());
    let good: serde_json::Value = serde_json::from_str(&text).unwrap();
    let change = |key: &str, value: serde_json::Value| {
        let mut file = good.clone();
        file[key] = value;
        parse(&file.to_string())
    };
    assert_eq!(change("version", 2.into()).unwrap(), None, "of a later version nothing is known");
    let scores = || good["scores"].as_array().unwrap().clone();
    let mut unsorted = scores();
    unsorted.swap(3, 90);
    let mut negative = scores();
    negative[0] = (-0.5).into();
    let cases = [
        ("version", 0.into(), "version"),
        ("scores", unsorted.into(), "not in order"),
        ("scores", negative.into(), "not in order"),
        ("scores", scores()[1..].to_vec().into(), "109 scores"),
        ("scores", serde_json::Value::Null, "null"),
        ("mean", vec![0.0; 2].into(), "2 means"),
        ("mean", vec![serde_json::Value::Null; 3].into(), "null"),
        ("covariance", vec![1.0; 3].into(), "3 covariances"),
        ("covariance", vec![1.0, 0.5, 0.0, 0.4, 1.0, 0.0, 0.0, 0.0, 1.0].into(), "symmetric"),
        ("covariance", vec![1.0, 2.0, 0.0, 2.0, 1.0, 0.0, 0.0, 0.0, 1.0].into(), "positive definite"),
        ("covariance", vec![0.0; 9].into(), "positive definite"),
        ("timesteps", Vec::<u64>::new().into(), "0 timesteps"),
        ("timesteps", vec![1; 17].into(), "17 timesteps"),
        ("further", 1.into(), "further"),
    ];
    for (key, value, word) in cases {
        let error = change(key, value).unwrap_err();
        assert!(error.contains(word), "{key}: {error}");
    }
    assert!(parse(&text.replacen("\"mean\":[-", "\"mean\":[1e999,-", 1)).is_err());
    for few in [0, 1, LEAST_IMAGES - 1] {
        assert!(Reference::new(protocol(), &profiles(few, 1)).is_err());
    }
    // Images that are all alike: what differs by more than a few per cent is unlike.
    let alike = Reference::new(protocol(), &vec![vec![-3.0, -4.0, 0.0]; 100]).unwrap();
    assert!(
        !alike.typicality(&[-3.0, -4.0, 0.0]).unwrap().unlike
            && alike.typicality(&[-2.0, -4.0, 0.0]).unwrap().unlike
    );
    let nan = vec![vec![f64::NAN, 0.0, 0.0]; 100];
    assert!(matches!(Reference::new(protocol(), &nan), Err(Error::NotFinite { .. })));
}
