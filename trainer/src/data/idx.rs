//! The idx format of MNIST and its relatives: big-endian magic, counts, then bytes; plain or gzip.

use super::levels::{Fitted, Levels};
use super::packed::{self, body, open};
use super::split::Parts;
use super::{DataSpec, Dataset, Summary, bad, shared};
use duet::Result;
use duet::model::Labels;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Names of Fashion-MNIST's classes, from its documentation.
pub const FASHION_MNIST: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

/// Names of MNIST's classes.
pub const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// Largest image side and most images a header may claim.
const LARGEST_SIDE: u32 = 4096;
const MOST_IMAGES: u32 = 10_000_000;

/// Loads the four files of a folder.
///
/// # Errors
/// A missing, truncated or overlong file, a wrong magic, labels out of range.
pub fn load(spec: &DataSpec, channels: usize, size: usize, names: &[&str]) -> Result<Parts> {
    let folder = &spec.path;
    let part = |prefix: &str| -> Result<Part> {
        let images = find(folder, &format!("{prefix}-images"), "idx3-ubyte")?;
        let labels = find(folder, &format!("{prefix}-labels"), "idx1-ubyte")?;
        let (levels, classes) = read(&images, &labels)?;
        Ok(Part { fitted: levels.fit(&images, spec, channels, size)?, classes, labels })
    };
    let (train, test) = (part("train")?, part("t10k")?);
    for part in [&train, &test].into_iter().filter(|_| !names.is_empty()) {
        if let Some(row) = part.classes.iter().position(|class| *class as usize >= names.len()) {
            let detail = format!(
                "label {row} (from 0) is {}; there are {} classes, from 0 to {}",
                part.classes[row],
                names.len(),
                names.len() - 1
            );
            return Err(bad(&part.labels, detail));
        }
    }
    let largest = train.classes.iter().chain(&test.classes).max().copied().unwrap_or(0) as usize;
    let class_names: Vec<String> = if names.is_empty() {
        (0..=largest).map(|c| c.to_string()).collect()
    } else {
        names.iter().map(|n| (*n).to_owned()).collect()
    };
    let (mut summary, resize_to) = (Summary::default(), train.fitted.resize_to);
    let mut named = |part: Part| {
        summary.note_once(part.fitted.note);
        let (images, labels) = (part.fitted.images, Labels::Classes(part.classes));
        Dataset { images: images.into(), labels, channels, size, class_names: class_names.clone() }
    };
    let (train, test) = (named(train), named(test));
    summary.warnings.extend(shared(&train, &test, |of_train, of_test| {
        format!("test image {of_test} is training image {of_train}, from 0")
    }));
    Ok(Parts { resize_to, ..Parts::new(train, test, summary) })
}

/// What two files hold.
struct Part {
    fitted: Fitted,
    classes: Vec<u32>,
    /// The file of the labels.
    labels: PathBuf,
}

/// The file of a part: packed or not, with a dash or a dot before `idx`.
fn find(folder: &Path, stem: &str, ending: &str) -> Result<PathBuf> {
    let found =
        ["-", "."].iter().find_map(|between| packed::find(folder, &format!("{stem}{between}{ending}")));
    found.ok_or_else(|| bad(folder, format!("has no file {stem}-{ending} or {stem}-{ending}.gz")))
}

fn header<const N: usize>(path: &Path, file: &mut dyn Read, magic: u32) -> Result<[u32; N]> {
    let mut words = [0u32; N];
    let mut bytes = [0u8; 4];
    let mut next = || -> Result<u32> {
        file.read_exact(&mut bytes).map_err(|e| bad(path, format!("ends inside its header: {e}")))?;
        Ok(u32::from_be_bytes(bytes))
    };
    let found = next()?;
    if found != magic {
        return Err(bad(path, format!("has the magic number {found:#010x} instead of {magic:#010x}")));
    }
    for word in &mut words {
        *word = next()?;
    }
    Ok(words)
}

/// Channels and the longer side of a folder's training images.
///
/// # Errors
/// A missing file, or one that is no idx file of images.
pub fn shape(folder: &Path) -> Result<[usize; 2]> {
    let path = find(folder, "train-images", "idx3-ubyte")?;
    let [_, height, width] = header(&path, &mut open(&path)?, 0x0803)?;
    if height.max(width) > LARGEST_SIDE {
        return Err(bad(&path, format!("announces images of {height}×{width} pixels")));
    }
    Ok([1, height.max(width) as usize])
}

