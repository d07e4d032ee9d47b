//! Training end to end on a tiny model: it learns, repeats bit for bit, resumes bit for bit, and allocates nothing.

use crate::harness::{device, tiny_config, values};
use duet::checkpoint::{Checkpoint, Dtype};
use duet::diffusion::DiffusionConfig;
use duet::model::{Head, JointModel, Labels, ModelConfig, ParamSet, UNLABELLED};
use duet::tensor::HostTensor;
use duet::train::{Batch, ClassifierInput, Groups, Rate, TrainOptions, Trainer};
use std::path::Path;
use std::sync::Arc;

fn tiny() -> ModelConfig {
    ModelConfig { dropout: 0.1, classifier_dropout: 0.2, ..tiny_config() }
}

pub fn options() -> TrainOptions {
    TrainOptions {
        batch_size: 6,
        learning_rate: 2e-3,
        ema_rate: 0.9,
        classifier_loss_scaling: 0.5,
        classifier_input: ClassifierInput::Both,
        seed: 11,
        ..TrainOptions::default()
    }
}

/// Images of three kinds: bright left, bright right, bright middle.
pub fn batch(number: u64, count: usize) -> Batch {
    let noise = values(number, count * 64);
    let mut images = Vec::new();
    let mut labels = Vec::new();
    for n in 0..count {
        let label = (n + number as usize) % 3;
        labels.push(label as u32);
        for p in 0..64 {
            let bright = match label {
                0 => p % 8 < 3,
                1 => p % 8 >= 5,
                _ => (3..5).contains(&(p % 8)),
            };
            images.push(if bright { 0.8 } else { -0.8 } + 0.1 * noise[n * 64 + p]);
        }
    }
    Batch { images, labels: Labels::Classes(labels) }
}

pub fn start(options: &TrainOptions) -> Trainer {
    let model = Arc::new(JointModel::new(&tiny()).unwrap());
    pollster::block_on(Trainer::new(device(), model, &DiffusionConfig::default(), options)).unwrap()
}

pub fn run(trainer: &mut Trainer, steps: std::ops::Range<u64>, count: usize) {
    for step in steps {
        trainer.train_step(&batch(step, count), 2e-3).unwrap();
    }
}

pub fn saved(trainer: &Trainer) -> Checkpoint {
    pollster::block_on(trainer.checkpoint()).unwrap()
}

#[test]
fn losses_fall() {
    let mut trainer = start(&options());
    run(&mut trainer, 0..20, 6);
    let early = pollster::block_on(trainer.metrics()).unwrap();
    run(&mut trainer, 20..120, 6);
    pollster::block_on(trainer.metrics()).unwrap();
    run(&mut trainer, 120..160, 6);
    let late = pollster::block_on(trainer.metrics()).unwrap();
    println!("early {early:?}\nlate {late:?}");
    assert_eq!((early.steps, late.steps, trainer.step()), (20, 40, 160));
    assert!(late.mse < 0.8 * early.mse && late.classifier_loss < 0.6 * early.classifier_loss);
    let sum = late.mse + 0.5 * late.classifier_loss;
    assert!((late.loss - sum).abs() < 1e-4 * sum, "the total is the weighted sum of its parts");
}

#[test]
fn resuming_is_bit_exact() {
    let mut whole = start(&options());
    run(&mut whole, 0..6, 6);
    let mut first = start(&options());
    run(&mut first, 0..3, 6);
    let bytes = saved(&first).to_bytes(Dtype::F32).unwrap();
    drop(first);
    let checkpoint = Checkpoint::from_bytes(&bytes, Path::new("resume")).unwrap();
    let mut second = pollster::block_on(Trainer::resume(device(), &checkpoint, &options())).unwrap();
    assert_eq!(second.step(), 3);
    run(&mut second, 3..6, 6);
    let (whole, second) = (saved(&whole), saved(&second));
    assert_eq!(whole.weights.len(), second.weights.len());
    // Every tensor: weights, running statistics, averages, moments.
    assert!(whole == second, "the resumed run differs");
}

#[test]
fn the_same_seed_gives_the_same_bits() {
    let (mut a, mut b) = (start(&options()), start(&options()));
    run(&mut a, 0..2, 6);
    run(&mut b, 0..2, 6);
    assert!(saved(&a) == saved(&b));
    let mut c = start(&TrainOptions { seed: 12, ..options() });
    run(&mut c, 0..2, 6);
    assert!(saved(&a).weights != saved(&c).weights, "another seed must matter");
}

#[test]
fn micro_batches_sum_to_the_whole_batch() {
    // Without a classifier: its batch statistics do depend on the micro-batch. From a network that has learned a little: in a
    // fresh one the last layers of all blocks are zero, and so are all gradients before them.
    let base = TrainOptions { classifier_input: ClassifierInput::None, ..options() };
    let mut learned = start(&base);
    run(&mut learned, 0..20, 6);
    let from = saved(&learned);
    let again = |micro_batches: usize| {
        let options = TrainOptions { micro_batches, ..base.clone() };
        let mut trainer = pollster::block_on(Trainer::resume(device(), &from, &options)).unwrap();
        run(&mut trainer, 20..21, 6);
        trainer
    };
    let (one, three) = (again(1), again(3));
    let sums = pollster::block_on(three.weights().download(ParamSet::GradientSum, false)).unwrap();
    let whole = pollster::block_on(one.weights().download(ParamSet::Gradient, false)).unwrap();
    let largest = |tensor: &HostTensor| tensor.data.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let trained = || whole.iter().filter(|(name, _)| !name.starts_with("clasifier"));
    let all = trained().map(|(_, tensor)| largest(tensor)).fold(0.0, f32::max);
    for (name, tensor) in trained() {
        // Of a gradient that cancels to nothing the parts count.
        let bound = 1e-4 * largest(tensor) + 1e-6 * all;
        for (a, b) in tensor.data.iter().zip(&sums[name].data) {
            assert!((a - b).abs() <= bound, "{name}: {a} and {b}, largest of all {all}");
        }
    }
    // What is ten times the bound of what cancels is compared in earnest.
    let real = trained().filter(|(_, tensor)| largest(tensor) > 1e-5 * all).count();
    let count = trained().count();
    assert!(10 * real > 9 * count, "only {real} of {count} gradients are more than noise");
}

