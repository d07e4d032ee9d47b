//! `duet check`: does this GPU compute what it should?

use crate::cli::Cli;
use crate::io::output::say;
use crate::io::session::open_device;
use duet::Result;
use std::time::Instant;

/// Runs the command.
///
/// # Errors
/// No adapter, or which number is wrong.
pub fn run(arguments: &Cli) -> Result<()> {
    let start = Instant::now();
    let device = open_device(arguments)?;
    let opened = start.elapsed().as_secs_f64();
    pollster::block_on(device.self_test())?;
    let tested = start.elapsed().as_secs_f64() - opened;
    device.save_pipeline_cache();
    let info = device.info();
    if arguments.json {
        let row = serde_json::json!({
            "adapter": info.name, "driver": info.driver, "backend": info.backend, "software": info.software,
            "open_seconds": opened, "test_seconds": tested, "pipelines": device.counters().pipelines,
        });
        say!("{row}");
    } else {
        say!("{} ({}, {})", info.name, info.backend, info.driver);
        say!("opened in {opened:.2} s; a training step and its gradients are right ({tested:.2} s)");
    }
    Ok(())
}
