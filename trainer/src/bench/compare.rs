//! Two reports side by side.

use super::results::{Line, Results};
use super::table::time;
use crate::io::output::say;
use serde::Serialize;
use std::collections::HashMap;

/// A line counts as slower from this ratio on: below it, two runs on a shared machine differ by chance.
const SLOWER: f64 = 1.1;

/// What two reports differ in.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// Whether both ran on one device and driver: only then do the ratios speak of the program.
    pub same_device: bool,
    /// Lines of both, in the second one's order.
    pub lines: Vec<Change>,
    /// Names of lines that only the first results have.
    pub only_before: Vec<String>,
    /// Names of lines that only the second results have.
    pub only_after: Vec<String>,
}

/// A line of both reports.
#[derive(Debug, Serialize)]
pub struct Change {
    /// Its name, and its variant where that is not the default.
    pub name: String,
    /// Seconds in the first results.
    pub before: f64,
    /// Seconds in the second results.
    pub after: f64,
    /// after / before.
    pub ratio: f64,
    /// Whether it became slower by more than a tenth.
    pub slower: bool,
}

fn key(line: &Line) -> String {
    if line.variant == "default" { line.name.clone() } else { format!("{} ({})", line.name, line.variant) }
}

impl Comparison {
    /// Compares line by line.
    pub fn of(before: &Results, after: &Results) -> Comparison {
        let seconds = |results: &Results| -> HashMap<String, f64> {
            results.lines.iter().map(|line| (key(line), line.timed.seconds)).collect()
        };
        let (first, second) = (seconds(before), seconds(after));
        let missing = |from: &Results, other: &HashMap<String, f64>| {
            from.lines.iter().map(key).filter(|name| !other.contains_key(name)).collect()
        };
        let change = |line: &Line| {
            let (name, after) = (key(line), line.timed.seconds);
            let before = *first.get(&name)?;
            let ratio = after / before;
            Some(Change { name, before, after, ratio, slower: ratio > SLOWER })
        };
        Comparison {
            same_device: (&before.device, &before.driver) == (&after.device, &after.driver),
            lines: after.lines.iter().filter_map(change).collect(),
            only_before: missing(before, &second),
            only_after: missing(after, &first),
        }
    }

    /// Prints it for people.
    pub fn print(&self) {
        if !self.same_device {
            say!("The two runs are of different devices or drivers.");
        }
        say!("{:<66} {:>10} {:>10} {:>7}", "", "before", "after", "ratio");
        for line in &self.lines {
            let flag = if line.slower { "  SLOWER" } else { "" };
            let (before, after) = (time(line.before), time(line.after));
            say!("{:<66} {before:>10} {after:>10} {:>7.3}{flag}", line.name, line.ratio);
        }
        for (title, names) in [("before", &self.only_before), ("after", &self.only_after)] {
            for name in names {
                say!("{name:<66} only {title}");
            }
        }
        let slower = self.lines.iter().filter(|line| line.slower).count();
        say!("{} lines compared, {slower} slower by more than 10 %", self.lines.len());
    }
}
