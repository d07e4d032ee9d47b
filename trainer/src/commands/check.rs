//! `duet check`: does this GPU compute what it should?

use crate::cli::{Check, Cli};
use crate::io::files::{self, Kind};
use crate::io::output::say;
use crate::io::session::open_device;
use duet::gpu::Device;
use duet::self_test::{Checked, Progress, Report};
use duet::{Error, Result};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

/// Runs the command.
///
/// # Errors
/// No adapter, or which number is wrong; a report that cannot be written.
pub fn run(arguments: &Cli, options: &Check) -> Result<()> {
    if let Some(report) = &options.report {
        let inputs: Vec<&std::path::Path> = arguments.tuning.iter().map(PathBuf::as_path).collect();
        files::check(&[(Kind::Table, report)], &inputs)?;
    }
    let start = Instant::now();
    let seconds = || start.elapsed().as_secs_f64();
    let device = open_device(arguments)?;
    let mut report = Report::new(&device, seconds());
    pollster::block_on(report.check_step(&device, seconds));
    if !arguments.json {
        let Report { adapter, backend, driver, open_seconds: opened, test_seconds: tested, .. } = &report;
        say!("{adapter} ({backend}, {driver})");
        match &report.training_step {
            Ok(()) => {
                say!("opened in {opened:.2} s; a training step and its gradients are right ({tested:.2} s)")
            }
            Err(error) => say!("opened in {opened:.2} s; a training step is wrong: {error}"),
        }
    }
    if options.full {
        operations(&device, &mut report, arguments.json)?;
    }
    device.save_pipeline_cache();
    let words = |written: serde_json::Result<String>| {
        written.map_err(|error| Error::config("report", error.to_string()))
    };
    if let Some(path) = &options.report {
        Kind::Table.write(path, words(serde_json::to_string_pretty(&report))?.as_bytes())?;
        if !arguments.json {
            say!("wrote {}", path.display());
        }
    }
    if arguments.json {
        say!("{}", words(serde_json::to_string(&report))?);
    }
    report.outcome()
}

/// Every operation, a line for each as it comes: its largest error in each family.
fn operations(device: &Device, report: &mut Report, quiet: bool) -> Result<()> {
    if !quiet {
        let names: String = report.families.iter().map(|family| format!("{:>12}", family.name())).collect();
        say!("largest error of each operation and its gradients, as a share of their length:");
        say!("{:<36}{names}", "");
    }
    let hear = |progress: Progress<'_>| {
        if !quiet {
            row(progress.report);
        }
        ControlFlow::Continue(())
    };
    pollster::block_on(report.check_operations(device, hear))
}

/// The operation that was checked last.
fn row(report: &Report) {
    let Some(Checked { name, .. }) = report.operations.last() else { return };
    let checked: Vec<&Checked> = report.operations.iter().filter(|one| one.name == *name).collect();
    let off = |off: f64| if off == 0.0 { "0".into() } else { format!("{off:.0e}") };
    let cells: String = report
        .families
        .iter()
        .map(|family| checked.iter().find(|one| one.family == *family))
        .map(|one| format!("{:>12}", one.map_or("–".into(), |one| off(one.off))))
        .collect();
    say!("{name:<36}{cells}");
    for Checked { family, wrong, .. } in checked {
        if let Some(wrong) = wrong {
            say!("    WRONG ({family}): {wrong}");
        }
    }
}
