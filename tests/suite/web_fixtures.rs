//! What the browser tests compare with: every pipeline there is, checkpoints, and a counterfactual computed here. Written
//! to `target/web-fixtures`, for the same code must have made both sides.

use super::golden::{Fixture, Setup, weights};
use super::harness::{as_trained_on_noise, device, tiny_config, values};
use super::{plans, programs};
use duet::checkpoint::{Checkpoint, Dtype, write_atomic};
use duet::diffusion::DiffusionConfig;
use duet::evaluation::{BINS, EvaluationOptions, Report};
use duet::explain::{ExplainOptions, Explainer, Request};
use duet::gpu::{BufferId, Launch, Slice};
use duet::model::{Head, JointModel, ModelConfig, WeightSet, argmax};
use duet::ops::conv3x3::{self, Conv3x3};
use duet::picture::{Fit, Picture, Pictures, PixelLayout, Preparation, Resize};
use duet::recipe::MemoryRecipe;
use duet::rng::Seed;
use duet::sampling::{Progress, Watch};
use duet::train::Trainer;
use duet::weights::Weights;
use duet::{Duet, LoadOptions};
use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn write(name: &str, data: &[u8]) {
    let folder = root().join("target/web-fixtures");
    std::fs::create_dir_all(&folder).unwrap();
    write_atomic(&folder.join(name), data).unwrap();
}

/// The naive kernels, which no plan uses.
fn naive() -> Vec<Launch> {
    let size = Conv3x3 { batch: 1, height: 7, width: 7, in_channels: 3, out_channels: 5, stride: 1 };
    let slice = |buffer| Slice { buffer: BufferId(buffer), offset: 0, bytes: 16, half: false };
    let [a, b, c, d] = [0, 1, 2, 3].map(slice);
    let mut list = conv3x3::naive::forward(&size, a, b, Some(d), c);
    list.extend(conv3x3::naive::grad_input(&size, a, b, c));
    list.extend(conv3x3::naive::grad_weight(&size, a, b, c));
    list
}

#[test]
fn web_fixtures_every_pipeline() {
    let mut launches = naive();
    launches.extend(programs::tiled());
    for program in programs::programs() {
        launches.extend(program.launches);
    }
    for kind in ["mnist28_c32", "fashion28"] {
        for what in ["train", "guided"] {
            launches.extend(plans::plan(kind, what).program().launches.clone());
        }
    }
    let mut seen = HashSet::new();
    let rows: Vec<serde_json::Value> = launches
        .iter()
        // No browser has matrices as naga spells them.
        .filter(|l| !l.kernel.file.ends_with("_cooperative") && seen.insert(&l.kernel))
        .map(|l| {
            let constants: BTreeMap<_, _> = l.kernel.constants.iter().copied().collect();
            serde_json::json!({
                "file": l.kernel.file, "source": l.kernel.source, "entry": l.kernel.entry, "constants": constants,
            })
        })
        .collect();
    assert!(rows.len() >= 50, "{}", rows.len());
    write("kernels.json", serde_json::to_string(&rows).unwrap().as_bytes());
}

#[test]
fn web_fixtures_golden_model() {
    let path = root().join("tests/fixtures/mnist28_c32.safetensors");
    let fixture = Fixture::load(&path);
    let setup = Setup::of(&fixture);
    let weights = weights(&setup.model, &setup.prefix);
    let checkpoint = Checkpoint::new(setup.model.config.clone(), setup.diffusion.clone(), weights);
    write("golden.safetensors", &checkpoint.to_bytes(Dtype::F32).unwrap());
    write("mnist28_c32.safetensors", &std::fs::read(path).unwrap());
}

