//! CIFAR-10 and CIFAR-100 in their binary version: records of one or two label bytes and 3 × 32 × 32 levels, channel by channel.
//!
//! How many records a file has is its size's to say; the published ones have 10,000 (CIFAR-10) or 50,000 and 10,000.

use super::foreign::foreign;
use super::levels::{Fitted, Levels};
use super::spec::Grain;
use super::split::Parts;
use super::{DataSpec, Dataset, Summary, bad, shared};
use duet::Result;
use duet::model::Labels;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Pixels a side, and levels of an image.
const SIDE: usize = 32;
const LEVELS: usize = 3 * SIDE * SIDE;
/// Most records that a file may have.
const MOST_RECORDS: u64 = 1_000_000;

/// Names of CIFAR-10's classes, from its `batches.meta.txt`.
const NAMES_10: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Names of CIFAR-100's twenty classes, from its `coarse_label_names.txt`.
const COARSE: [&str; 20] = [
    "aquatic_mammals",
    "fish",
    "flowers",
    "food_containers",
    "fruit_and_vegetables",
    "household_electrical_devices",
    "household_furniture",
    "insects",
    "large_carnivores",
    "large_man-made_outdoor_things",
    "large_natural_outdoor_scenes",
    "large_omnivores_and_herbivores",
    "medium_mammals",
    "non-insect_invertebrates",
    "people",
    "reptiles",
    "small_mammals",
    "trees",
    "vehicles_1",
    "vehicles_2",
];

/// Names of its hundred classes in their order, from its `fine_label_names.txt`.
const FINE: &str = "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle \
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox \
    girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse \
    mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon \
    ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table \
    tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm";

/// What the records of a set are.
struct Layout {
    /// Bytes before the levels, one a label, and how many classes each has.
    labels: &'static [usize],
    /// Which of them is the class.
    class: usize,
    names: Vec<String>,
}

/// Loads CIFAR-10: those of its five training files that are there, the first among them, and the test file.
///
/// # Errors
/// As [`read`]; missing files.
pub fn load_10(spec: &DataSpec, channels: usize, size: usize) -> Result<Parts> {
    let folder = folder(spec, "cifar-10-batches-bin", "cifar-10-batches-py");
    let train: Vec<String> = (1..=5).map(|number| format!("data_batch_{number}.bin")).collect();
    let there: Vec<PathBuf> =
        train.iter().map(|name| folder.join(name)).filter(|path| path.is_file()).collect();
    let layout = Layout { labels: &[10], class: 0, names: NAMES_10.map(str::to_owned).to_vec() };
    let mut summary = Summary::default();
    if there.len() < train.len() && !there.is_empty() {
        summary.warnings.push(format!(
            "{} of {} training files are there ({}): figures are of a part of CIFAR-10",
            there.len(),
            train.len(),
            there.iter().filter_map(|path| path.file_name()?.to_str()).collect::<Vec<_>>().join(", ")
        ));
    }
    let first = vec![folder.join(&train[0])];
    load(
        spec,
        channels,
        size,
        if there.is_empty() { &first } else { &there },
        &folder.join("test_batch.bin"),
        &layout,
        summary,
    )
}

/// Loads CIFAR-100 with its hundred classes or, where `labels` say so, the twenty that those make up.
///
/// # Errors
/// As [`read`]; missing files.
pub fn load_100(spec: &DataSpec, channels: usize, size: usize) -> Result<Parts> {
    let folder = folder(spec, "cifar-100-binary", "cifar-100-python");
    let (class, names) = match spec.labels {
        Grain::Coarse => (0, COARSE.map(str::to_owned).to_vec()),
        Grain::Fine => (1, FINE.split_ascii_whitespace().map(str::to_owned).collect()),
    };
    let layout = Layout { labels: &[20, 100], class, names };
    let (train, test) = ([folder.join("train.bin")], folder.join("test.bin"));
    load(spec, channels, size, &train, &test, &layout, Summary::default())
}

/// The folder of the files: the given one, or the one that the archive unpacks to in it.
fn folder(spec: &DataSpec, unpacked: &str, python: &str) -> PathBuf {
    let inner = spec.path.join(unpacked);
    // Python's version is named in errors, where nothing else is there.
    let other = spec.path.join(python);
    match (inner.is_dir(), other.is_dir()) {
        (true, _) => inner,
        (false, true) => other,
        _ => spec.path.clone(),
    }
}

