//! Recipes of programs whose images are in memory: the command's sections and names, without what only files have.

use super::text::from_text;
use super::train::{CHANGE_NO_STEP, TrainRecipe};
use crate::diffusion::DiffusionConfig;
use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::picture::Pictures;
use crate::train::{Augment, TimestepSampler, TrainOptions};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

const GIVEN: &str = "images are given here, and not looked for";
const HELD_OUT: &str = "images to look at are given here beside those to train on";
/// What recipes say of the files of their data, and why that says nothing to a program.
pub(super) const OF_FILES: [(&str, &str); 9] = [
    ("kind", GIVEN),
    ("path", GIVEN),
    ("pad_to", "images are not read from files of numbers here; of pictures resize_to says the same"),
    ("test_share", HELD_OUT),
    ("validation_share", HELD_OUT),
    ("group", HELD_OUT),
    ("split_seed", HELD_OUT),
    ("labels", "each image is given with its class here"),
    ("damaged", "pictures that cannot be read are not given here"),
];

/// A network and its process, with the pictures that it is for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Network {
    /// The network.
    pub model: ModelConfig,
    /// The diffusion process.
    pub diffusion: DiffusionConfig,
    /// What pictures its images were.
    pub pictures: Pictures,
}

/// A recipe whose images and labels a program has in memory.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::recipe::MemoryRecipe;
///
/// let text = r#"{
///     "model": {"num_channels": 24, "num_groups": 8, "class_names": ["cat", "dog"], "num_classes": 2},
///     "train": {"steps": 2000, "batch_size": 16, "lr_schedule": "cosine"},
///     "augment": {"crop": true}
/// }"#;
/// let recipe = MemoryRecipe::parse(text, None)?;
/// assert_eq!((recipe.model.num_channels, recipe.options().batch_size), (24, 16));
/// // A mistake is named with its section.
/// let error = MemoryRecipe::parse(r#"{"model": {"num_chanels": 24}}"#, None).unwrap_err();
/// assert!(error.to_string().starts_with("model.num_chanels: "));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemoryRecipe {
    /// What pictures the images were; what else recipes say of data is of files.
    pub data: Pictures,
    /// The network.
    pub model: ModelConfig,
    /// The diffusion process.
    pub diffusion: DiffusionConfig,
    /// The training.
    pub train: TrainRecipe,
    /// What happens to images before the classifier sees them.
    #[serde(skip_serializing_if = "is_off")]
    pub augment: Augment,
}

fn is_off(augment: &Augment) -> bool {
    !augment.is_on()
}

/// The sections as they are given.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sections {
    data: Option<Value>,
    model: Option<Value>,
    diffusion: Option<Value>,
    train: Option<Value>,
    augment: Option<Value>,
}

impl MemoryRecipe {
    /// Reads and checks a recipe, TOML or JSON. Of a network that is there already (`of`) its sections may be left out, and say nothing
    /// else.
    ///
    /// # Errors
    /// [`Error::Config`] naming section and field: what is no setting or no such value, what only files have, and where one
    /// network is meant and another is there.
    pub fn parse(text: &str, of: Option<&Network>) -> Result<MemoryRecipe> {
        let sections: Sections = from_text(text).map_err(|error| Error::config("recipe", error))?;
        if let Some(Value::Object(data)) = &sections.data
            && let Some((field, reason)) = OF_FILES.iter().find(|(field, _)| data.contains_key(*field))
        {
            let detail = format!("is of data in files: {reason}; leave it out");
            return Err(Error::config(format!("data.{field}"), detail));
        }
        if sections.model.is_none() && of.is_none() {
            return Err(Error::config("model", "is missing: what network is to be made?"));
        }
        let network = of.cloned().unwrap_or_default();
        let fixed = of.is_some();
        let recipe = MemoryRecipe {
            data: section("data", sections.data, &network.pictures, fixed)?,
            model: section("model", sections.model, &network.model, fixed)?,
            diffusion: section("diffusion", sections.diffusion, &network.diffusion, fixed)?,
            train: section("train", sections.train, &TrainRecipe::default(), false)?,
            augment: section("augment", sections.augment, &Augment::default(), false)?,
        };
        recipe.validate()?;
        Ok(recipe)
    }

