//! What the command `duet` does, as a library: data sets, recipes, measurements, reports and the commands themselves.
//!
//! Imports flow one way: `cli`, then `data`, `recipe` and `io`, then `eval` and `report`, then `commands`.

pub mod cli;
pub mod commands;
pub mod data;
pub mod eval;
pub mod io;
pub mod recipe;
pub mod report;
