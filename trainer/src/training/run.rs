//! A run: steps, and at some of them a checkpoint first, then what looks at it: tests of accuracy, log lines, sample grids.

use super::lock::Lock;
use super::log::Log;
use super::resume::{class_names, initial, labels_fit, resumable};
use super::{fit, grid, warn};
use crate::cli::{Cli, Resume, Train};
use crate::data::{Dataset, Split, load};
use crate::eval::accuracy::{TEST_ACCURACY, TEST_IMAGES, accuracy};
use crate::io::files::{self, Kind};
use crate::io::output::{progress, say};
use crate::io::session::{interrupted, open_device, watch_interrupts};
use crate::recipe::Recipe;
use duet::checkpoint::{Figures, remove_temporaries};
use duet::model::WeightSet;
use duet::train::{Batch, BatchOrder, Metrics, Trainer};
use duet::{Error, Result};
use indicatif::ProgressBar;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Name of the checkpoint inside a run's folder.
pub const CHECKPOINT: &str = "checkpoint.safetensors";
/// Name of the log.
const LOG: &str = "log.csv";
/// Beginning of the sample grids' names.
const SAMPLES: &str = "samples_";
/// Images classified at once during training.
const EVAL_BATCH: usize = 32;

/// Trains by `recipe` into the folder of `options` until its end, Ctrl-C or the time is over, and saves.
///
/// # Errors
/// Bad options, data or checkpoints; another run at work in the folder; a loss that is not finite, or a checkpoint that
/// cannot be saved (the last good one stays); device errors. Accuracy that cannot be measured, log lines that cannot be
/// written and samples that cannot be drawn are told and end nothing.
pub fn train(arguments: &Cli, options: &Train, mut recipe: Recipe) -> Result<()> {
    let json = arguments.json;
    let limit = time_limit(options.minutes)?;
    if options.out.exists() && !options.out.is_dir() {
        let detail = format!("{} is a file; give a folder", options.out.display());
        return Err(Error::config("out", detail));
    }
    let file = options.out.join(CHECKPOINT);
    if !goes_on(options, &file)? && recipe.train.steps == 0 {
        nothing_to_do(json, 0, 0, None);
        return Ok(());
    }
    let inputs = [Some(&options.recipe), options.init.as_ref(), arguments.tuning.as_ref()];
    let inputs: Vec<&Path> = inputs.into_iter().flatten().map(PathBuf::as_path).collect();
    files::check_distinct(&[(Kind::Model, &file), (Kind::Table, &options.out.join(LOG))], &inputs)?;
    if recipe.data.kind.is_folder() {
        files::check_apart(&options.out, &recipe.data.path)?;
    }
    files::make_folder(&options.out)?;
    let _lock = Lock::take(&options.out, json)?;
    remove_temporaries(&options.out, |name| name == CHECKPOINT || name == LOG || name.starts_with(SAMPLES));
    // Once more: a run that had the lock until now may have saved.
    let resumed = goes_on(options, &file)?;
    let split = load(&recipe.data, recipe.model.in_channels, recipe.model.image_size)?;
    say!("{}", split.summary.text(json));
    split.summary.warnings.iter().for_each(|warning| warn(json, warning));
    labels_fit(&split.train, &recipe.model)?;
    if recipe.model.class_names.is_empty() {
        recipe.model.class_names = class_names(options.init.as_deref(), &split.train)?;
    }
    let absent = split.train.absent(&recipe.model);
    // Before data are compared with those of a checkpoint: labels that have come to mean other classes are other data.
    let split = split.for_model(&recipe.model, &recipe.data.path)?;
    let begin = match (resumed, &options.init) {
        (true, _) => Some(resumable(&file, &recipe, &split.train, options.override_settings, json)?),
        (false, Some(path)) => Some(initial(path, &recipe)?),
        (false, None) => None,
    };
    let state = begin.as_ref().and_then(|checkpoint| checkpoint.training.as_ref());
    let (step, last) = state.map_or((0, None), |state| (state.step, state.last.as_ref()));
    if options.resume.is_some() {
        tell_begin(json, resumed, step, &file);
    }
    // Also of a run that was killed right after its last save: its last row may be missing.
    let log = match Log::open(&options.out.join(LOG), step, last) {
        Ok(log) => Some(log),
        Err(error) => {
            warn(json, &format!("training without a log: {error}"));
            None
        }
    };
    if step >= recipe.train.steps {
        nothing_to_do(json, step, recipe.train.steps, Some(&file));
        return Ok(());
    }
    let fingerprint = split.train.fingerprint();
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
    let mut run = Run {
        folder: options.out.clone(),
        order: BatchOrder::new(split.train.len(), recipe.train.seed),
        recipe,
        split,
        trainer,
        cut,
        log,
        log_failed: false,
        fingerprint,
        started: Instant::now(),
        limit,
        json,
    };
    let outcome = run.steps();
    device.save_pipeline_cache();
    outcome
}

