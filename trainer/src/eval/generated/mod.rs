//! `duet eval --metrics`: figures of generated images against real ones, of the classifier and of the likelihood, each with the
//! protocol that it was measured by.

mod cache;
mod classified;
mod compared;
mod figure;
mod likelihood;
mod real;
mod samples;
mod sides;
mod tables;

pub use cache::{Cache, MOST as MOST_KEPT};
pub use figure::{Figure, Named};
pub use likelihood::{Likelihood, Stretch};
pub use real::{Real, Rows, Source, extract};

use super::features;
use super::{Ground, Measured, Task};
use crate::cli::{Metric, Metrics};
use crate::io::session::{Session, watch_interrupts};
use crate::shard::{Part, Table};
use clap::ValueEnum as _;
use duet::model::Head;
use duet::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Instant;

/// What is asked for, and what is to be said of what is not measured.
#[derive(Debug, Serialize, Deserialize)]
struct Asked {
    metrics: Vec<Metric>,
    /// Whether everything was asked for, so that what a model has not is passed over.
    all: bool,
    notes: Vec<String>,
}

/// Why a model has none of a metric.
fn missing(session: &Session, options: &Metrics, metric: Metric) -> Option<&'static str> {
    let denoises = !session.checkpoint.classifier_only;
    let generates = metric.of_generated() && options.samples_npz.is_none();
    if (generates || metric == Metric::Nll) && !denoises {
        return Some("the model is a classifier alone, and generates nothing");
    }
    let of_one_class = [Metric::Is, Metric::Ece, Metric::Confusion, Metric::PerClass];
    if of_one_class.contains(&metric) && session.config().head == Head::MultiLabel {
        return Some("the model decides labels one by one; of one class per image it would be known");
    }
    None
}

impl Asked {
    /// What the command line asks for, of what the model has.
    ///
    /// # Errors
    /// [`Error::Config`] for a metric that was named and that the model has none of, or for options that ask for nothing.
    fn of(session: &Session, options: &Metrics) -> Result<Asked> {
        let all = options.metrics.contains(&Metric::All);
        let mut metrics = if all { Metric::value_variants().to_vec() } else { options.metrics.clone() };
        metrics.retain(|metric| *metric != Metric::All);
        metrics.sort();
        metrics.dedup();
        let mut asked = Asked { metrics: Vec::new(), all, notes: Vec::new() };
        for metric in metrics {
            match missing(session, options, metric) {
                None => asked.metrics.push(metric),
                Some(why) => asked.pass_over(metric, why)?,
            }
        }
        if asked.metrics.iter().any(|metric| metric.of_generated())
            && options.samples == 0
            && options.samples_npz.is_none()
        {
            return Err(Error::config("samples", "must be 1 or more: there is nothing to compare"));
        }
        Ok(asked)
    }

    /// Tells why a metric is not measured.
    ///
    /// # Errors
    /// [`Error::Config`] where it was asked for by name.
    fn pass_over(&mut self, metric: Metric, why: &str) -> Result<()> {
        let name = metric.name();
        if !self.all {
            return Err(Error::config("metrics", format!("{name}: {why}")));
        }
        self.notes.push(format!("no {name}: {why}"));
        Ok(())
    }
}

/// What figures need beside the rows.
#[derive(Debug, Serialize, Deserialize)]
struct Facts {
    asked: Asked,
    compared: Option<Compared>,
    likelihood: Option<likelihood::Facts>,
    seed: u64,
}

/// What is told of both sides that are compared.
#[derive(Debug, Serialize, Deserialize)]
struct Compared {
    named: Named,
    /// [`Features::identity`] and [`Features::reads`].
    identity: String,
    reads: String,
    /// Which real images.
    real: String,
    /// Where generated ones are from.
    made: String,
}

/// What is known of all of it, and the seconds that rows took, a row for each part.
const FACTS: &str = "metrics";
/// Both sides, or the moments of the real one.
const REAL: &str = "real";
const MADE: &str = "generated";
const REFERENCE: [&str; 2] = ["reference", "reference-spatial"];

