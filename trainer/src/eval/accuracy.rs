//! How often the classifier is right.

use super::{Ground, Measured, Task};
use crate::data::Dataset;
use crate::io::output::progress;
use crate::io::session::go_on;
use crate::shard::{Part, Table};
use duet::infer::{ImageClassifier, NoisedClassifier};
use duet::model::{Head, Labels, ModelConfig, UNLABELLED, WeightSet, argmax};
use duet::rng::Seed;
use duet::weights::Weights;
use duet::{Error, Result};

/// Topics of a checkpoint's free text: the share of right answers of the averaged weights, and of how many test images.
pub const TEST_ACCURACY: &str = "test_accuracy";
/// See [`TEST_ACCURACY`].
pub const TEST_IMAGES: &str = "test_images";

/// Shares of correct answers.
pub struct Accuracy {
    /// Of all images that have a label (multi-label: of all labels).
    pub share: f64,
    /// Of each class's images (multi-label: of all images, for each label); `None` of a class without images.
    pub per_class: Vec<Option<f64>>,
    /// Images of each class that were seen (multi-label: all images, for each label).
    pub seen: Vec<usize>,
    /// Multi-label: of each label the mean of two shares of right answers, of the images that have it and of those that do not.
    /// Who always answers the same is right in one half, however rare the label is. `None` of a label that all images have, or
    /// none.
    pub balanced: Option<Vec<Option<f64>>>,
}

/// Answers as they are counted.
struct Tally {
    /// Right answers of each class or label, and answers.
    right: Vec<usize>,
    seen: Vec<usize>,
    /// The same of the images that have the label.
    right_held: Vec<usize>,
    held: Vec<usize>,
}

impl Tally {
    fn new(classes: usize) -> Tally {
        let zeros = || vec![0; classes];
        Tally { right: zeros(), seen: zeros(), right_held: zeros(), held: zeros() }
    }

    /// Counts an answer to whether an image has a label.
    fn label(&mut self, label: usize, holds: bool, answer: bool) {
        let right = usize::from(holds == answer);
        self.seen[label] += 1;
        self.right[label] += right;
        if holds {
            self.held[label] += 1;
            self.right_held[label] += right;
        }
    }

    /// Counts the answers \[N,K\] to what N images are.
    fn answers(&mut self, head: Head, truths: Labels, logits: &[f32]) -> Result<()> {
        let classes = self.seen.len();
        match (head, truths) {
            (Head::Multiclass, Labels::Classes(truths)) => {
                for (label, answer) in truths.into_iter().zip(argmax(logits, classes)?) {
                    if label == UNLABELLED {
                        continue;
                    }
                    let label = label as usize;
                    if label >= classes {
                        let detail = format!("label {label} in the data, {classes} classes in the model");
                        return Err(Error::config("num_classes", detail));
                    }
                    self.seen[label] += 1;
                    self.right[label] += usize::from(answer == label);
                }
            }
            (Head::MultiLabel, Labels::MultiLabel(truths)) if truths.len() == logits.len() => {
                for (i, (truth, logit)) in truths.into_iter().zip(logits).enumerate() {
                    self.label(i % classes, truth > 0.5, *logit > 0.0);
                }
            }
            // A class is the label that holds, and no other does.
            (Head::MultiLabel, Labels::Classes(truths)) => {
                for (label, row) in truths.into_iter().zip(logits.chunks_exact(classes)) {
                    for (k, logit) in row.iter().enumerate() {
                        self.label(k, label as usize == k, *logit > 0.0);
                    }
                }
            }
            _ => return Err(Error::config("head", "the model's does not answer what the data's labels say")),
        }
        Ok(())
    }

    fn balanced(&self) -> Vec<Option<f64>> {
        let share = |right: usize, seen: usize| (seen > 0).then(|| right as f64 / seen as f64);
        let of = |label: usize| {
            let (right, held) = (self.right_held[label], self.held[label]);
            let others = share(self.right[label] - right, self.seen[label] - held)?;
            Some(0.5 * (share(right, held)? + others))
        };
        (0..self.seen.len()).map(of).collect()
    }
}

impl Accuracy {
    /// From what was counted.
    fn of(head: Head, tally: Tally) -> Result<Accuracy> {
        let balanced = (head == Head::MultiLabel).then(|| tally.balanced());
        let Tally { right, seen, .. } = tally;
        let share = |right: usize, seen: usize| (seen > 0).then(|| right as f64 / seen as f64);
        let Some(all) = share(right.iter().sum(), seen.iter().sum()) else {
            return Err(Error::config("images", "none of the test images has a label: there is no accuracy"));
        };
        let per_class = right.iter().zip(&seen).map(|(right, seen)| share(*right, *seen)).collect();
        Ok(Accuracy { share: all, per_class, seen, balanced })
    }
}

