//! The diffusion process as numbers alone: configuration, noise schedule, respacing, solvers. What runs on a device is in
//! [`crate::sampling`].

mod config;
mod likelihood;
mod respace;
mod schedule;
mod solver;
mod solvers;

pub use config::{DiffusionConfig, NoiseSchedule};
pub use likelihood::{BoundTerm, Noised};
pub use respace::respaced_steps;
pub use schedule::Schedule;
pub use solver::{Coefficients, Method, Prediction, Solver, StepAt};
