//! Denoising on a device: solvers, guidance (Algorithm 1; gradient on x_t), chains.

mod sample;

pub use sample::{Chain, ChainOptions, Guidance, Progress, Sampler, StepSpec, guidable, step_plan};
