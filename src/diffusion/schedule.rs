//! The chain's tables in f64 (Ho et al. 2020, Nichol & Dhariwal 2021), for the whole chain or a respaced one.

use super::config::{DiffusionConfig, NoiseSchedule};
use super::respace::respaced_steps;
use super::solver::Prediction;
use crate::error::{Error, Result};

/// Tables of a chain, one entry per step.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::diffusion::{DiffusionConfig, Schedule};
///
/// // 50 steps out of 1000; each knows which step of the whole chain it is.
/// let schedule = Schedule::respaced(&DiffusionConfig::default(), "50")?;
/// assert_eq!(schedule.timestep_map[49], 999);
/// // An image x0 and noise ε, noised to step 10: √ᾱ · x0 + √(1 − ᾱ) · ε.
/// let [kept, noised] = schedule.q_sample_coefficients(10)?;
/// let (x0, eps) = ([0.5, -1.0], [0.3, 0.1]);
/// let x_t = [0, 1].map(|pixel| kept * x0[pixel] + noised * eps[pixel]);
/// assert!((kept * kept + noised * noised - 1.0).abs() < 1e-6 && x_t[1] > x0[1]);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields are the standard names of the quantities")]
pub struct Schedule {
    pub betas: Vec<f64>,
    pub log_betas: Vec<f64>,
    pub alphas_cumprod: Vec<f64>,
    pub alphas_cumprod_prev: Vec<f64>,
    pub alphas_cumprod_next: Vec<f64>,
    pub sqrt_alphas_cumprod: Vec<f64>,
    pub sqrt_one_minus_alphas_cumprod: Vec<f64>,
    pub log_one_minus_alphas_cumprod: Vec<f64>,
    pub sqrt_recip_alphas_cumprod: Vec<f64>,
    pub sqrt_recipm1_alphas_cumprod: Vec<f64>,
    pub posterior_variance: Vec<f64>,
    pub posterior_log_variance_clipped: Vec<f64>,
    pub posterior_mean_coef1: Vec<f64>,
    pub posterior_mean_coef2: Vec<f64>,
    /// Model variance "fixed large": β, entry 0 replaced by the posterior variance of entry 1.
    pub fixed_large_variance: Vec<f64>,
    pub fixed_large_log_variance: Vec<f64>,
    /// The original chain's step of each entry: what the network sees.
    pub timestep_map: Vec<usize>,
    /// Factor from a step to the network's timestep.
    timestep_scale: f64,
}

/// Above it nothing of the image would be left (Nichol & Dhariwal 2021).
const LARGEST_BETA: f64 = 0.999;

