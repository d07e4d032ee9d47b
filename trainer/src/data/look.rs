//! What lies in a folder, found out by looking: the format, whether the pictures are in colour, and how large they are.

use super::guess::{Guess, guess, shape};
use super::spec::{DataKind, DataSpec};
use super::{bad, file, picture, tree};
use duet::Result;
use duet::picture::{Pictures, Preparation};
use image::ImageReader;
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// Pictures that are looked at, evenly spread.
const LOOKED_AT: usize = 64;
/// Mean difference of a pixel's channels, in grey levels, from which a picture is in colour: what scanners and JPEG do to grey
/// ones is less.
const COLOUR: f64 = 2.0;

/// What was found.
#[derive(Clone, Debug)]
pub struct Look {
    /// The data, as a recipe names them.
    pub spec: DataSpec,
    /// What tells the format.
    pub because: String,
    /// 1 grey, 3 colour.
    pub channels: usize,
    /// Pixels of the shorter side; of pictures the median.
    pub side: usize,
}

/// Finds out what data a folder holds.
///
/// # Errors
/// A folder in which nothing is known, with what would be; pictures none of which can be read.
pub fn look(folder: &Path) -> Result<Look> {
    if !folder.is_dir() {
        let detail = if folder.exists() {
            "is a file: give the folder that it lies in, or a recipe (.toml, .json)"
        } else {
            "is not there: give a folder of data, or a recipe (.toml, .json)"
        };
        return Err(bad(folder, detail));
    }
    let Guess { kind, sign } = guess(folder)?;
    let mut spec = DataSpec::new(kind, folder);
    if kind.name() == "idx" {
        // The files of all these sets have the same names.
        let here = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let here = here.to_string_lossy().to_lowercase();
        let name = ["fashion", "mnist"].iter().find(|name| here.contains(**name));
        spec.kind = match name {
            Some(&"fashion") => DataKind::named("fashion-mnist")?,
            Some(_) => DataKind::named("mnist")?,
            None => kind,
        };
    }
    let (channels, side) = if kind.is_folder() {
        pictures(folder)?
    } else {
        let [channels, side] = shape(&spec)?;
        (channels, side)
    };
    Ok(Look { spec, because: sign, channels, side })
}

/// Channels and shorter side of the pictures in a folder and those in it, by some of them.
fn pictures(folder: &Path) -> Result<(usize, usize)> {
    let (all, _) = tree::pictures_in(folder)?;
    let count = all.len().min(LOOKED_AT);
    let some: Vec<&PathBuf> = (0..count).filter_map(|at| all.get(at * all.len() / count)).collect();
    let seen: Vec<(bool, usize)> = some.iter().filter_map(|path| one(path)).collect();
    if seen.is_empty() {
        return Err(bad(folder, format!("has {} pictures; none of those looked at can be read", all.len())));
    }
    let coloured = seen.iter().filter(|(colour, _)| *colour).count();
    let mut sides: Vec<usize> = seen.iter().map(|(_, side)| *side).collect();
    sides.sort_unstable();
    let median = sides.get(sides.len() / 2).copied().unwrap_or(0);
    // A few coloured ones among grey ones are more likely to be stamped or toned than to be what the data are about.
    Ok((if 10 * coloured > seen.len() { 3 } else { 1 }, median))
}

