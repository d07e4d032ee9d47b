//! Figures of the classifier on test images: calibration, the confusion matrix, each class.

use super::figure::Figure;
use crate::cli::Metric;
use crate::eval::{Ground, Task, accuracy};
use crate::shard::{Part, Table};
use duet::evaluation::{Calibration, Confusion};
use duet::model::{Labels, argmax};
use duet::{Error, Result};
use serde_json::{Value, json};
use std::ops::Range;

/// Most classes whose table fits a screen.
const SHOWN: usize = 20;

/// What was found.
#[derive(Default)]
pub struct Classified {
    pub figures: Vec<Figure>,
    pub lines: Vec<String>,
    /// Fields for JSON.
    pub calibration: Value,
    pub confusion: Value,
    pub per_class: Value,
}

/// Logits of test images and what these are.
const TABLE: &str = "classified";

/// Logits that came with the model's own features, and which of how many test images these are.
pub struct There<'a> {
    /// The logits \[N,K\] of the part's images.
    pub logits: &'a [f32],
    /// Rows of all images.
    pub all: &'a [usize],
    /// Which of them are the part's.
    pub range: Range<usize>,
}

/// Takes up the logits of the task's test images and what these are: those that came with the features of real images, or new ones.
///
/// # Errors
/// Test images without classes; [`Error::Aborted`] after Ctrl-C; device errors.
pub fn rows(task: &Task<'_>, there: Option<There<'_>>, part: &mut Part) -> Result<()> {
    let &Task { session, options, .. } = task;
    let test = &task.split.test;
    let (total, range, rows, logits) = match there {
        Some(There { logits, all, range }) => {
            (all.len(), range.clone(), all[range].to_vec(), logits.to_vec())
        }
        None => {
            let all = test.spread(if options.images == 0 { test.len() } else { options.images });
            let range = task.shard.range(all.len(), options.batch);
            let rows = all[range.clone()].to_vec();
            let found =
                accuracy::logits(&session.weights, session.set, test, &rows, options.batch, task.quiet)?;
            (all.len(), range, rows, found)
        }
    };
    let labels = test.labels.pick(&rows, test.class_names.len())?;
    if matches!(labels, Labels::MultiLabel(_)) {
        return Err(Error::config(
            "metrics",
            "the test images have any number of labels; one class each is needed",
        ));
    }
    part.put(TABLE, accuracy::put_labels(Table::new(total, range).with_f32("logits", logits)?, labels)?);
    Ok(())
}

/// Figures of those of `wanted` that are of the classifier.
///
/// # Errors
/// A part without logits.
pub fn figures(ground: &Ground, wanted: &[Metric], part: &mut Part) -> Result<Classified> {
    let (config, test_images) = (&ground.config, ground.test_images);
    let classes = config.num_classes;
    let mut table = part.take(TABLE)?;
    let count = table.total();
    let (logits, Labels::Classes(truths)) = (table.f32s("logits")?.0, accuracy::take_labels(&mut table)?)
    else {
        return Err(Error::config("metrics", "labels that are no classes"));
    };
    let names = ground.names();
    let mut found = Classified::default();
    let of = format!("{count} of {test_images} test images, the model's classifier at t = 0");
    if wanted.contains(&Metric::Ece) {
        let probabilities = config.head.probabilities(&logits, classes)?;
        let calibration = Calibration::of(&probabilities, &truths, classes)?;
        found.figures.push(Figure {
            metric: Metric::Ece.name(),
            name: "ECE".into(),
            value: calibration.ece,
            deviation: None,
            protocol: format!("{}; {of}", Calibration::protocol()),
        });
        found.calibration = json!(calibration);
    }
    let table = Confusion::of(&argmax(&logits, classes)?, &truths, classes)?;
    if wanted.contains(&Metric::PerClass) {
        let each = names.iter().zip(table.per_class()).map(|(name, of)| {
            json!({ "class": name, "recall": of.recall, "precision": of.precision, "images": of.images })
        });
        found.per_class = each.collect();
        found.lines.push(format!("  recall and precision of each class; {of}"));
        let percent =
            |share: Option<f64>| share.map_or("–".into(), |share| format!("{:.1} %", 100.0 * share));
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).clamp(12, 40);
        found.lines.extend(names.iter().zip(table.per_class()).map(|(name, of)| {
            format!("      {name:<width$} {:>8} {:>8}", percent(of.recall), percent(of.precision))
        }));
    }
    if wanted.contains(&Metric::Confusion) {
        found.confusion = json!({ "classes": names, "counts": table.counts });
        if classes > SHOWN {
            found.lines.push(format!("  the confusion matrix of {classes} classes is told by --json; {of}"));
        } else {
            found.lines.push(format!("  confusion matrix, a row for each true class; {of}"));
            let width =
                table.counts.iter().flatten().map(|count| count.to_string().len()).max().unwrap_or(1).max(3);
            for (name, row) in names.iter().zip(&table.counts) {
                let cells: Vec<String> = row.iter().map(|count| format!("{count:>width$}")).collect();
                let name: String = name.chars().take(16).collect();
                found.lines.push(format!("      {name:<16} {}", cells.join(" ")));
            }
        }
    }
    Ok(found)
}
