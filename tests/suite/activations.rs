//! Activations that are computed again or wait as f16: the same training, less memory.

use crate::harness::{Harness, device, tiny_config, values};
use duet::autodiff::Activations;
use duet::diffusion::DiffusionConfig;
use duet::graph::PlanStats;
use duet::model::{JointModel, Labels, ModelConfig};
use duet::ops::half;
use duet::train::{Batch, ClassifierInput, TrainOptions, TrainSpec, Trainer, train_plan};
use std::sync::Arc;

#[test]
fn f16_keeps_eleven_bits() {
    for count in [1usize, 4, 28, 257] {
        let mut x: Vec<f32> =
            values(1, count).iter().enumerate().map(|(i, v)| v * 3f32.powi(i as i32 % 20 - 10)).collect();
        let special = [0.0, -0.0, 1.0, -2.5, 65504.0, 1e9, -1e9, 6.1e-5, 1e-7];
        for (value, special) in x.iter_mut().zip(special) {
            *value = special;
        }
        let quads = count.div_ceil(4);
        let mut h = Harness::new();
        let source = h.input(&[count], &x);
        let packed = h.scratch(half::bytes(quads));
        let y = h.output(&[count]);
        let mut launches = half::store(quads, source.slice, packed);
        launches.extend(half::load(quads, packed, y.slice));
        h.run(launches);
        for (x, y) in x.iter().zip(h.read(&y)) {
            let want = x.clamp(-65504.0, 65504.0);
            // Half a unit of the last place; below 2⁻¹⁴ steps are 2⁻²⁴. Devices may round either way.
            let bound = (want.abs() * 2f32.powi(-10)).max(2f32.powi(-24));
            assert!((y - want).abs() <= bound, "{x} came back as {y}");
        }
        let exact = count.min(5);
        assert_eq!(h.read(&y)[..exact], x[..exact], "f16 numbers come back as they were");
    }
}

const BATCH: usize = 24;

fn config() -> ModelConfig {
    ModelConfig { dropout: 0.1, classifier_dropout: 0.2, ..tiny_config() }
}

fn stats(activations: Activations) -> PlanStats {
    let options = TrainOptions { batch_size: BATCH, activations, ..options() };
    let model = JointModel::new(&config()).unwrap();
    train_plan(&model, &DiffusionConfig::default(), &TrainSpec::of(&options)).unwrap().stats()
}

fn options() -> TrainOptions {
    TrainOptions {
        batch_size: BATCH,
        classifier_loss_scaling: 0.5,
        classifier_input: ClassifierInput::Both,
        seed: 3,
        ..TrainOptions::default()
    }
}

/// Weights after three steps, flat.
fn trained(activations: Activations) -> Vec<f32> {
    let model = Arc::new(JointModel::new(&config()).unwrap());
    let options = TrainOptions { activations, ..options() };
    let diffusion = DiffusionConfig::default();
    let mut trainer = pollster::block_on(Trainer::new(device(), model, &diffusion, &options)).unwrap();
    for step in 0..3 {
        let labels = (0..BATCH as u32).map(|n| n % 3).collect();
        let images = values(step, BATCH * 64);
        trainer.train_step(&Batch { images, labels: Labels::Classes(labels) }, 1e-3).unwrap();
    }
    let checkpoint = pollster::block_on(trainer.checkpoint()).unwrap();
    checkpoint.weights.into_values().flat_map(|tensor| tensor.data).collect()
}

#[test]
fn recomputing_changes_no_bit() {
    assert!(trained(Activations::Keep) == trained(Activations::Recompute));
}

#[test]
fn f16_trains_alike() {
    let (exact, rounded) = (trained(Activations::Keep), trained(Activations::F16));
    assert!(exact != rounded, "something was rounded");
    // Adam moves each weight by about the rate whatever its gradient's size: only the direction can differ.
    let (mut difference, mut moved) = (0.0f64, 0.0f64);
    let start = {
        let model = JointModel::new(&config()).unwrap();
        let tensors = model.params.initial(duet::rng::Seed(options().seed));
        tensors.into_values().flat_map(|tensor| tensor.data).collect::<Vec<f32>>()
    };
    for ((a, b), s) in exact.iter().zip(&rounded).zip(&start) {
        difference += f64::from(a - b).powi(2);
        moved += f64::from(a - s).powi(2);
    }
    assert!(moved > 0.0 && difference < 0.01 * moved, "differ by {difference}, moved by {moved}");
}

#[test]
fn each_needs_less_memory_than_the_one_before() {
    let all = [Activations::Keep, Activations::Recompute, Activations::F16].map(stats);
    println!("{:?}", all.map(|s| (s.slot_bytes, s.lower_bound, s.dispatches)));
    assert!(all[1].slot_bytes * 10 < all[0].slot_bytes * 8 && all[2].slot_bytes < all[1].slot_bytes);
    assert!(all.iter().all(|s| s.slot_bytes * 100 <= s.lower_bound * 115));
    assert!(all.iter().all(|s| s.multiply_adds == all[0].multiply_adds), "no product is computed twice");
}
