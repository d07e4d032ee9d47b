//! Models of other programs: the reference's checkpoints in, its state_dict out.

use super::{Project, fails, ok, weights};
use duet::checkpoint::Checkpoint;
use duet::diffusion::{DiffusionConfig, NoiseSchedule, Prediction};
use duet::gpu::{Device, DeviceOptions};
use duet::infer::{ImageClassifier, NoisePredictor};
use duet::model::{JointModel, ModelConfig, WeightSet};
use duet::tensor::{HostTensor, Tensors};
use duet::torch::{self, TorchFile};
use duet::weights::Weights;
use golden::Fixture;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

#[path = "../../../tests/suite/golden/fixture.rs"]
#[allow(dead_code, reason = "the library's tests use more of it")]
mod golden;

pub fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn write_pt(path: &Path, tensors: &Tensors) {
    let bytes = torch::to_bytes(tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// A network whose every number differs from its neighbours: layers that begin as zero would hide mistakes.
pub fn lively(config: &ModelConfig) -> Tensors {
    let names = JointModel::new(config).unwrap().params.expected(false);
    let tensor = |shape: Vec<usize>, name: &str| {
        let (count, fan_in) =
            (shape.iter().product::<usize>(), shape.iter().skip(1).product::<usize>().max(1));
        let seed = name.bytes().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        let value = |i: usize| {
            let wave = ((seed % 1000) as f32 + i as f32 * 1.7).sin();
            match shape.len() {
                1 if name.ends_with("weight") || name.ends_with("var") => 1.0 + 0.1 * wave,
                1 => 0.05 * wave,
                _ => 1.2 * wave / (fan_in as f32).sqrt(),
            }
        };
        HostTensor { data: (0..count).map(value).collect(), shape }
    };
    names.into_iter().map(|(name, shape)| (name.clone(), tensor(shape, &name))).collect()
}

fn on_device(checkpoint: &Checkpoint) -> Weights {
    let device = pollster::block_on(Device::open(&DeviceOptions::default())).unwrap();
    let model = Arc::new(checkpoint.joint_model(Path::new("made")).unwrap());
    pollster::block_on(Weights::upload(&device, model, &checkpoint.weights, None)).unwrap()
}

/// What the network puts out for images of noise at timesteps.
pub fn output(checkpoint: &Checkpoint, images: &[f32], timesteps: &[usize]) -> Vec<f32> {
    // What it puts out is not read as anything else.
    let diffusion = DiffusionConfig { prediction: Prediction::Eps, ..checkpoint.diffusion.clone() };
    let weights = on_device(checkpoint);
    let new = NoisePredictor::new(&weights, &diffusion, timesteps.len(), WeightSet::Raw);
    pollster::block_on(pollster::block_on(new).unwrap().predict(images, timesteps)).unwrap()
}

/// The largest difference as a share of the largest value.
pub fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    a.iter().zip(b).fold(0.0f32, |most, (a, b)| most.max((a - b).abs())) / largest
}

#[test]
fn the_reference_s_checkpoints_become_models_that_compute_what_it_computed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (name, size, channels) in [("mnist28_c32", 28, 1), ("cifar32_c32", 32, 3)] {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
        let mut fixture = Fixture::load(&fixtures.join(format!("{name}.safetensors")));
        let wanted = ModelConfig {
            image_size: size,
            in_channels: channels,
            num_channels: 32,
            ..ModelConfig::default()
        };
        let trained = golden::weights(&JointModel::new(&wanted).unwrap(), "");
        write_pt(&at("model000010_0.pt"), &trained);
        let mut average = trained.clone();
        for (_, tensor) in average.iter_mut().filter(|(name, _)| !name.contains("running_")) {
            tensor.data.iter_mut().for_each(|value| *value *= 0.5);
        }
        write_pt(&at("ema_0.9999_000010_0.pt"), &average);
        let [model, ema, out] =
            ["model000010_0.pt", "ema_0.9999_000010_0.pt", "m.safetensors"].map(|name| text(&at(name)));

        // Nothing needs to be said of the reference's own networks.
        let said = ok(&["import", &model, "--ema", &ema, "--out", &out]);
        for words in
            ["10 classes", "model.num_heads = 4", &format!("model.image_size = {size}"), "their average"]
        {
            assert!(said.contains(words), "{said}");
        }
        let read = weights(Path::new(&out));
        assert_eq!((&read.model, &read.diffusion), (&wanted, &DiffusionConfig::default()));
        assert!(read.weights == trained && read.info["imported"].starts_with("model000010_0.pt ("));
        average.retain(|name, _| !name.contains("running_"));
        assert_eq!(read.ema.as_ref(), Some(&average));

        // And back, the weights or their average, to the bit.
        for (set, wanted) in [("raw", &trained), ("ema", &average)] {
            let pt = text(&at("back.pt"));
            let said = ok(&["export", "--model", &out, "--weights", set, "--pt", &pt]);
            assert!(said.contains("back.pt") && said.contains("torch.load"), "{said}");
            let bytes = std::fs::read(&pt).unwrap();
            let back = TorchFile::read(&bytes, Path::new(&pt)).unwrap().state_dict(None).unwrap();
            assert_eq!(back.len(), trained.len());
            assert!(wanted.iter().all(|(name, tensor)| back[name] == *tensor), "{set}");
        }

        // The numbers of the reference's own run.
        let t: Vec<usize> = fixture.take("input.t").iter().map(|t| *t as usize).collect();
        let (x_start, noise) = (fixture.take_f32("input.x_start"), fixture.take_f32("input.noise"));
        let schedule = duet::diffusion::Schedule::new(&read.diffusion).unwrap();
        let len = size * size * channels;
        let mut x_t = Vec::new();
        for (n, t) in t.iter().enumerate() {
            let [kept, noised] = schedule.q_sample_coefficients(*t).unwrap();
            let pixels = x_start[n * len..][..len].iter().zip(&noise[n * len..][..len]);
            x_t.extend(pixels.map(|(x, noise)| kept * x + noised * noise));
        }
        let golden = fixture.take_f32("model_out_f64");
        assert!(difference(&output(&read, &x_t, &t), &golden) < 2e-4, "{name}");
        let weights = on_device(&read);
        let classifier = pollster::block_on(ImageClassifier::new(&weights, t.len(), WeightSet::Raw)).unwrap();
        let logits = pollster::block_on(classifier.logits(&x_start)).unwrap();
        assert!(difference(&logits, &fixture.take_f32("logits_eval_clean_f64")) < 2e-4, "{name}");
    }
}

