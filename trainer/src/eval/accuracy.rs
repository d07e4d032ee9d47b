//! How often the classifier is right.

use crate::data::Dataset;
use crate::io::output::progress;
use duet::infer::ImageClassifier;
use duet::model::{Head, WeightSet, argmax};
use duet::weights::Weights;
use duet::{Error, Result};

/// Shares of correct answers.
pub struct Accuracy {
    /// Of all images (multi-label: of all labels).
    pub share: f64,
    /// Of each class's images.
    pub per_class: Vec<f64>,
}

/// Measures accuracy on the first `count` images.
///
/// # Errors
/// Device errors.
pub fn accuracy(
    weights: &Weights,
    set: WeightSet,
    test: &Dataset,
    count: usize,
    batch: usize,
    quiet: bool,
) -> Result<Accuracy> {
    let config = &weights.model().config;
    if config.head == Head::MultiLabel {
        return Err(Error::config("head", "the data sets here have one class per image"));
    }
    let classes = config.num_classes;
    let classifier = pollster::block_on(ImageClassifier::new(weights, batch, set))?;
    let (mut right, mut seen) = (vec![0usize; classes], vec![0usize; classes]);
    let bar = progress(count as u64, 0, "classifying {wide_bar} {pos}/{len} {eta}", quiet);
    let all: Vec<usize> = (0..count).collect();
    for part in all.chunks(batch) {
        let images = test.images_f32(part);
        let answers = argmax(&pollster::block_on(classifier.logits(&images))?, classes);
        for (image, answer) in part.iter().zip(answers) {
            let label = test.labels[*image] as usize;
            if label >= classes {
                let detail = format!("label {label} in the data, {classes} classes in the model");
                return Err(Error::config("num_classes", detail));
            }
            seen[label] += 1;
            right[label] += usize::from(answer == label);
        }
        bar.inc(part.len() as u64);
    }
    bar.finish_and_clear();
    let share = |right: usize, seen: usize| if seen == 0 { 0.0 } else { right as f64 / seen as f64 };
    Ok(Accuracy {
        share: share(right.iter().sum(), seen.iter().sum()),
        per_class: right.iter().zip(&seen).map(|(r, s)| share(*r, *s)).collect(),
    })
}
