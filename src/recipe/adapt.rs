//! A recipe of the command for a program that has its images in memory: what is of files is left out, and told.

use super::memory::{MemoryRecipe, Network, OF_FILES, section};
use super::text::from_text;
use super::train::TrainRecipe;
use crate::error::{Error, Result};
use serde::Serialize;
use serde_json::{Map, Value};

/// A setting that says nothing to a program.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LeftOut {
    /// Its section and name.
    pub field: String,
    /// What the recipe says.
    pub value: Value,
    /// Why that says nothing here.
    pub reason: String,
}

/// A recipe that a program can follow, and what it is not.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapted {
    /// The recipe, checked.
    pub recipe: MemoryRecipe,
    /// The same as it was written: what was not said is not said here either.
    pub written: Value,
    /// What was left out.
    pub left_out: Vec<LeftOut>,
}

impl MemoryRecipe {
    /// Reads a recipe of the command, TOML or JSON, as [`MemoryRecipe::parse`] does, and leaves out what it refuses for being of files
    /// or of several checkpoints. A mistake is none of these, and refused.
    ///
    /// # Errors
    /// As [`MemoryRecipe::parse`].
    ///
    /// ```
    /// # fn main() -> duet::Result<()> {
    /// use duet::recipe::MemoryRecipe;
    ///
    /// let text = "[data]\nkind = \"folder\"\npath = \"pets\"\nground = 255\n[model]\n[train]\nsteps = 500\nkeep_last = 3";
    /// let adapted = MemoryRecipe::adapt(text, None)?;
    /// assert_eq!((adapted.recipe.train.steps, adapted.recipe.data.ground), (500, 255));
    /// let names: Vec<&str> = adapted.left_out.iter().map(|one| one.field.as_str()).collect();
    /// assert_eq!(names, ["data.kind", "data.path", "train.keep_last"]);
    /// # Ok(()) }
    /// ```
    pub fn adapt(text: &str, of: Option<&Network>) -> Result<Adapted> {
        let mut written: Map<String, Value> =
            from_text(text).map_err(|error| Error::config("recipe", error))?;
        let mut left_out = Vec::new();
        if let Some(Value::Object(data)) = written.get_mut("data") {
            for (field, reason) in OF_FILES {
                leave_out(data, "data", field, reason, &mut left_out);
            }
        }
        let train = section("train", written.get("train").cloned(), &TrainRecipe::default(), false)?;
        if let Some(Value::Object(settings)) = written.get_mut("train") {
            for (field, reason, _) in train.needs_files() {
                leave_out(settings, "train", field, reason, &mut left_out);
            }
            if train.labelled_share.is_some() {
                leave_out(settings, "train", "labelled_by", "is of labelled_share", &mut left_out);
            }
        }
        // A section that said nothing else is none.
        for name in ["data", "train"] {
            if written.get(name).and_then(Value::as_object).is_some_and(Map::is_empty) {
                written.remove(name);
            }
        }
        let written = Value::Object(written);
        let recipe = MemoryRecipe::parse(&written.to_string(), of)?;
        Ok(Adapted { recipe, written, left_out })
    }
}

/// Takes a field out of a section.
fn leave_out(
    section: &mut Map<String, Value>,
    name: &str,
    field: &str,
    reason: &str,
    left_out: &mut Vec<LeftOut>,
) {
    if let Some(value) = section.remove(field) {
        left_out.push(LeftOut { field: format!("{name}.{field}"), value, reason: reason.to_owned() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const FILES: &str = r#"
        [data]
        kind = "folder"
        path = "pets"
        pad_to = 32
        test_share = 0.2
        validation_share = 0.1
        group = "(.)"
        split_seed = 3
        labels = "fine"
        damaged = "pass_over"
        fit = "pad"
        [model]
        num_channels = 32
        [train]
        steps = 70
        keep_last = 2
        keep_best = "loss"
        early_stop = 3
        max_time = "2h"
        labelled_share = 0.1
        labelled_by = "batch"
        [augment]
        crop = true
    "#;

    #[test]
    fn what_is_of_files_is_left_out_and_told() {
        let made = MemoryRecipe::adapt(FILES, None).unwrap();
        let rest = json!({
            "data": {"fit": "pad"}, "model": {"num_channels": 32}, "train": {"steps": 70}, "augment": {"crop": true},
        });
        assert_eq!(made.written, rest);
        assert_eq!(made.recipe, MemoryRecipe::parse(&rest.to_string(), None).unwrap());
        let mut told: Vec<&str> = made.left_out.iter().map(|one| one.field.as_str()).collect();
        told.sort_unstable();
        let mut want: Vec<String> = OF_FILES.iter().map(|(name, _)| format!("data.{name}")).collect();
        let train = ["keep_last", "keep_best", "early_stop", "max_time", "labelled_share", "labelled_by"];
        want.extend(train.map(|name| format!("train.{name}")));
        want.sort_unstable();
        assert_eq!(told, want);
        let path = made.left_out.iter().find(|one| one.field == "data.path").unwrap();
        assert_eq!(path.value, "pets");
        assert!(made.left_out.iter().all(|one| !one.reason.is_empty()));
        let none =
            MemoryRecipe::adapt("[data]\npath = \"x\"\n[model]\n[train]\nmax_time = \"2h\"", None).unwrap();
        assert_eq!((none.written, none.left_out.len()), (json!({"model": {}}), 2));
        // A second time there is nothing to leave out.
        let again = MemoryRecipe::adapt(&made.written.to_string(), None).unwrap();
        assert_eq!((again.recipe, again.left_out), (made.recipe, Vec::new()));
    }

    #[test]
    fn mistakes_are_refused_all_the_same() {
        for (text, field) in [
            (FILES.replace("num_channels", "num_chanels"), "model.num_chanels"),
            (FILES.replace("70", "\"many\""), "train.steps"),
            (FILES.replace("crop", "shear"), "augment.shear"),
            (FILES.replace("[augment]", "[augments]"), "recipe"),
            (FILES.replace("fit = \"pad\"", "paths = 3"), "data.paths"),
            ("[data]\nkind = \"mnist\"\n".to_owned(), "model"),
            ("[data".to_owned(), "recipe"),
        ] {
            let error = MemoryRecipe::adapt(&text, None).unwrap_err();
            assert!(
                matches!(&error, Error::Config { field: named, .. } if named == field),
                "{field}: {error}"
            );
        }
    }
}