/// A network of 8 × 8 pixels and three classes that was never trained.
fn tiny() -> Checkpoint {
    let config = ModelConfig {
        attention_resolutions: vec![],
        classifier_dropout: 0.0,
        class_names: ["dark", "grey", "light"].map(String::from).to_vec(),
        ..tiny_config()
    };
    let model = JointModel::new(&config).unwrap();
    let mut weights = model.params.initial(Seed(4));
    as_trained_on_noise(&mut weights);
    let info = BTreeMap::from([("data".to_owned(), "none".to_owned())]);
    Checkpoint { info, ..Checkpoint::new(config, DiffusionConfig::default(), weights) }
}

#[test]
fn web_fixtures_tiny_model() {
    let checkpoint = tiny();
    write("tiny.safetensors", &checkpoint.to_bytes(Dtype::F32).unwrap());
    // One whose numbers leave their range on the way to the answer, as after a training that went wrong.
    let mut broken = checkpoint.clone();
    let first = broken.weights.get_mut("input_blocks.0.0.weight").unwrap();
    first.data.iter_mut().enumerate().for_each(|(i, w)| *w = if i % 2 == 0 { 3e38 } else { -3e38 });
    write("broken.safetensors", &broken.to_bytes(Dtype::F32).unwrap());
    let framed = Checkpoint { pictures: framed(), ..checkpoint.clone() };
    write("tiny-framed.safetensors", &framed.to_bytes(Dtype::F32).unwrap());
    let colour = ModelConfig { in_channels: 3, ..checkpoint.model.clone() };
    let weights = JointModel::new(&colour).unwrap().params.initial(Seed(5));
    let colour = Checkpoint { model: colour, weights, ..checkpoint };
    write("tiny-colour.safetensors", &colour.to_bytes(Dtype::F32).unwrap());
}

/// The weights that a run by a recipe begins with, as its trainer draws them.
#[test]
fn web_fixtures_created_model() {
    let text = r#"{
        "data": {"ground": 200},
        "model": {"image_size": 8, "num_channels": 8, "num_groups": 4, "num_res_blocks": 1, "channel_mult": [1, 2],
            "attention_resolutions": [], "num_classes": 2, "class_names": ["cat", "dog"]},
        "diffusion": {"diffusion_steps": 200},
        "train": {"seed": 7, "batch_size": 4}
    }"#;
    let recipe = MemoryRecipe::parse(text, None).unwrap();
    let model = Arc::new(JointModel::new(&recipe.model).unwrap());
    let options = recipe.options();
    let trainer = pollster::block_on(Trainer::new(device(), model, &recipe.diffusion, &options)).unwrap();
    let made = pollster::block_on(trainer.checkpoint()).unwrap();
    write("created.json", text.as_bytes());
    write("created.safetensors", &made.export(Dtype::F32, false).unwrap());
}

/// What says everything that a model may say of its pictures.
fn framed() -> Pictures {
    Pictures { ground: 200, fit: Fit::Pad, resize: Resize::Bilinear, resize_to: Some(5) }
}

/// Pictures wider, higher and smaller than the model's, coloured, some of them transparent in parts, and what the library
/// makes of them.
#[test]
fn web_fixtures_pictures() {
    let mut list = Vec::new();
    for (number, (width, height)) in [(100, 64), (37, 90), (8, 8), (5, 7), (640, 480)].into_iter().enumerate()
    {
        let mut rgba = Vec::new();
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let wave = |a: usize, b: usize| (127.5 * (1.0 + ((a * x + b * y) as f64 / 19.0).sin())) as u8;
            let opacity = if number % 2 == 1 { wave(1, 2) } else { 255 };
            rgba.extend([wave(3, 1), wave(0, 4), if (x / 9 + y / 7) % 2 == 0 { 255 } else { 0 }, opacity]);
        }
        let picture = Picture { width, height, layout: PixelLayout::Rgba, data: &rgba, orientation: 1 };
        let levels = Preparation::new(1, 8).levels(&picture).unwrap();
        let framed = Preparation::of(framed(), 1, 8).levels(&picture).unwrap();
        list.push(serde_json::json!({
            "width": width, "height": height, "rgba": rgba, "levels": levels, "framed": framed,
        }));
    }
    write("pictures.json", serde_json::Value::from(list).to_string().as_bytes());
}

