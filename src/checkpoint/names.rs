//! Comparing names and shapes with those a model needs.

use super::{Checkpoint, IN_MEMORY, error_at};
use crate::error::{Error, Result};
use crate::model::JointModel;
use crate::tensor::Tensors;
use std::collections::BTreeMap;
use std::path::Path;

/// Mismatches listed of each kind.
const LISTED: usize = 10;

/// Checks that `tensors` are exactly those `expected`, by name and shape (the reference's).
///
/// # Errors
/// [`crate::Error::Checkpoint`] listing what is missing, unexpected and of the wrong shape, ten of each kind at most.
pub fn check_names(tensors: &Tensors, expected: &[(String, Vec<usize>)]) -> Result<()> {
    compare("weights", tensors, expected).map_err(|detail| error_at(Path::new(IN_MEMORY), detail))
}

impl Checkpoint {
    /// The model of the configuration, once everything in the file is known to fit it. `path` only names the file in errors.
    ///
    /// # Errors
    /// [`crate::Error::Checkpoint`] for a configuration out of range, and as [`Checkpoint::check`].
    pub fn joint_model(&self, path: &Path) -> Result<JointModel> {
        let wrong = |error: Error| error_at(path, format!("configuration: {error}"));
        let model = JointModel::new(&self.model).map_err(wrong)?;
        self.diffusion.validate().map_err(wrong)?;
        self.check(path, &model.params.expected(false), &model.params.expected(true))?;
        Ok(model)
    }

    /// Checks the names and shapes of every set of tensors: the weights must be exactly `weights`, the average and the
    /// optimizer's moments, where there are any, exactly `trained` (which has no running statistics). `path` only
    /// names the file in errors.
    ///
    /// # Errors
    /// [`crate::Error::Checkpoint`] as [`check_names`], of the first set that does not fit.
    pub fn check(
        &self,
        path: &Path,
        weights: &[(String, Vec<usize>)],
        trained: &[(String, Vec<usize>)],
    ) -> Result<()> {
        let training = self.training.as_ref();
        let sets = [
            ("weights", Some(&self.weights), weights),
            ("averages", self.ema.as_ref(), trained),
            ("first moments", training.map(|state| &state.adam_m), trained),
            ("second moments", training.map(|state| &state.adam_v), trained),
        ];
        for (what, tensors, expected) in sets {
            if let Some(tensors) = tensors {
                compare(what, tensors, expected).map_err(|detail| error_at(path, detail))?;
            }
        }
        Ok(())
    }
}

/// Describes how `tensors` differ from those `expected`.
fn compare(
    what: &str,
    tensors: &Tensors,
    expected: &[(String, Vec<usize>)],
) -> std::result::Result<(), String> {
    let expected: BTreeMap<&str, &[usize]> =
        expected.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
    let mut missing = Vec::new();
    let mut mis_shaped = Vec::new();
    for (name, shape) in &expected {
        match tensors.get(*name) {
            None => missing.push(format!("`{name}` {shape:?}")),
            Some(tensor) if tensor.shape != *shape => {
                mis_shaped.push(format!("`{name}` is {:?}, must be {shape:?}", tensor.shape));
            }
            Some(_) => {}
        }
    }
    let unexpected: Vec<String> = tensors
        .iter()
        .filter(|(name, _)| !expected.contains_key(name.as_str()))
        .map(|(name, tensor)| format!("`{name}` {:?}", tensor.shape))
        .collect();
    let kinds = [("missing", missing), ("unexpected", unexpected), ("wrong shape", mis_shaped)];
    let lists: Vec<String> = kinds
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(kind, names)| format!("{kind}: {}", shortened(names)))
        .collect();
    if lists.is_empty() {
        return Ok(());
    }
    Err(format!("{what} do not fit the model: {}", lists.join("; ")))
}

/// The first names, and how many more there are.
fn shortened(names: &[String]) -> String {
    let listed = names.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > LISTED { format!("{listed} and {} more", names.len() - LISTED) } else { listed }
}
