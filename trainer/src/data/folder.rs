//! A folder per class with pictures in it.

use super::decode::{Asked, Reading, decode, share};
use super::images::Images;
use super::split::{Parts, hold_out, warn_of_unknown_groups};
use super::summary::Summary;
use super::tree::{self, Class, Listing};
use super::{DataSpec, Dataset, bad, file, shared};
use duet::model::Labels;
use duet::{Error, Result};
use std::path::{Path, PathBuf};

/// What a folder of training images is called, in any letters.
const TRAIN: [&str; 2] = ["train", "training"];

/// What a folder of test images is called; an earlier one goes before a later one.
const TEST: [&str; 6] = ["test", "testing", "val", "valid", "validation", "dev"];

/// Loads a folder: `train` and `test` (or `val`) inside it where they are there, else a split of its own.
///
/// # Errors
/// A folder without classes or pictures; pictures that cannot be read, all of them named up to a number.
pub fn load(spec: &DataSpec, channels: usize, size: usize, reading: Reading<'_>) -> Result<Parts> {
    let mut summary = Summary::default();
    let mut found = find(spec, &mut summary)?;
    if found.names.len() < 2 {
        return Err(bad(&found.root, too_few(&found)));
    }
    if found.pictures.is_empty() {
        let words = summary.passed_over.words();
        let rest = if words.is_empty() { String::new() } else { format!(", but {words}") };
        return Err(bad(&found.root, format!("holds no pictures in its class folders{rest}")));
    }
    let name = |path: &Path| {
        let parts = path.strip_prefix(&spec.path).unwrap_or(path).components();
        parts.map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
    };
    let names: Vec<String> = found.pictures.iter().map(|picture| name(&picture.path)).collect();
    let groups = spec.groups(&names)?;
    let to_split = found.pictures.iter().any(|picture| picture.test.is_none());
    let of_groups = match &groups {
        Some(groups) if to_split => Some(
            hold_out(groups, spec.test_share, spec.split_seed).map_err(|detail| bad(&spec.path, detail))?,
        ),
        _ => None,
    };
    if to_split && groups.is_none() {
        warn_of_unknown_groups(&mut summary, "; `group` gives a pattern in the pictures' names that tells");
    }
    let side = |row: usize, bytes: &[u8]| {
        let settled = found.pictures.get(row).and_then(|picture| picture.test);
        let of_group = || of_groups.as_ref().and_then(|sides| sides.get(row)).copied();
        // By contents, not by name: copies of one picture land on one side.
        settled.or_else(of_group).unwrap_or_else(|| share(bytes, spec.split_seed) < spec.test_share)
    };
    let paths: Vec<&Path> = found.pictures.iter().map(|picture| picture.path.as_path()).collect();
    let preparation = &spec.preparation(channels, size);
    let asked = Asked { root: &spec.path, pictures: &paths, preparation, damaged: spec.damaged };
    let mut decoded = decode(&asked, side, reading)?;
    summary.warnings.extend(decoded.warning.take());
    let mut images = std::mem::take(&mut decoded.images);
    let groups = groups.map(|groups| decoded.kept(groups));
    found.pictures = decoded.kept(std::mem::take(&mut found.pictures));
    let held_out = decoded.held_out;
    let test_images = images.take_out(&held_out);
    let part = |images: Images, test: bool| {
        let rows = found.pictures.iter().zip(&held_out).filter(|(_, side)| **side == test);
        let (labels, paths) = rows.map(|(picture, _)| (picture.class, picture.path.as_path())).unzip();
        let (labels, class_names): (_, _) = (Labels::Classes(labels), found.names.clone());
        let paths: Vec<&Path> = paths;
        (Dataset { images, labels, channels, size, class_names }, paths)
    };
    let ((train, train_paths), (test, test_paths)) = (part(images, false), part(test_images, true));
    summary.warnings.extend(shared(&train, &test, |of_train, of_test| {
        format!("{} is {}", name(test_paths[of_test]), name(train_paths[of_train]))
    }));
    let of_train = |groups: Vec<String>| groups.into_iter().zip(&held_out).filter(|(_, test)| !**test);
    let groups = groups.map_or_else(Vec::new, |groups| of_train(groups).map(|(group, _)| group).collect());
    Ok(Parts { groups, ..Parts::new(train, test, summary) })
}

