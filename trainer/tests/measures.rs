//! Measurements of the shipped model on the pictures beside it, 64 official test images.

use duet::Duet;
use duet::model::{Labels, WeightSet};
use duet::picture::Pictures;
use duet::rng::{Seed, Stream, normal_fill};
use duet_trainer::data::{Dataset, Split, Summary, load_image};
use duet_trainer::eval::accuracy::accuracy;
use duet_trainer::eval::corrupted::{Corruption, Corruptor, LEVELS, Options as Corrupted, accuracies};
use duet_trainer::eval::probes::{self, by_timestep};
use duet_trainer::eval::unlike::{Scorer, compare, default_timesteps};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/demo/public")
}

/// The shipped model; one for all tests, which take turns.
fn shipped() -> MutexGuard<'static, Option<Duet>> {
    static SHIPPED: Mutex<Option<Duet>> = Mutex::new(None);
    let mut shipped = SHIPPED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    shipped.get_or_insert_with(|| {
        pollster::block_on(Duet::load(demo().join("model.safetensors"))).expect("the shipped model")
    });
    shipped
}

/// The pictures with their classes.
fn garments(duet: &Duet) -> Dataset {
    let config = &duet.checkpoint().model;
    let class_names: Vec<String> = (0..config.num_classes).map(|class| config.class_name(class)).collect();
    let text = std::fs::read_to_string(demo().join("images/index.json")).unwrap();
    let listed: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(listed.len(), 64);
    let (mut images, mut classes) = (Vec::new(), Vec::new());
    for one in &listed {
        let path = demo().join("images").join(one["file"].as_str().unwrap());
        images.extend(load_image(&path, &duet.checkpoint().preparation()).unwrap().levels);
        let is = |name: &String| Some(name.as_str()) == one["label"].as_str();
        classes.push(class_names.iter().position(is).unwrap() as u32);
    }
    Dataset { images: images.into(), labels: Labels::Classes(classes), channels: 1, size: 28, class_names }
}

/// Rows of a data set.
fn part(data: &Dataset, rows: std::ops::Range<usize>) -> Dataset {
    let len = data.image_len();
    let labels = data.labels.rows(rows.clone(), data.class_names.len()).unwrap();
    Dataset {
        images: data.images.levels()[rows.start * len..rows.end * len].to_vec().into(),
        labels,
        ..data.clone()
    }
}

#[test]
fn noise_and_patterns_are_unlike_garments_by_every_score() {
    let shipped = shipped();
    let duet = shipped.as_ref().unwrap();
    let (weights, diffusion) = (duet.weights(), &duet.checkpoint().diffusion);
    let garments = part(&garments(duet), 0..24);
    // Levels drawn at random, and chessboards of fields of one to six pixels.
    let mut noise = vec![0.0; 6 * 784];
    normal_fill(Seed(5), Stream::Init, 0, 0, &mut noise);
    let mut images: Vec<u8> = noise.iter().map(|v| (127.5 + 80.0 * v) as u8).collect();
    for field in 1..7 {
        let light = |i: usize| (i % 28 / field + i / 28 / field).is_multiple_of(2);
        images.extend((0..784).map(|i| if light(i) { 255 } else { 0 }));
    }
    let others = Dataset { images: images.into(), labels: Labels::Classes(vec![0; 12]), ..garments.clone() };

    let timesteps = default_timesteps(diffusion);
    assert_eq!(timesteps.len(), 2);
    let new = |timesteps: &[usize]| {
        Scorer::new(weights, diffusion, WeightSet::Raw, 8, timesteps, Seed(3)).map_err(|e| e.to_string())
    };
    let scorer = new(&timesteps).unwrap();
    let like = scorer.data(&garments, 24, true).unwrap();
    let unlike = scorer.data(&others, 12, true).unwrap();
    assert_eq!((like.energy.len(), unlike.doubt.len()), (24, 12));
    let found = compare(&like, &unlike).unwrap();
    let noise = found.noise_error.unwrap();
    assert!(noise.auroc > 0.95 && noise.fpr95 < 0.2, "{found:?}");
    assert!(
        [found.energy.auroc, found.doubt.auroc].iter().all(|auroc| (0.0..=1.0).contains(auroc)),
        "{found:?}"
    );

    // An image's scores are its own.
    let alone = scorer.images(&garments.images_f32(&[7])).unwrap();
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-4 * b.abs().max(0.1), "{a} instead of {b}");
    close(alone.energy[0], like.energy[7]);
    close(alone.doubt[0], like.doubt[7]);
    close(alone.noise_error.unwrap()[0], like.noise_error.as_ref().unwrap()[7]);
    // Without timesteps there is no noise error, and past the end none.
    let quick = new(&[]).unwrap().images(&garments.images_f32(&[7])).unwrap();
    assert_eq!((quick.noise_error, quick.energy), (None, alone.energy));
    assert!(new(&[1000]).err().unwrap().contains("below 1000"));
}

