//! Denoising on a device (paper sections 2 and 5.3): one step as a plan, guidance, the chain that runs it, its end.

mod chain;
mod finish;
mod guidance;
mod interpolate;
mod numbers;
mod objective;
mod pace;
mod step;
mod watch;

pub use chain::Sampler;
pub(crate) use chain::run_words;
pub use finish::{Finish, Finished};
pub(crate) use guidance::{Gradients, Unguided};
pub use guidance::{Guidance, guidable, guidable_by};
pub use interpolate::slerp;
pub use objective::{Attributes, Class, Mixture, Near, Objective, Of, Parts};
pub(crate) use pace::Pace;
pub use step::{NoiseSource, StepSpec, step_plan};
pub use watch::{ChainOptions, Progress, Watch};
