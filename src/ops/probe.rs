//! What a device can do at most, measured: `wgsl/probe.wgsl`.

use super::kernel::{WG, invocations, shader};
use crate::error::Result;
use crate::gpu::{Buffer, BufferId, BufferSpec, Device, Launch, Program, Slice};
use serde::{Deserialize, Serialize};

shader!("probe");

/// Bytes that `stream` reads, and writes: more than caches hold, and less, for what a launch has just left there.
const STREAM_BYTES: [u64; 3] = [64 << 20, 4 << 20, 512 << 10];
/// Vec4s of `multiply`, an invocation each: enough to fill a GPU.
const MULTIPLY_QUADS: usize = 1 << 16;
/// Multiply-adds of an invocation.
const MULTIPLY_ADDS: u64 = 12 * 512;
/// Launches whose work is next to nothing, to see what a launch costs.
const EMPTY_LAUNCHES: usize = 1000;
/// Seconds that a measured run takes at least, beside which its submission is nothing.
const LEAST_SECONDS: f64 = 0.02;

/// A device's peaks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peaks {
    /// Bytes read or written per second by a copy that no cache holds.
    pub bytes_per_second: f64,
    /// The same of copies by the bytes that they read and write together, largest first: \[bytes, bytes per second\].
    #[serde(default)]
    pub bytes_per_second_by_size: Vec<[f64; 2]>,
    /// Multiply-adds of f32 per second without any memory.
    pub multiply_adds_per_second: f64,
    /// Seconds that a launch costs which waits for the one before it and does next to nothing.
    pub launch_seconds: f64,
}

impl Peaks {
    /// Bytes per second at most of a launch that moves `bytes`: of the largest copy that is no larger.
    pub fn bytes_per_second_of(&self, bytes: u64) -> f64 {
        let by_size = &self.bytes_per_second_by_size;
        let measured = by_size.iter().find(|[size, _]| *size <= bytes as f64).or(by_size.last());
        measured.map_or(self.bytes_per_second, |[_, rate]| *rate)
    }

    /// Seconds that a launch's bytes and its multiply-adds take at least.
    pub fn bounds(&self, launch: &Launch) -> [f64; 2] {
        let bytes = launch.bytes();
        let moved = bytes as f64 / self.bytes_per_second_of(bytes);
        [moved, launch.multiply_adds as f64 / self.multiply_adds_per_second]
    }

    /// Seconds that a launch needs at least: for its bytes or its multiply-adds, whichever take longer.
    pub fn bound(&self, launch: &Launch) -> f64 {
        let [bytes, multiply_adds] = self.bounds(launch);
        bytes.max(multiply_adds)
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
    let (stream, multiply) = (STREAM_BYTES[0] as usize / 16, MULTIPLY_QUADS);
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
    let bytes = STREAM_BYTES[0].min(device.max_binding()) / 16 * 16;
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
    let empty =
        async |launches| shortest(device, &program("stream", 1, launches, 0), &buffers, seconds, &now).await;
    let (few, many) = (empty(1).await?, empty(1 + EMPTY_LAUNCHES).await?);
    let launch_seconds = (many - few).max(0.0) / EMPTY_LAUNCHES as f64;
    let mut by_size = Vec::new();
    for wanted in STREAM_BYTES {
        let quads = (wanted.min(bytes) / 16) as usize;
        let time = each("stream", quads, 0).await?;
        // Launching it is counted by itself.
        let moving = (time - launch_seconds).max(0.1 * time);
        by_size.push([32.0 * quads as f64, 32.0 * quads as f64 / moving]);
    }
    let multiply = each("multiply", MULTIPLY_QUADS, MULTIPLY_QUADS as u64 * MULTIPLY_ADDS).await?;
    Ok(Peaks {
        bytes_per_second: by_size[0][1],
        bytes_per_second_by_size: by_size,
        multiply_adds_per_second: MULTIPLY_QUADS as f64 * MULTIPLY_ADDS as f64 / multiply,
        launch_seconds,
    })
}
