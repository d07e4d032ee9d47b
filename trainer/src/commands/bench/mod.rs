//! `duet bench`: kernels and whole steps on this device. Compare ratios of one run, not figures of two machines.

mod case;
mod cases;
mod compare;
mod fusion;
mod kernels;
mod measure;
mod models;
mod profile;
mod report;
mod start_up;
mod steps;
mod table;

use crate::cli::{Bench, Cli};
use crate::io::session::open_device;
use compare::Comparison;
use duet::variants::Choices;
use duet::{Error, Result};
use models::Subject;
use report::Report;
use steps::{Ready, Step};

/// Runs the command.
///
/// # Errors
/// Bad options or files; device errors.
pub fn run(arguments: &Cli, options: &Bench) -> Result<()> {
    if let Some([before, after]) = options.compare.as_deref() {
        let comparison = Comparison::of(&Report::read(before)?, &Report::read(after)?);
        return compared(arguments, &comparison);
    }
    // Read before anything is measured, so that a bad file is told at once.
    let before = options.against.as_deref().map(Report::read).transpose()?;
    let report = measure(arguments, options)?;
    if let Some(before) = before {
        return compared(arguments, &Comparison::of(&before, &report));
    }
    if arguments.json {
        println!("{}", report::json(&report)?);
    } else {
        table::print(&report);
    }
    Ok(())
}

fn compared(arguments: &Cli, comparison: &Comparison) -> Result<()> {
    if arguments.json {
        println!("{}", report::json(comparison)?);
    } else {
        comparison.print();
    }
    Ok(())
}

fn measure(arguments: &Cli, options: &Bench) -> Result<Report> {
    if options.batch < 2 {
        return Err(Error::config("batch", "must be at least 2: a training step needs it"));
    }
    if !options.seconds.is_finite() || options.seconds < 0.0 {
        return Err(Error::config(
            "seconds",
            format!("must be a number of at least 0, is {}", options.seconds),
        ));
    }
    let subject = Subject::named(&options.model)?;
    let device = open_device(arguments)?;
    let mut report = Report::new(&device, &subject, options.batch);
    if !options.profile && !options.steps_only {
        for case in cases::all(options.batch, &Choices::of_device(&device)) {
            if wanted(options, &case.name) {
                report.lines.push(kernels::line(&device, case, options.seconds)?);
            }
        }
    }
    for step in Step::ALL {
        if !wanted(options, &step.name(&subject, options.batch)) {
            continue;
        }
        let mut ready = Ready::load(&device, &subject, step, options.batch)?;
        if options.profile {
            report.profiles.push(profile::profile(&mut ready, options.seconds)?);
        } else {
            report.lines.push(ready.measure(options.batch, options.seconds)?);
        }
    }
    if !options.profile {
        report.lines.extend(start_up::lines(arguments, options, &subject)?);
    }
    device.save_pipeline_cache();
    if report.lines.is_empty() && report.profiles.is_empty() {
        let only = options.only.as_deref().unwrap_or_default();
        return Err(Error::config("only", format!("no line's name contains {only:?}")));
    }
    Ok(report)
}

/// Whether `--only` lets a line through.
fn wanted(options: &Bench, name: &str) -> bool {
    options.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
}
