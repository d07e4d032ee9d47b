//! A step's time beside what the device could do at most.

use super::results::{Profile, ProfileRow};
use super::table::time;
use crate::io::output::{say, short};
use duet::Result;
use duet::gpu::Device;
use duet::ops::probe::{self, Peaks};
use std::time::Instant;

/// Rows of a table: what is behind them is a small part.
const ROWS: usize = 25;

/// The device's peaks, each measured for at least `seconds`.
///
/// # Errors
/// Device errors.
pub fn peaks(device: &Device, seconds: f64) -> Result<Peaks> {
    let begin = Instant::now();
    pollster::block_on(probe::peaks(device, seconds, || begin.elapsed().as_secs_f64()))
}

/// Prints the peaks.
pub fn print_peaks(peaks: &Peaks) {
    let copies = |[bytes, rate]: &[f64; 2]| format!("{}B/s of {}B", short(*rate), short(*bytes));
    say!(
        "copied at most {}; {} multiply-adds/s of f32; a launch that does nothing takes {}",
        peaks.bytes_per_second_by_size.iter().map(copies).collect::<Vec<_>>().join(", "),
        short(peaks.multiply_adds_per_second),
        time(peaks.launch_seconds)
    );
}

/// Prints how far a step is from its bound, and where most could be won.
pub fn print(profile: &Profile, peaks: &Peaks) {
    let Some(bound) = profile.bound_seconds else { return };
    let launches = profile.launches as f64 * peaks.launch_seconds;
    say!(
        "\n{}: {} launches, {} on the device; their bytes and multiply-adds take {} at least ({:.1} times), launching them {}",
        profile.name,
        profile.launches,
        time(profile.seconds),
        time(bound),
        profile.seconds / bound,
        time(launches)
    );
    say!(
        "\n{:<66} {:>5} {:>9} {:>9} {:>6} {:>10} {:>8}",
        "by kernel and shape, what could be won most first",
        "calls",
        "total ms",
        "least ms",
        "times",
        "could win",
        "bound by"
    );
    let won = |row: &ProfileRow| row.timed.seconds - row.bound_seconds.unwrap_or(0.0);
    let mut rows: Vec<&ProfileRow> = profile.by_shape.iter().collect();
    rows.sort_by(|a, b| won(b).total_cmp(&won(a)));
    for row in rows.iter().take(ROWS) {
        let least = row.bound_seconds.unwrap_or(0.0);
        let each = row.timed.bytes / row.calls.max(1);
        let bytes = row.timed.bytes as f64 / peaks.bytes_per_second_of(each);
        let multiply = row.timed.multiply_adds as f64 / peaks.multiply_adds_per_second;
        say!(
            "{:<66} {:>5} {:>9.3} {:>9.3} {:>6.1} {:>9.1}% {:>8}",
            format!("{} {}", row.kernel, row.shape),
            row.calls,
            1e3 * row.timed.seconds,
            1e3 * least,
            row.timed.seconds / least,
            100.0 * won(row) / profile.seconds,
            if bytes > multiply { "bytes" } else { "products" }
        );
    }
    if let Some(left) = rows.len().checked_sub(ROWS).filter(|left| *left > 0) {
        let share: f64 = rows[ROWS..].iter().map(|row| row.share).sum();
        say!("{left} more, {:.1} % of the time", 100.0 * share);
    }
}
