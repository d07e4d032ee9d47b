//! What is made of a run that came to its end: test accuracy by class, counterfactuals of test images, a report of it all.

use crate::cli::{self, Cli, Train};
use crate::data::{Dataset, Split};
use crate::eval::accuracy::accuracy;
use crate::eval::explanations::{Noise, Verdict, explain_towards, steps, targets};
use crate::eval::row::{Names, Row};
use crate::io::files::Kind;
use crate::io::output::{say, tell};
use crate::io::render::{Grid, Palette};
use crate::io::session::{Session, watch_interrupts};
use crate::io::strips::Column;
use crate::recipe::Recipe;
use crate::report::training::{Learnt, Report, page};
use crate::training::{CHECKPOINT, METRICS, SAMPLES};
use crate::watch::metrics::history;
use duet::Result;
use duet::explain::{ExplainOptions, Explainer};
use duet::model::{Head, ModelConfig, Target};
use std::path::Path;

/// Images that are explained.
const EXPLAINED: usize = 8;
/// Most test images that are classified: more tell nothing new.
const MOST_TESTED: usize = 10_000;
/// Images at once.
const BATCH: usize = 32;
/// The pictures of counterfactuals.
const STRIPS: &str = "counterfactuals.png";
/// The report.
const REPORT: &str = "report.html";

/// Makes the report of a run on `split`. What cannot be made is told: the model is there.
pub fn finish(arguments: &Cli, options: &Train, recipe: &Recipe, split: &Split) {
    let folder = options.folder();
    match make(arguments, &folder, recipe, split) {
        Ok(accuracy) => say_end(arguments.json, &folder, accuracy),
        Err(error) if arguments.json => {
            tell!("{}", serde_json::json!({ "warning": format!("there is no report: {error}") }));
        }
        Err(error) => tell!("duet: there is no report: {error}"),
    }
}

fn say_end(json: bool, folder: &Path, accuracy: f64) {
    let report = folder.join(REPORT);
    let serve = format!("duet serve {}", folder.display());
    if json {
        let line = serde_json::json!({
            "test_accuracy": accuracy, "report": report.display().to_string(), "serve": serve,
        });
        say!("{line}");
        return;
    }
    say!("test accuracy {:.1} %", 100.0 * accuracy);
    say!("wrote {}", report.display());
    say!("in the page, on this machine: {serve}");
}

/// Writes the report; the share of right answers.
fn make(arguments: &Cli, folder: &Path, recipe: &Recipe, split: &Split) -> Result<f64> {
    let file = folder.join(CHECKPOINT);
    let model = cli::Model { model: file.clone(), weights: cli::WeightSet::default() };
    let session = Session::open(arguments, &model)?;
    let config = session.config().clone();
    watch_interrupts()?;
    let (test, quiet) = (&split.test, arguments.json);
    let right = accuracy(&session.weights, session.set, test, test.len().min(MOST_TESTED), BATCH, quiet)?;
    let explained = match explained(&session, &config, test, quiet) {
        Ok(explained) => Some(explained),
        // A model that does not explain has learnt something all the same.
        Err(error) => {
            tell!("duet: no counterfactuals: {error}");
            None
        }
    };
    let strips = folder.join(STRIPS);
    let mut reached = None;
    if let Some(explained) = &explained {
        explained.save(&config, &strips)?;
        reached = Some((explained.reached(), explained.rows.len()));
    }
    session.close();
    let steps = session.checkpoint.training.as_ref().map_or(recipe.train.steps, |state| state.step);
    let picture = |path: &Path| std::fs::read(path).ok();
    let name = |path: &Path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let report = Report {
        name: name(&recipe.data.path),
        folder: folder.display().to_string(),
        learnt: Learnt {
            classes: (0..config.num_classes).map(|class| config.class_name(class)).collect(),
            head: config.head,
            accuracy: right.share,
            per_class: right.per_class.clone(),
            balanced: right.balanced.clone(),
            seen: right.seen.clone(),
        },
        summary: split.summary.clone(),
        counts: [split.train.len(), split.validation.as_ref().map_or(0, Dataset::len), split.test.len()],
        parameters: session.weights.model().params.parameter_count(),
        device: session.weights.device().info().name.clone(),
        steps,
        images: steps * recipe.train.batch_size as u64,
        history: history(&folder.join(METRICS)),
        samples: picture(&folder.join(format!("{SAMPLES}{steps:07}.png"))),
        strips: explained.is_some().then(|| picture(&strips)).flatten(),
        reached,
        recipe: toml::to_string(recipe).unwrap_or_default(),
    };
    Kind::Report.write(&folder.join(REPORT), page(&report).as_bytes())?;
    Ok(right.share)
}

