//! Reading the tensors of another program's file, whatever its format.

use crate::data::whole;
use duet::checkpoint::state_dict;
use duet::tensor::Tensors;
use duet::torch::TorchFile;
use duet::{Error, Result};
use std::path::Path;

/// What PyTorch puts before every name of a model that was wrapped for several devices.
const WRAPPED: &str = "module.";

/// An error about a model's file.
pub fn bad(path: &Path, detail: impl Into<String>) -> Error {
    Error::Checkpoint { path: path.to_owned(), detail: detail.into() }
}

/// The tensors of floats of a PyTorch or safetensors file by name; of a file with several dictionaries of them those of `key`.
///
/// # Errors
/// A file that cannot be read, is damaged or of neither format; values that are not finite.
pub fn read(path: &Path, key: Option<&str>) -> Result<Tensors> {
    let bytes = whole(path).map_err(|error| bad(path, format!("cannot be read: {error}")))?;
    let tensors = if TorchFile::recognise(&bytes) {
        let file = TorchFile::read(&bytes, path)?;
        let several = matches!(file.sections().as_slice(), [first, _, ..] if !first.is_empty());
        file.state_dict(key).map_err(|error| match error {
            Error::Checkpoint { path, detail } if key.is_none() && several => {
                bad(&path, format!("{detail} with --key NAME"))
            }
            other => other,
        })?
    } else if let Some(key) = key {
        let detail = format!(
            "is no file of PyTorch, which alone hold dictionaries by name: --key {key:?} has no place"
        );
        return Err(bad(path, detail));
    } else {
        state_dict(&bytes, path)?
    };
    let value = |(name, tensor): (&String, &duet::tensor::HostTensor)| {
        tensor.data.iter().find(|value| !value.is_finite()).map(|value| (name.clone(), *value))
    };
    if let Some((name, value)) = tensors.iter().find_map(value) {
        return Err(bad(path, format!("holds {value} in `{name}`, which no weight can be")));
    }
    if tensors.is_empty() {
        return Err(bad(path, "holds no weights"));
    }
    if tensors.keys().all(|name| name.starts_with(WRAPPED)) {
        let bare = |name: String| name.strip_prefix(WRAPPED).unwrap_or_default().to_owned();
        return Ok(tensors.into_iter().map(|(name, tensor)| (bare(name), tensor)).collect());
    }
    Ok(tensors)
}
