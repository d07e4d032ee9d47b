//! Reading safetensors files: the header is checked against the file before anything is allocated for a tensor.

use super::foreign::{self, AGAIN};
use super::metadata;
use super::write::{ADAM_V, TIMESTEPS};
use crate::tensor::{HostTensor, Tensors};
use half::{bf16, f16};
use safetensors::tensor::{Dtype as FileDtype, Metadata as FileHeader, TensorInfo};
use std::collections::BTreeMap;

/// A safetensors file whose header is sound: the tensors' bytes follow one another without holes or overlaps, fit
/// their shapes and end where the file ends.
#[derive(Debug)]
pub(super) struct Container<'a> {
    header: FileHeader,
    data: &'a [u8],
}

impl<'a> Container<'a> {
    /// Checks the header.
    pub fn open(bytes: &'a [u8]) -> Result<Self, String> {
        if let Some(detail) = foreign::recognise(bytes) {
            return Err(detail);
        }
        let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| {
            format!("is truncated: it has {} bytes, a header has at least 8; {AGAIN}", bytes.len())
        })?;
        let length = u64::from_le_bytes(*length);
        let (header, data) =
            usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length)).ok_or_else(|| {
                format!(
                    "is truncated or not a safetensors file: a header of {length} bytes is announced, {} follow; {AGAIN}",
                    rest.len()
                )
            })?;
        let text = std::str::from_utf8(header)
            .map_err(|error| format!("is not a safetensors file: its header is not text: {error}"))?;
        metadata::refuse_repeated_keys(text).map_err(|error| format!("has an unreadable header: {error}"))?;
        // The crate checks here that offsets have no holes or overlaps, that shapes and offsets agree and that no
        // product overflows. The comparison with the file's length is made below and not by the crate, which adds
        // unchecked numbers for it.
        let header: FileHeader =
            serde_json::from_str(text).map_err(|error| format!("has an unreadable header: {error}"))?;
        let announced = header.data_len();
        if announced != data.len() {
            let cause =
                if announced > data.len() { "is truncated" } else { "has bytes that belong to no tensor" };
            return Err(format!(
                "{cause}: {announced} bytes of tensors are announced, {} follow; {AGAIN}",
                data.len()
            ));
        }
        Ok(Container { header, data })
    }

    /// The text of one of our keys in the header.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// All texts of the header.
    pub fn texts(&self) -> BTreeMap<String, String> {
        self.header.metadata().iter().flatten().map(|(key, text)| (key.clone(), text.clone())).collect()
    }

    /// The tensors whose name is `wanted`, as f32.
    pub fn tensors(&self, wanted: impl Fn(&str) -> bool) -> Result<Tensors, String> {
        let mut tensors = Tensors::new();
        for (name, info) in self.header.tensors() {
            if wanted(&name) {
                let tensor = self.tensor(&name, info)?;
                tensors.insert(name, tensor);
            }
        }
        refuse_impossible(tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)))?;
        Ok(tensors)
    }

    fn tensor(&self, name: &str, info: &TensorInfo) -> Result<HostTensor, String> {
        let (start, end) = info.data_offsets;
        let bytes = self.data.get(start..end).ok_or_else(|| format!("is truncated inside `{name}`"))?;
        let data: Vec<f32> = match info.dtype {
            FileDtype::F32 => values(bytes, f32::from_le_bytes),
            FileDtype::F16 => values(bytes, |b| f16::from_le_bytes(b).to_f32()),
            FileDtype::BF16 => values(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            FileDtype::F64 => values(bytes, |b| f64::from_le_bytes(b) as f32),
            other => {
                return Err(format!("holds `{name}` as {other}, but weights are F32, F16, BF16 or F64"));
            }
        };
        Ok(HostTensor { shape: info.shape.clone(), data })
    }
}

/// Numbers of `N` bytes each as f32.
fn values<const N: usize>(bytes: &[u8], to_f32: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let mut values = Vec::with_capacity(bytes.len() / N);
    values.extend(bytes.chunks_exact(N).filter_map(|chunk| chunk.try_into().ok()).map(to_f32));
    values
}

/// Whether `name` is that of variances or of means of squares, which are never negative.
fn never_negative(name: &str) -> bool {
    name.starts_with(ADAM_V)
        || name.starts_with(TIMESTEPS)
        || name.rsplit(['.', '/']).next() == Some("running_var")
}

/// Refuses NaN and infinity, and negative values where there can be none: the error says which value is the first, and how
/// many there are.
pub(super) fn refuse_impossible<'t>(
    tensors: impl Iterator<Item = (&'t str, &'t HostTensor)>,
) -> Result<(), String> {
    let mut first = None;
    let (mut values, mut count) = (0usize, 0usize);
    for (name, tensor) in tensors {
        let least = if never_negative(name) { 0.0 } else { f32::MIN };
        let mut bad = tensor.data.iter().enumerate().filter(|(_, v)| !v.is_finite() || **v < least);
        if let Some((index, value)) = bad.next() {
            first.get_or_insert((name, index, *value));
            values += 1 + bad.count();
            count += 1;
        }
    }
    let Some((name, index, value)) = first else { return Ok(()) };
    let what =
        if value.is_finite() { "a negative value where none can be" } else { "NaN or infinite values" };
    Err(format!(
        "has {what}: first `{name}`[{index}], which is {value}; {values} value(s) in {count} tensor(s) altogether"
    ))
}
