//! How a run begins: everything that can be wrong is found before its first step.

use super::keep::{BEST, CHECKPOINT, Kept};
use super::labelled::{LABELLED, Labelled};
use super::lock::Lock;
use super::resume::{class_names, ended, initial, labels_fit, resumable};
use super::run::{Begin, METRICS, Run, SAMPLES};
use super::seen::Seen;
use super::{fit, grid, warn};
use crate::cli::{Cli, Resume, Train};
use crate::data::Split;
use crate::io::data::Reader;
use crate::io::files::{self, Kind};
use crate::io::output::say;
use crate::io::session::{open_device, watch_interrupts};
use crate::recipe::Recipe;
use duet::checkpoint::remove_temporaries;
use duet::{Error, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Trains by `recipe` into the folder of `options` until its end, Ctrl-C or the time is over, and saves; the data, as the model
/// numbers their classes, of a run that came to its end.
///
/// # Errors
/// Bad options, data or checkpoints; another run at work in the folder; a loss that is not finite, or a checkpoint that
/// cannot be saved (the last good one stays); device errors. Figures that cannot be measured or written and samples that
/// cannot be drawn are told and end nothing.
pub fn train(arguments: &Cli, options: &Train, mut recipe: Recipe) -> Result<Option<Split>> {
    let (json, out) = (arguments.json, &options.folder());
    let limit = time_limit(options.minutes)?;
    if out.exists() && !out.is_dir() {
        let detail = format!("{} is a file; give a folder", out.display());
        return Err(Error::config("out", detail));
    }
    let newest = out.join(CHECKPOINT);
    if !goes_on(options, &newest)? && recipe.train.steps == 0 {
        nothing_to_do(json, 0, 0, None, None);
        return Ok(None);
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
    let _lock = Lock::take(out, json)?;
    remove_temporaries(out, |name| {
        [CHECKPOINT, BEST, METRICS].contains(&name)
            || name.starts_with(SAMPLES)
            || name.starts_with("checkpoint_")
    });
    // Once more: a run that had the lock until now may have saved.
    let resumed = goes_on(options, &newest)?;
    let file = options.from.clone().unwrap_or_else(|| newest.clone());
    let split =
        Reader::of(arguments).load(&recipe.data, recipe.model.in_channels, recipe.model.image_size)?;
    say!("{}", split.summary.text(json));
    split.summary.warnings.iter().for_each(|warning| warn(json, warning));
    labels_fit(&split.train, &recipe.model)?;
    if recipe.model.class_names.is_empty() {
        recipe.model.class_names = class_names(options.init.as_deref(), &split.train)?;
    }
    let absent = split.train.absent(&recipe.model);
    // Before data are compared with those of a checkpoint: labels that have come to mean other classes are other data.
    let split = split.for_model(&recipe.model, &recipe.data.path)?;
    if recipe.augment.is_on() && recipe.augment.border.is_empty() {
        recipe.augment.border = split.train.examples(&recipe.model)?.border();
    }
    let begin = match (resumed, &options.init) {
        (true, _) => Some(resumable(&file, &recipe, &split.train, options.override_settings, json)?),
        (false, Some(path)) => Some(initial(path, &recipe)?),
        (false, None) => None,
    };
    let state = begin.as_ref().and_then(|checkpoint| checkpoint.training.as_ref());
    let (step, last) = state.map_or((0, None), |state| (state.step, state.last.as_ref()));
    let mut labelled = Labelled::of(&split.train, &recipe.train)?;
    if let (Some(labelled), Some(state)) = (&mut labelled, state) {
        // Other ones are of settings or data that changed, which was refused or meant.
        let noted = state.recipe.get(LABELLED);
        if !noted.is_some_and(|noted| labelled.go_on(noted)) {
            warn(json, "other images have labels than before");
        }
    }
    if let Some(labelled) = &labelled {
        tell_labelled(json, labelled.len(), split.train.len());
    }
    if options.resume.is_some() {
        tell_begin(json, resumed, step, &file);
    }
    // Also of a run that was killed right after its last save: its last line may be missing.
    let seen = Seen::open(&metrics, step, last, options, json);
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
    let device = open_device(arguments)?;
    watch_interrupts()?;
    // A driver that computes zeros would show only after hours, in a loss that does not fall.
    pollster::block_on(device.self_test())?;
    let (trainer, cut) = fit::trainer(&device, &recipe, begin.as_ref(), json)?;
    let shown = grid::shown(recipe.model.num_classes);
    if !recipe.train.classifier_only && shown < recipe.model.num_classes {
        let detail = format!("sample grids show the first {shown} of {} classes", recipe.model.num_classes);
        warn(json, &detail);
    }
    let kept = Kept::new(out, recipe.train.keep_last, (resumed && file == newest).then_some(step));
    let state = state.cloned();
    let begun = resumed.then_some(file);
    let mut run =
        Run::new(Begin { recipe, split, trainer, cut, kept, seen, labelled, state, begun, limit, json })?;
    let outcome = run.steps();
    device.save_pipeline_cache();
    Ok(outcome?.then(|| run.into_data()))
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