/// Whether a picture is in colour, and its shorter side; `None` of one that cannot be read.
fn one(path: &Path) -> Option<(bool, usize)> {
    let (format, bytes) = file::read(path).ok()?;
    let preparation = Preparation::of(Pictures::default(), 3, 32);
    let levels = picture::prepare(path, format, &bytes, &preparation).ok()?.levels;
    let (width, height) = ImageReader::with_format(Cursor::new(&bytes), format).into_dimensions().ok()?;
    let [red, green, blue]: [&[u8]; 3] =
        levels.chunks_exact(levels.len() / 3).collect::<Vec<_>>().try_into().ok()?;
    let apart = red.iter().zip(green).zip(blue).map(|((r, g), b)| {
        let (low, high) = (r.min(g).min(b), r.max(g).max(b));
        f64::from(high - low)
    });
    let mean = apart.sum::<f64>() / red.len() as f64;
    Some((mean > COLOUR, width.min(height) as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match file.rsplit_once('.').unwrap_or_default().1 {
                "png" => {
                    let tint = if file.contains("red") { 90 } else { 0 };
                    let side = if file.contains("large") { 90 } else { 40 };
                    let picture = image::RgbImage::from_fn(side, 2 * side, |x, _| {
                        image::Rgb([x as u8 + tint, x as u8, x as u8])
                    });
                    picture.save(path).unwrap();
                }
                _ if file.contains("idx3") => {
                    let words = [0x0803u32, 0, 28, 28].map(u32::to_be_bytes);
                    std::fs::write(path, words.concat()).unwrap();
                }
                _ => std::fs::write(path, "no picture").unwrap(),
            }
        }
        folder
    }

    #[test]
    fn formats_are_known_by_their_files() {
        let cases: [(&[&str], &str, usize, usize); 9] = [
            (&["test_batch.bin", "data_batch_1.bin"], "cifar10", 3, 32),
            (&["train.bin", "test.bin"], "cifar100", 3, 32),
            (&["train_32x32.mat"], "svhn", 3, 32),
            (&["zip.train.gz", "zip.test.gz"], "usps", 1, 16),
            (&["optdigits.tra", "optdigits.tes"], "optdigits", 1, 8),
            (&["fashion/train-images-idx3-ubyte"], "fashion-mnist", 1, 28),
            (&["MNIST/train-images.idx3-ubyte"], "mnist", 1, 28),
            (&["labels.csv", "a/1.png"], "labels-csv", 1, 40),
            (&["list_attr_celeba.txt", "img_align_celeba/1.png"], "celeba", 1, 40),
        ];
        for (files, kind, channels, side) in cases {
            let home = folder(files);
            let inner = home.path().join(files[0]);
            let root = match files[0].split_once('/') {
                Some(_) => inner.parent().unwrap(),
                None => home.path(),
            };
            let found = look(root).unwrap();
            assert_eq!(
                (found.spec.kind.name(), found.channels, found.side),
                (kind, channels, side),
                "{files:?}"
            );
        }
    }

    #[test]
    fn pictures_tell_colour_and_size_and_damaged_ones_nothing() {
        let grey = folder(&["a/1.png", "a/2.png", "b/1.png", "b/readme.txt"]);
        let found = look(grey.path()).unwrap();
        assert_eq!((found.spec.kind.name(), found.channels, found.side), ("folder", 1, 40));
        assert!(found.because.contains("2 folders"), "{}", found.because);
        let colour = folder(&["a/red1.png", "a/large2.png", "b/large3.png"]);
        std::fs::write(colour.path().join("b/cut.png"), b"\x89PNG\r\n\x1a\n").unwrap();
        let found = look(colour.path()).unwrap();
        assert_eq!((found.channels, found.side), (3, 90));
        std::fs::remove_dir_all(colour.path().join("a")).unwrap();
        std::fs::remove_file(colour.path().join("b/large3.png")).unwrap();
        assert!(look(colour.path()).unwrap_err().to_string().contains("none of those looked at"));
    }

    #[test]
    fn what_is_no_data_says_what_would_be() {
        let empty = tempfile::tempdir().unwrap();
        let error = look(empty.path()).unwrap_err().to_string();
        assert!(error.contains("is not known by its files") && error.contains("labels.csv"), "{error}");
        let file = empty.path().join("a.npz");
        std::fs::write(&file, "").unwrap();
        assert!(look(&file).unwrap_err().to_string().contains("the folder that it lies in"));
        assert!(look(&empty.path().join("none")).unwrap_err().to_string().contains("is not there"));
    }
}