/// A small network whose shapes leave its size open.
pub fn small() -> ModelConfig {
    ModelConfig {
        image_size: 8,
        num_channels: 8,
        num_res_blocks: 1,
        channel_mult: vec![1, 2],
        attention_resolutions: vec![4],
        num_groups: 4,
        num_heads: 2,
        num_classes: 2,
        class_names: vec!["dark".into(), "light".into()],
        ..ModelConfig::default()
    }
}

#[test]
fn what_a_file_does_not_say_is_said_by_settings_or_a_recipe() {
    let project = Project::new();
    let [pt, out] = ["model.pt", "model.safetensors"].map(|name| project.text(name));
    let wanted = small();
    let tensors = lively(&wanted);
    let wrapped = tensors.iter().map(|(name, tensor)| (format!("module.{name}"), tensor.clone())).collect();
    write_pt(Path::new(&pt), &wrapped);
    let settings = [
        "model.image_size=8",
        "model.num_groups=4",
        "model.num_heads=2",
        "model.class_names=[\"dark\", \"light\"]",
        "diffusion.noise_schedule=cosine",
        "diffusion.diffusion_steps=200",
    ];
    let mut arguments = vec!["--json", "import", &pt, "--out", &out];
    settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
    let row: serde_json::Value = serde_json::from_str(&ok(&arguments)).unwrap();
    let unsaid: Vec<&str> =
        row["assumed"].as_array().unwrap().iter().filter_map(|assumed| assumed["name"].as_str()).collect();
    let names = ["use_new_attention_order", "head", "dropout", "classifier_dropout"]
        .map(|name| format!("model.{name}"));
    assert_eq!(unsaid[..4], names);
    assert_eq!(unsaid[4..], ["diffusion.predict_xstart", "diffusion.rescale_timesteps"]);
    let read = weights(Path::new(&out));
    assert_eq!((read.model.clone(), read.weights), (wanted.clone(), tensors.clone()));
    assert_eq!((read.diffusion.noise_schedule, read.diffusion.diffusion_steps), (NoiseSchedule::Cosine, 200));

    // The same by a file: what `duet info` says of it.
    let info = project.path("info.json");
    std::fs::write(&info, ok(&["--json", "info", &out])).unwrap();
    let again = project.text("again.safetensors");
    ok(&["import", &pt, "--config", &text(&info), "--out", &again]);
    assert_eq!(weights(Path::new(&again)).model, read.model);
    // A state_dict as safetensors, and what it was trained on by a recipe, with its pictures.
    let plain = project.path("plain.safetensors");
    let views = tensors.iter().map(|(name, tensor)| {
        let bytes: &[u8] = bytemuck::cast_slice(&tensor.data);
        (
            name,
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, tensor.shape.clone(), bytes)
                .unwrap(),
        )
    });
    safetensors::serialize_to_file(views, None, &plain).unwrap();
    let recipe = std::fs::read_to_string(project.path("recipe.toml")).unwrap();
    let recipe = recipe.replace("[model]", "ground = 255\n[model]\nattention_resolutions = [4]\n");
    std::fs::write(project.path("white.toml"), recipe).unwrap();
    let config = project.text("white.toml");
    ok(&["import", &text(&plain), "--config", &config, "--out", &again]);
    let read = weights(Path::new(&again));
    assert_eq!((read.pictures.ground, read.model.class_names.len()), (255, 0));
    let answer = ok(&["classify", "--model", &out, &project.text("data/light/0.png")]);
    assert!(answer.contains("dark") && answer.contains("light"), "{answer}");

    let import = |more: &[&str], words: &[&str]| {
        let mut arguments = vec!["import", &pt, "--out", &again];
        arguments.extend(more);
        fails(&arguments, words);
    };
    import(&[], &["model.image_size", "--set model.image_size=PIXELS"]);
    let sized = ["--set", "model.image_size=8", "--set", "model.num_groups=4"];
    import(
        &[&sized[..], &["--set", "model.num_channels=16"]].concat(),
        &["num_channels", "say 8", "says 16"],
    );
    import(
        &[&sized[..], &["--set", "train.steps=5"]].concat(),
        &["train.steps=5", "[model] and [diffusion]"],
    );
    import(&[&sized[..], &["--key", "ema"]].concat(), &["model.pt", "\"ema\"; there are: none"]);
    fails(&["import", &pt, "--out", "model.pt"], &["must end in .safetensors"]);
    import(&["--config", &project.text("none.toml")], &["none.toml", "cannot be read"]);
    let shorter = project.path("short.pt");
    write_pt(&shorter, &tensors.iter().skip(1).map(|(n, t)| (n.clone(), t.clone())).collect());
    import(
        &[&sized[..], &["--ema", &text(&shorter)]].concat(),
        &["short.pt", "averages do not fit", "missing"],
    );
    fails(&["import", &out, "--out", &again], &["a configuration of its own"]);
    fails(&["import", &project.text("recipe.toml"), "--out", &again], &["recipe.toml", "text file"]);
    fails(&["import", &project.text("data"), "--out", &again], &["without unet/config.json"]);
    fails(&["classify", "--model", &pt, "x.png"], &["model.pt", "duet import FILE --out model.safetensors"]);
}

