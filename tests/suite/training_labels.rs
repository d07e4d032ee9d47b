//! Batches of which few images have labels, or none.

use crate::harness::{device, tiny_config};
use crate::training::{batch, options, run, saved, start};
use duet::checkpoint::Checkpoint;
use duet::diffusion::DiffusionConfig;
use duet::model::{Head, JointModel, Labels, ModelConfig, ParamSet, UNLABELLED};
use duet::tensor::Tensors;
use duet::train::terms::{ClassifierLoss, Feed, NoiseError, Seen, Terms, joint, semi_supervised};
use duet::train::{Batch, ClassifierInput, Groups, Rate, TrainOptions, TrainSpec, Trainer};
use std::sync::Arc;

/// A batch of which only these rows have labels.
fn labelled(number: u64, rows: &[usize]) -> Batch {
    let Batch { images, labels: Labels::Classes(list) } = batch(number, 6) else { panic!("classes") };
    let kept = |(row, class)| if rows.contains(&row) { class } else { UNLABELLED };
    Batch { images, labels: Labels::Classes(list.into_iter().enumerate().map(kept).collect()) }
}

fn metrics(trainer: &mut Trainer) -> duet::train::Metrics {
    pollster::block_on(trainer.metrics()).unwrap()
}

fn gradients(trainer: &Trainer) -> Tensors {
    let set =
        if trainer.weights().has(ParamSet::GradientSum) { ParamSet::GradientSum } else { ParamSet::Gradient };
    pollster::block_on(trainer.weights().download(set, false)).unwrap()
}

/// The loss of each image of the last micro-batch.
fn losses(trainer: &Trainer) -> Vec<f32> {
    pollster::block_on(trainer.plans()[0].read("classifier_loss")).unwrap()
}

/// Only the classifier's loss, of clean images and without dropout.
fn classifier_alone(micro_batches: usize) -> Trainer {
    let config = ModelConfig { dropout: 0.0, classifier_dropout: 0.0, ..tiny_config() };
    let model = Arc::new(JointModel::new(&config).unwrap());
    let feed = Feed::first(6 / micro_batches);
    let terms: Terms = vec![Box::new(ClassifierLoss { feed, seen: Seen::Clean, scaling: 0.5 })];
    let options = TrainOptions { micro_batches, ..options() };
    let diffusion = DiffusionConfig::default();
    pollster::block_on(Trainer::new_of(device(), model, &diffusion, &options, &terms)).unwrap()
}

#[test]
fn the_loss_is_the_mean_over_the_labelled_images() {
    let mut trainer = start(&options());
    trainer.train_step(&labelled(0, &[1, 4]), 0.0).unwrap();
    let each = losses(&trainer);
    let got = metrics(&mut trainer);
    // Both inputs are reported together; "classifier_loss" is of the second, the clean one.
    let mut clean = start(&TrainOptions { classifier_input: ClassifierInput::Clean, ..options() });
    clean.train_step(&labelled(0, &[1, 4]), 0.0).unwrap();
    let (one, all) = (metrics(&mut clean), losses(&clean));
    let mean = (all[1] + all[4]) / 2.0;
    assert!((one.classifier_loss - mean).abs() < 1e-6, "{} instead of {mean}", one.classifier_loss);
    assert!([0, 2, 3, 5].iter().all(|row| all[*row] == 0.0 && each[*row] == 0.0), "{all:?}");
    assert!((one.loss - one.mse - 0.5 * mean).abs() < 1e-5 * one.loss, "the total too");
    assert!(got.classifier_loss > one.classifier_loss);
}

