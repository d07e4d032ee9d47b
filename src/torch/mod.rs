//! PyTorch's files (`.pt`, `.pth`, `.bin`): tensors by name, read without executing anything, and written.
//!
//! Such a file is a Python pickle, a program for a stack machine that may call anything Python can. Here a closed list of
//! instructions builds containers, numbers and tensors, a closed list of names stands for what PyTorch itself writes (storages,
//! `OrderedDict`, `torch.Size`, the functions that lay a tensor over a storage), and everything else is refused with its name.
//! Sizes, offsets and strides are compared with the file before anything is made of them.
//!
//! Read are the zip format (PyTorch 1.6 and later) and the one before it, little-endian; written is the zip format, which
//! `torch.load(path, weights_only=True)` reads. Not part of browsers' module: this room is compiled for programs alone.

mod container;
mod names;
mod pickle;
mod tensor;
mod write;

pub use tensor::{Dtype, Tensor};
pub use write::to_bytes;

use crate::error::{Error, Result};
use crate::tensor::Tensors;
use pickle::{Id, Object, Objects};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Values that a file of n bytes may have in all its tensors: this many times n, and [`VALUES`] more. A storage that several
/// tensors share counts for each of them.
const VALUES_PER_BYTE: u64 = 8;
const VALUES: u64 = 1 << 16;

/// A PyTorch file: what its pickle describes, and the bytes of its storages where they lie in the file.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::tensor::{HostTensor, Tensors};
/// use duet::torch::{self, Dtype, TorchFile};
/// use std::path::Path;
///
/// let weight = HostTensor { shape: vec![2, 3], data: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] };
/// let bytes = torch::to_bytes([("fc.weight", &weight)])?;
/// let file = TorchFile::read(&bytes, Path::new("model.pt"))?;
/// let tensor = &file.tensors("")?["fc.weight"];
/// assert_eq!((tensor.dtype(), tensor.shape()), (Dtype::F32, &[2, 3][..]));
/// // All that holds floats, as f32.
/// let tensors: Tensors = file.state_dict(None)?;
/// assert_eq!(tensors["fc.weight"], weight);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct TorchFile<'a> {
    objects: Objects<'a>,
    root: Id,
    /// The bytes of each storage, in the pickle's numbering.
    storages: Vec<&'a [u8]>,
    /// Values that all tensors may have together.
    most_values: u64,
    path: PathBuf,
}

impl<'a> TorchFile<'a> {
    /// Whether a file that begins so is one that [`TorchFile::read`] is for.
    pub fn recognise(bytes: &[u8]) -> bool {
        // A safetensors file begins with its header's length, which may look like anything, then the header.
        if bytes.get(8) == Some(&b'{') && !bytes.starts_with(container::ZIP) {
            return false;
        }
        bytes.starts_with(container::ZIP) || matches!(bytes, [0x80, 2..=5, ..])
    }

    /// Reads a file; `path` only names it in errors. Memory is bounded by the length of `bytes`, whatever they say.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a file that is damaged, of another format or byte order, or whose pickle asks for anything
    /// but tensors in containers: the error names the instruction or the name.
    pub fn read(bytes: &'a [u8], path: &Path) -> Result<TorchFile<'a>> {
        let read = container::read(bytes).map_err(|detail| failed(path, detail))?;
        Ok(TorchFile {
            objects: read.objects,
            root: read.root,
            storages: read.storages,
            most_values: (bytes.len() as u64).saturating_mul(VALUES_PER_BYTE).saturating_add(VALUES),
            path: path.to_owned(),
        })
    }

    /// Where tensors are: "" where the file is a dictionary of tensors itself, and the names under which it holds one.
    pub fn sections(&self) -> Vec<&'a str> {
        let mut sections = Vec::new();
        let Some(entries) = self.dictionary(self.root) else { return sections };
        if self.holds_tensors(self.root) {
            sections.push("");
        }
        for (key, value) in entries {
            if let (Some(Object::Text(key)), true) = (self.objects.get(*key), self.holds_tensors(*value)) {
                sections.push(key);
            }
        }
        sections
    }

