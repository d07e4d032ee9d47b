//! From what a file's shapes say and what its user says to a whole configuration, with a list of what neither said.

use super::shapes::{Facts, places};
use crate::data::{ending, whole};
use crate::recipe::{Recipe, assign};
use duet::diffusion::DiffusionConfig;
use duet::model::ModelConfig;
use duet::picture::Pictures;
use duet::{Error, Result};
use serde::Serialize;
use std::path::Path;
use toml::{Table, Value};

/// Multipliers that the reference's code gives to images of these sizes.
const SIZES: [(usize, &[usize]); 3] = [(28, &[1, 2, 2]), (32, &[1, 2, 2, 2]), (64, &[1, 2, 3, 4])];

/// Settings that no shape depends on, and what they decide.
const UNSEEN: [(&str, &str); 15] = [
    ("model.image_size", "as its multipliers have it in the reference's code"),
    ("model.num_heads", "attention heads"),
    ("model.use_new_attention_order", "whether q, k and v lie one behind the other or head by head"),
    ("model.num_groups", "GroupNorm's groups"),
    ("model.head", "\"multiclass\" or \"multi_label\""),
    ("model.class_names", "names in label order; none: numbers"),
    ("model.dropout", "counts in training alone"),
    ("model.classifier_dropout", "counts in training alone"),
    ("diffusion.diffusion_steps", "T"),
    ("diffusion.noise_schedule", "\"linear\" or \"cosine\""),
    ("diffusion.linear_start", "first β of a linear schedule at T = 1000"),
    ("diffusion.linear_end", "last β of it"),
    ("diffusion.predict_xstart", "false: the network predicts noise"),
    ("diffusion.rescale_timesteps", "whether it sees t · 1000 / T"),
    ("diffusion.rescale_learned_sigmas", "counts in training alone"),
];

/// Settings of a model that no other program's configuration has: they are about the classifier.
const OPEN: [&str; 4] = ["head", "class_names", "classifier_dropout", "pooling"];

/// What the user says: sections `model` and `diffusion`, with what a recipe says of pictures.
#[derive(Clone, Debug, Default)]
pub struct Said {
    table: Table,
    pictures: Pictures,
}

/// A setting that neither file nor user said.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Assumed {
    /// As `--set` names it.
    pub name: &'static str,
    /// What it was taken as.
    pub value: String,
    /// What it decides.
    pub meaning: &'static str,
}

/// A whole configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The network.
    pub model: ModelConfig,
    /// The process.
    pub diffusion: DiffusionConfig,
    /// The pictures it was trained on.
    pub pictures: Pictures,
    /// What was not said.
    pub assumed: Vec<Assumed>,
}

impl Said {
    /// A recipe (`.toml`, `.json`) or JSON with `model` and `diffusion`, as `duet info --json` prints them, then single settings.
    ///
    /// # Errors
    /// A file that cannot be read, is neither, or is a recipe that is not sound; settings of anything else.
    pub fn new(config: Option<&Path>, set: &[String]) -> Result<Said> {
        let mut said = match config {
            Some(path) => Self::load(path)?,
            None => Said::default(),
        };
        for assignment in set {
            let failed = |detail: String| Error::config("set", detail);
            if !["model.", "diffusion."].iter().any(|section| assignment.trim_start().starts_with(section)) {
                return Err(failed(format!(
                    "{assignment}: a model has settings of [model] and [diffusion] alone, as in model.num_heads=8"
                )));
            }
            assign(&mut said.table, assignment).map_err(failed)?;
            // One by one, so that an error is of this one.
            read(&said.table).map_err(|detail| failed(format!("{assignment}: {detail}")))?;
        }
        Ok(said)
    }

