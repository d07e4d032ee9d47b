//! Pictures unlike the training data, as the shipped model tells them, and what files hold of it.

use crate::harness::{device, tiny_config};
use duet::checkpoint::{Checkpoint, Dtype};
use duet::diffusion::DiffusionConfig;
use duet::model::JointModel;
use duet::picture::{Fit, Pictures};
use duet::rng::Seed;
use duet::typicality::{Protocol, Reference, Typicality, UNLIKE};
use duet::{Duet, LoadOptions};
use std::path::{Path, PathBuf};

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("web/demo/public")
}

fn shipped() -> Duet {
    let options = LoadOptions { adopted: Some(device().clone()), ..LoadOptions::default() };
    pollster::block_on(Duet::load_with(demo().join("model.safetensors"), &options)).unwrap()
}

/// Official test images: 64 garments on black.
fn garments() -> Vec<Vec<f32>> {
    let files = std::fs::read_dir(demo().join("images")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|e| e == "png")).collect();
    files.sort();
    assert_eq!(files.len(), 64);
    let read = |path: &PathBuf| {
        let grey = image::open(path).unwrap().into_luma8();
        grey.pixels().map(|p| f32::from(p[0]) / 127.5 - 1.0).collect()
    };
    files.iter().map(read).collect()
}

fn typicality(duet: &mut Duet, images: &[f32]) -> Vec<Typicality> {
    pollster::block_on(duet.typicality(images)).unwrap().unwrap()
}

#[test]
fn test_images_are_like_the_training_data() {
    let mut duet = shipped();
    let garments = garments();
    let found = typicality(&mut duet, &garments.concat());
    let unlike = found.iter().filter(|t| t.unlike).count();
    // Twice the nominal rate would be 1.3 of 64; that there are more than four has a chance of 1 in 100 even then.
    assert!(unlike <= 4, "{unlike} of 64: {found:?}");
    assert!(found.iter().all(|t| t.unlike == (t.percentile > UNLIKE)));
    // Kolmogorov and Smirnov's distance of the percentiles from the uniform distribution: 0.20 has a chance of 1 %.
    let mut sorted: Vec<f64> = found.iter().map(|t| t.percentile / 100.0).collect();
    sorted.sort_by(f64::total_cmp);
    let far = sorted.iter().enumerate().map(|(i, p)| (p - (i as f64 + 0.5) / 64.0).abs()).fold(0.0, f64::max);
    assert!(far < 0.2, "{far}: {sorted:?}");
    // An image's answer does not depend on where it stands; another size of batch may round otherwise.
    let alone = typicality(&mut duet, &garments[7]);
    assert!((alone[0].percentile - found[7].percentile).abs() < 0.01, "{alone:?} {:?}", found[7]);
}

#[test]
fn pictures_of_another_kind_are_not() {
    let mut duet = shipped();
    let len = duet.image_len();
    let level = |v: f32| vec![v; len];
    // A ramp, a chessboard of two pixels a field, and levels drawn at random.
    let ramp: Vec<f32> = (0..len).map(|i| (i % 28) as f32 / 13.5 - 1.0).collect();
    let board: Vec<f32> =
        (0..len).map(|i| if (i % 28 / 2 + i / 56).is_multiple_of(2) { 1.0 } else { -1.0 }).collect();
    let mut noise = level(0.0);
    duet::rng::uniform(Seed(5), duet::rng::Stream::Init, 0, 0, &mut noise);
    let noise: Vec<f32> = noise.iter().map(|v| 2.0 * v - 1.0).collect();
    let kinds = [
        ("black", level(-1.0)),
        ("white", level(1.0)),
        ("grey", level(0.0)),
        ("ramp", ramp),
        ("chessboard", board),
        ("noise", noise),
    ];
    for (kind, image) in kinds {
        let found = typicality(&mut duet, &image)[0];
        assert!(found.unlike, "{kind}: {found:?}");
    }
    // A garment on white, as a photograph shows it, is unlike the data that show it on black.
    for (i, garment) in garments().iter().step_by(6).enumerate() {
        let inverted: Vec<f32> = garment.iter().map(|v| -v).collect();
        let found = typicality(&mut duet, &inverted)[0];
        assert!(found.unlike && found.to_string().contains("unlike"), "{i}: {found:?}");
    }
}

/// A small model, with what a file may hold besides.
fn checkpoint(pictures: Pictures, typicality: Option<Reference>) -> Checkpoint {
    let model = JointModel::new(&tiny_config()).unwrap();
    Checkpoint {
        pictures,
        typicality,
        ..Checkpoint::new(model.config.clone(), DiffusionConfig::default(), model.params.initial(Seed(4)))
    }
}

fn reference() -> Reference {
    let protocol = Protocol::new(&DiffusionConfig::default());
    let mut numbers = vec![0.0; 200 * protocol.profile_len()];
    duet::rng::normal_fill(Seed(1), duet::rng::Stream::Init, 0, 0, &mut numbers);
    let profiles: Vec<Vec<f64>> = numbers
        .chunks(protocol.profile_len())
        .map(|row| row.iter().map(|v| f64::from(*v)).collect())
        .collect();
    Reference::new(protocol, &profiles).unwrap()
}

fn read(bytes: &[u8]) -> duet::Result<Checkpoint> {
    Checkpoint::from_bytes(bytes, Path::new("some/file.safetensors"))
}

