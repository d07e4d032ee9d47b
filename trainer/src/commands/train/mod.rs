//! `duet train`: a resumable training run with figures, sample grids and test accuracy; of data without a recipe one is found.

mod finish;
mod plan;

use crate::cli::{Cli, Train};
use crate::io::files::{self, Kind};
use crate::recipe::Recipe;
use crate::training::{CHECKPOINT, goes_on, train};
use duet::{Error, Result};

/// The recipe beside a run's checkpoint, where it was found for the data.
const RECIPE: &str = "recipe.toml";

/// Runs the command.
///
/// # Errors
/// A bad recipe, data or checkpoint; a loss that is not finite; device errors.
pub fn run(arguments: &Cli, options: &Train) -> Result<()> {
    let (recipe, found) = recipe(arguments, options)?;
    let trained = train(arguments, options, recipe.clone())?;
    if let Some(split) = trained.filter(|_| (found || options.report) && !recipe.train.classifier_only) {
        finish::finish(arguments, options, &recipe, &split);
    }
    Ok(())
}

/// The recipe of the run, and whether it was found for the data.
fn recipe(arguments: &Cli, options: &Train) -> Result<(Recipe, bool)> {
    if options.is_recipe() {
        let given = [("recipe", options.recipe.is_some()), ("preset", options.preset.is_some())];
        if let Some((name, _)) = given.iter().find(|(_, given)| *given) {
            let detail = format!("is for a folder of data; {} is a recipe already", options.source.display());
            return Err(Error::config(*name, detail));
        }
        let loaded = Recipe::load(&options.source).map_err(|error| match error {
            Error::Data { path, detail } if !options.is_toml() => {
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
        let mut recipe = Recipe::load(file)?;
        recipe.data.set_path(&options.source);
        return Ok((changed(recipe, options)?, false));
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
