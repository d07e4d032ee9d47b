//! Arrays of numbers in MAT files of level 5 (MATLAB's versions 5 to 7, by its "MAT-File Format" of 2019), as far as image data
//! need them: real dense arrays, packed by zlib or not, of either byte order.

use super::bad;
use super::foreign::foreign;
use duet::Result;
use flate2::read::ZlibDecoder;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;

/// Bytes before the first element.
const HEADER: usize = 128;
/// Most values of an array: four times the largest published set of digits.
const MOST_VALUES: usize = 1 << 33;
/// Longest name and most dimensions that are read.
const LONGEST_NAME: u32 = 256;
const MOST_DIMENSIONS: u32 = 32;

/// Types of elements.
const INT8: u32 = 1;
const UINT8: u32 = 2;
const INT32: u32 = 5;
const UINT32: u32 = 6;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;

/// An array.
#[derive(Debug, PartialEq)]
pub struct Array {
    /// Its dimensions: values of the first lie together.
    pub dimensions: Vec<usize>,
    /// Its values.
    pub values: Values,
}

/// Values of an array, as the file stores them: whatever an array's class is, small numbers may be stored as bytes.
#[derive(Debug, PartialEq)]
pub enum Values {
    /// As bytes.
    Bytes(Vec<u8>),
    /// As anything else.
    Numbers(Vec<f64>),
}

/// Why an array is not read, in words.
type Outcome<T> = std::result::Result<T, String>;

/// The arrays of these names that a file holds; others are passed over.
///
/// # Errors
/// A file that is no MAT file of level 5, ends early, or holds under one of the names what is no array of real numbers.
pub fn read(path: &Path, names: &[&str]) -> Result<BTreeMap<String, Array>> {
    let failed = |e: std::io::Error| bad(path, format!("cannot be read: {e}"));
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let start = file.fill_buf().map_err(failed)?;
    if let Some(word) = foreign(start) {
        return Err(bad(path, word));
    }
    let mut header = Vec::new();
    (&mut file).take(HEADER as u64).read_to_end(&mut header).map_err(failed)?;
    let big = order(&header).map_err(|detail| bad(path, detail))?;
    let mut arrays = BTreeMap::new();
    let mut source = Source { file: &mut file, big };
    let mut whole = || -> Outcome<()> {
        while let Some(tag) = source.tag()? {
            let found = match tag {
                Tag { kind: COMPRESSED, count, small: None } => {
                    let mut packed = source.file.take(u64::from(count));
                    let found = packed_matrix(ZlibDecoder::new(&mut packed), big, names)?;
                    rest(&mut packed)?;
                    found
                }
                Tag { kind: MATRIX, count, small: None } => {
                    let mut plain = source.file.take(u64::from(count));
                    let found = matrix(&mut Source { file: &mut plain, big }, names)?;
                    rest(&mut plain)?;
                    source.skip_padding(count)?;
                    found
                }
                Tag { kind, .. } => {
                    return Err(format!("has an element of type {kind} where an array should be"));
                }
            };
            arrays.extend(found);
        }
        Ok(())
    };
    whole().map_err(|detail| bad(path, detail))?;
    Ok(arrays)
}

/// Whether the byte order is the big-endian one.
fn order(header: &[u8]) -> Outcome<bool> {
    if header.starts_with(b"\x89HDF") || header.starts_with(b"MATLAB 7.3") {
        return Err("is a MAT file of version 7.3 (HDF5); save it with `-v7`, or as .npz".into());
    }
    match header.get(124..HEADER) {
        Some([0, 1, b'I', b'M']) => Ok(false),
        Some([1, 0, b'M', b'I']) => Ok(true),
        None => Err("ends inside its header".into()),
        Some(_) => Err("is no MAT file of level 5".into()),
    }
}

/// A matrix in a stream of its own.
fn packed_matrix(stream: impl Read, big: bool, names: &[&str]) -> Outcome<Option<(String, Array)>> {
    let mut stream = stream;
    let mut source = Source { file: &mut stream, big };
    match source.tag()? {
        Some(Tag { kind: MATRIX, small: None, .. }) => matrix(&mut source, names),
        _ => Err("has no array in a packed element".into()),
    }
}

/// What an element is and how long; the data of a small one are in its tag.
struct Tag {
    kind: u32,
    count: u32,
    small: Option<[u8; 4]>,
}

