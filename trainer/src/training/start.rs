//! How a run begins: everything that can be wrong is found before its first step.

use super::keep::{BEST, CHECKPOINT, Kept};
use super::labelled::{LABELLED, Labelled};
use super::lock::{Lock, PATIENCE};
use super::resume::{class_names, ended, initial, labels_fit, resumable};
use super::run::{Begin, METRICS, Run, SAMPLES};
use super::seen::Seen;
use super::{fit, grid, warn};
use crate::cli::{Cli, Resume, Train};
use crate::data::Split;
use crate::io::data::Reader;
use crate::io::files::{self, Kind};
use crate::io::output::say;
use crate::io::session::{load_checkpoint, open_device_of, watch_interrupts};
use crate::processes::Processes;
use crate::recipe::Recipe;
use duet::checkpoint::{Checkpoint, remove_temporaries};
use duet::gpu::Device;
use duet::{Error, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a run begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// It has no steps.
    Nowhere,
    /// At fresh weights.
    Fresh,
    /// At another model's.
    Initial,
    /// At a checkpoint of its own.
    Resumed,
}

/// What the first process has of the folder.
struct Opened {
    origin: Origin,
    /// The checkpoint's file, where other processes need it too.
    bytes: Vec<u8>,
    /// Of the folder as long as the run goes on.
    lock: Option<Lock>,
}

impl Opened {
    const ORIGINS: [Origin; 4] = [Origin::Nowhere, Origin::Fresh, Origin::Initial, Origin::Resumed];

