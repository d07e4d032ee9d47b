//! Training: a sum of terms, its gradients, AdamW and EMA as plans, and the state around them.

mod augment;
mod batch;
mod exchange;
mod groups;
mod inspect;
mod options;
mod order;
#[cfg(not(target_arch = "wasm32"))]
mod ranks;
mod step;
pub mod terms;
mod timesteps;
mod trainer;

pub use augment::{
    Augment, Augmentation, Augmenter, Brightness, ColorJitter, Contrast, Crop, HorizontalFlip, MixUp,
    Rotation, Sharpness,
};
pub use batch::{Batch, Examples, Pixels};
pub use exchange::{Exchange, GradientRange};
pub use groups::{Groups, Rate};
pub use inspect::{StepInput, StepOutput, training_step};
pub use options::{ClassifierInput, TrainOptions};
pub use order::BatchOrder;
#[cfg(not(target_arch = "wasm32"))]
pub use ranks::{Buckets, Link, Ranks, Threads, Traffic, Transport};
pub use step::{TrainSpec, apply_plan, backward_plan, backward_plan_of, train_plan};
pub use timesteps::TimestepSampler;
pub use trainer::{Metrics, Trainer};
