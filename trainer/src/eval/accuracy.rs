//! How often the classifier is right.

use super::Measured;
use crate::cli::Eval;
use crate::data::Dataset;
use crate::io::output::progress;
use crate::io::session::Session;
use duet::infer::ImageClassifier;
use duet::model::{Head, Labels, WeightSet, argmax};
use duet::weights::Weights;
use duet::{Error, Result};

/// Shares of correct answers.
pub struct Accuracy {
    /// Of all images (multi-label: of all labels).
    pub share: f64,
    /// Of each class's images (multi-label: of all images, for each label).
    pub per_class: Vec<f64>,
}

/// Accuracy on the first `count` images.
///
/// # Errors
/// Labels that the model has no head for; device errors.
pub fn accuracy(
    weights: &Weights,
    set: WeightSet,
    test: &Dataset,
    count: usize,
    batch: usize,
    quiet: bool,
) -> Result<Accuracy> {
    let config = &weights.model().config;
    let classes = config.num_classes;
    let classifier = pollster::block_on(ImageClassifier::new(weights, batch, set))?;
    let (mut right, mut seen) = (vec![0usize; classes], vec![0usize; classes]);
    let bar = progress(count as u64, 0, "classifying {wide_bar} {pos}/{len} {eta}", quiet);
    let all: Vec<usize> = (0..count).collect();
    for part in all.chunks(batch) {
        let images = test.images_f32(part);
        let logits = pollster::block_on(classifier.logits(&images))?;
        match (config.head, test.labels.pick(part, test.class_names.len())?) {
            (Head::Multiclass, Labels::Classes(truths)) => {
                for (label, answer) in truths.into_iter().zip(argmax(&logits, classes)) {
                    let label = label as usize;
                    if label >= classes {
                        let detail = format!("label {label} in the data, {classes} classes in the model");
                        return Err(Error::config("num_classes", detail));
                    }
                    seen[label] += 1;
                    right[label] += usize::from(answer == label);
                }
            }
            (Head::MultiLabel, Labels::MultiLabel(truths)) if truths.len() == logits.len() => {
                for (i, (truth, logit)) in truths.into_iter().zip(logits).enumerate() {
                    seen[i % classes] += 1;
                    right[i % classes] += usize::from((truth > 0.5) == (logit > 0.0));
                }
            }
            // A class is the label that holds, and no other does.
            (Head::MultiLabel, Labels::Classes(truths)) => {
                for (label, row) in truths.into_iter().zip(logits.chunks_exact(classes)) {
                    for (k, logit) in row.iter().enumerate() {
                        seen[k] += 1;
                        right[k] += usize::from((label as usize == k) == (*logit > 0.0));
                    }
                }
            }
            _ => return Err(Error::config("head", "the model's does not answer what the data's labels say")),
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

/// Accuracy on the images `options` ask for.
pub(super) fn measure(session: &Session, options: &Eval, test: &Dataset, quiet: bool) -> Result<Measured> {
    let count = if options.images == 0 { test.len() } else { options.images.min(test.len()) };
    let found = accuracy(&session.weights, session.set, test, count, options.batch, quiet)?;
    let mut lines = vec![format!("accuracy {:.2} % of {count} test images", 100.0 * found.share)];
    for (class, share) in found.per_class.iter().enumerate() {
        lines.push(format!("  {:<12} {:.1} %", session.config().class_name(class), 100.0 * share));
    }
    let fields =
        serde_json::json!({ "images": count, "accuracy": found.share, "per_class": found.per_class });
    Ok(Measured::new(fields, lines))
}
