//! Progress bars and printed results.

use indicatif::{ProgressBar, ProgressStyle};
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

/// 1.23 M, 4.5 G and the like.
pub fn short(value: f64) -> String {
    let units = [(1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")];
    let unit = units.iter().find(|(size, _)| value.abs() >= *size);
    match unit {
        Some((size, name)) => format!("{:.2}{name}", value / size),
        None => format!("{value:.0}"),
    }
}

/// Bytes as KiB, MiB, GiB.
pub fn bytes(value: u64) -> String {
    let units = [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(size, _)| value >= *size) {
        Some((size, name)) => format!("{:.1} {name}", value as f64 / *size as f64),
        None => format!("{value} B"),
    }
}
