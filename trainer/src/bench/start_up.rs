//! What is waited for before the first training step is done.

use super::profile;
use super::results::{Kind, Line, Profile};
use super::steps::{Ready, Step};
use super::{models::Subject, wanted};
use crate::cli::{Bench, Cli};
use duet::Result;
use duet::families::Choices;
use duet::gpu::{Device, DeviceOptions};
use std::time::Instant;

/// Opens a second device, without the pipelines that this program keeps between runs (a driver may keep its own), and
/// makes it ready to train.
///
/// # Errors
/// Device errors.
pub fn lines(arguments: &Cli, options: &Bench, subject: &Subject) -> Result<Vec<Line>> {
    let step = Step::TRAINING;
    let of_step = |kind: &str| format!("start-up: {kind}, {}", step.name(subject, options.batch));
    let names = ["start-up: open device".to_owned(), of_step("pipelines"), of_step("load and first step")];
    if !names.iter().any(|name| wanted(options, name)) {
        return Ok(Vec::new());
    }
    let mut lines = Vec::new();
    let mut add = |name: &String, start: Instant, pipelines: u64| {
        let mut line = Line::new(Kind::StartUp, name, start.elapsed().as_secs_f64(), &[]);
        line.pipelines = Some(pipelines);
        lines.push(line);
    };
    let start = Instant::now();
    let device = fresh(arguments)?;
    add(&names[0], start, 0);
    let plan = step.plan(subject, options.batch)?.chosen(&Choices::of_device(&device))?;
    let start = Instant::now();
    device.compile(plan.program());
    device.check()?;
    add(&names[1], start, device.counters().pipelines);
    let start = Instant::now();
    // Some drivers compile a pipeline at its first dispatch.
    Ready::load(&device, subject, step, options.batch)?.run()?;
    add(&names[2], start, device.counters().pipelines);
    lines.retain(|line| wanted(options, &line.name));
    Ok(lines)
}

/// A device without the pipelines that this program keeps between runs.
fn fresh(arguments: &Cli) -> Result<Device> {
    let options = DeviceOptions { adapter: arguments.gpu.clone(), ..DeviceOptions::default() };
    pollster::block_on(Device::open(&options))
}

/// Where the time until the first result goes, pipeline by pipeline: the first dispatch of each, on a device that has compiled none of
/// them, of what classifies and of the training step. Only where `--only` asks for it by name.
///
/// # Errors
/// Device errors.
pub fn profiles(arguments: &Cli, options: &Bench, subject: &Subject) -> Result<Vec<Profile>> {
    let mut profiles = Vec::new();
    for step in [Step::Classify, Step::TRAINING] {
        let name = format!("start-up: {}", step.name(subject, options.batch));
        let asked = options.only.as_ref().is_some_and(|only| only.starts_with("start-up"));
        if !asked || !wanted(options, &name) {
            continue;
        }
        let ready = Ready::load(&fresh(arguments)?, subject, step, options.batch)?;
        let mut seconds = Vec::new();
        for part in ready.executables() {
            seconds.extend(part.run_each()?);
        }
        profiles.push(profile::first_dispatches(name, &ready.plan.program().launches, &seconds));
    }
    Ok(profiles)
}