#[test]
fn the_gradient_is_the_mean_of_those_of_the_labelled_images() {
    for micro_batches in [1, 2] {
        let step = |rows: &[usize]| {
            let mut trainer = classifier_alone(micro_batches);
            trainer.train_step(&labelled(0, rows), 0.0).unwrap();
            (gradients(&trainer), metrics(&mut trainer).classifier_loss)
        };
        // One labelled image in one micro-batch, three in the other: all four count the same.
        let (four, loss) = step(&[1, 3, 4, 5]);
        let each = [1, 3, 4, 5].map(|row| step(&[row]));
        let mean = each.iter().map(|one| one.1).sum::<f32>() / 4.0;
        assert!((loss - mean).abs() < 1e-6, "{micro_batches}: {loss} instead of {mean}");
        let mut moved = 0;
        let largest = |data: &[f32]| data.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        // Gradients that vanish but for rounding are held to the others' size.
        let all = four.values().map(|tensor| largest(&tensor.data)).fold(0.0, f32::max);
        for (name, tensor) in &four {
            let norm = largest(&tensor.data);
            for (i, got) in tensor.data.iter().enumerate() {
                let want = each.iter().map(|one| one.0[name].data[i]).sum::<f32>() / 4.0;
                assert!((got - want).abs() <= 1e-5 * (norm + all), "{name}[{i}]: {got} instead of {want}");
            }
            moved += usize::from(norm > 0.0);
        }
        assert!(moved > 10, "{moved} tensors have a gradient");
    }
}

#[test]
fn the_reported_mean_is_of_steps_that_had_labels() {
    let mut trainer = classifier_alone(1);
    trainer.train_step(&labelled(0, &[0, 1, 2]), 0.0).unwrap();
    let alone = metrics(&mut trainer).classifier_loss;
    let mut trainer = classifier_alone(1);
    for rows in [&[][..], &[0, 1, 2], &[]] {
        trainer.train_step(&labelled(0, rows), 0.0).unwrap();
    }
    let among = metrics(&mut trainer);
    assert_eq!((among.steps, among.classifier_loss), (3, alone));
    trainer.train_step(&labelled(0, &[]), 0.0).unwrap();
    assert_eq!(metrics(&mut trainer).classifier_loss, 0.0);
}

/// All that a checkpoint keeps of the classifier's tensors, or of the others, as bits.
fn bits(checkpoint: &Checkpoint, classifier: bool) -> Vec<(String, Vec<u32>)> {
    let training = checkpoint.training.as_ref().unwrap();
    let sets = [&checkpoint.weights, checkpoint.ema.as_ref().unwrap(), &training.adam_m, &training.adam_v];
    let chosen = sets.into_iter().flatten().filter(|(name, _)| name.starts_with("clasifier") == classifier);
    chosen.map(|(name, t)| (name.clone(), t.data.iter().map(|v| v.to_bits()).collect())).collect()
}

/// A run whose moments, averages and statistics are not where they began, so that a change would show.
fn warm() -> Checkpoint {
    let mut trainer = start(&options());
    run(&mut trainer, 0..3, 6);
    saved(&trainer)
}

fn resume(options: &TrainOptions) -> Trainer {
    pollster::block_on(Trainer::resume(device(), &warm(), options)).unwrap()
}

#[test]
fn a_step_without_labels_leaves_the_classifier_as_it_is() {
    let before = warm();
    let rates = Groups { encoder: Rate::Factor(0.5), decoder: Rate::Factor(0.5), ..Groups::default() };
    for (micro_batches, clip_grad_norm, groups) in
        [(1, None, Groups::default()), (3, None, rates.clone()), (1, Some(0.1), rates)]
    {
        let options = TrainOptions { micro_batches, clip_grad_norm, groups, weight_decay: 0.1, ..options() };
        let mut trainer = resume(&options);
        for step in 3..6 {
            trainer.train_step(&labelled(step, &[]), 2e-3).unwrap();
        }
        let after = saved(&trainer);
        assert!(bits(&before, true) == bits(&after, true), "{micro_batches}: the classifier moved");
        for ((name, old), (_, new)) in bits(&before, false).into_iter().zip(bits(&after, false)) {
            assert!(old != new, "{name} did not move");
        }
        let got = metrics(&mut trainer);
        assert!(got.classifier_loss == 0.0 && got.gradient_norm.is_none_or(|norm| norm > 0.0), "{got:?}");
        // One label is enough.
        trainer.train_step(&labelled(6, &[2]), 2e-3).unwrap();
        for ((name, old), (_, new)) in bits(&after, true).into_iter().zip(bits(&saved(&trainer), true)) {
            assert!(old != new, "{name} did not move");
        }
    }
}

