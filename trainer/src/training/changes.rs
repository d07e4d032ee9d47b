//! What a run that goes on would do otherwise than it did so far.

use crate::data::Dataset;
use crate::recipe::Recipe;
use duet::checkpoint::{Checkpoint, TrainingState};
use duet::recipe::CHANGE_NO_STEP;
use duet::{Error, Result};
use serde::Serialize;
use serde_json::{Map, Value};

/// Settings of training that files lack where they are not set.
const OPTIONAL: [&str; 8] = [
    "clip_grad_norm",
    "lr_decay",
    "ema_warmup",
    "min_snr_gamma",
    "precision",
    "timestep_sampler",
    "labelled_share",
    "labelled_by",
];
/// Settings of the model that leave every weight its place and meaning.
const NO_SHAPE: [&str; 3] = ["dropout", "classifier_dropout", "class_names"];

/// A setting that is not what it was.
#[derive(Debug, PartialEq)]
pub struct Change {
    /// Its name in a recipe.
    pub field: String,
    /// What it was.
    pub was: String,
    /// What it is now.
    pub is: String,
    /// Whether a run can go on with it.
    pub possible: bool,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} was {}, is {}", self.field, self.was, self.is)
    }
}

/// Everything that makes steps of `recipe` on `data` other ones than those `checkpoint` was made by. What an earlier version
/// did not note down is not compared.
///
/// # Errors
/// [`Error::Config`] for settings that cannot be put into JSON.
pub fn changes(
    checkpoint: &Checkpoint,
    state: &TrainingState,
    recipe: &Recipe,
    data: &Dataset,
) -> Result<Vec<Change>> {
    let mut list = network_changes(checkpoint, recipe)?;
    let mut was = match state.recipe.get("train") {
        Some(Value::Object(train)) => train.clone(),
        _ => Map::new(),
    };
    let mut is = fields(&recipe.train)?;
    // An earlier version, or a program of its own, noted less down.
    let noted = |field: &str| was.contains_key(field) || (OPTIONAL.contains(&field) && !was.is_empty());
    is.retain(|field, _| ["seed", "classifier_only"].contains(&field.as_str()) || noted(field));
    was.insert("seed".into(), state.seed.into());
    was.insert("classifier_only".into(), checkpoint.classifier_only.into());
    for settings in [&mut was, &mut is] {
        settings.retain(|field, _| !CHANGE_NO_STEP.contains(&field.as_str()));
        // Recomputed activations have the same bits.
        if settings.get("activations").is_some_and(|kind| kind == "recompute") {
            settings.insert("activations".into(), "keep".into());
        }
    }
    compare("train", &was, &is, |_| true, &mut list);
    if state.recipe.is_object() {
        let was = state.recipe.get("augment").and_then(Value::as_object).cloned().unwrap_or_default();
        let is = if recipe.augment.is_on() { fields(&recipe.augment)? } else { Map::new() };
        compare("augment", &was, &is, |_| true, &mut list);
    }
    if !data.has_fingerprint(&state.data_fingerprint) {
        list.push(Change {
            field: "data".into(),
            was: short(&state.data_fingerprint),
            is: format!("{} (its training images or their labels)", short(&data.fingerprint())),
            possible: true,
        });
    }
    Ok(list)
}

/// What differs between the networks and diffusion processes of a checkpoint and a recipe.
///
/// # Errors
/// As [`changes`].
pub fn network_changes(checkpoint: &Checkpoint, recipe: &Recipe) -> Result<Vec<Change>> {
    let mut list = Vec::new();
    let (was, is) = (fields(&checkpoint.model)?, fields(&recipe.model)?);
    compare("model", &was, &is, |field| NO_SHAPE.contains(&field), &mut list);
    let (was, is) = (fields(&checkpoint.diffusion)?, fields(&recipe.diffusion)?);
    compare("diffusion", &was, &is, |_| true, &mut list);
    Ok(list)
}

/// The fields of a configuration by name.
fn fields(config: &impl Serialize) -> Result<Map<String, Value>> {
    match serde_json::to_value(config) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Ok(Map::new()),
        Err(error) => Err(Error::config("recipe", error.to_string())),
    }
}

/// Adds the fields of `part` that differ; a missing one is null.
fn compare(
    part: &str,
    was: &Map<String, Value>,
    is: &Map<String, Value>,
    possible: impl Fn(&str) -> bool,
    list: &mut Vec<Change>,
) {
    let mut names: Vec<&String> = was.keys().chain(is.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let [was, is] = [was, is].map(|fields| fields.get(name).unwrap_or(&Value::Null));
        if was != is {
            let [was, is] = [was, is].map(text);
            list.push(Change { field: format!("{part}.{name}"), was, is, possible: possible(name) });
        }
    }
}

