//! Running kernels again costs no memory.
//!
//! A driver may put values of a uniform into a shader and compile that anew at every dispatch: Mesa's lavapipe does so where
//! a short loop ends at such a value, and keeps what it compiled. A process of its own, for memory is the process's.

#[path = "suite/programs.rs"]
#[allow(dead_code, reason = "the suite uses the rest")]
mod programs;

use duet::families::Family;
use duet::gpu::{BufferId, BufferSpec, Device, DeviceOptions, Kernel, Launch, Program, Slice};
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
        Slice { buffer: BufferId(buffers.len() as u32 - 1), offset: 0, bytes: slice.bytes, half: false }
    };
    let reads = launch.reads.iter().map(&mut own).collect();
    let writes = launch.writes.iter().map(&mut own).collect();
    let launch = Launch { reads, writes, ..launch.clone() };
    Program { buffers, launches: vec![launch; LAUNCHES] }
}

/// Kilobytes by which the process grows while a launch runs [`LAUNCHES`] times for the second time.
fn growth(device: &Device, launch: &Launch) -> u64 {
    let executable = pollster::block_on(device.load(&alone(launch), |_| None)).unwrap();
    let [before, after] = [0, 1].map(|_| {
        executable.run();
        device.wait().unwrap();
        resident().unwrap()
    });
    after.saturating_sub(before)
}

/// What no kernel may do: a short loop that ends at a bare value of the uniform.
const FORBIDDEN: &str = "
struct Size { count: u32, a: u32, b: u32, c: u32 }
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(2) var<uniform> size: Size;
@compute @workgroup_size(8) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= size.a) {
        return;
    }
    var sum = vec4<f32>();
    for (var n = 0u; n < size.count; n++) {
        sum += x[n * size.a + id.x];
    }
    let mean = sum / f32(size.count);
    var square = vec4<f32>();
    for (var n = 0u; n < size.count; n++) {
        let apart = x[n * size.a + id.x] - mean;
        square += apart * apart;
    }
    y[id.x] = square;
}
";

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
        let optional = [("_subgroup", Family::Subgroup), ("_cooperative", Family::Cooperative)];
        let here = optional
            .iter()
            .all(|(ending, family)| !launch.kernel.file.ends_with(ending) || family.runs_on(&device));
        if !here || !seen.insert(launch.kernel.clone()) {
            continue;
        }
        let grew = growth(&device, &launch);
        if grew > GROWTH {
            grown.push(format!("{}: {grew} kB in {LAUNCHES} launches", launch.kernel));
        }
    }
    assert!(seen.len() >= 50, "only {} kernels", seen.len());
    assert!(grown.is_empty(), "{grown:#?}");
    // The measure tells a kernel that does what is forbidden, where the driver is one of those that this is about.
    let slice = |buffer| Slice { buffer: BufferId(buffer), offset: 0, bytes: 64, half: false };
    let forbidden = Launch {
        kernel: Kernel {
            file: "forbidden",
            source: FORBIDDEN,
            entry: "main",
            constants: Vec::new(),
            halves: Vec::new(),
        },
        reads: vec![slice(0)],
        writes: vec![slice(1)],
        uniform: [3u32, 1, 0, 0].iter().flat_map(|v| v.to_le_bytes()).collect(),
        workgroups: [1, 1, 1],
        multiply_adds: 0,
        spare: 0,
    };
    let grew = growth(&device, &forbidden);
    println!("{}: the forbidden loop costs {grew} kB in {LAUNCHES} launches", device.info().name);
}
