//! Networks of diffusers, in and out. What is compared with is by the real one: `trainer/tests/fixtures/diffusers`.

use super::interchange::{difference, lively, output, python, small, text};
use super::{fails, ok, weights};
use duet::checkpoint::Checkpoint;
use duet::diffusion::{DiffusionConfig, NoiseSchedule, Prediction};
use duet::model::ModelConfig;
use std::path::{Path, PathBuf};

fn pipeline(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/diffusers").join(name)
}

/// Tensors that the real diffusers computed.
fn answer(folder: &Path) -> [Vec<f32>; 3] {
    let bytes = std::fs::read(folder.join("answer.safetensors")).unwrap();
    let read = duet::checkpoint::state_dict(&bytes, folder).unwrap();
    ["x", "t", "out"].map(|name| read[name].data.clone())
}

/// The first channels of images of more.
fn first_channels(images: &[f32], count: usize, of: usize) -> Vec<f32> {
    let each = images.len() / 2;
    images.chunks(each).flat_map(|image| &image[..each / of * count]).copied().collect()
}

#[test]
fn pipelines_of_diffusers_become_models_that_compute_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let out = text(&folder.path().join("m.safetensors"));
    for (name, channels, outputs) in [("plain", 3, 3), ("resnet", 1, 2)] {
        let from = text(&pipeline(name));
        fails(&["import", &from, "--out", &out], &["has no classifier", "--new-head"]);
        let said = ok(&["import", &from, "--new-head", "4", "--out", &out]);
        assert!(said.contains("diffusers' UNet2DModel") && said.contains("8×8 images"), "{said}");
        let read = weights(Path::new(&out));
        let diffusion = match name {
            "plain" => DiffusionConfig {
                diffusion_steps: 500,
                noise_schedule: NoiseSchedule::Cosine,
                ..DiffusionConfig::default()
            },
            _ => DiffusionConfig {
                linear_start: 1e-4,
                prediction: Prediction::V,
                ..DiffusionConfig::default()
            },
        };
        assert_eq!((&read.diffusion, read.model.learn_sigma), (&diffusion, outputs > channels));
        let [x, t, wanted] = answer(&pipeline(name));
        let t: Vec<usize> = t.iter().map(|t| *t as usize).collect();
        let got = output(&read, &x, &t);
        let off = difference(&got, &first_channels(&wanted, channels, outputs));
        assert!(off < 1e-5, "{name}: {off}");

        // Out again: the same files, to the bit.
        let back = folder.path().join(name);
        ok(&["export", "--model", &out, "--diffusers", &text(&back)]);
        let of = |root: &Path| {
            let bytes = std::fs::read(root.join("unet/diffusion_pytorch_model.safetensors")).unwrap();
            duet::checkpoint::state_dict(&bytes, root).unwrap()
        };
        assert_eq!(of(&back), of(&pipeline(name)));
        let json = |root: &Path, name: &str| -> serde_json::Value {
            serde_json::from_slice(&std::fs::read(root.join(name)).unwrap()).unwrap()
        };
        for file in ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"] {
            let (ours, theirs) = (json(&back, file), json(&pipeline(name), file));
            for (key, value) in ours.as_object().unwrap() {
                let same = match key.as_str() {
                    // Said where it follows from another, or says nothing beside it.
                    "attn_norm_num_groups" | "variance_type" => true,
                    _ => {
                        theirs[key] == *value
                            || theirs[key].as_f64().is_some_and(|v| Some(v) == value.as_f64())
                    }
                };
                assert!(same, "{name} {file}: {key} is {value}, was {}", theirs[key]);
            }
        }
    }
}

