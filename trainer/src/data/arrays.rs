//! Arrays as NumPy saves them: `.npz`, an archive of `.npy` (NEP 1), read and written.

use super::bad;
use super::foreign::foreign;
use duet::{Error, Result};
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// Longest header of an array, and most bytes of one.
const LONGEST_HEADER: usize = 1 << 16;
const MOST_BYTES: usize = 1 << 36;

/// Result whose error is what is wrong with an array, in words.
pub(super) type Outcome<T> = std::result::Result<T, String>;

/// What an array's header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its type, as NumPy writes it: byte order, kind, bytes.
    pub kind: String,
    /// Length of each dimension.
    pub shape: Vec<usize>,
}

impl Header {
    /// Count, height and width, and channels of an array of images.
    ///
    /// # Errors
    /// In words: another shape.
    pub fn images(&self) -> std::result::Result<(usize, [usize; 2], usize), String> {
        match *self.shape.as_slice() {
            [count, height, width] => Ok((count, [height, width], 1)),
            [count, height, width, colours @ (1 | 3)] => Ok((count, [height, width], colours)),
            _ => Err(format!(
                "images of the shape {:?}; [N,H,W], [N,H,W,1] or [N,H,W,3] are needed",
                self.shape
            )),
        }
    }
}

/// An array: its values lie row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    /// Type and shape.
    pub header: Header,
    /// The values.
    pub bytes: Vec<u8>,
}

impl Array {
    fn new(kind: &str, shape: &[usize], bytes: Vec<u8>) -> Array {
        Array { header: Header { kind: kind.to_owned(), shape: shape.to_vec() }, bytes }
    }

    /// Of bytes (`uint8`).
    pub fn of_bytes(shape: &[usize], values: Vec<u8>) -> Array {
        Array::new("|u1", shape, values)
    }