/// EXIF of one entry: how the picture was held.
fn exif(orientation: u8) -> Vec<u8> {
    let mut bytes = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    bytes.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}

/// A colour profile of sRGB's primaries whose numbers are light itself: who applies it sees everything much brighter.
fn linear_profile() -> Vec<u8> {
    let fixed = |values: [f64; 3]| values.map(|v| ((v * 65_536.0).round() as i32).to_be_bytes()).concat();
    let xyz = |values| [b"XYZ \0\0\0\0".to_vec(), fixed(values)].concat();
    let tags = [
        (b"rXYZ", xyz([0.4361, 0.2225, 0.0139])),
        (b"gXYZ", xyz([0.3851, 0.7169, 0.0971])),
        (b"bXYZ", xyz([0.1431, 0.0606, 0.7141])),
        (b"wtpt", xyz([0.9642, 1.0, 0.8249])),
        // A curve of no points is none.
        (b"rTRC", b"curv\0\0\0\0\0\0\0\0".to_vec()),
        (b"gTRC", b"curv\0\0\0\0\0\0\0\0".to_vec()),
        (b"bTRC", b"curv\0\0\0\0\0\0\0\0".to_vec()),
    ];
    let mut header = vec![0u8; 128];
    for (at, word) in [(8, b"\x02\x10\0\0"), (12, b"mntr"), (16, b"RGB "), (20, b"XYZ "), (36, b"acsp")] {
        header[at..at + 4].copy_from_slice(word);
    }
    header[68..80].copy_from_slice(&fixed([0.9642, 1.0, 0.8249]));
    let (mut table, mut data) = ((tags.len() as u32).to_be_bytes().to_vec(), Vec::new());
    let first = header.len() + 4 + 12 * tags.len();
    for (name, bytes) in &tags {
        table.extend_from_slice(*name);
        table.extend(((first + data.len()) as u32).to_be_bytes());
        table.extend((bytes.len() as u32).to_be_bytes());
        data.extend_from_slice(bytes);
    }
    let size = (first + data.len()) as u32;
    header[..4].copy_from_slice(&size.to_be_bytes());
    [header, table, data].concat()
}

