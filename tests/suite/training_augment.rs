//! Training whose classifier sees augmented images.

use crate::augment::all;
use crate::harness::{device, tiny_config};
use crate::training::{batch, options, run, saved, start};
use duet::checkpoint::{Checkpoint, Dtype};
use duet::diffusion::DiffusionConfig;
use duet::model::{Head, JointModel, Labels, ModelConfig, UNLABELLED};
use duet::rng::Seed;
use duet::train::{Augment, Augmenter, Batch, ClassifierInput, MixUp, TrainOptions, Trainer};
use std::path::Path;
use std::sync::Arc;

fn augmented() -> TrainOptions {
    TrainOptions { augment: all(1), ..options() }
}

fn read(trainer: &Trainer, name: &str) -> Vec<f32> {
    pollster::block_on(trainer.plans()[0].read(name)).unwrap()
}

#[test]
fn the_classifier_sees_what_the_augmenter_makes_and_the_noise_error_does_not() {
    let augment = Augment { mixup: None, ..all(1) };
    // Fresh networks put out zeros, whatever they see.
    let mut warm = start(&options());
    run(&mut warm, 0..3, 6);
    let warm = saved(&warm);
    let step = |options: &TrainOptions, batch: &Batch| {
        let mut trainer = pollster::block_on(Trainer::resume(device(), &warm, options)).unwrap();
        trainer.train_step(batch, 0.0).unwrap();
        let mse = if options.classifier_only { Vec::new() } else { read(&trainer, "mse") };
        (read(&trainer, "logits"), read(&trainer, "classifier_loss"), mse)
    };
    let batch = batch(3, 6);
    let augmenter = pollster::block_on(Augmenter::new(device(), &tiny_config(), &augment, 6)).unwrap();
    let drawn: Vec<_> = (0..6).map(|row| augment.draw(Seed(options().seed), 3, row, [8, 8])).collect();
    let images = pollster::block_on(augmenter.apply(&batch.images, &drawn)).unwrap();
    let prepared = Batch { images, labels: batch.labels.clone() };

    let plain = TrainOptions { classifier_input: ClassifierInput::Clean, ..options() };
    let augmented = TrainOptions { augment: augment.clone(), ..plain.clone() };
    let (got, want) = (step(&augmented, &batch), step(&plain, &prepared));
    assert_eq!((&got.0, &got.1), (&want.0, &want.1));
    let as_it_is = step(&plain, &batch);
    assert_eq!(got.2, as_it_is.2);
    assert!(got.0 != as_it_is.0 && got.2 != want.2);
    // Alone, a classifier of noised images sees augmented ones too.
    let plain =
        TrainOptions { classifier_only: true, classifier_input: ClassifierInput::Noised, ..options() };
    let augmented = TrainOptions { augment, ..plain.clone() };
    assert_eq!(step(&augmented, &batch).0, step(&plain, &prepared).0);
}

/// The classifier's loss of logits against classes or labels, in f64.
fn loss(head: Head, logits: &[f32], labels: &Labels, row: usize) -> f64 {
    let classes = logits.len();
    let z: Vec<f64> = logits.iter().map(|z| f64::from(*z)).collect();
    match (head, labels) {
        (Head::Multiclass, Labels::Classes(list)) => {
            z.iter().map(|v| v.exp()).sum::<f64>().ln() - z[list[row] as usize]
        }
        (_, Labels::MultiLabel(list)) => {
            let targets = &list[row * classes..(row + 1) * classes];
            let each = |(z, y): (&f64, &f32)| (1.0 + z.exp()).ln() - z * f64::from(*y);
            z.iter().zip(targets).map(each).sum::<f64>() / classes as f64
        }
        _ => panic!("labels of another head"),
    }
}

