//! What an experiment trains: a recipe, what its stages do otherwise, and how large it is at each scale.

use crate::data::{DataKind, DataSpec};
use crate::recipe::Recipe;
use duet::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where Debian's package dataset-fashion-mnist puts the official files.
const FASHION_MNIST: &str = "/usr/share/datasets/fashion-mnist";

/// An experiment's file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Where the paper has it.
    pub source: String,
    /// What a reader of its tables has to know: what the paper does not state and is ours, say.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The data sets, by name; the path of each counts from the folder of all data.
    pub data: BTreeMap<String, DataSpec>,
    /// The recipe without its data.
    recipe: toml::Table,
    /// What stages of training do otherwise: settings as `--set` has them.
    #[serde(default)]
    stages: BTreeMap<String, Vec<String>>,
    /// How large it is.
    scales: BTreeMap<String, Scale>,
}

/// An experiment's size.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// Seeds: each trains everything anew.
    pub seeds: Vec<u64>,
    /// Settings of all stages, as `--set` has them.
    #[serde(default)]
    set: Vec<String>,
    /// Settings of single stages.
    #[serde(default)]
    stages: BTreeMap<String, Vec<String>>,
    /// What is measured on how much: numbers by name.
    #[serde(default)]
    pub numbers: BTreeMap<String, usize>,
}

impl Plan {
    /// From the text of the experiment `name`.
    ///
    /// # Errors
    /// [`Error::Data`] naming line and key.
    pub fn parse(name: &str, text: &str) -> Result<Plan> {
        let path = || PathBuf::from(format!("{name}.toml"));
        let plan: Plan =
            toml::from_str(text).map_err(|error| Error::Data { path: path(), detail: error.to_string() })?;
        for spec in plan.data.values() {
            spec.validate()?;
        }
        Ok(plan)
    }

    /// A scale of it.
    ///
    /// # Errors
    /// [`Error::Config`] naming those there are.
    pub fn scale(&self, name: &str) -> Result<&Scale> {
        self.scales.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.scales.keys().map(String::as_str).collect();
            Error::config("scale", format!("there is no {name:?}; there are {}", known.join(", ")))
        })
    }

    /// Names of its stages.
    #[cfg(test)]
    pub fn stages(&self) -> impl Iterator<Item = &str> {
        self.stages.keys().map(String::as_str)
    }

    /// The data set called `name` in a folder of data.
    ///
    /// # Errors
    /// [`Error::Config`] for a name that the file lacks.
    pub fn data_in(&self, folder: &Path, name: &str) -> Result<DataSpec> {
        let known = self.data.get(name);
        let mut spec =
            known.cloned().ok_or_else(|| Error::config("data", format!("no data are called {name:?}")))?;
        let mut path = folder.join(&spec.path);
        let packaged = Path::new(FASHION_MNIST);
        if !path.exists() && spec.kind == DataKind::named("fashion-mnist")? && packaged.is_dir() {
            path = packaged.to_owned();
        }
        spec.set_path(&std::path::absolute(&path).unwrap_or(path));
        Ok(spec)
    }

    /// The recipe of the stage `stage` at a scale, on `data`: the file's, with the settings of the scale, then of the stage, then
    /// of the stage at that scale, then `more`.
    ///
    /// # Errors
    /// [`Error::Config`] for a stage or a setting that there is not; as [`Recipe::validate`].
    pub fn recipe(&self, scale: &Scale, stage: &str, data: DataSpec, more: &[String]) -> Result<Recipe> {
        let of_stage = self
            .stages
            .get(stage)
            .ok_or_else(|| Error::config("stages", format!("no stage is called {stage:?}")))?;
        let failed = |error: String| Error::config("recipe", error);
        let mut table = self.recipe.clone();
        let spec = toml::Value::try_from(&data).map_err(|error| failed(error.to_string()))?;
        table.insert("data".into(), spec);
        let recipe: Recipe = table.try_into().map_err(|error: toml::de::Error| failed(error.to_string()))?;
        let own = scale.stages.get(stage).map(Vec::as_slice).unwrap_or_default();
        let recipe = recipe.set(&[&scale.set, of_stage, own, more].concat())?;
        recipe.validate()?;
        Ok(recipe)
    }
}

impl Scale {
    /// A number of it.
    ///
    /// # Errors
    /// [`Error::Config`] for one that the file lacks.
    pub fn number(&self, name: &str) -> Result<usize> {
        let number = self.numbers.get(name).copied();
        number.ok_or_else(|| Error::config("numbers", format!("{name:?} is not set at this scale")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "source = \"s\"\n[data.digits]\nkind = \"mnist\"\npath = \"mnist\"\n\
        [recipe.model]\nnum_channels = 32\n[recipe.train]\nsteps = 10\nseed = 9\n\
        [stages]\nfirst = []\nsecond = [\"train.steps=7\", \"train.learning_rate=0.5\"]\n\
        [scales.tiny]\nseeds = [1, 2]\nset = [\"train.batch_size=4\"]\nnumbers = { images = 5 }\n\
        [scales.tiny.stages]\nsecond = [\"train.steps=3\"]\n[scales.paper]\nseeds = [0]\n";

    #[test]
    fn settings_go_from_the_recipe_to_the_scale_to_the_stage() {
        let plan = Plan::parse("some", TEXT).unwrap();
        let spec = plan.data_in(Path::new("/data"), "digits").unwrap();
        assert_eq!(spec.path, Path::new("/data/mnist"));
        let of = |scale: &str, stage: &str| {
            let more = ["train.seed=1".to_owned()];
            let recipe = plan.recipe(plan.scale(scale).unwrap(), stage, spec.clone(), &more).unwrap();
            let train = recipe.train;
            (train.steps, train.batch_size, train.learning_rate, train.seed, recipe.model.num_channels)
        };
        assert_eq!(of("tiny", "first"), (10, 4, 1e-4, 1, 32));
        assert_eq!(of("tiny", "second"), (3, 4, 0.5, 1, 32));
        assert_eq!(of("paper", "second"), (7, 128, 0.5, 1, 32));
        let tiny = plan.scale("tiny").unwrap();
        assert_eq!((tiny.number("images").unwrap(), tiny.seeds.len()), (5, 2));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let plan = Plan::parse("some", TEXT).unwrap();
        let spec = plan.data_in(Path::new("."), "digits").unwrap();
        let tiny = plan.scale("tiny").unwrap();
        let says = |error: Error, words: &[&str]| {
            let text = error.to_string();
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        };
        says(plan.scale("huge").unwrap_err(), &["huge", "paper, tiny"]);
        says(plan.data_in(Path::new("."), "cats").unwrap_err(), &["cats"]);
        says(plan.recipe(tiny, "third", spec.clone(), &[]).unwrap_err(), &["third"]);
        says(plan.recipe(tiny, "first", spec, &["train.stepz=1".into()]).unwrap_err(), &["stepz"]);
        says(tiny.number("cats").unwrap_err(), &["cats"]);
        says(Plan::parse("some", &TEXT.replace("source", "sauce")).unwrap_err(), &["some.toml", "sauce"]);
    }
}
