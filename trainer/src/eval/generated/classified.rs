//! Figures of the classifier on test images: calibration, the confusion matrix, each class.

use super::figure::Figure;
use super::real::Real;
use crate::cli::Metric;
use crate::eval::{Task, accuracy};
use duet::evaluation::{Calibration, Confusion};
use duet::model::{Labels, argmax};
use duet::{Error, Result};
use serde_json::{Value, json};

/// Most classes whose table fits a screen.
const TABLE: usize = 20;

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

/// The logits of test images and which these are: those that came with the features of real images, or new ones.
fn logits(task: &Task<'_>, real: Option<&Real>) -> Result<(Vec<f32>, Vec<usize>)> {
    let (session, test) = (task.session, &task.split.test);
    let there = real.and_then(|real| Some((real.rows.as_ref()?.logits.as_ref()?, real.of_test.as_ref()?)));
    if let Some(((logits, classes), rows)) = there
        && *classes == session.config().num_classes
    {
        return Ok((logits.clone(), rows.clone()));
    }
    let count = if task.options.images == 0 { test.len() } else { task.options.images };
    let rows = test.spread(count);
    let logits =
        accuracy::logits(&session.weights, session.set, test, &rows, task.options.batch, task.quiet)?;
    Ok((logits, rows))
}

/// Measures those of `wanted` that are of the classifier.
///
/// # Errors
/// Test images without classes; [`Error::Aborted`] after Ctrl-C; device errors.
pub fn measure(task: &Task<'_>, wanted: &[Metric], real: Option<&Real>) -> Result<Classified> {
    let (config, test) = (task.session.config(), &task.split.test);
    let classes = config.num_classes;
    let (logits, rows) = logits(task, real)?;
    let Labels::Classes(truths) = test.labels.pick(&rows, test.class_names.len())? else {
        return Err(Error::config(
            "metrics",
            "the test images have any number of labels; one class each is needed",
        ));
    };
    let names: Vec<String> = (0..classes).map(|class| config.class_name(class)).collect();
    let mut found = Classified::default();
    let of = format!("{} of {} test images, the model's classifier at t = 0", rows.len(), test.len());
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
        if classes > TABLE {
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
