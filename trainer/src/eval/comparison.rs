//! Two ways to explain the same images, compared image by image by a judge.

use super::judge::Identity;
use super::outcome::{Opinion, Outcome};
use crate::metrics::statistics::{Mean, sign_test};
use duet::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What a comparison needs to know of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Side {
    image: usize,
    target: usize,
    judge: Option<Opinion>,
    change: Amount,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Amount {
    mean: f64,
}

impl From<&Outcome> for Side {
    fn from(outcome: &Outcome) -> Side {
        let &Outcome { image, target, judge, .. } = outcome;
        Side { image, target, judge, change: Amount { mean: outcome.change.mean } }
    }
}

/// An earlier run of `duet eval --json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Earlier {
    /// How its counterfactuals were made, for people.
    pub method: String,
    /// Its images.
    pub sides: Vec<Side>,
}

impl Earlier {
    /// Reads a run that the same judge judged.
    ///
    /// # Errors
    /// [`Error::Data`] for a file that is none, one without counterfactuals, and one of another judge.
    pub fn read(path: &Path, judge: &Identity) -> Result<Earlier> {
        #[derive(Deserialize)]
        struct Run {
            counterfactuals: Option<Report>,
        }
        #[derive(Deserialize)]
        struct Report {
            method: Method,
            judge: Option<Judged>,
            rows: Vec<Side>,
        }
        #[derive(Deserialize)]
        struct Method {
            words: String,
        }
        #[derive(Deserialize)]
        struct Judged {
            identity: Identity,
        }
        let bad = |detail: String| Error::Data { path: path.to_owned(), detail };
        let text = std::fs::read_to_string(path).map_err(|error| bad(format!("cannot be read: {error}")))?;
        let run: Run = serde_json::from_str(&text).map_err(|error| {
            bad(format!("is no output of `duet --json eval --counterfactuals N`: {error}"))
        })?;
        let report = run.counterfactuals.ok_or_else(|| bad("holds no counterfactuals".into()))?;
        match report.judge {
            Some(judged) if judged.identity.fingerprint == judge.fingerprint => {}
            Some(judged) => {
                let detail = format!("was judged by another file ({})", judged.identity.file);
                return Err(bad(detail));
            }
            None => return Err(bad("was made without a judge".into())),
        }
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let possible = |side: &Side| {
            share(side.change.mean) && side.judge.is_none_or(|opinion| share(opinion.probability))
        };
        if let Some(side) = report.rows.iter().find(|side| !possible(side)) {
            return Err(bad(format!("has a share that is not from 0 to 1, of the image {}", side.image)));
        }
        Ok(Earlier { method: report.method.words, sides: report.rows })
    }
}

/// What the judge prefers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Images that the judge calls the target now and not then.
    pub gains: usize,
    /// Then and not now.
    pub losses: usize,
    /// Two-sided p of the exact sign test.
    pub sign_test_p: f64,
    /// By how much the judge's probability of the target is higher now.
    pub probability: Mean,
    /// By how much the mean change is larger now.
    pub mean_change: Mean,
}

impl Comparison {
    /// Of the same images with the same targets.
    ///
    /// # Errors
    /// [`Error::Config`] where they are not, or not judged.
    pub fn of(now: &[Side], then: &[Side]) -> Result<Comparison> {
        let refuse = |detail: &str| Err(Error::config("against", detail.to_owned()));
        let same = now.len() == then.len()
            && now.iter().zip(then).all(|(a, b)| (a.image, a.target) == (b.image, b.target));
        if !same {
            return refuse(
                "is of other images or targets; --counterfactuals, --skip, --to and the model must be the same",
            );
        }
        let (mut gains, mut losses, mut probability, mut change) = (0, 0, Vec::new(), Vec::new());
        for (a, b) in now.iter().zip(then) {
            let (Some(on_a), Some(on_b)) = (a.judge, b.judge) else {
                return refuse("is not judged");
            };
            let [is, was] = [on_a, on_b].map(|opinion| opinion.after == a.target);
            gains += usize::from(is && !was);
            losses += usize::from(was && !is);
            probability.push(on_a.probability - on_b.probability);
            change.push(a.change.mean - b.change.mean);
        }
        let (Some(probability), Some(mean_change)) = (Mean::of(probability), Mean::of(change)) else {
            return refuse("holds no images");
        };
        let sign_test_p = sign_test(gains, losses);
        Ok(Comparison { gains, losses, sign_test_p, probability, mean_change })
    }

    /// For people.
    pub fn words(&self) -> String {
        let Comparison { gains, losses, sign_test_p: p, probability, mean_change } = self;
        let p = if *p < 0.001 { "p < 0.001".into() } else { format!("p = {p:.3}") };
        let error = |mean: &Mean, decimals: usize| {
            let error = mean.standard_error.map_or(String::new(), |error| format!(" ± {error:.decimals$}"));
            format!("{:+.decimals$}{error}", mean.mean)
        };
        format!(
            "the judge gains {gains} and loses {losses} (sign test {p}); its probability {}, mean |Δ| {}",
            error(probability, 3),
            error(mean_change, 4)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(image: usize, after: usize, probability: f64, mean: f64) -> Side {
        let judge = Some(Opinion { before: 0, after, probability_before: 0.0, probability });
        Side { image, target: 1, judge, change: Amount { mean } }
    }

    #[test]
    fn gains_losses_and_differences_by_hand() {
        let now = [side(3, 1, 0.9, 0.1), side(4, 1, 0.6, 0.1), side(7, 1, 0.8, 0.2), side(9, 0, 0.1, 0.2)];
        let then = [side(3, 0, 0.4, 0.2), side(4, 1, 0.7, 0.2), side(7, 2, 0.2, 0.2), side(9, 1, 0.6, 0.4)];
        let found = Comparison::of(&now, &then).unwrap();
        assert_eq!((found.gains, found.losses), (2, 1));
        // Two against one or farther: always.
        assert!((found.sign_test_p - 1.0).abs() < 1e-12, "{found:?}");
        assert!((found.probability.mean - (0.5 - 0.1 + 0.6 - 0.5) / 4.0).abs() < 1e-12);
        assert!((found.mean_change.mean + 0.1).abs() < 1e-12);
        assert!(found.words().contains("gains 2 and loses 1 (sign test p = 1.000)"), "{}", found.words());
    }

    #[test]
    fn other_images_are_not_compared() {
        let now = [side(3, 1, 0.9, 0.1)];
        for then in [vec![side(4, 1, 0.9, 0.1)], vec![], vec![Side { target: 2, ..side(3, 1, 0.9, 0.1) }]] {
            let error = Comparison::of(&now, &then).unwrap_err().to_string();
            assert!(error.contains("other images or targets"), "{error}");
        }
        let unjudged = [Side { judge: None, ..side(3, 1, 0.9, 0.1) }];
        assert!(Comparison::of(&now, &unjudged).unwrap_err().to_string().contains("not judged"));
        assert!(Comparison::of(&[], &[]).is_err());
    }
}