/// The share of right answers among the logits \[N,K\] of images that are what `labels` say.
///
/// # Errors
/// As [`accuracy`], but for the device's.
pub fn share(head: Head, labels: Labels, logits: &[f32], classes: usize) -> Result<f64> {
    let mut tally = Tally::new(classes);
    tally.answers(head, labels, logits)?;
    Ok(Accuracy::of(head, tally)?.share)
}

/// The logits \[N,K\] of the images of `rows`, `batch` of them at a time.
///
/// # Errors
/// [`Error::Aborted`] after Ctrl-C; device errors.
pub fn logits(
    weights: &Weights,
    set: WeightSet,
    test: &Dataset,
    rows: &[usize],
    batch: usize,
    quiet: bool,
) -> Result<Vec<f32>> {
    let classifier = pollster::block_on(ImageClassifier::new(weights, batch.max(1), set))?;
    let bar = progress(rows.len() as u64, 0, "classifying {wide_bar} {pos}/{len} {eta}", quiet);
    let mut logits = Vec::new();
    for part in rows.chunks(batch.max(1)) {
        logits.extend(pollster::block_on(classifier.logits(&test.images_f32(part)))?);
        bar.inc(part.len() as u64);
        if go_on().is_break() {
            return Err(Error::Aborted);
        }
    }
    bar.finish_and_clear();
    Ok(logits)
}

/// Accuracy on `count` images of [`Dataset::spread`].
///
/// # Errors
/// Labels that the model has no head for, or no labels at all; device errors.
pub fn accuracy(
    weights: &Weights,
    set: WeightSet,
    test: &Dataset,
    count: usize,
    batch: usize,
    quiet: bool,
) -> Result<Accuracy> {
    let classifier = pollster::block_on(ImageClassifier::new(weights, batch, set))?;
    let rows = test.spread(count);
    let bar = progress(rows.len() as u64, 0, "classifying {wide_bar} {pos}/{len} {eta}", quiet);
    let images = |part: &[usize]| {
        bar.inc(part.len() as u64);
        Ok(test.images_f32(part))
    };
    let found = of_images(&classifier, &weights.model().config, test, &rows, batch, images);
    bar.finish_and_clear();
    found
}

/// Accuracy on the images of `rows`, `batch` of them at a time, as `images` makes them: \[N,C,H,W\] of any rows.
///
/// # Errors
/// As [`accuracy`]; those of `images`.
pub(super) fn of_images(
    classifier: &ImageClassifier,
    config: &ModelConfig,
    test: &Dataset,
    rows: &[usize],
    batch: usize,
    images: impl Fn(&[usize]) -> Result<Vec<f32>>,
) -> Result<Accuracy> {
    let mut tally = Tally::new(config.num_classes);
    for part in rows.chunks(batch.max(1)) {
        let logits = pollster::block_on(classifier.logits(&images(part)?))?;
        tally.answers(config.head, test.labels.pick(part, test.class_names.len())?, &logits)?;
    }
    Accuracy::of(config.head, tally)
}

/// What the test images are and what the classifier makes of them, as a table.
const TABLE: &str = "accuracy";

/// Labels as columns of a table: a whole number of each image, or its labels.
///
/// # Errors
/// Not as many as rows.
pub(super) fn put_labels(table: Table, labels: Labels) -> Result<Table> {
    match labels {
        Labels::Classes(classes) => table.with_whole("class", classes.into_iter().map(i64::from).collect()),
        Labels::MultiLabel(labels) => table.with_f32("labels", labels),
    }
}

/// The labels of [`put_labels`].
///
/// # Errors
/// A table without any.
pub(super) fn take_labels(table: &mut Table) -> Result<Labels> {
    if table.has("labels") {
        return Ok(Labels::MultiLabel(table.f32s("labels")?.0));
    }
    // What is no class of a data set's is a class that no model has.
    let class = |class: i64| u32::try_from(class).unwrap_or(UNLABELLED - 1);
    Ok(Labels::Classes(table.whole("class")?.0.into_iter().map(class).collect()))
}

