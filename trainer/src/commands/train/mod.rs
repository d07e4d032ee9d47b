//! `duet train`: a resumable training run with figures, sample grids and test accuracy; of data without a recipe one is found.

mod finish;
mod plan;

use crate::cli::{Cli, Train, is_recipe_name};
use crate::data::Split;
use crate::io::files::{self, Kind};
use crate::io::output::mute;
use crate::processes::{Processes, join};
use crate::recipe::{LabelledBy, Recipe};
use crate::training::{CHECKPOINT, goes_on, train};
use duet::{Error, Result};

/// The recipe beside a run's checkpoint, where it was found for the data.
const RECIPE: &str = "recipe.toml";

/// Runs the command.
///
/// # Errors
/// A bad recipe, data or checkpoint; a loss that is not finite; device errors.
pub fn run(arguments: &Cli, options: &Train) -> Result<()> {
    let processes = join()?;
    if !processes.is_first() {
        mute();
    }
    let trained = trained(arguments, options, &processes);
    let (end, done) = match trained {
        Ok(done) => (Ok(()), done),
        Err(error) => (Err(error), None),
    };
    // The others are not needed for the report.
    processes.end(end)?;
    if let Some((recipe, split)) = done.filter(|_| processes.is_first()) {
        finish::finish(arguments, options, &recipe, &split);
    }
    Ok(())
}

/// Trains; the recipe and the data where there is to be a report.
fn trained(arguments: &Cli, options: &Train, processes: &Processes) -> Result<Option<(Recipe, Split)>> {
    let (recipe, found) = together(arguments, options, processes)?;
    let trained = train(arguments, options, recipe.clone(), processes)?;
    let wanted = (found || options.report) && !recipe.train.classifier_only;
    Ok(trained.filter(|_| wanted).map(|split| (recipe, split)))
}

/// As [`recipe`], of all processes. One that is found is found by the first one, for its device is measured.
fn together(arguments: &Cli, options: &Train, processes: &Processes) -> Result<(Recipe, bool)> {
    if options.is_recipe() || options.recipe.is_some() {
        return processes.agree(recipe(arguments, options));
    }
    let text = |(found, _): &(Recipe, bool)| {
        let text = toml::to_string(found).map_err(|error| Error::config("recipe", error.to_string()));
        text.map(String::into_bytes)
    };
    let (own, bytes) = processes.lead(|| recipe(arguments, options), text)?;
    match own {
        Some(own) => processes.agree(Ok(own)),
        None => {
            let text = String::from_utf8_lossy(&bytes);
            let file = options.folder().join(RECIPE);
            processes.agree(Recipe::parse(&text, &file).map(|recipe| (recipe, true)))
        }
    }
}

/// The recipe of the run, and whether it was found for the data.
fn recipe(arguments: &Cli, options: &Train) -> Result<(Recipe, bool)> {
    if options.is_recipe() {
        let given = [("recipe", options.recipe.is_some()), ("preset", options.preset.is_some())];
        if let Some((name, _)) = given.iter().find(|(_, given)| *given) {
            let detail = format!("is for a folder of data; {} is a recipe already", options.source.display());
            return Err(Error::config(*name, detail));
        }
        let loaded = Recipe::load_on(&options.source, options.data.as_deref()).map_err(|error| match error {
            Error::Data { path, detail } if !is_recipe_name(&options.source) => {
                Error::Data { path, detail: format!("{detail}; of data give the folder that they lie in") }
            }
            other => other,
        });
        return Ok((changed(loaded?, options)?, false));
    }
    if options.data.is_some() {
        let detail = format!("is for a recipe; {} is data already", options.source.display());
        return Err(Error::config("data", detail));
    }
    if let Some(file) = &options.recipe {
        return Ok((changed(Recipe::load_on(file, Some(&options.source))?, options)?, false));
    }
    let folder = options.folder();
    let file = folder.join(RECIPE);
    if goes_on(options, &folder.join(CHECKPOINT))? && file.is_file() {
        return Ok((changed(Recipe::load(&file)?, options)?, true));
    }
    files::check_apart(&folder, &options.source)?;
    let plan = plan::plan(arguments, options)?;
    let recipe = changed(plan.choice.recipe.clone(), options)?;
    files::make_folder(&folder)?;
    Kind::Table.write(&file, plan.recipe_text(&recipe)?.as_bytes())?;
    plan.say(arguments.json, &recipe, &file);
    Ok((recipe, true))
}

/// The recipe with all that the command line says otherwise, checked.
fn changed(recipe: Recipe, options: &Train) -> Result<Recipe> {
    let mut recipe = recipe.set(&options.set)?;
    let train = &mut recipe.train;
    train.steps = options.steps.unwrap_or(train.steps);
    train.batch_size = options.batch.unwrap_or(train.batch_size);
    train.learning_rate = options.lr.unwrap_or(train.learning_rate);
    train.classifier_only |= options.classifier_only;
    if options.reference_buffer {
        train.labelled_by = LabelledBy::ReferenceBuffer;
    }
    train.seed = options.seed.unwrap_or(train.seed);
    if let Some(folder) = &options.data {
        recipe.data.set_path(folder);
    }
    if let Some(text) = &options.max_time {
        train.max_time = Some(text.parse().map_err(|detail: String| Error::config("max_time", detail))?);
    }
    recipe.validate()?;
    Ok(recipe)
}
