//! Explanations: what would have to change for the decision to change?

mod counterfactual;

pub use counterfactual::{ExplainOptions, Explainer, Explanation};
