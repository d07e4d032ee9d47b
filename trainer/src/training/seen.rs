//! Where what is seen of a run goes: its file of figures, event files for TensorBoard, and the view.

use super::evaluate::Part;
use super::warn;
use crate::cli::Train;
use crate::io::output::say;
use crate::recipe::Recipe;
use crate::watch::View;
use crate::watch::board::State;
use crate::watch::events::EventFile;
use crate::watch::metrics::{self, MetricsFile};
use duet::Result;
use duet::checkpoint::Figures;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What is written, and how the rest is shown.
pub struct Seen {
    figures: PathBuf,
    metrics: Option<MetricsFile>,
    events: Option<EventFile>,
    plain: bool,
    json: bool,
    /// Whether the last figures could not be written, which is told once.
    failed: bool,
}

impl Seen {
    /// Opens the files of a run that goes on after `step`; `metrics` is the path of its figures. What cannot be opened is
    /// told, and the run goes on without it.
    pub fn open(metrics: &Path, step: u64, last: Option<&Figures>, options: &Train, json: bool) -> Seen {
        fn or_tell<T>(what: &str, opened: Result<T>, json: bool) -> Option<T> {
            opened.map_err(|error| warn(json, &format!("training without {what}: {error}"))).ok()
        }
        let file = or_tell("a file of figures", MetricsFile::open(metrics, step, last), json);
        let events = options.tensorboard.then(|| EventFile::create(&options.folder(), step));
        let events = events.and_then(|events| or_tell("event files for TensorBoard", events, json));
        Seen { figures: metrics.to_owned(), metrics: file, events, plain: options.plain, json, failed: false }
    }

    /// Of a process that leaves all this to another one.
    pub fn nothing(metrics: &Path) -> Seen {
        let figures = metrics.to_owned();
        Seen { figures, metrics: None, events: None, plain: true, json: true, failed: false }
    }

    /// The view of a run of `recipe` that is done up to `step` and took `before` so far.
    pub fn view(&self, recipe: &Recipe, step: u64, before: Duration, saved: Option<u64>) -> View {
        let folder = self.figures.parent().unwrap_or(Path::new(""));
        let state = State {
            title: format!("{} → {}", recipe.data.path.display(), folder.display()),
            steps: recipe.train.steps,
            step,
            first: step,
            started: Instant::now(),
            before,
            max_time: recipe.train.max_time.map(|span| span.duration()),
            history: metrics::history(&self.figures),
            memory: 0,
            samples: None,
            saved,
            best: String::new(),
            note: String::new(),
        };
        View::open(state, self.plain, self.json)
    }

    /// Writes figures into the files and, where nothing else shows them, as a line. `losses` are those of them, in words.
    pub fn write(&mut self, figures: &Figures, part: &Part<'_>, losses: &str, evaluated: bool, view: &View) {
        let mut errors = Vec::new();
        if let Some(file) = &mut self.metrics {
            errors.extend(
                file.write(figures).err().map(|error| format!("the file of figures is incomplete: {error}")),
            );
        }
        if let Some(events) = &mut self.events {
            let written = events.scalars(figures.step, &figures.values);
            errors.extend(written.err().map(|error| format!("the event file is incomplete: {error}")));
        }
        if !self.failed {
            for error in &errors {
                view.print(|| warn(self.json, &format!("step {}: {error}; training goes on", figures.step)));
            }
        }
        self.failed = !errors.is_empty();
        if self.json {
            say!("{}", metrics::line(figures));
        } else if view.wants_lines() || evaluated {
            let value = |figure: &str| figures.values.get(&part.figure(figure));
            let accuracy = value("accuracy")
                .map_or(String::new(), |share| format!("  {} accuracy {:.2} %", part.name, 100.0 * share));
            let loss = value("loss").map_or(String::new(), |loss| format!("  {} loss {loss:.4}", part.name));
            let speed = figures.values.get("images_per_second").copied().unwrap_or(0.0);
            let step = figures.step;
            view.print(|| say!("step {step}  {losses}  {speed:.1} images/s{accuracy}{loss}"));
        }
    }

    /// Writes the picture of samples at `path` into the event file.
    ///
    /// # Errors
    /// Where it cannot be read or written.
    pub fn samples(&mut self, step: u64, path: &Path) -> Result<()> {
        let Some(events) = &mut self.events else { return Ok(()) };
        let failed = |detail: String| duet::Error::Data { path: path.to_owned(), detail };
        let png = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        let size = image::image_dimensions(path).map_err(|error| failed(error.to_string()))?;
        events.picture(step, "samples", size.into(), &png)
    }

    /// Notes why the run stops at `step`; what cannot be written is nothing beside what is told then.
    pub fn stopped(&mut self, step: u64, why: &str) {
        if let Some(file) = &mut self.metrics {
            let _ = file.stopped(step, why);
        }
    }
}
