//! A run that an earlier version began goes on as it would have there.
//!
//! `tests/fixtures/resume` holds what that version saved after five steps and what comes of three more, in one micro-batch and
//! in two. Each file's `info` names the adapter and the driver that computed it. `DUET_BLESS=1` stores the latter anew, where the same
//! device is to compute other bits: since noise is drawn by a logarithm and a cosine of the generator's own it differs in its last digits.

use crate::families::device_of;
use crate::harness::{device, values};
use duet::checkpoint::Checkpoint;
use duet::families::Family;
use duet::gpu::Device;
use duet::model::Labels;
use duet::tensor::Tensors;
use duet::train::{Batch, ClassifierInput, TrainOptions, Trainer};
use std::path::{Path, PathBuf};

const IMAGES: usize = 8;
const LEARNING_RATE: f64 = 1e-4;
/// Between devices or families of kernels, relative to a tensor's largest value.
const BOUND: f32 = 1e-4;

fn options(micro_batches: usize) -> TrainOptions {
    TrainOptions {
        batch_size: IMAGES,
        micro_batches,
        learning_rate: LEARNING_RATE,
        ema_rate: 0.9,
        classifier_loss_scaling: 0.5,
        classifier_input: ClassifierInput::Both,
        seed: 11,
        ..TrainOptions::default()
    }
}

/// The batch of a step; the saved runs saw the same.
fn batch(step: u64) -> Batch {
    let images = values(step, IMAGES * 64);
    let labels = (0..IMAGES as u64).map(|n| ((n + step) % 3) as u32).collect();
    Batch { images, labels: Labels::Classes(labels) }
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/resume/{name}.safetensors"))
}

fn load(name: &str) -> Checkpoint {
    Checkpoint::load(&file(name)).unwrap()
}

/// Every tensor of a checkpoint, by kind.
fn kinds(checkpoint: &Checkpoint) -> [(&'static str, &Tensors); 4] {
    let training = checkpoint.training.as_ref().expect("a training state");
    let average = checkpoint.ema.as_ref().expect("an average");
    [
        ("weights", &checkpoint.weights),
        ("ema", average),
        ("adam_m", &training.adam_m),
        ("adam_v", &training.adam_v),
    ]
}

/// Whether an element is a bias of attention's keys: softmax takes the same amount from all of a query's scores, so its
/// gradient is nothing but rounding noise, which AdamW scales to whole steps.
fn is_key_bias(tensor: &str, i: usize, len: usize) -> bool {
    tensor.ends_with("qkv.bias") && (len / 3..2 * len / 3).contains(&i)
}

/// Goes on for three steps on `device` and compares every tensor with what was saved then: bit for bit where
/// `same_device`, else within [`BOUND`].
fn goes_on(device: &Device, name: &str, micro_batches: usize, same_device: bool) {
    let (before, after) = (load(name), load(&format!("{name}_after")));
    let mut trainer = pollster::block_on(Trainer::resume(device, &before, &options(micro_batches))).unwrap();
    assert_eq!(trainer.step(), 5);
    for step in 5..8 {
        trainer.train_step(&batch(step), LEARNING_RATE).unwrap();
    }
    let got = pollster::block_on(trainer.checkpoint()).unwrap();
    assert_eq!(got.training.as_ref().unwrap().step, after.training.as_ref().unwrap().step);
    if same_device && std::env::var_os("DUET_BLESS").is_some() {
        return Checkpoint { info: after.info, ..got }.save(&file(&format!("{name}_after"))).unwrap();
    }
    let mut worst = (0.0f32, String::new());
    for (((kind, got), (_, want)), (_, old)) in kinds(&got).into_iter().zip(kinds(&after)).zip(kinds(&before))
    {
        assert!(got.keys().eq(want.keys()), "{name}: other tensors in {kind}");
        assert_ne!(want, old, "{name}: three steps change {kind}");
        for (tensor, want) in want {
            assert_eq!(got[tensor].shape, want.shape, "{name}: {kind}/{tensor}");
            let scale = want.data.iter().fold(0.0f32, |m, v| m.max(v.abs())).max(f32::MIN_POSITIVE);
            for (i, (g, w)) in got[tensor].data.iter().zip(&want.data).enumerate() {
                let same = g.to_bits() == w.to_bits();
                assert!(same || !same_device, "{name}: {kind}/{tensor}[{i}] is {g} instead of {w}");
                let mut apart = if same { 0.0 } else { (g - w).abs() / scale };
                assert!(apart.is_finite(), "{name}: {kind}/{tensor}[{i}] is {g}");
                if is_key_bias(tensor, i, want.data.len()) && matches!(kind, "weights" | "ema") {
                    // At most a step each way three times over.
                    let steps = 6.0 * LEARNING_RATE as f32;
                    assert!((g - w).abs() <= steps, "{name}: {kind}/{tensor}[{i}] is {g} instead of {w}");
                    apart = 0.0;
                }
                if apart > worst.0 {
                    worst = (apart, format!("{kind}/{tensor}[{i}]: {g} instead of {w}"));
                }
            }
        }
    }
    println!("{name}: same device {same_device}, worst {worst:?}");
    assert!(worst.0 <= BOUND, "{name}: {worst:?}");
}

fn runs(device: &Device, kernels_as_then: bool) {
    for (name, micro_batches) in [("resume_v1", 1), ("resume_v1_micro2", 2)] {
        let info = load(name).info;
        let same = info["adapter"] == device.info().name && info["driver"] == device.info().driver;
        goes_on(device, name, micro_batches, same && kernels_as_then);
    }
}

#[test]
fn an_earlier_versions_run_goes_on() {
    runs(device(), true);
}

/// What another device would do: the same steps by other kernels.
#[test]
fn an_earlier_versions_run_goes_on_with_other_kernels() {
    runs(&device_of(Family::Direct), false);
}