#[test]
fn corruptions_are_what_they_say() {
    let shipped = shipped();
    let duet = shipped.as_ref().unwrap();
    let garments = part(&garments(duet), 0..3);
    let x = garments.images_f32(&[0, 1, 2]);
    let corruptor = Corruptor::new(duet.weights(), vec![-1.0], 2, Seed(1)).unwrap();
    let apply = |corruption| corruptor.apply(corruption, x.clone(), &[0, 1, 2]).unwrap();

    let noisy = apply(Corruption::Noise(0.1));
    let of_middle = x.iter().zip(&noisy).filter(|(x, _)| x.abs() < 0.5).map(|(x, y)| f64::from(y - x));
    let errors: Vec<f64> = of_middle.collect();
    let deviation = (errors.iter().map(|e| e * e).sum::<f64>() / errors.len() as f64).sqrt();
    // Four standard errors of a deviation.
    assert!((deviation - 0.1).abs() < 4.0 * 0.1 / (2.0 * errors.len() as f64).sqrt(), "{deviation}");
    assert!(noisy.iter().all(|y| (-1.0..=1.0).contains(y)), "held to the range");
    let alone = corruptor.apply(Corruption::Noise(0.1), x[784..2 * 784].to_vec(), &[1]).unwrap();
    assert_eq!(alone, noisy[784..2 * 784], "noise goes by the row in the data");

    let pale = apply(Corruption::Contrast(0.25));
    assert!(x.iter().zip(&pale).all(|(x, y)| *y == 0.25 * x));
    assert!(apply(Corruption::Contrast(9.0)).iter().zip(&x).all(|(y, x)| *y == (9.0 * x).clamp(-1.0, 1.0)));

    // A quarter turn, by the definition, one way or the other.
    let turned = apply(Corruption::Rotation(90.0));
    let mut ways = [0; 2];
    for (image, y) in x.chunks(784).zip(turned.chunks(784)) {
        let left: Vec<f32> = (0..784).map(|i| image[(i % 28) * 28 + 27 - i / 28]).collect();
        let right: Vec<f32> = (0..784).map(|i| image[(27 - i % 28) * 28 + i / 28]).collect();
        let near = |want: &[f32]| want.iter().zip(y).all(|(a, b)| (a - b).abs() < 1e-4);
        assert!(near(&left) || near(&right));
        ways[usize::from(near(&left))] += 1;
    }
    assert!(ways.iter().all(|count| *count > 0), "{ways:?}");
    // What was outside of the image is the border.
    let white = corruptor.apply(Corruption::Rotation(45.0), vec![1.0; 784], &[0]).unwrap();
    assert_eq!((white[0], white[14 * 28 + 14]), (-1.0, 1.0));
    let error = corruptor.apply(Corruption::Noise(-1.0), x.clone(), &[0, 1, 2]).unwrap_err().to_string();
    assert!(error.contains("noise"), "{error}");
    assert!(corruptor.apply(Corruption::Noise(0.1), x, &[0]).is_err());
}

