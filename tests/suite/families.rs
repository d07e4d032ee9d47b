//! Choosing between families of kernels: rules, tables, and that a model computes the same in either.

use crate::harness::{families, tiny_config, values, wide};
use duet::Error;
use duet::diffusion::DiffusionConfig;
use duet::families::{Choices, Family, Key, KeyKind, Measured, Tuning};
use duet::gpu::Traits;
use duet::gpu::{Device, DeviceOptions};
use duet::graph::{Graph, Place};
use duet::model::{JointModel, Labels, ModelConfig};
use duet::ops::conv2d::{Conv2d, Window};
use duet::ops::conv3x3::Conv3x3;
use duet::ops::matmul::MatMul;
use duet::rng::Seed;
use duet::self_test;
use duet::train::{ClassifierInput, StepInput, StepOutput, training_step};
use std::path::Path;
use std::sync::Arc;

const GPU: Traits =
    Traits { software: false, invocations: 256, workgroup_bytes: 16384, lanes: 32, matrices: false };
const CPU: Traits = Traits { software: true, ..GPU };

fn conv(batch: usize, side: usize, in_channels: usize, out_channels: usize, stride: usize) -> Conv3x3 {
    Conv3x3 { batch, height: side, width: side, in_channels, out_channels, stride }
}

/// A convolution of a window that 3×3 convolutions are not.
fn conv2d() -> Conv2d {
    let window = Window { kernel: [1, 7], stride: [1, 2], padding: [0, 3] };
    Conv2d::new([8, 17, 17, 128], 192, window).unwrap()
}

fn table(otherwise: Option<Family>, choices: &[(Key, Family)]) -> Tuning {
    let row = |(key, family): &(Key, Family)| Measured {
        key: key.clone(),
        family: *family,
        direct_ms: Some(1.5),
        tiled_ms: None,
        subgroup_ms: None,
        cooperative_ms: None,
    };
    Tuning {
        adapter: "Some".into(),
        measured: "not at all".into(),
        otherwise,
        choices: choices.iter().map(row).collect(),
    }
}

/// A device that runs everything in `family`.
pub fn device_of(family: Family) -> Device {
    let options = DeviceOptions { adapter: std::env::var("DUET_ADAPTER").ok(), ..DeviceOptions::default() };
    let device = pollster::block_on(Device::open(&options)).unwrap();
    Choices::install(&device, &[Tuning { adapter: String::new(), ..table(Some(family), &[]) }]);
    device
}

#[test]
fn rules_follow_the_adapter_and_the_shape() {
    let forward = |size: Conv3x3| size.key(KeyKind::ConvForward);
    let gpu = Choices::of("Some GPU", GPU, &[]);
    assert_eq!(gpu.family(&forward(conv(8, 28, 32, 32, 1))), Family::Tiled);
    assert_eq!(gpu.family(&forward(conv(8, 28, 32, 32, 2))), Family::Tiled);
    for empty in [conv(8, 28, 1, 32, 1), conv(8, 28, 32, 1, 1), conv(1, 7, 64, 64, 1)] {
        assert_eq!(gpu.family(&forward(empty)), Family::Direct, "{empty:?}");
    }
    let strided = conv(8, 28, 32, 32, 2);
    assert_eq!(gpu.family(&strided.key(KeyKind::ConvGradInput)), Family::Direct);
    assert_eq!(gpu.family(&strided.key(KeyKind::ConvGradWeight)), Family::Tiled);
    assert_eq!(gpu.family(&conv2d().key(KeyKind::Conv2dForward)), Family::Direct);
    let big = forward(conv(8, 28, 128, 128, 1));
    assert_eq!(Choices::of("Some CPU", CPU, &[]).family(&big), Family::Direct);
    let small = Traits { workgroup_bytes: 4096, ..GPU };
    let tiled = table(Some(Family::Tiled), &[]);
    assert_eq!(Choices::of("Some GPU", small, std::slice::from_ref(&tiled)).family(&big), Family::Direct);
    assert!(Choices::of("llvmpipe (LLVM 15.0.6, 256 bits)", CPU, &[]) == Choices::of("llvmpipe", CPU, &[]));
}