    /// The tensors of a section by name; "" is the file's own dictionary.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a section that is not there, a name that is there twice or is no text, and for tensors that
    /// have far more values than the file (views of one storage).
    pub fn tensors(&self, section: &str) -> Result<BTreeMap<&'a str, Tensor<'a>>> {
        self.collect(section).map_err(|detail| failed(&self.path, detail))
    }

    /// The tensors of floats of a section as f32: of the one that is named or, with `None`, of the only one. Tensors of whole
    /// numbers, which are counters and no weights (`num_batches_tracked`), are left out.
    ///
    /// # Errors
    /// As [`TorchFile::tensors`]; several sections, or none, where none is named.
    pub fn state_dict(&self, section: Option<&str>) -> Result<Tensors> {
        let choose = || match (section, self.sections().as_slice()) {
            (Some(section), _) => Ok(section.to_owned()),
            (None, []) => Err("holds no dictionary of tensors; save a state_dict".to_owned()),
            // What lies beside the tensors of a state_dict is no other one.
            (None, ["", ..]) => Ok(String::new()),
            (None, [section]) => Ok((*section).to_owned()),
            (None, several) => {
                Err(format!("holds several dictionaries of tensors ({}): say which", several.join(", ")))
            }
        };
        let section = choose().map_err(|detail| failed(&self.path, detail))?;
        let tensors = self.tensors(&section)?;
        let floats = tensors.into_iter().filter(|(_, tensor)| tensor.dtype().is_float());
        Ok(floats.map(|(name, tensor)| (name.to_owned(), tensor.to_host())).collect())
    }

    fn dictionary(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.objects.get(id) {
            Some(Object::Dictionary(entries)) => Some(entries),
            _ => None,
        }
    }

    fn holds_tensors(&self, id: Id) -> bool {
        let is_tensor = |id: &Id| matches!(self.objects.get(*id), Some(Object::Tensor(_)));
        self.dictionary(id).is_some_and(|entries| entries.iter().any(|(_, value)| is_tensor(value)))
    }

    fn collect(&self, section: &str) -> std::result::Result<BTreeMap<&'a str, Tensor<'a>>, String> {
        let missing = || {
            let found = self.sections().into_iter().filter(|name| !name.is_empty());
            let found = found.collect::<Vec<_>>().join(", ");
            let found = if found.is_empty() { "none".to_owned() } else { found };
            format!("has no dictionary of tensors called {section:?}; there are: {found}")
        };
        let mut id = self.root;
        if !section.is_empty() {
            let mut entries = self.dictionary(id).into_iter().flatten();
            let found = entries.find(
                |(key, _)| matches!(self.objects.get(*key), Some(Object::Text(name)) if *name == section),
            );
            id = found.map(|(_, value)| *value).ok_or_else(missing)?;
        }
        let entries = self.dictionary(id).ok_or_else(missing)?;
        let mut tensors = BTreeMap::new();
        let mut values = 0u64;
        for (key, value) in entries {
            let Some(Object::Tensor(view)) = self.objects.get(*value) else { continue };
            let Some(Object::Text(name)) = self.objects.get(*key) else {
                return Err("holds a tensor whose name is no text".to_owned());
            };
            let tensor =
                view.over(&self.storages).ok_or_else(|| format!("`{name}` lies beyond its storage"))?;
            values = values.saturating_add(tensor.len() as u64);
            if values > self.most_values {
                let detail =
                    "its tensors have far more values than the file: they are views of the same ones";
                return Err(format!("{detail}; save copies of them (`tensor.clone()`)"));
            }
            if tensors.insert(*name, tensor).is_some() {
                return Err(format!("holds `{name}` twice"));
            }
        }
        Ok(tensors)
    }
}

/// The error of the file at `path`.
fn failed(path: &Path, detail: impl Into<String>) -> Error {
    Error::Checkpoint { path: path.to_owned(), detail: detail.into() }
}
