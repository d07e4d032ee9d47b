//! Arrays as NumPy saves them, `numpy.savez(path, images, labels)`: images as `arr_0`, bytes \[N,H,W\] or \[N,H,W,C\], and labels
//! as `arr_1`, whole numbers \[N\] from 0. With `train.npz` and `test.npz` the split is theirs.

use super::arrays::Arrays;
use super::levels::{Fitted, Levels};
use super::split::{Parts, held, warn_of_unknown_groups};
use super::{DataSpec, Dataset, Summary, bad, decode, file, shared, tree};
use duet::Result;
use duet::model::Labels;
use std::path::{Path, PathBuf};

/// Most classes: a label beyond them is a mistake.
const MOST_CLASSES: i64 = 10_000;

/// Loads the two files, or splits the only one by contents.
///
/// # Errors
/// No such files, damaged ones, arrays of other types or shapes, counts that differ.
pub fn load(spec: &DataSpec, channels: usize, size: usize) -> Result<Parts> {
    let [train, test] = ["train.npz", "test.npz"].map(|name| spec.path.join(name));
    if train.is_file() && test.is_file() {
        let (mut train, mut test) = (read(&train, spec, channels, size)?, read(&test, spec, channels, size)?);
        let classes = train.data.class_names.len().max(test.data.class_names.len());
        for part in [&mut train, &mut test] {
            part.data.class_names = names(classes);
        }
        let mut summary = Summary::default();
        summary.note_once(train.note);
        summary.note_once(test.note);
        summary.warnings.extend(shared(&train.data, &test.data, |of_train, of_test| {
            format!("test image {of_test} is training image {of_train}, from 0")
        }));
        return Ok(Parts { resize_to: train.resize_to, ..Parts::new(train.data, test.data, summary) });
    }
    let path = only(&spec.path)?;
    let Loaded { data: mut train, resize_to, note } = read(&path, spec, channels, size)?;
    let held_out: Vec<bool> =
        train.each().map(|image| decode::share(image, spec.split_seed) < spec.test_share).collect();
    let test = held(&mut train, &held_out)?;
    let mut summary = Summary::default();
    summary.note_once(note);
    warn_of_unknown_groups(&mut summary, "; train.npz and test.npz are taken as they are split");
    Ok(Parts { resize_to, ..Parts::new(train, test, summary) })
}

/// The one `.npz` of a folder.
fn only(folder: &Path) -> Result<PathBuf> {
    let mut found: Vec<PathBuf> =
        tree::list(folder)?.files.into_iter().filter(|path| file::ending(path) == "npz").collect();
    match (found.len(), found.pop()) {
        (1, Some(path)) => Ok(path),
        (count, _) => {
            let detail = format!("must hold train.npz and test.npz, or one .npz alone; it has {count}");
            Err(bad(folder, detail))
        }
    }
}

/// Classes are numbered.
fn names(count: usize) -> Vec<String> {
    (0..count).map(|class| class.to_string()).collect()
}

/// What a file holds, as a model reads it.
struct Loaded {
    data: Dataset,
    resize_to: Option<usize>,
    note: Option<String>,
}

/// Channels and the longer side of the images of `train.npz`, or of the only file.
///
/// # Errors
/// A missing or damaged file; an array of another shape.
pub fn shape(folder: &Path) -> Result<[usize; 2]> {
    let train = folder.join("train.npz");
    let path = if train.is_file() { train } else { only(folder)? };
    let mut arrays = Arrays::open(&path)?;
    let (_, sides, channels) =
        arrays.header("arr_0")?.images().map_err(|detail| arrays.wrong("arr_0", detail))?;
    Ok([channels, sides[0].max(sides[1])])
}