#[test]
fn mixed_images_have_mixed_losses() {
    let labels = [
        (Head::Multiclass, Labels::Classes(vec![0, 1, 2, 2, UNLABELLED, 1])),
        (Head::MultiLabel, Labels::MultiLabel((0..18).map(|i| (i % 5 % 2) as f32).collect())),
    ];
    for (head, labels) in labels {
        let config = ModelConfig { head, ..tiny_config() };
        let model = Arc::new(JointModel::new(&config).unwrap());
        let augment =
            Augment { mixup: Some(MixUp { probability: 1.0, share: [0.2, 0.8] }), ..Augment::default() };
        let options =
            TrainOptions { augment: augment.clone(), classifier_input: ClassifierInput::Clean, ..options() };
        let diffusion = DiffusionConfig::default();
        let new = Trainer::new(device(), model, &diffusion, &options);
        let mut trainer = pollster::block_on(new).unwrap();
        trainer.train_step(&Batch { images: batch(0, 6).images, labels: labels.clone() }, 0.0).unwrap();
        let (logits, losses) = (read(&trainer, "logits"), read(&trainer, "classifier_loss"));
        let mut weights = 0.0;
        for (row, got) in losses.iter().take(6).enumerate() {
            // Rows of logits are padded to four.
            let z = &logits[4 * row..4 * row + 3];
            let share = augment.draw(Seed(options.seed), 0, row as u32, [8, 8]).mixed;
            assert!((0.2..=0.8).contains(&share));
            let missing = |row: usize| matches!(&labels, Labels::Classes(list) if list[row] == UNLABELLED);
            let want = match (missing(row), missing(row ^ 1)) {
                (true, _) => 0.0,
                // Half of an image that nobody knows is no label.
                (_, true) => loss(head, z, &labels, row),
                _ => (1.0 - share) * loss(head, z, &labels, row) + share * loss(head, z, &labels, row ^ 1),
            };
            let got = f64::from(*got);
            assert!((got - want).abs() < 1e-5 * (1.0 + want), "{head:?} {row}: {got} instead of {want}");
            weights += want;
        }
        let labelled = labels.labelled(3) as f64;
        let mean = f64::from(pollster::block_on(trainer.metrics()).unwrap().classifier_loss);
        assert!((mean - weights / labelled).abs() < 1e-5 * mean, "{mean}");
    }
}

#[test]
fn micro_batches_draw_what_the_whole_batch_draws() {
    let draws = |micro_batches: usize| {
        let mut trainer = start(&TrainOptions {
            batch_size: 8,
            micro_batches,
            classifier_input: ClassifierInput::Both,
            ..augmented()
        });
        trainer.train_step(&batch(0, 8), 0.0).unwrap();
        [read(&trainer, "augment"), read(&trainer, "mixed_labels")]
    };
    // Of the last micro-batch: the last rows.
    let (whole, half) = (draws(1), draws(2));
    for (whole, half) in whole.iter().zip(&half) {
        assert!(whole.len() == 2 * half.len() && whole[half.len()..] == half[..]);
    }
}

#[test]
fn an_augmented_run_resumes_bit_for_bit() {
    for micro_batches in [1, 3] {
        let options = TrainOptions { micro_batches, ..augmented() };
        let mut whole = start(&options);
        run(&mut whole, 0..4, 6);
        let mut first = start(&options);
        run(&mut first, 0..2, 6);
        let bytes = saved(&first).to_bytes(Dtype::F32).unwrap();
        let checkpoint = Checkpoint::from_bytes(&bytes, Path::new("resume")).unwrap();
        let mut second = pollster::block_on(Trainer::resume(device(), &checkpoint, &options)).unwrap();
        run(&mut second, 2..4, 6);
        assert!(saved(&whole) == saved(&second), "the resumed run differs");
        let mut plain = start(&TrainOptions { augment: Augment::default(), ..options });
        run(&mut plain, 0..4, 6);
        assert!(saved(&plain).weights != saved(&whole).weights, "augmentation changes nothing");
    }
}

#[test]
fn an_augmented_classifier_learns() {
    let augment = Augment { crop: None, horizontal_flip: None, ..all(1) };
    let mut trainer = start(&TrainOptions { augment, ..options() });
    run(&mut trainer, 0..20, 6);
    let early = pollster::block_on(trainer.metrics()).unwrap();
    run(&mut trainer, 20..140, 6);
    pollster::block_on(trainer.metrics()).unwrap();
    run(&mut trainer, 140..160, 6);
    let late = pollster::block_on(trainer.metrics()).unwrap();
    assert!(
        late.classifier_loss < 0.85 * early.classifier_loss && late.mse < 0.8 * early.mse,
        "{early:?}, {late:?}"
    );
}

#[test]
fn what_cannot_be_augmented_is_refused() {
    let refused = [
        (TrainOptions { classifier_input: ClassifierInput::Noised, ..augmented() }, "augment: "),
        (TrainOptions { classifier_input: ClassifierInput::None, ..augmented() }, "augment: "),
        (TrainOptions { micro_batches: 2, ..augmented() }, "augment.mixup: "),
    ];
    for (options, field) in refused {
        let error = options.validate().unwrap_err().to_string();
        assert!(error.starts_with(field), "{error}");
    }
    let model = Arc::new(JointModel::new(&tiny_config()).unwrap());
    let options = TrainOptions { augment: all(3), ..options() };
    let diffusion = DiffusionConfig::default();
    let new = Trainer::new(device(), model, &diffusion, &options);
    let error = pollster::block_on(new).map(|_| ()).unwrap_err().to_string();
    assert!(error.starts_with("augment.color_jitter: ") && error.contains("3 channels"), "{error}");
}