/// A value as recipes have it: f32 in its own digits.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "not set".into(),
        Value::Number(number) => match number.as_f64() {
            Some(wide) if number.is_f64() && f64::from(wide as f32) == wide => (wide as f32).to_string(),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// The beginning of a fingerprint.
fn short(fingerprint: &str) -> String {
    fingerprint.chars().take(16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use duet::model::Labels;
    use duet::tensor::Tensors;
    use std::path::Path;

    fn recipe(more: &str) -> Recipe {
        let text = format!("[data]\nkind = \"mnist\"\npath = \"x\"\n[model]\nnum_channels = 32\n{more}");
        Recipe::parse(&text, Path::new("recipe.toml")).unwrap()
    }

    fn data(first: u8) -> Dataset {
        let labels = Labels::Classes(vec![0, 1]);
        Dataset {
            images: vec![first, 2].into(),
            labels,
            channels: 1,
            size: 1,
            class_names: vec!["a".into(), "b".into()],
        }
    }

    fn saved(recipe: &Recipe, noted: Value) -> Checkpoint {
        let training = TrainingState {
            step: 4,
            seed: recipe.train.seed,
            adam_m: Tensors::new(),
            adam_v: Tensors::new(),
            timesteps: Tensors::new(),
            loss_scale: None,
            recipe: noted,
            data_fingerprint: data(1).fingerprint(),
            best: None,
            last: None,
        };
        Checkpoint {
            training: Some(training),
            ..Checkpoint::new(recipe.model.clone(), recipe.diffusion.clone(), Tensors::new())
        }
    }

    fn told(saved: &Checkpoint, recipe: &Recipe, data: &Dataset) -> Vec<String> {
        let list = changes(saved, saved.training.as_ref().unwrap(), recipe, data).unwrap();
        list.iter().map(|c| format!("{c}{}", if c.possible { "" } else { "!" })).collect()
    }

    #[test]
    fn every_setting_that_changes_steps_is_named_with_both_values() {
        let begun = recipe("[train]\nclassifier_loss_scaling = 0.1\n");
        let saved = saved(&begun, serde_json::to_value(&begun).unwrap());
        let told = |more: &str| told(&saved, &recipe(more), &data(1));
        let base = "[train]\nclassifier_loss_scaling = 0.1\n";
        assert_eq!(told(base), [""; 0]);
        let free = "steps = 7\nlog_every = 3\neval_every = 3\neval_images = 3\nsample_every = 3\nsave_every = 3\n\
                    sample_steps = \"4\"\nsample_alpha = 1.0\nactivations = \"recompute\"\nkeep_last = 3\n\
                    keep_best = \"loss\"\nearly_stop = 2\nmax_time = \"2h\"\n";
        assert_eq!(told(&format!("{base}{free}")), [""; 0]);
        for (line, want) in [
            ("batch_size = 64", "train.batch_size was 128, is 64"),
            ("micro_batches = 2", "train.micro_batches was 1, is 2"),
            ("learning_rate = 0.5", "train.learning_rate was 0.0001, is 0.5"),
            ("lr_schedule = \"cosine\"", "train.lr_schedule was \"constant\", is \"cosine\""),
            ("warmup_steps = 5", "train.warmup_steps was 0, is 5"),
            ("weight_decay = 0.25", "train.weight_decay was 0, is 0.25"),
            ("ema_rate = 0.5", "train.ema_rate was 0.9999, is 0.5"),
            ("ema_warmup = true", "train.ema_warmup was not set, is true"),
            ("classifier_input = \"both\"", "train.classifier_input was \"clean\", is \"both\""),
            ("classifier_only = true", "train.classifier_only was false, is true"),
            ("activations = \"f16\"", "train.activations was \"keep\", is \"f16\""),
            ("precision = \"f16\"", "train.precision was not set, is \"f16\""),
            ("clip_grad_norm = 2.0", "train.clip_grad_norm was not set, is 2"),
            ("min_snr_gamma = 5.0", "train.min_snr_gamma was not set, is 5"),
            (
                "timestep_sampler = \"loss_second_moment\"",
                "train.timestep_sampler was not set, is \"loss_second_moment\"",
            ),
            ("seed = 9", "train.seed was 0, is 9"),
            ("labelled_share = 0.5", "train.labelled_share was not set, is 0.5"),
            ("flip = true", "train.flip was false, is true"),
            ("groups = { decoder = \"frozen\" }", "train.groups was "),
        ] {
            let got = told(&format!("{base}{line}\n"));
            assert!(got.len() == 1 && got[0].starts_with(want), "{line}: {got:?}");
        }
        let augment = format!("{base}[augment]\nhorizontal_flip = true\n");
        let got = told(&augment);
        assert_eq!(got, ["augment.horizontal_flip was not set, is {\"probability\":0.5}"]);
        assert_eq!(told(&format!("{base}[augment]\nborder = 0.0\n")), [""; 0], "nothing reads it");
        assert_eq!(told(""), ["train.classifier_loss_scaling was 0.1, is 0.001"]);
        let other = format!("dropout = 0.5\nnum_heads = 2\n[diffusion]\ndiffusion_steps = 500\n{base}");
        assert_eq!(
            told(&other),
            [
                "model.dropout was 0, is 0.5",
                "model.num_heads was 4, is 2!",
                "diffusion.diffusion_steps was 1000, is 500"
            ]
        );
        let named = format!("num_classes = 2\nclass_names = [\"a\", \"b\"]\n{base}");
        assert_eq!(
            told(&named),
            ["model.class_names was [], is [\"a\",\"b\"]", "model.num_classes was 10, is 2!"]
        );
        let changed = super::tests::told(&saved, &begun, &data(9));
        assert!(changed.len() == 1 && changed[0].starts_with("data was blake3:"), "{changed:?}");
    }

    #[test]
    fn what_earlier_versions_did_not_note_down_is_not_compared() {
        let now = recipe("[train]\nbatch_size = 64\nflip = true\nclip_grad_norm = 1.0\n");
        assert_eq!(told(&saved(&now, Value::Null), &now, &data(1)), [""; 0]);
        let other = recipe("[train]\nseed = 3\n");
        assert_eq!(told(&saved(&now, Value::Null), &other, &data(1)), ["train.seed was 0, is 3"]);
        let early = serde_json::json!({"train": {"batch_size": 32, "steps": 5}});
        let want = ["train.batch_size was 32, is 64", "train.clip_grad_norm was not set, is 1"];
        assert_eq!(told(&saved(&now, early), &now, &data(1)), want);
    }
}
