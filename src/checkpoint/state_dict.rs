//! Tensors by name without a configuration of ours: weights of networks that only measure.

#[cfg(not(target_arch = "wasm32"))]
use super::foreign;
use super::read::{Container, refuse_impossible};
use super::{error_at, metadata};
use crate::error::Result;
use crate::tensor::Tensors;
use safetensors::tensor::{Dtype, TensorView, serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// A plain safetensors file: a PyTorch `state_dict`, and texts by key.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::checkpoint::StateDict;
/// use duet::tensor::{HostTensor, Tensors};
///
/// let weight = HostTensor { shape: vec![1, 2], data: vec![0.5, -0.5] };
/// let tensors = Tensors::from([("fc.weight".to_owned(), weight)]);
/// let file = StateDict { tensors, texts: [("source".to_owned(), "by hand".to_owned())].into() };
/// let path = std::path::Path::new("weights.safetensors");
/// assert_eq!(StateDict::from_bytes(&file.to_bytes(path)?, path)?, file);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateDict {
    /// The tensors. Counters of batches (`num_batches_tracked`), which only training uses, are left out in reading.
    pub tensors: Tensors,
    /// Texts of the header's `__metadata__`.
    pub texts: BTreeMap<String, String>,
}

impl StateDict {
    /// Reads a file from its bytes; `path` only names it in errors. Memory is bounded by the length of `bytes`.
    ///
    /// # Errors
    /// [`crate::Error::Checkpoint`] for a file that is truncated, damaged or of another format, and for values that are not
    /// finite, or negative variances.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<StateDict> {
        Self::decode(bytes, false).map_err(|detail| error_at(path, detail))
    }

    /// Reads a file; where it must be `plain`, none with a configuration of ours.
    fn decode(bytes: &[u8], plain: bool) -> std::result::Result<StateDict, String> {
        let container = Container::open(bytes)?;
        if plain && container.text(metadata::KEY).is_some() {
            return Err("is a checkpoint with a configuration of its own, not a plain state_dict".to_owned());
        }
        let tensors = container.tensors(|name| !is_counter(name))?;
        Ok(StateDict { tensors, texts: container.texts() })
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// As [`StateDict::from_bytes`], and for a file that cannot be read.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn load(path: &Path) -> Result<StateDict> {
        let bytes = foreign::read(path).map_err(|detail| error_at(path, detail))?;
        Self::from_bytes(&bytes, path)
    }

    /// The bytes of the file, all tensors as F32; equal contents give equal bytes. `path` only names it in errors.
    ///
    /// # Errors
    /// [`crate::Error::Checkpoint`] for anything that [`StateDict::from_bytes`] would refuse, and for a tensor whose values do not
    /// fill its shape.
    pub fn to_bytes(&self, path: &Path) -> Result<Vec<u8>> {
        let encode = || -> std::result::Result<Vec<u8>, String> {
            refuse_impossible(self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)))?;
            let bytes: Vec<Vec<u8>> = self
                .tensors
                .values()
                .map(|tensor| tensor.data.iter().flat_map(|value| value.to_le_bytes()).collect())
                .collect();
            let mut views = Vec::with_capacity(bytes.len());
            for ((name, tensor), bytes) in self.tensors.iter().zip(&bytes) {
                let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytes);
                views.push((name.as_str(), view.map_err(|error| format!("cannot hold `{name}`: {error}"))?));
            }
            let texts: HashMap<String, String> = self.texts.clone().into_iter().collect();
            serialize(views, (!texts.is_empty()).then_some(texts)).map_err(|error| error.to_string())
        };
        encode().map_err(|detail| error_at(path, detail))
    }
}

/// The tensors of a `state_dict` saved as a plain safetensors file, whatever its names, as f32. `num_batches_tracked` counters,
/// which nothing uses, are left out. `path` only names the file in errors.
///
/// # Errors
/// As [`super::Checkpoint::from_reference`].
pub fn state_dict(bytes: &[u8], path: &Path) -> Result<Tensors> {
    let read = StateDict::decode(bytes, true).map_err(|detail| error_at(path, detail))?;
    Ok(read.tensors)
}

/// Whether a tensor only counts batches of training.
fn is_counter(name: &str) -> bool {
    name.rsplit('.').next() == Some("num_batches_tracked")
}