/// Files of pictures held in every way, coloured, half transparent, of 16 bits, large, wide and tall, with a colour profile,
/// and what the library makes of each for a grey and a coloured model.
#[test]
fn web_fixtures_picture_files() {
    use image::codecs::{jpeg::JpegEncoder, png::PngEncoder};
    use image::{DynamicImage, ImageDecoder, ImageEncoder, ImageReader, Rgba, RgbaImage};

    fn finish(mut encoder: impl ImageEncoder, picture: &DynamicImage, orientation: u8, profile: bool) {
        encoder.set_exif_metadata(exif(orientation)).unwrap();
        if profile {
            encoder.set_icc_profile(linear_profile()).unwrap();
        }
        let (width, height) = (picture.width(), picture.height());
        encoder.write_image(picture.as_bytes(), width, height, picture.color().into()).unwrap();
    }
    let scene = |width: u32, height: u32, clear: bool| {
        DynamicImage::from(RgbaImage::from_fn(width, height, |x, y| {
            let wave = |a: u32, b: u32| {
                let phase = f64::from(a * x) / f64::from(width) + f64::from(b * y) / f64::from(height);
                (127.5 * (1.0 + (4.0 * phase).sin())) as u8
            };
            // Fully transparent in a corner, where green is hidden.
            let hidden = clear && x < width / 4 && y < height / 4;
            let opacity = if hidden {
                0
            } else if clear {
                wave(1, 2)
            } else {
                255
            };
            Rgba([wave(3, 1), if hidden { 255 } else { wave(0, 2) }, wave(1, 1), opacity])
        }))
    };
    let encode = |picture: &DynamicImage, jpeg: bool, orientation: u8, profile: bool| {
        let mut bytes = Vec::new();
        if jpeg {
            finish(JpegEncoder::new_with_quality(&mut bytes, 95), picture, orientation, profile);
        } else {
            finish(PngEncoder::new(&mut bytes), picture, orientation, profile);
        }
        bytes
    };
    let rgb = |width, height| DynamicImage::from(scene(width, height, false).into_rgb8());
    let mut files = Vec::new();
    for orientation in 1..=8 {
        let turned = encode(&rgb(40, 30), true, orientation, false);
        files.push((format!("held-{orientation}.jpg"), turned));
    }
    for (name, picture, jpeg, orientation, profile) in [
        ("held-6.png", rgb(20, 32), false, 6, false),
        ("colour.png", rgb(31, 31), false, 1, false),
        ("half-transparent.png", scene(48, 40, true), false, 1, false),
        ("grey-transparent.png", DynamicImage::from(scene(24, 24, true).into_luma_alpha8()), false, 1, false),
        ("sixteen-bits.png", DynamicImage::from(rgb(20, 20).into_rgb16()), false, 1, false),
        ("grey-sixteen-bits.png", DynamicImage::from(rgb(20, 20).into_luma16()), false, 1, false),
        ("large.png", rgb(2000, 1500), false, 1, false),
        ("large.jpg", rgb(2000, 1500), true, 8, false),
        ("large-transparent.png", scene(2000, 1400, true), false, 1, false),
        ("wide.png", rgb(400, 10), false, 1, false),
        ("tall.jpg", rgb(30, 700), true, 1, false),
        ("profile.png", rgb(32, 32), false, 1, true),
        ("profile.jpg", rgb(32, 32), true, 3, true),
    ] {
        files.push((name.to_owned(), encode(&picture, jpeg, orientation, profile)));
    }
    let mut list = Vec::new();
    for (name, bytes) in files {
        // As the command reads a file.
        let reader = ImageReader::new(std::io::Cursor::new(&bytes)).with_guessed_format().unwrap();
        let mut decoder = reader.into_decoder().unwrap();
        let orientation = decoder.orientation().unwrap().to_exif();
        let rgba = match DynamicImage::from_decoder(decoder).unwrap() {
            grey @ DynamicImage::ImageLuma16(_) => DynamicImage::from(grey.into_luma8()).into_rgba8(),
            other => other.into_rgba8(),
        };
        let (width, height) = (rgba.width() as usize, rgba.height() as usize);
        let picture = Picture { width, height, layout: PixelLayout::Rgba, data: rgba.as_raw(), orientation };
        let levels = [1, 3].map(|channels| Preparation::new(channels, 8).levels(&picture).unwrap());
        write(&name, &bytes);
        list.push(serde_json::json!({"name": name, "grey": levels[0], "colour": levels[1]}));
    }
    write("picture-files.json", serde_json::Value::from(list).to_string().as_bytes());
}

/// A picture of the official test set, in −1..1.
fn picture(name: &str) -> Vec<f32> {
    let grey = image::open(root().join("web/demo/public/images").join(name)).unwrap().into_luma8();
    grey.pixels().map(|p| f32::from(p[0]) / 127.5 - 1.0).collect()
}

