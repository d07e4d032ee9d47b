//! What a device can do at most, measured: `wgsl/probe.wgsl`.

use super::kernel::{WG, invocations, shader};
use crate::error::Result;
use crate::gpu::{Buffer, BufferId, BufferSpec, Device, Launch, Program, Slice};
use serde::{Deserialize, Serialize};

shader!("probe");

/// Bytes that `stream` reads, and writes: more than caches hold.
const STREAM_BYTES: u64 = 64 << 20;
/// Vec4s of `multiply`, an invocation each: enough to fill a GPU.
const MULTIPLY_QUADS: usize = 1 << 16;
/// Multiply-adds of an invocation.
const MULTIPLY_ADDS: u64 = 12 * 512;
/// Launches whose work is next to nothing, to see what a launch costs.
const EMPTY_LAUNCHES: usize = 1000;
/// Seconds that a measured run takes at least, beside which its submission is nothing.
const LEAST_SECONDS: f64 = 0.02;

/// A device's peaks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peaks {
    /// Bytes read or written per second by a copy.
    pub bytes_per_second: f64,
    /// Multiply-adds of f32 per second without any memory.
    pub multiply_adds_per_second: f64,
    /// Seconds that a launch costs which waits for the one before it and does next to nothing.
    pub launch_seconds: f64,
}

impl Peaks {
    /// Seconds that a launch needs at least: for its bytes or its multiply-adds, whichever take longer.
    pub fn bound(&self, launch: &Launch) -> f64 {
        let bytes = launch.bytes() as f64 / self.bytes_per_second;
        bytes.max(launch.multiply_adds as f64 / self.multiply_adds_per_second)
    }
}

/// A kernel on `quads` vec4s, back and forth between two buffers.
fn program(entry: &'static str, quads: usize, launches: usize, multiply_adds: u64) -> Program {
    let bytes = quads as u64 * 16;
    let slice = |buffer| Slice { buffer: BufferId(buffer), offset: 0, bytes, half: false };
    let one = |number: usize| {
        let (from, to) = if number.is_multiple_of(2) { (0, 1) } else { (1, 0) };
        let size = [quads as u32, 0, 0, 0];
        let (reads, writes) = (vec![slice(from)], vec![slice(to)]);
        let launch = invocations(kernel(entry, &WG), reads, writes, bytemuck::bytes_of(&size), quads);
        Launch { multiply_adds, ..launch }
    };
    let buffer = |name: &str| BufferSpec::External { name: name.into(), bytes };
    Program { buffers: vec![buffer("a"), buffer("b")], launches: (0..launches).map(one).collect() }
}

/// Both kernels, a launch each.
pub fn programs() -> [Program; 2] {
    let (stream, multiply) = (STREAM_BYTES as usize / 16, MULTIPLY_QUADS);
    [program("stream", stream, 1, 0), program("multiply", multiply, 1, MULTIPLY_QUADS as u64 * MULTIPLY_ADDS)]
}

/// The shortest time of a run with a device, by `now` in seconds; at least three runs, over at least `seconds`.
async fn shortest(
    device: &Device,
    program: &Program,
    buffers: &[Buffer; 2],
    seconds: f64,
    now: &impl Fn() -> f64,
) -> Result<f64> {
    let given = |name: &str| Some(buffers[usize::from(name == "b")].clone());
    let executable = device.load(program, given).await?;
    let (begin, mut best, mut runs) = (now(), f64::INFINITY, 0);
    while runs < 4 || now() - begin < seconds {
        let start = now();
        executable.run();
        // Reading waits everywhere, in a browser too.
        device.read_f32(&buffers[0], 4).await?;
        // The first run may still compile.
        if runs > 0 {
            best = best.min(now() - start);
        }
        runs += 1;
    }
    Ok(best)
}

/// The peaks of a device, each measured for at least `seconds`; `now` gives seconds.
///
/// # Errors
/// Device errors.
pub async fn peaks(device: &Device, seconds: f64, now: impl Fn() -> f64) -> Result<Peaks> {
    let quads = (STREAM_BYTES.min(device.max_binding()) / 16) as usize;
    let bytes = quads as u64 * 16;
    let buffers = [device.buffer("a", bytes).await?, device.buffer("b", bytes).await?];
    // What one launch takes by runs of enough of them.
    let each = async |entry, quads, multiply_adds| {
        let mut launches = 1;
        loop {
            let program = program(entry, quads, launches, multiply_adds);
            let time = shortest(device, &program, &buffers, seconds, &now).await?;
            if time >= LEAST_SECONDS || launches >= 4096 {
                return Ok::<f64, crate::Error>(time / launches as f64);
            }
            launches *= 4;
        }
    };
    let stream = each("stream", quads, 0).await?;
    let multiply = each("multiply", MULTIPLY_QUADS, MULTIPLY_QUADS as u64 * MULTIPLY_ADDS).await?;
    let empty =
        async |launches| shortest(device, &program("stream", 1, launches, 0), &buffers, seconds, &now).await;
    let (few, many) = (empty(1).await?, empty(1 + EMPTY_LAUNCHES).await?);
    Ok(Peaks {
        bytes_per_second: 2.0 * bytes as f64 / stream,
        multiply_adds_per_second: MULTIPLY_QUADS as f64 * MULTIPLY_ADDS as f64 / multiply,
        launch_seconds: (many - few).max(0.0) / EMPTY_LAUNCHES as f64,
    })
}
