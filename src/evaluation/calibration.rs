//! How far a classifier's probabilities can be taken at their word: expected calibration error, negative log-likelihood,
//! Brier score, and the table that a reliability diagram draws.

use crate::error::{Error, Result};
use crate::model::{UNLABELLED, argmax};
use serde::Serialize;

/// Bins of the confidence, all of one width, as Guo et al. ("On calibration of modern neural networks", 2017) have them.
pub const BINS: usize = 15;

/// Images whose confidence lies in one interval (low, high].
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// Lower end, which belongs to the bin below.
    pub low: f64,
    /// Upper end, which belongs to this one.
    pub high: f64,
    /// How many images.
    pub count: usize,
    /// Mean probability of their most probable class; `None` where there are none.
    pub confidence: Option<f64>,
    /// Share whose most probable class is theirs.
    pub accuracy: Option<f64>,
}

/// Probabilities against what images are.
///
/// ```
/// use duet::evaluation::Calibration;
///
/// // Two images of two classes [N,K]: nine tenths sure and right, eight tenths sure and wrong.
/// let found = Calibration::of(&[0.9, 0.1, 0.2, 0.8], &[0, 0], 2)?;
/// assert_eq!(found.accuracy, 0.5);
/// // Each in a bin of its own: half of |0.9 − 1| and half of |0.8 − 0|.
/// assert!((found.ece - 0.45).abs() < 1e-6);
/// # Ok::<(), duet::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calibration {
    /// Images that have a class; all below is of them.
    pub images: usize,
    /// Share whose most probable class is theirs.
    pub accuracy: f64,
    /// Mean probability of the most probable class.
    pub confidence: f64,
    /// Expected calibration error, 0 to 1: |confidence − accuracy| of each bin, weighted by its share of the images.
    pub ece: f64,
    /// Mean of −ln p of an image's class, in nats. A probability of 0 counts as the least normal `f32` (87.3 nats), so that one
    /// image does not make the figure infinite.
    pub nll: f64,
    /// Mean over images of Σ (p − 1 at its class, 0 at the others)², from 0 to 2 (Brier 1950, all classes).
    pub brier: f64,
    /// The [`BINS`] bins, from the least sure.
    pub bins: Vec<Bin>,
}

/// Sums over a bin's images.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    count: usize,
    right: usize,
    confidence: f64,
}

/// The bin (low, high] that holds a confidence. Its ends are rounded to `f32`, as confidences are: 0.2 lies in (2/15, 3/15].
fn bin_of(confidence: f32) -> usize {
    let above = |bin: &usize| confidence > ((bin + 1) as f64 / BINS as f64) as f32;
    (0..BINS - 1).take_while(above).count()
}

/// What calibration is computed from, added up batch after batch: the figures do not depend on how images are cut into them.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    bins: [Sum; BINS],
    nll: f64,
    brier: f64,
}

impl Sums {
    /// Adds the probabilities \[N,K\] of images whose classes are `classes` \[N\]; where they do not fit, none of them.
    ///
    /// # Errors
    /// As [`Calibration::of`], but for images without a class.
    pub(super) fn add(&mut self, probabilities: &[f32], classes: &[u32], columns: usize) -> Result<()> {
        if columns == 0 || Some(probabilities.len()) != classes.len().checked_mul(columns) {
            let detail = format!("{} values for {} images of {columns}", probabilities.len(), classes.len());
            return Err(Error::shape("calibration", detail));
        }
        if let Some(bad) = probabilities.iter().find(|p| !(0.0..=1.0 + 1e-5).contains(*p)) {
            return Err(Error::config("probabilities", format!("must be from 0 to 1, one is {bad}")));
        }
        let mut sums = self.clone();
        let answers = argmax(probabilities, columns)?;
        for ((row, class), answer) in probabilities.chunks_exact(columns).zip(classes).zip(answers) {
            if *class == UNLABELLED {
                continue;
            }
            let class = *class as usize;
            let Some(own) = row.get(class) else {
                return Err(Error::config("classes", format!("{class} is none of {columns}")));
            };
            let confidence = row.get(answer).copied().unwrap_or(0.0);
            if let Some(sum) = sums.bins.get_mut(bin_of(confidence)) {
                sum.count += 1;
                sum.right += usize::from(answer == class);
                sum.confidence += f64::from(confidence);
            }
            sums.nll -= f64::from(own.max(f32::MIN_POSITIVE)).ln();
            let apart = |(k, p): (usize, &f32)| (f64::from(*p) - f64::from(u8::from(k == class))).powi(2);
            sums.brier += row.iter().enumerate().map(apart).sum::<f64>();
        }
        *self = sums;
        Ok(())
    }

    /// The figures.
    ///
    /// # Errors
    /// [`Error::Config`] where no image had a class.
    pub(super) fn figures(&self) -> Result<Calibration> {
        let images: usize = self.bins.iter().map(|sum| sum.count).sum();
        if images == 0 {
            return Err(Error::config("classes", "no image has one: nothing is known to be right"));
        }
        let mean = |sum: f64| sum / images as f64;
        let right: usize = self.bins.iter().map(|sum| sum.right).sum();
        Ok(Calibration {
            images,
            accuracy: mean(right as f64),
            confidence: mean(self.bins.iter().map(|sum| sum.confidence).sum()),
            // Of a bin share · |confidence − accuracy| is the distance of the sums by all images.
            ece: mean(self.bins.iter().map(|sum| (sum.confidence - sum.right as f64).abs()).sum()),
            nll: mean(self.nll),
            brier: mean(self.brier),
            bins: self.bins.iter().enumerate().map(|(bin, sum)| sum.bin(bin)).collect(),
        })
    }
}