#[test]
fn a_network_without_a_classifier_gets_one_that_says_it_is_untrained() {
    let project = Project::new();
    let [pt, out] = ["unet.pt", "model.safetensors"].map(|name| project.text(name));
    let mut unet = lively(&small());
    unet.retain(|name, _| !name.starts_with("clasifier."));
    write_pt(Path::new(&pt), &unet);
    let settings =
        ["--set", "model.image_size=8", "--set", "model.num_groups=4", "--set", "model.num_heads=2"];
    let arguments = [&["import", &pt, "--out", &out][..], &settings].concat();
    fails(&arguments, &["unet.pt", "has no classifier", "--new-head CLASSES"]);
    let said = ok(&[&arguments[..], &["--new-head", "dark,light"]].concat());
    assert!(said.contains("no classifier") && said.contains("new and untrained"), "{said}");
    let read = weights(Path::new(&out));
    assert!(read.info["classifier"].contains("untrained") && read.model.class_names == ["dark", "light"]);
    assert!(unet.iter().all(|(name, tensor)| read.weights[name] == *tensor));
    // Who trains it begins with these weights.
    let recipe = std::fs::read_to_string(project.path("recipe.toml")).unwrap();
    let recipe = recipe.replace("[train]\nsteps = 12", "attention_resolutions = [4]\n[train]\nsteps = 2");
    std::fs::write(project.path("recipe.toml"), recipe).unwrap();
    project.train("run", &["--init", &out]);
    for bad in ["0", "a,,b"] {
        fails(&[&arguments[..], &["--new-head", bad]].concat(), &["new-head"]);
    }
}

pub fn python(script: &str, arguments: &[&str]) -> String {
    let python =
        std::env::var("DUET_PYTORCH").expect("DUET_PYTORCH names a Python with PyTorch and diffusers");
    let output = Command::new(python).args(["-c", script]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "needs Python with PyTorch, which DUET_PYTORCH names"]
fn pytorch_loads_an_exported_state_dict() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&folder.path().join(name));
    let config = ModelConfig { num_channels: 32, num_res_blocks: 1, ..ModelConfig::default() };
    let weights = lively(&config);
    Checkpoint::new(config, DiffusionConfig::default(), weights.clone())
        .save(Path::new(&at("m.safetensors")))
        .unwrap();
    ok(&["export", "--model", &at("m.safetensors"), "--pt", &at("m.pt")]);
    // Loaded and saved by PyTorch, as it does by itself and as it did before 1.6; BatchNorm takes its part strictly.
    let script = "\
import sys, torch
d = torch.load(sys.argv[1], weights_only=True)
n = d['clasifier.bn_1.weight'].numel()
torch.nn.BatchNorm1d(n).load_state_dict({k[15:]: v for k, v in d.items() if k.startswith('clasifier.bn_1.')}, strict=True)
d['clasifier.bn_1.num_batches_tracked'] = torch.tensor(12)
torch.save(d, sys.argv[2])
torch.save(d, sys.argv[3], _use_new_zipfile_serialization=False)
print(type(d).__name__, len(d), sum(v.numel() for v in d.values()))";
    let said = python(script, &[&at("m.pt"), &at("new.pt"), &at("old.pt")]);
    assert!(said.starts_with(&format!("OrderedDict {}", weights.len() + 1)), "{said}");
    for name in ["new.pt", "old.pt"] {
        ok(&["import", &at(name), "--out", &at("back.safetensors")]);
        assert_eq!(super::weights(Path::new(&at("back.safetensors"))).weights, weights, "{name}");
    }
}
