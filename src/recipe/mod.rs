//! Recipes: what to train and how, as TOML or JSON. Those of the command `duet` name the files of their data; a program that has its
//! images in memory, as a web page does, has the other sections and names ([`MemoryRecipe`]), and takes a recipe of the command
//! without what is of files ([`MemoryRecipe::adapt`]).

mod adapt;
mod fingerprint;
mod keeping;
mod memory;
mod schedule;
mod span;
mod text;
mod train;

pub use adapt::{Adapted, LeftOut};
pub use fingerprint::{HASH, fingerprint};
pub use keeping::BestBy;
pub use memory::{MemoryRecipe, Network};
pub use schedule::RateSchedule;
pub use span::TimeSpan;
pub use text::from_text;
pub use train::{CHANGE_NO_STEP, LabelledBy, TrainRecipe};
