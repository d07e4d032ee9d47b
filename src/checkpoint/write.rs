//! Writing safetensors files. Everything is checked before the first byte is written.

use super::metadata::{self, Metadata};
use super::{Checkpoint, Dtype, read};
use crate::tensor::{HostTensor, Tensors};
use crate::typicality::Reference;
use half::f16;
use safetensors::tensor::{Dtype as FileDtype, Metadata as FileHeader, TensorInfo};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;

/// Prefix of the average's names.
pub(super) const EMA: &str = "ema/";
/// Prefix of the first moments' names.
pub(super) const ADAM_M: &str = "adam_m/";
/// Prefix of the second moments' names.
pub(super) const ADAM_V: &str = "adam_v/";
/// Prefix of the names of what timesteps are drawn by.
pub(super) const TIMESTEPS: &str = "timesteps/";
/// The header's own key, which no tensor can have as a name.
const RESERVED: &str = "__metadata__";
/// Values converted at a time.
const BLOCK: usize = 4096;

/// A tensor and how to store it.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    name: String,
    tensor: &'a HostTensor,
    dtype: Dtype,
}

impl Entry<'_> {
    /// The tensor and its name in the file.
    pub fn named(&self) -> (&str, &HostTensor) {
        (&self.name, self.tensor)
    }
}

impl Checkpoint {
    /// All tensors.
    pub(super) fn entries(&self, dtype: Dtype) -> Result<Vec<Entry<'_>>, String> {
        refuse_reserved(&self.weights)?;
        let training = self.training.as_ref();
        let sets = [
            ("", Some(&self.weights), dtype),
            (EMA, self.ema.as_ref(), dtype),
            (ADAM_M, training.map(|state| &state.adam_m), Dtype::F32),
            (ADAM_V, training.map(|state| &state.adam_v), Dtype::F32),
            (TIMESTEPS, training.map(|state| &state.timesteps), Dtype::F32),
        ];
        let mut entries = Vec::new();
        for (prefix, tensors, dtype) in sets {
            entries.extend(tensors.into_iter().flatten().map(|(name, tensor)| {
                let dtype = weight_dtype(name, dtype);
                Entry { name: format!("{prefix}{name}"), tensor, dtype }
            }));
        }
        Ok(entries)
    }

    /// The weights, or with `ema` their average where it has them.
    pub(super) fn inference_entries(&self, dtype: Dtype, ema: bool) -> Result<Vec<Entry<'_>>, String> {
        refuse_reserved(&self.weights)?;
        let averages = match (&self.ema, ema) {
            (Some(averages), true) => Some(averages),
            (None, true) => return Err("has no average (EMA) to export".to_owned()),
            (_, false) => None,
        };
        for (name, average) in averages.into_iter().flatten() {
            if self.weights.get(name).is_none_or(|weight| weight.shape != average.shape) {
                return Err(format!("the average of `{name}` {:?} fits no weight", average.shape));
            }
        }
        let entries = self.weights.iter().map(|(name, weight)| {
            let tensor = averages.and_then(|averages| averages.get(name)).unwrap_or(weight);
            Entry { name: name.clone(), tensor, dtype: weight_dtype(name, dtype) }
        });
        Ok(entries.collect())
    }
}

/// Refuses weights that would come back as something else.
fn refuse_reserved(weights: &Tensors) -> Result<(), String> {
    let prefixes = [EMA, ADAM_M, ADAM_V, TIMESTEPS];
    let reserved = |name: &str| name == RESERVED || prefixes.iter().any(|prefix| name.starts_with(prefix));
    match weights.keys().find(|name| reserved(name)) {
        Some(name) => Err(format!("`{name}` is reserved and cannot be the name of a weight")),
        None => Ok(()),
    }
}

/// Running statistics stay F32 in files of every kind.
fn weight_dtype(name: &str, dtype: Dtype) -> Dtype {
    let last = name.rsplit('.').next().unwrap_or(name);
    if matches!(last, "running_mean" | "running_var") { Dtype::F32 } else { dtype }
}

