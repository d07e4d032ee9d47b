//! The results as tables for people.

use super::results::{Kind, Line, Profile, ProfileRow, Results};
use super::roofline;
use crate::io::output::{bytes, say, short};

/// 12.3 µs, 1.23 ms or 4.56 s.
pub fn time(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.1} µs", 1e6 * s),
        s if s < 1.0 => format!("{:.2} ms", 1e3 * s),
        s => format!("{s:.2} s"),
    }
}

/// Prints everything.
pub fn print(results: &Results) {
    say!("{} ({}, {})", results.device, results.backend, results.driver);
    say!(
        "{}: {} parameters, {} of them in the UNet",
        results.model,
        results.parameters,
        results.unet_parameters
    );
    let of = |kind: Kind| results.lines.iter().filter(move |line| line.kind == kind);
    if of(Kind::Kernel).next().is_some() || of(Kind::Step).next().is_some() {
        say!("Bytes are those of the ranges that launches bind, each once; shortest times.\n");
        say!(
            "{:<56} {:<10} {:>10} {:>9} {:>9} {:>10} {:>7} {:>10}",
            "",
            "variant",
            "time",
            "MACs",
            "GFLOP/s",
            "bytes",
            "GB/s",
            "dispatches"
        );
    }
    of(Kind::Kernel).chain(of(Kind::Step)).for_each(rates);
    if of(Kind::Step).next().is_some() {
        say!(
            "\n{:<56} {:>9} {:>10} {:>11} {:>6} {:>10} {:>10} {:>10}",
            "memory",
            "pipelines",
            "planned",
            "lower bound",
            "ratio",
            "allocated",
            "named",
            "in all"
        );
        of(Kind::Step).for_each(memory);
    }
    if of(Kind::StartUp).next().is_some() {
        say!();
    }
    for line in of(Kind::StartUp) {
        let pipelines = line.pipelines.map_or(String::new(), |count| format!("  {count} pipelines"));
        say!("{:<56} {:>10}{pipelines}", line.name, time(line.timed.seconds));
    }
    if let Some(peaks) = &results.peaks {
        roofline::print_peaks(peaks);
        results.profiles.iter().for_each(|profile| roofline::print(profile, peaks));
        return;
    }
    results.profiles.iter().for_each(profile);
}

fn rates(line: &Line) {
    let remark = match (line.times_naive, line.images_per_second) {
        (Some(times), _) => format!("  {times:.1} x naive"),
        (None, Some(rate)) => {
            let host = line.host_seconds.map_or(String::new(), |host| format!(", host {}", time(host)));
            format!("  {rate:.1} images/s{host}")
        }
        (None, None) => String::new(),
    };
    let timed = &line.timed;
    say!(
        "{:<56} {:<10} {:>10} {:>9} {:>9.2} {:>10} {:>7.2} {:>10}{remark}",
        line.name,
        line.variant,
        time(timed.seconds),
        short(timed.multiply_adds as f64),
        timed.gflops,
        bytes(timed.bytes),
        timed.gigabytes_per_second,
        line.dispatches
    );
}

fn memory(line: &Line) {
    if let Some(m) = line.memory {
        say!(
            "{:<56} {:>9} {:>10} {:>11} {:>6.2} {:>10} {:>10} {:>10}",
            line.name,
            line.pipelines.unwrap_or(0),
            bytes(m.planned_bytes),
            bytes(m.lower_bound_bytes),
            m.planned_bytes as f64 / m.lower_bound_bytes.max(1) as f64,
            bytes(m.allocated_bytes),
            bytes(m.named_bytes),
            bytes(m.live_bytes)
        );
    }
}

fn profile(profile: &Profile) {
    say!(
        "\n{}: {} launches, {} on the device (shortest of several runs each)",
        profile.name,
        profile.launches,
        time(profile.seconds)
    );
    rows("by kernel", &profile.by_kernel);
    if !profile.by_shape.is_empty() {
        rows("by kernel and shape", &profile.by_shape);
    }
}

fn rows(title: &str, rows: &[ProfileRow]) {
    say!(
        "\n{title:<66} {:>5} {:>9} {:>6} {:>9} {:>10} {:>7}",
        "calls",
        "total ms",
        "share",
        "GFLOP/s",
        "bytes",
        "GB/s"
    );
    for row in rows {
        let name =
            if row.shape.is_empty() { row.kernel.clone() } else { format!("{} {}", row.kernel, row.shape) };
        say!(
            "{name:<66} {:>5} {:>9.3} {:>5.1}% {:>9.2} {:>10} {:>7.2}",
            row.calls,
            1e3 * row.timed.seconds,
            100.0 * row.share,
            row.timed.gflops,
            bytes(row.timed.bytes),
            row.timed.gigabytes_per_second
        );
    }
}