#[test]
fn a_step_allocates_and_reads_nothing() {
    allocates_nothing(&options());
    let groups = Groups { encoder: Rate::Factor(0.5), decoder: Rate::Frozen, ..Groups::default() };
    let clipped = TrainOptions { micro_batches: 3, clip_grad_norm: Some(0.1), groups, ..options() };
    allocates_nothing(&clipped);
}

fn allocates_nothing(options: &TrainOptions) {
    let mut trainer = start(options);
    run(&mut trainer, 0..2, 6);
    device().wait().unwrap();
    // Other tests share the device: retry until a stretch was undisturbed.
    for _ in 0..50 {
        let before = device().counters();
        run(&mut trainer, 2..5, 6);
        let after = device().counters();
        if (after.buffers, after.readbacks, after.pipelines)
            == (before.buffers, before.readbacks, before.pipelines)
        {
            return;
        }
    }
    panic!("every stretch of three steps allocated buffers, read back or compiled pipelines");
}

#[test]
fn bad_batches_are_refused() {
    let mut trainer = start(&options());
    let good = batch(0, 6);
    let short = Batch { images: good.images[..10].to_vec(), ..good.clone() };
    assert!(trainer.train_step(&short, 1e-3).unwrap_err().to_string().contains("10 values"));
    let wild = Batch { labels: Labels::Classes(vec![0, 1, 2, 3, 0, 1]), ..good.clone() };
    assert!(trainer.train_step(&wild, 1e-3).unwrap_err().to_string().contains("from 0 to 2, is 3"));
    let few = Batch { labels: Labels::Classes(vec![0, 1]), ..good.clone() };
    assert!(trainer.train_step(&few, 1e-3).is_err());
    let labels = Batch { labels: Labels::MultiLabel(vec![0.0; 18]), ..good.clone() };
    assert!(trainer.train_step(&labels, 1e-3).is_err());
    let unlabelled = Batch { labels: Labels::Classes(vec![UNLABELLED; 6]), ..good };
    trainer.train_step(&unlabelled, 1e-3).unwrap();
    let metrics = pollster::block_on(trainer.metrics()).unwrap();
    assert_eq!(metrics.classifier_loss, 0.0);
}

#[test]
fn a_loss_that_is_not_finite_is_reported() {
    let mut trainer = start(&options());
    let mut bad = batch(0, 6);
    bad.images[5] = f32::NAN;
    trainer.train_step(&bad, 1e-3).unwrap();
    let error = pollster::block_on(trainer.metrics()).unwrap_err();
    assert!(error.to_string().contains("not finite"), "{error}");
}

#[test]
fn learned_sigma_and_multi_label_heads_train() {
    let config = ModelConfig { learn_sigma: true, head: Head::MultiLabel, ..tiny() };
    let model = Arc::new(JointModel::new(&config).unwrap());
    let (diffusion, options) = (DiffusionConfig::default(), options());
    let mut trainer = pollster::block_on(Trainer::new(device(), model, &diffusion, &options)).unwrap();
    for step in 0..4 {
        let images = batch(step, 6).images;
        let targets = Labels::MultiLabel((0..18).map(|i| (i % 2) as f32).collect());
        trainer.train_step(&Batch { images, labels: targets }, 1e-3).unwrap();
    }
    let metrics = pollster::block_on(trainer.metrics()).unwrap();
    assert!(metrics.vb > 0.0 && metrics.classifier_loss > 0.0 && metrics.loss.is_finite());
}

#[test]
fn the_average_warms_up_and_a_resumed_run_goes_on_with_it() {
    let options = TrainOptions { ema_rate: 0.9999, ema_warmup: true, ..options() };
    let mut trainer = start(&options);
    run(&mut trainer, 0..1, 6);
    let first = saved(&trainer);
    let average = first.ema.clone().unwrap();
    assert!(average.iter().all(|(name, tensor)| first.weights[name] == *tensor), "the weights themselves");
    run(&mut trainer, 1..2, 6);
    let second = saved(&trainer);
    // 1 − 2^(−2/3).
    let rate = 0.370_039_475_052_563;
    for (name, tensor) in second.ema.as_ref().unwrap() {
        let pairs = average[name].data.iter().zip(&second.weights[name].data);
        let far = tensor.data.iter().zip(pairs).map(|(got, (before, weight))| {
            (f64::from(*got) - rate * f64::from(*before) - (1.0 - rate) * f64::from(*weight)).abs()
        });
        let far = far.fold(0.0, f64::max);
        assert!(far < 1e-6, "{name}: {far}");
    }
    run(&mut trainer, 2..4, 6);
    let mut resumed = pollster::block_on(Trainer::resume(device(), &second, &options)).unwrap();
    run(&mut resumed, 2..4, 6);
    assert!(saved(&resumed) == saved(&trainer));
}