fn read(path: &Path, spec: &DataSpec, channels: usize, size: usize) -> Result<Loaded> {
    let mut arrays = Arrays::open(path)?;
    let images = arrays.get("arr_0")?;
    let (count, sides, colours) = images.header.images().map_err(|detail| arrays.wrong("arr_0", detail))?;
    if images.header.kind != "|u1" {
        let detail = format!("values of the type {:?}; bytes (uint8) are needed", images.header.kind);
        return Err(arrays.wrong("arr_0", detail));
    }
    if images.bytes.is_empty() {
        return Err(arrays.wrong("arr_0", "holds no images"));
    }
    let labels = arrays.get("arr_1")?;
    let shape = &labels.header.shape;
    if !matches!(shape.as_slice(), [rows] | [rows, 1] if *rows == count) {
        return Err(arrays.wrong("arr_1", format!("labels of the shape {shape:?} for {count} images")));
    }
    let classes =
        labels_of(&labels.header.kind, &labels.bytes).map_err(|detail| arrays.wrong("arr_1", detail))?;
    let levels = Levels { data: images.bytes, channels: colours, sides, together: true };
    let Fitted { images, resize_to, note } = levels.fit(path, spec, channels, size)?;
    let most = classes.iter().max().map_or(0, |class| *class as usize + 1);
    let data = Dataset {
        images: images.into(),
        labels: Labels::Classes(classes),
        channels,
        size,
        class_names: names(most),
    };
    Ok(Loaded { data, resize_to, note })
}