    /// What the library's trainer is told.
    pub fn options(&self) -> TrainOptions {
        TrainOptions { augment: self.augment.clone(), ..self.train.options() }
    }

    fn validate(&self) -> Result<()> {
        self.model.validate().map_err(|error| within("model", error))?;
        self.diffusion.validate().map_err(|error| within("diffusion", error))?;
        self.data.check(self.model.image_size).map_err(|error| within("data", error))?;
        self.options().validate().map_err(|error| within("train", error))?;
        self.augment.validate_for(&self.model)?;
        self.train.validate_for(&self.diffusion).map_err(|error| within("train", error))?;
        match self.train.needs_files().into_iter().next() {
            Some((field, reason, instead)) => {
                Err(Error::config(format!("train.{field}"), format!("{reason}: {instead}")))
            }
            None => Ok(()),
        }
    }

    /// Whether a run goes on with this recipe that was begun with `noted`, a recipe as checkpoints note it down.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first setting that would make other steps, with what it was and is.
    pub fn goes_on(&self, noted: &Value) -> Result<()> {
        let now = serde_json::to_value(self).map_err(|error| Error::config("recipe", error.to_string()))?;
        for name in ["train", "augment"] {
            let of =
                |recipe: &Value| recipe.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
            let (was, is) = (of(noted), of(&now));
            let free = |field: &&String| name == "train" && CHANGE_NO_STEP.contains(&field.as_str());
            let fields = was.keys().chain(is.keys()).filter(|field| !free(field));
            if let Some((field, was, is)) = differing(fields, &was, &is) {
                let detail = format!("was {was}, is {is}: a run goes on as it began, or another one begins");
                return Err(Error::config(format!("{name}.{field}"), detail));
            }
        }
        Ok(())
    }
}

impl TrainRecipe {
    /// What of it only the command can follow: the settings, why, and what to say instead.
    pub(super) fn needs_files(&self) -> Vec<(&'static str, &'static str, &'static str)> {
        let all = [
            ("keep_last", self.keep_last != 1, "one checkpoint is kept, the newest", "must be 1"),
            ("keep_best", self.keep_best.is_some(), "one checkpoint is kept, the newest", "leave it out"),
            ("early_stop", self.early_stop.is_some(), "needs keep_best", "leave it out"),
            ("max_time", self.max_time.is_some(), "a run ends by its steps, or is stopped", "leave it out"),
            (
                "labelled_share",
                self.labelled_share.is_some(),
                "images without a label are given without one",
                "leave it out",
            ),
            (
                "timestep_sampler",
                self.timestep_sampler != TimestepSampler::Uniform && cfg!(target_arch = "wasm32"),
                "\"loss_second_moment\" waits for each step's losses, which a browser cannot",
                "use \"uniform\"",
            ),
        ];
        let refused = all.into_iter().filter(|(_, refused, ..)| *refused);
        refused.map(|(field, _, reason, instead)| (field, reason, instead)).collect()
    }
}

/// The first of `fields` whose values differ, with both.
fn differing<'a>(
    mut fields: impl Iterator<Item = &'a String>,
    was: &Map<String, Value>,
    is: &Map<String, Value>,
) -> Option<(String, String, String)> {
    let text = |value: Option<&Value>| value.map_or("not set".to_owned(), Value::to_string);
    let field = fields.find(|field| was.get(*field) != is.get(*field))?;
    Some((field.clone(), text(was.get(field)), text(is.get(field))))
}