fn read(images: &Path, labels: &Path) -> Result<(Levels, Vec<u32>)> {
    let mut file = open(images)?;
    let [count, height, width] = header(images, &mut file, 0x0803)?;
    if count == 0 || count > MOST_IMAGES || height == 0 || height > LARGEST_SIDE || height != width {
        return Err(bad(
            images,
            format!("announces {count} images of {height}×{width}; square ones are needed"),
        ));
    }
    let pixels = body(images, &mut file, u64::from(count) * u64::from(height) * u64::from(width))?;
    let mut file = open(labels)?;
    let [label_count] = header(labels, &mut file, 0x0801)?;
    if label_count != count {
        return Err(bad(labels, format!("announces {label_count} labels for {count} images")));
    }
    let classes = body(labels, &mut file, u64::from(label_count))?.into_iter().map(u32::from).collect();
    let levels = Levels { data: pixels, channels: 1, sides: [height as usize; 2], together: false };
    Ok((levels, classes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn images(count: u32, side: u32, data: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        for word in [0x0803, count, side, side] {
            file.extend(word.to_be_bytes());
        }
        file.extend(data);
        file
    }

    fn labels(data: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        for word in [0x0801, data.len() as u32] {
            file.extend(word.to_be_bytes());
        }
        file.extend(data);
        file
    }

    fn gz(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn load(path: &Path, pad_to: Option<usize>, names: &[&str]) -> Result<Parts> {
        super::load(&DataSpec { pad_to, ..DataSpec::of("idx", path) }, 1, pad_to.unwrap_or(2), names)
    }

    fn folder(train: &[u8], train_labels: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, data: &[u8]| std::fs::write(folder.path().join(name), data).unwrap();
        write("train-images-idx3-ubyte", train);
        write("train-labels-idx1-ubyte.gz", &gz(train_labels));
        write("t10k-images.idx3-ubyte.gz", &gz(&images(1, 2, &[9; 4])));
        write("t10k-labels.idx1-ubyte", &labels(&[1]));
        folder
    }

    #[test]
    fn plain_and_packed_files_are_read() {
        let folder = folder(&images(2, 2, &[0, 1, 2, 3, 4, 5, 6, 255]), &labels(&[2, 0]));
        let split = load(folder.path(), None, &[]).unwrap();
        assert_eq!(split.train.classes().unwrap(), [2, 0]);
        assert_eq!(split.train.class_names, ["0", "1", "2"]);
        assert_eq!(split.train.images_f32(&[1])[3], 1.0);
        assert_eq!(split.test.images.levels()[..], [9; 4]);
        assert!(split.summary.warnings.is_empty());
        let padded = load(folder.path(), Some(4), &[]).unwrap().train;
        assert_eq!(
            (padded.size, padded.images.levels()[5], padded.images.levels()[6], padded.images.levels()[0]),
            (4, 0, 1, 0)
        );
    }

    #[test]
    fn bad_files_are_named_with_their_fault() {
        let good = images(2, 2, &[0; 8]);
        let mut magic = good.clone();
        magic[3] = 1;
        let cases: [(Vec<u8>, Vec<u8>, &str); 7] = [
            (good[..20].to_vec(), labels(&[0, 1]), "4 of the 8 bytes"),
            (good[..9].to_vec(), labels(&[0, 1]), "inside its header"),
            (magic, labels(&[0, 1]), "magic number"),
            (images(u32::MAX, 4000, &[]), labels(&[0]), "announces 4294967295"),
            (images(9_000_000, 4000, &[]), labels(&[0]), "0 of the"),
            (good.clone(), labels(&[0]), "1 labels for 2 images"),
            (images(2, 2, &[0; 9]), labels(&[0, 1]), "goes on after"),
        ];
        for (images, labels, word) in cases {
            let folder = folder(&images, &labels);
            let error = load(folder.path(), None, &[]).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("train-"), "{word}: {error}");
        }
        let outside = folder(&good, &labels(&[0, 7]));
        let error = load(outside.path(), None, &["a", "b"]).unwrap_err().to_string();
        assert!(
            error.contains("train-labels-idx1-ubyte.gz") && error.contains("label 1 (from 0) is 7"),
            "{error}"
        );
        let pointer = folder(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", &labels(&[0]));
        let error = load(pointer.path(), None, &[]).unwrap_err().to_string();
        assert!(error.contains("train-images") && error.contains("git lfs pull"), "{error}");
        let empty = tempfile::tempdir().unwrap();
        assert!(load(empty.path(), None, &[]).unwrap_err().to_string().contains("has no file train-images"));
    }
}
