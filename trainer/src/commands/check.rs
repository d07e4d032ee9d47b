//! `duet check`: does this GPU compute what it should?

use crate::cli::{Check, Cli};
use crate::io::files::{self, Kind};
use crate::io::output::say;
use crate::io::session::open_device;
use duet::families::{Choices, Family};
use duet::gpu::Device;
use duet::self_test::{Checked, check_operations};
use duet::{Error, Result};
use serde_json::{Value, json};
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
    let device = open_device(arguments)?;
    let opened = start.elapsed().as_secs_f64();
    let mut step = pollster::block_on(device.self_test());
    let tested = start.elapsed().as_secs_f64() - opened;
    if !options.full {
        step?;
        step = Ok(());
    }
    let info = device.info();
    if !arguments.json {
        say!("{} ({}, {})", info.name, info.backend, info.driver);
        match &step {
            Ok(()) => {
                say!("opened in {opened:.2} s; a training step and its gradients are right ({tested:.2} s)")
            }
            Err(error) => say!("opened in {opened:.2} s; a training step is wrong: {error}"),
        }
    }
    let operations = match options.full {
        true => Some(operations(&device, arguments.json)?),
        false => None,
    };
    device.save_pipeline_cache();
    let mut row = json!({
        "adapter": info.name, "driver": info.driver, "backend": info.backend, "software": info.software,
        "open_seconds": opened, "test_seconds": tested, "pipelines": device.counters().pipelines,
    });
    if let Some(operations) = &operations {
        let traits = device.traits();
        row["version"] = env!("CARGO_PKG_VERSION").into();
        row["limits"] = json!({
            "workgroup_invocations": traits.invocations, "workgroup_bytes": traits.workgroup_bytes,
            "subgroup": traits.lanes, "binding_bytes": device.max_binding(), "f16": device.has_f16(),
        });
        row["tuned"] = (!Choices::of_device(&device).is_direct()).into();
        row["training_step"] = match &step {
            Ok(()) => Value::Null,
            Err(error) => error.to_string().into(),
        };
        row["operations"] = json!(operations);
    }
    if let Some(report) = &options.report {
        let text = serde_json::to_string_pretty(&row).map_err(|e| Error::config("report", e.to_string()))?;
        Kind::Table.write(report, text.as_bytes())?;
        if !arguments.json {
            say!("wrote {}", report.display());
        }
    }
    if arguments.json {
        say!("{row}");
    }
    step?;
    let wrong = operations.iter().flatten().filter(|checked| checked.wrong.is_some()).count();
    if wrong > 0 {
        let detail =
            format!("self-test: {wrong} operations are wrong, as said above; this driver computes wrongly");
        return Err(Error::Gpu { detail });
    }
    Ok(())
}

/// Every operation, a line for each: its largest error in each family.
fn operations(device: &Device, quiet: bool) -> Result<Vec<Checked>> {
    let families: Vec<Family> = Family::ALL.into_iter().filter(|family| family.runs_on(device)).collect();
    if !quiet {
        let names: String = families.iter().map(|family| format!("{:>10}", family.name())).collect();
        say!("largest error of each operation and its gradients, as a share of their length:");
        say!("{:<36}{names}", "");
    }
    let checked = pollster::block_on(check_operations(device, |_| {}))?;
    if quiet {
        return Ok(checked);
    }
    let mut names: Vec<&str> = checked.iter().map(|one| one.name).collect();
    names.dedup();
    for name in names {
        let of = |family: &Family| checked.iter().find(|one| one.name == name && one.family == *family);
        let off = |off: f64| if off == 0.0 { "0".into() } else { format!("{off:.0e}") };
        let cell = |family: &Family| of(family).map_or("–".into(), |one| off(one.off));
        let cells: String = families.iter().map(|family| format!("{:>10}", cell(family))).collect();
        say!("{name:<36}{cells}");
        for one in checked.iter().filter(|one| one.name == name) {
            if let Some(wrong) = &one.wrong {
                say!("    WRONG ({}): {wrong}", one.family);
            }
        }
    }
    Ok(checked)
}