/// A section: what is given over what `base` says; of what is there already (`fixed`) it must say the same.
pub(super) fn section<T>(name: &str, given: Option<Value>, base: &T, fixed: bool) -> Result<T>
where
    T: Serialize + DeserializeOwned + Clone,
{
    let Some(given) = given else { return Ok(base.clone()) };
    let Value::Object(given) = given else {
        return Err(Error::config(name, "must be an object of settings"));
    };
    let read = |fields: &Map<String, Value>| serde_json::from_value::<T>(Value::Object(fields.clone()));
    let base = match serde_json::to_value(base) {
        Ok(Value::Object(base)) if fixed => base,
        _ => Map::new(),
    };
    let mut all = base.clone();
    all.extend(given.clone());
    let made = read(&all).map_err(|error| {
        // Every field has a default, so that each can be read alone: that tells whose the fault is.
        let wrong = given.iter().find_map(|(field, value)| {
            let alone = Map::from_iter([(field.clone(), value.clone())]);
            read(&alone).err().map(|error| Error::config(format!("{name}.{field}"), error.to_string()))
        });
        wrong.unwrap_or_else(|| Error::config(name, error.to_string()))
    })?;
    if fixed
        && let Ok(Value::Object(is)) = serde_json::to_value(&made)
        && let Some((field, was, is)) = differing(base.keys().chain(is.keys()), &base, &is)
    {
        let detail = format!("is {is}, and of the model that is trained {was}: leave it out");
        return Err(Error::config(format!("{name}.{field}"), detail));
    }
    Ok(made)
}

