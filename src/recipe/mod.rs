//! Recipes: what to train and how. The command `duet` reads them as TOML with the files of the data beside; a program that has its
//! images in memory, as a web page does, as JSON of the same sections and names ([`MemoryRecipe`]).

mod fingerprint;
mod keeping;
mod memory;
mod schedule;
mod span;
mod train;

pub use fingerprint::{HASH, fingerprint};
pub use keeping::BestBy;
pub use memory::{MemoryRecipe, Network};
pub use schedule::RateSchedule;
pub use span::TimeSpan;
pub use train::{CHANGE_NO_STEP, LabelledBy, TrainRecipe};