    fn load(path: &Path) -> Result<Said> {
        let failed = |detail: String| Error::Data { path: path.into(), detail };
        let text = whole(path).and_then(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other));
        let text = text.map_err(|error| failed(format!("cannot be read as a configuration: {error}")))?;
        let table: Table = if ending(path) == "json" {
            let mut value: serde_json::Value =
                serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
            // TOML has no nulls: what is null is what is left out.
            without_nulls(&mut value);
            Table::try_from(&value).map_err(|error| failed(error.to_string()))?
        } else {
            toml::from_str(&text).map_err(|error| failed(error.to_string()))?
        };
        let is_recipe = table.contains_key("data");
        let pictures =
            if is_recipe { Recipe::parse_without_data(&text, path)?.data } else { Pictures::default() };
        let kept = ["model", "diffusion"];
        let table: Table =
            table.into_iter().filter(|(section, _)| kept.contains(&section.as_str())).collect();
        if table.is_empty() {
            return Err(failed("says nothing of a model: it has neither [model] nor [diffusion]".into()));
        }
        read(&table).map_err(failed)?;
        Ok(Said { table, pictures })
    }

    /// What is said of `section.field`.
    fn get(&self, section: &str, field: &str) -> Option<&Value> {
        self.table.get(section)?.as_table()?.get(field)
    }

    /// The configuration of a network of these shapes. With `classes` it gets a new head of so many.
    ///
    /// # Errors
    /// What contradicts the shapes; an image size that nothing says; values out of range.
    pub fn settle(&self, facts: &Facts, classes: Option<usize>) -> Result<Settings> {
        let mut table = self.table.clone();
        let whole = |value: usize| Value::Integer(i64::try_from(value).unwrap_or(i64::MAX));
        let mut known = vec![
            ("in_channels", whole(facts.in_channels)),
            ("num_channels", whole(facts.num_channels)),
            ("num_res_blocks", whole(facts.num_res_blocks)),
            ("use_scale_shift_norm", facts.use_scale_shift_norm.into()),
            ("resblock_updown", facts.resblock_updown.into()),
            ("learn_sigma", facts.learn_sigma.into()),
        ];
        known.extend(classes.or(facts.num_classes).map(|classes| ("num_classes", whole(classes))));
        for (field, value) in known {
            self.put(&mut table, field, value)?;
        }
        let (mut model, diffusion) = read(&table).map_err(|detail| Error::config("config", detail))?;
        if self.get("model", "image_size").is_none() {
            let size = SIZES.iter().find(|(_, levels)| *levels == facts.channel_mult);
            let (size, _) = size.ok_or_else(|| {
                let detail = format!(
                    "no shape depends on it, and multipliers {:?} are not the reference's for any size: say --set \
                     model.image_size=PIXELS",
                    facts.channel_mult
                );
                Error::config("model.image_size", detail)
            })?;
            model.image_size = *size;
        }
        if !model.channel_mult.is_empty() && model.channel_mult != facts.channel_mult {
            let [found, said] =
                [&facts.channel_mult, &model.channel_mult].map(|levels| format!("{levels:?}"));
            return Err(contradiction("channel_mult", found, said));
        }
        model.channel_mult.clear();
        if model.levels().ok().as_ref() != Some(&facts.channel_mult) {
            model.channel_mult.clone_from(&facts.channel_mult);
        }
        self.place_attention(&mut model, facts)?;
        model.validate().map_err(|error| self.hint(error))?;
        diffusion.validate()?;
        let mut all = Table::new();
        let failed = |error: toml::ser::Error| Error::config("config", error.to_string());
        all.insert("model".into(), Value::try_from(&model).map_err(failed)?);
        all.insert("diffusion".into(), Value::try_from(&diffusion).map_err(failed)?);
        let assumed = self.assumed(&all, facts.learn_sigma);
        Ok(Settings { model, diffusion, pictures: self.pictures, assumed })
    }

    /// The configuration of a model that comes with one: what is said may fill in what that leaves open, and contradict nothing.
    /// Without a `process` of its own the diffusion is open, too.
    ///
    /// # Errors
    /// What contradicts it; values out of range.
    pub fn fill_in(&self, model: ModelConfig, diffusion: DiffusionConfig, process: bool) -> Result<Settings> {
        let failed = |detail: String| Error::config("config", detail);
        let mut table = Table::new();
        table.insert("model".into(), Value::try_from(&model).map_err(|error| failed(error.to_string()))?);
        table.insert(
            "diffusion".into(),
            Value::try_from(&diffusion).map_err(|error| failed(error.to_string()))?,
        );
        for (section, fields) in &self.table {
            for (field, said) in fields.as_table().into_iter().flatten() {
                let Some(found) = table.get_mut(section).and_then(Value::as_table_mut) else { continue };
                let open = if section == "diffusion" { !process } else { OPEN.contains(&field.as_str()) };
                // What a configuration does not write is as it is by default.
                let other = found.get(field).is_some_and(|found| found != said);
                if other && !open {
                    let found = found.get(field).map(Value::to_string).unwrap_or_default();
                    let detail =
                        format!("the model's own configuration says {found}, the one given says {said}");
                    return Err(Error::config(format!("{section}.{field}"), detail));
                }
                found.insert(field.clone(), said.clone());
            }
        }
        let (model, diffusion) = read(&table).map_err(failed)?;
        model.validate()?;
        diffusion.validate()?;
        let open = |assumed: &Assumed| match assumed.name.split_once('.') {
            Some(("diffusion", _)) => !process,
            Some((_, field)) => OPEN.contains(&field),
            None => false,
        };
        let mut assumed = self.assumed(&table, model.learn_sigma);
        assumed.retain(open);
        Ok(Settings { model, diffusion, pictures: self.pictures, assumed })
    }

    /// An error of a setting that nobody said, with what says it.
    fn hint(&self, error: Error) -> Error {
        match error {
            Error::Config { field, detail }
                if self.get("model", &field).is_none()
                    && UNSEEN.iter().any(|(name, _)| name.strip_prefix("model.") == Some(&field)) =>
            {
                let detail = format!("{detail}; no shape says it: --set model.{field}=VALUE does");
                Error::Config { field, detail }
            }
            other => other,
        }
    }

    /// Puts what a shape says into a table, unless the user says something else.
    fn put(&self, table: &mut Table, field: &str, value: Value) -> Result<()> {
        if let Some(said) = self.get("model", field).filter(|said| **said != value) {
            return Err(contradiction(field, value.to_string(), said.to_string()));
        }
        let section = table.entry("model").or_insert_with(|| Value::Table(Table::new()));
        if let Some(section) = section.as_table_mut() {
            section.insert(field.to_owned(), value);
        }
        Ok(())
    }

    /// Resolutions that give attention to the levels that have it: the reference's own where they do.
    fn place_attention(&self, model: &mut ModelConfig, facts: &Facts) -> Result<()> {
        let levels = |model: &ModelConfig| -> Vec<bool> {
            let factors = model.attention_factors();
            (0..facts.attention.len()).map(|level| factors.contains(&(1 << level))).collect()
        };
        if levels(model) == facts.attention {
            return Ok(());
        }
        if let Some(said) = self.get("model", "attention_resolutions") {
            let detail = format!(
                "{said} of images of {0}×{0} puts attention at levels {1:?}, the file has it at {2:?}",
                model.image_size,
                places(&levels(model)),
                places(&facts.attention)
            );
            return Err(Error::config("attention_resolutions", detail));
        }
        let with = places(&facts.attention).into_iter();
        model.attention_resolutions = with.map(|level| model.image_size >> level).collect();
        // Sizes that are no multiple of the levels' factors are refused with the whole configuration.
        Ok(())
    }

    /// What neither shapes nor user said, of a configuration as a table.
    fn assumed(&self, all: &Table, learn_sigma: bool) -> Vec<Assumed> {
        let cosine = all.get("diffusion").and_then(|d| d.get("noise_schedule")).and_then(Value::as_str);
        let cosine = cosine == Some("cosine");
        let asked = |name: &&(&'static str, &'static str)| match name.0 {
            "diffusion.linear_start" | "diffusion.linear_end" => !cosine,
            "diffusion.rescale_learned_sigmas" => learn_sigma,
            // Either says it.
            "model.num_heads" => self.get("model", "num_head_channels").is_none(),
            "diffusion.predict_xstart" => self.get("diffusion", "prediction").is_none(),
            _ => true,
        };
        let mut list = Vec::new();
        for (name, meaning) in UNSEEN.iter().filter(asked) {
            let Some((section, field)) = name.split_once('.') else { continue };
            if self.get(section, field).is_none() {
                let value = all.get(section).and_then(|section| section.get(field));
                let value = value.map(Value::to_string).unwrap_or_default();
                list.push(Assumed { name, value, meaning });
            }
        }
        list
    }
}

