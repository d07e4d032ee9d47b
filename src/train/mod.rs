//! Training: the joint loss, AdamW and EMA as one plan, and the state around it.

mod options;
mod probe;
mod step;
mod trainer;

pub use options::{ClassifierInput, TrainOptions};
pub use probe::{StepInput, StepOutput, training_step};
pub use step::{TrainSpec, train_plan, update_plan};
pub use trainer::{Batch, Metrics, Trainer};
