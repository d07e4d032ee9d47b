//! Where a step's time goes: its launches by kernel, timed on the device.

use super::results::{Profile, ProfileRow, Timed};
use super::steps::Ready;
use duet::Result;
use duet::gpu::Launch;
use duet::ops::probe::Peaks;
use std::collections::{HashMap, HashSet};
use std::time::Instant;

/// Times every launch of a step by itself, the shortest of at least three runs over at least `seconds`, beside its bound by `peaks`.
///
/// # Errors
/// An adapter without timestamp queries; device errors.
pub fn profile(ready: &mut Ready, seconds: f64, peaks: Option<&Peaks>) -> Result<Profile> {
    ready.run()?;
    let mut best: Vec<u64> = Vec::new();
    let (begin, mut runs) = (Instant::now(), 0);
    while runs < 3 || begin.elapsed().as_secs_f64() < seconds {
        let mut times = Vec::new();
        for part in ready.executables() {
            times.extend(pollster::block_on(part.profile())?);
        }
        if best.is_empty() {
            best = times;
        } else {
            best.iter_mut().zip(times).for_each(|(least, time)| *least = (*least).min(time));
        }
        runs += 1;
    }
    let program = ready.plan.program();
    let entry = |launch: &Launch| format!("{}/{}", launch.kernel.file, launch.kernel.entry);
    let launches = || program.launches.iter().zip(&best);
    let by_kernel =
        group(launches().map(|(launch, time)| (entry(launch), String::new(), launch, *time)), peaks);
    let shapes = ready.plan.shapes();
    let by_shape = group(
        launches().zip(shapes).map(|((launch, time), shape)| (entry(launch), shape.clone(), launch, *time)),
        peaks,
    );
    let bound = |peaks: &Peaks| program.launches.iter().map(|launch| peaks.bound(launch)).sum();
    Ok(Profile {
        name: ready.name.clone(),
        seconds: best.iter().sum::<u64>() as f64 / 1e9,
        launches: best.len() as u64,
        bound_seconds: peaks.map(bound),
        by_kernel,
        by_shape,
    })
}

/// The first of each pipeline's launches, which took `seconds`, the longest first: what of it is compilation the later ones tell.
pub fn first_dispatches(name: String, launches: &[Launch], seconds: &[f64]) -> Profile {
    let mut seen = HashSet::new();
    let firsts: Vec<(&Launch, u64)> = launches
        .iter()
        .zip(seconds)
        .filter(|(launch, _)| seen.insert(&launch.kernel))
        .map(|(launch, seconds)| (launch, (seconds * 1e9) as u64))
        .collect();
    let rows = firsts.iter().map(|&(launch, time)| (launch.kernel.to_string(), String::new(), launch, time));
    Profile {
        name,
        seconds: firsts.iter().map(|(_, time)| *time).sum::<u64>() as f64 / 1e9,
        launches: firsts.len() as u64,
        bound_seconds: None,
        by_kernel: group(rows, None),
        by_shape: Vec::new(),
    }
}

/// What launches of the same kernel and shape take together.
#[derive(Default)]
struct Sums {
    calls: u64,
    nanoseconds: u64,
    multiply_adds: u64,
    bytes: u64,
    bound: f64,
}

/// Sums launches of the same kernel and shape; the longest total first.
fn group<'a>(
    launches: impl Iterator<Item = (String, String, &'a Launch, u64)>,
    peaks: Option<&Peaks>,
) -> Vec<ProfileRow> {
    let mut rows: HashMap<(String, String), Sums> = HashMap::new();
    for (kernel, shape, launch, nanoseconds) in launches {
        let row = rows.entry((kernel, shape)).or_default();
        row.calls += 1;
        row.nanoseconds += nanoseconds;
        row.multiply_adds += launch.multiply_adds;
        row.bytes += launch.bytes();
        row.bound += peaks.map_or(0.0, |peaks| peaks.bound(launch));
    }
    let total: u64 = rows.values().map(|row| row.nanoseconds).sum();
    let mut rows: Vec<ProfileRow> = rows
        .into_iter()
        .map(|((kernel, shape), Sums { calls, nanoseconds, multiply_adds, bytes, bound })| ProfileRow {
            kernel,
            shape,
            calls,
            share: nanoseconds as f64 / total.max(1) as f64,
            bound_seconds: peaks.map(|_| bound),
            timed: Timed::new(nanoseconds as f64 / 1e9, multiply_adds, bytes),
        })
        .collect();
    rows.sort_by(|a, b| {
        let order = b.timed.seconds.total_cmp(&a.timed.seconds);
        order.then_with(|| (&a.kernel, &a.shape).cmp(&(&b.kernel, &b.shape)))
    });
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use duet::gpu::{BufferId, Kernel, Slice};

    fn launch(entry: &'static str, constants: &[(&'static str, f64)]) -> Launch {
        let slice = Slice { buffer: BufferId(0), offset: 0, bytes: 1000, half: false };
        let constants = constants.to_vec();
        Launch {
            kernel: Kernel { file: "a", source: "", entry, constants, halves: Vec::new() },
            reads: vec![slice, slice],
            writes: vec![Slice { buffer: BufferId(1), ..slice }],
            uniform: Vec::new(),
            workgroups: [1; 3],
            multiply_adds: 500,
            spare: 0,
        }
    }

    #[test]
    fn a_pipeline_s_first_dispatch_counts_alone() {
        let launches = [launch("b", &[]), launch("c", &[("WG", 8.0)]), launch("b", &[]), launch("c", &[])];
        let profile = first_dispatches("start-up".into(), &launches, &[1.0, 2.0, 4.0, 3.0]);
        let rows: Vec<(&str, f64)> =
            profile.by_kernel.iter().map(|row| (row.kernel.as_str(), row.timed.seconds)).collect();
        assert_eq!(rows, [("a.c", 3.0), ("a.c WG=8", 2.0), ("a.b", 1.0)]);
        assert_eq!((profile.seconds, profile.launches), (6.0, 3));
    }

    #[test]
    fn launches_of_one_kernel_are_summed_and_sorted() {
        let launch = launch("b", &[]);
        let row = |kernel: &str, time| (kernel.to_owned(), String::new(), &launch, time);
        // A launch moves 2,000 bytes, 4 µs at this rate, and does 500 multiply-adds, 1 µs.
        let peaks = Peaks {
            bytes_per_second: 5e8,
            // Copies this small were not measured: the smallest counts.
            bytes_per_second_by_size: vec![[1e6, 2.5e8], [4e3, 5e8]],
            multiply_adds_per_second: 5e8,
            launch_seconds: 0.0,
        };
        let all = [row("short", 1000), row("long", 2000), row("long", 5000)];
        assert_eq!([1e6, 2e6].map(|bytes| peaks.bytes_per_second_of(bytes as u64)), [2.5e8; 2]);
        assert_eq!(group(all.clone().into_iter(), None)[0].bound_seconds, None);
        let rows = group(all.into_iter(), Some(&peaks));
        assert!(rows[0].bound_seconds.is_some_and(|bound| (bound - 8e-6).abs() < 1e-12));
        assert_eq!((rows[0].kernel.as_str(), rows[0].calls, rows[1].calls), ("long", 2, 1));
        assert_eq!((rows[0].timed.bytes, rows[0].share), (4000, 0.875));
        assert!(
            (rows[1].timed.gflops - 1.0).abs() < 1e-9
                && (rows[1].timed.gigabytes_per_second - 2.0).abs() < 1e-9
        );
    }
}
