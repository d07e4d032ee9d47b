//! `duet train`: a resumable training run with figures, sample grids and test accuracy.

use crate::cli::{Cli, Train};
use crate::recipe::Recipe;
use crate::training::train;
use duet::{Error, Result};

/// Runs the command.
///
/// # Errors
/// A bad recipe, data or checkpoint; a loss that is not finite; device errors.
pub fn run(arguments: &Cli, options: &Train) -> Result<()> {
    let mut recipe = Recipe::load(&options.recipe)?;
    override_recipe(&mut recipe, options)?;
    recipe.validate()?;
    train(arguments, options, recipe)
}

fn override_recipe(recipe: &mut Recipe, options: &Train) -> Result<()> {
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
    Ok(())
}