#[test]
fn networks_that_are_laid_out_otherwise_are_refused_with_every_reason() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let save = |name: &str, config: ModelConfig, diffusion: DiffusionConfig| {
        let weights = lively(&config);
        Checkpoint::new(config, diffusion, weights).save(&at(name)).unwrap();
        text(&at(name))
    };
    // Its levels have heads of 4 and 8 channels, the first level is two widths wide, and it has 12 groups of 8 channels.
    let odd = ModelConfig {
        channel_mult: vec![2, 4],
        attention_resolutions: vec![8, 4],
        num_groups: 32,
        ..small()
    };
    let squeezed =
        DiffusionConfig { diffusion_steps: 500, rescale_timesteps: true, ..DiffusionConfig::default() };
    let model = save("odd.safetensors", odd, squeezed);
    let words =
        ["no UNet2DModel", "channel_mult must begin with 1", "16 over 16", "[8, 16]", "rescale_timesteps"];
    fails(&["export", "--model", &model, "--diffusers", &text(&at("out"))], &words);
    assert!(!at("out").exists(), "nothing is written");
    let words = ["must end in .pt"];
    fails(&["export", "--model", &model, "--pt", &text(&at("model.safetensors"))], &words);

    let change = |edit: &dyn Fn(&mut serde_json::Value)| {
        let changed = at("changed");
        for file in ["unet/config.json", "unet/diffusion_pytorch_model.safetensors"] {
            std::fs::create_dir_all(changed.join("unet")).unwrap();
            std::fs::copy(pipeline("plain").join(file), changed.join(file)).unwrap();
        }
        let path = changed.join("unet/config.json");
        let mut config = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        edit(&mut config);
        std::fs::write(&path, config.to_string()).unwrap();
        text(&changed)
    };
    let import = |from: &str, words: &[&str]| {
        fails(&["import", from, "--new-head", "2", "--out", &text(&at("m.safetensors"))], words);
    };
    // As google/ddpm-cifar10-32 is.
    let ddpm = change(&|config| {
        config["freq_shift"] = 1.into();
        config["flip_sin_to_cos"] = false.into();
        config["downsample_padding"] = 0.into();
        config["norm_eps"] = 1e-6.into();
        config["something_new"] = true.into();
        config["down_block_types"][0] = "SkipDownBlock2D".into();
    });
    let words = [
        "freq_shift is 1",
        "flip_sin_to_cos is false",
        "downsample_padding is 0",
        "norm_eps",
        "something_new",
    ];
    import(&ddpm, &[&words[..], &["SkipDownBlock2D", "config.json"]].concat());
    import(
        &change(&|config| config["_class_name"] = "UNet2DConditionModel".into()),
        &["UNet2DConditionModel"],
    );
    import(
        &change(&|config| config["layers_per_block"] = 2.into()),
        &["pytorch_model.safetensors", "missing: `down_blocks.0.resnets.1.norm1.weight` [4],", "more"],
    );
    import(
        &change(&|config| config["in_channels"] = 6.into()),
        &["out_channels is 3, must be in_channels, 6"],
    );
    import(
        &change(&|config| (config["in_channels"], config["out_channels"]) = (2.into(), 2.into())),
        &["`conv_in.weight` is [4, 3, 3, 3], must be [4, 2, 3, 3]"],
    );
    import(
        &change(&|config| config["resnet_time_scale_shift"] = "scale_shift".into()),
        &["attn_norm_num_groups"],
    );
    import(&change(&|config| *config = serde_json::json!([])), &["config.json", "no configuration"]);
    let empty = change(&|_| {});
    std::fs::remove_file(at("changed/unet/diffusion_pytorch_model.safetensors")).unwrap();
    import(&empty, &["pytorch_model.safetensors", "cannot be read"]);
    // Without a scheduler the process is as diffusers has it, and told.
    let alone = change(&|_| {});
    let out = text(&at("m.safetensors"));
    let said =
        ok(&["import", &alone, "--new-head", "2", "--set", "diffusion.diffusion_steps=500", "--out", &out]);
    assert!(
        said.contains("diffusion.linear_start = 0.0001") && !said.contains("diffusion_steps ="),
        "{said}"
    );
    fails(
        &[
            "import",
            &text(&pipeline("plain")),
            "--new-head",
            "2",
            "--set",
            "diffusion.diffusion_steps=7",
            "--out",
            &out,
        ],
        &["diffusion.diffusion_steps", "says 500", "says 7"],
    );
}

