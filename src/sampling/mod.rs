//! Denoising on a device (paper sections 2 and 5.3): one step as a plan, guidance, the chain that runs it, its end.

mod chain;
mod finish;
mod guidance;
mod numbers;
mod pace;
mod step;

pub(crate) use chain::run_words;
pub use chain::{ChainOptions, Progress, Sampler, Watch};
pub use finish::{Finish, Finished};
pub(crate) use guidance::Gradients;
pub use guidance::{Guidance, guidable, guidable_by};
pub(crate) use pace::Pace;
pub use step::{NoiseSource, StepSpec, step_plan};
