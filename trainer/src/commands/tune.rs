//! `duet tune`: measures every family of kernels for the shapes of a model and stores which is fastest on this adapter.

use crate::cli::{Cli, Tune, is_recipe_name};
use crate::io::files::{self, Kind};
use crate::io::output::{progress, say};
use crate::io::session::{load_checkpoint, open_untuned};
use crate::io::tuning;
use crate::recipe::Recipe;
use duet::diffusion::DiffusionConfig;
use duet::families::{Family, Key, Tuning};
use duet::infer::classify_plan;
use duet::model::{JointModel, WeightSet};
use duet::ops::measure::{self, Times};
use duet::sampling::{Guidance, StepSpec, step_plan};
use duet::train::{TrainOptions, TrainSpec, train_plan};
use duet::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The recipe that is shipped.
const RECIPE: &str = include_str!("../../recipes/fashion-mnist.toml");

/// Runs the command.
///
/// # Errors
/// A bad recipe or checkpoint; a file that cannot be written; device errors.
pub fn run(arguments: &Cli, options: &Tune) -> Result<()> {
    let all = keys(options)?;
    let total = all.len();
    let device = open_untuned(arguments)?;
    let several = |key: &Key| measure::families_of(&device, key).len() > 1;
    let keys: Vec<(Key, usize)> = all.into_iter().filter(|(key, _)| several(key)).collect();
    let name = device.info().name.clone();
    let out = destination(options, &name)?;
    if let Some(folder) = out.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        files::make_folder(folder)?;
    }
    let inputs: Vec<&Path> = options.model.as_deref().into_iter().collect();
    files::check(&[(Kind::Table, &out)], &inputs)?;
    let template = "{bar:40} {pos}/{len} shapes";
    let bar = progress(keys.len() as u64, 0, template, arguments.json);
    let start = Instant::now();
    let mut rows = Vec::new();
    for (key, runs) in keys {
        let now = || start.elapsed().as_secs_f64();
        let times = pollster::block_on(measure::times(&device, &key, options.seconds, now))?;
        rows.push((key, runs, times));
        bar.inc(1);
    }
    bar.finish_and_clear();
    device.save_pipeline_cache();
    let table = table(&name, &device.info().driver, options, &rows);
    let text = table.to_json();
    Kind::Table.write(&out, text.as_bytes())?;
    if arguments.json {
        // On one line; the file is for people too.
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|e| Error::config("json", e.to_string()))?;
        say!("{value}");
    } else {
        say!("{name} ({})", device.info().driver);
        print(&rows, total - rows.len());
        say!("written to {}", out.display());
    }
    Ok(())
}

/// Where the table goes: `--out`, else the user's folder, from which later commands read it.
fn destination(options: &Tune, adapter: &str) -> Result<PathBuf> {
    match (&options.out, tuning::folder()) {
        (Some(path), _) => Ok(path.clone()),
        (None, Some(folder)) => Ok(folder.join(tuning::file_name(adapter))),
        (None, None) => Err(Error::config("out", "there is no home folder: say where to write the table")),
    }
}

/// Shapes of the training step and of everything a trained model does, and how often each occurs in one of these plans.
fn keys(options: &Tune) -> Result<BTreeMap<Key, usize>> {
    let (model, diffusion, train) = match &options.model {
        Some(path) if path.extension().is_some() && !is_recipe_name(path) => {
            let (checkpoint, model) = load_checkpoint(path)?;
            ((*model).clone(), checkpoint.diffusion, TrainOptions::default())
        }
        path => {
            let recipe = match path {
                Some(path) => Recipe::load_without_data(path)?,
                None => Recipe::parse_without_data(RECIPE, Path::new("fashion-mnist.toml"))?,
            };
            let train = recipe.options();
            (JointModel::new(&recipe.model)?, recipe.diffusion, train)
        }
    };
    let batches = if options.batch.is_empty() { vec![train.batch_size] } else { options.batch.clone() };
    let mut keys = BTreeMap::new();
    for batch in batches {
        for key in keys_of(&model, &diffusion, &train, batch)? {
            let count: &mut usize = keys.entry(key.0).or_default();
            *count = (*count).max(key.1);
        }
    }
    Ok(keys)
}

fn keys_of(
    model: &JointModel,
    diffusion: &DiffusionConfig,
    train: &TrainOptions,
    batch: usize,
) -> Result<Vec<(Key, usize)>> {
    let guidance = Guidance::Representation;
    let mut plans = vec![
        classify_plan(model, batch, WeightSet::Raw)?,
        step_plan(model, &StepSpec { guidance, ..StepSpec::new(batch) }, WeightSet::Raw)?,
    ];
    // BatchNorm cannot be trained on one image.
    if batch >= 2 {
        let spec = TrainSpec { batch, micro_batches: 1, ..TrainSpec::of(train) };
        plans.push(train_plan(model, diffusion, &spec)?);
    }
    Ok(plans.iter().flat_map(|plan| plan.keys()).collect())
}

fn table(adapter: &str, driver: &str, options: &Tune, rows: &[(Key, usize, Times)]) -> Tuning {
    let measured = format!(
        "duet {} tune, {driver}: shortest of at least 3 turns within {} s per shape, families in turns",
        env!("CARGO_PKG_VERSION"),
        options.seconds
    );
    let choices = rows.iter().map(|(key, _, times)| times.row(key)).collect();
    Tuning { adapter: adapter.to_owned(), measured, otherwise: None, choices }
}

fn print(rows: &[(Key, usize, Times)], single: usize) {
    say!(
        "{:<82} {:>5} {:>10} {:>10} {:>10} {:>11}  choice",
        "",
        "runs",
        "direct",
        "tiled",
        "subgroup",
        "cooperative"
    );
    let mut sums = [0.0f64; 2];
    for (key, runs, times) in rows {
        let cell = |family| match times.of(family) {
            Some(seconds) => format!("{:>7.3} ms", 1e3 * seconds),
            None => format!("{:>10}", "-"),
        };
        let (family, best) = times.best();
        sums[0] += times.of(Family::Direct).unwrap_or(best) * *runs as f64;
        sums[1] += best * *runs as f64;
        let [direct, tiled, subgroup, matrices] = Family::ALL.map(cell);
        say!("{:<82} {runs:>5} {direct} {tiled} {subgroup} {matrices:>11}  {family}", key.to_string());
    }
    let counts = Family::ALL.map(|family| {
        let count = rows.iter().filter(|(_, _, times)| times.best().0 == family).count();
        format!("{family} for {count}")
    });
    say!(
        "{} of {} shapes ({single} more exist in one family only); with the choices these operations take {:.0} % of the \
         direct family's time",
        counts.join(", "),
        rows.len(),
        100.0 * sums[1] / sums[0].max(1e-12)
    );
}