    fn to_bytes(&self) -> Vec<u8> {
        let number = Self::ORIGINS.iter().position(|origin| *origin == self.origin).unwrap_or(0);
        [&[number as u8], self.bytes.as_slice()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Opened {
        let (number, bytes) =
            bytes.split_first().map_or((0, bytes), |(number, rest)| (usize::from(*number), rest));
        let origin = Self::ORIGINS.get(number).copied().unwrap_or(Origin::Nowhere);
        Opened { origin, bytes: bytes.to_vec(), lock: None }
    }
}

/// The checkpoint that a run of `origin` begins with.
fn source(options: &Train, origin: Origin) -> Option<PathBuf> {
    match origin {
        Origin::Nowhere | Origin::Fresh => None,
        Origin::Initial => options.init.clone(),
        Origin::Resumed => Some(options.from.clone().unwrap_or_else(|| options.folder().join(CHECKPOINT))),
    }
}

/// Makes sure of the run's folder, and takes it; with `shares` the checkpoint is read for other processes.
fn open(arguments: &Cli, options: &Train, recipe: &Recipe, shares: bool) -> Result<Opened> {
    let (json, out) = (arguments.json, &options.folder());
    if out.exists() && !out.is_dir() {
        let detail = format!("{} is a file; give a folder", out.display());
        return Err(Error::config("out", detail));
    }
    let newest = out.join(CHECKPOINT);
    if !goes_on(options, &newest)? && recipe.train.steps == 0 {
        return Ok(Opened { origin: Origin::Nowhere, bytes: Vec::new(), lock: None });
    }
    let metrics = out.join(METRICS);
    let inputs =
        [Some(&options.source), options.recipe.as_ref(), options.init.as_ref(), arguments.tuning.as_ref()];
    let inputs: Vec<&Path> = inputs.into_iter().flatten().map(PathBuf::as_path).collect();
    files::check_distinct(&[(Kind::Model, &newest), (Kind::Table, &metrics)], &inputs)?;
    if recipe.data.kind.is_folder() {
        files::check_apart(out, &recipe.data.path)?;
    }
    files::make_folder(out)?;
    let patience = if options.resume.is_some() { PATIENCE } else { Duration::ZERO };
    let lock = Lock::take(out, patience, json)?;
    remove_temporaries(out, |name| {
        [CHECKPOINT, BEST, METRICS].contains(&name)
            || name.starts_with(SAMPLES)
            || name.starts_with("checkpoint_")
    });
    // Once more: a run that had the lock until now may have saved.
    let origin = match (goes_on(options, &newest)?, &options.init) {
        (true, _) => Origin::Resumed,
        (false, Some(_)) => Origin::Initial,
        (false, None) => Origin::Fresh,
    };
    let bytes = match source(options, origin).filter(|_| shares) {
        Some(file) => std::fs::read(&file)
            .map_err(|error| Error::Checkpoint { path: file, detail: format!("cannot be read: {error}") })?,
        None => Vec::new(),
    };
    Ok(Opened { origin, bytes, lock: Some(lock) })
}

/// Trains by `recipe` into the folder of `options` until its end, Ctrl-C or the time is over, and saves; the data, as the model
/// numbers their classes, of a run that came to its end.
///
/// # Errors
/// Bad options, data or checkpoints; another run at work in the folder; a loss that is not finite, or a checkpoint that
/// cannot be saved (the last good one stays); device errors. Figures that cannot be measured or written and samples that
/// cannot be drawn are told and end nothing.
pub fn train(
    arguments: &Cli,
    options: &Train,
    mut recipe: Recipe,
    processes: &Processes,
) -> Result<Option<Split>> {
    let (json, out) = (arguments.json, &options.folder());
    let limit = processes.agree(time_limit(options.minutes))?;
    let shares = processes.count() > 1;
    let (opened, bytes) =
        processes.lead(|| open(arguments, options, &recipe, shares), |opened| Ok(opened.to_bytes()))?;
    let Opened { origin, bytes, lock: _lock } = opened.unwrap_or_else(|| Opened::from_bytes(&bytes));
    if origin == Origin::Nowhere {
        nothing_to_do(json, 0, 0, None, None);
        return Ok(None);
    }
    let (resumed, newest) = (origin == Origin::Resumed, out.join(CHECKPOINT));
    let file = options.from.clone().unwrap_or_else(|| newest.clone());
    let loaded = processes.one_before_others(|| {
        Reader::of(arguments).load(&recipe.data, recipe.model.in_channels, recipe.model.image_size)
    })?;
    let split = processes.agree(loaded)?;
    say!("{}", split.summary.text(json));
    split.summary.warnings.iter().for_each(|warning| warn(json, warning));
    let prepare = || -> Result<_> {
        labels_fit(&split.train, &recipe.model)?;
        let checkpoint = match source(options, origin) {
            Some(file) if shares => {
                let checkpoint = Checkpoint::from_bytes(&bytes, &file)?;
                checkpoint.joint_model(&file)?;
                Some(checkpoint)
            }
            Some(file) => Some(load_checkpoint(&file)?.0),
            None => None,
        };
        if recipe.model.class_names.is_empty() {
            let init = checkpoint.as_ref().filter(|_| origin == Origin::Initial);
            recipe.model.class_names = class_names(init, &split.train);
        }
        let absent = split.train.absent(&recipe.model);
        // Before data are compared with those of a checkpoint: labels that have come to mean other classes are other data.
        let split = split.for_model(&recipe.model, &recipe.data.path)?;
        if recipe.augment.is_on() && recipe.augment.border.is_empty() {
            recipe.augment.border = split.train.examples(&recipe.model)?.border();
        }
        let begin = match (checkpoint, origin, &options.init) {
            (Some(checkpoint), Origin::Resumed, _) => {
                Some(resumable(checkpoint, &file, &recipe, &split.train, options.override_settings, json)?)
            }
            (Some(checkpoint), _, Some(path)) => Some(initial(checkpoint, path, &recipe)?),
            _ => None,
        };
        let state = begin.as_ref().and_then(|checkpoint| checkpoint.training.as_ref());
        let mut labelled = Labelled::of(&split.train, &recipe.train)?;
        if let (Some(labelled), Some(state)) = (&mut labelled, state) {
            // Other ones are of settings or data that changed, which was refused or meant.
            let noted = state.recipe.get(LABELLED);
            if !noted.is_some_and(|noted| labelled.go_on(noted)) {
                warn(json, "other images have labels than before");
            }
        }
        Ok((split, absent, begin, labelled))
    };
    let (split, absent, begin, labelled) = processes.agree(prepare())?;
    let noted = serde_json::to_string(&recipe).map_err(|error| Error::config("recipe", error.to_string()));
    processes.same("a recipe", &processes.agree(noted)?, "give all of them the same")?;
    if shares {
        let help = "give all of them the same files";
        processes.same("training data", &split.train.fingerprint(), help)?;
    }
    let state = begin.as_ref().and_then(|checkpoint| checkpoint.training.as_ref());
    let (step, last) = state.map_or((0, None), |state| (state.step, state.last.as_ref()));
    if let Some(labelled) = &labelled {
        tell_labelled(json, labelled.len(), split.train.len());
    }
    if options.resume.is_some() {
        tell_begin(json, resumed, step, &file);
    }
    // Also of a run that was killed right after its last save: its last line may be missing.
    let metrics = out.join(METRICS);
    let seen = match processes.is_first() {
        true => Seen::open(&metrics, step, last, options, json),
        false => Seen::nothing(&metrics),
    };
    let part = super::evaluate::Part::of(&split, &recipe.train);
    let why = state.and_then(|state| ended(state, &recipe.train, &part));
    if step >= recipe.train.steps || why.is_some() {
        nothing_to_do(json, step, recipe.train.steps, Some(&file), why.as_deref());
        return Ok(Some(split));
    }
    if recipe.train.keep_best.is_some() && part.name == "test" {
        let detail = "the best checkpoint is chosen by the test part: its figures there are better than on images of later";
        warn(json, detail);
    }
    if !absent.is_empty() {
        let detail =
            format!("the data have no images of {}: these classes are not learnt", absent.join(", "));
        warn(json, &detail);
    }
    let device = processes.agree(ready(arguments, processes))?;
    let (trainer, cut) = fit::trainer(&device, &recipe, begin.as_ref(), processes, json)?;
    let shown = grid::shown(recipe.model.num_classes);
    if !recipe.train.classifier_only && shown < recipe.model.num_classes {
        let detail = format!("sample grids show the first {shown} of {} classes", recipe.model.num_classes);
        warn(json, &detail);
    }
    let kept = Kept::new(out, recipe.train.keep_last, (resumed && file == newest).then_some(step));
    let state = state.cloned();
    let begun = resumed.then_some(file);
    let processes = processes.clone();
    let begin = Begin {
        recipe,
        split,
        trainer,
        cut,
        kept,
        seen,
        labelled,
        state,
        begun,
        limit,
        json,
        processes: processes.clone(),
    };
    let mut run = processes.agree(Run::new(begin))?;
    let outcome = run.steps();
    if processes.is_first() {
        device.save_pipeline_cache();
    }
    Ok(outcome?.then(|| run.into_data()))
}

/// The device of this process, which computes what it should.
fn ready(arguments: &Cli, processes: &Processes) -> Result<Device> {
    let device = open_device_of(arguments, processes.local())?;
    watch_interrupts()?;
    // A driver that computes zeros would show only after hours, in a loss that does not fall.
    pollster::block_on(device.self_test())?;
    Ok(device)
}

/// Whether the run goes on: from the folder's checkpoint `newest`, or from another one that is named.
///
/// # Errors
/// A checkpoint that is in the way, or one that is missing.
pub fn goes_on(options: &Train, newest: &Path) -> Result<bool> {
    if options.from.is_some() {
        return Ok(true);
    }
    let out = options.folder();
    let folder = out.display();
    let there = newest
        .try_exists()
        .map_err(|e| Error::Data { path: newest.to_owned(), detail: format!("cannot be read: {e}") })?;
    match (there, options.resume) {
        (true, None) => {
            let detail = "holds a checkpoint already; give --resume to go on, or another --out";
            Err(Error::Data { path: out.clone(), detail: detail.into() })
        }
        (false, Some(Resume::Existing)) => {
            let detail = format!(
                "there is no checkpoint to go on from in {folder}; --resume=auto begins where there is none"
            );
            Err(Error::config("resume", detail))
        }
        (there, _) => Ok(there),
    }
}

/// The time after which a run saves and ends; `None`: never, which is also what is longer than clocks count.
fn time_limit(minutes: Option<f64>) -> Result<Option<Duration>> {
    let Some(minutes) = minutes else { return Ok(None) };
    if minutes.is_nan() || minutes < 0.0 {
        return Err(Error::config("minutes", format!("must be a number of at least 0, is {minutes}")));
    }
    Ok(Duration::try_from_secs_f64(60.0 * minutes).ok())
}

fn tell_labelled(json: bool, labelled: usize, images: usize) {
    if json {
        say!("{}", serde_json::json!({"labelled_images": labelled, "images": images}));
    } else {
        say!("the classifier learns from the labels of {labelled} of {images} training images");
    }
}

fn tell_begin(json: bool, resumed: bool, step: u64, file: &Path) {
    let file = file.display().to_string();
    if json {
        say!(
            "{}",
            serde_json::json!({"resumed": resumed, "step": step, "checkpoint": resumed.then_some(file)})
        );
    } else if resumed {
        say!("goes on from step {step} of {file}");
    } else {
        say!("begins at step 0: there is no {file} yet");
    }
}

/// `why` there is nothing left to do though not all steps are done.
fn nothing_to_do(json: bool, done: u64, steps: u64, file: Option<&Path>, why: Option<&str>) {
    if json {
        let file = file.map(|file| file.display().to_string());
        say!(
            "{}",
            serde_json::json!({"nothing_to_do": true, "step": done, "steps": steps, "checkpoint": file, "why": why})
        );
    } else {
        let why = why.map_or(String::new(), |why| format!(": {why}"));
        say!("nothing to do: {done} of {steps} steps are done{why}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_checked_and_endless_ones_are_no_limit() {
        assert_eq!(time_limit(None).unwrap(), None);
        assert_eq!(time_limit(Some(0.5)).unwrap(), Some(Duration::from_secs(30)));
        assert_eq!(time_limit(Some(0.0)).unwrap(), Some(Duration::ZERO));
        for endless in [f64::INFINITY, 1e300, f64::MAX, 1e20] {
            assert_eq!(time_limit(Some(endless)).unwrap(), None, "{endless}");
        }
        for bad in [f64::NAN, -1.0, f64::NEG_INFINITY, -1e-300] {
            let error = time_limit(Some(bad)).unwrap_err().to_string();
            assert!(error.starts_with("minutes: ") && error.contains("at least 0"), "{error}");
        }
    }
}
