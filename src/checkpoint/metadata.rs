//! The JSON text in a checkpoint's header.

use super::{Checkpoint, Figures, LossScale, TrainingState};
use crate::diffusion::DiffusionConfig;
use crate::model::ModelConfig;
use crate::picture::Pictures;
use crate::tensor::Tensors;
use crate::typicality::{self, Reference};
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

/// Key of the text in the safetensors header.
pub(super) const KEY: &str = "duet";
/// Key of the training data's statistics there. Programs that do not know them pass them over, and lose them where they
/// write other weights, to which they would not apply.
pub(super) const TYPICALITY: &str = "typicality";

/// Number of the format this version writes, and the newest it reads.
pub const FORMAT: u32 = 1;

/// All of a checkpoint but its tensors.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metadata {
    pub format: u32,
    pub model: ModelConfig,
    pub diffusion: DiffusionConfig,
    pub ema: bool,
    /// This and the next are written only where they say something: programs that do not know them must not read such a model.
    #[serde(default, skip_serializing_if = "is_default")]
    pub classifier_only: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub pictures: Pictures,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainingMetadata>,
    #[serde(default)]
    pub info: BTreeMap<String, String>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// All of a [`TrainingState`] but its tensors.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TrainingMetadata {
    pub step: u64,
    pub seed: u64,
    pub recipe: serde_json::Value,
    pub data_fingerprint: String,
    /// Written only where there is one: programs that do not know it would go on otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<LossScale>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Figures>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Figures>,
}

impl TrainingMetadata {
    /// The state, its tensors still to be filled in.
    pub fn into_state(self) -> TrainingState {
        TrainingState {
            step: self.step,
            seed: self.seed,
            adam_m: Tensors::new(),
            adam_v: Tensors::new(),
            timesteps: Tensors::new(),
            loss_scale: self.loss_scale,
            recipe: self.recipe,
            data_fingerprint: self.data_fingerprint,
            best: self.best,
            last: self.last,
        }
    }
}

impl Checkpoint {
    /// All but the tensors.
    pub(super) fn metadata(&self) -> Metadata {
        Metadata {
            format: FORMAT,
            model: self.model.clone(),
            diffusion: self.diffusion.clone(),
            ema: self.ema.is_some(),
            classifier_only: self.classifier_only,
            pictures: self.pictures,
            training: self.training.as_ref().map(|state| TrainingMetadata {
                step: state.step,
                seed: state.seed,
                recipe: state.recipe.clone(),
                data_fingerprint: state.data_fingerprint.clone(),
                loss_scale: state.loss_scale,
                best: state.best.clone(),
                last: state.last.clone(),
            }),
            info: self.info.clone(),
        }
    }
}

/// Reads the text.
pub(super) fn parse(text: &str) -> Result<Metadata, String> {
    /// The one field every format has; the others may be unknown to this version.
    #[derive(Deserialize)]
    struct Version {
        format: u64,
    }
    refuse_repeated_keys(text).map_err(|error| format!("has unreadable metadata: {error}"))?;
    let version: Version = serde_json::from_str(text)
        .map_err(|error| format!("has metadata without a format number: {error}"))?;
    if version.format > u64::from(FORMAT) {
        return Err(format!(
            "was written by a newer version of this program: its format is {}, the newest known here is {FORMAT}",
            version.format
        ));
    }
    if version.format == 0 {
        return Err("has format number 0, which does not exist".to_owned());
    }
    serde_json::from_str(text).map_err(|error| format!("has unreadable metadata: {error}"))
}

/// Reads the text of the training data's statistics; `None` for a version that is not known here.
pub(super) fn parse_typicality(text: &str) -> Result<Option<Reference>, String> {
    let parse = || {
        refuse_repeated_keys(text).map_err(|error| error.to_string())?;
        typicality::parse(text)
    };
    parse().map_err(|detail| format!("has malformed statistics of typicality: {detail}"))
}

/// Writes that text.
pub(super) fn format_typicality(reference: &Reference) -> Result<String, String> {
    serde_json::to_string(reference)
        .map_err(|error| format!("statistics of typicality cannot be written: {error}"))
}

/// Writes the text, and makes sure that it can be read back: JSON turns a NaN into `null` without a word, and readers
/// limit nesting where writers do not.
pub(super) fn format(metadata: &Metadata) -> Result<String, String> {
    let text =
        serde_json::to_string(metadata).map_err(|error| format!("metadata cannot be written: {error}"))?;
    parse(&text).map_err(|detail| format!("not written, for the file would be unreadable: it {detail}"))?;
    Ok(text)
}

/// Refuses text that is not JSON or in which an object, at any depth, has a key twice. Of such keys readers would
/// silently take one or the other.
pub(super) fn refuse_repeated_keys(text: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<UniqueKeys>(text).map(|UniqueKeys| ())
}

/// Any JSON value whose objects have no key twice.
struct UniqueKeys;

impl<'de> Deserialize<'de> for UniqueKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueKeys)
    }
}

impl<'de> Visitor<'de> for UniqueKeys {
    type Value = UniqueKeys;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_i64<E>(self, _: i64) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_u64<E>(self, _: u64) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_f64<E>(self, _: f64) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_str<E>(self, _: &str) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_unit<E>(self) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<UniqueKeys, A::Error> {
        while items.next_element::<UniqueKeys>()?.is_some() {}
        Ok(UniqueKeys)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<UniqueKeys, A::Error> {
        let mut seen = HashSet::new();
        while let Some((key, UniqueKeys)) = entries.next_entry::<String, UniqueKeys>()? {
            if seen.contains(&key) {
                return Err(A::Error::custom(format_args!("the key {key:?} is repeated")));
            }
            seen.insert(key);
        }
        Ok(UniqueKeys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_keys_are_found_at_every_depth() {
        for text in [r#"{"a":1,"a":1}"#, r#"[{"b":{"a":1,"\u0061":null}}]"#] {
            let error = refuse_repeated_keys(text).unwrap_err().to_string();
            assert!(error.contains("\"a\" is repeated"), "{error}");
        }
        refuse_repeated_keys(r#"{"a":{"a":[1,-1,0.5,true,null,"a"]},"b":{"a":1}}"#).unwrap();
        for text in ["", "{", "{\"a\"}", "[1,]", "{} {}", &"[".repeat(100_000)] {
            assert!(refuse_repeated_keys(text).is_err());
        }
    }
}
