//! Noise schedules, respacing, samplers, guidance (Algorithm 1; gradient on x_t), counterfactuals.

mod config;
mod explain;
mod respace;
mod sample;
mod schedule;

pub use config::{DiffusionConfig, NoiseSchedule};
pub use explain::{ExplainOptions, Explainer, Explanation};
pub use respace::respaced_steps;
pub use sample::{Chain, ChainOptions, Guidance, Progress, Sampler, StepSpec, guidable, step_plan};
pub use schedule::Schedule;