/// Labels as classes.
fn labels_of(kind: &str, bytes: &[u8]) -> std::result::Result<Vec<u32>, String> {
    let (order, of) = (kind.get(..1).unwrap_or_default(), kind.get(1..).unwrap_or_default());
    let width = match of {
        "u1" | "i1" => 1,
        "u2" | "i2" => 2,
        "u4" | "i4" => 4,
        "u8" | "i8" => 8,
        _ => return Err(format!("values of the type {kind:?}; whole numbers are needed")),
    };
    let number = |value: &[u8]| {
        let mut word = [0u8; 8];
        word.iter_mut().zip(value).for_each(|(to, from)| *to = *from);
        if order == ">" {
            word.get_mut(..width).unwrap_or_default().reverse();
        }
        let bits = 64 - 8 * width as u32;
        let whole = i64::from_le_bytes(word);
        if of.starts_with('i') { whole << bits >> bits } else { whole }
    };
    let class = |(row, value): (usize, &[u8])| match number(value) {
        label @ 0..MOST_CLASSES => Ok(label as u32),
        label => Err(format!(
            "label {row} (from 0) is {label}; classes are numbered from 0, up to {}",
            MOST_CLASSES - 1
        )),
    };
    bytes.chunks_exact(width).enumerate().map(class).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Split, load as load_checked};
    use std::io::Write as _;
    use zip::write::SimpleFileOptions;

    fn npy_bytes(kind: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let mut text = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}");
        while (10 + text.len() + 1) % 64 > 0 {
            text.push(' ');
        }
        text.push('\n');
        let length = (text.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\0", &length[..], text.as_bytes(), data].concat()
    }

    /// An archive as numpy.savez writes it, or savez_compressed.
    fn npz(arrays: &[(&str, Vec<u8>)], packed: bool) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let method = if packed { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
        for (name, bytes) in arrays {
            writer.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn set(images: &[u8], shape: &str, kind: &str, labels: &[u8], count: &str) -> Vec<u8> {
        let arrays =
            [("arr_0.npy", npy_bytes("|u1", shape, images)), ("arr_1.npy", npy_bytes(kind, count, labels))];
        npz(&arrays, true)
    }

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    fn read(folder: &Path, channels: usize) -> Result<Split> {
        load_checked(&DataSpec::of("npz", folder), channels, 2)
    }

    #[test]
    fn a_pair_of_files_is_split_as_they_are() {
        let colours: Vec<u8> = (0..24).collect();
        let train =
            set(&colours, "(2, 2, 2, 3)", "<i8", &[[1u8, 0, 0, 0, 0, 0, 0, 0], [0; 8]].concat(), "(2,)");
        let grey = npz(
            &[
                ("arr_0.npy", npy_bytes("|u1", "(1, 2, 2)", &[9; 4])),
                ("arr_1.npy", npy_bytes(">i2", "(1, 1)", &[0, 3])),
            ],
            false,
        );
        let home = folder(&[("train.npz", &train), ("test.npz", &grey), ("more.npz", b"")]);
        let split = read(home.path(), 3).unwrap();
        assert_eq!((split.train.classes().unwrap(), split.test.classes().unwrap()), (&[1, 0][..], &[3][..]));
        assert_eq!(
            split.train.images.levels()[..12],
            [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11],
            "channel by channel"
        );
        assert_eq!(split.test.images.levels()[..], [9; 12], "grey in each channel");
        assert_eq!(split.train.class_names, ["0", "1", "2", "3"]);
        assert!(
            split.summary.warnings.iter().all(|warning| warning.starts_with("the class")),
            "{:?}",
            split.summary
        );
    }

    #[test]
    fn one_file_is_split_by_contents_and_that_is_warned_of() {
        let images: Vec<u8> = (0..160).map(|i| i / 8).collect();
        let labels: Vec<u8> = (0..40).map(|i| i % 2).collect();
        let home = folder(&[("all.npz", &set(&images, "(40, 2, 2)", "|u1", &labels, "(40,)"))]);
        let split = read(home.path(), 1).unwrap();
        assert_eq!(split.train.len() + split.test.len(), 40);
        assert!(split.test.len() > 5 && split.train.len() > 5);
        for image in split.test.images.levels().chunks(4) {
            assert!(
                split.train.images.levels().chunks(4).all(|other| other != image),
                "copies are on one side"
            );
        }
        assert!(
            split.summary.warnings.iter().any(|warning| warning.contains("one by one")),
            "{:?}",
            split.summary
        );
        assert_eq!(split, read(home.path(), 1).unwrap());
    }

    #[test]
    fn damaged_and_other_arrays_are_named() {
        let image = npy_bytes("|u1", "(1, 2, 2)", &[1; 4]);
        let label = npy_bytes("|u1", "(1,)", &[0]);
        let with = |image: Vec<u8>, label: Vec<u8>| npz(&[("arr_0.npy", image), ("arr_1.npy", label)], true);
        let good = with(image.clone(), label.clone());
        let fortran = String::from_utf8_lossy(&image[6..]).replace("False", "True ");
        let fortran = [b"\x93NUMPY".as_slice(), fortran.as_bytes()].concat();
        for (bytes, words) in [
            (b"PK nothing".to_vec(), "is no .npz"),
            (good[..good.len() - 30].to_vec(), "cut short"),
            (b"<!doctype html>".to_vec(), "HTML page"),
            (npz(&[("arr_0.npy", image.clone())], false), "arr_1: cannot be read"),
            (npz(&[("images.npy", image.clone())], false), "arr_0: cannot be read"),
            (
                with(npy_bytes("<f4", "(1, 2, 2)", &[0; 16]), label.clone()),
                "arr_0: values of the type \"<f4\"",
            ),
            (with(npy_bytes("|u1", "(1, 2)", &[0; 2]), label.clone()), "arr_0: images of the shape [1, 2]"),
            (with(npy_bytes("|u1", "(1, 2, 2, 4)", &[0; 16]), label.clone()), "the shape [1, 2, 2, 4]"),
            (with(npy_bytes("|u1", "(0, 2, 2)", &[]), label.clone()), "holds no images"),
            (with(npy_bytes("|u1", "(2, 2, 2)", &[0; 7]), label.clone()), "holds 7 of the 8 bytes"),
            (with(npy_bytes("|u1", "(2, 2, 2)", &[0; 9]), label.clone()), "more than 8 of the 8 bytes"),
            (with(npy_bytes("|u1", "(9999999999, 9999999999, 2)", &[]), label.clone()), "more than is read"),
            (with(npy_bytes("|u1", "(1, -2, 2)", &[]), label.clone()), "no whole shape"),
            (with(fortran, label.clone()), "Fortran's order"),
            (with(b"\x93NUMPY\x09\0".to_vec(), label.clone()), "ends inside its header"),
            (with(b"\x93NUMPY\x09\0\0\0".to_vec(), label.clone()), "no array of a known version"),
            (
                with(image.clone(), npy_bytes("|u1", "(2,)", &[0, 1])),
                "arr_1: labels of the shape [2] for 1 images",
            ),
            (with(image.clone(), npy_bytes("<f8", "(1,)", &[0; 8])), "arr_1: values of the type \"<f8\""),
            (with(image.clone(), npy_bytes("|i1", "(1,)", &[255])), "label 0 (from 0) is -1"),
            (with(image.clone(), npy_bytes("<u4", "(1,)", &[0, 0, 1, 0])), "is 65536"),
        ] {
            let home = folder(&[("train.npz", &bytes), ("test.npz", &good)]);
            let error = read(home.path(), 1).unwrap_err().to_string();
            assert!(error.contains("train.npz") && error.contains(words), "{words}: {error}");
        }
        for files in [&[][..], &[("a.npz", &good[..]), ("b.npz", &good[..])]] {
            let error = read(folder(files).path(), 1).unwrap_err().to_string();
            assert!(error.contains(&format!("it has {}", files.len())), "{error}");
        }
    }
}