/// Rows of everything that was asked for.
///
/// # Errors
/// Files that cannot be read; metrics that the model has none of; [`Error::Aborted`] after Ctrl-C; device errors.
pub(super) fn rows(task: &Task<'_>, part: &mut Part) -> Result<()> {
    let options = &task.options.more;
    if options.metrics.is_empty() {
        return part.state(FACTS, Value::Null);
    }
    let asked = Asked::of(task.session, options)?;
    watch_interrupts()?;
    let begun = Instant::now();
    let wants = |of: fn(&Metric) -> bool| asked.metrics.iter().any(of);
    let of_classifier = wants(|metric| [Metric::Ece, Metric::Confusion, Metric::PerClass].contains(metric));
    let compared = if wants(|metric| metric.of_generated()) {
        let mut features = features::open(task.session, &options.features, task.options.batch)?;
        Some(sides::rows(task, features.as_mut(), &asked.metrics, of_classifier, part)?)
    } else {
        if of_classifier {
            classified::rows(task, None, part)?;
        }
        None
    };
    let likelihood = match asked.metrics.contains(&Metric::Nll) {
        true => Some(likelihood::rows(task, part)?),
        false => None,
    };
    let (number, of) = (task.shard.number(), task.shard.of());
    let seconds =
        Table::new(of, number - 1..number).with_f64("seconds", vec![begun.elapsed().as_secs_f64()])?;
    part.put(FACTS, seconds);
    part.state(FACTS, Facts { asked, compared, likelihood, seed: task.options.how.seed })
}

/// Figures of all rows.
///
/// # Errors
/// A part without them; metrics that are asked for and that there are none of; [`Error::Aborted`] after Ctrl-C.
pub(super) fn figures(part: &mut Part, quiet: bool) -> Result<Measured> {
    let Some(facts) = part.fact::<Option<Facts>>(FACTS)? else {
        return Ok(Measured::new(json!({ "metrics": null }), Vec::new()));
    };
    let begun = Instant::now();
    let ground = Ground::of(part)?;
    let Facts { mut asked, compared, likelihood: of_likelihood, seed } = facts;
    let mut figures = match &compared {
        Some(compared) => sides::figures(part, compared, &mut asked, (seed, quiet))?,
        None => Vec::new(),
    };
    let of_classifier = |metric: &Metric| [Metric::Ece, Metric::Confusion, Metric::PerClass].contains(metric);
    let mut classified = classified::Classified::default();
    if asked.metrics.iter().any(of_classifier) {
        classified = classified::figures(&ground, &asked.metrics, part)?;
        figures.append(&mut classified.figures);
    }
    let mut likelihood = Value::Null;
    if let Some(of) = &of_likelihood {
        let (found, figure) = likelihood::figure(of, ground.test_images, part)?;
        let first = found.stretches.first().map_or(0.0, |first| first.bits);
        classified
            .lines
            .push(format!("  NLL: {first:.4} of t = 0, {:.6} of the prior; by timestep:", found.prior));
        classified.lines.extend(found.stretches.iter().skip(1).map(|stretch| {
            let Stretch { from, to, bits, x_start_mse, eps_mse } = *stretch;
            format!(
                "      t {from:>4} to {:>4}  {bits:.5} bits, x0 mse {x_start_mse:.5}, eps mse {eps_mse:.5}",
                to - 1
            )
        }));
        likelihood = json!(found);
        figures.push(figure);
    }
    let mut lines = vec!["metrics, each with the protocol it was measured by:".to_owned()];
    lines.extend(figures.iter().flat_map(Figure::lines));
    lines.append(&mut classified.lines);
    lines.extend(asked.notes.iter().map(|note| format!("  note: {note}")));
    let seconds = part.take(FACTS)?.f64s("seconds")?.0.iter().sum::<f64>() + begun.elapsed().as_secs_f64();
    let fields = json!({ "metrics": {
        "figures": figures, "notes": asked.notes, "calibration": classified.calibration,
        "confusion": classified.confusion, "per_class": classified.per_class, "likelihood": likelihood,
        "seconds": seconds,
    } });
    Ok(Measured::new(fields, lines))
}
