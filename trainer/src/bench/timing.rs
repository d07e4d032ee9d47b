//! Shortest times of repeated calls.

use duet::Result;
use duet::gpu::{BufferId, BufferSpec, Device, Launch, Program};
use std::time::Instant;

/// Shortest seconds of one call after a first one to warm up: at least `calls` calls over at least `seconds`.
pub fn best(seconds: f64, calls: usize, mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    call()?;
    let (begin, mut best, mut done) = (Instant::now(), f64::INFINITY, 0);
    while done < calls || begin.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        call()?;
        best = best.min(start.elapsed().as_secs_f64());
        done += 1;
    }
    Ok(best)
}

/// Shortest seconds of one run of `launches` over fresh buffers of the given sizes in bytes, all filled with positive
/// numbers.
pub fn launches(
    device: &Device,
    sizes: &[u64],
    launches: Vec<Launch>,
    seconds: f64,
    calls: usize,
) -> Result<f64> {
    let buffers = sizes.iter().map(|bytes| BufferSpec::Slot { bytes: *bytes }).collect();
    let executable = pollster::block_on(device.load(&Program { buffers, launches }, |_| None))?;
    for (i, bytes) in sizes.iter().enumerate() {
        let values: Vec<f32> = (0..bytes / 4).map(|v| (v % 251 + 1) as f32 / 252.0).collect();
        device.write(executable.buffer(BufferId(i as u32)), 0, bytemuck::cast_slice(&values))?;
    }
    best(seconds, calls, || {
        executable.run();
        device.wait()
    })
}