#[test]
fn without_a_classifier_s_loss_the_classifier_stays_as_it_is() {
    let before = warm();
    let options = TrainOptions { weight_decay: 0.1, ..options() };
    let none = TrainOptions { classifier_input: ClassifierInput::None, ..options.clone() };
    let mut trainer = resume(&none);
    run(&mut trainer, 3..5, 6);
    assert!(bits(&before, true) == bits(&saved(&trainer), true));
    // The same of terms of a program's own, whatever the options say.
    let feed = Feed::first(6);
    let terms: Terms = vec![Box::new(NoiseError { feed, prediction: duet::diffusion::Prediction::Eps })];
    let resumed = Trainer::resume_of(device(), &before, &options, &terms);
    let mut trainer = pollster::block_on(resumed).unwrap();
    run(&mut trainer, 3..5, 6);
    assert!(bits(&before, true) == bits(&saved(&trainer), true));
    assert!(bits(&before, false) != bits(&saved(&trainer), false));
}

#[test]
fn with_only_the_classifier_learning_a_step_without_labels_changes_nothing() {
    let groups = Groups { encoder: Rate::Frozen, decoder: Rate::Frozen, ..Groups::default() };
    let options = TrainOptions { groups, clip_grad_norm: Some(0.1), weight_decay: 0.1, ..options() };
    let before = warm();
    let mut trainer = resume(&options);
    trainer.train_step(&labelled(3, &[]), 2e-3).unwrap();
    assert_eq!(trainer.step(), 4);
    let after = saved(&trainer);
    assert!((bits(&before, true), bits(&before, false)) == (bits(&after, true), bits(&after, false)));
    assert_eq!(metrics(&mut trainer).gradient_norm, Some(0.0));
    // The norm is the mean over the steps that applied a gradient.
    trainer.train_step(&labelled(4, &[0, 1]), 0.0).unwrap();
    let alone = metrics(&mut trainer).gradient_norm;
    for rows in [&[][..], &[0, 1]] {
        trainer.train_step(&labelled(4, rows), 0.0).unwrap();
    }
    let among = metrics(&mut trainer).gradient_norm;
    assert!(alone.unwrap() > 0.0 && among.unwrap() > 0.0, "{alone:?}, {among:?}");
}

#[test]
fn every_image_of_several_labels_counts() {
    let config = ModelConfig { head: Head::MultiLabel, ..tiny_config() };
    let model = Arc::new(JointModel::new(&config).unwrap());
    let options = TrainOptions { classifier_input: ClassifierInput::Clean, ..options() };
    let diffusion = DiffusionConfig::default();
    let mut trainer = pollster::block_on(Trainer::new(device(), model, &diffusion, &options)).unwrap();
    let targets = Labels::MultiLabel((0..18).map(|i| (i % 2) as f32).collect());
    trainer.train_step(&Batch { images: batch(0, 6).images, labels: targets }, 0.0).unwrap();
    let mean = losses(&trainer)[..6].iter().sum::<f32>() / 6.0;
    assert!((metrics(&mut trainer).classifier_loss - mean).abs() < 1e-6);
    // A label that is not known has no number, and is refused.
    let unknown = Labels::MultiLabel((0..18).map(|i| if i == 7 { f32::NAN } else { 0.0 }).collect());
    let error = trainer.train_step(&Batch { images: batch(0, 6).images, labels: unknown }, 0.0).unwrap_err();
    assert!(error.to_string().contains("one is NaN"), "{error}");
}

#[test]
fn what_became_nan_is_not_made_a_checkpoint_of() {
    let mut trainer = start(&options());
    run(&mut trainer, 0..1, 6);
    let mut bad = batch(1, 6);
    bad.images[5] = f32::NAN;
    trainer.train_step(&bad, 2e-3).unwrap();
    let error = pollster::block_on(trainer.metrics()).unwrap_err().to_string();
    assert!(error.contains("the noise error became NaN within 2 steps before step 2"), "{error}");
    let error = pollster::block_on(trainer.checkpoint()).unwrap_err().to_string();
    assert!(error.contains("not finite") && error.contains("step 2") && error.contains("`"), "{error}");
}