#[test]
fn subgroups_of_eight_are_used_on_software_alone() {
    let eight = Traits { lanes: 8, ..CPU };
    let cpu = Choices::of("Some CPU", eight, &[]);
    assert!(!cpu.is_gpu() && !Choices::of("Some CPU", CPU, &[]).is_gpu() && !Choices::default().is_gpu());
    assert!(Choices::of("Some GPU", GPU, &[]).is_gpu() && Choices::all(Family::Tiled).is_gpu());
    let weight = |size: Conv3x3| size.key(KeyKind::ConvGradWeight);
    for (key, family) in [
        (conv(8, 28, 32, 32, 1).key(KeyKind::ConvForward), Family::Subgroup),
        (conv(8, 28, 32, 1, 1).key(KeyKind::ConvForward), Family::Subgroup),
        (conv(8, 28, 32, 32, 2).key(KeyKind::ConvForward), Family::Subgroup),
        (conv(8, 28, 32, 32, 2).key(KeyKind::ConvGradInput), Family::Subgroup),
        (weight(conv(8, 28, 32, 32, 2)), Family::Direct),
        (conv2d().key(KeyKind::Conv2dForward), Family::Subgroup),
        (conv2d().key(KeyKind::Conv2dGradInput), Family::Subgroup),
        (weight(conv(8, 28, 32, 32, 1)), Family::Subgroup),
        (weight(conv(8, 28, 1, 32, 1)), Family::Direct),
        (weight(conv(8, 28, 32, 1, 1)), Family::Direct),
        (MatMul { rows: 8, in_features: 3, out_features: 4 }.key(KeyKind::MatmulForward), Family::Subgroup),
    ] {
        assert_eq!(cpu.family(&key), family, "{key}");
    }
    let big = conv(8, 28, 128, 128, 1).key(KeyKind::ConvForward);
    let gpu = Traits { lanes: 8, ..GPU };
    assert_eq!(Choices::of("Some GPU", gpu, &[]).family(&big), Family::Tiled);
    let asked = table(Some(Family::Subgroup), &[]);
    assert_eq!(Choices::of("Some GPU", gpu, std::slice::from_ref(&asked)).family(&big), Family::Subgroup);
    let listed = table(None, &[(big.clone(), Family::Subgroup)]);
    for tuning in [asked, listed] {
        assert_eq!(Choices::of("Some GPU", GPU, &[tuning]).family(&big), Family::Tiled, "32 lanes");
    }
}

#[test]
fn a_table_overrides_the_rules() {
    let [listed, other] = [32, 64].map(|channels| conv(8, 28, channels, 32, 1).key(KeyKind::ConvForward));
    let tuning = table(None, &[(listed.clone(), Family::Direct)]);
    let gpu = Choices::of("Some GPU", GPU, std::slice::from_ref(&tuning));
    assert_eq!((gpu.family(&listed), gpu.family(&other)), (Family::Direct, Family::Tiled));
    let tuning = table(Some(Family::Tiled), &[(listed.clone(), Family::Direct)]);
    let cpu = Choices::of("Some CPU", CPU, std::slice::from_ref(&tuning));
    assert_eq!((cpu.family(&listed), cpu.family(&other)), (Family::Direct, Family::Tiled));
    let elsewhere = Choices::of("Another GPU", GPU, std::slice::from_ref(&tuning));
    assert_eq!(elsewhere.family(&listed), Family::Tiled, "the table is of another adapter");
    let nearer = Tuning { adapter: "Some CPU".into(), ..table(Some(Family::Direct), &[]) };
    for tables in [[tuning.clone(), nearer.clone()], [nearer, tuning]] {
        assert!(
            Choices::of("Some CPU", CPU, &tables).is_direct(),
            "the longest name that fits, wherever it stands"
        );
    }
    let strided = conv(8, 28, 32, 32, 2).key(KeyKind::ConvGradInput);
    assert_eq!(cpu.family(&strided), Family::Direct);
    assert!(!cpu.is_direct() && Choices::default().is_direct());
}

#[test]
fn tables_survive_their_text_and_say_what_is_wrong() {
    let keys = [
        (conv(8, 28, 32, 33, 1).key(KeyKind::ConvGradWeight), Family::Tiled),
        (MatMul { rows: 8, in_features: 3, out_features: 4 }.key(KeyKind::MatmulForward), Family::Direct),
        (conv2d().key(KeyKind::Conv2dForward), Family::Subgroup),
    ];
    let tuning = table(None, &keys);
    assert_eq!(Conv2d::of_key(&keys[2].0), Some(conv2d()));
    let text = tuning.to_json();
    let path = Path::new("some/table.json");
    assert_eq!(Tuning::parse(path, &text).unwrap(), tuning);
    assert!(tuning.fits("AWESOME GPU") && !tuning.fits("other"));
    for (old, new, expected) in [
        ("\"format\": 1", "\"format\": 7", "format: is 7"),
        ("\"adapter\": \"Some\"", "\"adapter\": \" \"", "adapter: must be"),
        ("\"adapter\"", "\"adaptor\"", "unknown field `adaptor`"),
        ("\"conv_grad_weight\"", "\"conv_sideways\"", "unknown variant `conv_sideways`"),
        ("\"batch\": 8", "\"batch\": 0", "choices[0].shape.batch: must be at least 1"),
        ("\"batch\": 8", "\"bach\": 8", "choices[0].shape.bach: conv_grad_weight has batch, height"),
        (",\n        \"rows\": 8", "", "choices[1].shape.rows: is missing"),
        ("\"tiled\"", "\"fast\"", "unknown variant `fast`"),
        ("\"stride\": 1", "\"stride\": \"one\"", "invalid type: string \"one\""),
        ("\n}\n", "", "EOF"),
    ] {
        let changed = text.replacen(old, new, 1);
        assert_ne!(changed, text, "{old} is not there");
        let error = Tuning::parse(path, &changed).unwrap_err();
        assert!(matches!(error, Error::Config { .. }));
        let message = error.to_string();
        assert!(message.contains("some/table.json") && message.contains(expected), "{message}");
    }
    let strided = conv(8, 28, 32, 32, 2).key(KeyKind::ConvGradInput);
    let text = table(None, &[(strided, Family::Tiled)]).to_json();
    let message = Tuning::parse(path, &text).unwrap_err().to_string();
    assert!(message.contains("choices[0].family: there is no tiled kernel for conv_grad_input"), "{message}");
    assert!(Tuning::read(Path::new("no/such.json")).unwrap_err().to_string().contains("no/such.json"));
}

