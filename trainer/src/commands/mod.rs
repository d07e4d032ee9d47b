//! One file per command.

mod audit;
mod augment;
mod bench;
mod check;
mod classify;
mod data;
mod eval;
mod experiment;
mod explain;
mod export;
mod export_images;
mod export_onnx;
mod frontier;
mod import;
mod info;
mod limits;
mod merge;
mod network;
mod place;
mod sample;
mod serve;
mod signed;
mod study;
mod together;
mod train;
mod tune;

use crate::cli::{self, Cli, Command};
use crate::processes::Launched;
use duet::{Error, Result};
use together::Shared;

/// What a command answers beyond what it prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It did what it should.
    Done,
    /// An audit found what it looked for.
    Found,
}

/// Runs what the command line asks for; what it answers, where an exit code says it. Of processes that were started together each runs
/// its share.
///
/// # Errors
/// Numbers out of range; whatever the command reports; several processes where one would overwrite the other's files.
pub fn run(arguments: &mut Cli) -> Result<Answer> {
    match Launched::here().map(|launched| (together::shared(&arguments.command), launched)) {
        Some((Shared::Parts, _)) => together::parts(arguments).map(|()| Answer::Done),
        Some((Shared::Refused(name), launched)) => Err(together::refuse(name, &launched)),
        _ => run_one(arguments),
    }
}

/// As [`run`], without a look at other processes.
fn run_one(arguments: &Cli) -> Result<Answer> {
    limits::check(arguments)?;
    refuse_parts(&arguments.command)?;
    match &arguments.command {
        Command::Train(options) => train::run(arguments, options),
        Command::Classify(options) => classify::run(arguments, options),
        Command::Eval(options) => eval::run(arguments, options),
        Command::Frontier(options) => frontier::run(arguments, options),
        Command::Place(options) => place::run(arguments, options),
        Command::Sample(options) => sample::run(arguments, options),
        Command::Explain(options) => explain::run(arguments, options),
        Command::Merge(options) => merge::run(arguments, options),
        Command::Experiment(options) => experiment::run(arguments, options),
        Command::Study(options) => study::run(arguments, options),
        Command::Serve(options) => serve::run(arguments, options),
        Command::Info(options) => info::run(arguments, options),
        Command::Export(options) => export::run(arguments, options),
        Command::Import(options) => import::run(arguments, options),
        Command::ExportImages(options) => export_images::run(arguments, options),
        Command::Data(task) => data::run(arguments, task),
        Command::Augment(options) => augment::run(arguments, options),
        Command::Bench(options) => bench::run(arguments, options),
        Command::Tune(options) => tune::run(arguments, options),
        Command::Check(options) => check::run(arguments, options),
        Command::Audit(options) => return audit::run(arguments, options),
    }?;
    Ok(Answer::Done)
}

/// Refuses to compute everything where the environment asks for a part: as many processes would do the same as there are parts.
fn refuse_parts(command: &Command) -> Result<()> {
    let name = match command {
        Command::Classify(_) => "classify",
        Command::Frontier(_) => "frontier",
        Command::Place(_) => "place",
        Command::Study(_) => "study",
        Command::Experiment(_) => "experiment",
        Command::Audit(_) => "audit",
        _ => return Ok(()),
    };
    match std::env::var(cli::SHARD) {
        Ok(part) if !part.is_empty() => {
            let detail = format!(
                "is {part}, but duet {name} is not computed in parts (eval, sample and explain are): unset it to compute all of it"
            );
            Err(Error::config(cli::SHARD, detail))
        }
        _ => Ok(()),
    }
}
