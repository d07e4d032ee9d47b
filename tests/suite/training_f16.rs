//! Training with feature maps and gradients stored as f16: the same training, no step spoilt by an overflow.

use crate::harness::{device, stores_f16, tiny_config, values};
use crate::training::{batch, options, run, saved, start};
use duet::Error;
use duet::autodiff::{Activations, Precision};
use duet::checkpoint::{Checkpoint, Dtype, LossScale};
use duet::diffusion::DiffusionConfig;
use duet::gpu::Device;
use duet::infer::ImageClassifier;
use duet::model::{JointModel, Labels, WeightSet};
use duet::tensor::Tensors;
use duet::train::{Batch, ClassifierInput, Groups, Rate, TrainOptions, Trainer};
use std::path::Path;
use std::sync::Arc;

fn f16(options: TrainOptions) -> TrainOptions {
    TrainOptions { precision: Precision::F16, ..options }
}

/// |a − b| of all tensors together, relative to |b|.
fn apart(a: &Tensors, b: &Tensors) -> f64 {
    let (mut difference, mut length) = (0.0, 0.0);
    for (name, tensor) in b {
        for (a, b) in a[name].data.iter().zip(&tensor.data) {
            difference += f64::from(a - b).powi(2);
            length += f64::from(*b).powi(2);
        }
    }
    (difference / length).sqrt()
}

fn resumed(checkpoint: &Checkpoint, options: &TrainOptions) -> Trainer {
    pollster::block_on(Trainer::resume(device(), checkpoint, options)).unwrap()
}

/// The state after `steps` steps with another scale.
fn with_scale(options: &TrainOptions, steps: u64, scale: LossScale) -> (Checkpoint, Trainer) {
    let mut trainer = start(options);
    run(&mut trainer, 0..steps, 6);
    let mut checkpoint = saved(&trainer);
    checkpoint.training.as_mut().unwrap().loss_scale = Some(scale);
    let trainer = resumed(&checkpoint, options);
    (checkpoint, trainer)
}

#[test]
fn gradients_are_those_of_f32_whatever_the_groups() {
    if !stores_f16() {
        return;
    }
    let two = Groups { encoder: Rate::Factor(0.25), decoder: Rate::Factor(2.0), ..Groups::default() };
    // A network that has learned a little: in a fresh one the last convolutions are zero, and stop all gradients.
    let mut begun = start(&TrainOptions { batch_size: 12, ..options() });
    run(&mut begun, 0..12, 12);
    // Its moments are left behind: the first one is then 0.1 times the unscaled, clipped gradient.
    let begun = Checkpoint { training: None, ..saved(&begun) };
    // The classifier's BatchNorm divides by differences between few images, and multiplies what rounding makes of them.
    for (groups, micro_batches, clip_grad_norm, classifier_input, bound) in [
        (Groups::default(), 1, None, ClassifierInput::Both, 0.02),
        (two.clone(), 1, Some(0.1), ClassifierInput::None, 2e-3),
        (two, 2, None, ClassifierInput::None, 2e-3),
    ] {
        let base = TrainOptions {
            groups,
            micro_batches,
            clip_grad_norm,
            classifier_input,
            batch_size: 12,
            ..options()
        };
        let [mut exact, mut half] = [base.clone(), f16(base)].map(|options| resumed(&begun, &options));
        for trainer in [&mut exact, &mut half] {
            run(trainer, 0..1, 12);
        }
        let [exact_after, half_after] = [&exact, &half].map(|trainer| saved(trainer).training.unwrap());
        let difference = apart(&half_after.adam_m, &exact_after.adam_m);
        println!("{micro_batches} {clip_grad_norm:?} {classifier_input:?}: {difference:.2e}");
        assert!(difference > 0.0, "something was rounded");
        assert!(difference < bound, "gradients are {difference} apart");
        let [exact, half] = [&mut exact, &mut half].map(|t| pollster::block_on(t.metrics()).unwrap());
        assert!((exact.loss - half.loss).abs() < 5e-3 * exact.loss, "{} and {}", exact.loss, half.loss);
        assert_eq!((half.loss_scale, half.skipped), (Some(65_536.0), 0));
        assert_eq!((exact.loss_scale, exact.skipped), (None, 0));
        if let (Some(exact), Some(half)) = (exact.gradient_norm, half.gradient_norm) {
            assert!((exact - half).abs() < 2e-3 * exact, "norms {exact} and {half}");
        }
    }
}

