//! Kernels and whole steps timed on this device. Compare ratios of one run, not figures of two machines.

mod case;
mod cases;
pub mod compare;
mod fusion;
mod kernels;
mod models;
mod profile;
pub mod results;
mod roofline;
mod start_up;
mod steps;
pub mod table;
mod timing;

use crate::cli::{Bench, Cli};
use crate::io::session::open_device;
use duet::families::Choices;
use duet::{Error, Result};
use models::Subject;
use results::Results;
use steps::{Ready, Step};

/// Measures what the options ask for.
///
/// # Errors
/// Bad options; device errors.
pub fn measure(arguments: &Cli, options: &Bench) -> Result<Results> {
    let subject = Subject::named(&options.model)?;
    let device = open_device(arguments)?;
    let mut results = Results::new(&device, &subject, options.batch);
    let profiles = options.profile || options.roofline;
    if options.roofline {
        results.peaks = Some(roofline::peaks(&device, options.seconds)?);
    }
    if !profiles && !options.steps_only {
        for case in cases::all(options.batch, &Choices::of_device(&device)) {
            if wanted(options, &case.name) {
                results.lines.push(kernels::line(&device, case, options.seconds)?);
            }
        }
    }
    for step in Step::ALL {
        if !wanted(options, &step.name(&subject, options.batch)) {
            continue;
        }
        let mut ready = Ready::load(&device, &subject, step, options.batch)?;
        if profiles {
            let peaks = results.peaks.as_ref();
            results.profiles.push(profile::profile(&mut ready, options.seconds, peaks)?);
        } else {
            results.lines.push(ready.measure(options.batch, options.seconds)?);
        }
    }
    if profiles {
        results.profiles.extend(start_up::profiles(arguments, options, &subject)?);
    } else {
        results.lines.extend(start_up::lines(arguments, options, &subject)?);
    }
    device.save_pipeline_cache();
    if results.lines.is_empty() && results.profiles.is_empty() {
        let only = options.only.as_deref().unwrap_or_default();
        return Err(Error::config("only", format!("no line's name contains {only:?}")));
    }
    Ok(results)
}

/// Whether `--only` lets a line through.
fn wanted(options: &Bench, name: &str) -> bool {
    options.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
}
