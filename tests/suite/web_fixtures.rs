//! What the browser tests compare with: every pipeline there is, checkpoints, and a counterfactual computed here. Written
//! to `target/web-fixtures`, for the same code must have made both sides.

use super::golden::{Fixture, Setup, weights};
use super::harness::{as_trained_on_noise, device, tiny_config};
use super::{plans, programs};
use duet::checkpoint::{Checkpoint, Dtype, write_atomic};
use duet::diffusion::DiffusionConfig;
use duet::explain::{ExplainOptions, Explainer};
use duet::gpu::{BufferId, Launch, Slice};
use duet::model::{JointModel, Labels, ModelConfig, WeightSet, argmax};
use duet::ops::conv3x3::{self, Conv3x3};
use duet::picture::{Picture, PixelLayout, Preparation};
use duet::rng::Seed;
use duet::sampling::Watch;
use duet::weights::Weights;
use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
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
    let slice = |buffer| Slice { buffer: BufferId(buffer), offset: 0, bytes: 16 };
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
        .filter(|l| seen.insert(&l.kernel))
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
    let checkpoint = Checkpoint {
        model: setup.model.config.clone(),
        diffusion: setup.diffusion.clone(),
        weights: weights(&setup.model, &setup.prefix),
        ema: None,
        training: None,
        info: BTreeMap::new(),
    };
    write("golden.safetensors", &checkpoint.to_bytes(Dtype::F32).unwrap());
    write("mnist28_c32.safetensors", &std::fs::read(path).unwrap());
}

#[test]
fn web_fixtures_tiny_model() {
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
    let diffusion = DiffusionConfig::default();
    let checkpoint = Checkpoint { model: config, diffusion, weights, ema: None, training: None, info };
    write("tiny.safetensors", &checkpoint.to_bytes(Dtype::F32).unwrap());
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
        list.push(serde_json::json!({"width": width, "height": height, "rgba": rgba, "levels": levels}));
    }
    write("pictures.json", serde_json::Value::from(list).to_string().as_bytes());
}

/// A sneaker of the official test set.
fn picture() -> PathBuf {
    root().join("web/demo/public/images/00009.png")
}

#[test]
fn web_fixtures_a_counterfactual() {
    let path = root().join("web/demo/public/model.safetensors");
    let checkpoint = Checkpoint::load(&path).unwrap();
    let grey = image::open(picture()).unwrap().into_luma8();
    let original: Vec<f32> = grey.pixels().map(|p| f32::from(p[0]) / 127.5 - 1.0).collect();
    let model = Arc::new(JointModel::new(&checkpoint.model).unwrap());
    let upload = Weights::upload(device(), model, &checkpoint.weights, None);
    let on_device = pollster::block_on(upload).unwrap();
    let options = ExplainOptions { respacing: "50".into(), seed: Seed(7), ..ExplainOptions::default() };
    let new = Explainer::new(&on_device, &checkpoint.diffusion, 1, &options, WeightSet::Raw);
    let explainer = pollster::block_on(new).unwrap();
    let target = 9;
    let mut curve = Vec::new();
    let explained = pollster::block_on(explainer.explain(
        &original,
        &Labels::Classes(vec![target]),
        0,
        Watch::Curve(&mut |progress, so_far| {
            curve.push(so_far[progress.done - 1][0]);
            ControlFlow::Continue(())
        }),
    ))
    .unwrap();
    assert_eq!(curve.len(), 10);
    let report = serde_json::json!({
        "image": original, "target": target,
        "options": {"noise": options.noise, "steps": 50, "alpha": options.alpha, "seed": 7},
        "best": argmax(&explained.after, checkpoint.model.num_classes).unwrap()[0],
        "before": explained.before, "after": explained.after,
        "counterfactual": explained.counterfactual, "curve": curve,
    });
    write("parity.json", report.to_string().as_bytes());
    write("parity.safetensors", &std::fs::read(path).unwrap());
}