/// A picture's file, its class, and its side where that is settled.
struct Found {
    path: PathBuf,
    class: u32,
    test: Option<bool>,
}

/// What a folder's classes are and where their pictures lie.
struct Classes {
    root: PathBuf,
    names: Vec<String>,
    pictures: Vec<Found>,
}

/// What to say of a folder without classes to tell apart.
fn too_few(found: &Classes) -> String {
    let Some(name) = found.names.first() else {
        let list = tree::list(&found.root).map_or(Vec::new(), |listing| listing.files);
        let pictures = list.iter().filter(|path| file::kind(path) == file::Kind::Picture).count();
        let loose = if pictures > 0 {
            format!(": put its {pictures} pictures into one folder a class")
        } else {
            String::new()
        };
        return format!("has 0 class folders; at least 2 are needed{loose}");
    };
    let inside = tree::list(&found.root.join(name)).map_or(0, |listing| listing.folders.len());
    let nested = if inside > 1 {
        format!(": if the {inside} folders in it are the classes, give its path")
    } else {
        String::new()
    };
    format!("has 1 class folder, `{name}`; at least 2 are needed{nested}")
}

/// Finds out how a folder is laid out.
fn find(spec: &DataSpec, summary: &mut Summary) -> Result<Classes> {
    let root = &spec.path;
    let listing = tree::list(root)?;
    let (train, tests) = (named(&listing, &TRAIN), named(&listing, &TEST));
    let quoted = |folders: &[&(String, PathBuf)]| {
        folders.iter().map(|folder| format!("`{}`", folder.0)).collect::<Vec<_>>().join(", ")
    };
    let is_nested = |folder: &Path| Ok::<_, Error>(!tree::list(folder)?.folders.is_empty());
    let others = |known: &[&(String, PathBuf)]| -> Vec<&(String, PathBuf)> {
        listing.folders.iter().filter(|folder| !known.iter().any(|k| k.1 == folder.1)).collect()
    };
    match (train.first(), tests.first()) {
        (Some(train), Some(test)) => {
            for file in &listing.files {
                summary.passed_over.add(super::summary::Why::NoClass, file::ending(file));
            }
            if !test.0.to_lowercase().starts_with("test") {
                summary.notes.push(format!("`{}` is the test set", test.0));
            }
            let rest = others(&[train, test]);
            if !rest.is_empty() {
                summary.notes.push(format!(
                    "beside `{}` and `{}` not read: {}",
                    train.0,
                    test.0,
                    quoted(&rest)
                ));
            }
            let read = |folder: &Path, summary: &mut Summary| tree::classes(folder, &mut summary.passed_over);
            Ok(merged(root, read(&train.1, summary)?, read(&test.1, summary)?))
        }
        (Some(train), None) if is_nested(&train.1)? => {
            let rest = others(&[train]);
            if !rest.is_empty() {
                let detail = format!(
                    "`{0}` holds folders, but no `test` or `val` lies beside it, only {1}: call the test images' folder `test`; \
                     or, if `{0}` is a class, put its pictures into it without folders",
                    train.0,
                    quoted(&rest)
                );
                return Err(bad(root, detail));
            }
            summary.notes.push(format!(
                "`{}` has no `test` or `val` beside it: a share of {} of its images is held out",
                train.0, spec.test_share
            ));
            whole(&train.1, summary)
        }
        (None, Some(test)) if others(&tests).is_empty() => {
            let detail = format!("`{}` is there, but no `train` with the training images", test.0);
            Err(bad(root, detail))
        }
        _ => whole(root, summary),
    }
}

/// Folders of some names, in the names' order.
fn named<'a>(listing: &'a Listing, names: &[&str]) -> Vec<&'a (String, PathBuf)> {
    let of = |name: &&str| listing.folders.iter().find(|folder| folder.0.eq_ignore_ascii_case(name));
    names.iter().filter_map(of).collect()
}

/// A folder whose pictures are yet to be split.
fn whole(root: &Path, summary: &mut Summary) -> Result<Classes> {
    let classes = tree::classes(root, &mut summary.passed_over)?;
    Ok(Classes { root: root.into(), ..together(classes, None) })
}

