//! Commands that `mpirun` or `srun` started as several processes: which of them share the work, and how those do that compute parts.

use super::{eval, explain, merge, run_one, sample};
use crate::cli::{Cli, Command, Data, DataTask, Merge, Shard};
use crate::io::data::Reader;
use crate::io::output::{self, mute};
use crate::io::session::{data_spec, interrupted, load_checkpoint, watch_interrupts};
use crate::processes::{Folder, Launched, Processes, join};
use crate::shard::name;
use duet::{Error, Result};
use std::path::{Path, PathBuf};

/// What several processes make of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// One model, which they train together.
    Trained,
    /// Each computes a part, and the first one puts all parts together.
    Parts,
    /// Each does the same, and writes nothing that another one would replace.
    Alike,
    /// They would replace each other's files, or take each other's place: the command of this name is refused.
    Refused(&'static str),
}

/// What several processes make of this command.
pub fn shared(command: &Command) -> Shared {
    match command {
        Command::Train(_) => Shared::Trained,
        Command::Eval(_) | Command::Sample(_) | Command::Explain(_) => Shared::Parts,
        Command::Classify(_) | Command::Info(_) | Command::Bench(_) | Command::Data(DataTask::List) => {
            Shared::Alike
        }
        Command::Experiment(options) if options.names == ["list"] => Shared::Alike,
        Command::Check(options) if options.report.is_none() => Shared::Alike,
        Command::Data(DataTask::Info(options)) if options.sheet.is_none() => Shared::Alike,
        Command::Data(DataTask::Cache(options)) if !options.clear => Shared::Alike,
        Command::Frontier(_) => Shared::Refused("frontier"),
        Command::Place(_) => Shared::Refused("place"),
        Command::Merge(_) => Shared::Refused("merge"),
        Command::Study(_) => Shared::Refused("study"),
        Command::Experiment(_) => Shared::Refused("experiment"),
        Command::Audit(_) => Shared::Refused("audit"),
        Command::Serve(_) => Shared::Refused("serve"),
        Command::Export(_) => Shared::Refused("export"),
        Command::Import(_) => Shared::Refused("import"),
        Command::ExportImages(_) => Shared::Refused("export-images"),
        Command::Augment(_) => Shared::Refused("augment"),
        Command::Tune(_) => Shared::Refused("tune"),
        Command::Check(_) => Shared::Refused("check --report"),
        Command::Data(DataTask::Info(_)) => Shared::Refused("data info --sheet"),
        Command::Data(DataTask::Get(_)) => Shared::Refused("data get"),
        Command::Data(DataTask::Cache(_)) => Shared::Refused("data cache --clear"),
    }
}

/// Why a command is not run several times over.
pub fn refuse(name: &str, launched: &Launched) -> Error {
    let Launched { by, count } = launched;
    let detail = format!(
        "{by} started {count} processes, but duet {name} is the work of one, and each would write the same files: start it once \
         (train, eval, sample and explain share their work)"
    );
    Error::config("mpi", detail)
}

/// Computes a command in parts, each process its own, and merges them.
///
/// # Errors
/// What is wrong with any of them.
pub fn parts(arguments: &mut Cli) -> Result<()> {
    let processes = join()?;
    if !processes.is_first() {
        mute();
    }
    let outcome = together(arguments, &processes);
    processes.end(outcome)
}

/// As [`parts`], of these processes.
fn together(arguments: &mut Cli, processes: &Processes) -> Result<()> {
    let json = arguments.json;
    processes.agree(watch_interrupts())?;
    let own = [
        env!("CARGO_PKG_VERSION").to_owned(),
        format!("{:?}", (arguments.matmul_precision, &arguments.command)),
    ];
    processes.same("a command line or a version", &own.join(" "), "start all of them alike")?;
    let (count, rank) = (processes.count(), processes.rank());
    let shard = Shard::new(rank + 1, count)
        .ok_or_else(|| Error::config("mpi", format!("{count} processes are more than there can be parts")));
    let shard = processes.agree(shard)?;
    let command = name_of(&arguments.command);
    let options = arguments.command.parts().ok_or_else(|| Error::config("mpi", "no parts are known of it"));
    let options = processes.agree(options)?;
    processes.agree(options.check_undivided(count))?;
    let folder = Folder::of(processes, options.shards.as_deref(), "shards")?;
    processes.agree(options.assign(shard, folder.path().to_owned()))?;
    arguments.number = processes.local();
    check_tree(arguments, processes)?;
    decode_once(arguments, processes)?;
    let done = run_one(arguments).map(drop).and_then(|()| go_on());
    processes.settle(done, folder.remover(), move |text| output::error(text, json))?;
    let file = |number| Shard::new(number, count).map(|shard| folder.path().join(name(command, shard)));
    let files: Vec<PathBuf> = (1..=count).filter_map(file).collect();
    let merged = match processes.is_first() {
        true => go_on().and_then(|()| merge_here(arguments, files)),
        false => Ok(()),
    };
    // What was computed for hours outlives a full disk.
    let merged = match merged {
        Err(Error::Write { what, path, detail }) if folder.is_temporary() => {
            let there = folder.path().display().to_string();
            folder.keep();
            let detail = format!("{detail}; what was computed is in {there}, of which duet merge makes it");
            Err(Error::Write { what, path, detail })
        }
        merged => merged,
    };
    processes.agree(merged)
}

/// What parts of it are called; of a command that knows none nothing.
fn name_of(command: &Command) -> &'static str {
    match command {
        Command::Eval(_) => eval::NAME,
        Command::Sample(_) => sample::NAME,
        Command::Explain(options) if options.all => explain::ALL,
        Command::Explain(_) => explain::NAME,
        _ => "",
    }
}

/// Goes on unless it is asked to stop.
fn go_on() -> Result<()> {
    if interrupted() { Err(Error::Aborted) } else { Ok(()) }
}

/// Does what `duet merge` does of these files.
fn merge_here(arguments: &Cli, shards: Vec<PathBuf>) -> Result<()> {
    merge::run(arguments, &Merge { shards, out: None, npz: None, report: None })
}

/// Sees that processes on several machines write into one tree, of a command that makes one.
fn check_tree(arguments: &Cli, processes: &Processes) -> Result<()> {
    match &arguments.command {
        Command::Explain(options) if options.all && !processes.one_machine()? => {
            let root = options.out.as_deref().unwrap_or(Path::new("."));
            Folder::of(processes, Some(root), "out").map(drop)
        }
        _ => Ok(()),
    }
}

/// Lets one process of each machine decode the pictures of a data set, which the others find in the cache afterwards.
fn decode_once(arguments: &Cli, processes: &Processes) -> Result<()> {
    let (model, data) = match &arguments.command {
        Command::Eval(options) => (&options.model.model, &options.data),
        Command::Explain(options) if options.all && options.images.is_empty() => {
            (&options.model.model, &options.data)
        }
        _ => return Ok(()),
    };
    processes.one_before_others(|| {
        if processes.local() == 0 {
            // What is wrong is found again by all alike.
            drop(decode(arguments, model, data));
        }
    })
}

/// Decodes pictures into the cache.
fn decode(arguments: &Cli, model: &Path, data: &Data) -> Result<()> {
    let reader = Reader::of(arguments);
    if reader.cache.is_none() {
        return Ok(());
    }
    let (checkpoint, _) = load_checkpoint(model)?;
    let spec = data_spec(&checkpoint, data)?;
    if !spec.kind.is_folder() {
        return Ok(());
    }
    reader.load(&spec, checkpoint.model.in_channels, checkpoint.model.image_size).map(drop)
}