#[test]
fn a_step_that_overflows_changes_nothing_but_the_scale() {
    if !stores_f16() {
        return;
    }
    for clip_grad_norm in [None, Some(1.0)] {
        let options = f16(TrainOptions { clip_grad_norm, ..options() });
        let huge = LossScale { scale: 2f32.powi(60), good_steps: 7, skipped: 2 };
        let (before, mut trainer) = with_scale(&options, 2, huge);
        run(&mut trainer, 2..3, 6);
        let metrics = pollster::block_on(trainer.metrics()).unwrap();
        assert_eq!((metrics.loss_scale, metrics.skipped), (Some(2f32.powi(59)), 1));
        assert!(metrics.loss.is_finite());
        assert_eq!(metrics.gradient_norm, clip_grad_norm.map(|_| 0.0));
        let after = saved(&trainer);
        let [old, new] = [&before, &after].map(|c| c.training.as_ref().unwrap());
        assert!(old.adam_m == new.adam_m && old.adam_v == new.adam_v && before.ema == after.ema);
        for (name, tensor) in &before.weights {
            // Running statistics are of the forward pass, which was sound.
            assert!(name.contains("running") || *tensor == after.weights[name], "{name} moved");
        }
        assert_eq!(new.loss_scale, Some(LossScale { scale: 2f32.powi(59), good_steps: 0, skipped: 3 }));
        assert_eq!(new.step, 3);
    }
}

#[test]
fn the_scale_grows_after_two_thousand_good_steps_and_is_no_part_of_the_gradients() {
    if !stores_f16() {
        return;
    }
    let options = f16(options());
    let scaled = |scale, good_steps| with_scale(&options, 1, LossScale { scale, good_steps, skipped: 0 });
    let (_, mut trainer) = scaled(1024.0, 1998);
    let mut seen = Vec::new();
    for step in 1..4 {
        run(&mut trainer, step..step + 1, 6);
        let state = pollster::block_on(trainer.loss_scale()).unwrap().unwrap();
        seen.push((state.scale, state.good_steps));
    }
    assert_eq!(seen, [(1024.0, 1999), (2048.0, 0), (2048.0, 1)]);
    // It stays below what f16 can make use of.
    let (_, mut trainer) = scaled(2f32.powi(24), 1999);
    run(&mut trainer, 1..2, 6);
    let state = pollster::block_on(trainer.loss_scale()).unwrap().unwrap();
    assert!(state.scale <= 2f32.powi(24), "{state:?}");
    // Other scales round other bits of the same gradients.
    let [small, large] = [256.0, 16_384.0].map(|scale| {
        let (_, mut trainer) = scaled(scale, 0);
        run(&mut trainer, 1..2, 6);
        saved(&trainer).training.unwrap().adam_m
    });
    assert!(apart(&small, &large) < 5e-3);
}

#[test]
fn a_run_whose_scale_falls_below_one_ends() {
    if !stores_f16() {
        return;
    }
    let options = f16(options());
    let lowest = LossScale { scale: 1.0, good_steps: 0, skipped: 16 };
    let (mut checkpoint, _) = with_scale(&options, 1, lowest);
    // Weights that overflow f32 in the backward pass alone would be rare; a NaN among them is not.
    let name = checkpoint.weights.keys().find(|name| name.starts_with("out.2")).unwrap().clone();
    checkpoint.weights.get_mut(&name).unwrap().data[0] = f32::NAN;
    let mut trainer = resumed(&checkpoint, &options);
    run(&mut trainer, 1..2, 6);
    let error = pollster::block_on(trainer.metrics()).unwrap_err();
    assert!(matches!(error, Error::NotFinite { .. }), "{error}");
    assert!(error.to_string().contains("until its scale fell to 0.5"), "{error}");
    assert!(pollster::block_on(trainer.checkpoint()).is_err());
    for scale in [0.5, 0.0, -1.0, f32::NAN, f32::INFINITY] {
        checkpoint.training.as_mut().unwrap().loss_scale = Some(LossScale { scale, ..lowest });
        let error =
            pollster::block_on(Trainer::resume(device(), &checkpoint, &options)).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("loss_scale"), "{error}");
    }
}

#[test]
fn a_resumed_run_has_the_same_bits() {
    if !stores_f16() {
        return;
    }
    for (micro_batches, activations) in [(1, Activations::Keep), (2, Activations::Recompute)] {
        let options = f16(TrainOptions { micro_batches, activations, ..options() });
        let (_, mut whole) =
            with_scale(&options, 1, LossScale { scale: 2f32.powi(40), good_steps: 3, skipped: 0 });
        // The first of these steps overflow.
        run(&mut whole, 1..4, 6);
        let bytes = saved(&whole).to_bytes(Dtype::F32).unwrap();
        let read = Checkpoint::from_bytes(&bytes, Path::new("saved.safetensors")).unwrap();
        assert!(read.training.as_ref().unwrap().loss_scale.unwrap().skipped > 0);
        let mut again = resumed(&read, &options);
        for trainer in [&mut whole, &mut again] {
            run(trainer, 4..7, 6);
        }
        assert!(saved(&whole) == saved(&again));
        let [whole, again] = [whole, again].map(|t| pollster::block_on(t.loss_scale()).unwrap());
        assert_eq!(whole, again);
    }
}

