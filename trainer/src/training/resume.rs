//! What a run may begin with: data that fit the model, and checkpoints.

use crate::data::Dataset;
use crate::io::session::load_checkpoint;
use crate::recipe::Recipe;
use duet::checkpoint::Checkpoint;
use duet::model::{Head, Labels, ModelConfig};
use duet::{Error, Result};
use std::path::Path;

/// Whether the model has a head for the data's labels.
///
/// # Errors
/// [`Error::Config`] saying what to change.
pub fn labels_fit(data: &Dataset, model: &ModelConfig) -> Result<()> {
    let (names, classes) = (data.class_names.len(), model.num_classes);
    match (&data.labels, model.head) {
        (Labels::Classes(_), Head::Multiclass) if names > classes => {
            let detail =
                format!("the data have {names} classes, the model {classes}: set num_classes = {names}");
            Err(Error::config("model.num_classes", detail))
        }
        (Labels::MultiLabel(_), Head::MultiLabel) if names != classes => {
            let detail = format!("the data have {names} labels, the model {classes}");
            Err(Error::config("model.num_classes", detail))
        }
        (Labels::Classes(_), Head::MultiLabel) => {
            Err(Error::config("model.head", "the data have one class per image: use \"multiclass\""))
        }
        (Labels::MultiLabel(_), Head::Multiclass) => Err(Error::config(
            "model.head",
            "the data have any number of labels per image: use \"multi_label\"",
        )),
        _ => Ok(()),
    }
}

/// The names of the classes of a model that is to learn `data`: the data's own, but in the order of the model it begins with
/// where that has just these, so that its head goes on to mean what it meant.
///
/// # Errors
/// [`Error::Checkpoint`] for a file that cannot be read.
pub fn class_names(init: Option<&Path>, data: &Dataset) -> Result<Vec<String>> {
    if let Some(file) = init {
        let before = load_checkpoint(file)?.0.model;
        let known = before.match_classes(&data.class_names);
        if before.class_names.len() == data.class_names.len() && known.is_ok() {
            return Ok(before.class_names);
        }
    }
    Ok(data.class_names.clone())
}

/// The checkpoint to go on from, unless it belongs to another model or other data.
///
/// # Errors
/// [`Error::Checkpoint`] saying what differs.
pub fn resumable(file: &Path, recipe: &Recipe, data: &Dataset) -> Result<Checkpoint> {
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
    if !data.has_fingerprint(&state.data_fingerprint) {
        return refuse(
            "it was trained on other data (or on a folder without `train` and `test`, by an earlier version that held out \
             other images)",
        );
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
    same_order(&checkpoint.model, &recipe.model)
        .map_err(|e| Error::Checkpoint { path: file.into(), detail: e.to_string() })?;
    checkpoint.model.class_names.clone_from(&recipe.model.class_names);
    Ok(checkpoint.into_inference())
}

/// Refuses the names of one model in another order: its head would begin with one class taken for another.
fn same_order(before: &ModelConfig, now: &ModelConfig) -> Result<()> {
    if before.class_names.is_empty() || now.class_names.len() != before.num_classes {
        return Ok(());
    }
    match before.match_classes(&now.class_names) {
        Ok(order) if !order.iter().copied().eq(0..before.num_classes) => {
            let detail =
                "has the recipe's class_names in another order: give them in the model's, or leave them out";
            Err(Error::config("class_names", format!("{detail}; the model's are {}", before.class_list())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_to_begin_with_keeps_the_order_of_its_names() {
        let model = |names: &[&str]| ModelConfig {
            num_classes: names.len(),
            class_names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..ModelConfig::default()
        };
        let before = model(&["dog", "cat"]);
        for names in
            [vec!["dog", "cat"], vec!["Dog", "CAT"], vec!["hen", "pig"], vec!["cat", "hen"], vec!["0", "1"]]
        {
            same_order(&before, &model(&names)).unwrap();
        }
        let error = same_order(&before, &model(&["cat", "dog"])).unwrap_err().to_string();
        assert!(error.contains("another order") && error.contains("\"dog\", \"cat\""), "{error}");
        same_order(&model(&[]), &before).unwrap();
    }
}
