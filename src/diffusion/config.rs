//! The diffusion process: number of steps, noise schedule, what the network predicts.

use super::solver::Prediction;
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
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::diffusion::{DiffusionConfig, NoiseSchedule, Schedule};
///
/// // A shorter chain whose noise grows by the cosine schedule.
/// let config = DiffusionConfig {
///     diffusion_steps: 200,
///     noise_schedule: NoiseSchedule::Cosine,
///     ..DiffusionConfig::default()
/// };
/// // At its end next to nothing of the image is left.
/// let schedule = Schedule::new(&config)?;
/// assert!(schedule.len() == 200 && schedule.alphas_cumprod[199] < 1e-4);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "File", into = "File")]
pub struct DiffusionConfig {
    /// Steps T of the chain.
    pub diffusion_steps: usize,
    /// The schedule.
    pub noise_schedule: NoiseSchedule,
    /// First β of the linear schedule at T = 1000. The reference uses 0.001, ten times DDPM's usual 0.0001.
    pub linear_start: f64,
    /// Last β of the linear schedule at T = 1000. Both count 1000 / T in a chain of T steps; below ten steps the last one only
    /// 100 / T, as the reference has it; none is above 0.999.
    pub linear_end: f64,
    /// The network sees t · 1000 / T instead of t.
    pub rescale_timesteps: bool,
    /// What the network predicts.
    pub prediction: Prediction,
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
            prediction: Prediction::Eps,
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
        check_steps(self.diffusion_steps)?;
        for (field, value) in [("linear_start", self.linear_start), ("linear_end", self.linear_end)] {
            // Above T / 1000 the schedule's β would exceed 1, and are held at 0.999.
            if !(value > 0.0 && value < 1.0) {
                return Err(Error::config(field, format!("must be above 0 and below 1, is {value}")));
            }
        }
        Ok(())
    }
}

/// Checks the number of a chain's steps.
pub(super) fn check_steps(steps: usize) -> Result<()> {
    if (1..=1_000_000).contains(&steps) {
        return Ok(());
    }
    Err(Error::config("diffusion_steps", format!("must be from 1 to 1000000, is {steps}")))
}

/// The configuration as files hold it: `predict_xstart` says eps or x_start, as in the first files there were, which
/// programs of then still read; `prediction` is written only of what they do not know.
#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    diffusion_steps: usize,
    noise_schedule: NoiseSchedule,
    linear_start: f64,
    linear_end: f64,
    rescale_timesteps: bool,
    predict_xstart: bool,
    rescale_learned_sigmas: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    prediction: Option<Prediction>,
}

impl Default for File {
    fn default() -> Self {
        DiffusionConfig::default().into()
    }
}

impl From<DiffusionConfig> for File {
    fn from(config: DiffusionConfig) -> File {
        File {
            diffusion_steps: config.diffusion_steps,
            noise_schedule: config.noise_schedule,
            linear_start: config.linear_start,
            linear_end: config.linear_end,
            rescale_timesteps: config.rescale_timesteps,
            predict_xstart: config.prediction == Prediction::XStart,
            rescale_learned_sigmas: config.rescale_learned_sigmas,
            prediction: Some(config.prediction).filter(|p| *p == Prediction::V),
        }
    }
}

impl TryFrom<File> for DiffusionConfig {
    type Error = String;

    fn try_from(file: File) -> std::result::Result<DiffusionConfig, String> {
        let prediction = match (file.predict_xstart, file.prediction) {
            (false, prediction) => prediction.unwrap_or_default(),
            (true, None | Some(Prediction::XStart)) => Prediction::XStart,
            (true, Some(_)) => return Err("predict_xstart and prediction contradict each other".into()),
        };
        Ok(DiffusionConfig {
            diffusion_steps: file.diffusion_steps,
            noise_schedule: file.noise_schedule,
            linear_start: file.linear_start,
            linear_end: file.linear_end,
            rescale_timesteps: file.rescale_timesteps,
            prediction,
            rescale_learned_sigmas: file.rescale_learned_sigmas,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_say_what_the_network_predicts_as_they_always_did() {
        let read = |text: &str| serde_json::from_str::<DiffusionConfig>(text);
        assert_eq!(read("{}").unwrap(), DiffusionConfig::default());
        let cases = [
            (r#"{"predict_xstart":false}"#, Prediction::Eps),
            (r#"{"predict_xstart":true}"#, Prediction::XStart),
            (r#"{"prediction":"x_start"}"#, Prediction::XStart),
            (r#"{"predict_xstart":false,"prediction":"v"}"#, Prediction::V),
        ];
        for (text, prediction) in cases {
            let config = read(text).unwrap();
            assert_eq!(config.prediction, prediction, "{text}");
            let written = serde_json::to_string(&config).unwrap();
            assert_eq!(read(&written).unwrap(), config, "{written}");
            // Only a program that knows v may read a model of v.
            assert_eq!(written.contains("\"prediction\""), prediction == Prediction::V, "{written}");
            assert!(written.contains(&format!("\"predict_xstart\":{}", prediction == Prediction::XStart)));
        }
        for bad in
            [r#"{"predict_xstart":true,"prediction":"v"}"#, r#"{"predict":"v"}"#, r#"{"prediction":"w"}"#]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
