//! A run: steps, log lines, sample grids, tests of accuracy and checkpoints.

use super::resume::{class_names, initial, labels_fit, resumable};
use crate::cli::{Cli, Train};
use crate::data::{Dataset, Split, load};
use crate::eval::accuracy::accuracy;
use crate::io::output::progress;
use crate::io::render::Grid;
use crate::io::session::{go_on, interrupted, open_device, watch_interrupts};
use crate::recipe::Recipe;
use duet::checkpoint::{Figures, write_atomic};
use duet::diffusion::Solver;
use duet::model::{JointModel, WeightSet};
use duet::rng::Seed;
use duet::sampling::{ChainOptions, Guidance, Sampler, StepSpec, Watch};
use duet::train::{Batch, BatchOrder, ClassifierInput, Metrics, Trainer};
use duet::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Name of the checkpoint inside a run's folder.
const CHECKPOINT: &str = "checkpoint.safetensors";
/// Images classified at once during training.
const EVAL_BATCH: usize = 32;
/// Samples per class in the periodic grid.
const GRID_COLUMNS: usize = 4;

/// Trains by `recipe` into the folder of `options` until its end, Ctrl-C or the time is over, and saves.
///
/// # Errors
/// Bad data or a bad checkpoint; a loss that is not finite (the last good checkpoint stays); device errors.
pub fn train(arguments: &Cli, options: &Train, mut recipe: Recipe) -> Result<()> {
    std::fs::create_dir_all(&options.out)
        .map_err(|e| Error::Data { path: options.out.clone(), detail: format!("cannot be created: {e}") })?;
    let file = options.out.join(CHECKPOINT);
    if file.exists() && !options.resume {
        let detail = "holds a checkpoint already; give --resume to go on, or another --out";
        return Err(Error::Data { path: options.out.clone(), detail: detail.into() });
    }
    let split = load(&recipe.data, recipe.model.in_channels, recipe.model.image_size)?;
    if recipe.model.class_names.is_empty() {
        recipe.model.class_names = class_names(options.init.as_deref(), &split.train)?;
    }
    labels_fit(&split.train, &recipe.model)?;
    let absent = split.train.absent(&recipe.model);
    let split = split.for_model(&recipe.model, &recipe.data.path)?;
    if !absent.is_empty() {
        eprintln!("duet: the data have no images of {}: these classes are not learnt", absent.join(", "));
    }
    let device = open_device(arguments)?;
    watch_interrupts()?;
    let fingerprint = split.train.fingerprint();
    // A driver that computes zeros would show only after hours, in a loss that does not fall.
    pollster::block_on(device.self_test())?;
    let trainer = if file.exists() {
        let checkpoint = resumable(&file, &recipe, &split.train)?;
        pollster::block_on(Trainer::resume(&device, &checkpoint, &recipe.train.options()))?
    } else if let Some(path) = &options.init {
        let checkpoint = initial(path, &recipe)?;
        pollster::block_on(Trainer::resume(&device, &checkpoint, &recipe.train.options()))?
    } else {
        let model = Arc::new(JointModel::new(&recipe.model)?);
        pollster::block_on(Trainer::new(&device, model, &recipe.diffusion, &recipe.train.options()))?
    };
    let order = BatchOrder::new(split.train.len(), recipe.train.seed);
    let log = open_log(&options.out.join("log.csv"), trainer.step())?;
    let limit = options.minutes.map(|m| Duration::from_secs_f64(60.0 * m.max(0.0)));
    let json = arguments.json;
    let mut run = Run {
        folder: options.out.clone(),
        recipe,
        split,
        trainer,
        order,
        log,
        fingerprint,
        started: Instant::now(),
        limit,
        json,
        last: None,
    };
    let outcome = run.steps();
    device.save_pipeline_cache();
    outcome
}