/// Elements in a stream.
struct Source<'a, R: Read> {
    file: &'a mut R,
    big: bool,
}

fn cut(e: std::io::Error) -> String {
    format!("ends early or is damaged: {e}")
}

/// Reads what is left of a part and finds out whether it is all there.
fn rest(part: &mut std::io::Take<impl Read>) -> Outcome<()> {
    std::io::copy(part, &mut std::io::sink()).map_err(cut)?;
    if part.limit() > 0 {
        Err(format!("ends early: {} bytes of an array are missing", part.limit()))
    } else {
        Ok(())
    }
}

impl<R: Read> Source<'_, R> {
    fn word(&self, bytes: [u8; 4]) -> u32 {
        if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    /// The next tag; `None` at the end.
    fn tag(&mut self) -> Outcome<Option<Tag>> {
        let mut bytes = Vec::new();
        (&mut *self.file).take(8).read_to_end(&mut bytes).map_err(cut)?;
        let &[a, b, c, d, e, f, g, h] = bytes.as_slice() else {
            return if bytes.is_empty() { Ok(None) } else { Err("ends inside an element's tag".into()) };
        };
        let (first, second) = (self.word([a, b, c, d]), [e, f, g, h]);
        Ok(Some(match (first & 0xFFFF, first >> 16) {
            (kind, 0) => Tag { kind, count: self.word(second), small: None },
            (_, count @ 5..) => return Err(format!("has a small element of {count} bytes; 4 are possible")),
            (kind, count) => Tag { kind, count, small: Some(second) },
        }))
    }

    /// The data of an element of at most so many bytes, and its type.
    fn element(&mut self, what: &str, most: u32) -> Outcome<(u32, Vec<u8>)> {
        let Tag { kind, count, small } = self.tag()?.ok_or_else(|| format!("ends before {what}"))?;
        if count > most {
            return Err(format!("has {count} bytes of {what}; at most {most} are possible"));
        }
        if let Some(data) = small {
            return Ok((kind, data.into_iter().take(count as usize).collect()));
        }
        Ok((kind, self.data(what, u64::from(count))?))
    }

    /// So many bytes and what pads them; memory grows with what is there, not with what is announced.
    fn data(&mut self, what: &str, count: u64) -> Outcome<Vec<u8>> {
        let mut data = Vec::new();
        (&mut *self.file).take(count).read_to_end(&mut data).map_err(cut)?;
        if (data.len() as u64) < count {
            return Err(format!("ends early: {} of {count} bytes of {what} are there", data.len()));
        }
        self.skip_padding((count % 8) as u32)?;
        Ok(data)
    }

    fn skip_padding(&mut self, count: u32) -> Outcome<()> {
        let pad = u64::from((8 - count % 8) % 8);
        // The last element's may be missing.
        std::io::copy(&mut (&mut *self.file).take(pad), &mut std::io::sink()).map(|_| ()).map_err(cut)
    }
}

/// An array's name and itself, where its name is one of those wanted.
fn matrix<R: Read>(source: &mut Source<'_, R>, names: &[&str]) -> Outcome<Option<(String, Array)>> {
    let (kind, flags) = source.element("an array's flags", 8)?;
    let flags = words(source, &flags);
    let (UINT32, Some(flags)) = (kind, flags.first()) else {
        return Err("has an array without flags".into());
    };
    let (kind, dimensions) = source.element("an array's dimensions", 4 * MOST_DIMENSIONS)?;
    let dimensions: Vec<usize> = words(source, &dimensions).into_iter().map(|side| side as usize).collect();
    if kind != INT32 || dimensions.len() < 2 {
        return Err("has an array without dimensions".into());
    }
    let (kind, name) = source.element("an array's name", LONGEST_NAME)?;
    let name = String::from_utf8_lossy(&name).into_owned();
    if kind != INT8 || !names.contains(&name.as_str()) {
        return Ok(None);
    }
    let what = match (flags & 0xFF, flags & 0x800) {
        (6..=15, 0) => None,
        (6..=15, _) => Some("complex numbers"),
        (1, _) => Some("a cell array"),
        (2 | 3, _) => Some("a structure"),
        (4, _) => Some("text"),
        (5, _) => Some("a sparse array"),
        _ => Some("something else"),
    };
    if let Some(what) = what {
        return Err(format!("holds {what} as {name:?}; an array of real numbers is needed"));
    }
    let count = dimensions.iter().try_fold(1usize, |count, side| count.checked_mul(*side));
    let count = count.filter(|count| *count <= MOST_VALUES);
    let count =
        count.ok_or_else(|| format!("announces {name:?} of {dimensions:?} values, more than are read"))?;
    let values = values(source, &name, count)?;
    Ok(Some((name, Array { dimensions, values })))
}

