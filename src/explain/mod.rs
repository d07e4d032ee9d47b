//! Explanations: what would have to change for the decision to change?

mod chain;
mod explainer;
mod explanation;
mod inversion;
mod local;
mod options;
mod paper;

pub use chain::{LocalStep, local_step_plan};
pub use explainer::Explainer;
pub use explanation::{Explanation, Passes, Variants, touched};
pub use inversion::inversion_plan;
pub use options::{ExplainOptions, Local, Method, Paper, Request};