#[test]
fn going_on_without_an_average_has_the_weights_of_one_run() {
    let mut whole = start(&options());
    run(&mut whole, 0..4, 6);
    let mut trainer = start(&options());
    run(&mut trainer, 0..2, 6);
    // As a page keeps it between two calls.
    let kept = Checkpoint { ema: None, ..saved(&trainer) };
    let mut trainer = pollster::block_on(Trainer::resume(device(), &kept, &options())).unwrap();
    assert_eq!(trainer.step(), 2);
    run(&mut trainer, 2..4, 6);
    let (whole, halves) = (saved(&whole), saved(&trainer));
    assert!(whole.weights == halves.weights && whole.training == halves.training);
}

/// Noise is learnt from six images, the classifier from four others.
fn semi(options: &TrainOptions) -> (Trainer, Terms) {
    let model = Arc::new(JointModel::new(&tiny_config()).unwrap());
    let (diffusion, labelled) =
        (DiffusionConfig::default(), Feed { prefix: "labelled.".into(), batch: 4 / options.micro_batches });
    let terms = semi_supervised(&model, &diffusion, &TrainSpec::of(options), &labelled).unwrap();
    let quiet = TrainOptions { classifier_input: ClassifierInput::None, ..options.clone() };
    let rest = joint(&model, &diffusion, &TrainSpec::of(&quiet)).unwrap();
    (pollster::block_on(Trainer::new_of(device(), model, &diffusion, options, &terms)).unwrap(), rest)
}

#[test]
fn a_feed_that_is_left_out_is_one_without_labels_and_costs_nothing() {
    for micro_batches in [1, 2] {
        let options = TrainOptions { micro_batches, clip_grad_norm: Some(1.0), ..options() };
        let (mut whole, rest) = semi(&options);
        let (mut left_out, _) = semi(&options);
        pollster::block_on(left_out.allow_without("labelled.", &rest)).unwrap();
        let few = batch(7, 4);
        let none = Batch { images: Vec::new(), labels: Labels::Classes(Vec::new()) };
        let blank = Batch { labels: Labels::Classes(vec![UNLABELLED; 4]), ..few.clone() };
        let mut means = Vec::new();
        for step in 0..6 {
            let all = labelled(step, &[]);
            // The sums begin with a step of either kind.
            let [of_whole, of_left_out] = if step % 3 == 1 { [&few, &few] } else { [&blank, &none] };
            whole.train_step_of(&[&all, of_whole], 2e-3).unwrap();
            left_out.train_step_of(&[&all, of_left_out], 2e-3).unwrap();
            if step % 2 == 1 {
                means.push((metrics(&mut whole), metrics(&mut left_out)));
            }
        }
        for (whole, left_out) in means {
            assert_eq!(whole, left_out);
        }
        let [whole, left_out] = [&whole, &left_out].map(saved);
        for classifier in [false, true] {
            assert_eq!(bits(&whole, classifier), bits(&left_out, classifier), "{micro_batches}");
        }
        let (mut strict, rest) = semi(&options);
        let error = strict.train_step_of(&[&labelled(0, &[]), &none], 2e-3).unwrap_err().to_string();
        assert!(error.contains("0 values"), "{error}");
        for prefix in ["", "others."] {
            let error = pollster::block_on(strict.allow_without(prefix, &rest)).unwrap_err().to_string();
            assert!(error.contains("can be left out"), "{error}");
        }
    }
}

#[test]
fn few_labels_need_a_classifier_and_a_feed_of_their_own() {
    let model = JointModel::new(&tiny_config()).unwrap();
    let refuse = |options: TrainOptions, prefix: &str, word: &str| {
        let feed = Feed { prefix: prefix.into(), batch: 4 };
        let made = semi_supervised(&model, &DiffusionConfig::default(), &TrainSpec::of(&options), &feed);
        let error = made.unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    refuse(TrainOptions { classifier_only: true, ..options() }, "labelled.", "alone");
    refuse(options(), "", "first feed");
    refuse(TrainOptions { classifier_input: ClassifierInput::None, ..options() }, "labelled.", "none");
}
