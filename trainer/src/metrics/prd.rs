//! Precision and recall for distributions (Sajjadi et al. 2018): both sets are clustered together, and for every slope λ the
//! histograms over the clusters give precision α(λ) = Σ min(λ·real, generated) and recall α / λ. The curve is told by two numbers: the
//! largest F₈, which weighs recall, and the largest F₁⸝₈, which weighs precision.

use super::distances::rows_of;
use super::draws::Draws;
use super::kmeans;
use duet::rng::Seed;
use duet::{Error, Result};
use rayon::prelude::*;
use serde::Serialize;

/// Draws of this kind cluster.
const CLUSTERS: u32 = 3;
/// How far angles stay from 0 and from π/2, and what keeps F finite where precision and recall are 0.
const EPSILON: f64 = 1e-10;
/// Weight of recall in F.
const BETA: f64 = 8.0;

/// A curve: recall falls as precision rises.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Precision at each angle.
    pub precision: Vec<f64>,
    /// Recall at each angle.
    pub recall: Vec<f64>,
}

impl Curve {
    /// The curve of two histograms over the same bins, each of sum 1, at `angles` angles of slopes from 0 to ∞.
    ///
    /// # Errors
    /// [`Error::Shape`] where they have not as many bins; [`Error::Config`] for fewer than three angles, or for a histogram that is none.
    pub fn of(generated: &[f64], real: &[f64], angles: usize) -> Result<Curve> {
        if generated.len() != real.len() || real.is_empty() {
            let detail = format!("histograms of {} and {} bins", generated.len(), real.len());
            return Err(Error::shape("PRD", detail));
        }
        if angles < 3 {
            return Err(Error::config("angles", format!("must be 3 or more, is {angles}")));
        }
        for histogram in [generated, real] {
            let sum: f64 = histogram.iter().sum();
            if histogram.iter().any(|share| !(0.0..=1.0).contains(share)) || (sum - 1.0).abs() > 1e-6 {
                return Err(Error::config(
                    "histogram",
                    format!("must be shares that sum to 1; the sum is {sum}"),
                ));
            }
        }
        let width = (std::f64::consts::FRAC_PI_2 - 2.0 * EPSILON) / (angles - 1) as f64;
        let slope = |angle: usize| (EPSILON + width * angle as f64).tan();
        let at = |slope: f64| -> f64 {
            real.iter().zip(generated).map(|(real, generated)| (slope * real).min(*generated)).sum()
        };
        let (precision, recall) = (0..angles)
            .map(|angle| {
                let (slope, precision) = (slope(angle), at(slope(angle)));
                (precision.clamp(0.0, 1.0), (precision / slope).clamp(0.0, 1.0))
            })
            .unzip();
        Ok(Curve { precision, recall })
    }

    /// The largest F_β = (1 + β²)·p·r / (β²·p + r) along the curve.
    pub fn largest_f(&self, beta: f64) -> f64 {
        let square = beta * beta;
        let f = |(p, r): (&f64, &f64)| (1.0 + square) * p * r / (square * p + r + EPSILON);
        self.precision.iter().zip(&self.recall).map(f).fold(0.0, f64::max)
    }
}

/// How a curve is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prd {
    /// Clusters.
    pub clusters: usize,
    /// Clusterings whose curves are averaged.
    pub runs: usize,
    /// Angles.
    pub angles: usize,
    /// Seed of the clusterings.
    pub seed: Seed,
}

impl Prd {
    /// As the paper has it: 20 clusters, 10 runs, 1,001 angles.
    pub fn new(seed: Seed) -> Prd {
        Prd { clusters: 20, runs: 10, angles: 1001, seed }
    }

    /// Whether sets of `count` rows can be clustered so.
    ///
    /// # Errors
    /// [`Error::Config`] for fewer rows than clusters, or a count that is none.
    pub fn check(&self, count: usize) -> Result<()> {
        if self.clusters == 0 || count < self.clusters || self.runs == 0 {
            let detail = format!(
                "{} runs of {} clusters for {count} images a set; one or more of up to {count} are needed",
                self.runs, self.clusters
            );
            return Err(Error::config("clusters", detail));
        }
        Ok(())
    }

