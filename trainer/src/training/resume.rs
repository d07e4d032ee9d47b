//! What a run may begin with: data that fit the model, and checkpoints.

use super::changes::{Change, changes, network_changes};
use super::warn;
use crate::data::Dataset;
use crate::io::session::load_checkpoint;
use crate::recipe::{RateSchedule, Recipe};
use duet::checkpoint::{Checkpoint, TrainingState};
use duet::model::{Head, Labels, ModelConfig, class_list};
use duet::{Error, Result};
use std::path::Path;

/// Whether the model has a head for the data's labels, and for as many. One class per image is learnt by a multi-label head too,
/// see [`Dataset::for_model`].
///
/// # Errors
/// [`Error::Config`] saying what to change.
pub fn labels_fit(data: &Dataset, model: &ModelConfig) -> Result<()> {
    let (names, classes) = (data.class_names.len(), model.num_classes);
    let what = match (&data.labels, model.head) {
        (Labels::MultiLabel(_), Head::Multiclass) => {
            let detail = "the data have any number of labels per image: use \"multi_label\"";
            return Err(Error::config("model.head", detail));
        }
        (Labels::MultiLabel(_), _) => "labels",
        (Labels::Classes(_), _) => "classes",
    };
    // Classes without images are meant by who names them all.
    let named = model.class_names.len() == classes && what == "classes";
    if names > classes || (names < classes && !named) {
        let detail = format!(
            "the data have {names} {what} ({}), the model {classes}: set num_classes = {names}",
            class_list(&data.class_names)
        );
        return Err(Error::config("model.num_classes", detail));
    }
    Ok(())
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

/// The checkpoint to go on from, made ready for `recipe`. What would change the steps to come is refused, and only told
/// where it is `meant`.
///
/// # Errors
/// [`Error::Checkpoint`] naming each setting that differs, with what it was and what it is.
pub fn resumable(
    file: &Path,
    recipe: &Recipe,
    data: &Dataset,
    meant: bool,
    json: bool,
) -> Result<Checkpoint> {
    let (mut checkpoint, _) = load_checkpoint(file)?;
    let refuse = |detail: String| Err(Error::Checkpoint { path: file.into(), detail });
    let Some(state) = &checkpoint.training else {
        return refuse("holds no training state: it was exported for inference".into());
    };
    let list = changes(&checkpoint, state, recipe, data)?;
    if list.iter().any(|change| !change.possible) {
        let other = named(list.iter().filter(|change| !change.possible));
        return refuse(format!("is of another network: {other}; begin anew, with another --out"));
    }
    if !list.is_empty() && !meant {
        let detail = format!("was trained otherwise: {}; --override goes on all the same", named(&list));
        return refuse(detail);
    }
    if !list.is_empty() {
        warn(json, &format!("going on otherwise than before: {}", named(&list)));
    }
    if let Some(steps) = other_length(state, recipe) {
        let now = recipe.train.steps;
        let detail =
            format!("train.steps was {steps}, is {now}: the rates of a cosine over {now} steps from now on");
        warn(json, &detail);
    }
    checkpoint.model.clone_from(&recipe.model);
    checkpoint.diffusion.clone_from(&recipe.diffusion);
    Ok(checkpoint)
}

/// The number of steps that the run was to have, where it was another and learning rates depend on it.
fn other_length(state: &TrainingState, recipe: &Recipe) -> Option<u64> {
    let steps = state.recipe.get("train")?.get("steps")?.as_u64()?;
    (recipe.train.lr_schedule == RateSchedule::Cosine && steps != recipe.train.steps).then_some(steps)
}

/// The weights of another run to begin with, without its optimizer and its place in the data.
///
/// # Errors
/// [`Error::Checkpoint`] where it is of another configuration, naming what differs.
pub fn initial(file: &Path, recipe: &Recipe) -> Result<Checkpoint> {
    let (mut checkpoint, _) = load_checkpoint(file)?;
    let list = network_changes(&checkpoint, recipe)?;
    // Names and dropout do not change what the network computes.
    let other = named(list.iter().filter(|change| !(change.possible && change.field.starts_with("model."))));
    if !other.is_empty() {
        let detail = format!("is of another network than the recipe's: {other}");
        return Err(Error::Checkpoint { path: file.into(), detail });
    }
    same_order(&checkpoint.model, &recipe.model)
        .map_err(|e| Error::Checkpoint { path: file.into(), detail: e.to_string() })?;
    checkpoint.model.clone_from(&recipe.model);
    Ok(checkpoint.into_inference())
}

fn named<'a>(changes: impl IntoIterator<Item = &'a Change>) -> String {
    let texts: Vec<String> = changes.into_iter().map(Change::to_string).collect();
    texts.join("; ")
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

    fn data(labels: Labels) -> Dataset {
        Dataset {
            images: vec![0; 3],
            labels,
            channels: 1,
            size: 1,
            class_names: vec!["a".into(), "b".into()],
        }
    }

    #[test]
    fn a_wrong_number_of_classes_is_explained() {
        let single = data(Labels::Classes(vec![1, 0, 1]));
        let several = data(Labels::MultiLabel(vec![1.0; 6]));
        let model = |head, num_classes| ModelConfig { head, num_classes, ..ModelConfig::default() };
        for (head, set) in
            [(Head::Multiclass, &single), (Head::MultiLabel, &single), (Head::MultiLabel, &several)]
        {
            labels_fit(set, &model(head, 2)).unwrap();
            let what = if matches!(set.labels, Labels::Classes(_)) { "classes" } else { "labels" };
            for classes in [1, 5] {
                let error = labels_fit(set, &model(head, classes)).unwrap_err().to_string();
                assert!(
                    error.contains(&format!(
                        "2 {what} (\"a\", \"b\"), the model {classes}: set num_classes = 2"
                    )),
                    "{error}"
                );
            }
        }
        let error = labels_fit(&several, &model(Head::Multiclass, 2)).unwrap_err().to_string();
        assert!(error.contains("multi_label"), "{error}");
        let class_names: Vec<String> = ["a", "b", "c"].map(String::from).into();
        let named = ModelConfig { class_names, ..model(Head::MultiLabel, 3) };
        labels_fit(&single, &named).unwrap();
    }

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
