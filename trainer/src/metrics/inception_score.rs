//! The score that Inception's answers gave its name (Salimans et al. 2016): exp of the mean, over images, of the divergence
//! KL(p(y|x) ‖ p(y)), where p(y) is the mean of p(y|x) over the images. From 1, where all answers are the same, to the number of
//! classes, where each answer is sure and all are equally many.

use super::distances::rows_of;
use super::statistics::mean_and_deviation;
use duet::{Error, Result};
use serde::Serialize;

/// The score of the parts that a set is cut into.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Mean over the parts.
    pub mean: f64,
    /// Standard deviation over the parts (divided by their number); `None` of one part.
    pub deviation: Option<f64>,
    /// Parts.
    pub splits: usize,
}

impl Score {
    /// Of logits \[N,`classes`\], cut in their order into `splits` parts as equal as can be.
    ///
    /// # Errors
    /// [`Error::Shape`] for no whole number of rows; [`Error::NotFinite`]; [`Error::Config`] for no parts or fewer images than parts.
    pub fn of(logits: &[f32], classes: usize, splits: usize) -> Result<Score> {
        let count = rows_of("Inception score", logits, classes)?;
        if splits == 0 || count < splits {
            let detail = format!("{count} images cannot be cut into {splits} parts");
            return Err(Error::config("splits", detail));
        }
        let part = |split: usize| {
            let [from, to] = [split, split + 1].map(|edge| edge * count / splits * classes);
            of_part(&logits[from..to], classes)
        };
        let scores: Vec<f64> = (0..splits).map(part).collect();
        let [mean, deviation] = mean_and_deviation(&scores);
        Ok(Score { mean, deviation: (splits > 1).then_some(deviation), splits })
    }
}

/// Of one part: the mean of Σ p ln p, less Σ p(y) ln p(y).
fn of_part(logits: &[f32], classes: usize) -> f64 {
    let count = (logits.len() / classes) as f64;
    let mut marginal = vec![0.0; classes];
    let mut sum = 0.0;
    for row in logits.chunks_exact(classes) {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let shifted: Vec<f64> = row.iter().map(|logit| f64::from(*logit) - f64::from(largest)).collect();
        let total: f64 = shifted.iter().map(|value| value.exp()).sum();
        for (mean, value) in marginal.iter_mut().zip(&shifted) {
            let p = value.exp() / total;
            *mean += p / count;
            // ln p from the logits themselves stays finite where p is none any more.
            sum += p * (value - total.ln());
        }
    }
    let entropy: f64 = marginal.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum();
    (sum / count - entropy).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::golden::{close, figures, numbers};

    #[test]
    fn scores_as_scipy_has_them() {
        let want = figures();
        for (splits, name) in [(1, "score_1"), (4, "score_4")] {
            let got = Score::of(&numbers(&want["logits"]), 5, splits).unwrap();
            close(got.mean, &want[name][0], 1e-9);
            close(got.deviation.unwrap_or(0.0), &want[name][1], 1e-9);
        }
    }

    #[test]
    fn the_ends_of_the_scale() {
        // All the same: nothing is told. Sure and equally many of three classes: 3.
        let same = [0.3f32, -1.0, 2.0].repeat(4);
        assert!((Score::of(&same, 3, 1).unwrap().mean - 1.0).abs() < 1e-12);
        let sure = [[900.0f32, 0.0, 0.0], [0.0, 900.0, 0.0], [0.0, 0.0, 900.0]].concat();
        assert!((Score::of(&sure, 3, 1).unwrap().mean - 3.0).abs() < 1e-12);
        // One class alone is no choice.
        assert_eq!(Score::of(&[0.5, -3.0], 1, 2).unwrap().mean, 1.0);
        // Two sure images of two classes in a part each say nothing in their parts.
        let parts = Score::of(&[900.0, 0.0, 0.0, 900.0], 2, 2).unwrap();
        assert_eq!((parts.mean, parts.deviation, parts.splits), (1.0, Some(0.0), 2));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let fails =
            |logits: &[f32], classes, splits| Score::of(logits, classes, splits).unwrap_err().to_string();
        assert!(fails(&[0.0; 4], 2, 3).contains("2 images") && fails(&[0.0; 4], 2, 0).contains("splits"));
        assert!(fails(&[0.0; 3], 2, 1).contains("3 values") && fails(&[], 0, 1).contains("Inception"));
        assert!(fails(&[0.0, f32::INFINITY], 2, 1).contains("image 0"));
        assert!(fails(&[], 2, 1).contains("0 images"));
    }
}