/// Test images and what would have to change.
struct Explained {
    images: Vec<f32>,
    rows: Vec<Row>,
    counterfactuals: Vec<Vec<f32>>,
    differences: Vec<Vec<f32>>,
    names: Names,
}

/// Explains some test images: of each class as many, towards their second class; of several labels one is turned over.
fn explained(session: &Session, config: &ModelConfig, test: &Dataset, quiet: bool) -> Result<Explained> {
    session.checkpoint.require_denoising()?;
    let rows = match config.head {
        Head::Multiclass => {
            let mut rows = test.of_each_class(0..EXPLAINED.div_ceil(config.num_classes.max(1)))?;
            rows.truncate(EXPLAINED);
            rows
        }
        Head::MultiLabel => test.spread(EXPLAINED.min(test.len())),
    };
    let images = test.images_f32(&rows);
    let options = ExplainOptions::default();
    let diffusion = &session.checkpoint.diffusion;
    let new = Explainer::fitting(&session.weights, diffusion, rows.len(), &options, session.set);
    let mut explainer = pollster::block_on(new)?;
    let before = pollster::block_on(explainer.probabilities(&images))?;
    let wanted: Vec<(usize, Target)> = match config.head {
        Head::Multiclass => targets(&vec![None; rows.len()], &before)?.into_iter().enumerate().collect(),
        Head::MultiLabel => (before.chunks_exact(config.num_classes).enumerate())
            .map(|(image, shares)| {
                let class = image % config.num_classes;
                (image, Target { class, present: shares[class] <= 0.5 })
            })
            .collect(),
    };
    let noise = Noise { seed: options.seed, variants: 1, first_row: 0 };
    let bar = steps(quiet);
    let made = explain_towards(&mut explainer, &images, &wanted, noise, &bar)?;
    bar.finish_and_clear();
    let names = Names::of(config);
    let pixels = config.image_size * config.image_size;
    let told =
        made.iter().zip(&rows).map(|(made, row)| Row::of(row.to_string(), None, made, &names, pixels, 0.0));
    let told = told.collect::<Result<_>>()?;
    let (counterfactuals, differences) = (made.into_iter())
        .filter_map(|made| made.answers.into_iter().next())
        .map(|answer| (answer.counterfactual, answer.difference))
        .unzip();
    Ok(Explained { images, rows: told, counterfactuals, differences, names })
}

fn slices(list: &[Vec<f32>]) -> Vec<&[f32]> {
    list.iter().map(Vec::as_slice).collect()
}

impl Explained {
    fn reached(&self) -> usize {
        self.rows.iter().filter(|row| row.verdict == Verdict::Reached).count()
    }

    fn save(&self, config: &ModelConfig, path: &Path) -> Result<()> {
        let lines: Vec<Vec<String>> = self.rows.iter().map(|row| row.lines(&self.names)).collect();
        let grid = Grid::for_strips(config.in_channels, config.image_size, lines.len(), 3, &lines.concat())?;
        let len = self.images.len() / self.rows.len().max(1);
        let columns = [
            Column::new("original", Palette::Image, self.images.chunks_exact(len.max(1)).collect()),
            Column::new("counterfactual", Palette::Image, slices(&self.counterfactuals)),
            Column::new("difference", Palette::Difference, slices(&self.differences)),
        ];
        grid.save_strips(path, &lines, &columns)
    }
}
