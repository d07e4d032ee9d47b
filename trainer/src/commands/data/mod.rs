//! `duet data`: data sets before anything is trained on them.

mod cache;
mod get;
mod info;
mod list;
mod sheet;

use crate::cli::{Cli, DataTask};
use duet::Result;

/// Runs the command.
///
/// # Errors
/// As each of its tasks.
pub fn run(arguments: &Cli, task: &DataTask) -> Result<()> {
    match task {
        DataTask::Info(options) => info::run(arguments, options),
        DataTask::Cache(options) => cache::run(arguments, options),
        DataTask::Get(options) => get::run(arguments, options),
        DataTask::List => {
            list::run(arguments);
            Ok(())
        }
    }
}