    /// Of whole numbers (`int64`).
    pub fn of_labels(shape: &[usize], values: &[i64]) -> Array {
        Array::new("<i8", shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    /// Of numbers of 32 bits.
    pub fn of_f32(shape: &[usize], values: &[f32]) -> Array {
        Array::new("<f4", shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    /// Of numbers of 64 bits.
    pub fn of_f64(shape: &[usize], values: &[f64]) -> Array {
        Array::new("<f8", shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    /// Numbers of 32 or 64 bits, in either byte order.
    ///
    /// # Errors
    /// In words: values of another type.
    pub fn numbers(&self) -> std::result::Result<Vec<f64>, String> {
        let kind = self.header.kind.as_str();
        let turned = kind.starts_with('>');
        let narrow = |value: &[u8]| {
            let mut word = [0; 4];
            word.iter_mut().zip(value).for_each(|(to, from)| *to = *from);
            if turned { f32::from_be_bytes(word) } else { f32::from_le_bytes(word) }
        };
        let wide = |value: &[u8]| {
            let mut word = [0; 8];
            word.iter_mut().zip(value).for_each(|(to, from)| *to = *from);
            if turned { f64::from_be_bytes(word) } else { f64::from_le_bytes(word) }
        };
        match kind.get(1..) {
            Some("f4") => Ok(self.bytes.chunks_exact(4).map(|value| f64::from(narrow(value))).collect()),
            Some("f8") => Ok(self.bytes.chunks_exact(8).map(wide).collect()),
            _ => Err(format!("values of the type {kind:?}; float32 or float64 are needed")),
        }
    }
}

/// The arrays of a file.
pub struct Arrays {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
}

impl Arrays {
    /// Opens a file.
    ///
    /// # Errors
    /// A missing file, or one that is no `.npz`.
    pub fn open(path: &Path) -> Result<Arrays> {
        let failed = |e: std::io::Error| bad(path, format!("cannot be read: {e}"));
        let mut file = BufReader::new(File::open(path).map_err(failed)?);
        if let Some(word) = foreign(std::io::BufRead::fill_buf(&mut file).map_err(failed)?) {
            return Err(bad(path, word));
        }
        file.rewind().map_err(failed)?;
        let archive = ZipArchive::new(file).map_err(|e| {
            bad(path, format!("is no .npz, or cut short: {e}; numpy.savez writes such files"))
        })?;
        Ok(Arrays { path: path.to_owned(), archive })
    }

    /// Whether there is an array of this name.
    pub fn has(&self, name: &str) -> bool {
        self.archive.index_for_name(&format!("{name}.npy")).is_some()
    }

    /// The error of an array.
    pub fn wrong(&self, name: &str, detail: impl std::fmt::Display) -> Error {
        bad(&self.path, format!("{name}: {detail}"))
    }

    /// An array's type and shape.
    ///
    /// # Errors
    /// An array that is not there or is damaged.
    pub fn header(&mut self, name: &str) -> Result<Header> {
        self.read(name, start)
    }

    /// An array. Memory grows with what is there, not with what is announced.
    ///
    /// # Errors
    /// As [`Arrays::header`].
    pub fn get(&mut self, name: &str) -> Result<Array> {
        self.read(name, npy)
    }

    fn read<T>(&mut self, name: &str, read: impl Fn(&mut dyn Read) -> Outcome<T>) -> Result<T> {
        let found = match self.archive.by_name(&format!("{name}.npy")) {
            Ok(mut entry) => read(&mut entry),
            Err(error) => Err(format!("cannot be read: {error}")),
        };
        found.map_err(|detail| self.wrong(name, detail))
    }
}

/// A `.npz` of these arrays by name, stored as `numpy.savez` does it. The same arrays give the same bytes.
///
/// # Errors
/// [`Error::Config`] for what cannot be packed.
pub fn pack(arrays: &[(&str, Array)]) -> Result<Vec<u8>> {
    let failed = |e: String| Error::config("npz", e);
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true);
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, array) in arrays {
        writer.start_file(format!("{name}.npy"), options).map_err(|e| failed(e.to_string()))?;
        let head = head(&array.header);
        writer
            .write_all(&head)
            .and_then(|()| writer.write_all(&array.bytes))
            .map_err(|e| failed(e.to_string()))?;
    }
    Ok(writer.finish().map_err(|e| failed(e.to_string()))?.into_inner())
}

/// A header as NumPy writes it, whose end lies on a multiple of 64 bytes.
fn head(header: &Header) -> Vec<u8> {
    let sides: Vec<String> = header.shape.iter().map(|side| format!("{side},")).collect();
    let shape = match sides.as_slice() {
        [only] => format!("({only})"),
        all => format!("({})", all.join(" ").trim_end_matches(',')),
    };
    let mut text =
        format!("{{'descr': '{}', 'fortran_order': False, 'shape': {shape}, }}", header.kind).into_bytes();
    text.resize((text.len() + 11).next_multiple_of(64) - 11, b' ');
    text.push(b'\n');
    let length = (text.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\0", &length[..], &text].concat()
}

/// An array's header (version 1.0, or 2.0 and 3.0 with longer headers).
fn start(file: &mut dyn Read) -> Outcome<Header> {
    let failed = |e: std::io::Error| format!("cannot be unpacked: {e}");
    let mut some = |count: usize| -> Outcome<Vec<u8>> {
        let mut bytes = Vec::new();
        file.take(count as u64).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() < count { Err("ends inside its header".into()) } else { Ok(bytes) }
    };
    let start = some(8)?;
    let length = match (start.strip_prefix(b"\x93NUMPY"), &some(2)?[..]) {
        (Some([1, _]), &[a, b]) => usize::from(u16::from_le_bytes([a, b])),
        (Some([2 | 3, _]), &[a, b]) => match some(2)?[..] {
            [c, d] => u32::from_le_bytes([a, b, c, d]) as usize,
            _ => 0,
        },
        _ => return Err("is no array of a known version".into()),
    };
    if length > LONGEST_HEADER {
        return Err(format!("has a header of {length} bytes; up to {LONGEST_HEADER} are read"));
    }
    let text = some(length)?;
    header(&String::from_utf8_lossy(&text))
}

/// An array's header and bytes.
fn npy(file: &mut dyn Read) -> Outcome<Array> {
    let failed = |e: std::io::Error| format!("cannot be unpacked: {e}");
    let header = start(file)?;
    let width = header.kind.get(2..).and_then(|digits| digits.parse::<usize>().ok()).unwrap_or(1);
    let bytes = header.shape.iter().try_fold(width, |bytes, side| bytes.checked_mul(*side));
    let bytes = bytes.filter(|bytes| *bytes <= MOST_BYTES);
    let bytes = bytes.ok_or_else(|| format!("announces the shape {:?}, more than is read", header.shape))?;
    let mut data = Vec::new();
    file.take(bytes as u64 + 1).read_to_end(&mut data).map_err(failed)?;
    if data.len() != bytes {
        let more = if data.len() > bytes { "more than " } else { "" };
        return Err(format!(
            "holds {more}{} of the {bytes} bytes its header announces",
            data.len().min(bytes)
        ));
    }
    Ok(Array { header, bytes: data })
}

/// A header's dictionary as Python prints it: `{'descr': '|u1', 'fortran_order': False, 'shape': (10, 28, 28), }`.
fn header(text: &str) -> Outcome<Header> {
    let after = |key: &str| {
        let rest = text.split_once(&format!("'{key}':")).map(|(_, rest)| rest.trim_start());
        rest.ok_or_else(|| format!("its header has no {key:?}"))
    };
    if after("fortran_order")?.starts_with("True") {
        return Err("its values lie in Fortran's order: save numpy.ascontiguousarray of it".into());
    }
    let kind = after("descr")?.strip_prefix('\'').and_then(|rest| rest.split_once('\''));
    let (kind, _) = kind.ok_or("its values are of a structured type")?;
    let shape = after("shape")?.strip_prefix('(').and_then(|rest| rest.split_once(')'));
    let (shape, _) = shape.ok_or("its header has no whole shape")?;
    let sides = shape.split(',').map(str::trim).filter(|side| !side.is_empty());
    let shape: Option<Vec<usize>> = sides.map(|side| side.parse().ok()).collect();
    let shape = shape.ok_or("its header has no whole shape")?;
    Ok(Header { kind: kind.to_owned(), shape })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        let arrays = [
            ("arr_0", Array::of_bytes(&[2, 1, 2, 1], vec![1, 2, 3, 255])),
            ("arr_1", Array::of_labels(&[2], &[7, -1])),
            ("mu", Array::of_f64(&[3], &[0.5, -1e300, 3.0])),
            ("rows", Array::of_f32(&[1, 2], &[0.25, -8.0])),
            ("none", Array::of_f32(&[], &[1.5])),
        ];
        let bytes = pack(&arrays).unwrap();
        assert_eq!(bytes, pack(&arrays).unwrap());
        std::fs::write(&path, bytes).unwrap();
        let mut file = Arrays::open(&path).unwrap();
        for (name, array) in &arrays {
            assert!(file.has(name));
            assert_eq!(file.get(name).unwrap(), *array, "{name}");
        }
        assert_eq!(file.header("arr_0").unwrap().images().unwrap(), (2, [1, 2], 1));
        assert_eq!(file.get("mu").unwrap().numbers().unwrap(), [0.5, -1e300, 3.0]);
        assert_eq!(file.get("rows").unwrap().numbers().unwrap(), [0.25, -8.0]);
        let turned = Array::new(">f4", &[1], 2.5f32.to_be_bytes().to_vec());
        assert_eq!(turned.numbers().unwrap(), [2.5]);
        assert!(file.get("arr_0").unwrap().numbers().unwrap_err().contains("|u1"));
        assert!(!file.has("sigma"));
        let error = file.get("sigma").unwrap_err().to_string();
        assert!(error.contains("a.npz") && error.contains("sigma: cannot be read"), "{error}");
    }
}