/// β of the whole chain.
fn betas(config: &DiffusionConfig) -> Vec<f64> {
    let steps = config.diffusion_steps;
    match config.noise_schedule {
        NoiseSchedule::Linear => {
            // In a chain below 10 steps most β would exceed 1. The reference runs there from 0.01·100/T to 0.02·100/T: it
            // starts where longer chains do, as 10·0.001 = 0.01, and ends at a tenth. Other starts and ends, which it does
            // not offer, go the same way.
            let (scale, first) = if steps < 10 { (100.0, 10.0) } else { (1000.0, 1.0) };
            let scale = scale / steps as f64;
            let (start, end) = (scale * (first * config.linear_start), scale * config.linear_end);
            let width = if steps > 1 { (end - start) / (steps - 1) as f64 } else { 0.0 };
            let value = |i: usize| if i + 1 == steps && steps > 1 { end } else { start + width * i as f64 };
            // No data of the reference's cover this: it refuses β above 1 (10 to 19 steps), and where β is 1 (1, 2 and 20
            // steps) its tables are infinite. Ours stop where its cosine schedule does.
            (0..steps).map(|i| value(i).min(LARGEST_BETA)).collect()
        }
        NoiseSchedule::Cosine => {
            let level = |x: f64| ((x + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
            let t = steps as f64;
            let value = |i: usize| (1.0 - level((i + 1) as f64 / t) / level(i as f64 / t)).min(LARGEST_BETA);
            (0..steps).map(value).collect()
        }
    }
}

impl Schedule {
    /// Tables of the whole chain.
    ///
    /// # Errors
    /// As [`DiffusionConfig::validate`].
    pub fn new(config: &DiffusionConfig) -> Result<Schedule> {
        Self::respaced(config, "")
    }

    /// Tables of the steps that `spec` keeps: "" all, "100", "10,10,5", "ddim25".
    ///
    /// # Errors
    /// A bad configuration or specification; [`Error::Config`] for a chain at whose end so little of the image is left that
    /// numbers of 32 bits cannot say how much.
    pub fn respaced(config: &DiffusionConfig, spec: &str) -> Result<Schedule> {
        config.validate()?;
        let whole = betas(config);
        let timestep_map = respaced_steps(config.diffusion_steps, spec)?;
        let timestep_scale =
            if config.rescale_timesteps { 1000.0 / config.diffusion_steps as f64 } else { 1.0 };
        if timestep_map.len() == whole.len() {
            // The reference respaces here too, and gets the same β but for rounding.
            return Self::of_betas(whole, timestep_map, timestep_scale).checked();
        }
        let mut cumulative = Vec::with_capacity(whole.len());
        let mut product = 1.0;
        for beta in &whole {
            product *= 1.0 - beta;
            cumulative.push(product);
        }
        let mut last = 1.0;
        let kept = timestep_map.iter().filter_map(|step| cumulative.get(*step));
        let betas = kept.map(|level| 1.0 - level / std::mem::replace(&mut last, *level)).collect();
        Self::of_betas(betas, timestep_map, timestep_scale).checked()
    }

    /// Every table must be finite, and what kernels read of it as f32 too.
    fn checked(self) -> Result<Schedule> {
        let tables = [
            &self.sqrt_recip_alphas_cumprod,
            &self.posterior_mean_coef1,
            &self.posterior_log_variance_clipped,
        ];
        let finite = |value: &f64| (*value as f32).is_finite();
        if !self.is_empty() && tables.iter().all(|table| table.iter().all(finite)) {
            return Ok(self);
        }
        let detail = "the chain's numbers leave the range of 32 bits: linear_start is too small, or linear_end so large that \
                      nothing of the image is left at the end";
        Err(Error::config("noise_schedule", detail))
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "every table has an entry for each β, of which there is at least one"
    )]
    fn of_betas(betas: Vec<f64>, timestep_map: Vec<usize>, timestep_scale: f64) -> Schedule {
        let count = betas.len();
        let mut product = 1.0;
        let alphas_cumprod: Vec<f64> = betas
            .iter()
            .map(|beta| {
                product *= 1.0 - beta;
                product
            })
            .collect();
        let shifted = |first: Option<f64>, last: Option<f64>, from: usize, to: usize| -> Vec<f64> {
            first.into_iter().chain(alphas_cumprod[from..to].iter().copied()).chain(last).collect()
        };
        let alphas_cumprod_prev = shifted(Some(1.0), None, 0, count - 1);
        let alphas_cumprod_next = shifted(None, Some(0.0), 1, count);
        let each = |f: &dyn Fn(usize) -> f64| -> Vec<f64> { (0..count).map(f).collect() };
        let a = &alphas_cumprod;
        let prev = &alphas_cumprod_prev;
        let posterior_variance = each(&|i| betas[i] * (1.0 - prev[i]) / (1.0 - a[i]));
        // Entry 0 is zero, so the next one stands in for it. A chain of one step has β alone; the reference fails there.
        let second = posterior_variance.get(1).copied().unwrap_or(betas[0]);
        let clipped = |i: usize| if i == 0 { second } else { posterior_variance[i] };
        let large = |i: usize| if i == 0 { second } else { betas[i] };
        Schedule {
            log_betas: each(&|i| betas[i].ln()),
            sqrt_alphas_cumprod: each(&|i| a[i].sqrt()),
            sqrt_one_minus_alphas_cumprod: each(&|i| (1.0 - a[i]).sqrt()),
            log_one_minus_alphas_cumprod: each(&|i| (1.0 - a[i]).ln()),
            sqrt_recip_alphas_cumprod: each(&|i| (1.0 / a[i]).sqrt()),
            sqrt_recipm1_alphas_cumprod: each(&|i| (1.0 / a[i] - 1.0).sqrt()),
            posterior_log_variance_clipped: each(&|i| clipped(i).ln()),
            posterior_mean_coef1: each(&|i| betas[i] * prev[i].sqrt() / (1.0 - a[i])),
            posterior_mean_coef2: each(&|i| (1.0 - prev[i]) * (1.0 - betas[i]).sqrt() / (1.0 - a[i])),
            fixed_large_variance: each(&large),
            fixed_large_log_variance: each(&|i| large(i).ln()),
            posterior_variance,
            alphas_cumprod_prev,
            alphas_cumprod_next,
            alphas_cumprod,
            betas,
            timestep_map,
            timestep_scale,
        }
    }

    /// Number of steps.
    pub fn len(&self) -> usize {
        self.betas.len()
    }

    /// Never: a chain has at least one step.
    pub fn is_empty(&self) -> bool {
        self.betas.is_empty()
    }

    /// What the network is told at step `index`. That rescaled timesteps are t · 1000 / T is the reference's rule, of which
    /// there are no data.
    ///
    /// # Errors
    /// [`Error::Config`] for a step past the chain's end.
    pub fn model_timestep(&self, index: usize) -> Result<f32> {
        let [step] = self.entries(index, [&self.timestep_map])?;
        Ok((step as f64 * self.timestep_scale) as f32)
    }

    /// As [`Schedule::model_timestep`], of several steps.
    ///
    /// # Errors
    /// As there.
    pub fn model_timesteps(&self, indices: &[usize]) -> Result<Vec<f32>> {
        indices.iter().map(|index| self.model_timestep(*index)).collect()
    }

    /// √ᾱ and √(1 − ᾱ) of step `index`.
    ///
    /// # Errors
    /// As [`Schedule::model_timestep`].
    pub fn q_sample_coefficients(&self, index: usize) -> Result<[f32; 2]> {
        let tables = [&self.sqrt_alphas_cumprod, &self.sqrt_one_minus_alphas_cumprod];
        Ok(self.entries(index, tables)?.map(|value| value as f32))
    }

    /// What the variational term of a learned sigma needs of step `index`, as [`crate::ops::variational`] reads it.
    ///
    /// # Errors
    /// As [`Schedule::model_timestep`].
    pub fn vb_coefficients(&self, index: usize) -> Result<[f32; 8]> {
        self.vb_coefficients_of(index, Prediction::Eps)
    }

    /// As [`Schedule::vb_coefficients`] of a network that predicts something else than eps.
    ///
    /// # Errors
    /// As [`Schedule::model_timestep`].
    pub fn vb_coefficients_of(&self, index: usize, prediction: Prediction) -> Result<[f32; 8]> {
        let tables = [
            &self.posterior_mean_coef1,
            &self.posterior_mean_coef2,
            &self.alphas_cumprod,
            &self.posterior_log_variance_clipped,
            &self.log_betas,
        ];
        let [c1, c2, level, least, largest] = self.entries(index, tables)?;
        let [from_x, from_out] = prediction.x_start(level);
        let first = if index == 0 { 1.0 } else { 0.0 };
        Ok([c1, c2, from_x, -from_out, least, largest, first, 1.0].map(|value| value as f32))
    }

    /// The entries of some tables at step `index`.
    fn entries<T: Copy + Default, const N: usize>(
        &self,
        index: usize,
        tables: [&Vec<T>; N],
    ) -> Result<[T; N]> {
        let mut entries = [T::default(); N];
        for (entry, table) in entries.iter_mut().zip(tables) {
            *entry = *table.get(index).ok_or_else(|| past_the_end(index, self.len()))?;
        }
        Ok(entries)
    }
}

/// The error of a step that a chain does not have.
pub(super) fn past_the_end(index: usize, steps: usize) -> Error {
    Error::config("steps", format!("step {index} of a chain of {steps}"))
}