/// Opens the log for appending, without the lines of steps that were lost after the last save.
fn open_log(path: &Path, step: u64) -> Result<File> {
    let failed =
        |e: std::io::Error| Error::Data { path: path.into(), detail: format!("cannot be written: {e}") };
    let header = "step,seconds,loss,mse,classifier_loss,vb,learning_rate,images_per_second,test_accuracy\n";
    let mut text = header.to_owned();
    if step > 0 && path.exists() {
        let old = std::fs::read_to_string(path).map_err(failed)?;
        let number = |line: &&str| line.split(',').next().and_then(|n| n.parse::<u64>().ok());
        for line in old.lines().filter(|line| number(line).is_some_and(|n| n <= step)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    write_atomic(path, text.as_bytes())?;
    OpenOptions::new().append(true).open(path).map_err(failed)
}

struct Run {
    folder: PathBuf,
    recipe: Recipe,
    split: Split,
    trainer: Trainer,
    order: BatchOrder,
    log: File,
    fingerprint: String,
    started: Instant,
    limit: Option<Duration>,
    json: bool,
    last: Option<(Metrics, f64)>,
}

impl Run {
    fn steps(&mut self) -> Result<()> {
        let (steps, first) = (self.recipe.train.steps, self.trainer.step());
        let template = "{elapsed_precise} {wide_bar} {pos}/{len} {msg} ETA {eta}";
        let bar = progress(steps, first, template, self.json);
        if first >= steps {
            println!("nothing to do: {first} of {steps} steps are done");
            return Ok(());
        }
        let (mut since, mut since_step) = (Instant::now(), first);
        let due = |every: u64, step: u64| every > 0 && step.is_multiple_of(every);
        loop {
            let step = self.trainer.step();
            let batch = self.batch(step)?;
            let rate = self.recipe.train.rate_at(step);
            self.trainer.train_step(&batch, rate)?;
            let step = step + 1;
            bar.inc(1);
            let out_of_time = self.limit.is_some_and(|limit| self.started.elapsed() >= limit);
            let end = step >= steps || interrupted() || out_of_time;
            let train = &self.recipe.train;
            let (log, eval) = (due(train.log_every, step), due(train.eval_every, step));
            let (sample, save) = (due(train.sample_every, step), due(train.save_every, step));
            if log || eval || save || sample || end {
                // A loss that is not finite ends the run here, before anything is saved over a good checkpoint.
                let metrics = pollster::block_on(self.trainer.metrics())?;
                let speed =
                    (step - since_step) as f64 * train.batch_size as f64 / since.elapsed().as_secs_f64();
                self.last = Some((metrics, speed));
                bar.set_message(format!(
                    "loss {:.4} mse {:.4} ce {:.4} {speed:.1} images/s",
                    metrics.loss, metrics.mse, metrics.classifier_loss
                ));
                let share = if eval || step >= steps { Some(self.evaluate()?) } else { None };
                self.write_log(step, &metrics, rate, speed, share, &bar)?;
                if sample || step >= steps {
                    self.sample(step)?;
                }
                if save || end {
                    self.save(share)?;
                }
                (since, since_step) = (Instant::now(), step);
            } else if step.is_multiple_of(4) {
                // The queue must not run ahead of the device by more than a few steps, or Ctrl-C would wait for it.
                self.trainer.weights().device().wait()?;
            }
            if end {
                break;
            }
        }
        bar.finish_and_clear();
        let why = if interrupted() { " (interrupted)" } else { "" };
        let path = self.folder.join(CHECKPOINT);
        let (step, seconds) = (self.trainer.step(), self.started.elapsed().as_secs());
        if self.json {
            println!(
                "{}",
                serde_json::json!({"step": step, "seconds": seconds, "checkpoint": path.display().to_string()})
            );
        } else {
            println!("step {step} of {steps} after {seconds} s{why}; saved {}", path.display());
        }
        Ok(())
    }

    fn batch(&mut self, step: u64) -> Result<Batch> {
        let train = &self.recipe.train;
        let examples = self.split.train.examples(&self.recipe.model)?;
        examples.next(&mut self.order, step, train.batch_size, train.flip)
    }

    fn evaluate(&self) -> Result<f64> {
        let test: &Dataset = &self.split.test;
        let wanted = self.recipe.train.eval_images;
        let count = if wanted == 0 { test.len() } else { wanted.min(test.len()) };
        Ok(accuracy(self.trainer.weights(), WeightSet::Averaged, test, count, EVAL_BATCH, true)?.share)
    }

    fn write_log(
        &mut self,
        step: u64,
        metrics: &Metrics,
        rate: f64,
        speed: f64,
        accuracy: Option<f64>,
        bar: &indicatif::ProgressBar,
    ) -> Result<()> {
        let share = accuracy.map_or(String::new(), |a| format!("{a:.4}"));
        let seconds = self.started.elapsed().as_secs_f64();
        let line = format!(
            "{step},{seconds:.1},{:.6},{:.6},{:.6},{:.6},{rate:.3e},{speed:.2},{share}\n",
            metrics.loss, metrics.mse, metrics.classifier_loss, metrics.vb
        );
        let path = self.folder.join("log.csv");
        self.log
            .write_all(line.as_bytes())
            .map_err(|e| Error::Data { path, detail: format!("cannot be written: {e}") })?;
        let text = accuracy.map_or(String::new(), |a| format!("  test accuracy {:.2} %", 100.0 * a));
        if self.json {
            let row = serde_json::json!({
                "step": step, "seconds": seconds, "loss": metrics.loss, "mse": metrics.mse,
                "classifier_loss": metrics.classifier_loss, "vb": metrics.vb, "learning_rate": rate,
                "images_per_second": speed, "test_accuracy": accuracy, "gradient_norm": metrics.gradient_norm,
            });
            println!("{row}");
        } else if bar.is_hidden() || accuracy.is_some() {
            bar.suspend(|| {
                println!(
                    "step {step}  loss {:.4}  mse {:.4}  ce {:.4}  {speed:.1} images/s{text}",
                    metrics.loss, metrics.mse, metrics.classifier_loss
                );
            });
        }
        Ok(())
    }

    /// A grid of samples with a row per class; unguided where the classifier never sees noised images.
    fn sample(&self, step: u64) -> Result<()> {
        let config = &self.recipe.model;
        let noised =
            matches!(self.recipe.train.classifier_input, ClassifierInput::Noised | ClassifierInput::Both);
        let guidance = if noised { Guidance::Representation } else { Guidance::None };
        let batch = GRID_COLUMNS * config.num_classes;
        // The running statistics on the device are newer than the check that `force` skips.
        let spec =
            StepSpec { solver: Solver::default(), guidance, clip: true, force: true, ..StepSpec::new(batch) };
        let train = &self.recipe.train;
        let new = Sampler::new(
            self.trainer.weights(),
            &self.recipe.diffusion,
            &train.sample_steps,
            spec,
            WeightSet::Averaged,
        );
        let sampler = pollster::block_on(new)?;
        let seed = Seed(train.seed);
        sampler.start_from_noise(seed, 0)?;
        let classes: Vec<usize> = (0..batch).map(|i| i / GRID_COLUMNS).collect();
        let labels =
            config.head.toward(&vec![0.0; batch * config.num_classes], &classes, config.num_classes)?;
        let chain = ChainOptions { seed, first_row: 0, labels, alpha: train.sample_alpha };
        let mut hear = |_| go_on();
        let run = sampler.run(sampler.schedule().len(), &chain, Watch::Progress(&mut hear));
        match pollster::block_on(run) {
            // Ctrl-C ends the picture, not the save that follows.
            Err(Error::Aborted) => return Ok(()),
            other => other?,
        }
        let images = pollster::block_on(sampler.get_images())?;
        let rows: Vec<Vec<f32>> = images
            .chunks(images.len() / config.num_classes)
            .map(|row| row.iter().map(|v| if v.is_finite() { v.clamp(-1.0, 1.0) } else { 0.0 }).collect())
            .collect();
        let names: Vec<String> = (0..config.num_classes).map(|c| config.class_name(c)).collect();
        let grid = Grid { channels: config.in_channels, size: config.image_size, scale: 2 };
        grid.save_rows(&self.folder.join(format!("samples_{step:07}.png")), &rows, &names)
    }

    fn save(&self, accuracy: Option<f64>) -> Result<()> {
        let mut checkpoint = pollster::block_on(self.trainer.checkpoint())?;
        let describe = |detail: serde_json::Error| Error::config("recipe", detail.to_string());
        if let Some(state) = &mut checkpoint.training {
            state.recipe = serde_json::to_value(&self.recipe).map_err(describe)?;
            state.data_fingerprint.clone_from(&self.fingerprint);
            state.last = self.last.map(|(metrics, speed)| Figures {
                step: state.step,
                values: [
                    ("loss", Some(f64::from(metrics.loss))),
                    ("mse", Some(f64::from(metrics.mse))),
                    ("classifier_loss", Some(f64::from(metrics.classifier_loss))),
                    ("images_per_second", Some(speed)),
                    ("test_accuracy", accuracy),
                ]
                .into_iter()
                .filter_map(|(name, value)| value.filter(|v| v.is_finite()).map(|v| (name.to_owned(), v)))
                .collect(),
            });
        }
        let data = serde_json::to_string(&self.recipe.data).map_err(describe)?;
        checkpoint.info.insert("data".into(), data);
        checkpoint.info.insert("steps".into(), self.trainer.step().to_string());
        checkpoint.save(&self.folder.join(CHECKPOINT))
    }
}
