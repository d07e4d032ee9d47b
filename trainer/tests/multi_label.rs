//! Data whose images have any number of labels each.

use duet::diffusion::DiffusionConfig;
use duet::gpu::{Device, DeviceOptions};
use duet::model::{Head, JointModel, Labels, ModelConfig, WeightSet};
use duet::train::{BatchOrder, TrainOptions, Trainer};
use duet_trainer::data::Dataset;
use duet_trainer::eval::accuracy::accuracy;
use duet_trainer::training::labels_fit;
use std::sync::Arc;

/// Four images of one grey level each; the labels say which are bright, and that all are flat.
fn labelled() -> Dataset {
    let images = [0u8, 255, 0, 255].map(|level| [level; 64]).concat().into();
    let labels = Labels::MultiLabel(vec![0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0]);
    let class_names = vec!["bright".into(), "flat".into()];
    Dataset { images, labels, channels: 1, size: 8, class_names }
}

#[test]
fn data_of_several_labels_train_a_model_and_its_accuracy_is_measured() {
    let device = pollster::block_on(Device::open(&DeviceOptions::default())).unwrap();
    let config = ModelConfig {
        image_size: 8,
        num_channels: 8,
        num_res_blocks: 1,
        channel_mult: vec![1, 2],
        attention_resolutions: Vec::new(),
        num_classes: 2,
        head: Head::MultiLabel,
        ..ModelConfig::default()
    };
    labels_fit(&labelled(), &config).unwrap();
    let single = ModelConfig { head: Head::Multiclass, ..config.clone() };
    assert!(labels_fit(&labelled(), &single).unwrap_err().to_string().contains("multi_label"));
    let model = Arc::new(JointModel::new(&config).unwrap());
    let options = TrainOptions { batch_size: 4, classifier_loss_scaling: 1.0, ..TrainOptions::default() };
    let diffusion = DiffusionConfig::default();
    let new = Trainer::new(&device, model, &diffusion, &options);
    let mut trainer = pollster::block_on(new).unwrap();
    let (data, mut order) = (labelled(), BatchOrder::new(4, 3));
    let mut losses = Vec::new();
    for step in 0..60 {
        let batch = data.examples(&config).unwrap().next(&mut order, step, 4, false).unwrap();
        trainer.train_step(&batch, 1e-2).unwrap();
        losses.push(pollster::block_on(trainer.metrics()).unwrap().classifier_loss);
    }
    assert!(losses[59] < 0.5 * losses[0], "{} to {}", losses[0], losses[59]);
    let measured = accuracy(trainer.weights(), WeightSet::Raw, &data, 4, 3, true).unwrap();
    assert_eq!(measured.per_class.len(), 2);
    assert!(
        (0.0..=1.0).contains(&measured.share) && measured.per_class[0] >= Some(0.5),
        "{:?}",
        measured.per_class
    );
    // The same, were the first label of two the class of every image: the second one's answers are turned round.
    let classes = Dataset { labels: Labels::Classes(vec![0; 4]), ..data.clone() };
    let labels = Dataset { labels: Labels::MultiLabel([1.0, 0.0].repeat(4)), ..data };
    let [classes, labels] =
        [classes, labels].map(|set| accuracy(trainer.weights(), WeightSet::Raw, &set, 4, 3, true).unwrap());
    assert_eq!(classes.per_class, labels.per_class);
}
