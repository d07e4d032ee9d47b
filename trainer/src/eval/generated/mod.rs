//! `duet eval --metrics`: figures of generated images against real ones, of the classifier and of the likelihood, each with the
//! protocol that it was measured by.

mod cache;
mod classified;
mod compared;
mod figure;
mod likelihood;
mod real;
mod samples;

pub use cache::{Cache, MOST as MOST_KEPT};
pub use figure::{Figure, Named};
pub use likelihood::{Likelihood, Stretch};
pub use real::{Real, Rows, Source, extract};

use super::features::{self, Features, Pixels};
use super::{Measured, Task};
use crate::cli::{Metric, Metrics};
use crate::io::session::{Session, watch_interrupts};
use clap::ValueEnum as _;
use compared::{Outcome, Sides, UNBIASED};
use duet::model::Head;
use duet::{Error, Result};
use serde_json::{Value, json};
use std::time::Instant;

/// What is asked for, and what is to be said of what is not measured.
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

/// Everything that was asked for.
///
/// # Errors
/// Files that cannot be read; metrics that the model has none of; [`Error::Aborted`] after Ctrl-C; device errors.
pub(super) fn measure(task: &Task<'_>) -> Result<Measured> {
    let options = &task.options.more;
    if options.metrics.is_empty() {
        return Ok(Measured::new(json!({ "metrics": null }), Vec::new()));
    }
    let mut asked = Asked::of(task.session, options)?;
    watch_interrupts()?;
    let begun = Instant::now();
    let (mut figures, mut real) = (Vec::new(), None);
    if asked.metrics.iter().any(|metric| metric.of_generated()) {
        let mut features = features::open(task.session, &options.features, task.options.batch)?;
        let (found, of) = compared(task, features.as_mut(), &mut asked)?;
        (figures, real) = (found, Some(of));
    }
    let of_classifier = |metric: &Metric| [Metric::Ece, Metric::Confusion, Metric::PerClass].contains(metric);
    let mut classified = classified::Classified::default();
    if asked.metrics.iter().any(of_classifier) {
        classified = classified::measure(task, &asked.metrics, real.as_ref())?;
        figures.append(&mut classified.figures);
    }
    let mut likelihood = Value::Null;
    if asked.metrics.contains(&Metric::Nll) {
        let (seed, batch) = (task.options.how.seed, task.options.batch);
        let run = (seed, batch, task.quiet);
        let (found, figure) = likelihood::measure(task.session, &task.split.test, options, run)?;
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
    let fields = json!({ "metrics": {
        "figures": figures, "notes": asked.notes, "calibration": classified.calibration,
        "confusion": classified.confusion, "per_class": classified.per_class, "likelihood": likelihood,
        "seconds": begun.elapsed().as_secs_f64(),
    } });
    Ok(Measured::new(fields, lines))
}

/// Figures of generated images, and the real side they were compared with.
fn compared(task: &Task<'_>, features: &mut dyn Features, asked: &mut Asked) -> Result<(Vec<Figure>, Real)> {
    let &Task { session, options, split, quiet, .. } = task;
    let more = &options.more;
    // A file that cannot be used is told of before minutes are spent.
    let samples = more.samples_npz.as_deref().map(|path| samples::of_file(features, path)).transpose()?;
    let source = match &more.reference {
        Some(path) => Source::File(path),
        None => Source::Data(&split.test, more.real_images),
    };
    let cache = session.cache_folder().map(Cache::new);
    let real = Real::of(source, features, cache.as_ref(), quiet)?;
    if let (Some(path), None) = (&more.reference, &real.rows) {
        let (size, channels) = (session.config().image_size, session.config().in_channels);
        let blank = Pixels::new(vec![0; size * size * channels], [size, size, channels])?;
        real.check(&features.extract(&blank)?, path)?;
    }
    let samples = match samples {
        Some(samples) => samples,
        None => samples::generate(session, more, options.how.seed, options.batch, quiet)?,
    };
    let made = extract(features, &samples.pixels, "generated", quiet)?;
    let named = Named { features: features.name(), standard: features.standard() };
    let of_features = format!(
        "{} features of {} numbers (network {}), {}, levels of 8 bits",
        named.features,
        made.len,
        features.identity(),
        features.reads()
    );
    let sides = Sides {
        real: &real,
        made: &made,
        named: &named,
        features: of_features,
        source: &samples.source,
        seed: options.how.seed,
        quiet,
    };
    let metrics: Vec<Metric> = asked.metrics.iter().copied().filter(|metric| metric.of_generated()).collect();
    let mut figures: Vec<Figure> = Vec::new();
    for metric in &metrics {
        // Precision and recall come with density and coverage.
        if figures.iter().any(|figure| figure.metric == metric.name()) {
            continue;
        }
        match sides.measure(*metric)? {
            Outcome::Figures(found) => figures.extend(found),
            Outcome::None(why) => asked.pass_over(*metric, &why)?,
        }
    }
    let names: Vec<String> = metrics.iter().map(|metric| metric.name()).collect();
    figures.retain(|figure| names.contains(&figure.metric));
    let least = made.count().min(real.rows.as_ref().map_or(usize::MAX, Rows::count));
    let distances = [Metric::Fid, Metric::SfidSpatial, Metric::SfidSplit];
    if least < UNBIASED && metrics.iter().any(|metric| distances.contains(metric)) {
        asked.notes.push(format!(
            "Fréchet distances of {least} images are too large (bias); only figures of equally many compare, and published \
             ones are of {UNBIASED} or more"
        ));
    }
    Ok((figures, real))
}
