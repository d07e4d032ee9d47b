//! Trainings, each in a folder and a process of its own, done once: what is noted of them, and several at a time.

use super::lab::Trained;
use super::process;
use crate::cli::Cli;
use crate::io::files::{self, Kind};
use crate::io::output::{progress, tell, time};
use duet::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// What is noted of a training, in its folder.
const NOTE: &str = "experiment.json";
/// What a training says whose folder holds one of other settings.
const EARLIER: [&str; 2] = ["was trained otherwise", "is of another network"];

/// What is noted of a training.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Note {
    /// Its recipe.
    recipe: String,
    /// A hash of the checkpoint that it begins with.
    init: Option<String>,
    /// How long it took, where it is over.
    seconds: Option<f64>,
}

impl Note {
    fn read(path: &Path) -> Option<Note> {
        serde_json::from_slice(&files::whole(path).ok()?).ok()
    }

    fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).map_err(|error| Error::config("note", error.to_string()))?;
        Kind::Table.write(path, &text)
    }
}

/// How a training stands.
#[derive(Debug)]
pub enum State {
    /// It is over and took so many seconds.
    Done(f64),
    /// It is to be done.
    Wanted(Job),
}

/// A training to be done.
#[derive(Debug)]
pub struct Job {
    /// What it is called.
    name: String,
    /// Its folder.
    pub folder: PathBuf,
    recipe_file: PathBuf,
    steps: u64,
    /// What is noted of it.
    note: Note,
    /// What it begins with, where it has not begun yet.
    init: Option<PathBuf>,
}

/// How the training of `trained` in `folder` stands, which begins with the weights of `init`.
///
/// # Errors
/// One that was begun with other weights.
pub fn state(name: String, folder: PathBuf, trained: &Trained, init: Option<&Path>) -> Result<State> {
    let text =
        toml::to_string(&trained.recipe).map_err(|error| Error::config("recipe", error.to_string()))?;
    let hash = init.map(fingerprint).transpose()?;
    let known = Note::read(&folder.join(NOTE));
    match known.as_ref().filter(|known| known.init == hash) {
        Some(Note { recipe, seconds: Some(seconds), .. }) if *recipe == text => {
            return Ok(State::Done(*seconds));
        }
        None if known.is_some() && trained.checkpoint.is_file() => {
            let detail = "was begun with the weights of another model (remove this folder to begin anew)";
            return Err(Error::Data { path: folder, detail: detail.into() });
        }
        _ => {}
    }
    Ok(State::Wanted(Job {
        name,
        folder,
        recipe_file: trained.recipe_file.clone(),
        steps: trained.recipe.train.steps,
        note: Note { recipe: text, init: hash, seconds: None },
        init: init.filter(|_| !trained.checkpoint.is_file()).map(Path::to_owned),
    }))
}

/// A hash of a file's contents.
fn fingerprint(path: &Path) -> Result<String> {
    let failed = |error: std::io::Error| Error::Data {
        path: path.to_owned(),
        detail: format!("cannot be read: {error}"),
    };
    Ok(blake3::hash(&files::whole(path).map_err(failed)?).to_hex().to_string())
}

/// Does them, `at_once` at a time; how long they took together, in seconds. Where one fails, the others are asked to save and end,
/// and none is begun.
///
/// # Errors
/// What the first one says that fails; [`Error::Aborted`] where they were stopped.
pub fn run(arguments: &Cli, jobs: &[Job], at_once: usize, quiet: bool) -> Result<f64> {
    let steps = jobs.iter().map(|job| job.steps).sum();
    let what = match jobs {
        [] => return Ok(0.0),
        [job] => job.name.clone(),
        _ => format!("{} trainings", jobs.len()),
    };
    let bar = progress(steps, 0, &format!("{what} {{wide_bar}} {{pos}}/{{len}} steps {{eta}}"), quiet);
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    let taken = Mutex::new(0.0);
    let work = || {
        while !stop.load(Relaxed)
            && let Some(job) = jobs.get(next.fetch_add(1, Relaxed))
        {
            let mut before = 0;
            let done = job.run(arguments, &stop, |step| {
                bar.inc(step.saturating_sub(before));
                before = before.max(step);
            });
            match done {
                Ok(seconds) => {
                    *taken.lock().unwrap_or_else(PoisonError::into_inner) += seconds;
                    if !quiet {
                        bar.suspend(|| {
                            tell!("duet: {}: {} steps in {}", job.name, job.steps, time(seconds));
                        });
                    }
                }
                Err(error) => {
                    stop.store(true, Relaxed);
                    let mut first = failure.lock().unwrap_or_else(PoisonError::into_inner);
                    first.get_or_insert(error);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..at_once.clamp(1, jobs.len()) {
            scope.spawn(work);
        }
    });
    bar.finish_and_clear();
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(taken.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

impl Job {
    /// Trains; how long it took in seconds.
    fn run(&self, arguments: &Cli, stop: &AtomicBool, mut at: impl FnMut(u64)) -> Result<f64> {
        files::make_folder(&self.folder)?;
        let note = self.folder.join(NOTE);
        Kind::Table.write(&self.recipe_file, self.note.recipe.as_bytes())?;
        self.note.write(&note)?;
        let mut words: Vec<String> =
            vec!["train".into(), shown(&self.recipe_file), "--out".into(), shown(&self.folder)];
        match &self.init {
            Some(init) => words.extend(["--init".into(), shown(init)]),
            None => words.push("--resume=auto".into()),
        }
        let begun = Instant::now();
        let ran = process::run(arguments, &words, &self.folder, stop, |line| {
            if let Some(step) = line.get("step").and_then(Value::as_u64) {
                at(step);
            }
        });
        ran.map_err(|error| match error {
            Error::Data { path, detail } if EARLIER.iter().any(|words| detail.contains(words)) => {
                let detail = format!("{detail} (remove this folder to begin anew)");
                Error::Data { path, detail }
            }
            other => other,
        })?;
        let seconds = begun.elapsed().as_secs_f64();
        Note { seconds: Some(seconds), ..self.note.clone() }.write(&note)?;
        Ok(seconds)
    }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
