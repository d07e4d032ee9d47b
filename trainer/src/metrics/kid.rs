//! Kernel Inception distance (Bińkowski et al. 2018): the squared maximum mean discrepancy under the kernel (x·y/D + 1)³,
//! unbiased, so that sets from one distribution give 0 on average and values below it are as likely as above. The mean over
//! subsets that are drawn from both sets, and how far those differ.

use super::distances::{Listener, rows_of};
use super::draws::Draws;
use super::statistics::mean_and_deviation;
use duet::rng::Seed;
use duet::{Error, Result};
use faer::Mat;
use serde::Serialize;

/// What errors call it.
const NAME: &str = "KID";
/// Draws of this kind choose subsets.
const SUBSETS: u32 = 2;

/// How subsets are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subsets {
    /// How many.
    pub count: usize,
    /// Rows of each set in one, all different.
    pub size: usize,
    /// Seed of the choice.
    pub seed: Seed,
}

impl Subsets {
    /// 100 of 1,000 rows, or of half as many as the smaller set has: with all of its rows in each, subsets would differ too little.
    pub fn of(smaller: usize, seed: Seed) -> Subsets {
        Subsets { count: 100, size: (smaller / 2).clamp(2, 1000), seed }
    }
}

/// The distance over subsets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Kid {
    /// Mean over the subsets; may be below 0.
    pub mean: f64,
    /// Standard deviation over the subsets (divided by their number).
    pub deviation: f64,
}

/// Mean of the kernel over the pairs of two sets; of a set with itself without the pairs of a row with itself.
fn mean_kernel(a: &Mat<f64>, b: &Mat<f64>, itself: bool) -> f64 {
    let columns = a.ncols() as f64;
    let products = a * b.transpose();
    let (rows, others) = (a.nrows(), b.nrows());
    let pair = |i: usize, j: usize| (products[(i, j)] / columns + 1.0).powi(3);
    let all: f64 =
        (0..others).map(|j| (0..rows).filter(|i| !itself || *i != j).map(|i| pair(i, j)).sum::<f64>()).sum();
    all / (rows * if itself { others - 1 } else { others }) as f64
}

/// The distance of two sets of rows \[N,columns\]. The listener hears of each subset.
///
/// # Errors
/// [`Error::Shape`] for no whole number of rows; [`Error::NotFinite`]; [`Error::Config`] for no subsets, or ones of fewer than two rows or
/// more than a set has; [`Error::Aborted`].
pub fn kid(
    real: &[f32],
    generated: &[f32],
    columns: usize,
    subsets: Subsets,
    hear: Listener<'_>,
) -> Result<Kid> {
    let counts = [rows_of(NAME, real, columns)?, rows_of(NAME, generated, columns)?];
    let (least, size) = (counts[0].min(counts[1]), subsets.size);
    if subsets.count == 0 || size < 2 || size > least {
        let detail = format!(
            "{} subsets of {size}; one or more of 2 to {least} images are needed, as many as the smaller set has",
            subsets.count
        );
        return Err(Error::config("subsets", detail));
    }
    let mut values = Vec::with_capacity(subsets.count);
    for subset in 0..subsets.count {
        let mut draws = Draws::new(subsets.seed, SUBSETS, subset as u32);
        let mut pick = |rows: &[f32], count: usize| {
            let chosen = draws.choose(size, count);
            Mat::from_fn(size, columns, |i, j| f64::from(rows[chosen[i] * columns + j]))
        };
        let (a, b) = (pick(real, counts[0]), pick(generated, counts[1]));
        let own = mean_kernel(&a, &a, true) + mean_kernel(&b, &b, true);
        values.push(own - 2.0 * mean_kernel(&a, &b, false));
        if hear(1).is_break() {
            return Err(Error::Aborted);
        }
    }
    let [mean, deviation] = mean_and_deviation(&values);
    Ok(Kid { mean, deviation })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::distances::nobody;
    use crate::metrics::golden::{close, figures, numbers};
    use std::ops::ControlFlow;

    fn subsets(count: usize, size: usize) -> Subsets {
        Subsets { count, size, seed: Seed(5) }
    }

    #[test]
    fn one_dimension_by_hand() {
        // Real 0 and 1, generated 2 and 3, by the kernel (xy + 1)³: 1 within the real pair, 343 within the other; across 1, 1, 27, 64.
        let got = kid(&[0.0, 1.0], &[2.0, 3.0], 1, subsets(3, 2), &mut nobody).unwrap();
        let want = 1.0 + 343.0 - 2.0 * (1.0 + 1.0 + 27.0 + 64.0) / 4.0;
        assert!((got.mean - want).abs() < 1e-12 && got.deviation < 1e-12, "{got:?}");
    }

    #[test]
    fn all_rows_as_scikit_learn_has_them() {
        let want = figures();
        let [real, generated] = ["real", "generated"].map(|name| numbers(&want[name]));
        let got = kid(&real[..36 * 7], &generated, 7, subsets(1, 36), &mut nobody).unwrap();
        close(got.mean, &want["kid"], 1e-9);
        // Two halves of one distribution scatter around 0.
        let mut rows = vec![0.0; 400 * 7];
        duet::rng::normal_fill(Seed(2), duet::rng::Stream::Init, 0, 0, &mut rows);
        let (one, other) = rows.split_at(200 * 7);
        let same = kid(one, other, 7, subsets(50, 40), &mut nobody).unwrap();
        assert!(same.mean.abs() < same.deviation && same.deviation < 0.2, "{same:?}");
        let again = kid(&real, &generated, 7, subsets(4, 9), &mut nobody).unwrap();
        assert_eq!(again, kid(&real, &generated, 7, subsets(4, 9), &mut nobody).unwrap());
        assert_ne!(
            again,
            kid(&real, &generated, 7, Subsets { seed: Seed(6), ..subsets(4, 9) }, &mut nobody).unwrap()
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let fails = |rows: &[f32], count, size| {
            kid(rows, &[1.0, 2.0, 3.0], 1, subsets(count, size), &mut nobody).unwrap_err().to_string()
        };
        for (count, size) in [(0, 2), (1, 1), (1, 4)] {
            assert!(fails(&[0.0; 4], count, size).contains("2 to 3 images"));
        }
        assert!(fails(&[0.0, f32::NAN], 1, 2).contains("image 1"));
        let stopped = kid(&[0.0; 4], &[0.0; 4], 1, subsets(2, 2), &mut |_| ControlFlow::Break(()));
        assert!(matches!(stopped, Err(Error::Aborted)));
        assert_eq!(Subsets::of(1000, Seed(0)).size, 500);
        assert_eq!(Subsets::of(50_000, Seed(0)).size, 1000);
    }
}
