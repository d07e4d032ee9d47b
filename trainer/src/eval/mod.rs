//! What measures: each file takes a model on the device and data, and gives numbers.

pub mod accuracy;
pub mod chains;
pub mod counterfactuals;
pub mod explanations;
pub mod likeness;
pub mod manifold;
pub mod noise_error;
