//! Which checkpoints a run may begin with.

use crate::io::session::load_checkpoint;
use crate::recipe::Recipe;
use duet::checkpoint::Checkpoint;
use duet::model::ModelConfig;
use duet::{Error, Result};
use std::path::Path;

/// The checkpoint to go on from, unless it belongs to another model or other data.
///
/// # Errors
/// [`Error::Checkpoint`] saying what differs.
pub fn resumable(file: &Path, recipe: &Recipe, fingerprint: &str) -> Result<Checkpoint> {
    let (checkpoint, _) = load_checkpoint(file)?;
    let refuse = |detail: &str| Err(Error::Checkpoint { path: file.into(), detail: detail.into() });
    let Some(state) = &checkpoint.training else {
        return refuse("holds no training state: it was exported for inference");
    };
    if checkpoint.model != recipe.model || checkpoint.diffusion != recipe.diffusion {
        return refuse("its model or diffusion configuration differs from the recipe's");
    }
    if state.seed != recipe.train.seed {
        return refuse("its seed differs from the recipe's: the order of the data would change");
    }
    if state.data_fingerprint != fingerprint {
        return refuse("it was trained on other data");
    }
    Ok(checkpoint)
}

/// The weights of another run to begin with, without its optimizer and its place in the data.
///
/// # Errors
/// [`Error::Checkpoint`] where it is of another configuration.
pub fn initial(file: &Path, recipe: &Recipe) -> Result<Checkpoint> {
    let (mut checkpoint, _) = load_checkpoint(file)?;
    // Names do not change what the network computes.
    let unnamed = |config: &ModelConfig| ModelConfig { class_names: Vec::new(), ..config.clone() };
    if unnamed(&checkpoint.model) != unnamed(&recipe.model) || checkpoint.diffusion != recipe.diffusion {
        let detail = "its model or diffusion configuration differs from the recipe's";
        return Err(Error::Checkpoint { path: file.into(), detail: detail.into() });
    }
    checkpoint.model.class_names.clone_from(&recipe.model.class_names);
    Ok(checkpoint.into_inference())
}
