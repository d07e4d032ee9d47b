//! Progress bars and printed results.

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use std::io::IsTerminal as _;

/// A progress bar on stderr; hidden where stderr is no terminal or the output is for machines.
pub fn progress(steps: u64, done: u64, template: &str, json: bool) -> ProgressBar {
    if json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(steps).with_position(done);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸─"));
    }
    bar.reset_eta();
    bar
}

/// 1.23 M, 4.50 G and the like: ours, since indicatif writes counts in full and prefixes bytes alone.
pub fn short(value: f64) -> String {
    let units = [(1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")];
    let unit = units.iter().find(|(size, _)| value.abs() >= *size);
    match unit {
        Some((size, name)) => format!("{:.2}{name}", value / size),
        None => format!("{value:.0}"),
    }
}

/// Bytes as KiB, MiB, GiB; as text, because [`HumanBytes`] itself ignores a column's width.
pub fn bytes(value: u64) -> String {
    HumanBytes(value).to_string()
}