/// A file whose header was changed as text.
fn with_header(bytes: &[u8], change: impl Fn(&str) -> String) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = change(std::str::from_utf8(&bytes[8..8 + length]).unwrap());
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &bytes[8 + length..]].concat()
}

#[test]
fn files_hold_ground_fit_and_statistics() {
    let white = Pictures { ground: 255, fit: Fit::Pad, ..Pictures::default() };
    let full = checkpoint(white, Some(reference()));
    for dtype in [Dtype::F32, Dtype::F16] {
        let bytes = full.to_bytes(dtype).unwrap();
        let back = read(&bytes).unwrap();
        assert_eq!((back.pictures, &back.typicality), (full.pictures, &full.typicality));
        assert_eq!(back.to_bytes(dtype).unwrap(), bytes, "in a fixed order");
        safetensors::SafeTensors::deserialize(&bytes).unwrap();
    }
    let preparation = full.preparation();
    assert_eq!((preparation.ground, preparation.fit, preparation.invert), (255, Fit::Pad, false));
    // Without either the file is what it always was, and old files are read as what they mean.
    let plain = checkpoint(Pictures::default(), None).to_bytes(Dtype::F32).unwrap();
    let text = String::from_utf8_lossy(&plain[..4000]).into_owned();
    assert!(!text.contains("pictures") && !text.contains("typicality"), "{text}");
    let back = read(&plain).unwrap();
    assert_eq!((back.pictures, back.typicality), (Pictures::default(), None));
    let with = checkpoint(Pictures::default(), Some(reference())).to_bytes(Dtype::F32).unwrap();
    let header = |bytes: &[u8]| 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    assert_eq!(plain[header(&plain)..], with[header(&with)..], "statistics leave the weights alone");
}

#[test]
fn statistics_go_with_the_weights_they_were_measured_by() {
    let mut full = checkpoint(Pictures::default(), Some(reference()));
    let exported = read(&full.export(Dtype::F16, false).unwrap()).unwrap();
    assert_eq!(exported.typicality, full.typicality);
    full.ema = Some(
        full.weights
            .iter()
            .filter(|(name, _)| !name.contains("running"))
            .map(|(n, t)| (n.clone(), t.clone()))
            .collect(),
    );
    assert!(full.typicality_of(false).is_some() && full.typicality_of(true).is_none());
    assert_eq!(read(&full.export(Dtype::F16, true).unwrap()).unwrap().typicality, None);
    assert_eq!(full.into_inference().typicality, None);
}

#[test]
fn malformed_statistics_are_refused_and_unknown_ones_say_nothing() {
    let good = checkpoint(Pictures::default(), Some(reference())).to_bytes(Dtype::F32).unwrap();
    let change = |from: &'static str, to: &'static str| {
        read(&with_header(&good, |header| {
            assert!(header.contains(from), "{from}: {header}");
            header.replacen(from, to, 1)
        }))
    };
    // As text in text.
    assert_eq!(change("{\\\"version\\\":1", "{\\\"version\\\":2").unwrap().typicality, None);
    let cases = [
        ("{\\\"version\\\":1", "{\\\"version\\\":0"),
        ("\\\"scores\\\":[", "\\\"scores\\\":[9e9,"),
        ("\\\"mean\\\":[", "\\\"mean\\\":[null,"),
        ("\\\"seed\\\":0", "\\\"seed\\\":0,\\\"seed\\\":0"),
        ("\\\"timesteps\\\":[10,250]", "\\\"timesteps\\\":[10,1000]"),
    ];
    for (from, to) in cases {
        let error = change(from, to).unwrap_err().to_string();
        assert!(error.contains("some/file") && error.contains("statistics of typicality"), "{to}: {error}");
    }
    let bad = [
        ("{\\\"fit\\\":\\\"squeeze\\\"}", "squeeze"),
        ("{\\\"ground\\\":256}", "256"),
        ("{\\\"resize_to\\\":1000}", "resize_to"),
        ("{\\\"resize\\\":\\\"nearest\\\"}", "nearest"),
    ];
    for (pictures, word) in bad {
        let bytes = with_header(&good, |header| {
            header.replacen("\\\"ema\\\":false", &format!("\\\"ema\\\":false,\\\"pictures\\\":{pictures}"), 1)
        });
        let error = read(&bytes).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_model_without_statistics_says_nothing() {
    let bytes = checkpoint(Pictures::default(), None).to_bytes(Dtype::F32).unwrap();
    let options = LoadOptions { adopted: Some(device().clone()), ..LoadOptions::default() };
    let mut duet = pollster::block_on(Duet::from_bytes(&bytes, "old", &options)).unwrap();
    let image = vec![0.0; duet.image_len()];
    assert_eq!(pollster::block_on(duet.typicality(&image)).unwrap(), None);
    let with = checkpoint(Pictures::default(), Some(reference())).to_bytes(Dtype::F32).unwrap();
    let mut duet = pollster::block_on(Duet::from_bytes(&with, "new", &options)).unwrap();
    assert_eq!(pollster::block_on(duet.typicality(&image)).unwrap().unwrap().len(), 1);
    assert!(pollster::block_on(duet.typicality(&image[1..])).is_err(), "part of an image");
    assert_eq!(pollster::block_on(duet.typicality(&[])).unwrap().unwrap(), []);
}
