//! What images are to become, as the command line says it.

use crate::cli::Explain;
use crate::commands::signed::{parts, signed};
use duet::model::{Head, ModelConfig, Target};
use duet::{Error, Result};

/// Instead of a class: the second most probable one of each image.
const SECOND: &str = "second";
/// A class that was asked for, or a label with its sign; `None`: each image's second.
fn wanted_class(config: &ModelConfig, text: &str) -> Result<Option<Target>> {
    // A class may be called so itself.
    let error = match config.find_class(text) {
        Ok(class) => return Ok(Some(class.into())),
        Err(error) => error,
    };
    if text.trim() == SECOND {
        return match config.head {
            Head::Multiclass if config.num_classes > 1 => Ok(None),
            Head::Multiclass => Err(error),
            Head::MultiLabel => {
                let detail = "this model decides each label for itself, so none comes second: give +LABEL to add one or \
                              -LABEL to take it away";
                Err(Error::config("to", detail))
            }
        };
    }
    let Some((name, present)) = signed(text) else { return Err(error) };
    let target = Target { class: config.find_class(name)?, present };
    // Here, where the option can be named.
    if !target.present && config.head == Head::Multiclass {
        let detail = format!(
            "{text:?} takes a label away, but an image of this model has one class: name the class it is to become"
        );
        return Err(Error::config("to", detail));
    }
    Ok(Some(target))
}

/// The target for each of `count` images.
///
/// # Errors
/// [`Error::Config`] for a class that the model does not have, or for more or fewer than one or one for each.
pub fn wanted(config: &ModelConfig, options: &Explain, count: usize) -> Result<Vec<Option<Target>>> {
    let parts = options.to.iter().flat_map(|text| parts(config, text));
    let named: Vec<_> = parts.map(|name| wanted_class(config, name)).collect::<Result<_>>()?;
    match named[..] {
        [one] => Ok(vec![one; count]),
        _ if named.len() == count => Ok(named),
        _ => {
            let detail = format!("{} classes for {count} images: give one, or one for each", named.len());
            Err(Error::config("to", detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(head: Head, names: &[&str]) -> ModelConfig {
        let class_names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        ModelConfig { num_classes: names.len(), class_names, head, ..ModelConfig::default() }
    }

    #[test]
    fn a_label_is_added_or_taken_away_by_its_sign() {
        let config = config(Head::MultiLabel, &["WBC", "-low", "+high", "cats, big"]);
        let of = |text: &str| wanted_class(&config, text).unwrap().map(|t| (t.class, t.present));
        for (text, class, present) in [
            ("+WBC", 0, true),
            ("-wbc", 0, false),
            ("−WBC", 0, false),
            ("WBC", 0, true),
            ("-0", 0, false),
            // Names that begin with a sign: as they are, and with one before.
            ("-low", 1, true),
            ("+-low", 1, true),
            ("--low", 1, false),
            ("+high", 2, true),
            ("-+high", 2, false),
            ("- cats, big", 3, false),
        ] {
            assert_eq!(of(text), Some((class, present)), "{text}");
        }
        assert_eq!(parts(&config, "-cats, big"), ["-cats, big"]);
        assert_eq!(parts(&config, "-WBC,+WBC"), ["-WBC", "+WBC"]);
        let said = |text: &str| wanted_class(&config, text).unwrap_err().to_string();
        assert!(said("second").contains("+LABEL"), "{}", said("second"));
        assert!(said("-RBC").contains("\"RBC\"") && said("RBC").contains("\"RBC\""));
    }

    #[test]
    fn a_class_cannot_be_taken_away() {
        let config = config(Head::Multiclass, &["Coat", "-Coat", "second"]);
        let of = |text: &str| wanted_class(&config, text).unwrap().map(|t| (t.class, t.present));
        assert_eq!(
            ["Coat", "+Coat", "-Coat", "second"].map(of),
            [0, 0, 1, 2].map(|class| Some((class, true)))
        );
        let said = wanted_class(&config, "--Coat").unwrap_err().to_string();
        assert!(said.contains("takes a label away"), "{said}");
        let plain = super::tests::config(Head::Multiclass, &["a", "b"]);
        assert_eq!(wanted_class(&plain, " second").unwrap(), None);
    }
}