#[test]
fn web_fixtures_counterfactuals() {
    let path = root().join("web/demo/public/model.safetensors");
    let checkpoint = Checkpoint::load(&path).unwrap();
    let model = Arc::new(JointModel::new(&checkpoint.model).unwrap());
    let upload = Weights::upload(device(), model, &checkpoint.weights, None);
    let on_device = pollster::block_on(upload).unwrap();
    // A sneaker's second class at the first strength, a pullover that takes more to become a sandal, and the paper's chain.
    let (local, paper) = (ExplainOptions::default(), ExplainOptions::paper());
    let paper = ExplainOptions { respacing: local.respacing.clone(), ..paper };
    let cases = [
        ("near", "00009.png", 9, local.clone()),
        ("far", "00001.png", 5, local),
        ("paper", "00009.png", 9, paper),
    ];
    let mut reports = serde_json::Map::new();
    for (name, file, target, options) in cases {
        let original = picture(file);
        let options = ExplainOptions { seed: Seed(7), ..options };
        let new = Explainer::new(&on_device, &checkpoint.diffusion, 1, &options, WeightSet::Raw);
        let mut explainer = pollster::block_on(new).unwrap();
        let requests = [Request { image: 0, target: target.into(), seed: options.seed }];
        let mut told = Vec::new();
        let mut hear = |progress: Progress, so_far: &[Vec<f32>]| {
            told.push((progress.done, progress.total, so_far.len()));
            ControlFlow::Continue(())
        };
        let running = explainer.explain(&original, &requests, 0, Watch::Curve(&mut hear));
        let explained = pollster::block_on(running).unwrap().remove(0);
        assert_eq!(explained.curve.len(), 10);
        assert_eq!(explained.chains > 1, name == "far", "{name}: {} chains", explained.chains);
        let method = options.method.name();
        let report = serde_json::json!({
            "image": original, "target": target, "options": {"noise": options.noise, "steps": 50, "method": method, "seed": 7},
            "best": argmax(&explained.after, checkpoint.model.num_classes).unwrap()[0],
            "before": explained.before, "after": explained.after,
            "counterfactual": explained.counterfactual, "curve": explained.curve, "told": told,
            "reached": explained.reached, "rung": explained.rung, "chains": explained.chains,
        });
        reports.insert(name.to_owned(), report);
    }
    write("parity.json", serde_json::Value::from(reports).to_string().as_bytes());
    write("parity.safetensors", &std::fs::read(path).unwrap());
}

/// What an evaluation finds; no confidence may lie so near a bin's end that another device's rounding moves it over.
fn evaluated(duet: &mut Duet, images: &[f32], classes: &[u32], options: &EvaluationOptions) -> Report {
    let rows = pollster::block_on(duet.probabilities(images)).unwrap();
    for row in rows.chunks_exact(duet.config().num_classes) {
        let confidence = row.iter().copied().fold(0.0, f32::max);
        let off = confidence * BINS as f32;
        assert!(confidence > 0.999 || (off - off.round()).abs() > 1e-3, "{confidence} is near a bin's end");
    }
    let mut evaluation = duet.evaluation(classes.len(), options).unwrap();
    // Batches of another size than the page's.
    for (images, classes) in images.chunks(5 * duet.image_len()).zip(classes.chunks(5)) {
        pollster::block_on(duet.evaluate(&mut evaluation, images, classes)).unwrap();
    }
    evaluation.report().unwrap()
}