fn words<R: Read>(source: &Source<'_, R>, bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks().0.iter().map(|word| source.word(*word)).collect()
}

/// An array's real part.
fn values<R: Read>(source: &mut Source<'_, R>, name: &str, count: usize) -> Outcome<Values> {
    let Tag { kind, count: bytes, small } = source.tag()?.ok_or_else(|| format!("ends before {name:?}"))?;
    let width = match kind {
        INT8 | UINT8 => 1,
        3 | 4 => 2,
        INT32 | UINT32 | 7 => 4,
        9 | 12 | 13 => 8,
        _ => return Err(format!("holds {name:?} as values of the unknown type {kind}")),
    };
    if count.checked_mul(width) != Some(bytes as usize) {
        let detail =
            format!("announces {count} values of {width} bytes as {name:?} and {bytes} bytes for them");
        return Err(detail);
    }
    let data = match small {
        Some(data) => data.into_iter().take(bytes as usize).collect(),
        None => source.data(&format!("{name:?}"), u64::from(bytes))?,
    };
    if kind == UINT8 {
        return Ok(Values::Bytes(data));
    }
    let number = |value: &[u8]| {
        let mut word = [0; 8];
        word.iter_mut().zip(value).for_each(|(to, from)| *to = *from);
        if source.big {
            word.get_mut(..width).unwrap_or_default().reverse();
        }
        let [a, b, c, d, ..] = word;
        let (whole, half) = (u64::from_le_bytes(word), u32::from_le_bytes([a, b, c, d]));
        match kind {
            INT8 => f64::from(a as i8),
            3 => f64::from(i16::from_le_bytes([a, b])),
            INT32 => f64::from(half as i32),
            7 => f64::from(f32::from_bits(half)),
            9 => f64::from_bits(whole),
            12 => whole as i64 as f64,
            _ => whole as f64,
        }
    };
    Ok(Values::Numbers(data.chunks_exact(width).map(number).collect()))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::io::Write as _;

    /// An element with its padding.
    fn element(kind: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = [kind.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat();
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    fn small(kind: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = (kind | (data.len() as u32) << 16).to_le_bytes().to_vec();
        bytes.extend(data);
        bytes.resize(8, 0);
        bytes
    }

    /// An array of a class, its values stored as a type.
    pub fn array(name: &str, class: u32, dimensions: &[u32], kind: u32, data: &[u8]) -> Vec<u8> {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let name =
            if name.len() <= 4 { small(INT8, name.as_bytes()) } else { element(INT8, name.as_bytes()) };
        let values = if data.len() <= 4 { small(kind, data) } else { element(kind, data) };
        let parts = [element(UINT32, &words(&[class, 0])), element(INT32, &words(dimensions)), name, values];
        element(MATRIX, &parts.concat())
    }

    /// As MATLAB packs it: without padding.
    pub fn packed(array: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(array).unwrap();
        let data = encoder.finish().unwrap();
        [COMPRESSED.to_le_bytes().to_vec(), (data.len() as u32).to_le_bytes().to_vec(), data].concat()
    }

    pub fn mat(elements: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = b"MATLAB 5.0 MAT-file, made by a test".to_vec();
        bytes.resize(124, b' ');
        bytes.extend([0, 1, b'I', b'M']);
        bytes.extend(elements.concat());
        bytes
    }

    fn read_bytes(bytes: &[u8]) -> Result<BTreeMap<String, Array>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.mat");
        std::fs::write(&path, bytes).unwrap();
        read(&path, &["X", "labels"])
    }

    #[test]
    fn arrays_are_read_packed_or_not_and_others_passed_over() {
        let x = array("X", 9, &[2, 1, 3], UINT8, &[1, 2, 3, 4, 5, 6]);
        // Of doubles that are whole numbers MATLAB stores bytes, four at most in the tag.
        let labels = array("labels", 6, &[3, 1], UINT8, &[7, 8, 9]);
        let other = array("meta", 6, &[1, 1], 9, &1.5f64.to_le_bytes());
        let wanted = |values| Array { dimensions: vec![2, 1, 3], values };
        for file in [
            mat(&[x.clone(), other.clone(), labels.clone()]),
            mat(&[packed(&x), packed(&other), labels.clone()]),
            mat(&[packed(&labels), packed(&x)]),
        ] {
            let arrays = read_bytes(&file).unwrap();
            assert_eq!(arrays["X"], wanted(Values::Bytes(vec![1, 2, 3, 4, 5, 6])));
            let labels = Array { dimensions: vec![3, 1], values: Values::Bytes(vec![7, 8, 9]) };
            assert_eq!((arrays["labels"] == labels, arrays.len()), (true, 2));
        }
        let numbers = |kind: u32, data: &[u8]| {
            let found = read_bytes(&mat(&[array("X", 6, &[2, 1], kind, data)])).unwrap();
            let Values::Numbers(found) = &found["X"].values else { panic!("{found:?}") };
            found.clone()
        };
        assert_eq!(numbers(9, &[1.5f64.to_le_bytes(), (-2f64).to_le_bytes()].concat()), [1.5, -2.0]);
        assert_eq!(numbers(7, &[1.5f32.to_le_bytes(), 3f32.to_le_bytes()].concat()), [1.5, 3.0]);
        assert_eq!(numbers(INT8, &[255, 3]), [-1.0, 3.0]);
        assert_eq!(numbers(4, &[1, 2, 0, 0]), [513.0, 0.0]);
        assert_eq!(numbers(12, &[(-9i64).to_le_bytes(), 9i64.to_le_bytes()].concat()), [-9.0, 9.0]);
    }

    #[test]
    fn the_other_byte_order_is_read() {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
        let mut body = words(&[UINT32, 8, 6, 0, INT32, 8, 1, 2, 1 << 16 | INT8]);
        body.extend(b"X\0\0\0");
        body.extend(words(&[4 << 16 | 3]));
        body.extend([1, 0, 255, 254]);
        let mut bytes = mat(&[words(&[MATRIX, body.len() as u32]), body]);
        bytes[124..128].copy_from_slice(&[1, 0, b'M', b'I']);
        let arrays = read_bytes(&bytes).unwrap();
        assert_eq!(arrays["X"], Array { dimensions: vec![1, 2], values: Values::Numbers(vec![256.0, -2.0]) });
    }

    #[test]
    fn damaged_files_are_refused_in_words() {
        let x = array("X", 9, &[2, 3], UINT8, &[1, 2, 3, 4, 5, 6]);
        let whole = mat(&[packed(&x)]);
        let mut version = whole.clone();
        version[125] = 2;
        let complex = array("X", 9 | 0x800, &[2, 3], UINT8, &[0; 6]);
        for (bytes, words) in [
            (whole[..100].to_vec(), "inside its header"),
            (whole[..132].to_vec(), "inside an element's tag"),
            (whole[..whole.len() - 8].to_vec(), "ends early"),
            (mat(&[x[..40].to_vec()]), "ends"),
            (version, "no MAT file of level 5"),
            ([b"MATLAB 7.3 MAT-file".as_slice(), &[0; 600]].concat(), "version 7.3"),
            (b"\x89HDF\r\n\x1a\n".to_vec(), "version 7.3"),
            (b"<!doctype html>".to_vec(), "HTML page"),
            (mat(&[array("X", 9, &[2, 4], UINT8, &[0; 6])]), "announces 8 values of 1 bytes"),
            (mat(&[array("X", 9, &[u32::MAX; 4], UINT8, &[0; 6])]), "more than are read"),
            (mat(&[array("X", 9, &[1 << 16, 1 << 15], UINT8, &[0; 6])]), "and 6 bytes for them"),
            (mat(&[array("X", 2, &[2, 3], UINT8, &[0; 6])]), "holds a structure as \"X\""),
            (mat(&[complex]), "complex numbers"),
            (mat(&[array("X", 9, &[2, 3], 77, &[0; 6])]), "unknown type 77"),
            (mat(&[element(3, &[0; 8])]), "an element of type 3"),
            (mat(&[packed(&element(3, &[0; 8]))]), "no array in a packed element"),
            (mat(&[small(14, &[0; 4])]), "an element of type 14"),
        ] {
            let error = read_bytes(&bytes).unwrap_err().to_string();
            assert!(error.contains("some.mat") && error.contains(words), "{words}: {error}");
        }
    }
}
