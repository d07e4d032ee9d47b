//! Options of `duet check`.

use clap::Args;
use std::path::PathBuf;

/// `duet check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Check every operation too, forward and backward, in every family of kernels that the device can run; exit code 1 where a number
    /// is wrong.
    #[arg(long)]
    pub full: bool,
    /// Write what was found as JSON: adapter, driver, limits, each operation in each family. For a bug's report.
    #[arg(long, value_name = "FILE", requires = "full")]
    pub report: Option<PathBuf>,
}