fn load(
    spec: &DataSpec,
    channels: usize,
    size: usize,
    train: &[PathBuf],
    test: &Path,
    layout: &Layout,
    mut summary: Summary,
) -> Result<Parts> {
    let mut resize_to = None;
    let mut part = |paths: &[&Path], summary: &mut Summary| -> Result<Dataset> {
        let (mut images, mut classes) = (Vec::new(), Vec::new());
        for path in paths {
            let (data, of_file) = read(path, layout)?;
            let levels = Levels { data, channels: 3, sides: [SIDE; 2], together: false };
            let Fitted { images: fitted, resize_to: side, note } = levels.fit(path, spec, channels, size)?;
            resize_to = side;
            summary.note_once(note);
            images.extend(fitted);
            classes.extend(of_file);
        }
        let (labels, class_names) = (Labels::Classes(classes), layout.names.clone());
        Ok(Dataset { images: images.into(), labels, channels, size, class_names })
    };
    let paths: Vec<&Path> = train.iter().map(PathBuf::as_path).collect();
    let (train, test) = (part(&paths, &mut summary)?, part(&[test], &mut summary)?);
    summary.warnings.extend(shared(&train, &test, |of_train, of_test| {
        format!("test image {of_test} is training image {of_train}, from 0")
    }));
    Ok(Parts { resize_to, ..Parts::new(train, test, summary) })
}

