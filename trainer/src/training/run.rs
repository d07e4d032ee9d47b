//! A run: steps, and at some of them a checkpoint first, then what looks at it: evaluation, figures, sample grids.

mod figures;

use super::end::{Lost, Why};
use super::evaluate::{Part, evaluate};
use super::keep::Kept;
use super::labelled::{self, LABELLED, Labelled};
use super::probe::Probe;
use super::seen::Seen;
use super::together::{Asked, Efficiency};
use super::waiting::{Spent, Waiting};
use super::{fit, grid, warn};
use crate::data::Split;
use crate::eval::accuracy::{TEST_ACCURACY, TEST_IMAGES};
use crate::io::output::say;
use crate::io::session::interrupted;
use crate::processes::Processes;
use crate::recipe::Recipe;
use crate::watch::View;
use crate::watch::board::Samples;
use duet::checkpoint::{Figures, TrainingState};
use duet::train::{Batch, BatchOrder, Metrics, Trainer};
use duet::{Error, Result};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Name of the file of figures inside a run's folder.
pub const METRICS: &str = "metrics.jsonl";
/// Beginning of the sample grids' names.
pub const SAMPLES: &str = "samples_";
/// The figure that holds the time the run took so far.
pub const SECONDS: &str = "seconds";

/// What a run begins with.
pub struct Begin {
    /// How it trains, the names of the classes included.
    pub recipe: Recipe,
    /// Its data, as the model numbers their classes.
    pub split: Split,
    /// The state on the device.
    pub trainer: Trainer,
    /// Into how many micro-batches steps are cut, where that is not the recipe's number.
    pub cut: Option<usize>,
    /// Its checkpoints.
    pub kept: Kept,
    /// Where what is seen of it goes.
    pub seen: Seen,
    /// Who has labels, where few have.
    pub labelled: Option<Labelled>,
    /// What the checkpoint that it goes on from says.
    pub state: Option<TrainingState>,
    /// That checkpoint.
    pub begun: Option<PathBuf>,
    /// The time after which it pauses.
    pub limit: Option<Duration>,
    /// Whether what is told is JSON.
    pub json: bool,
    /// The processes that train with this one.
    pub processes: Processes,
}

/// A run.
pub struct Run {
    begin: Begin,
    order: BatchOrder,
    probe: Probe,
    fingerprint: String,
    started: Instant,
    /// Time that the run took before it was gone on with.
    before: Duration,
    /// The best figures so far, of the checkpoint that is kept for them.
    best: Option<Figures>,
    /// The last figures.
    last: Option<Figures>,
    /// The learning rate of the last step.
    rate: f64,
    /// Tells that data are waited for.
    waiting: Waiting,
    /// What the exchange with other processes costs.
    efficiency: Efficiency,
}

/// How fast the steps since the last look were.
struct Pace {
    /// Images a second.
    speed: f64,
    /// Where their time went.
    spent: Spent,
}

/// What is due after a step.
struct Due {
    log: bool,
    eval: bool,
    sample: bool,
    save: bool,
    /// Whether the run is over, and not only pauses.
    finished: bool,
}

impl Run {
    /// # Errors
    /// Device errors.
    pub fn new(begin: Begin) -> Result<Run> {
        let (recipe, state) = (&begin.recipe, begin.state.as_ref());
        let last = state.and_then(|state| state.last.clone());
        let seconds = last.as_ref().and_then(|last| last.values.get(SECONDS)).copied().unwrap_or(0.0);
        let best = match recipe.train.keep_best {
            Some(by) => {
                let figure = Part::of(&begin.split, &recipe.train).figure(by.name());
                state.and_then(|state| state.best.clone()).filter(|best| best.values.contains_key(&figure))
            }
            None => None,
        };
        let run = Run {
            order: BatchOrder::new(begin.split.train.len(), recipe.train.seed),
            probe: Probe::new(begin.trainer.weights(), recipe)?,
            fingerprint: begin.split.train.fingerprint(),
            started: Instant::now(),
            before: Duration::try_from_secs_f64(seconds).unwrap_or_default(),
            best,
            last,
            rate: 0.0,
            waiting: Waiting::default(),
            efficiency: Efficiency::of(&begin.processes),
            begin,
        };
        Ok(run)
    }

