//! Recipes: what to train, on what, and how, as TOML or JSON.

mod set;

pub use duet::recipe::{BestBy, LabelledBy, RateSchedule, TimeSpan, TrainRecipe};
pub use set::assign;

use crate::data::{DataKind, DataSpec, look, whole};
use duet::diffusion::DiffusionConfig;
use duet::model::ModelConfig;
use duet::picture::Pictures;
use duet::recipe::from_text;
use duet::train::{Augment, TrainOptions};
use duet::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

/// A whole recipe; `D` is what it says of its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe<D = DataSpec> {
    /// The data.
    pub data: D,
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

/// What a recipe says of its data, whatever it is.
type Said = Option<Map<String, Value>>;

fn is_off(augment: &Augment) -> bool {
    !augment.is_on()
}

/// Whether a recipe says nothing of files, as those of programs that have their images in memory.
fn is_of_memory(data: &Said) -> bool {
    let says = |field| data.as_ref().is_some_and(|data| data.contains_key(field));
    !says("kind") && !says("path")
}

/// The text of a recipe's file.
fn text(path: &Path) -> Result<String> {
    let text = whole(path).and_then(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other));
    text.map_err(|e| failed(path, format!("cannot be read as a recipe (.toml or .json): {e}")))
}

fn failed(path: &Path, detail: impl std::fmt::Display) -> Error {
    Error::Data { path: path.into(), detail: detail.to_string() }
}

/// A section of data that was put together.
fn data_of(data: Map<String, Value>, path: &Path) -> Result<DataSpec> {
    serde_json::from_value(data.into()).map_err(|e| failed(path, format!("data: {e}")))
}

impl Recipe {
    /// Reads and checks a recipe. The data's path counts from the recipe's folder.
    ///
    /// # Errors
    /// [`Error::Data`] naming the file, with line and key; what to do where it says nothing of files.
    pub fn load(path: &Path) -> Result<Recipe> {
        let mut recipe = Self::parse(&text(path)?, path)?;
        recipe.data.resolve(path.parent().unwrap_or(Path::new("")));
        Ok(recipe)
    }

    /// Reads and checks a recipe whose data lie in `folder`, where that is given, whatever it says itself. Of one that says nothing of
    /// files, as a web page's, the kind of the data is found by looking.
    ///
    /// # Errors
    /// As [`Recipe::load`]; a folder in which nothing is known.
    pub fn load_on(path: &Path, folder: Option<&Path>) -> Result<Recipe> {
        let Some(folder) = folder else { return Self::load(path) };
        let text = text(path)?;
        let said: Recipe<Said> = from_text(&text).map_err(|e| failed(path, e))?;
        let mut data = said.data.clone().unwrap_or_default();
        if data.contains_key("kind") && data.contains_key("path") {
            let mut recipe = Self::parse(&text, path)?;
            recipe.data.set_path(folder);
            return Ok(recipe);
        }
        data.insert("path".into(), folder.to_string_lossy().into());
        if !data.contains_key("kind") {
            let mut found = look(folder)?.spec;
            // The files of all idx sets have the same names: where classes are numbers, no set with names is meant.
            let number = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
            let names = &said.model.class_names;
            if found.kind.name() == "fashion-mnist" && !names.is_empty() && names.iter().all(number) {
                found.kind = DataKind::named("idx")?;
            }
            let found = serde_json::to_value(&found).map_err(|e| failed(path, e))?;
            for (field, value) in found.as_object().into_iter().flatten() {
                data.entry(field.clone()).or_insert_with(|| value.clone());
            }
        }
        let mut recipe: Recipe = said.with(data_of(data, path)?);
        recipe.data.set_path(folder);
        recipe.validate().map_err(|e| failed(path, e))?;
        Ok(recipe)
    }

    /// Checks a recipe's text; errors name `path`.
    ///
    /// # Errors
    /// As [`Recipe::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Recipe> {
        let recipe: Recipe = from_text(text).map_err(|error| match from_text::<Recipe<Said>>(text) {
            Ok(said) if is_of_memory(&said.data) => {
                let file = path.display();
                let detail = format!(
                    "says nothing of files, as recipes of web pages: `duet train FOLDER --recipe {file}` trains by it on the data in a \
                     folder; so do kind and path, written under data"
                );
                failed(path, detail)
            }
            _ => failed(path, error),
        })?;
        recipe.validate().map_err(|e| failed(path, e))?;
        Ok(recipe)
    }

    /// Checks every part.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<()> {
        self.validate_training()?;
        self.data.validate()?;
        self.data.pictures().check(self.model.image_size)
    }
}

impl Recipe<Pictures> {
    /// Reads and checks a recipe for all but its data: one that says nothing of files will do.
    ///
    /// # Errors
    /// As [`Recipe::load`].
    pub fn load_without_data(path: &Path) -> Result<Recipe<Pictures>> {
        Self::parse_without_data(&text(path)?, path)
    }