#[test]
fn accuracy_falls_with_what_befalls_images() {
    let shipped = shipped();
    let duet = shipped.as_ref().unwrap();
    let (weights, set) = (duet.weights(), WeightSet::Raw);
    let garments = garments(duet);
    let options = Corrupted { images: 64, batch: 24, seed: Seed(0), quiet: true };
    let of = |corruptions: &[Corruption]| -> Vec<f64> {
        let found = accuracies(weights, set, &garments, options, corruptions).unwrap();
        found.iter().map(|found| found.share).collect()
    };
    let clean = accuracy(weights, set, &garments, 64, 24, true).unwrap().share;
    assert!(clean > 0.8, "{clean}");
    let nothing = [Corruption::Noise(0.0), Corruption::Contrast(1.0), Corruption::Rotation(0.0)];
    assert_eq!(of(&nothing), [clean; 3], "what does nothing changes nothing");
    let all = of(&LEVELS);
    assert_eq!(all.len(), LEVELS.len());
    assert!(all[8] < clean && all[2] < clean, "turned by 45°, or drowned in noise: {all:?} of {clean}");
    // Grey all over, every image is the same class.
    let grey = of(&[Corruption::Contrast(0.0)])[0];
    let most =
        (0..10).map(|k| garments.classes().unwrap().iter().filter(|c| **c == k).count()).max().unwrap();
    assert!(grey <= most as f64 / 64.0, "{grey}");
    assert!(accuracies(weights, set, &garments, options, &[Corruption::Rotation(f64::NAN)]).is_err());
}

#[test]
fn a_clean_image_tells_more_than_one_drowned_in_noise() {
    let shipped = shipped();
    let duet = shipped.as_ref().unwrap();
    let (weights, diffusion) = (duet.weights(), &duet.checkpoint().diffusion);
    let garments = garments(duet);
    let split = |validation: Option<Dataset>| Split {
        train: part(&garments, 0..40),
        validation,
        test: part(&garments, 40..64),
        pictures: Pictures::default(),
        summary: Summary::default(),
    };
    let standard = probes::Options::new(diffusion);
    assert_eq!(standard.timesteps, [0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 999]);
    assert_eq!((standard.train, standard.validation, standard.test), (2000, 500, 1000));
    let options = probes::Options {
        timesteps: vec![0, 999],
        train: 30,
        validation: 10,
        test: 24,
        quiet: true,
        ..standard
    };
    let probe = |split: &Split, options: &probes::Options| {
        by_timestep(weights, diffusion, WeightSet::Raw, split, options).map_err(|e| e.to_string())
    };
    let table = probe(&split(None), &options).unwrap();
    assert_eq!((table.images, table.names.len(), table.labels), ([30, 10, 24], 10, false));
    assert_eq!(table.rows.iter().map(|row| row.timestep).collect::<Vec<_>>(), [0, 999]);
    assert!(table.rows.iter().all(|row| row.told.len() == 10));
    let (clean, drowned) = (table.rows[0].accuracy, table.rows[1].accuracy);
    assert!(clean > 0.6 && drowned < 0.45 && drowned < clean, "{clean} at t = 0, {drowned} at t = 999");
    let right: f64 = table.rows[0].told.iter().flat_map(|told| told.accuracy).sum();
    let seen = table.rows[0].told.iter().flat_map(|told| told.accuracy).count();
    assert_eq!(table.rows[0].balanced, Some(right / seen as f64));

    // A part that is there to choose by is what chooses; all images of too few are shared out.
    let held = probes::Options { timesteps: vec![0], ..options.clone() };
    let of_its_own = probe(&split(Some(part(&garments, 40..52))), &held).unwrap();
    assert_eq!(of_its_own.images, [30, 10, 24]);
    let shared = probes::Options { train: 300, validation: 100, ..held.clone() };
    assert_eq!(probe(&split(None), &shared).unwrap().images, [30, 10, 24]);
    let fails = |options: probes::Options| probe(&split(None), &options).unwrap_err();
    assert!(fails(probes::Options { timesteps: vec![1000], ..held.clone() }).contains("below 1000"));
    assert!(fails(probes::Options { validation: 0, ..held }).contains("one at least"));
}