#[test]
fn the_shipped_tables_can_be_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/families/tuned");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let tuning = Tuning::read(&path).unwrap();
        assert!(!tuning.measured.is_empty(), "{}: says not how it was measured", path.display());
        assert_eq!(Tuning::shipped(&tuning.adapter).unwrap(), tuning, "{} is not shipped", path.display());
        count += 1;
    }
    assert!(count >= 2 && Tuning::shipped("Radeon").is_none());
}

#[test]
fn plans_fixed_at_compilation_stay_as_they_are() {
    let mut graph = Graph::new();
    let x = graph.leaf(&[1, 8, 8, 16], Place::whole("x"));
    let w = graph.leaf(&[9, 16, 16], Place::whole("w"));
    let y = graph.conv3x3(x, w, 1, None, None).unwrap();
    graph.place(y, Place::whole("y"));
    let file = |plan: &duet::graph::Plan| plan.program().launches[0].kernel.file;
    let tiled = Choices::all(Family::Tiled);
    let open = graph.compile().unwrap();
    assert_eq!((file(&open), file(&open.chosen(&tiled).unwrap())), ("conv3x3", "conv3x3_tiled"));
    let fixed = graph.compile_for(&Choices::default()).unwrap();
    assert_eq!(file(&fixed.chosen(&tiled).unwrap()), "conv3x3");
    assert_eq!(file(&graph.compile_for(&tiled).unwrap()), "conv3x3_tiled");
}

fn step(device: &Device) -> StepOutput {
    let config = ModelConfig {
        image_size: 12,
        num_channels: 36,
        classifier_dropout: 0.0,
        attention_resolutions: vec![6],
        ..tiny_config()
    };
    let model = Arc::new(JointModel::new(&config).unwrap());
    let mut tensors = model.params.initial(Seed(3));
    // Layers that begin with zeros would stop the gradients behind them.
    for (number, tensor) in tensors.values_mut().enumerate() {
        let noise = values(number as u64, tensor.data.len());
        tensor.data.iter_mut().zip(noise).for_each(|(v, n)| *v += 0.05 * n);
    }
    let len = 3 * config.in_channels * 144;
    let input = StepInput {
        x_start: values(1, len),
        noise: values(2, len),
        timesteps: vec![1, 250, 900],
        labels: Labels::Classes(vec![0, 2, 1]),
        classifier_input: ClassifierInput::Both,
        classifier_loss_scaling: 0.5,
    };
    let diffusion = DiffusionConfig::default();
    pollster::block_on(training_step(device, &model, &diffusion, &tensors, &input)).unwrap()
}

#[test]
fn a_training_step_is_the_same_in_every_family() {
    let direct = step(&device_of(Family::Direct));
    assert!(direct.gradients.len() > 50);
    for family in families().into_iter().filter(|f| *f != Family::Direct) {
        let other = step(&device_of(family));
        let apart = (direct.loss - other.loss).abs();
        assert!(apart <= 1e-5 * direct.loss.abs(), "{family}: {} {}", direct.loss, other.loss);
        for (name, want) in &direct.gradients {
            let (got, want) = (wide(&other.gradients[name].data), wide(&want.data));
            let largest = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            let off = got.iter().zip(&want).fold(0.0f64, |m, (g, w)| m.max((g - w).abs()));
            // BatchNorm over three samples and sums that cancel amplify the last bits; faults are of the order of one.
            assert!(off <= 1e-3 * largest + 1e-6, "{family} {name}: off by {off}, largest {largest}");
        }
    }
    assert!(direct.gradients.values().any(|t| t.data.iter().any(|v| v.abs() > 1e-3)));
}

#[test]
fn the_self_test_passes_in_every_family() {
    for family in families() {
        let device = device_of(family);
        assert_eq!(
            Choices::of_device(&device).family(&conv(3, 8, 8, 8, 1).key(KeyKind::ConvForward)),
            family
        );
        pollster::block_on(self_test::figures(&device)).unwrap().check().unwrap();
    }
}
