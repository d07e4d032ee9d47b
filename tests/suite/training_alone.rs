//! A classifier trained alone: its loss is all there is, the decoder is not touched, and what it makes says what it is.

use crate::harness::{device, tiny_config};
use crate::training::{options, run, saved, start};
use crate::training_groups::tensors;
use duet::checkpoint::{Checkpoint, Dtype};
use duet::diffusion::DiffusionConfig;
use duet::explain::ExplainOptions;
use duet::model::{JointModel, ModelConfig, ParamSet, Part};
use duet::train::{ClassifierInput, TrainOptions, TrainSpec, Trainer, backward_plan, train_plan};
use duet::{Duet, LoadOptions, SampleOptions};
use std::path::Path;
use std::sync::Arc;

fn alone(classifier_input: ClassifierInput) -> TrainOptions {
    TrainOptions { classifier_only: true, classifier_input, weight_decay: 0.1, ..options() }
}

#[test]
fn the_decoder_keeps_every_bit_and_the_rest_learns() {
    // Moments and averages that differ from zeros and weights, so that a change would show.
    let mut warm = start(&options());
    run(&mut warm, 0..2, 6);
    let before = saved(&warm);
    assert!(!before.classifier_only);
    for (input, micro_batches) in
        [(ClassifierInput::Clean, 1), (ClassifierInput::Noised, 3), (ClassifierInput::Both, 1)]
    {
        let options = TrainOptions { micro_batches, ..alone(input) };
        let mut trainer = pollster::block_on(Trainer::resume(device(), &before, &options)).unwrap();
        run(&mut trainer, 2..5, 6);
        let after = saved(&trainer);
        assert!(after.classifier_only);
        for part in Part::ALL {
            let pairs = tensors(&before, part).into_iter().zip(tensors(&after, part));
            for ((name, old), (_, new)) in pairs {
                assert_eq!(old == new, part == Part::Decoder, "{input:?}: {name}");
            }
        }
    }
}

#[test]
fn its_loss_is_the_whole_loss_at_full_weight() {
    // Dropout would draw other numbers in a plan of other operations.
    let start = |options: &TrainOptions| {
        let config = ModelConfig { classifier_dropout: 0.0, ..tiny_config() };
        let model = Arc::new(JointModel::new(&config).unwrap());
        let diffusion = DiffusionConfig::default();
        pollster::block_on(Trainer::new(device(), model, &diffusion, options)).unwrap()
    };
    let mut trainer = start(&alone(ClassifierInput::Clean));
    run(&mut trainer, 0..1, 6);
    let metrics = pollster::block_on(trainer.metrics()).unwrap();
    assert!(metrics.classifier_loss > 0.1, "{metrics:?}");
    assert_eq!(metrics.loss, metrics.classifier_loss, "whatever `classifier_loss_scaling` says");
    assert_eq!((metrics.mse, metrics.vb), (0.0, 0.0));
    // The same loss and the same gradients of the head as in the joint step, where it has the weight 0.5.
    let joint = TrainOptions { classifier_input: ClassifierInput::Clean, ..options() };
    let mut other = start(&joint);
    run(&mut other, 0..1, 6);
    assert_eq!(pollster::block_on(other.metrics()).unwrap().classifier_loss, metrics.classifier_loss);
    let [ours, theirs] = [&trainer, &other]
        .map(|t| pollster::block_on(t.weights().download(ParamSet::Gradient, false)).unwrap());
    let mut compared = 0;
    for (name, gradient) in ours.iter().filter(|(name, _)| name.starts_with("clasifier.")) {
        for (ours, theirs) in gradient.data.iter().zip(&theirs[name].data) {
            assert!((0.5 * ours - theirs).abs() <= 1e-6, "{name}: {ours} and {theirs}");
            compared += usize::from(*ours != 0.0);
        }
    }
    assert!(compared > 20);
    run(&mut trainer, 1..60, 6);
    pollster::block_on(trainer.metrics()).unwrap();
    run(&mut trainer, 60..80, 6);
    let late = pollster::block_on(trainer.metrics()).unwrap();
    assert!(late.loss < 0.6 * metrics.loss, "{metrics:?}, {late:?}");
}

#[test]
fn the_decoder_and_the_noise_are_not_computed() {
    let model = JointModel::new(&tiny_config()).unwrap();
    let diffusion = DiffusionConfig::default();
    let plan = |options: &TrainOptions| backward_plan(&model, &diffusion, &TrainSpec::of(options)).unwrap();
    for input in [ClassifierInput::Clean, ClassifierInput::Noised] {
        let joint = plan(&TrainOptions { classifier_only: false, ..alone(input) });
        let alone = plan(&alone(input));
        assert!(2 * alone.stats().multiply_adds < joint.stats().multiply_adds + 1_000_000, "{input:?}");
        let names: Vec<&str> = alone.externals().map(|(name, _)| name).collect();
        assert!(names.contains(&"logits") && !names.contains(&"mse") && !names.contains(&"model_out"));
        assert_eq!(names.contains(&"t"), input == ClassifierInput::Noised, "{names:?}");
    }
    // A learned sigma's term goes with the noise error.
    let learned = ModelConfig { learn_sigma: true, ..tiny_config() };
    let learned = JointModel::new(&learned).unwrap();
    train_plan(&learned, &diffusion, &TrainSpec::of(&alone(ClassifierInput::Both))).unwrap();
}

#[test]
fn without_anything_to_learn_it_is_refused() {
    let error = alone(ClassifierInput::None).validate().unwrap_err().to_string();
    assert!(error.contains("classifier_only") && error.contains("\"clean\""), "{error}");
    let mut frozen = alone(ClassifierInput::Clean);
    frozen.groups.encoder = duet::train::Rate::Frozen;
    frozen.validate().unwrap();
    frozen.groups.classifier = duet::train::Rate::Frozen;
    let error = frozen.validate().unwrap_err().to_string();
    assert!(error.contains("nothing is trained"), "the decoder has no loss: {error}");
}

#[test]
fn what_it_made_classifies_and_refuses_all_else() {
    let mut trainer = start(&alone(ClassifierInput::Both));
    run(&mut trainer, 0..2, 6);
    let bytes = saved(&trainer).export(Dtype::F32, true).unwrap();
    let checkpoint = Checkpoint::from_bytes(&bytes, Path::new("alone")).unwrap();
    assert!(checkpoint.classifier_only && checkpoint.clone().into_inference().classifier_only);
    let model = Arc::new(checkpoint.joint_model(Path::new("alone")).unwrap());
    let options = LoadOptions { adopted: Some(device().clone()), ..LoadOptions::default() };
    let mut duet = pollster::block_on(Duet::of(Arc::new(checkpoint), model, &options)).unwrap();
    let image = vec![0.5; duet.image_len()];
    assert_eq!(pollster::block_on(duet.classify(&image)).unwrap().len(), 1);
    assert_eq!(pollster::block_on(duet.typicality(&image)).unwrap(), None);
    let refused = [
        pollster::block_on(duet.sample(None, 1, &SampleOptions::default())).map(|_| ()),
        pollster::block_on(duet.explain(&image, 1, &ExplainOptions::default())).map(|_| ()),
        pollster::block_on(duet.predict_noise(&image, &[3])).map(|_| ()),
    ];
    for outcome in refused {
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("classifier alone") && error.contains("cannot generate"), "{error}");
    }
}