fn contradiction(field: &str, found: String, said: String) -> Error {
    Error::config(field, format!("the file's shapes say {found}, the configuration given says {said}"))
}

/// The sections as configurations; what is left out has the reference's value.
fn read(table: &Table) -> std::result::Result<(ModelConfig, DiffusionConfig), String> {
    let section = |name: &str| table.get(name).cloned().unwrap_or_else(|| Value::Table(Table::new()));
    let told = |error: toml::de::Error| error.to_string().trim_end().to_owned();
    Ok((section("model").try_into().map_err(told)?, section("diffusion").try_into().map_err(told)?))
}

fn without_nulls(value: &mut serde_json::Value) {
    if let Some(object) = value.as_object_mut() {
        object.retain(|_, value| !value.is_null());
        object.values_mut().for_each(without_nulls);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            in_channels: 1,
            num_channels: 32,
            num_res_blocks: 3,
            channel_mult: vec![1, 2, 2],
            attention: vec![true, false, false],
            use_scale_shift_norm: true,
            resblock_updown: false,
            learn_sigma: false,
            num_classes: Some(10),
        }
    }

    fn said(set: &[&str]) -> Result<Said> {
        Said::new(None, &set.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    fn error(set: &[&str], facts: &Facts) -> String {
        said(set).and_then(|said| said.settle(facts, None)).unwrap_err().to_string()
    }

    #[test]
    fn the_reference_s_networks_need_nothing_said() {
        let made = said(&[]).unwrap().settle(&facts(), None).unwrap();
        let wanted = ModelConfig { num_channels: 32, ..ModelConfig::default() };
        assert_eq!((made.model, made.diffusion), (wanted, DiffusionConfig::default()));
        let names: Vec<&str> = made.assumed.iter().map(|assumed| assumed.name).collect();
        assert_eq!(names.len(), UNSEEN.len() - 1, "{names:?}");
        assert!(!names.contains(&"diffusion.rescale_learned_sigmas"), "there is no learned sigma");
        assert_eq!((made.assumed[0].name, made.assumed[0].value.as_str()), ("model.image_size", "28"));
        let cifar =
            Facts { channel_mult: vec![1, 2, 2, 2], attention: vec![false, true, true, false], ..facts() };
        let made = said(&[]).unwrap().settle(&cifar, None).unwrap();
        assert_eq!((made.model.image_size, made.model.attention_resolutions), (32, vec![16, 8]));
    }

    #[test]
    fn what_is_said_is_not_assumed() {
        let set = ["model.num_head_channels=8", "diffusion.noise_schedule=cosine", "model.image_size=16"];
        let made = said(&set).unwrap().settle(&facts(), None).unwrap();
        assert_eq!((made.model.num_head_channels, made.model.image_size), (Some(8), 16));
        assert_eq!(made.model.channel_mult, [1, 2, 2], "no default of that size");
        assert_eq!(made.model.attention_resolutions, [16], "the reference's 8 would put it at level 1, too");
        let unsaid: Vec<&str> = made.assumed.iter().map(|assumed| assumed.name).collect();
        for name in
            ["model.num_heads", "model.image_size", "diffusion.noise_schedule", "diffusion.linear_start"]
        {
            assert!(!unsaid.contains(&name), "{name}");
        }
        // A new head has its own number of classes.
        let made = said(&[]).unwrap().settle(&facts(), Some(3)).unwrap();
        assert_eq!(made.model.num_classes, 3);
    }

    #[test]
    fn a_configuration_is_filled_in_and_not_contradicted() {
        let model = ModelConfig { image_size: 32, num_heads: 2, num_classes: 2, ..ModelConfig::default() };
        let fill = |set: &[&str], process| {
            said(set).and_then(|said| said.fill_in(model.clone(), DiffusionConfig::default(), process))
        };
        let made = fill(
            &["model.class_names=[\"a\", \"b\"]", "model.num_heads=2", "diffusion.diffusion_steps=1000"],
            true,
        );
        let made = made.unwrap();
        assert_eq!((made.model.class_names.len(), made.model.num_heads), (2, 2));
        let unsaid: Vec<&str> = made.assumed.iter().map(|assumed| assumed.name).collect();
        assert_eq!(unsaid, ["model.head", "model.classifier_dropout"]);
        let made = fill(&["diffusion.noise_schedule=cosine"], false).unwrap();
        assert_eq!(made.diffusion.noise_schedule, duet::diffusion::NoiseSchedule::Cosine);
        assert!(made.assumed.iter().any(|assumed| assumed.name == "diffusion.diffusion_steps"));
        for (set, words) in [
            (
                "model.num_heads=4",
                "model.num_heads: the model's own configuration says 2, the one given says 4",
            ),
            ("diffusion.diffusion_steps=500", "says 1000, the one given says 500"),
        ] {
            let said = fill(&[set], true).unwrap_err().to_string();
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn contradictions_name_both_sides() {
        for (set, words) in [
            ("model.num_channels=64", &["num_channels", "32", "64"][..]),
            ("model.channel_mult=[1, 2]", &["channel_mult", "[1, 2, 2]", "[1, 2]"]),
            ("model.num_classes=11", &["num_classes", "10", "11"]),
            ("model.learn_sigma=true", &["learn_sigma", "false", "true"]),
            ("model.attention_resolutions=[14]", &["attention_resolutions", "levels [1]", "at [0]"]),
            ("model.image_size=30", &["image_size", "multiple of 4"]),
            ("model.num_heads=5", &["num_heads"]),
            ("diffusion.diffusion_steps=0", &["diffusion_steps"]),
            ("model.num_headz=5", &["num_headz"]),
            ("train.steps=5", &["[model] and [diffusion]"]),
        ] {
            let said = error(&[set], &facts());
            assert!(words.iter().all(|word| said.contains(word)), "{set}: {said}");
        }
        let narrow = Facts { num_channels: 24, ..facts() };
        assert!(
            error(&[], &narrow).contains("num_groups: 48 channels")
                && error(&[], &narrow).contains("--set model.num_groups=")
        );
        let odd = Facts { channel_mult: vec![1, 3], attention: vec![false; 2], ..facts() };
        assert!(error(&[], &odd).contains("--set model.image_size=PIXELS"));
    }
}