/// An error of a field, which is named with its section.
fn within(section: &str, error: Error) -> Error {
    match error {
        Error::Config { field, detail }
            if !field.starts_with("augment") && !field.starts_with(&format!("{section}.")) =>
        {
            Error::Config { field: format!("{section}.{field}"), detail }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::RateSchedule;

    #[test]
    fn what_is_left_out_is_what_files_leave_out() {
        let recipe = MemoryRecipe::parse(r#"{"model": {"num_channels": 32}}"#, None).unwrap();
        assert_eq!(recipe.train, TrainRecipe::default());
        assert_eq!(recipe.model, ModelConfig { num_channels: 32, ..ModelConfig::default() });
        let text = r#"{"model": {}, "data": {"ground": 255}, "diffusion": {"diffusion_steps": 200},
            "train": {"lr_schedule": "cosine", "groups": {"decoder": "frozen"}}, "augment": {"crop": true}}"#;
        let recipe = MemoryRecipe::parse(text, None).unwrap();
        assert_eq!((recipe.data.ground, recipe.diffusion.diffusion_steps), (255, 200));
        assert_eq!(recipe.train.lr_schedule, RateSchedule::Cosine);
        assert!(
            recipe.options().augment.crop.is_some() && recipe.options().groups.decoder.factor().is_none()
        );
    }

    #[test]
    fn mistakes_name_section_and_field() {
        for (text, field) in [
            ("[]", "recipe"),
            ("{", "recipe"),
            ("[model]\nnum_chanels = 3", "model.num_chanels"),
            ("[model]\n[data]\npath = \"images\"", "data.path"),
            (r#"{"modell": {}}"#, "recipe"),
            ("{}", "model"),
            (r#"{"model": 3}"#, "model"),
            (r#"{"model": {"num_chanels": 3}}"#, "model.num_chanels"),
            (r#"{"model": {"num_channels": "many"}}"#, "model.num_channels"),
            (r#"{"model": {"image_size": 27}}"#, "model.channel_mult"),
            (r#"{"model": {"num_channels": 24}}"#, "model.num_groups"),
            (r#"{"model": {"class_names": ["a", "b"]}}"#, "model.class_names"),
            (r#"{"model": {}, "diffusion": {"diffusion_steps": 0}}"#, "diffusion.diffusion_steps"),
            (r#"{"model": {}, "data": {"resize_to": 99}}"#, "data.resize_to"),
            (r#"{"model": {}, "data": {"path": "images"}}"#, "data.path"),
            (r#"{"model": {}, "data": {"kind": "mnist", "path": "images"}}"#, "data.kind"),
            (r#"{"model": {}, "train": {"batch_size": 7, "micro_batches": 2}}"#, "train.batch_size"),
            (r#"{"model": {}, "train": {"learning_rate": -1}}"#, "train.learning_rate"),
            (r#"{"model": {}, "train": {"lr_schedule": "steep"}}"#, "train.lr_schedule"),
            (r#"{"model": {}, "train": {"lr_schedule": "exponential"}}"#, "train.lr_decay"),
            (r#"{"model": {}, "train": {"sample_steps": "ddim7,"}}"#, "train.sample_steps"),
            (r#"{"model": {}, "train": {"groups": {"decoder": "icy"}}}"#, "train.groups"),
            (r#"{"model": {}, "train": {"keep_last": 3}}"#, "train.keep_last"),
            (r#"{"model": {}, "train": {"keep_best": "loss"}}"#, "train.keep_best"),
            (r#"{"model": {}, "train": {"max_time": "2h"}}"#, "train.max_time"),
            (r#"{"model": {}, "train": {"labelled_share": 0.5}}"#, "train.labelled_share"),
            (r#"{"model": {}, "augment": {"shear": true}}"#, "augment.shear"),
            (r#"{"model": {}, "augment": {"color_jitter": true}}"#, "augment.color_jitter"),
            (r#"{"model": {}, "augment": {"crop": {"scale": [0.9, 0.5]}}}"#, "augment.crop.scale"),
        ] {
            let error = MemoryRecipe::parse(text, None).unwrap_err();
            assert!(
                matches!(&error, Error::Config { field: named, .. } if named == field),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn of_a_network_that_is_there_a_recipe_says_the_same_or_nothing() {
        let model = ModelConfig { num_channels: 32, num_classes: 2, ..ModelConfig::default() };
        let network = Network { model, ..Network::default() };
        let parse = |text: &str| MemoryRecipe::parse(text, Some(&network));
        for text in ["{}", r#"{"train": {"steps": 5}}"#, r#"{"model": {"num_channels": 32}, "data": {}}"#] {
            assert_eq!(parse(text).unwrap().model, network.model, "{text}");
        }
        for (text, word) in [
            (
                r#"{"model": {"num_channels": 64}}"#,
                "model.num_channels: is 64, and of the model that is trained 32",
            ),
            (r#"{"diffusion": {"diffusion_steps": 10}}"#, "diffusion.diffusion_steps: is 10"),
            (r#"{"data": {"ground": 9}}"#, "data.ground: is 9"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(word), "{error}");
        }
    }

    #[test]
    fn a_run_goes_on_as_it_began() {
        let parse = |text: &str| MemoryRecipe::parse(text, None).unwrap();
        let began = parse(r#"{"model": {}, "train": {"batch_size": 16}, "augment": {"crop": true}}"#);
        let noted = serde_json::to_value(&began).unwrap();
        began.goes_on(&noted).unwrap();
        let longer = r#"{"model": {}, "train": {"batch_size": 16, "steps": 7, "save_every": 2}, "augment": {"crop": true}}"#;
        parse(longer).goes_on(&noted).unwrap();
        for (text, word) in [
            (
                r#"{"model": {}, "train": {"batch_size": 8}, "augment": {"crop": true}}"#,
                "train.batch_size: was 16, is 8",
            ),
            (
                r#"{"model": {}, "train": {"batch_size": 16, "clip_grad_norm": 1}}"#,
                "train.clip_grad_norm: was not set",
            ),
            (r#"{"model": {}, "train": {"batch_size": 16}}"#, "augment."),
        ] {
            let error = parse(text).goes_on(&noted).unwrap_err().to_string();
            assert!(error.starts_with(word), "{error}");
        }
    }
}
