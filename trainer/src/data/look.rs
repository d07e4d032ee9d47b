//! What lies in a folder, found out by looking: the format, whether the pictures are in colour, and how large they are.

use super::spec::{DataKind, DataSpec};
use super::tree::{self, Listing};
use super::{bad, file, idx, npz, picture};
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
            "is a file: give the folder that it lies in, or a recipe (.toml)"
        } else {
            "is not there: give a folder of data, or a recipe (.toml)"
        };
        return Err(bad(folder, detail));
    }
    let listing = tree::list(folder)?;
    let (name, because) = format(folder, &listing).ok_or_else(|| {
        let known = DataKind::all().map(|(name, files)| format!("\n  {name}: {files}"));
        let detail = format!("holds nothing to train on; known are:{}", known.collect::<String>());
        bad(folder, detail)
    })?;
    let spec = DataSpec::new(DataKind::named(name)?, folder);
    let (channels, side) = match name {
        "cifar10" | "cifar100" | "svhn" => (3, 32),
        "usps" => (1, 16),
        "mnist" | "fashion-mnist" | "idx" => (1, idx::side(folder)?),
        "npz" => npz::shape(folder)?,
        _ => pictures(folder)?,
    };
    Ok(Look { spec, because, channels, side })
}

/// Whether a file's name, in small letters, is such a one.
type Test<'a> = &'a dyn Fn(&str) -> bool;

/// The format's name, and what tells it.
fn format(folder: &Path, listing: &Listing) -> Option<(&'static str, String)> {
    let file = |test: Test<'_>| {
        let names = listing.files.iter().filter_map(|path| path.file_name()?.to_str());
        names.map(str::to_lowercase).find(|name| test(name))
    };
    let inside = |name: &str| listing.folders.iter().find(|folder| folder.0.eq_ignore_ascii_case(name));
    let here = folder.canonicalize().unwrap_or_else(|_| folder.to_owned()).to_string_lossy().to_lowercase();
    if let Some(name) = file(&|name| name.starts_with("list_attr_celeba")) {
        return Some(("celeba", name));
    }
    let table = |folder: &Path| folder.join("labels.csv").is_file();
    if table(folder) || inside("train").is_some_and(|train| table(&train.1)) {
        return Some(("labels-csv", "labels.csv".into()));
    }
    if let Some(name) = file(&|name| name.starts_with("train-images") && name.contains("idx3")) {
        // The files of all these sets have the same names.
        let kind = match () {
            () if here.contains("fashion") => "fashion-mnist",
            () if here.contains("mnist") => "mnist",
            () => "idx",
        };
        return Some((kind, name));
    }
    let files: [(&'static str, Test<'_>); 5] = [
        ("cifar10", &|name| name == "data_batch_1.bin"),
        ("cifar100", &|name| name == "train.bin"),
        ("svhn", &|name| name == "train_32x32.mat"),
        ("usps", &|name| name.starts_with("zip.train") || name == "usps" || name.starts_with("usps.")),
        ("npz", &|name| name.ends_with(".npz")),
    ];
    if let Some(found) = files.iter().find_map(|(kind, test)| Some((*kind, file(test)?))) {
        return Some(found);
    }
    if let Some(cells) = inside("cell_images").filter(|cells| cells.1.join("Parasitized").is_dir()) {
        return Some(("malaria", cells.0.clone()));
    }
    match listing.folders.as_slice() {
        [] => None,
        [only] => Some(("folder", format!("the folder `{}`", only.0))),
        [first, .., last] => {
            let count = listing.folders.len();
            Some(("folder", format!("{count} folders, `{}` to `{}`", first.0, last.0)))
        }
    }
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
                    let words = [0x0803u32, 0, 28, 30].map(u32::to_be_bytes);
                    std::fs::write(path, words.concat()).unwrap();
                }
                _ => std::fs::write(path, "no picture").unwrap(),
            }
        }
        folder
    }

    #[test]
    fn formats_are_known_by_their_files() {
        let cases: [(&[&str], &str, usize, usize); 8] = [
            (&["data_batch_1.bin", "test_batch.bin"], "cifar10", 3, 32),
            (&["train.bin", "test.bin"], "cifar100", 3, 32),
            (&["train_32x32.mat"], "svhn", 3, 32),
            (&["zip.train.gz", "zip.test.gz"], "usps", 1, 16),
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
        assert!(found.because.contains("`a` to `b`"), "{}", found.because);
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
        assert!(error.contains("nothing to train on") && error.contains("cifar10"), "{error}");
        let file = empty.path().join("a.npz");
        std::fs::write(&file, "").unwrap();
        assert!(look(&file).unwrap_err().to_string().contains("the folder that it lies in"));
        assert!(look(&empty.path().join("none")).unwrap_err().to_string().contains("is not there"));
    }
}
