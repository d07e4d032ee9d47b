//! `duet bench`: kernels and whole steps on this device. Compare ratios of one run, not figures of two machines.

use crate::bench::compare::Comparison;
use crate::bench::results::{Results, json};
use crate::bench::{measure, table};
use crate::cli::{Bench, Cli};
use crate::io::output::say;
use duet::Result;

/// Runs the command.
///
/// # Errors
/// Bad options or files; device errors.
pub fn run(arguments: &Cli, options: &Bench) -> Result<()> {
    if let Some([before, after]) = options.compare.as_deref() {
        let comparison = Comparison::of(&Results::read(before)?, &Results::read(after)?);
        return compared(arguments, &comparison);
    }
    // Read before anything is measured, so that a bad file is told at once.
    let before = options.against.as_deref().map(Results::read).transpose()?;
    let results = measure(arguments, options)?;
    if let Some(before) = before {
        return compared(arguments, &Comparison::of(&before, &results));
    }
    if arguments.json {
        say!("{}", json(&results)?);
    } else {
        table::print(&results);
    }
    Ok(())
}

fn compared(arguments: &Cli, comparison: &Comparison) -> Result<()> {
    if arguments.json {
        say!("{}", json(comparison)?);
    } else {
        comparison.print();
    }
    Ok(())
}
