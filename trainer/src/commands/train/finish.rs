//! What is made of a run that came to its end: test accuracy by class, counterfactuals of test images, a report of it all.

use crate::cli::{self, Cli, Train};
use crate::data::{Dataset, Split};
use crate::eval::accuracy::accuracy;
use crate::io::files::Kind;
use crate::io::output::{say, tell};
use crate::io::session::{Session, watch_interrupts};
use crate::recipe::Recipe;
use crate::report::explained::Explained;
use crate::report::training::{Learnt, Report, page};
use crate::training::{CHECKPOINT, METRICS, SAMPLES};
use crate::watch::metrics::history;
use duet::Result;
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
    let explained = match Explained::some(&session, test, EXPLAINED, quiet) {
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
        reached = Some((explained.reached(), explained.len()));
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
