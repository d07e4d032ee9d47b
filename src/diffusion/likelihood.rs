//! The bound on the negative log-likelihood of images in bits per dimension (Ho et al. 2020; Nichol & Dhariwal 2021), term by
//! term, as the reference's `calc_bpd_loop` adds it up: of x_0 given x_1 the mass of its bin, of every later step the divergence of the
//! model's from the true posterior, and of the end of the chain the divergence from a standard normal. In f64 on the host; the
//! kernel of training (`wgsl/variational.wgsl`) has neither the clipped prediction that this asks for nor fixed variances.

use super::schedule::{Schedule, past_the_end};
use super::solver::Prediction;
use crate::error::{Error, Result};

/// What one step contributes to an image's bound, and how well the network did there.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BoundTerm {
    /// The step's term, in bits per dimension.
    pub bits: f64,
    /// Mean squared error of the predicted x_start, held to −1..1.
    pub x_start_mse: f64,
    /// Mean squared error of the noise that follows from that prediction.
    pub eps_mse: f64,
}

/// Half a level of 255 in −1..1.
const HALF_BIN: f64 = 1.0 / 255.0;
/// Least mass of a bin.
const LEAST: f64 = 1e-12;

/// Normal CDF in the form that the reference takes: ½ (1 + tanh(√(2/π) (x + 0.044715 x³))).
fn cdf(x: f64) -> f64 {
    0.5 * (1.0 + (std::f64::consts::FRAC_2_PI.sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}

/// −ln of the mass that a Gaussian of this mean and log variance has in the bin of `x`; the outermost bins are open.
fn discretised(x: f64, mean: f64, log_variance: f64) -> f64 {
    let scale = (-0.5 * log_variance).exp();
    let [above, below] = [HALF_BIN, -HALF_BIN].map(|edge| cdf(scale * (x - mean + edge)));
    let mass = if x < -0.999 {
        above
    } else if x > 0.999 {
        1.0 - below
    } else {
        above - below
    };
    -mass.max(LEAST).ln()
}

/// KL of two Gaussians by means and log variances, in nats.
fn divergence([mean, log_variance]: [f64; 2], [other, other_log_variance]: [f64; 2]) -> f64 {
    let square = (mean - other).powi(2) * (-other_log_variance).exp();
    0.5 * (other_log_variance - log_variance - 1.0 + (log_variance - other_log_variance).exp() + square)
}

/// An image at one step: all \[C,H,W\].
#[derive(Clone, Copy, Debug)]
pub struct Noised<'a> {
    /// The image in −1..1.
    pub x_start: &'a [f32],
    /// The noise.
    pub noise: &'a [f32],
    /// What the network put out for it, noised: its prediction and, of a learned variance, as many values behind it.
    pub out: &'a [f32],
}

impl Schedule {
    /// x_t = √ᾱ·x_start + √(1 − ᾱ)·noise at step `index`, as the network is given it.
    ///
    /// # Errors
    /// [`Error::Config`] for a step past the chain's end.
    pub fn noised(&self, index: usize, x_start: &[f32], noise: &[f32]) -> Result<Vec<f32>> {
        let [kept, noised] = self.q_sample_coefficients(index)?;
        Ok(x_start.iter().zip(noise).map(|(x, z)| kept * x + noised * z).collect())
    }

    /// The term of step `index`, of a network that predicts `prediction`. Its prediction of x_start is held to −1..1. Without learned
    /// variances the model's are the fixed large ones.
    ///
    /// # Errors
    /// [`Error::Config`] for a step past the chain's end; [`Error::Shape`] where the values are not one of each image value (of the output
    /// one or two).
    pub fn bound_term(&self, index: usize, prediction: Prediction, image: Noised<'_>) -> Result<BoundTerm> {
        let tables = [
            &self.alphas_cumprod,
            &self.posterior_mean_coef1,
            &self.posterior_mean_coef2,
            &self.posterior_log_variance_clipped,
            &self.log_betas,
            &self.fixed_large_log_variance,
        ];
        let entry = |table: &&Vec<f64>| table.get(index).copied();
        let entries: Option<Vec<f64>> = tables.iter().map(entry).collect();
        let Some([level, of_start, of_noised, least, largest, fixed]) = entries.as_deref() else {
            return Err(past_the_end(index, self.len()));
        };
        let Noised { x_start, noise, out } = image;
        let (count, learned) = (x_start.len(), out.len() == 2 * x_start.len());
        if count == 0 || noise.len() != count || !(out.len() == count || learned) {
            let detail = format!("{count} values with {} of noise and {} put out", noise.len(), out.len());
            return Err(Error::shape("bound", detail));
        }
        let [from_x, from_out] = prediction.x_start(*level);
        let [kept, noised] = [level.sqrt(), (1.0 - level).sqrt()];
        let variances = out.get(count..).unwrap_or_default();
        let mut sum = BoundTerm::default();
        let values = x_start.iter().zip(noise).zip(out).enumerate();
        for (at, ((x, z), out)) in values {
            let (x, z) = (f64::from(*x), f64::from(*z));
            let x_t = kept * x + noised * z;
            let predicted = (from_x * x_t + from_out * f64::from(*out)).clamp(-1.0, 1.0);
            let log_variance = match variances.get(at) {
                Some(v) => {
                    let share = 0.5 * (f64::from(*v) + 1.0);
                    share * largest + (1.0 - share) * least
                }
                None => *fixed,
            };
            let mean = |start: f64| of_start * start + of_noised * x_t;
            sum.bits += if index == 0 {
                discretised(x, mean(predicted), log_variance)
            } else {
                divergence([mean(x), *least], [mean(predicted), log_variance])
            };
            sum.x_start_mse += (predicted - x).powi(2);
            sum.eps_mse += ((x_t - kept * predicted) / noised - z).powi(2);
        }
        let mean = |sum: f64| sum / count as f64;
        Ok(BoundTerm {
            bits: mean(sum.bits) / std::f64::consts::LN_2,
            x_start_mse: mean(sum.x_start_mse),
            eps_mse: mean(sum.eps_mse),
        })
    }

    /// The divergence of an image at the chain's end from a standard normal, in bits per dimension.
    pub fn prior_bits(&self, x_start: &[f32]) -> f64 {
        let last = |table: &[f64]| table.last().copied().unwrap_or_default();
        let (kept, log_variance) =
            (last(&self.sqrt_alphas_cumprod), last(&self.log_one_minus_alphas_cumprod));
        let term = |x: &f32| divergence([kept * f64::from(*x), log_variance], [0.0, 0.0]);
        x_start.iter().map(term).sum::<f64>() / x_start.len().max(1) as f64 / std::f64::consts::LN_2
    }
}
