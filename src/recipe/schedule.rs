//! Learning rates by step.

use super::TrainRecipe;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Steps after which an exponential schedule multiplies the rate once, as in the reference (`scheduler_rate`).
const DECAY_STEPS: u64 = 1000;
/// What a cosine leaves of the rate.
const COSINE_END: f64 = 0.05;

/// How the learning rate changes after its warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateSchedule {
    /// Not at all.
    #[default]
    Constant,
    /// In a straight line to 0 (the reference's `lr_anneal_steps`).
    Linear,
    /// Half a cosine down to a twentieth.
    Cosine,
    /// Times `lr_decay` every 1,000 steps.
    Exponential,
}

impl RateSchedule {
    /// Whether the rate depends on how much of the run is done, not on the steps alone.
    pub fn has_end(self) -> bool {
        matches!(self, RateSchedule::Linear | RateSchedule::Cosine)
    }
}

impl TrainRecipe {
    /// Learning rate of step `step` (from 0), where `time` is the share of `max_time` that is used. A schedule with an end has
    /// come as far as the run has, by its steps or by its time, whichever is more.
    pub fn rate_at(&self, step: u64, time: f64) -> f64 {
        if step < self.warmup_steps {
            return self.learning_rate * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let since = step - self.warmup_steps;
        let span = self.steps.saturating_sub(self.warmup_steps).max(1);
        let done = (since as f64 / span as f64).max(time).min(1.0);
        self.learning_rate
            * match self.lr_schedule {
                RateSchedule::Constant => 1.0,
                RateSchedule::Linear => 1.0 - done,
                RateSchedule::Cosine => {
                    let share = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
                    COSINE_END + (1.0 - COSINE_END) * share
                }
                RateSchedule::Exponential => self.lr_decay.unwrap_or(1.0).powf((since / DECAY_STEPS) as f64),
            }
    }

    /// Checks what the rates depend on.
    pub(super) fn validate_rates(&self) -> Result<()> {
        match (self.lr_schedule, self.lr_decay) {
            (RateSchedule::Exponential, None) => {
                let detail =
                    "an exponential schedule needs it: what the rate is multiplied by every 1,000 steps";
                Err(Error::config("train.lr_decay", detail))
            }
            (RateSchedule::Exponential, Some(decay)) if !(decay > 0.0 && decay <= 1.0) => {
                let detail = format!("must be above 0 and at most 1, is {decay}");
                Err(Error::config("train.lr_decay", detail))
            }
            (RateSchedule::Constant | RateSchedule::Linear | RateSchedule::Cosine, Some(_)) => {
                let detail = "goes with lr_schedule = \"exponential\" alone";
                Err(Error::config("train.lr_decay", detail))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(lr_schedule: RateSchedule, warmup_steps: u64) -> TrainRecipe {
        TrainRecipe { steps: 110, warmup_steps, learning_rate: 2.0, lr_schedule, ..TrainRecipe::default() }
    }

    fn rates(recipe: &TrainRecipe, want: &[(u64, f64)]) {
        for (step, rate) in want {
            let got = recipe.rate_at(*step, 0.0);
            assert!((got - rate).abs() < 1e-12, "{:?}, step {step}: {got}", recipe.lr_schedule);
        }
    }

    #[test]
    fn schedules_follow_their_formulas() {
        use RateSchedule::{Constant, Cosine, Exponential, Linear};
        for schedule in [Constant, Linear, Cosine] {
            // A straight rise to the whole rate in the last of ten steps, and on from there.
            rates(&recipe(schedule, 10), &[(0, 0.2), (4, 1.0), (9, 2.0), (10, 2.0)]);
        }
        rates(&recipe(Constant, 0), &[(0, 2.0), (109, 2.0), (1 << 40, 2.0)]);
        // lr · (1 − step / steps), as guided-diffusion anneals.
        rates(&recipe(Linear, 0), &[(0, 2.0), (55, 1.0), (109, 2.0 / 110.0), (110, 0.0), (200, 0.0)]);
        rates(&recipe(Linear, 10), &[(35, 1.5), (85, 0.5)]);
        let quarter = 2.0 * (0.05 + 0.95 * 0.5 * (1.0 + std::f64::consts::FRAC_1_SQRT_2));
        rates(&recipe(Cosine, 10), &[(35, quarter), (60, 1.05), (110, 0.1), (500, 0.1)]);
        // lr · rate^⌊step / 1000⌋, as the reference steps its ExponentialLR.
        let exponential = TrainRecipe { lr_decay: Some(0.5), ..recipe(Exponential, 10) };
        rates(
            &exponential,
            &[(9, 2.0), (1009, 2.0), (1010, 1.0), (2009, 1.0), (2010, 0.5), (10_010, 2.0 / 1024.0)],
        );
    }

    #[test]
    fn a_run_of_limited_time_ends_with_a_finished_schedule() {
        let cosine = recipe(RateSchedule::Cosine, 10);
        assert!((cosine.rate_at(20, 0.5) - 1.05).abs() < 1e-12, "half of the time: as at half of the steps");
        assert!(
            (cosine.rate_at(20, 1.0) - 0.1).abs() < 1e-12 && (cosine.rate_at(20, 7.0) - 0.1).abs() < 1e-12
        );
        assert!((cosine.rate_at(60, 0.2) - 1.05).abs() < 1e-12, "steps that end sooner than the time decide");
        assert!((cosine.rate_at(4, 0.9) - 1.0).abs() < 1e-12, "the warm-up counts steps");
        let linear = recipe(RateSchedule::Linear, 0);
        assert!((linear.rate_at(0, 0.75) - 0.5).abs() < 1e-12);
        for free in [
            recipe(RateSchedule::Constant, 0),
            TrainRecipe { lr_decay: Some(0.5), ..recipe(RateSchedule::Exponential, 0) },
        ] {
            assert_eq!(free.rate_at(5, 0.9), 2.0);
        }
    }
}