    /// Trains until the run ends; whether it came to its end, or only pauses.
    ///
    /// # Errors
    /// A loss that is not finite, with what was seen; a checkpoint that cannot be saved; device errors.
    pub fn steps(&mut self) -> Result<bool> {
        let (step, saved) = (self.begin.trainer.step(), self.begin.kept.newest());
        let view = self.begin.seen.view(&self.begin.recipe, step, self.before, saved);
        // Killed between saving the best one and giving it its name.
        if self.begin.processes.is_first()
            && saved.is_some()
            && self.best.as_ref().map(|best| best.step) == saved
        {
            self.unless_failed("the best checkpoint could not be kept", self.begin.kept.mark_best(), &view);
        }
        self.show_best(&view);
        let outcome = self.until_the_end(&view);
        view.close();
        match outcome {
            Ok(why) => {
                self.tell_end(why);
                Ok(!matches!(why, Why::Interrupted | Why::Minutes))
            }
            Err(Error::NotFinite { detail }) => Err(self.lost(&detail)),
            Err(error) => Err(error),
        }
    }

    /// What processes agree upon after a step; also before the first, as far as time decides what it does.
    fn asked(&self, view: &View) -> Result<Asked> {
        let max_time = self.begin.recipe.train.max_time;
        let own = Asked {
            stop: interrupted(),
            minutes: self.begin.limit.is_some_and(|limit| self.started.elapsed() >= limit),
            time: max_time.is_some_and(|span| self.seconds() >= span.duration()),
            save: view.asked_to_save(),
            sample: view.asked_to_sample(),
            share_of_time: self.share_of_time(),
        };
        own.agreed(&self.begin.processes)
    }

    /// What it was trained on.
    pub fn into_data(self) -> Split {
        self.begin.split
    }

    fn until_the_end(&mut self, view: &View) -> Result<Why> {
        let (mut since, mut since_step) = (Instant::now(), self.begin.trainer.step());
        let mut batching = Duration::ZERO;
        let mut asked = self.asked(view)?;
        loop {
            let step = self.begin.trainer.step();
            let began = Instant::now();
            let (batch, few) = self.batch(step)?;
            batching += began.elapsed();
            self.rate = self.begin.recipe.train.rate_at(step, asked.share_of_time);
            match &few {
                Some(few) => {
                    self.allow(few)?;
                    self.begin.trainer.train_step_of(&[&batch, few], self.rate)?;
                }
                None => self.begin.trainer.train_step(&batch, self.rate)?,
            }
            let step = step + 1;
            view.stepped(step);
            asked = self.asked(view)?;
            let why = self.why(step, &asked);
            let due = self.due(step, why, &asked);
            if due.log || due.eval || due.save || due.sample {
                // A loss that is not finite ends the run here, before anything is saved over a good checkpoint.
                let metrics = pollster::block_on(self.begin.trainer.metrics());
                let metrics = metrics.inspect_err(|_| self.begin.processes.all_know())?;
                let images = (step - since_step) as f64 * self.begin.recipe.train.batch_size as f64;
                let spent = Spent { batching, all: since.elapsed() };
                let pace = Pace { speed: images / spent.all.as_secs_f64(), spent };
                self.efficiency.look(self.begin.trainer.ranks(), step - since_step);
                if self.begin.processes.is_first() {
                    self.look(&due, &metrics, &pace, &batch, view)?;
                }
                (since, since_step, batching) = (Instant::now(), step, Duration::ZERO);
            } else if step.is_multiple_of(4) {
                // The queue must not run ahead of the device by more than a few steps, or Ctrl-C would wait for it.
                self.begin.trainer.weights().device().wait()?;
            }
            if let Some(why) = why {
                return Ok(why);
            }
            // Who evaluates is the first one.
            let no_better = self.no_better(step).filter(|_| self.begin.processes.is_first());
            if due.eval && self.begin.processes.most(usize::from(no_better.is_some()))? > 0 {
                return Ok(no_better.unwrap_or(Why::Steps));
            }
        }
    }