/// The classifier's logits of as many test images as are asked for, and what these are.
pub(super) fn rows(task: &Task<'_>, part: &mut Part) -> Result<()> {
    let &Task { session, options, quiet, shard, .. } = task;
    let test = &task.split.test;
    let count = if options.images == 0 { test.len() } else { options.images.min(test.len()) };
    let all = test.spread(count);
    let range = shard.range(all.len(), options.batch);
    let rows = &all[range.clone()];
    let found = logits(&session.weights, session.set, test, rows, options.batch, quiet)?;
    let labels = test.labels.pick(rows, test.class_names.len())?;
    let table = put_labels(Table::new(all.len(), range).with_f32("logits", found)?, labels)?;
    part.put(TABLE, table);
    Ok(())
}

/// Accuracy of these.
pub(super) fn figures(part: &mut Part, _quiet: bool) -> Result<Measured> {
    let ground = Ground::of(part)?;
    let (config, test_images, names) = (&ground.config, ground.test_images, ground.names());
    let mut table = part.take(TABLE)?;
    let (count, labels) = (table.total(), take_labels(&mut table)?);
    let mut tally = Tally::new(config.num_classes);
    tally.answers(config.head, labels, &table.f32s("logits")?.0)?;
    let found = Accuracy::of(config.head, tally)?;
    // Of several labels every image has each, of one class the images that have one are counted.
    let images = if config.head == Head::MultiLabel { count } else { found.seen.iter().sum() };
    let of = if images == test_images {
        String::new()
    } else {
        format!(" of {test_images}, of each class its share")
    };
    let mut lines = vec![format!("accuracy {:.2} % of {images} test images{of}", 100.0 * found.share)];
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).clamp(12, 40);
    let percent =
        |share: Option<f64>| share.map_or("     –".into(), |share| format!("{:>5.1} %", 100.0 * share));
    for (class, name) in names.iter().enumerate() {
        let (share, seen) = (percent(found.per_class[class]), found.seen[class]);
        let balanced =
            found.balanced.as_ref().map(|shares| format!(", balanced {}", percent(shares[class]).trim()));
        lines.push(format!("  {name:<width$} {share}  of {seen}{}", balanced.unwrap_or_default()));
    }
    let fields = serde_json::json!({
        "images": images, "test_images": test_images, "accuracy": found.share, "classes": names,
        "per_class": found.per_class, "images_per_class": found.seen,
        "balanced_per_class": found.balanced,
    });
    Ok(Measured::new(fields, lines))
}

/// The middles of four equal parts of a chain of `steps` steps.
pub fn noise_levels(steps: usize) -> [usize; 4] {
    [1, 3, 5, 7].map(|part| part * steps / 8)
}

/// The share of right answers on the images of `rows`, noised to the timestep `t` by the seed.
///
/// # Errors
/// As [`accuracy`].
pub fn of_noised(
    classifier: &NoisedClassifier,
    config: &ModelConfig,
    data: &Dataset,
    rows: &[usize],
    (t, seed): (usize, Seed),
) -> Result<f64> {
    let (images, times) = (data.images_f32(rows), vec![t; rows.len()]);
    let logits = pollster::block_on(classifier.logits(&images, &times, seed, 0))?;
    let labels = data.labels.pick(rows, data.class_names.len())?;
    share(config.head, labels, &logits, config.num_classes)
}

#[cfg(test)]
mod tests {
    use super::{Accuracy, Tally};
    use duet::model::Head;

    #[test]
    fn a_class_without_images_has_no_accuracy_and_counts_nowhere() {
        let tally = Tally { right: vec![3, 0, 0, 4], seen: vec![4, 0, 2, 4], ..Tally::new(4) };
        let found = Accuracy::of(Head::Multiclass, tally).unwrap();
        assert_eq!(found.share, 0.7);
        assert_eq!(found.per_class, [Some(0.75), None, Some(0.0), Some(1.0)]);
        assert_eq!(found.balanced, None);
        let error = Accuracy::of(Head::Multiclass, Tally::new(2)).err().unwrap().to_string();
        assert!(error.contains("none of the test images"), "{error}");
    }

    #[test]
    fn a_rare_label_weighs_as_much_as_its_absence() {
        let mut tally = Tally::new(2);
        // Ten images, two of which have the first label; it is never answered but once, where it is. All have the second.
        for image in 0..10 {
            tally.label(0, image < 2, image == 0);
            tally.label(1, true, image < 5);
        }
        let found = Accuracy::of(Head::MultiLabel, tally).unwrap();
        assert_eq!(found.per_class, [Some(0.9), Some(0.5)]);
        assert_eq!(found.balanced, Some(vec![Some(0.5 * (0.5 + 1.0)), None]));
    }
}