/// Classes as numbers in the order of their names.
fn together(classes: Vec<Class>, test: Option<bool>) -> Classes {
    let names = classes.iter().map(|class| class.name.clone()).collect();
    let of = |(class, files): (usize, Vec<PathBuf>)| {
        files.into_iter().map(move |path| Found { path, class: class as u32, test })
    };
    let pictures = classes.into_iter().map(|class| class.files).enumerate().flat_map(of).collect();
    Classes { root: PathBuf::new(), names, pictures }
}

/// The classes of two folders: one that is only in one of them is a class too, without images in the other.
fn merged(root: &Path, train: Vec<Class>, test: Vec<Class>) -> Classes {
    let mut names: Vec<String> = train.iter().map(|class| class.name.clone()).collect();
    let mut test = test;
    for class in &mut test {
        if !names.contains(&class.name) {
            // The other folder's letters may be capitals.
            match train.iter().find(|other| other.name.eq_ignore_ascii_case(&class.name)) {
                Some(other) => class.name.clone_from(&other.name),
                None => names.push(class.name.clone()),
            }
        }
    }
    names.sort();
    let mut pictures = Vec::new();
    for (classes, side) in [(train, false), (test, true)] {
        for class in classes {
            let number = names.iter().position(|name| *name == class.name).unwrap_or_default() as u32;
            let of = |path| Found { path, class: number, test: Some(side) };
            pictures.extend(class.files.into_iter().map(of));
        }
    }
    Classes { root: root.into(), names, pictures }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Split, load_image};
    use duet::picture::{Fit, Preparation};
    use std::collections::HashSet;

    fn load(spec: &DataSpec, channels: usize, size: usize) -> Result<Parts> {
        super::load(spec, channels, size, Reading::default())
    }

    fn spec(path: &Path) -> DataSpec {
        DataSpec { test_share: 0.3, ..DataSpec::of("folder", path) }
    }

    fn picture(level: u8) -> image::RgbImage {
        image::RgbImage::from_fn(10, 8, |x, y| image::Rgb([level, x as u8, y as u8]))
    }

    #[test]
    fn a_folder_is_split_without_overlap() {
        let folder = tempfile::tempdir().unwrap();
        for class in ["cat", "dog"] {
            std::fs::create_dir(folder.path().join(class)).unwrap();
            for i in 0..40u8 {
                let path = folder.path().join(class).join(format!("{i}.png"));
                // Each picture twice under different names.
                picture(i / 2 + if class == "cat" { 0 } else { 100 }).save(&path).unwrap();
            }
        }
        let split = load(&spec(folder.path()), 3, 8).unwrap();
        assert_eq!(split.train.len() + split.test.len(), 80);
        assert!(split.test.len() >= 8 && split.train.len() >= 30, "{}", split.test.len());
        assert_eq!(split.train.class_names, ["cat", "dog"]);
        let images = |set: &Dataset| -> HashSet<Vec<u8>> {
            set.images.levels().chunks(set.image_len()).map(<[u8]>::to_vec).collect()
        };
        assert!(images(&split.train).is_disjoint(&images(&split.test)));
        assert_eq!(split, load(&spec(folder.path()), 3, 8).unwrap());
        let other = load(&DataSpec { split_seed: 2, ..spec(folder.path()) }, 3, 8).unwrap();
        assert_ne!(images(&split.test), images(&other.test), "another seed holds out others");
    }

    #[test]
    fn bad_folders_and_images_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let failure = || load(&spec(folder.path()), 1, 8).unwrap_err().to_string();
        assert!(failure().contains("0 class folders"), "{}", failure());
        fill(folder.path(), &[("loose.png", Some(1))]);
        assert!(failure().contains("put its 1 pictures into one folder a class"), "{}", failure());
        fill(folder.path(), &[("zip/a/1.png", Some(1)), ("zip/b/1.png", Some(1))]);
        assert!(failure().contains("`zip`") && failure().contains("the 2 folders in it"), "{}", failure());
        std::fs::remove_dir_all(folder.path().join("zip")).unwrap();
        fill(folder.path(), &[("a/notes.txt", None), ("b/photo.heic", None)]);
        let error = failure();
        assert!(
            error.contains("no pictures") && error.contains("1 .txt") && error.contains("1 .heic"),
            "{error}"
        );
        fill(folder.path(), &[("a/1.png", Some(1))]);
        std::fs::write(folder.path().join("b/broken.png"), b"\x89PNG\r\n\x1a\nnonsense").unwrap();
        std::fs::write(folder.path().join("b/page.jpg"), "<!DOCTYPE html><html>").unwrap();
        let error = failure();
        for word in ["2 of 3 pictures", "b/broken.png: is no readable PNG", "b/page.jpg: is an HTML page"] {
            assert!(error.contains(word), "{word}: {error}");
        }
        for i in 0..20 {
            std::fs::write(folder.path().join(format!("a/empty{i}.gif")), "").unwrap();
        }
        assert!(failure().contains("22 of 23") && failure().contains("and 12 more"), "{}", failure());
    }

    /// Names of files; pictures of a level, or text.
    type Files<'a> = &'a [(&'a str, Option<u8>)];

    fn fill(folder: &Path, files: Files<'_>) {
        for (name, level) in files {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match level {
                Some(level) => picture(*level).save(&path).unwrap(),
                None => std::fs::write(&path, "some text").unwrap(),
            }
        }
    }

    fn loaded(folder: &Path) -> Split {
        crate::data::load(&spec(folder), 3, 8).unwrap()
    }

    #[test]
    fn sub_folders_and_any_format_are_read_and_systems_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            ("a/1.png", Some(1)),
            ("a/2.bmp", Some(2)),
            ("a/more/3.gif", Some(3)),
            ("a/more/deep/4.tiff", Some(4)),
            ("a/more/5.webp", Some(5)),
            ("b/1.jpg", Some(101)),
            ("b/2.PNG", Some(102)),
            ("a/._1.png", None),
            ("a/.hidden/1.png", None),
            ("a/Thumbs.db", None),
            ("a/.DS_Store", None),
            ("__MACOSX/a/._1.png", None),
            (".git/1.png", None),
            ("a/list.csv", None),
            ("a/more/about.txt", None),
            ("README.md", None),
        ];
        fill(folder.path(), &files);
        // By contents, whatever the name says.
        std::fs::rename(folder.path().join("a/1.png"), folder.path().join("a/1.jpeg")).unwrap();
        std::fs::rename(folder.path().join("a/2.bmp"), folder.path().join("a/without")).unwrap();
        let split = loaded(folder.path());
        assert_eq!(split.train.class_names, ["a", "b"]);
        let line = split.summary.text(false);
        for part in [
            "data: 7 images of 2 classes (a 5, b 2)",
            "2 files that are no pictures (1 .csv, 1 .txt)",
            "1 file beside the class folders (1 .md)",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_in_a_circle_end_and_pipes_are_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path(), &[("a/in/1.png", Some(1)), ("b/1.png", Some(2)), ("b/2.png", Some(3))]);
        std::os::unix::fs::symlink(folder.path().join("a"), folder.path().join("a/in/again")).unwrap();
        std::os::unix::fs::symlink("..", folder.path().join("b/up")).unwrap();
        let pipe = folder.path().join("b/pipe.png");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let error = load_image(&pipe, &Preparation::new(1, 8)).err().unwrap().to_string();
        assert!(error.contains("pipe.png") && error.contains("must be a file"), "{error}");
        let line = loaded(folder.path()).summary.text(false);
        assert!(line.contains("a 1, ") && line.contains("1 pipe or device (1 .png)"), "{line}");
    }

    #[test]
    fn train_goes_with_test_or_val_or_alone() {
        let pictures = [("train/a/1.png", Some(1)), ("train/b/2.png", Some(2)), ("train/b/3.png", Some(3))];
        let cases: [(Files<'_>, &[&str]); 5] = [
            (
                &[("val/a/4.png", Some(4)), ("val/b/5.png", Some(5))],
                &["2 of them to test on; `val` is the test set"],
            ),
            (
                &[("Test/a/4.png", Some(4)), ("val/b/5.png", Some(5))],
                &["1 of them to test on", "not read: `val`"],
            ),
            (
                &[("validation/A/4.png", Some(4)), ("docs/a.txt", None)],
                &["of 2 classes (a 2, b 2)", "not read: `docs`"],
            ),
            (&[("test/c/4.png", Some(4))], &["of 3 classes (a 1, b 2, c 1)"]),
            (&[], &["of 2 classes (a 1, b 2)", "`train` has no `test` or `val` beside it: a share of 0.3"]),
        ];
        for (more, words) in cases {
            let folder = tempfile::tempdir().unwrap();
            fill(folder.path(), &pictures);
            fill(folder.path(), more);
            let split = loaded(folder.path());
            let line = split.summary.text(false);
            assert!(words.iter().all(|word| line.contains(word)), "{words:?}: {line}");
            let warns = split.summary.warnings.iter().any(|w| w == "the class \"c\" has no training images");
            assert_eq!(warns, words[0].contains("c 1"), "{:?}", split.summary.warnings);
        }
        for (more, word) in
            [("car/1.png", "no `test` or `val` lies beside it, only `car`"), ("train/c.png", "")]
        {
            let folder = tempfile::tempdir().unwrap();
            // Where `train` is a class its pictures lie in it.
            let pictures = if word.is_empty() { &[("bus/1.png", Some(9))] } else { &pictures[..1] };
            fill(folder.path(), pictures);
            fill(folder.path(), &[(more, Some(8))]);
            match load(&spec(folder.path()), 3, 8) {
                Ok(split) => {
                    assert_eq!((split.train.class_names, word), (vec!["bus".into(), "train".into()], ""))
                }
                Err(error) => assert!(!word.is_empty() && error.to_string().contains(word), "{error}"),
            }
        }
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path(), &[("test/a/1.png", Some(1)), ("val/b/2.png", Some(1))]);
        let error = load(&spec(folder.path()), 3, 8).unwrap_err().to_string();
        assert!(error.contains("`test` is there, but no `train`"), "{error}");
    }

    #[test]
    fn what_is_likely_a_mistake_is_warned_of() {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            ("train/a/1.png", Some(1)),
            ("train/b/2.png", Some(2)),
            ("test/a/3.png", Some(3)),
            ("test/b/4.png", Some(4)),
        ];
        fill(folder.path(), &files);
        assert!(loaded(folder.path()).summary.warnings.is_empty());
        // The same pixels in another format, and a class that has no pictures yet.
        fill(folder.path(), &[("test/a/x.bmp", Some(1))]);
        std::fs::create_dir(folder.path().join("train/c")).unwrap();
        let split = loaded(folder.path());
        assert_eq!(split.train.class_names, ["a", "b", "c"]);
        let expected = [
            "1 of 3 test images is a training image too (test/a/x.bmp is train/a/1.png): accuracy on them tells nothing",
            "the class \"c\" has no images",
        ];
        assert_eq!(split.summary.warnings, expected);
    }

    #[test]
    fn a_recipe_says_on_what_ground_pictures_lie_and_how_they_fit() {
        let folder = tempfile::tempdir().unwrap();
        for class in ["a", "b"] {
            std::fs::create_dir(folder.path().join(class)).unwrap();
            for i in 0..8u8 {
                // Six by two pixels: grey, transparent, grey; all different.
                let pixel =
                    |x: u32, _| image::Rgba([40 + i, 0, 0, if (2..4).contains(&x) { 0 } else { 255 }]);
                let path = folder.path().join(class).join(format!("{i}.png"));
                image::RgbaImage::from_fn(6, 2, pixel).save(path).unwrap();
            }
        }
        let first = |ground, fit| {
            let spec = DataSpec { ground, fit, test_share: 0.0, ..spec(folder.path()) };
            load(&spec, 3, 6).unwrap().train.images.levels()[..36].to_vec()
        };
        let white = first(255, Fit::Pad);
        let [a, g] = [40, 255];
        assert_eq!(white[12..18], [a, a, g, g, a, a]);
        assert!(white[..12].iter().chain(&white[24..]).all(|v| *v == g), "{white:?}");
        assert_eq!(first(0, Fit::Stretch)[30..], [a, a, 0, 0, a, a]);
        assert!(first(0, Fit::Crop).iter().all(|v| *v == 0), "the middle is transparent");
    }
}