    /// Why the run ends after `step`, as far as that does not depend on what an evaluation finds.
    fn why(&self, step: u64, asked: &Asked) -> Option<Why> {
        let train = &self.begin.recipe.train;
        if step >= train.steps {
            Some(Why::Steps)
        } else if asked.stop {
            Some(Why::Interrupted)
        } else if asked.minutes {
            Some(Why::Minutes)
        } else {
            train.max_time.filter(|_| asked.time).map(Why::Time)
        }
    }

    /// Time the run took in all.
    fn seconds(&self) -> Duration {
        self.before.saturating_add(self.started.elapsed())
    }

    fn share_of_time(&self) -> f64 {
        self.begin.recipe.train.max_time.map_or(0.0, |span| span.share(self.seconds()))
    }

    fn due(&self, step: u64, why: Option<Why>, asked: &Asked) -> Due {
        let train = &self.begin.recipe.train;
        let due = |every: u64| every > 0 && step.is_multiple_of(every);
        // What only pauses is not looked at as if it were done.
        let finished = matches!(why, Some(Why::Steps | Why::Time(_)));
        Due {
            log: due(train.log_every),
            eval: due(train.eval_every) || finished,
            sample: (asked.sample || due(train.sample_every) || finished) && !train.classifier_only,
            save: asked.save || due(train.save_every) || why.is_some(),
            finished,
        }
    }

    /// Saves, then looks at what was saved. Only saving can fail: the rest may take long, hang or crash, and is needed for
    /// nothing.
    fn look(&mut self, due: &Due, metrics: &Metrics, pace: &Pace, batch: &Batch, view: &View) -> Result<()> {
        let mut figures = self.figures(metrics, pace);
        if let Some(text) = self.waiting.add(pace.spent, self.begin.split.train.images.in_file()) {
            view.print(|| warn(self.begin.json, &text));
        }
        self.last = Some(figures.clone());
        if due.save || due.eval || due.sample {
            self.save(&figures, batch, view)?;
        }
        let text = format!("{} {:.1} images/s", self.losses(&figures, " "), pace.speed);
        let memory = self.begin.trainer.weights().device().counters().live_bytes;
        view.show(&figures, text.clone(), memory);
        // Who presses Ctrl-C does not wait for a test.
        let found = if due.eval && !interrupted() {
            view.doing("evaluating");
            let part = Part::of(&self.begin.split, &self.begin.recipe.train);
            let found = evaluate(self.begin.trainer.weights(), &self.begin.recipe, &part);
            view.doing("");
            self.unless_failed("evaluation failed", found, view)
        } else {
            None
        };
        let evaluated = found.is_some();
        figures.values.extend(found.into_iter().flatten());
        if due.finished && evaluated && self.begin.split.validation.is_some() {
            // What chose nothing until now.
            let part = Part::tested(&self.begin.split, &self.begin.recipe.train);
            let tested = part.accuracy(self.begin.trainer.weights());
            figures.values.extend(self.unless_failed("the test images could not be looked at", tested, view));
        }
        let better = evaluated && self.is_better(&figures);
        if better {
            self.best = Some(figures.clone());
        }
        let losses = self.losses(&figures, "  ");
        let part = if due.finished {
            Part::tested(&self.begin.split, &self.begin.recipe.train)
        } else {
            Part::of(&self.begin.split, &self.begin.recipe.train)
        };
        self.begin.seen.write(&figures, &part, &losses, evaluated, view);
        if evaluated {
            view.show(&figures, text, memory);
            self.save(&figures, batch, view)?;
        }
        if better {
            self.unless_failed("the best checkpoint could not be kept", self.begin.kept.mark_best(), view);
            self.show_best(view);
        }
        let step = figures.step;
        self.last = Some(figures);
        let at_its_end = self.no_better(step).is_some() && !self.begin.recipe.train.classifier_only;
        if (due.sample || at_its_end) && !interrupted() {
            self.sample(step, view);
        }
        Ok(())
    }

