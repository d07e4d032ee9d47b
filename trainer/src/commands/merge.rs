//! `duet merge`: figures, pictures and reports of what parts computed.

use super::{eval, explain, sample};
use crate::cli::{Cli, Merge};
use crate::io::session::watch_interrupts;
use crate::shard::gather;
use duet::{Error, Result};

/// Runs the command.
///
/// # Errors
/// Parts that are missing, twice there, damaged or of something else; options that the parts' command does not have; files that cannot
/// be written.
pub fn run(arguments: &Cli, options: &Merge) -> Result<()> {
    watch_interrupts()?;
    let all = gather(&options.shards)?;
    let command = all.identity.command.clone();
    let given = [("out", &options.out), ("npz", &options.npz), ("report", &options.report)];
    let known: &[&str] = match command.as_str() {
        eval::NAME => &[],
        sample::NAME => &["out", "npz"],
        explain::NAME => &["out", "report"],
        explain::ALL => &["out"],
        _ => return Err(Error::config("shards", format!("are of duet {command}, which is not known here"))),
    };
    if let Some((name, _)) = given.iter().find(|(name, path)| path.is_some() && !known.contains(name)) {
        return Err(Error::config(*name, format!("is no option of merging parts of duet {command}")));
    }
    match command.as_str() {
        eval::NAME => eval::merge(arguments, all),
        sample::NAME => sample::merge(arguments, options, all),
        explain::ALL => explain::merge_all(arguments, options, all),
        _ => explain::merge(arguments, options, all),
    }
}
