//! Training runs: what they begin with and how they go on.

mod resume;
mod run;

pub use resume::labels_fit;
pub use run::train;