    /// Draws samples and shows them wherever samples are seen.
    fn sample(&mut self, step: u64, view: &View) {
        view.doing("drawing samples");
        let path = self.begin.kept.file().with_file_name(format!("{SAMPLES}{step:07}.png"));
        let drawn = match grid::draw(self.begin.trainer.weights(), &self.begin.recipe, &path) {
            // Ctrl-C ends the picture alone.
            Err(Error::Aborted) => Ok(None),
            other => other.map(Some),
        };
        view.doing("");
        let drawn = self.unless_failed("samples could not be drawn", drawn, view).flatten();
        if let Some(rows) = drawn {
            let model = &self.begin.recipe.model;
            view.samples(step, Samples { channels: model.in_channels, size: model.image_size, rows });
            let written = self.begin.seen.samples(step, &path);
            self.unless_failed("samples are missing in the event file", written, view);
        }
    }

    /// The outcome of what is no part of training; an error is told.
    fn unless_failed<T>(&self, what: &str, outcome: Result<T>, view: &View) -> Option<T> {
        let error = match outcome {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let step = self.begin.trainer.step();
        view.print(|| warn(self.begin.json, &format!("step {step}: {what}: {error}; training goes on")));
        None
    }

    /// Makes ready for a step whose classifier sees as many images as no step before.
    fn allow(&mut self, few: &Batch) -> Result<()> {
        let Begin { recipe, trainer, .. } = &mut self.begin;
        let count = few.labels.len(recipe.model.num_classes);
        if count == 0 || trainer.allows(&[recipe.train.batch_size, count]) {
            return Ok(());
        }
        let model = trainer.weights().model();
        let terms = labelled::terms_of(model, &recipe.diffusion, recipe, &recipe.options(), count)?;
        pollster::block_on(trainer.allow_steps_of(&terms))
    }

    /// The images of a step, and those with labels where few have any.
    fn batch(&mut self, step: u64) -> Result<(Batch, Option<Batch>)> {
        let Begin { recipe, split, labelled, trainer, .. } = &mut self.begin;
        let (train, width) = (&recipe.train, recipe.model.image_size);
        let examples = split.train.examples(&recipe.model)?;
        // Images that other processes compute stay where they are.
        let own = |count: usize| trainer.own_rows(count);
        let (count, flip) = (train.batch_size, train.flip.then_some(width));
        let mut next = || examples.next_of(&mut self.order, step, count, train.flip, &own(count));
        match labelled {
            Some(labelled) if train.classifier_only => {
                let rows = labelled.alone(step, count);
                let rows = (&rows[..], &own(count)[..]);
                Ok((labelled::batch(&examples, rows, &self.order, (step, 0), flip)?, None))
            }
            Some(labelled) => {
                let mut all = next()?;
                let rows = labelled.next(step, &self.order.indices(step, count)).unwrap_or_default();
                if rows.is_empty() {
                    all.labels = labelled.idle(all.labels);
                }
                let few = (&rows[..], &own(rows.len())[..]);
                let few = labelled::batch(&examples, few, &self.order, (step, count), flip)?;
                Ok((all, Some(few)))
            }
            None => Ok((next()?, None)),
        }
    }

    /// Saves what the step leaves, if it still gives numbers; the checkpoint before it stays beside it where more than one is
    /// kept.
    fn save(&mut self, figures: &Figures, batch: &Batch, view: &View) -> Result<()> {
        let step = figures.step;
        if self.begin.kept.newest() != Some(step) {
            self.probe.look(batch)?;
            self.unless_failed("an earlier checkpoint could not be kept", self.begin.kept.keep(), view);
        }
        let mut checkpoint = pollster::block_on(self.begin.trainer.checkpoint())?;
        let recipe = &self.begin.recipe;
        let describe = |detail: serde_json::Error| Error::config("recipe", detail.to_string());
        if let Some(state) = &mut checkpoint.training {
            let noted = Recipe { data: recipe.data.noted(), ..recipe.clone() };
            state.recipe = serde_json::to_value(&noted).map_err(describe)?;
            if let (Some(parts), Some(noted)) = (self.begin.cut, state.recipe.as_object_mut()) {
                noted.insert(fit::CUT.into(), parts.into());
            }
            if let (Some(labelled), Some(noted)) = (&self.begin.labelled, state.recipe.as_object_mut()) {
                noted.insert(LABELLED.into(), labelled.noted());
            }
            state.data_fingerprint.clone_from(&self.fingerprint);
            state.last = Some(figures.clone());
            state.best.clone_from(&self.best);
        }
        checkpoint.pictures = self.begin.split.pictures;
        let data = serde_json::to_string(&recipe.data.noted()).map_err(describe)?;
        checkpoint.info.insert("data".into(), data);
        checkpoint.info.insert("steps".into(), step.to_string());
        checkpoint.info.insert("seed".into(), recipe.train.seed.to_string());
        // Of these very weights, whose average is what is exported: what a judge is worth stands beside its figures.
        if let Some(accuracy) = figures.values.get(TEST_ACCURACY) {
            let images = Part::tested(&self.begin.split, &recipe.train).count;
            checkpoint.info.insert(TEST_ACCURACY.into(), accuracy.to_string());
            checkpoint.info.insert(TEST_IMAGES.into(), images.to_string());
        }
        self.begin.kept.save(&checkpoint, step)?;
        view.saved(step);
        Ok(())
    }

    /// What is told, and noted in the file of figures, of a run whose loss or weights are no numbers any more.
    fn lost(&mut self, detail: &str) -> Error {
        let step = self.begin.trainer.step();
        self.begin.seen.stopped(step, detail);
        let state = self.begin.state.as_ref().map(|state| state.step);
        let newest = self.begin.kept.file();
        let (saved, file) = match (self.begin.kept.newest(), &self.begin.begun) {
            (None, Some(begun)) => (state, begun),
            (saved, _) => (saved, &newest),
        };
        let (last, rate, recipe) = (self.last.as_ref(), self.rate, &self.begin.recipe);
        Lost { detail, last, step, rate, saved, file, recipe }.error()
    }

    fn tell_end(&self, why: Why) {
        let path = self.begin.kept.file();
        let (step, steps) = (self.begin.trainer.step(), self.begin.recipe.train.steps);
        let seconds = self.started.elapsed().as_secs();
        let best = self.best();
        if self.begin.json {
            let path = path.display().to_string();
            let best = best.map(|(step, value, figure)| serde_json::json!({"step": step, figure: value}));
            let mut end = serde_json::json!({
                "step": step, "seconds": seconds, "checkpoint": path, "ended": why.name(), "best": best
            });
            if let (Some(exchange), Some(end)) = (self.efficiency.json(), end.as_object_mut()) {
                end.insert("exchange".into(), exchange);
            }
            say!("{end}");
        } else {
            let best = best.map_or(String::new(), |(step, value, figure)| {
                format!("; best {} {value:.4} at step {step}", figure.replace('_', " "))
            });
            let exchange = self.efficiency.text();
            say!(
                "step {step} of {steps} after {seconds} s{}; saved {}{best}{exchange}",
                why.text(),
                path.display()
            );
        }
    }
}