    /// The same of a recipe's text; errors name `path`.
    ///
    /// # Errors
    /// As [`Recipe::load`].
    pub fn parse_without_data(text: &str, path: &Path) -> Result<Recipe<Pictures>> {
        let said: Recipe<Said> = from_text(text).map_err(|e| failed(path, e))?;
        let whole = if is_of_memory(&said.data) {
            // A folder that nobody looks into: all else is checked as ever.
            let mut data = said.data.clone().unwrap_or_default();
            data.extend(
                [("kind", "folder"), ("path", "")].map(|(field, value)| (field.into(), value.into())),
            );
            let whole: Recipe = said.with(data_of(data, path)?);
            whole.validate().map_err(|e| failed(path, e))?;
            whole
        } else {
            Recipe::parse(text, path)?
        };
        let pictures = whole.data.pictures();
        Ok(whole.with(pictures))
    }
}

impl<D> Recipe<D> {
    /// What the library's trainer is told.
    pub fn options(&self) -> TrainOptions {
        TrainOptions { augment: self.augment.clone(), ..self.train.options() }
    }

    /// The same with other data.
    fn with<E>(self, data: E) -> Recipe<E> {
        let Recipe { model, diffusion, train, augment, .. } = self;
        Recipe { data, model, diffusion, train, augment }
    }

    /// Checks all but the data.
    fn validate_training(&self) -> Result<()> {
        self.model.validate()?;
        self.diffusion.validate()?;
        self.options().validate()?;
        self.augment.validate_for(&self.model)?;
        self.train.validate_for(&self.diffusion)
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
    fn json_says_what_toml_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.json");
        for name in ["fashion-mnist.toml", "blood-cells.toml", "cifar10.toml"] {
            let toml = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes").join(name);
            let mut want = Recipe::load(&toml).unwrap();
            std::fs::write(&path, serde_json::to_string_pretty(&want).unwrap()).unwrap();
            want.data.written = None;
            assert_eq!(Recipe::load(&path).unwrap(), want, "{name}");
        }
        std::fs::write(&path, r#"{"data": {"kind": "idx", "path": "x"}, "model": {"num_chanels": 3}}"#)
            .unwrap();
        let error = Recipe::load(&path).unwrap_err().to_string();
        assert!(
            error.contains("recipe.json") && error.contains("num_chanels") && error.contains("line 1"),
            "{error}"
        );
    }

    #[test]
    fn a_recipe_that_says_nothing_of_files_is_for_a_folder() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("page.json");
        let pets = home.path().join("pets");
        for class in ["cat", "dog"] {
            std::fs::create_dir_all(pets.join(class)).unwrap();
            image::GrayImage::new(9, 9).save(pets.join(class).join("1.png")).unwrap();
        }
        let write = |data: &str| {
            let text = format!(r#"{{{data} "model": {{"num_channels": 32}}, "train": {{"steps": 7}}}}"#);
            std::fs::write(&path, text).unwrap();
        };
        for data in ["", r#""data": {},"#, r#""data": {"ground": 255, "fit": "pad"},"#] {
            write(data);
            let error = Recipe::load(&path).unwrap_err().to_string();
            assert!(error.contains("page.json") && error.contains("duet train FOLDER --recipe"), "{error}");
            let recipe = Recipe::load_on(&path, Some(&pets)).unwrap();
            assert_eq!(
                (recipe.data.kind.name(), &recipe.data.path, recipe.train.steps),
                ("folder", &pets, 7)
            );
            let pictures = Recipe::load_without_data(&path).unwrap().data;
            assert_eq!(pictures, recipe.data.pictures());
            assert_eq!(pictures.ground, if data.contains("255") { 255 } else { 0 });
        }
        // What it says of a split stays, and what is no setting is refused.
        write(r#""data": {"test_share": 0.25},"#);
        assert_eq!(Recipe::load_on(&path, Some(&pets)).unwrap().data.test_share, 0.25);
        assert_eq!(Recipe::load_without_data(&path).unwrap().data, Pictures::default());
        write(r#""data": {"shade": 3},"#);
        for error in
            [Recipe::load_on(&path, Some(&pets)).map(|_| ()), Recipe::load_without_data(&path).map(|_| ())]
        {
            let error = error.unwrap_err().to_string();
            assert!(error.contains("page.json") && error.contains("shade"), "{error}");
        }
        // A whole recipe keeps its kind on another folder; without a path it takes the folder's.
        for text in [TEXT.to_owned(), TEXT.replace("path = \"data\"\n", "")] {
            std::fs::write(&path, text).unwrap();
            let recipe = Recipe::load_on(&path, Some(&pets)).unwrap();
            assert_eq!((recipe.data.kind.name(), recipe.data.path), ("fashion-mnist", pets.clone()));
        }
    }

    #[test]
    fn classes_that_are_numbers_are_those_of_idx_files() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("fashion");
        std::fs::create_dir(&folder).unwrap();
        let images = [0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 9];
        std::fs::write(folder.join("train-images-idx3-ubyte"), images).unwrap();
        let path = home.path().join("page.json");
        for (names, kind) in
            [(r#"["0", "1"]"#, "idx"), (r#"["shirt", "boot"]"#, "fashion-mnist"), ("[]", "fashion-mnist")]
        {
            std::fs::write(&path, format!(r#"{{"model": {{"num_classes": 2, "class_names": {names}}}}}"#))
                .unwrap();
            assert_eq!(Recipe::load_on(&path, Some(&folder)).unwrap().data.kind.name(), kind, "{names}");
        }
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