#[test]
fn recomputed_activations_have_the_same_bits() {
    if !stores_f16() {
        return;
    }
    let [kept, again] = [Activations::Keep, Activations::Recompute].map(|activations| {
        let mut trainer = start(&f16(TrainOptions { activations, ..options() }));
        run(&mut trainer, 0..2, 6);
        saved(&trainer)
    });
    assert!(kept == again);
    let error = f16(TrainOptions { activations: Activations::F16, ..options() }).validate().unwrap_err();
    assert!(error.to_string().contains("activations"), "{error}");
}

#[test]
fn a_device_without_f16_is_refused_by_name() {
    let instance = duet::wgpu::Instance::new(duet::wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = pollster::block_on(instance.enumerate_adapters(duet::wgpu::Backends::PRIMARY));
    let adapter = adapters.into_iter().find(|a| a.get_info().name == device().info().name).unwrap();
    let (bare, queue) =
        pollster::block_on(adapter.request_device(&duet::wgpu::DeviceDescriptor::default())).unwrap();
    let bare = Device::adopt(bare, queue);
    assert!(!bare.has_f16());
    let model = Arc::new(JointModel::new(&tiny_config()).unwrap());
    let begin = |options: &TrainOptions| {
        let diffusion = DiffusionConfig::default();
        pollster::block_on(Trainer::new(&bare, Arc::clone(&model), &diffusion, options)).map(|_| ())
    };
    let error = begin(&f16(options())).unwrap_err().to_string();
    for part in ["precision", bare.info().name.as_str(), "shader-f16", "\"f32\""] {
        assert!(error.contains(part), "{part:?} is missing: {error}");
    }
    begin(&options()).unwrap();
}

/// The three kinds of images under so much noise that they are hard to tell.
fn hard(number: u64, count: usize) -> Batch {
    let mut batch = batch(number, count);
    for (pixel, noise) in batch.images.iter_mut().zip(values(number + 1_000, count * 64)) {
        *pixel = (0.2 * *pixel + 0.8 * noise).clamp(-1.0, 1.0);
    }
    batch
}

/// Accuracy on fresh images, and noise error of the last steps.
fn learned(options: &TrainOptions) -> [f64; 2] {
    const STEPS: u64 = 60;
    let mut trainer = start(options);
    for step in 0..STEPS {
        if step == STEPS - 20 {
            pollster::block_on(trainer.metrics()).unwrap();
        }
        trainer.train_step(&hard(step, options.batch_size), 3e-3).unwrap();
    }
    let error = f64::from(pollster::block_on(trainer.metrics()).unwrap().mse);
    let test = hard(STEPS, 192);
    let Labels::Classes(labels) = &test.labels else { unreachable!("classes") };
    let classifier = ImageClassifier::new(trainer.weights(), labels.len(), WeightSet::Raw);
    let classifier = pollster::block_on(classifier).unwrap();
    let logits = pollster::block_on(classifier.logits(&test.images)).unwrap();
    let right = logits.chunks(3).zip(labels).filter(|(row, label)| {
        row.iter().enumerate().all(|(i, v)| i == **label as usize || *v < row[**label as usize])
    });
    [right.count() as f64 / labels.len() as f64, error]
}

#[test]
fn a_tiny_network_learns_as_much_as_in_f32() {
    if !stores_f16() {
        return;
    }
    let mut sums = [[0.0; 2]; 2];
    for seed in 1..4 {
        let base = TrainOptions { seed, batch_size: 24, ..options() };
        for (sum, options) in sums.iter_mut().zip([base.clone(), f16(base)]) {
            let got = learned(&options);
            println!(
                "seed {seed}, {:?}: accuracy {:.3}, noise error {:.4}",
                options.precision, got[0], got[1]
            );
            sum.iter_mut().zip(got).for_each(|(sum, value)| *sum += value / 3.0);
        }
    }
    let [[exact, exact_error], [half, half_error]] = sums;
    println!("means: accuracy {exact:.3} and {half:.3}, noise error {exact_error:.4} and {half_error:.4}");
    assert!((0.5..0.999).contains(&exact), "accuracy {exact} tells nothing");
    assert!((exact - half).abs() < 0.05 && (exact_error - half_error).abs() < 0.03 * exact_error);
}
