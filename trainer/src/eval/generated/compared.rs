//! Figures that compare generated images with real ones, in the features of one network.

use super::figure::{Figure, Named};
use super::real::{Real, Rows};
use crate::cli::Metric;
use crate::io::output::progress;
use crate::io::session::go_on;
use crate::metrics::coverage::{Neighbours, compare};
use crate::metrics::frechet::{Gaussian, Reference, split_halves};
use crate::metrics::inception_score::Score;
use crate::metrics::kid::{Subsets, kid};
use crate::metrics::manifold::Manifold;
use crate::metrics::prd::{Prd, Summary};
use duet::rng::Seed;
use duet::{Error, Result};
use std::ops::ControlFlow;

/// Images of a part that an Inception score is the mean over, as the papers have it.
const SCORED: usize = 5000;
/// Fewer images than these make a Fréchet distance too large to stand beside published ones.
pub const UNBIASED: usize = 10_000;

/// Both sides, and what is told of them.
pub struct Sides<'a> {
    /// Real images.
    pub real: &'a Real,
    /// Generated ones.
    pub made: &'a Rows,
    /// The features.
    pub named: &'a Named,
    /// What all protocols begin with: features, what they read.
    pub features: String,
    /// Where the generated images are from.
    pub source: &'a str,
    /// Seed of what is drawn.
    pub seed: u64,
    /// Whether no progress is shown.
    pub quiet: bool,
}

/// What cannot be measured of what is there.
pub enum Outcome {
    /// The figures.
    Figures(Vec<Figure>),
    /// Why there are none.
    None(String),
}

impl Sides<'_> {
    fn figure(
        &self,
        metric: Metric,
        name: &str,
        (value, deviation): (f64, Option<f64>),
        how: String,
    ) -> Figure {
        let (name, metric) = (self.named.figure(name), metric.name());
        Figure { metric, name, value, deviation, protocol: format!("{}; {how}", self.features) }
    }

    /// What a protocol says of all images of both sides.
    fn all(&self) -> String {
        format!("{}; {} generated {}", self.real.source, self.made.count(), self.source)
    }

    /// One of the metrics.
    ///
    /// # Errors
    /// Too few images, features that are not finite, [`Error::Aborted`] after Ctrl-C.
    pub fn measure(&self, metric: Metric) -> Result<Outcome> {
        if metric == Metric::Fid {
            let reference = Reference::new(self.real.pooled()?)?;
            let distance = reference.distance(&Gaussian::of(&self.made.pooled, self.made.len)?)?;
            return Ok(Outcome::Figures(vec![self.figure(metric, "FID", (distance, None), self.all())]));
        }
        if metric == Metric::SfidSpatial {
            let (Some(real), Some(made)) = (self.real.spatial(), &self.made.spatial) else {
                let what = "there are no spatial features of both sides (of more than one image)";
                return Ok(Outcome::None(what.into()));
            };
            let distance = Reference::new(real.clone())?.distance(made)?;
            let how = format!("map of {} numbers; {}", made.mean().len(), self.all());
            return Ok(Outcome::Figures(vec![self.figure(metric, "sFID (spatial)", (distance, None), how)]));
        }
        if metric == Metric::Is {
            let Some((logits, classes)) = &self.made.logits else {
                return Ok(Outcome::None("the features come without logits".into()));
            };
            let score = Score::of(logits, *classes, (self.made.count() / SCORED).max(1))?;
            let parts = format!("{} part(s) of about {SCORED}, {classes} classes", score.splits);
            let how = format!("{parts}; {} generated {}", self.made.count(), self.source);
            return Ok(Outcome::Figures(vec![self.figure(metric, "IS", (score.mean, score.deviation), how)]));
        }
        match &self.real.rows {
            None => Ok(Outcome::None("the reference holds no images, only their mean and covariance".into())),
            Some(real) => self.of_rows(metric, real),
        }
    }

    /// One of those that need the real images' features one by one.
    fn of_rows(&self, metric: Metric, real: &Rows) -> Result<Outcome> {
        let (columns, seed) = (self.made.len, Seed(self.seed));
        if metric == Metric::Kid {
            let subsets = Subsets::of(real.count().min(self.made.count()), seed);
            let bar = progress(subsets.count as u64, 0, "KID {wide_bar} {pos}/{len} {eta}", self.quiet);
            let mut hear = |subsets| -> ControlFlow<()> {
                bar.inc(subsets as u64);
                go_on()
            };
            let found = kid(&real.pooled, &self.made.pooled, columns, subsets, &mut hear)?;
            bar.finish_and_clear();
            let Subsets { count, size, .. } = subsets;
            let drawn = format!("{count} subsets of {size}, seed {}; ± over subsets", self.seed);
            let how = format!("kernel (x·y/{columns} + 1)³, unbiased, {drawn}; {}", self.all());
            let value = (found.mean, Some(found.deviation));
            return Ok(Outcome::Figures(vec![self.figure(metric, "KID", value, how)]));
        }
        // The larger set would cover more, and fill more clusters.
        let count = real.count().min(self.made.count());
        let (a, b) = (real.spread(count), self.made.spread(count));
        let equal = format!("{count} of each: {}", self.all());
        match metric {
            Metric::SfidSplit => {
                let distance = split_halves(&a, &b, columns, seed)?;
                let how = format!("mean over crossed halves, seed {}; {equal}", self.seed);
                Ok(Outcome::Figures(vec![self.figure(metric, "sFID (split halves)", (distance, None), how)]))
            }
            Metric::Prd => {
                let prd = Prd::new(seed);
                let found = Summary::from(&prd.curve(&b, &a, columns)?);
                if go_on().is_break() {
                    return Err(Error::Aborted);
                }
                let Prd { clusters, runs, angles, .. } = prd;
                let how = format!(
                    "{clusters} clusters (mini-batch k-means), {runs} runs averaged, seed {}, {angles} angles; {equal}",
                    self.seed
                );
                let figure = |name: &str, value: f64| self.figure(metric, name, (value, None), how.clone());
                Ok(Outcome::Figures(vec![
                    figure("PRD F8 (recall)", found.f8),
                    figure("PRD F1/8 (precision)", found.f1_8),
                ]))
            }
            // Both at once: of the same distances.
            _ => {
                let neighbours = Neighbours::default();
                let bar =
                    progress(4 * count as u64, 0, "neighbours {wide_bar} {pos}/{len} {eta}", self.quiet);
                let mut hear = |rows| -> ControlFlow<()> {
                    bar.inc(rows as u64);
                    go_on()
                };
                let real = Manifold::watched(a, columns, neighbours.most(), &mut hear)?;
                let made = Manifold::watched(b, columns, neighbours.most(), &mut hear)?;
                let (quality, coverage) = compare(&real, &made, neighbours, &mut hear)?;
                bar.finish_and_clear();
                let figure = |metric: Metric, name: &str, value: f64, k: usize| {
                    self.figure(metric, name, (value, None), format!("k = {k}; {equal}"))
                };
                let Neighbours { quality: k, coverage: wider } = neighbours;
                Ok(Outcome::Figures(vec![
                    figure(Metric::PrecisionRecall, "precision", quality.precision, k),
                    figure(Metric::PrecisionRecall, "recall", quality.recall, k),
                    figure(Metric::DensityCoverage, "density", coverage.density, wider),
                    figure(Metric::DensityCoverage, "coverage", coverage.coverage, wider),
                ]))
            }
        }
    }
}