/// Whether the run goes on from the folder's checkpoint `file`.
fn goes_on(options: &Train, file: &Path) -> Result<bool> {
    let folder = options.out.display();
    let there = file
        .try_exists()
        .map_err(|e| Error::Data { path: file.to_owned(), detail: format!("cannot be read: {e}") })?;
    match (there, options.resume) {
        (true, None) => {
            let detail = "holds a checkpoint already; give --resume to go on, or another --out";
            Err(Error::Data { path: options.out.clone(), detail: detail.into() })
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

fn nothing_to_do(json: bool, done: u64, steps: u64, file: Option<&Path>) {
    if json {
        let file = file.map(|file| file.display().to_string());
        say!(
            "{}",
            serde_json::json!({"nothing_to_do": true, "step": done, "steps": steps, "checkpoint": file})
        );
    } else {
        say!("nothing to do: {done} of {steps} steps are done");
    }
}

struct Run {
    folder: PathBuf,
    recipe: Recipe,
    split: Split,
    trainer: Trainer,
    /// Into how many micro-batches steps are cut, where that is not the recipe's number.
    cut: Option<usize>,
    order: BatchOrder,
    log: Option<Log>,
    /// Whether the last row could not be written, which is told once.
    log_failed: bool,
    fingerprint: String,
    started: Instant,
    limit: Option<Duration>,
    json: bool,
}

/// What is due after a step.
struct Due {
    log: bool,
    eval: bool,
    sample: bool,
    save: bool,
    /// The run ends here.
    end: bool,
}

impl Run {
    fn steps(&mut self) -> Result<()> {
        let (steps, first) = (self.recipe.train.steps, self.trainer.step());
        let template = "{elapsed_precise} {wide_bar} {pos}/{len} {msg} ETA {eta}";
        let bar = progress(steps, first, template, self.json);
        let (mut since, mut since_step) = (Instant::now(), first);
        loop {
            let step = self.trainer.step();
            let batch = self.batch(step)?;
            let rate = self.recipe.train.rate_at(step);
            self.trainer.train_step(&batch, rate)?;
            let step = step + 1;
            bar.inc(1);
            let due = self.due(step);
            if due.log || due.eval || due.save || due.sample || due.end {
                // A loss that is not finite ends the run here, before anything is saved over a good checkpoint.
                let metrics = pollster::block_on(self.trainer.metrics())?;
                let images = (step - since_step) as f64 * self.recipe.train.batch_size as f64;
                self.look(&due, &metrics, rate, images / since.elapsed().as_secs_f64(), &bar)?;
                (since, since_step) = (Instant::now(), step);
            } else if step.is_multiple_of(4) {
                // The queue must not run ahead of the device by more than a few steps, or Ctrl-C would wait for it.
                self.trainer.weights().device().wait()?;
            }
            if due.end {
                break;
            }
        }
        bar.finish_and_clear();
        let why = if interrupted() { " (interrupted)" } else { "" };
        let path = self.folder.join(CHECKPOINT);
        let (step, seconds) = (self.trainer.step(), self.started.elapsed().as_secs());
        if self.json {
            let path = path.display().to_string();
            say!("{}", serde_json::json!({"step": step, "seconds": seconds, "checkpoint": path}));
        } else {
            say!("step {step} of {steps} after {seconds} s{why}; saved {}", path.display());
        }
        Ok(())
    }

    fn due(&self, step: u64) -> Due {
        let train = &self.recipe.train;
        let due = |every: u64| every > 0 && step.is_multiple_of(every);
        let last = step >= train.steps;
        let out_of_time = self.limit.is_some_and(|limit| self.started.elapsed() >= limit);
        Due {
            log: due(train.log_every),
            eval: due(train.eval_every) || last,
            sample: !train.classifier_only && (due(train.sample_every) || last),
            save: due(train.save_every),
            end: last || interrupted() || out_of_time,
        }
    }

    /// Saves, then looks at what was saved. Only saving can fail: the rest may take long, hang or crash, and is needed for
    /// nothing.
    fn look(&mut self, due: &Due, metrics: &Metrics, rate: f64, speed: f64, bar: &ProgressBar) -> Result<()> {
        let mut figures = self.figures(metrics, rate, speed);
        if due.save || due.eval || due.sample || due.end {
            self.save(&figures)?;
        }
        bar.set_message(format!("{} {speed:.1} images/s", self.losses(metrics, " ")));
        // Who presses Ctrl-C does not wait for a test.
        let accuracy = if due.eval && !interrupted() {
            let accuracy = self.evaluate();
            self.unless_failed("test accuracy could not be measured", accuracy, bar)
        } else {
            None
        };
        if let Some(accuracy) = accuracy {
            figures.values.insert("test_accuracy".into(), accuracy);
        }
        self.write_log(&figures, metrics, speed, accuracy, bar);
        if accuracy.is_some() {
            self.save(&figures)?;
        }
        if due.sample && !interrupted() {
            let path = self.folder.join(format!("{SAMPLES}{:07}.png", figures.step));
            let drawn = match grid::draw(self.trainer.weights(), &self.recipe, &path) {
                // Ctrl-C ends the picture alone.
                Err(Error::Aborted) => Ok(()),
                other => other,
            };
            self.unless_failed("samples could not be drawn", drawn, bar);
        }
        Ok(())
    }

    /// The outcome of what is no part of training; an error is told.
    fn unless_failed<T>(&self, what: &str, outcome: Result<T>, bar: &ProgressBar) -> Option<T> {
        let error = match outcome {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let step = self.trainer.step();
        bar.suspend(|| warn(self.json, &format!("step {step}: {what}: {error}; training goes on")));
        None
    }

    fn batch(&mut self, step: u64) -> Result<Batch> {
        let train = &self.recipe.train;
        let examples = self.split.train.examples(&self.recipe.model)?;
        examples.next(&mut self.order, step, train.batch_size, train.flip)
    }

    fn evaluate(&self) -> Result<f64> {
        let test: &Dataset = &self.split.test;
        let count = self.eval_images();
        Ok(accuracy(self.trainer.weights(), WeightSet::Averaged, test, count, EVAL_BATCH, true)?.share)
    }

    /// Test images that accuracy is measured on.
    fn eval_images(&self) -> usize {
        match self.recipe.train.eval_images {
            0 => self.split.test.len(),
            wanted => wanted.min(self.split.test.len()),
        }
    }

    /// What was measured at the step that was just done; a checkpoint holds finite numbers alone.
    fn figures(&self, metrics: &Metrics, rate: f64, speed: f64) -> Figures {
        let values = [
            ("seconds", self.started.elapsed().as_secs_f64()),
            ("loss", f64::from(metrics.loss)),
            ("mse", f64::from(metrics.mse)),
            ("classifier_loss", f64::from(metrics.classifier_loss)),
            ("vb", f64::from(metrics.vb)),
            ("learning_rate", rate),
            ("images_per_second", speed),
        ];
        let measured = |name: &str| !self.recipe.train.classifier_only || !["mse", "vb"].contains(&name);
        let finite = values.into_iter().filter(|(name, value)| value.is_finite() && measured(name));
        Figures { step: self.trainer.step(), values: finite.map(|(name, v)| (name.to_owned(), v)).collect() }
    }

    fn write_log(
        &mut self,
        figures: &Figures,
        metrics: &Metrics,
        speed: f64,
        accuracy: Option<f64>,
        bar: &ProgressBar,
    ) {
        if let Some(log) = &mut self.log {
            let written = log.write(figures);
            let failed = written.is_err();
            if !(failed && self.log_failed) {
                self.unless_failed("the log is incomplete", written, bar);
            }
            self.log_failed = failed;
        }
        let step = figures.step;
        if self.json {
            let denoises = !self.recipe.train.classifier_only;
            let row = serde_json::json!({
                "step": step, "seconds": figures.values.get("seconds"), "loss": metrics.loss,
                "mse": denoises.then_some(metrics.mse), "classifier_loss": metrics.classifier_loss,
                "vb": denoises.then_some(metrics.vb), "learning_rate": figures.values.get("learning_rate"), "images_per_second": speed,
                "test_accuracy": accuracy, "gradient_norm": metrics.gradient_norm,
            });
            say!("{row}");
        } else if bar.is_hidden() || accuracy.is_some() {
            let text = accuracy.map_or(String::new(), |a| format!("  test accuracy {:.2} %", 100.0 * a));
            let losses = self.losses(metrics, "  ");
            bar.suspend(|| say!("step {step}  {losses}  {speed:.1} images/s{text}"));
        }
    }

    /// The losses there are, to read.
    fn losses(&self, metrics: &Metrics, between: &str) -> String {
        let Metrics { loss, mse, classifier_loss, .. } = metrics;
        if self.recipe.train.classifier_only {
            return format!("loss {loss:.4}");
        }
        format!("loss {loss:.4}{between}mse {mse:.4}{between}ce {classifier_loss:.4}")
    }

    fn save(&self, figures: &Figures) -> Result<()> {
        let mut checkpoint = pollster::block_on(self.trainer.checkpoint())?;
        let describe = |detail: serde_json::Error| Error::config("recipe", detail.to_string());
        if let Some(state) = &mut checkpoint.training {
            let noted = Recipe { data: self.recipe.data.noted(), ..self.recipe.clone() };
            state.recipe = serde_json::to_value(&noted).map_err(describe)?;
            if let (Some(parts), Some(noted)) = (self.cut, state.recipe.as_object_mut()) {
                noted.insert(fit::CUT.into(), parts.into());
            }
            state.data_fingerprint.clone_from(&self.fingerprint);
            state.last = Some(figures.clone());
        }
        checkpoint.pictures = self.recipe.data.pictures();
        let data = serde_json::to_string(&self.recipe.data.noted()).map_err(describe)?;
        checkpoint.info.insert("data".into(), data);
        checkpoint.info.insert("steps".into(), self.trainer.step().to_string());
        checkpoint.info.insert("seed".into(), self.recipe.train.seed.to_string());
        // Of these very weights, whose average is what is exported: what a judge is worth stands beside its figures.
        if let Some(accuracy) = figures.values.get("test_accuracy") {
            checkpoint.info.insert(TEST_ACCURACY.into(), accuracy.to_string());
            checkpoint.info.insert(TEST_IMAGES.into(), self.eval_images().to_string());
        }
        checkpoint.save(&self.folder.join(CHECKPOINT))
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
