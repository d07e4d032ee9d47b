//! Running kernels again costs no memory.
//!
//! A driver may put values of a uniform into a shader and compile that anew at every dispatch: Mesa's lavapipe does so where
//! a short loop ends at such a value, and keeps what it compiled. A process of its own, for memory is the process's.

#[path = "suite/programs.rs"]
#[allow(dead_code, reason = "the suite uses the rest")]
mod programs;

use duet::gpu::{BufferId, BufferSpec, Device, DeviceOptions, Launch, Program, Slice};
use std::collections::HashSet;

/// Launches of a kernel in a run.
const LAUNCHES: usize = 16;
/// Kilobytes by which the process may grow in a second run; one kept compilation is several hundred.
const GROWTH: u64 = 1024;

/// Kilobytes of memory that the process holds.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The launch again and again over buffers of its own.
fn alone(launch: &Launch) -> Program {
    let mut buffers: Vec<BufferSpec> = Vec::new();
    let mut own = |slice: &Slice| {
        buffers.push(BufferSpec::Slot { bytes: slice.bytes });
        Slice { buffer: BufferId(buffers.len() as u32 - 1), offset: 0, bytes: slice.bytes }
    };
    let reads = launch.reads.iter().map(&mut own).collect();
    let writes = launch.writes.iter().map(&mut own).collect();
    let launch = Launch { reads, writes, ..launch.clone() };
    Program { buffers, launches: vec![launch; LAUNCHES] }
}

#[test]
fn a_kernel_that_runs_again_costs_no_memory() {
    if resident().is_none() {
        println!("this system does not say how much memory a process holds");
        return;
    }
    let adapter = std::env::var("DUET_ADAPTER").ok();
    let options = DeviceOptions { adapter, ..DeviceOptions::default() };
    let device = pollster::block_on(Device::open(&options)).unwrap();
    let mut seen = HashSet::new();
    let mut grown = Vec::new();
    for launch in programs::programs().into_iter().flat_map(|p| p.launches) {
        let here =
            !launch.kernel.file.ends_with("_subgroup") || duet::families::Family::Subgroup.runs_on(&device);
        if !here || !seen.insert(launch.kernel.clone()) {
            continue;
        }
        let executable = pollster::block_on(device.load(&alone(&launch), |_| None)).unwrap();
        let [before, after] = [0, 1].map(|_| {
            executable.run();
            device.wait().unwrap();
            resident().unwrap()
        });
        if after > before + GROWTH {
            grown.push(format!("{}: {} kB in {LAUNCHES} launches", launch.kernel, after - before));
        }
    }
    assert!(seen.len() >= 50, "only {} kernels", seen.len());
    assert!(grown.is_empty(), "{grown:#?}");
}
