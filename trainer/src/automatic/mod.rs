//! A recipe for data that come without one: sizes by the data, the network and its steps by what this device does in a time.

mod choose;
mod measure;

pub use choose::{Budget, Choice, Facts, Speed, choose};
pub use measure::measure;
