//! A classifier for a network that has none of its own, or another one: untrained, and said to be.

use duet::model::{JointModel, ModelConfig};
use duet::rng::Seed;
use duet::tensor::Tensors;
use duet::{Error, Result};

/// Topic of what a checkpoint says of such a head.
pub const TOPIC: &str = "classifier";
/// What it says.
pub const UNTRAINED: &str = "new and untrained: its answers mean nothing before it is trained";

/// How the reference's names of the classifier begin.
pub(super) const CLASSIFIER: &str = "clasifier.";

/// How many classes a new head has, and what they are called.
#[derive(Clone, Debug, PartialEq)]
pub struct NewHead {
    /// Their number.
    pub classes: usize,
    /// Their names; may be empty.
    pub names: Vec<String>,
}

impl NewHead {
    /// From a number of classes, or their names with commas between.
    ///
    /// # Errors
    /// [`Error::Config`] for no classes, or a name that is empty.
    pub fn parse(text: &str) -> Result<NewHead> {
        if let Ok(classes) = text.trim().parse::<usize>() {
            return match classes {
                0 => Err(Error::config("new-head", "needs at least one class")),
                classes => Ok(NewHead { classes, names: Vec::new() }),
            };
        }
        let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
        if names.iter().any(String::is_empty) {
            let detail = format!("is a number of classes, or their names as in cat,dog; is {text:?}");
            return Err(Error::config("new-head", detail));
        }
        Ok(NewHead { classes: names.len(), names })
    }

    /// Puts fresh weights of a classifier in the place of those that are there.
    ///
    /// # Errors
    /// As [`JointModel::new`].
    pub fn attach(&self, config: &mut ModelConfig, weights: &mut Tensors) -> Result<()> {
        config.num_classes = self.classes;
        config.class_names.clone_from(&self.names);
        let fresh = JointModel::new(config)?.params.initial(Seed(0));
        drop_head(weights);
        weights.extend(fresh.into_iter().filter(|(name, _)| name.starts_with(CLASSIFIER)));
        Ok(())
    }
}

/// Removes a classifier's weights.
pub fn drop_head(weights: &mut Tensors) {
    weights.retain(|name, _| !name.starts_with(CLASSIFIER));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_numbers_or_names() {
        let head = |classes, names: &[&str]| NewHead {
            classes,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert_eq!(NewHead::parse("10").unwrap(), head(10, &[]));
        assert_eq!(NewHead::parse("cat, dog").unwrap(), head(2, &["cat", "dog"]));
        for bad in ["0", "", "cat,", "-1,,2"] {
            assert!(NewHead::parse(bad).unwrap_err().to_string().starts_with("new-head: "), "{bad}");
        }
    }
}