/// Levels and classes of a file.
///
/// # Errors
/// A file that is missing, ends inside a record or has a label out of range.
fn read(path: &Path, layout: &Layout) -> Result<(Vec<u8>, Vec<u32>)> {
    let failed = |e: std::io::Error| {
        let python = path.with_extension("").is_file() || path.with_file_name("meta").is_file();
        let which = if python { ": these are Python's files; the binary version is read" } else { "" };
        bad(path, format!("cannot be read: {e}{which}"))
    };
    let file = File::open(path).map_err(failed)?;
    let (labels, length) = (layout.labels.len(), file.metadata().map_err(failed)?.len());
    let record = labels + LEVELS;
    let (count, rest) = (length / record as u64, length % record as u64);
    // A file may grow meanwhile.
    let mut bytes = Vec::new();
    let mut start = file.take(length.min(512));
    start.read_to_end(&mut bytes).map_err(failed)?;
    if let Some(word) = foreign(&bytes) {
        return Err(bad(path, word));
    }
    if rest > 0 || count == 0 {
        let detail = format!(
            "has {length} bytes: {count} records of {record} and {rest} more; it is cut or no such file"
        );
        return Err(bad(path, detail));
    }
    if count > MOST_RECORDS {
        return Err(bad(path, format!("has {count} records; up to {MOST_RECORDS} are read")));
    }
    start.into_inner().take(length - bytes.len() as u64).read_to_end(&mut bytes).map_err(failed)?;
    let (mut levels, mut classes) = (Vec::with_capacity(bytes.len()), Vec::new());
    for (number, record) in bytes.chunks_exact(record).enumerate() {
        let (found, image) = record.split_at(labels);
        for (label, classes) in found.iter().zip(layout.labels) {
            if usize::from(*label) >= *classes {
                let detail =
                    format!("record {number} (from 0) has the label {label}; there are {classes}, from 0");
                return Err(bad(path, detail));
            }
        }
        classes.extend(found.get(layout.class).map(|label| u32::from(*label)));
        levels.extend_from_slice(image);
    }
    Ok((levels, classes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Split, load as load_checked};

    /// Records of labels, each of an image whose level tells channel, row and column.
    fn records(labels: &[&[u8]]) -> Vec<u8> {
        let image = |number: usize| {
            (0..LEVELS).map(move |i| (100 * (i / 1024) + i / 32 % 32 + 2 * (i % 32) + number) as u8)
        };
        labels.iter().enumerate().flat_map(|(n, labels)| labels.iter().copied().chain(image(n))).collect()
    }

    fn read(folder: &Path, kind: &str) -> Result<Split> {
        load_checked(&DataSpec::of(kind, folder), 3, SIDE)
    }

    fn write(folder: &Path, name: &str, bytes: &[u8]) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join(name), bytes).unwrap();
    }

    #[test]
    fn the_ten_classes_are_read_from_as_many_files_as_there_are() {
        let home = tempfile::tempdir().unwrap();
        // As the archive unpacks.
        let folder = home.path().join("cifar-10-batches-bin");
        write(&folder, "data_batch_1.bin", &records(&[&[6], &[9], &[9]]));
        write(&folder, "test_batch.bin", &records(&[&[3]])[..]);
        let split = read(home.path(), "cifar10").unwrap();
        assert_eq!(
            (split.train.classes().unwrap(), split.test.classes().unwrap()),
            (&[6, 9, 9][..], &[3][..])
        );
        // Second image, green channel, row 2, column 5.
        assert_eq!(split.train.images.levels()[LEVELS + 1024 + 2 * 32 + 5], 100 + 2 + 10 + 1);
        assert_eq!(split.train.class_names, NAMES_10);
        let warnings = split.summary.warnings.join("\n");
        assert!(warnings.contains("1 of 5 training files are there (data_batch_1.bin)"), "{warnings}");
        assert!(warnings.contains("1 of 1 test images is a training image too"), "{warnings}");
        for number in 2..=5 {
            write(&folder, &format!("data_batch_{number}.bin"), &records(&[&[number]]));
        }
        let split = read(home.path(), "cifar10").unwrap();
        assert_eq!(split.train.classes().unwrap(), [6, 9, 9, 2, 3, 4, 5], "in their order");
        // Grey, and smaller, by the way of pictures.
        let grey = load_checked(&DataSpec::of("cifar10", &folder), 1, 16).unwrap();
        assert_eq!(grey.train.images.len(), 7 * 256);
        assert!(grey.summary.text(false).contains("images of 3×32×32 become 1×16×16 (resized: lanczos)"));
    }

    #[test]
    fn the_hundred_classes_are_fine_or_coarse() {
        let home = tempfile::tempdir().unwrap();
        write(home.path(), "train.bin", &records(&[&[11, 19], &[15, 29]]));
        write(home.path(), "test.bin", &records(&[&[19, 99]]));
        let fine = read(home.path(), "cifar100").unwrap();
        assert_eq!((fine.train.classes().unwrap(), fine.test.classes().unwrap()), (&[19, 29][..], &[99][..]));
        let names = &fine.train.class_names;
        assert_eq!((names.len(), &*names[19], &*names[29], &*names[99]), (100, "cattle", "dinosaur", "worm"));
        assert!(names.is_sorted());
        let spec = DataSpec { labels: Grain::Coarse, ..DataSpec::of("cifar100", home.path()) };
        let coarse = load_checked(&spec, 3, SIDE).unwrap();
        assert_eq!(coarse.train.classes().unwrap(), [11, 15]);
        assert_eq!((coarse.train.class_names.len(), &*coarse.train.class_names[15]), (20, "reptiles"));
        assert_eq!(coarse.train.images, fine.train.images);
    }

    #[test]
    fn damaged_and_foreign_files_are_named() {
        let good = records(&[&[1], &[2]]);
        for (bytes, words) in [
            (good[..3072].to_vec(), "has 3072 bytes: 0 records of 3073 and 3072 more"),
            (good[..5000].to_vec(), "1 records of 3073 and 1927 more"),
            (Vec::new(), "has 0 bytes"),
            (records(&[&[1], &[10]]), "record 1 (from 0) has the label 10; there are 10"),
            (b"<!doctype html>".to_vec(), "HTML page"),
            (b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "git lfs pull"),
        ] {
            let home = tempfile::tempdir().unwrap();
            write(home.path(), "data_batch_1.bin", &bytes);
            write(home.path(), "test_batch.bin", &good);
            let error = read(home.path(), "cifar10").unwrap_err().to_string();
            assert!(error.contains("data_batch_1.bin") && error.contains(words), "{words}: {error}");
            write(home.path(), "data_batch_1.bin", &good);
            std::fs::remove_file(home.path().join("test_batch.bin")).unwrap();
            let error = read(home.path(), "cifar10").unwrap_err().to_string();
            assert!(error.contains("test_batch.bin: cannot be read"), "{error}");
        }
        let home = tempfile::tempdir().unwrap();
        write(&home.path().join("cifar-10-batches-py"), "data_batch_1", b"\x80\x02}");
        let error = read(home.path(), "cifar10").unwrap_err().to_string();
        assert!(
            error.contains("data_batch_1.bin") && error.contains("the binary version is read"),
            "{error}"
        );
        // The other set's records have a byte more.
        let home = tempfile::tempdir().unwrap();
        write(home.path(), "train.bin", &records(&[&[20, 0]]));
        write(home.path(), "test.bin", &good);
        let error = read(home.path(), "cifar100").unwrap_err().to_string();
        assert!(error.contains("train.bin") && error.contains("the label 20; there are 20"), "{error}");
    }
}
