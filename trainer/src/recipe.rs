//! Recipes: what to train, on what, and how, as TOML.

mod set;

pub use duet::recipe::{BestBy, LabelledBy, RateSchedule, TimeSpan, TrainRecipe};
pub use set::assign;

use crate::data::{DataSpec, whole};
use duet::diffusion::DiffusionConfig;
use duet::model::ModelConfig;
use duet::train::{Augment, TrainOptions};
use duet::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A whole recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The data.
    pub data: DataSpec,
    /// The network.
    pub model: ModelConfig,
    /// The diffusion process.
    #[serde(default)]
    pub diffusion: DiffusionConfig,
    /// The training.
    #[serde(default)]
    pub train: TrainRecipe,
    /// What happens to images before the classifier sees them; left out: nothing.
    #[serde(default, skip_serializing_if = "is_off")]
    pub augment: Augment,
}

fn is_off(augment: &Augment) -> bool {
    !augment.is_on()
}

impl Recipe {
    /// What the library's trainer is told.
    pub fn options(&self) -> TrainOptions {
        TrainOptions { augment: self.augment.clone(), ..self.train.options() }
    }

    /// Reads and checks a recipe. The data's path counts from the recipe's folder.
    ///
    /// # Errors
    /// [`Error::Data`] naming the file, with line and key.
    pub fn load(path: &Path) -> Result<Recipe> {
        let failed = |detail: String| Error::Data { path: path.into(), detail };
        let text = whole(path).and_then(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other));
        let text = text.map_err(|e| failed(format!("cannot be read as a recipe (.toml): {e}")))?;
        let mut recipe = Self::parse(&text, path)?;
        recipe.data.resolve(path.parent().unwrap_or(Path::new("")));
        Ok(recipe)
    }

    /// Checks a recipe's text; errors name `path`.
    ///
    /// # Errors
    /// As [`Recipe::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Recipe> {
        let failed = |detail: String| Error::Data { path: path.into(), detail };
        let recipe: Recipe = toml::from_str(text).map_err(|e| failed(e.to_string()))?;
        recipe.validate().map_err(|e| failed(e.to_string()))?;
        Ok(recipe)
    }

    /// Checks every part.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<()> {
        self.model.validate()?;
        self.diffusion.validate()?;
        self.options().validate()?;
        self.augment.validate_for(&self.model)?;
        self.train.validate_for(&self.diffusion)?;
        self.data.validate()?;
        self.data.pictures().check(self.model.image_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use duet::train::{Crop, Rotation};

    const TEXT: &str = "[data]\nkind = \"fashion-mnist\"\npath = \"data\"\n[model]\nnum_channels = 32\n";

    fn load(text: &str) -> Result<Recipe> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.toml");
        std::fs::write(&path, text).unwrap();
        Recipe::load(&path)
    }

    #[test]
    fn shipped_recipes_are_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            Recipe::load(&entry.unwrap().path()).unwrap();
            count += 1;
        }
        assert!(count > 0);
    }

    #[test]
    fn the_data_s_path_counts_from_the_recipe_s_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.toml");
        std::fs::write(&path, TEXT).unwrap();
        assert_eq!(Recipe::load(&path).unwrap().data.path, folder.path().join("data"));
    }

    #[test]
    fn what_is_left_out_is_the_reference_s() {
        let recipe = load(TEXT).unwrap();
        assert_eq!((recipe.model.num_channels, recipe.model.num_res_blocks), (32, 3));
        assert_eq!(recipe.train.options(), TrainOptions::default());
    }

    #[test]
    fn groups_are_factors_or_frozen() {
        let text = "[train]\nclip_grad_norm = 1.0\n[train.groups]\nencoder = 0.1\ndecoder = \"frozen\"\n";
        let options = load(&format!("{TEXT}{text}")).unwrap().train.options();
        assert_eq!(options.clip_grad_norm, Some(1.0));
        let factors = [options.groups.encoder, options.groups.decoder, options.groups.classifier];
        assert_eq!(factors.map(duet::train::Rate::factor), [Some(0.1), None, Some(1.0)]);
        let zero = load(&format!("{TEXT}[train.groups]\ndecoder = 0\n")).unwrap().train.options();
        assert!(zero.groups.decoder.factor().is_none());
    }

    #[test]
    fn augmentations_are_switches_or_tables() {
        let text = "[augment]\ncrop = true\nhorizontal_flip = false\nborder = -1\n[augment.rotation]\ndegrees = 10\n";
        let recipe = load(&format!("{TEXT}{text}")).unwrap();
        let want = Augment {
            crop: Some(Crop::default()),
            rotation: Some(Rotation { degrees: 10.0, ..Rotation::default() }),
            border: vec![-1.0],
            ..Augment::default()
        };
        assert_eq!((&recipe.augment, recipe.options().augment), (&want, want.clone()));
        let written = toml::to_string(&recipe).unwrap();
        assert_eq!(Recipe::parse(&written, Path::new("recipe.toml")).unwrap().augment, recipe.augment);
        let plain = load(TEXT).unwrap();
        assert!(!plain.augment.is_on() && !toml::to_string(&plain).unwrap().contains("augment"));
    }

    #[test]
    fn mistakes_name_file_and_key() {
        let cases = [
            (format!("{TEXT}num_chanels = 3\n"), "num_chanels"),
            (format!("{TEXT}dropout = 1.5\n"), "dropout"),
            (format!("{TEXT}[train]\nbatch_size = 7\nmicro_batches = 2\n"), "batch_size"),
            (format!("{TEXT}[train]\nsample_steps = \"ddim7,\"\n"), "ddim7,"),
            (format!("{TEXT}[diffusion]\ndiffusion_steps = 0\n"), "diffusion_steps"),
            (format!("{TEXT}[train]\nclip_grad_norm = 0.0\n"), "clip_grad_norm"),
            (format!("{TEXT}[train]\nlr_schedule = \"exponential\"\n"), "lr_decay"),
            (format!("{TEXT}[train]\nlr_schedule = \"exponential\"\nlr_decay = 1.5\n"), "lr_decay"),
            (format!("{TEXT}[train]\nlr_decay = 0.5\n"), "lr_decay"),
            (format!("{TEXT}[train]\nlabelled_share = 0.0\n"), "labelled_share"),
            (format!("{TEXT}[train]\nlabelled_share = 1.5\n"), "at most 1"),
            (format!("{TEXT}[train]\nlabelled_by = \"batch\"\n"), "labelled_share too"),
            (format!("{TEXT}[train]\nlabelled_share = 0.5\nlabelled_by = \"luck\"\n"), "luck"),
            (format!("{TEXT}[train]\nlabelled_share = 0.5\nclassifier_input = \"none\"\n"), "none"),
            (format!("{TEXT}[train]\nkeep_best = \"beauty\"\n"), "keep_best"),
            (format!("{TEXT}[train]\nearly_stop = 3\n"), "early_stop"),
            (format!("{TEXT}[train]\nmax_time = \"2\"\n"), "max_time"),
            (format!("{TEXT}[train]\nmin_snr_gamma = 0.0\n"), "min_snr_gamma"),
            (format!("{TEXT}[train]\ntimestep_sampler = \"importance\"\n"), "loss_second_moment"),
            (format!("{TEXT}[train]\nclassifier_only = true\nmin_snr_gamma = 5\n"), "min_snr_gamma"),
            (format!("{TEXT}[train.groups]\ndecoder = -1.0\n"), "groups.decoder"),
            (format!("{TEXT}[train.groups]\ndecoder = \"icy\"\n"), "\"frozen\""),
            (format!("{TEXT}[train.groups]\nhead = 1.0\n"), "head"),
            (format!("{TEXT}[augment]\nshear = true\n"), "shear"),
            (format!("{TEXT}[augment]\ncrop = 3\n"), "true, false or a table"),
            (format!("{TEXT}[augment.crop]\nscale = [0.9, 0.5]\n"), "augment.crop.scale"),
            (format!("{TEXT}[augment]\nborder = \"black\"\n"), "a border is a number"),
            (format!("{TEXT}[augment]\ncolor_jitter = true\n"), "3 channels"),
            (
                format!("{TEXT}[augment]\ncrop = true\n[train]\nclassifier_input = \"noised\"\n"),
                "\"clean\" or \"both\"",
            ),
            (format!("{TEXT}[augment]\nmixup = true\n[train]\nbatch_size = 9\n"), "augment.mixup"),
            (TEXT.replace("fashion-mnist", "fasion"), "fasion"),
            ("[data".into(), "line 1"),
        ];
        for (text, word) in cases {
            let error = load(&text).unwrap_err().to_string();
            assert!(error.contains("recipe.toml") && error.contains(word), "{word}: {error}");
        }
    }
}