/// A file's header: our texts, in the order of their keys so that equal checkpoints give equal bytes, then the tensors.
#[derive(Serialize)]
struct Header<'a> {
    #[serde(rename = "__metadata__")]
    texts: BTreeMap<&'a str, String>,
    #[serde(flatten)]
    tensors: FileHeader,
}

/// A file ready to be written: nothing can fail any more but the writing itself.
#[derive(Debug)]
pub(super) struct Encoder<'a> {
    header: Vec<u8>,
    entries: Vec<Entry<'a>>,
    data_len: usize,
}

impl<'a> Encoder<'a> {
    /// Checks everything and makes the header.
    pub fn new(
        metadata: &Metadata,
        typicality: Option<&Reference>,
        mut entries: Vec<Entry<'a>>,
    ) -> Result<Self, String> {
        check(metadata, &entries)?;
        // F32 before F16, so that every tensor is aligned.
        entries.sort_by_key(|entry| entry.dtype == Dtype::F16);
        let mut infos = Vec::with_capacity(entries.len());
        let mut data_len = 0;
        for Entry { name, tensor, dtype } in &entries {
            let (dtype, width) = match dtype {
                Dtype::F32 => (FileDtype::F32, 4),
                Dtype::F16 => (FileDtype::F16, 2),
            };
            let end = data_len + width * tensor.data.len();
            let info = TensorInfo { dtype, shape: tensor.shape.clone(), data_offsets: (data_len, end) };
            infos.push((name.clone(), info));
            data_len = end;
        }
        let mut texts = BTreeMap::from([(metadata::KEY, metadata::format(metadata)?)]);
        if let Some(reference) = typicality {
            texts.insert(metadata::TYPICALITY, metadata::format_typicality(reference)?);
        }
        let tensors = FileHeader::new(None, infos).map_err(|error| error.to_string())?;
        let header = Header { texts, tensors };
        let mut header = serde_json::to_vec(&header).map_err(|error| error.to_string())?;
        header.resize(header.len().next_multiple_of(8), b' ');
        Ok(Encoder { header, entries, data_len })
    }

    /// Bytes of the file.
    pub fn len(&self) -> u64 {
        (8 + self.header.len() + self.data_len) as u64
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::with_capacity(self.len() as usize);
        self.write(&mut bytes).map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    /// Writes the file.
    pub fn write(&self, sink: &mut impl Write) -> std::io::Result<()> {
        sink.write_all(&(self.header.len() as u64).to_le_bytes())?;
        sink.write_all(&self.header)?;
        let mut block = Vec::with_capacity(4 * BLOCK);
        for entry in &self.entries {
            for values in entry.tensor.data.chunks(BLOCK) {
                block.clear();
                match entry.dtype {
                    Dtype::F32 => block.extend(values.iter().flat_map(|v| v.to_le_bytes())),
                    Dtype::F16 => block.extend(values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes())),
                }
                sink.write_all(&block)?;
            }
        }
        Ok(())
    }
}

/// Refuses what could not be read back as it was.
fn check(metadata: &Metadata, entries: &[Entry<'_>]) -> Result<(), String> {
    read::refuse_impossible(entries.iter().map(Entry::named))?;
    for metrics in metadata.training.iter().flat_map(|training| [&training.best, &training.last]).flatten() {
        if let Some((name, value)) = metrics.values.iter().find(|(_, value)| !value.is_finite()) {
            return Err(format!("the metric `{name}` of step {} is {value}", metrics.step));
        }
    }
    for Entry { name, tensor: HostTensor { shape, data }, dtype } in entries {
        let count = shape.iter().try_fold(1usize, |product, length| product.checked_mul(*length));
        if count != Some(data.len()) {
            return Err(format!("`{name}` has {} values, which do not fill its shape {shape:?}", data.len()));
        }
        let overflows = |value: &&f32| *dtype == Dtype::F16 && f16::from_f32(**value).is_infinite();
        if let Some(value) = data.iter().find(overflows) {
            return Err(format!(
                "`{name}` holds {value}, beyond f16's range of ±{}: export as F32",
                f16::MAX
            ));
        }
    }
    Ok(())
}
