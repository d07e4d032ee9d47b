//! What lies between backward and apply: gradients exchanged, and clipped by their global norm.

use crate::training::{batch, options, run, saved, start};
use duet::gpu::Device;
use duet::model::{JointModel, ParamSet};
use duet::tensor::Tensors;
use duet::train::{ClassifierInput, Exchange, GradientRange, Groups, Rate, TrainOptions, Trainer};
use duet::{Error, Result};
use std::sync::{Arc, Mutex};

fn gradients(trainer: &Trainer, micro_batches: usize) -> Tensors {
    let set = if micro_batches > 1 { ParamSet::GradientSum } else { ParamSet::Gradient };
    pollster::block_on(trainer.weights().download(set, false)).unwrap()
}

/// Global norm over the tensors that `trained` names.
fn norm(gradients: &Tensors, trained: impl Fn(&str) -> bool) -> f64 {
    let tensors = gradients.iter().filter(|(name, _)| trained(name)).flat_map(|(_, tensor)| &tensor.data);
    tensors.map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn long_gradients_are_scaled_as_on_the_host() {
    let head = Groups { encoder: Rate::Frozen, classifier: Rate::Factor(0.5), ..Groups::default() };
    let trained = |name: &str| ["out", "clasifier"].iter().any(|part| name.starts_with(part));
    for (micro_batches, groups) in
        [(1, Groups::default()), (3, Groups::default()), (1, head.clone()), (3, head.clone())]
    {
        let only = |name: &str| groups != head || trained(name);
        let base = TrainOptions { micro_batches, groups: groups.clone(), ..options() };
        let mut plain = start(&base);
        run(&mut plain, 0..1, 6);
        let want = gradients(&plain, micro_batches);
        let length = norm(&want, only);
        for max in [0.5 * length, 2.0 * length] {
            let mut clipped = start(&TrainOptions { clip_grad_norm: Some(max), ..base.clone() });
            run(&mut clipped, 0..1, 6);
            assert!(gradients(&clipped, micro_batches) == want, "gradients themselves stay");
            let got = pollster::block_on(clipped.metrics()).unwrap().gradient_norm.unwrap();
            assert!((f64::from(got) - length).abs() < 1e-5 * length, "{got} instead of {length}");
            let after = saved(&clipped);
            if max > length {
                assert!(after == saved(&plain), "short gradients change no bit");
                continue;
            }
            let moments = after.training.unwrap().adam_m;
            let scale = max / length;
            for (name, tensor) in want.iter().filter(|(name, _)| only(name)) {
                for (m, g) in moments[name].data.iter().zip(&tensor.data) {
                    // The first moment after the first step is (1 − β1) times the gradient.
                    let want = 0.1 * scale * f64::from(*g);
                    assert!((f64::from(*m) - want).abs() <= 1e-5 * want.abs() + 1e-12, "{name}: {m}, {want}");
                }
            }
        }
        assert!(pollster::block_on(plain.metrics()).unwrap().gradient_norm.is_none());
    }
}

#[test]
fn the_norm_is_the_mean_of_the_steps_since_it_was_read() {
    let base = TrainOptions { clip_grad_norm: Some(1e3), ..options() };
    let (mut one, mut both) = (start(&base), start(&base));
    let mut norms = Vec::new();
    for step in 0..4 {
        run(&mut one, step..step + 1, 6);
        norms.push(pollster::block_on(one.metrics()).unwrap().gradient_norm.unwrap());
    }
    for from in [0, 2] {
        run(&mut both, from..from + 2, 6);
        let mean = pollster::block_on(both.metrics()).unwrap().gradient_norm.unwrap();
        let want = (norms[from as usize] + norms[from as usize + 1]) / 2.0;
        assert!((mean - want).abs() <= 1e-6 * want, "{mean} instead of {want}");
    }
}

/// Writes `value` into every gradient, and counts what it was given.
struct Constant {
    value: f32,
    bytes: Arc<Mutex<u64>>,
}

impl Exchange for Constant {
    fn exchange(&mut self, device: &Device, gradients: &[GradientRange]) -> Result<()> {
        for range in gradients {
            let values = vec![self.value; range.bytes as usize / 4];
            device.write(&range.buffer, range.offset, bytemuck::cast_slice(&values))?;
            *self.bytes.lock().unwrap() += range.bytes;
        }
        Ok(())
    }
}

#[test]
fn what_is_exchanged_is_applied() {
    for micro_batches in [1, 3] {
        let groups = Groups { decoder: Rate::Frozen, ..Groups::default() };
        let mut trainer = start(&TrainOptions { micro_batches, groups: groups.clone(), ..options() });
        let bytes = Arc::new(Mutex::new(0));
        trainer.exchange_by(Box::new(Constant { value: 3.0, bytes: Arc::clone(&bytes) }));
        run(&mut trainer, 0..1, 6);
        let model: &JointModel = trainer.weights().model();
        let ranges = groups.ranges(&model.params);
        assert_eq!(*bytes.lock().unwrap(), ranges.iter().map(|(range, _)| range.bytes).sum::<u64>());
        for (name, tensor) in saved(&trainer).training.unwrap().adam_m {
            let want = if name.starts_with("out") { 0.0 } else { 0.3 };
            assert!(tensor.data.iter().all(|m| (m - want).abs() < 1e-6), "{name}, {micro_batches}");
        }
    }
}

#[test]
fn nan_among_the_gradients_stays_visible() {
    let mut trainer = start(&TrainOptions { clip_grad_norm: Some(1.0), ..options() });
    let bytes = Arc::default();
    trainer.exchange_by(Box::new(Constant { value: f32::NAN, bytes }));
    run(&mut trainer, 0..1, 6);
    let error = pollster::block_on(trainer.metrics()).unwrap_err().to_string();
    assert!(error.contains("gradients' norm became NaN"), "{error}");
    let weights = pollster::block_on(trainer.weights().download(ParamSet::Weights, false)).unwrap();
    assert!(weights.values().flat_map(|tensor| &tensor.data).all(|w| w.is_nan()));
}

struct Broken;

impl Exchange for Broken {
    fn exchange(&mut self, _device: &Device, _gradients: &[GradientRange]) -> Result<()> {
        Err(Error::config("peers", "one is gone"))
    }
}

#[test]
fn a_step_whose_exchange_fails_is_not_applied() {
    let base = TrainOptions { classifier_input: ClassifierInput::None, ..options() };
    let mut trainer = start(&base);
    trainer.exchange_by(Box::new(Broken));
    assert!(trainer.train_step(&batch(0, 6), 1e-3).unwrap_err().to_string().contains("one is gone"));
    assert_eq!(trainer.step(), 0);
    assert!(saved(&trainer) == saved(&start(&base)));
}

/// Fails at the call of this number, counted from 1.
struct BrokenOnce(u32);

impl Exchange for BrokenOnce {
    fn exchange(&mut self, _device: &Device, _gradients: &[GradientRange]) -> Result<()> {
        self.0 = self.0.wrapping_sub(1);
        if self.0 == 0 { Err(Error::config("peers", "one is gone")) } else { Ok(()) }
    }
}

#[test]
fn losses_of_a_step_whose_exchange_fails_are_not_among_the_means() {
    for micro_batches in [1, 3] {
        let classifier_input = ClassifierInput::None;
        let base = TrainOptions { micro_batches, classifier_input, clip_grad_norm: Some(1e3), ..options() };
        let (mut broken, mut whole) = (start(&base), start(&base));
        broken.exchange_by(Box::new(BrokenOnce(2)));
        run(&mut broken, 0..1, 6);
        // Other images, whose loss is another.
        assert!(broken.train_step(&batch(7, 6), 2e-3).is_err());
        let nothing = pollster::block_on(broken.metrics()).unwrap();
        assert_eq!((nothing.steps, nothing.loss, nothing.gradient_norm), (0, 0.0, Some(0.0)));
        run(&mut broken, 1..2, 6);
        run(&mut whole, 0..1, 6);
        pollster::block_on(whole.metrics()).unwrap();
        run(&mut whole, 1..2, 6);
        let [broken, whole] = [&mut broken, &mut whole].map(|t| pollster::block_on(t.metrics()).unwrap());
        assert_eq!(broken, whole, "{micro_batches} micro-batches");
        assert_eq!(broken.steps, 1);
    }
}

#[test]
fn the_largest_norm_must_be_a_positive_number() {
    for norm in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-60, 1e60] {
        let bad = TrainOptions { clip_grad_norm: Some(norm), ..options() };
        assert!(bad.validate().unwrap_err().to_string().contains("clip_grad_norm"), "{norm}");
    }
}
