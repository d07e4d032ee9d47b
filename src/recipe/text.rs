//! Recipes as text: as TOML or as JSON, of the same sections, names and values.

use serde::de::DeserializeOwned;

/// Reads what a recipe's text says. JSON begins with `{`, which nothing in TOML does; so no name of a file has to tell them apart.
///
/// # Errors
/// What is wrong with the text, with its line.
///
/// ```
/// use duet::recipe::{TrainRecipe, from_text};
///
/// let toml: TrainRecipe = from_text("steps = 500\nlr_schedule = \"cosine\"").unwrap();
/// let json: TrainRecipe = from_text(r#"{"steps": 500, "lr_schedule": "cosine"}"#).unwrap();
/// assert_eq!(toml, json);
/// ```
pub fn from_text<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    // Some editors begin files with a mark of the encoding.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|error| error.to_string())
    } else {
        toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, Value, json};

    #[test]
    fn both_syntaxes_say_the_same() {
        let want = json!({"train": {"steps": 5, "learning_rate": 1e-3, "groups": {"decoder": "frozen"}}, "augment": {"crop": true}});
        let toml = "[train]\nsteps = 5\nlearning_rate = 1e-3\n[train.groups]\ndecoder = \"frozen\"\n[augment]\ncrop = true\n";
        for text in [&want.to_string(), toml, &format!("\u{feff}{toml}"), &format!("\u{feff} \n{want}")] {
            assert_eq!(from_text::<Value>(text).unwrap(), want, "{text}");
        }
        assert_eq!(from_text::<Map<String, Value>>("").unwrap(), Map::new());
    }

    #[test]
    fn mistakes_have_a_line() {
        for text in ["{\n\"train\": 3,,\n}", "[train]\nsteps == 3\n"] {
            let error = from_text::<Value>(text).unwrap_err();
            assert!(error.contains("line 2") && !error.ends_with('\n'), "{error}");
        }
    }
}