    /// The mean curve of two sets of rows \[N,columns\], equally many of each.
    ///
    /// # Errors
    /// [`Error::Shape`] for no whole number of rows; [`Error::NotFinite`]; [`Error::Config`] for sets of unequal size (the larger would fill
    /// more clusters), fewer rows than clusters, or a count that is none.
    pub fn curve(&self, generated: &[f32], real: &[f32], columns: usize) -> Result<Curve> {
        let counts = [generated, real].map(|rows| rows_of("PRD", rows, columns));
        let [generated_count, real_count] = counts;
        let (made, count) = (generated_count?, real_count?);
        if made != count {
            let detail = format!("PRD compares equally many, there are {count} real and {made} generated");
            return Err(Error::config("images", detail));
        }
        self.check(count)?;
        let both = [generated, real].concat();
        let run = |run: usize| {
            let draws = Draws::new(self.seed, CLUSTERS, run as u32);
            let found = kmeans::clusters(&both, columns, self.clusters, draws);
            let (of_generated, of_real) = found.split_at(count);
            let histogram = |clusters: &[usize]| {
                let mut shares = vec![0.0; self.clusters];
                clusters.iter().for_each(|cluster| shares[*cluster] += 1.0 / count as f64);
                shares
            };
            Curve::of(&histogram(of_generated), &histogram(of_real), self.angles)
        };
        let curves: Vec<Curve> = (0..self.runs).into_par_iter().map(run).collect::<Result<_>>()?;
        let mean = |of: &dyn Fn(&Curve) -> &[f64]| -> Vec<f64> {
            let at = |angle: usize| curves.iter().map(|curve| of(curve)[angle]).sum::<f64>();
            (0..self.angles).map(|angle| at(angle) / curves.len() as f64).collect()
        };
        Ok(Curve { precision: mean(&|curve| &curve.precision), recall: mean(&|curve| &curve.recall) })
    }
}

/// The two numbers of a curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The largest F₈: how much of the real distribution is covered.
    pub f8: f64,
    /// The largest F₁⸝₈: how much of the generated one is real.
    pub f1_8: f64,
}

impl From<&Curve> for Summary {
    fn from(curve: &Curve) -> Summary {
        Summary { f8: curve.largest_f(BETA), f1_8: curve.largest_f(1.0 / BETA) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::golden::golden;

    /// Curves of given histograms, as the reference computes them.
    #[test]
    fn curves_as_the_reference_has_them() {
        for case in ["prd_hist_generic", "prd_hist_generic7", "prd_hist_equal", "prd_hist_disjoint"] {
            let tensor = |name: &str| golden::<f64>(&format!("{case}/{name}"));
            let curve = Curve::of(&tensor("in.eval_dist"), &tensor("in.ref_dist"), 1001).unwrap();
            for (got, name) in [(&curve.precision, "out.precision"), (&curve.recall, "out.recall")] {
                let far =
                    got.iter().zip(tensor(name)).map(|(got, want)| (got - want).abs()).fold(0.0, f64::max);
                assert!(far < 1e-9, "{case} {name}: {far}");
            }
            let want = tensor("out.f8_and_f1_8");
            let got = Summary::from(&curve);
            assert!((got.f8 - want[0]).abs() < 1e-9 && (got.f1_8 - want[1]).abs() < 1e-9, "{case}: {got:?}");
        }
    }

    /// Clusterings of features. Where clusters are far apart every way to cluster finds them; elsewhere the figure spreads by
    /// the clustering, here as far as over the reference's twelve seeds.
    #[test]
    fn clustered_features_as_the_reference_has_them() {
        for (case, columns, least) in [("prd_emb_separated", 24, 1e-9), ("prd_emb_overlap", 16, 0.0)] {
            let [generated, real] =
                ["in.eval", "in.ref"].map(|name| golden::<f32>(&format!("{case}/{name}")));
            let runs = golden::<f64>(&format!("{case}/out.f8_f1_8_runs"));
            let got = Summary::from(&Prd::new(Seed(1)).curve(&generated, &real, columns).unwrap());
            for (number, got) in [got.f8, got.f1_8].into_iter().enumerate() {
                let values: Vec<f64> = runs.iter().skip(number).step_by(2).copied().collect();
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
                let within = 4.0 * variance.sqrt() + least;
                assert!((got - mean).abs() < within, "{case}: {got} instead of {mean} by {within}");
            }
        }
    }

    #[test]
    fn the_same_set_is_perfect_and_what_is_no_pair_is_refused() {
        let rows: Vec<f32> = (0..40).map(|i| (i * i % 17) as f32).collect();
        let prd = Prd { clusters: 4, runs: 2, angles: 101, seed: Seed(0) };
        let same = prd.curve(&rows, &rows, 2).unwrap();
        let got = Summary::from(&same);
        assert!(got.f8 > 0.999 && got.f1_8 > 0.999 && same == prd.curve(&rows, &rows, 2).unwrap(), "{got:?}");
        let fails = |prd: Prd, real: &[f32]| prd.curve(&rows, real, 2).unwrap_err().to_string();
        assert!(fails(prd, &rows[..30]).contains("15 real and 20 generated"));
        assert!(fails(Prd { clusters: 21, ..prd }, &rows).contains("21 clusters for 20"));
        assert!(fails(Prd { runs: 0, ..prd }, &rows).contains("0 runs"));
        assert!(fails(Prd { angles: 2, ..prd }, &rows).contains("angles"));
        assert!(fails(prd, &[f32::INFINITY; 40]).contains("image 0"));
        assert!(Curve::of(&[1.0], &[0.5, 0.5], 11).is_err() && Curve::of(&[], &[], 11).is_err());
        assert!(Curve::of(&[0.7, 0.7], &[0.5, 0.5], 11).unwrap_err().to_string().contains("sum to 1"));
    }
}
