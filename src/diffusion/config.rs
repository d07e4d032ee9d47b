//! The diffusion process: number of steps, noise schedule, what the network predicts.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// How the noise grows along the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoiseSchedule {
    /// β grows linearly (Ho et al. 2020).
    Linear,
    /// ᾱ follows a squared cosine (Nichol & Dhariwal 2021).
    Cosine,
}

/// The diffusion process; the defaults are the reference's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiffusionConfig {
    /// Steps T of the chain.
    pub diffusion_steps: usize,
    /// The schedule.
    pub noise_schedule: NoiseSchedule,
    /// First β of the linear schedule at T = 1000. The reference uses 0.001, ten times DDPM's usual 0.0001.
    pub linear_start: f64,
    /// Last β of the linear schedule at T = 1000.
    pub linear_end: f64,
    /// The network sees t · 1000 / T instead of t.
    pub rescale_timesteps: bool,
    /// The network predicts x_start instead of eps.
    pub predict_xstart: bool,
    /// The variational term of a learned sigma counts T / 1000.
    pub rescale_learned_sigmas: bool,
}

impl Default for DiffusionConfig {
    fn default() -> Self {
        DiffusionConfig {
            diffusion_steps: 1000,
            noise_schedule: NoiseSchedule::Linear,
            linear_start: 0.001,
            linear_end: 0.02,
            rescale_timesteps: false,
            predict_xstart: false,
            rescale_learned_sigmas: false,
        }
    }
}

impl DiffusionConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<()> {
        if self.diffusion_steps == 0 || self.diffusion_steps > 1_000_000 {
            let detail = format!("must be from 1 to 1000000, is {}", self.diffusion_steps);
            return Err(Error::config("diffusion_steps", detail));
        }
        for (field, value) in [("linear_start", self.linear_start), ("linear_end", self.linear_end)] {
            // Above T / 1000 the schedule's β would exceed 1.
            if !(value > 0.0 && value < 1.0) {
                return Err(Error::config(field, format!("must be above 0 and below 1, is {value}")));
            }
        }
        Ok(())
    }
}
