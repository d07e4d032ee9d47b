//! What the command `duet` does, as a library: data sets, recipes, measurements, reports and the commands themselves.
//!
//! Imports flow one way: `cli`, `data` and `metrics`, then `recipe`, then `io`, then `shard`, then `eval`, `fetch` and `processes`, then `audit`, `report`, `bench` and `watch`, then `training`, then
//! `experiments`, then `commands`.

// Everything is printed by `io::output`, which outlives a reader that goes away.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod audit;
pub mod automatic;
pub mod bench;
pub mod cli;
pub mod commands;
pub mod data;
pub mod eval;
pub mod experiments;
pub mod fetch;
pub mod interchange;
pub mod io;
pub mod metrics;
pub mod onnx;
pub mod processes;
pub mod recipe;
pub mod report;
pub mod serve;
pub mod shard;
pub mod training;
pub mod watch;
