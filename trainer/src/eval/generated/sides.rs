//! Generated images and real ones: the features of both, then the figures that compare them.

use super::compared::{Outcome, Sides, UNBIASED};
use super::figure::{Figure, Named};
use super::real::{Given, Real, Rows, Source, kept};
use super::tables::{Slice, put_all, put_moments, put_some, take, take_moments};
use super::{Asked, Cache, Compared, MADE, REAL, REFERENCE, classified, extract, samples};
use crate::cli::{FeatureChoice, Metric};
use crate::eval::Task;
use crate::eval::features::{Features, Pixels};
use crate::metrics::prd::Prd;
use crate::shard::Part;
use duet::Result;
use duet::rng::Seed;

/// Features of the task's images of both sides, and the logits of test images where the classifier is measured, too.
///
/// # Errors
/// Files that cannot be used; a model that cannot generate; device errors.
pub fn rows(
    task: &Task<'_>,
    features: &mut dyn Features,
    wanted: &[Metric],
    classify: bool,
    part: &mut Part,
) -> Result<Compared> {
    let &Task { session, options, split, quiet, .. } = task;
    let more = &options.more;
    let spatial = wanted.contains(&Metric::SfidSpatial);
    // A file that cannot be used is told of before minutes are spent.
    let samples = more.samples_npz.as_deref().map(|path| samples::of_file(features, path)).transpose()?;
    let source = match &more.reference {
        Some(path) => Source::File(path),
        None => Source::Data(&split.test, more.real_images),
    };
    let total = samples.as_ref().map_or(more.samples, |samples| samples.pixels.count);
    let real = match Given::of(source, features)? {
        Given::Images { pixels, source, of_test } => {
            // So is a figure that so few images do not have.
            if wanted.contains(&Metric::Prd) {
                Prd::new(Seed(options.how.seed)).check(pixels.count.min(total))?;
            }
            let range = task.shard.range(pixels.count, options.batch);
            let logits = if task.whole() {
                let cache = session.cache_folder().map(Cache::new);
                let rows = kept(&pixels, features, cache.as_ref(), quiet)?;
                let logits = rows.logits.as_ref().map(|(logits, _)| logits.clone()).unwrap_or_default();
                put_all(part, REAL, rows)?;
                logits
            } else {
                let (images, total) = (&pixels.part(range.clone()), pixels.count);
                put_some(part, REAL, features, Slice { images, range: range.clone(), total, spatial, quiet })?
            };
            if classify {
                // Another network's logits are not the classifier's.
                let own = of_test.as_deref().filter(|_| more.features == FeatureChoice::Own);
                let there = own.map(|all| classified::There { logits: &logits, all, range });
                classified::rows(task, there, part)?;
            }
            source
        }
        Given::Moments(real) => {
            if let Some(path) = &more.reference {
                let (size, channels) = (session.config().image_size, session.config().in_channels);
                let blank = Pixels::new(vec![0; size * size * channels], [size, size, channels])?;
                real.check(&features.extract(&blank)?, path)?;
            }
            for (name, moments) in REFERENCE.into_iter().zip([&real.pooled, &real.spatial]) {
                if let Some(moments) = moments {
                    put_moments(part, name, moments, task.shard)?;
                }
            }
            if classify {
                classified::rows(task, None, part)?;
            }
            real.source
        }
    };
    let range = task.shard.range(total, options.batch);
    let samples = match samples {
        Some(samples) => {
            samples::Samples { pixels: samples.pixels.part(range.clone()), source: samples.source }
        }
        None => {
            let run = (options.how.seed, options.batch, quiet);
            samples::generate(session, more, range.clone(), run)?
        }
    };
    if task.whole() {
        put_all(part, MADE, extract(features, &samples.pixels, MADE, quiet)?)?;
    } else {
        let slice = Slice { images: &samples.pixels, range, total, spatial, quiet };
        put_some(part, MADE, features, slice)?;
    }
    Ok(Compared {
        named: Named { features: features.name(), standard: features.standard() },
        identity: features.identity(),
        reads: features.reads(),
        real,
        made: samples.source,
    })
}

/// Figures of generated images.
///
/// # Errors
/// A part without features; too few images; [`duet::Error::Aborted`] after Ctrl-C.
pub fn figures(
    part: &mut Part,
    compared: &Compared,
    asked: &mut Asked,
    (seed, quiet): (u64, bool),
) -> Result<Vec<Figure>> {
    let [pooled, spatial] = REFERENCE;
    let rows = part.has(REAL).then(|| take(part, REAL)).transpose()?;
    let (pooled, spatial) = (take_moments(part, pooled)?, take_moments(part, spatial)?);
    let real = Real { rows, pooled, spatial, source: compared.real.clone() };
    let made = take(part, MADE)?;
    let Compared { named, identity, reads, made: source, .. } = compared;
    let of_features = format!(
        "{} features of {} numbers (network {identity}), {reads}, levels of 8 bits",
        named.features, made.len,
    );
    let sides = Sides { real: &real, made: &made, named, features: of_features, source, seed, quiet };
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
    Ok(figures)
}
