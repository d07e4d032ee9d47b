//! How sure a figure is: standard errors, and whether two methods differ on the same images.

use serde::{Deserialize, Serialize};

/// The mean of a quantity over images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// The mean; of yes and no, as 1 and 0, the share.
    pub mean: f64,
    /// Its standard error: the values' spread (unbiased) over √count. `None` of a single value.
    pub standard_error: Option<f64>,
    /// How many values.
    pub count: usize,
}

impl Mean {
    /// Of values; `None` where there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Mean> {
        let values: Vec<f64> = values.into_iter().collect();
        let count = values.len();
        if count == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let error = |count: f64| (squares / (count - 1.0) / count).sqrt();
        Some(Mean { mean, standard_error: (count > 1).then(|| error(count as f64)), count })
    }

    /// Of yes and no.
    pub fn share(answers: impl IntoIterator<Item = bool>) -> Option<Mean> {
        Mean::of(answers.into_iter().map(|answer| f64::from(u8::from(answer))))
    }
}

/// Mean and standard deviation of all there are (divided by their number, not by one less); not of none.
pub fn mean_and_deviation(values: &[f64]) -> [f64; 2] {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    [mean, variance.sqrt()]
}

/// The exact sign test, two-sided: how likely it is that `gains` and `losses` are as far apart or farther, if either were as
/// likely as the other in each pair that differs (binomial with ½). 1 where no pair differs.
pub fn sign_test(gains: usize, losses: usize) -> f64 {
    let pairs = gains + losses;
    // ln of C(pairs, k) / 2^pairs for k = 0, 1, …: of many pairs they would leave the range of numbers.
    let mut log = -(pairs as f64) * std::f64::consts::LN_2;
    let mut tail = 0.0;
    for k in 0..=gains.min(losses) {
        tail += log.exp();
        log += ((pairs - k) as f64).ln() - ((k + 1) as f64).ln();
    }
    (2.0 * tail).min(1.0)
}

/// The mean of those values that there are; `None` of none.
pub fn mean_of_known(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let known: Vec<f64> = values.into_iter().flatten().collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_their_errors() {
        assert_eq!(Mean::of([]), None);
        assert_eq!(Mean::of([3.0]), Some(Mean { mean: 3.0, standard_error: None, count: 1 }));
        // Spread 1 of three values: 1 / √3.
        let of_three = Mean::of([1.0, 2.0, 3.0]).unwrap();
        assert_eq!((of_three.mean, of_three.count), (2.0, 3));
        assert!((of_three.standard_error.unwrap() - 1.0 / 3f64.sqrt()).abs() < 1e-15);
        // Of a share the familiar √(p (1 − p) / (n − 1)).
        let share = Mean::share((0..300).map(|i| i % 4 != 0)).unwrap();
        assert_eq!(share.mean, 0.75);
        assert!((share.standard_error.unwrap() - (0.75 * 0.25 / 299f64).sqrt()).abs() < 1e-15);
    }

    /// By SciPy 1.17: `binomtest(gains, gains + losses).pvalue`.
    #[test]
    fn the_sign_test_is_scipy_s() {
        for (gains, losses, p) in [
            (0, 0, 1.0),
            (1, 0, 1.0),
            (3, 3, 1.0),
            (5, 0, 0.0625),
            (72, 24, 9.69923242552742e-07),
            (59, 43, 0.13709880575603414),
            (32, 64, 0.001424496094649118),
            (700, 600, 0.0060157938610449395),
            (5000, 4700, 0.0023966033625776526),
        ] {
            let got = sign_test(gains, losses);
            assert!((got - p).abs() < 1e-9 * p, "{gains} / {losses}: {got} instead of {p}");
        }
    }
}