impl Calibration {
    /// Of probabilities \[N,K\] of images whose classes are `classes` \[N\]; images without a class
    /// ([`UNLABELLED`]) are passed over.
    ///
    /// # Errors
    /// [`Error::Shape`] where those are not a row for each image; [`Error::Config`] for a class that is none of the K, a number
    /// that is no probability, or where no image has a class.
    pub fn of(probabilities: &[f32], classes: &[u32], columns: usize) -> Result<Calibration> {
        let mut sums = Sums::default();
        sums.add(probabilities, classes, columns)?;
        sums.figures()
    }

    /// How the calibration error is measured, in words: they belong beside the figure, which other bins would change.
    pub fn protocol() -> String {
        format!("{BINS} bins (low, high] of the largest softmax probability")
    }
}

impl Sum {
    fn bin(&self, bin: usize) -> Bin {
        let end = |bin: usize| bin as f64 / BINS as f64;
        let of_all = |sum: f64| (self.count > 0).then(|| sum / self.count as f64);
        Bin {
            low: end(bin),
            high: end(bin + 1),
            count: self.count,
            confidence: of_all(self.confidence),
            accuracy: of_all(self.right as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::golden::{self, figures, numbers};

    #[test]
    fn figures_as_numpy_has_them() {
        let want = figures();
        let probabilities =
            crate::model::Head::Multiclass.probabilities(&numbers(&want["logits"]), 5).unwrap();
        let truths: Vec<u32> = numbers(&want["labels"]).into_iter().map(|label| label as u32).collect();
        let got = Calibration::of(&probabilities, &truths, 5).unwrap();
        golden::close(got.ece, &want["calibration"]["ece"], 1e-6);
        golden::close(got.nll, &want["calibration"]["nll"], 1e-6);
    }

    fn close(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-7, "{got} instead of {want}");
    }

    #[test]
    fn four_images_by_hand() {
        // Confidences .9 (right), .8 (wrong), .9 (right), .6 (right), and one image without a class.
        let probabilities = [0.9, 0.1, 0.2, 0.8, 0.1, 0.9, 0.6, 0.4, 0.5, 0.5];
        let found = Calibration::of(&probabilities, &[0, 0, 1, 0, UNLABELLED], 2).unwrap();
        assert_eq!((found.images, found.accuracy), (4, 0.75));
        close(found.confidence, 0.8);
        // Bins by fifteenths: .9 in (13/15, 14/15], .8 = 12/15 in (11/15, 12/15], .6 = 9/15 in (8/15, 9/15].
        let filled: Vec<(usize, usize)> =
            found.bins.iter().enumerate().filter(|(_, b)| b.count > 0).map(|(i, b)| (i, b.count)).collect();
        assert_eq!(filled, [(8, 1), (11, 1), (13, 2)]);
        // 2/4 · |.9 − 1| + 1/4 · |.8 − 0| + 1/4 · |.6 − 1|.
        close(found.ece, 0.05 + 0.2 + 0.1);
        close(found.nll, -(2.0 * 0.9f64.ln() + 0.2f64.ln() + 0.6f64.ln()) / 4.0);
        close(found.brier, (2.0 * (0.01 + 0.01) + (0.64 + 0.64) + (0.16 + 0.16)) / 4.0);
        close(found.bins[13].confidence.unwrap(), 0.9);
        assert_eq!((found.bins[13].accuracy, found.bins[11].accuracy), (Some(1.0), Some(0.0)));
        assert_eq!((found.bins[0].accuracy, found.bins[0].confidence), (None, None));
    }

    #[test]
    fn a_bin_ends_where_it_says() {
        for bin in 1..=BINS {
            let end = (bin as f64 / BINS as f64) as f32;
            assert_eq!(bin_of(end), bin - 1, "{end} belongs to the bin that ends there");
            assert_eq!(bin_of(end.next_up()), bin.min(BINS - 1), "above {end}");
        }
        assert_eq!(bin_of(0.0), 0);
    }

    #[test]
    fn sure_and_right_is_perfect_and_sure_and_wrong_is_finite() {
        let sure = Calibration::of(&[1.0, 0.0, 0.0, 1.0], &[0, 1], 2).unwrap();
        assert_eq!((sure.ece, sure.nll, sure.brier, sure.accuracy), (0.0, 0.0, 0.0, 1.0));
        let wrong = Calibration::of(&[1.0, 0.0], &[1], 2).unwrap();
        assert_eq!((wrong.ece, wrong.brier), (1.0, 2.0));
        assert!((87.0..88.0).contains(&wrong.nll), "{}", wrong.nll);
        // Half right at a confidence of one half: nothing to find fault with.
        let even = Calibration::of(&[0.5, 0.5, 0.5, 0.5], &[0, 1], 2).unwrap();
        assert_eq!((even.ece, even.brier), (0.0, 0.5));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let fails = |probabilities: &[f32], classes: &[u32], columns| {
            Calibration::of(probabilities, classes, columns).unwrap_err().to_string()
        };
        assert!(fails(&[0.5; 3], &[0], 2).contains("3 values"));
        assert!(fails(&[], &[], 0).contains("calibration"));
        assert!(fails(&[0.5; 2], &[2], 2).contains("none of 2"));
        assert!(fails(&[0.5; 2], &[UNLABELLED], 2).contains("no image"));
        assert!(fails(&[0.5, f32::NAN], &[0], 2).contains("NaN"));
        assert!(fails(&[4.0, -1.0], &[0], 2).contains("from 0 to 1"));
    }
}
