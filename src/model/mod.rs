//! The joint model: configuration, UNet, classifier, parameter names.

mod config;

pub use config::{Head, ModelConfig, Pooling};
