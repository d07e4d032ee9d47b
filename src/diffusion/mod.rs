//! The diffusion process as numbers alone: configuration, noise schedule, respacing. What runs on a device is in
//! [`crate::sampling`].

mod config;
mod respace;
mod schedule;

pub use config::{DiffusionConfig, NoiseSchedule};
pub use respace::respaced_steps;
pub use schedule::Schedule;
