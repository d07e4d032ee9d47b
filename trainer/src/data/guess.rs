//! What kind of data set a folder holds, told by its files, and what its images are before anything is made of them.

use super::packed;
use super::tree;
use super::{DataKind, DataSpec, bad, file, idx, npz, picture};
use duet::Result;
use std::path::Path;

/// Files that tell a kind, any of them; where a file may be packed, its name unpacked.
const SIGNS: [(&str, &[&str]); 9] = [
    ("labels-csv", &["labels.csv", "train/labels.csv"]),
    ("celeba", &["list_attr_celeba.txt", "list_attr_celeba.csv"]),
    (
        "malaria",
        &[
            "patientid_cellmapping_parasitized.csv",
            "cell_images/patientid_cellmapping_parasitized.csv",
            "cell_images/Parasitized",
        ],
    ),
    ("idx", &["train-images-idx3-ubyte", "train-images.idx3-ubyte"]),
    ("usps", &["zip.train", "usps"]),
    ("optdigits", &["optdigits.tra", "digits.csv"]),
    ("cifar10", &["test_batch.bin", "cifar-10-batches-bin/test_batch.bin"]),
    ("cifar100", &["train.bin", "cifar-100-binary/train.bin"]),
    ("svhn", &["train_32x32.mat"]),
];

/// Pixels a side that pictures of any size become where nothing else is said.
const USUAL_SIZE: usize = 32;

/// Pictures that are looked at to tell whether there are colours.
const LOOKED_AT: usize = 64;

/// A kind of data set and what tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Guess {
    /// The kind.
    pub kind: DataKind,
    /// Its sign, in words: "labels.csv is there".
    pub sign: String,
}

/// What kind of data set lies in a folder.
///
/// # Errors
/// A folder that cannot be listed, that has no sign of any kind, or signs of several.
pub fn guess(folder: &Path) -> Result<Guess> {
    let listing = tree::list(folder)?;
    let there = |name: &&&str| packed::find(folder, name).is_some() || folder.join(name).is_dir();
    // A folder that happens to be called as a file would be is none of these.
    let is_sign = |name: &&&str| there(name) && (**name != "usps" || packed::find(folder, name).is_some());
    let mut found: Vec<(&str, String)> = SIGNS
        .iter()
        .filter_map(|(kind, names)| Some((*kind, format!("{} is there", names.iter().find(is_sign)?))))
        .collect();
    if let Some(path) = listing.files.iter().find(|path| file::ending(path) == "npz") {
        found.push(("npz", format!("{} is there", path.file_name().unwrap_or_default().display())));
    }
    if found.is_empty() && !listing.folders.is_empty() {
        found.push(("folder", format!("it holds {} folders", listing.folders.len())));
    }
    match &found[..] {
        [(kind, sign)] => Ok(Guess { kind: DataKind::named(kind)?, sign: sign.clone() }),
        [] => {
            let detail = "is not known by its files: no folders with pictures, no labels.csv, no file of a published set; --kind, or a \
                          recipe, says how it is to be read";
            Err(bad(folder, detail))
        }
        several => {
            let signs: Vec<String> = several.iter().map(|(kind, sign)| format!("{kind} ({sign})")).collect();
            Err(bad(folder, format!("could be {}: --kind, or a recipe, says which", signs.join(" or "))))
        }
    }
}

/// Channels and pixels a side that show images as they are: those of files of numbers (the longer side); of pictures, whose sizes
/// differ, 3 where one of the first has colours, and [`USUAL_SIZE`].
///
/// # Errors
/// Files that are missing or damaged.
pub fn shape(spec: &DataSpec) -> Result<[usize; 2]> {
    spec.must_exist()?;
    match spec.kind.name() {
        "mnist" | "fashion-mnist" | "idx" => idx::shape(&spec.path),
        "npz" => npz::shape(&spec.path),
        "usps" => Ok([1, 16]),
        "optdigits" => Ok([1, 8]),
        "cifar10" | "cifar100" | "svhn" => Ok([3, 32]),
        _ => {
            let (pictures, _) = tree::pictures_in(&spec.path)?;
            // Spread over all, for a class may be grey by itself. What cannot be read is told by who reads all of it.
            let step = pictures.len().div_ceil(LOOKED_AT).max(1);
            let mut looked_at = pictures.iter().step_by(step);
            let colour = looked_at.any(|path| picture::header(path).is_ok_and(|header| header.colour));
            Ok([if colour { 3 } else { 1 }, USUAL_SIZE])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_told_by_its_files_or_asked_for() {
        let kind = |names: &[&str]| {
            let home = tempfile::tempdir().unwrap();
            for name in names {
                let path = home.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                if name.ends_with('/') {
                    std::fs::create_dir_all(&path).unwrap();
                } else {
                    std::fs::write(&path, "").unwrap();
                }
            }
            guess(home.path())
        };
        for (names, want) in [
            (&["cat/1.png", "dog/1.png"][..], "folder"),
            (&["train/cat/1.png", "test/cat/1.png"], "folder"),
            (&["usps/1.png", "uspto/1.png"], "folder"),
            (&["labels.csv", "a/1.png", "b/2.png"], "labels-csv"),
            (&["train/labels.csv", "test/labels.csv"], "labels-csv"),
            (&["list_attr_celeba.csv", "img_align_celeba/1.jpg"], "celeba"),
            (&["cell_images/Parasitized/1.png", "cell_images/Uninfected/1.png"], "malaria"),
            (&["train-images-idx3-ubyte.gz"], "idx"),
            (&["train-images.idx3-ubyte"], "idx"),
            (&["zip.train.gz", "zip.test.gz"], "usps"),
            (&["usps.bz2", "usps.t.bz2"], "usps"),
            (&["optdigits.tra", "optdigits.tes"], "optdigits"),
            (&["digits.csv.gz"], "optdigits"),
            (&["cifar-10-batches-bin/test_batch.bin"], "cifar10"),
            (&["train.bin", "test.bin"], "cifar100"),
            (&["train_32x32.mat"], "svhn"),
            (&["numbers.npz", "notes.txt"], "npz"),
        ] {
            let guess = kind(names).unwrap();
            assert_eq!(guess.kind.name(), want, "{names:?}: {}", guess.sign);
        }
        assert_eq!(kind(&["labels.csv"]).unwrap().sign, "labels.csv is there");
        for (names, words) in [
            (&["1.png", "2.png"][..], "--kind"),
            (&["zip.train", "train.npz"], "usps (zip.train is there) or npz (train.npz is there)"),
        ] {
            let error = kind(names).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(guess(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn images_are_shown_as_they_are() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("a")).unwrap();
        let spec = |kind: &str| DataSpec::of(kind, home.path());
        image::GrayImage::new(9, 5).save(home.path().join("a/1.png")).unwrap();
        assert_eq!(shape(&spec("folder")).unwrap(), [1, 32]);
        image::RgbImage::new(9, 5).save(home.path().join("a/2.jpg")).unwrap();
        std::fs::write(home.path().join("a/3.png"), "broken").unwrap();
        assert_eq!(shape(&spec("folder")).unwrap(), [3, 32]);
        let header = [&0x0803u32.to_be_bytes()[..], &[0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 20]].concat();
        std::fs::write(home.path().join("train-images-idx3-ubyte"), header).unwrap();
        assert_eq!(shape(&spec("mnist")).unwrap(), [1, 28]);
        assert_eq!(shape(&spec("usps")).unwrap(), [1, 16]);
        assert!(shape(&DataSpec::of("idx", Path::new("/nonexistent"))).is_err());
    }
}