#[test]
#[ignore = "needs Python with diffusers, which DUET_PYTORCH names"]
fn diffusers_computes_what_an_exported_network_computes() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&folder.path().join(name));
    let base = ModelConfig {
        num_channels: 32,
        num_res_blocks: 1,
        num_head_channels: Some(8),
        ..ModelConfig::default()
    };
    let cases = [
        ("28, heads by heads", ModelConfig { num_res_blocks: 2, ..base.clone() }, DiffusionConfig::default()),
        (
            "32, three channels, new order",
            ModelConfig { image_size: 32, in_channels: 3, use_new_attention_order: true, ..base.clone() },
            DiffusionConfig { noise_schedule: NoiseSchedule::Cosine, ..DiffusionConfig::default() },
        ),
        (
            "16, learned sigma, resampling in blocks, no scale and shift, v",
            ModelConfig {
                image_size: 16,
                channel_mult: vec![1, 2, 3],
                attention_resolutions: vec![16, 4],
                learn_sigma: true,
                resblock_updown: true,
                use_scale_shift_norm: false,
                num_groups: 16,
                ..base.clone()
            },
            DiffusionConfig { diffusion_steps: 200, prediction: Prediction::V, ..DiffusionConfig::default() },
        ),
    ];
    for (what, config, diffusion) in cases {
        let checkpoint = Checkpoint::new(config.clone(), diffusion.clone(), lively(&config));
        checkpoint.save(Path::new(&at("m.safetensors"))).unwrap();
        ok(&["export", "--model", &at("m.safetensors"), "--diffusers", &at("pipeline")]);
        // The pipeline as a whole runs, and its ᾱ are ours.
        let script = "\
import sys, torch
from diffusers import DDPMPipeline
from safetensors.torch import save_file
pipeline = DDPMPipeline.from_pretrained(sys.argv[1])
unet = pipeline.unet.eval()
torch.manual_seed(1)
x = torch.randn(2, unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
t = torch.tensor([3, 150])
with torch.no_grad():
    save_file({'x': x, 't': t.float(), 'out': unet(x, t).sample.contiguous(),
               'levels': pipeline.scheduler.alphas_cumprod.float()}, sys.argv[1] + '/answer.safetensors')
pipeline.set_progress_bar_config(disable=True)
print(pipeline(num_inference_steps=2).images[0].size)";
        let said = python(script, &[&at("pipeline")]);
        assert_eq!(said.trim(), format!("({0}, {0})", config.image_size), "{what}");
        let [x, t, wanted] = answer(Path::new(&at("pipeline")));
        let t: Vec<usize> = t.iter().map(|t| *t as usize).collect();
        let got = output(&checkpoint, &x, &t);
        let off = difference(&got, &first_channels(&wanted, config.in_channels, config.out_channels()));
        println!("{what}: {off:e} of the largest value");
        assert!(off < 1e-4, "{what}: {off}");
        let bytes = std::fs::read(at("pipeline/answer.safetensors")).unwrap();
        let levels = duet::checkpoint::state_dict(&bytes, Path::new("x")).unwrap()["levels"].data.clone();
        let schedule = duet::diffusion::Schedule::new(&diffusion).unwrap();
        for (theirs, ours) in levels.iter().zip(&schedule.alphas_cumprod) {
            assert!((f64::from(*theirs) - ours).abs() < 1e-5, "{what}: {theirs} instead of {ours}");
        }
        // And back in, with the same output.
        ok(&["import", &at("pipeline"), "--new-head", "10", "--out", &at("back.safetensors")]);
        let back = weights(Path::new(&at("back.safetensors")));
        assert_eq!(back.diffusion.prediction, diffusion.prediction);
        let off = difference(&output(&back, &x, &t), &got);
        assert!(off < 1e-5, "{what}: {off}");
    }
}
