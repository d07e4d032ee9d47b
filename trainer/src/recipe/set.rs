//! Single settings of a recipe, as a command line gives them: `train.steps=500`.

use super::Recipe;
use duet::{Error, Result};
use toml::{Table, Value};

impl Recipe {
    /// Changes settings, each `section.name=value` with a value as TOML has it; what is no such value is text. Checked by
    /// [`Recipe::validate`].
    ///
    /// # Errors
    /// [`Error::Config`] for a name that recipes do not have, or a value of another type.
    pub fn set(self, assignments: &[String]) -> Result<Recipe> {
        if assignments.is_empty() {
            return Ok(self);
        }
        let written = self.data.written.clone();
        let failed = |detail: String| Error::config("set", detail);
        let mut table = Table::try_from(&self).map_err(|error| failed(error.to_string()))?;
        for assignment in assignments {
            assign(&mut table, assignment).map_err(failed)?;
            // One by one, so that an error is of this one.
            table.clone().try_into::<Recipe>().map_err(|error| {
                let detail = error.to_string();
                failed(format!("{assignment}: {}", detail.trim_end()))
            })?;
        }
        let mut recipe: Recipe = table.try_into().map_err(|error| failed(error.to_string()))?;
        recipe.data.written = written;
        Ok(recipe)
    }
}

/// Sets what an assignment names, `section.name=value`, in a table of sections.
///
/// # Errors
/// What is wrong with the assignment.
pub fn assign(table: &mut Table, assignment: &str) -> std::result::Result<(), String> {
    let (name, text) = assignment
        .split_once('=')
        .ok_or_else(|| format!("must be NAME=VALUE, as in train.steps=500; is {assignment:?}"))?;
    let (name, text) = (name.trim(), text.trim());
    let value = toml::from_str::<Table>(&format!("value = {text}")).ok();
    let value = value.and_then(|mut table| table.remove("value"));
    put(table, name, value.unwrap_or_else(|| Value::String(text.to_owned())))
}

/// Sets what a name with dots leads to.
fn put(table: &mut Table, name: &str, value: Value) -> std::result::Result<(), String> {
    let mut parts: Vec<&str> = name.split('.').collect();
    let last = parts.pop().filter(|last| !last.is_empty() && !parts.is_empty() && !parts.contains(&""));
    let last = last.ok_or_else(|| {
        format!("{name:?} is no setting: say its section too, as in train.steps or model.num_channels")
    })?;
    let mut inner = table;
    for part in parts {
        let next = inner.entry(part).or_insert_with(|| Value::Table(Table::new()));
        inner = next.as_table_mut().ok_or_else(|| format!("{name:?} is no setting: {part} is a value"))?;
    }
    inner.insert(last.to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn recipe() -> Recipe {
        Recipe::parse(
            "[data]\nkind = \"idx\"\npath = \"x\"\n[model]\nnum_channels = 32\n",
            Path::new("r.toml"),
        )
        .unwrap()
    }

    fn set(assignments: &[&str]) -> Result<Recipe> {
        recipe().set(&assignments.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn values_are_toml_or_text() {
        let changed = set(&[
            "train.steps=7",
            "train.learning_rate = 1e-4",
            "model.channel_mult=[1, 2]",
            "train.lr_schedule=cosine",
            "train.keep_best=\"accuracy\"",
            "train.max_time=2h",
            "augment.rotation={ degrees = 5 }",
            "train.groups.decoder=frozen",
            "train.steps=8",
        ])
        .unwrap();
        assert_eq!((changed.train.steps, changed.train.learning_rate), (8, 1e-4));
        assert_eq!(changed.model.channel_mult, [1, 2]);
        assert!(changed.augment.rotation.is_some() && changed.train.keep_best.is_some());
        assert!(changed.train.groups.decoder.factor().is_none());
        assert_eq!(set(&[]).unwrap(), recipe());
        // All else stays.
        let back = changed.set(&["train.steps=0".into()]).unwrap();
        assert_eq!((back.train.steps, back.model.num_channels), (0, 32));
    }

    #[test]
    fn mistakes_name_the_assignment() {
        for (given, word) in [
            ("train.steps", "NAME=VALUE"),
            ("steps=5", "section"),
            ("train.=5", "section"),
            ("train.stepz=5", "stepz"),
            ("train.steps=many", "train.steps=many"),
            ("train.steps.more=5", "steps is a value"),
            ("modell.image_size=5", "modell"),
        ] {
            let error = set(&[given]).unwrap_err().to_string();
            assert!(error.starts_with("set: ") && error.contains(word), "{given}: {error}");
        }
    }
}
