//! SVHN's cropped digits: `train_32x32.mat` and `test_32x32.mat`, each with `X`, bytes \[32,32,3,N\] of which rows lie together, and
//! `y`, labels 1 to 10 where 10 is the digit 0.

use super::levels::Levels;
use super::mat::{self, Array, Values};
use super::split::Parts;
use super::{DataSpec, Dataset, Summary, bad, shared};
use duet::Result;
use std::path::Path;

/// Pixels a side, of a channel and levels of an image.
const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const LEVELS: usize = 3 * PLANE;

/// Loads the two files. The additional training images of `extra_32x32.mat` are not read.
///
/// # Errors
/// Missing files, as [`mat::read`], and arrays of other sizes or labels.
pub fn load(spec: &DataSpec, channels: usize, size: usize) -> Result<Parts> {
    let (mut summary, mut resize_to) = (Summary::default(), None);
    let mut part = |name: &str, summary: &mut Summary| -> Result<Dataset> {
        let path = spec.path.join(name);
        let (data, classes) = read(&path)?;
        let levels = Levels { data, channels: 3, sides: [SIDE; 2], together: false };
        let (digits, side) = levels.digits(&path, spec, [channels, size], classes, summary)?;
        resize_to = side;
        Ok(digits)
    };
    let train = part("train_32x32.mat", &mut summary)?;
    let test = part("test_32x32.mat", &mut summary)?;
    summary.warnings.extend(shared(&train, &test, |of_train, of_test| {
        format!("test image {of_test} is training image {of_train}, from 0")
    }));
    Ok(Parts { resize_to, ..Parts::new(train, test, summary) })
}

/// Levels \[N,C,H,W\] and digits of a file.
fn read(path: &Path) -> Result<(Vec<u8>, Vec<u32>)> {
    let mut arrays = mat::read(path, &["X", "y"])?;
    let mut take =
        |name: &str| arrays.remove(name).ok_or_else(|| bad(path, format!("holds no array {name:?}")));
    let (x, y) = (take("X")?, take("y")?);
    let (images, count) = match x {
        Array { dimensions, values: Values::Bytes(bytes) } if dimensions.starts_with(&[SIDE, SIDE, 3]) => {
            let count = bytes.len() / LEVELS;
            (bytes, count)
        }
        Array { dimensions, .. } => {
            let detail = format!("holds \"X\" of {dimensions:?} values; bytes [32, 32, 3, N] are needed");
            return Err(bad(path, detail));
        }
    };
    let labels: Vec<f64> = match y.values {
        Values::Bytes(bytes) => bytes.into_iter().map(f64::from).collect(),
        Values::Numbers(numbers) => numbers,
    };
    if labels.len() != count || count == 0 {
        return Err(bad(path, format!("holds {} labels for {count} images", labels.len())));
    }
    let digit = |(row, label): (usize, f64)| match label {
        10.0 => Ok(0),
        1.0..10.0 if label.fract() == 0.0 => Ok(label as u32),
        _ => Err(bad(
            path,
            format!("label {row} (from 0) is {label}; there are 1 to 9, and 10 for the digit 0"),
        )),
    };
    let digits = labels.into_iter().enumerate().map(digit).collect::<Result<Vec<u32>>>()?;
    // Each plane lies column by column.
    let mut levels = images;
    let mut plane = [0; PLANE];
    for image in levels.chunks_exact_mut(PLANE) {
        plane.copy_from_slice(image);
        for (i, level) in image.iter_mut().enumerate() {
            *level = plane[i % SIDE * SIDE + i / SIDE];
        }
    }
    levels.truncate(count * LEVELS);
    Ok((levels, digits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::mat::tests::{array, mat, packed};
    use crate::data::{Split, load as load_checked};

    /// Images whose level tells row, column, channel and number, in the file's order: rows first.
    fn x(count: usize) -> Vec<u8> {
        let level = |i: usize| i % 32 + 2 * (i / 32 % 32) + 50 * (i / 1024 % 3) + i / 3072;
        let values: Vec<u8> = (0..count * LEVELS).map(|i| level(i) as u8).collect();
        array("X", 9, &[32, 32, 3, count as u32], 2, &values)
    }

    fn y(labels: &[u8]) -> Vec<u8> {
        array("y", 6, &[labels.len() as u32, 1], 2, labels)
    }

    fn folder(train: &[u8], test: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("train_32x32.mat"), train).unwrap();
        std::fs::write(folder.path().join("test_32x32.mat"), test).unwrap();
        folder
    }

    fn read(folder: &Path) -> Result<Split> {
        load_checked(&DataSpec::of("svhn", folder), 3, SIDE)
    }

    #[test]
    fn columns_become_rows_and_ten_is_zero() {
        let train = mat(&[packed(&x(2)), packed(&y(&[1, 10]))]);
        let test = mat(&[y(&[9, 10, 2, 3, 4]), x(5)]);
        let split = read(folder(&train, &test).path()).unwrap();
        assert_eq!(split.train.classes().unwrap(), [1, 0]);
        assert_eq!(split.test.classes().unwrap(), [9, 0, 2, 3, 4]);
        // Second image, blue channel, row 4, column 7.
        assert_eq!(split.train.images.levels()[LEVELS + 2 * PLANE + 4 * SIDE + 7], 4 + 14 + 100 + 1);
        assert_eq!((split.train.len(), &*split.train.class_names[0]), (2, "0"));
    }

    #[test]
    fn other_arrays_and_labels_are_refused() {
        let good = mat(&[x(2), y(&[1, 10])]);
        for (train, words) in [
            (mat(&[x(2)]), "no array \"y\""),
            (mat(&[y(&[1])]), "no array \"X\""),
            (mat(&[x(2), y(&[1])]), "1 labels for 2 images"),
            (mat(&[x(2), y(&[1, 11])]), "label 1 (from 0) is 11"),
            (mat(&[x(2), y(&[0, 1])]), "label 0 (from 0) is 0"),
            (mat(&[array("X", 9, &[32, 32, 1, 2], 2, &[0; 2048]), y(&[1, 2])]), "[32, 32, 1, 2]"),
            (mat(&[array("X", 9, &[32, 32, 3, 0], 2, &[]), y(&[])]), "0 labels for 0 images"),
            (good[..good.len() / 2].to_vec(), "ends early"),
        ] {
            let error = read(folder(&train, &good).path()).unwrap_err().to_string();
            assert!(error.contains("train_32x32.mat") && error.contains(words), "{words}: {error}");
        }
        let home = folder(&good, &good);
        std::fs::remove_file(home.path().join("test_32x32.mat")).unwrap();
        let error = read(home.path()).unwrap_err().to_string();
        assert!(error.contains("test_32x32.mat: cannot be read"), "{error}");
    }
}