/// Evaluations of the shipped model on official test images, as idx files and as a folder of folders, and of a tiny one.
#[test]
fn web_fixtures_evaluations() {
    let options = LoadOptions { adopted: Some(device().clone()), ..LoadOptions::default() };
    let path = root().join("web/demo/public/model.safetensors");
    let mut duet = pollster::block_on(Duet::load_with(path, &options)).unwrap();
    let index = std::fs::read(root().join("web/demo/public/images/index.json")).unwrap();
    let index: Vec<BTreeMap<String, String>> = serde_json::from_slice(&index).unwrap();
    let mut all: Vec<(String, u32)> = index
        .iter()
        .map(|row| (row["file"].clone(), duet.config().find_class(&row["label"]).unwrap() as u32))
        .collect();
    // Two labels that are wrong: a set without mistakes shows nothing.
    (all[3].1, all[40].1) = (6, 9);
    let pixels =
        |list: &[(String, u32)]| list.iter().flat_map(|(file, _)| picture(file)).collect::<Vec<f32>>();
    let classes = |list: &[(String, u32)]| list.iter().map(|(_, class)| *class).collect::<Vec<u32>>();
    let levels: Vec<u8> = pixels(&all).iter().map(|v| ((v + 1.0) * 127.5).round() as u8).collect();
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
    let count = all.len() as u32;
    write("t10k-images-idx3-ubyte", &[words(&[0x0803, count, 28, 28]), levels].concat());
    let labels = classes(&all).into_iter().map(|class| class as u8).collect();
    write("t10k-labels-idx1-ubyte", &[words(&[0x0801, count]), labels].concat());
    let none = EvaluationOptions { timesteps: 0, ..EvaluationOptions::default() };
    let idx = evaluated(&mut duet, &pixels(&all), &classes(&all), &none);

    // Folders are called as people call them, one of them by its class's number, and are read in the order of their paths.
    let folder = |class: u32| match class {
        7 => "7".to_owned(),
        class => duet.config().class_name(class as usize).replace('/', "_").to_uppercase(),
    };
    let mut few = all[..20].to_vec();
    few.sort_by_key(|(file, class)| format!("{}/{file}", folder(*class)));
    let paths: Vec<String> = few.iter().map(|(file, class)| format!("{}/{file}", folder(*class))).collect();
    let noised = EvaluationOptions { timesteps: 5, seed: Seed(3), ..EvaluationOptions::default() };
    let folders = evaluated(&mut duet, &pixels(&few), &classes(&few), &noised);

    let tiny = tiny().to_bytes(Dtype::F32).unwrap();
    let mut duet = pollster::block_on(Duet::from_bytes(&tiny, "tiny", &options)).unwrap();
    let levels: Vec<Vec<u8>> = (0..30usize)
        .map(|i| (0..64usize).map(|p| (((7 * i + 3) * p + 29 * i * (p / 8)) % 256) as u8).collect())
        .collect();
    let images: Vec<f32> = levels.iter().flatten().map(|level| f32::from(*level) / 127.5 - 1.0).collect();
    let classes: Vec<u32> = (0..30).map(|i| i % 3).collect();
    let part = EvaluationOptions { timesteps: 4, noise_images: 11, seed: Seed(9) };
    let tiny = evaluated(&mut duet, &images, &classes, &part);
    let file = serde_json::json!({
        "idx": idx, "folders": { "paths": paths, "report": folders },
        "tiny": { "images": levels, "labels": classes, "report": tiny },
    });
    write("evaluations.json", file.to_string().as_bytes());
}

/// Tiny networks none of whose weights is zero, grey and coloured, of one class and of several labels, at odd sizes: an
/// explanation without strength is the image itself.
#[test]
fn web_fixtures_models_to_explain_by() {
    let labels = ["RBC", "WBC", "Platelets"].map(String::from);
    for (name, in_channels, image_size, head) in [
        ("grey-classes", 1, 7, Head::Multiclass),
        ("grey-labels", 1, 10, Head::MultiLabel),
        ("colour-classes", 3, 10, Head::Multiclass),
        ("colour-labels", 3, 9, Head::MultiLabel),
    ] {
        let channel_mult = if image_size % 2 == 0 { vec![1, 2] } else { vec![1] };
        let config = ModelConfig {
            in_channels,
            image_size,
            channel_mult,
            head,
            attention_resolutions: vec![],
            class_names: labels.to_vec(),
            ..tiny_config()
        };
        let mut weights = JointModel::new(&config).unwrap().params.initial(Seed(6));
        as_trained_on_noise(&mut weights);
        for (number, (name, tensor)) in weights.iter_mut().enumerate() {
            if tensor.data.iter().all(|v| *v == 0.0) && !name.contains("running") {
                let fresh = values(number as u64, tensor.data.len());
                tensor.data = fresh.iter().map(|v| 0.1 * v).collect();
            }
        }
        let checkpoint = Checkpoint::new(config, DiffusionConfig::default(), weights);
        write(&format!("tiny-{name}.safetensors"), &checkpoint.to_bytes(Dtype::F32).unwrap());
    }
}
