//! Data sets: published ones as their authors' files are, folders of labelled pictures, arrays in `.npz`.

mod arrays;
mod boxes;
mod cache;
mod celeba;
mod cifar;
mod classes;
mod decode;
mod file;
mod folder;
mod foreign;
mod guess;
mod idx;
mod images;
mod index;
mod jpeg;
pub mod kept;
mod labels_csv;
mod levels;
mod look;
mod looks;
mod malaria;
mod mat;
mod npz;
mod optdigits;
mod packed;
mod picture;
mod spec;
mod split;
mod statistics;
mod summary;
mod svhn;
mod threads;
mod tree;
mod usps;

pub use arrays::{Array, Arrays, pack};
pub use boxes::{Boxed, boxes};
pub use cache::Cache;
pub use decode::{Reading, Told};
pub use file::{ending, whole};
pub use foreign::foreign;
pub use guess::{Guess, guess, shape};
pub use images::Images;
pub use index::{INDEX, Indexed, true_class};
pub use look::{Look, look};
pub use looks::{Looks, Range, looks};
pub use picture::{Prepared, load_image};
pub use spec::{Damaged, DataKind, DataSpec, Grain};
pub use statistics::{Copies, Spread, copies_in, copies_within, spread};
pub use summary::{PassedOver, Summary, Why, by_class};
pub use tree::pictures_in;

use duet::model::{Labels, ModelConfig, UNLABELLED};
use duet::picture::Pictures;
use duet::recipe::HASH;
use duet::rng::philox4x32;
use duet::train::Examples;
use duet::{Error, Result};
use std::path::Path;

/// Labelled images of one size.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// Grey levels \[N,C,H,W\].
    pub images: Images,
    /// What each image is: one class, or any number of labels.
    pub labels: Labels,
    /// Channels.
    pub channels: usize,
    /// Height and width.
    pub size: usize,
    /// Names of the classes, or of the labels.
    pub class_names: Vec<String>,
}

/// Images to train on, to choose settings by and to test on; no image is in two of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// To train on.
    pub train: Dataset,
    /// To choose settings by, where a recipe asks for that.
    pub validation: Option<Dataset>,
    /// To test on.
    pub test: Dataset,
    /// What pictures they are, for the model that is trained on them.
    pub pictures: Pictures,
    /// What all hold, counted, and what was passed over.
    pub summary: Summary,
}

impl Split {
    /// What a model is looked at with while it is trained, and what that is called: the validation part where there is one, for what
    /// is tested on chooses nothing.
    pub fn during_training(&self) -> (&'static str, &Dataset) {
        self.validation.as_ref().map_or(("test", &self.test), |part| ("validation", part))
    }
}

impl Dataset {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len(self.class_names.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The one class of each image.
    ///
    /// # Errors
    /// [`Error::Config`] where images have any number of labels.
    pub fn classes(&self) -> Result<&[u32]> {
        match &self.labels {
            Labels::Classes(classes) => Ok(classes),
            Labels::MultiLabel(_) => {
                let detail = "have any number of labels per image; this needs data of one class per image";
                Err(Error::config("data", detail))
            }
        }
    }

    /// The images as training on a model of `config` reads them.
    ///
    /// # Errors
    /// As [`Examples::new`].
    pub fn examples(&self, config: &ModelConfig) -> Result<Examples<'_>> {
        Examples::new(config, self.images.pixels(), &self.labels)
    }

    /// Values of one image.
    pub fn image_len(&self) -> usize {
        self.channels * self.size * self.size
    }

    /// The images of `rows`, one after the other, as the reference scales them: x / 127.5 − 1.
    pub fn images_f32(&self, rows: &[usize]) -> Vec<f32> {
        rows.iter().flat_map(|row| self.image(*row)).copied().map(duet::picture::value).collect()
    }

    /// Grey levels \[C,H,W\] of an image; none where there is no such row.
    pub fn image(&self, row: usize) -> &[u8] {
        self.images.image(row, self.image_len())
    }

    /// Those of all images, in order.
    pub fn each(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|row| self.image(row))
    }

    /// Rows of the images that come `ranks`-th among those of their class, counted from 0, in the data's order; images without
    /// a class are passed over.
    ///
    /// # Errors
    /// As [`Dataset::classes`].
    pub fn of_each_class(&self, ranks: std::ops::Range<usize>) -> Result<Vec<usize>> {
        self.of_each_class_from(0, ranks)
    }

    /// The same as if the data began with the row `first`.
    ///
    /// # Errors
    /// As [`Dataset::classes`].
    pub fn of_each_class_from(&self, first: usize, ranks: std::ops::Range<usize>) -> Result<Vec<usize>> {
        let classes = self.classes()?;
        let labelled = || classes.iter().enumerate().skip(first).filter(|(_, class)| **class != UNLABELLED);
        let mut seen = vec![0usize; labelled().map(|(_, class)| *class as usize + 1).max().unwrap_or(0)];
        let mut rows = Vec::new();
        for (row, class) in labelled() {
            let rank = &mut seen[*class as usize];
            if ranks.contains(rank) {
                rows.push(row);
            }
            *rank += 1;
        }
        Ok(rows)
    }

    /// A short text that differs for other data: a run is not resumed on them by mistake.
    pub fn fingerprint(&self) -> String {
        let numbers = [self.len(), self.channels, self.size, self.class_names.len()];
        duet::recipe::fingerprint(numbers, self.each(), &self.labels)
    }

    /// Whether these are the data of a fingerprint that a checkpoint holds. One without a prefix is of a run begun before
    /// fingerprints were BLAKE3 hashes: the sum of that time is compared, so that such runs go on.
    pub fn has_fingerprint(&self, stored: &str) -> bool {
        if stored.starts_with(HASH) { self.fingerprint() == stored } else { self.old_fingerprint() == stored }
    }

    fn old_fingerprint(&self) -> String {
        let mut state = [self.len() as u32, self.channels as u32, self.size as u32, 0];
        for chunk in self.images.levels().chunks(1 << 16) {
            // Sum and weighted sum of a chunk, mixed into the state: any single changed pixel shows.
            let (mut a, mut b) = (0u32, 0u32);
            for level in chunk {
                a = a.wrapping_add(u32::from(*level));
                b = b.wrapping_add(a);
            }
            state = philox4x32(state, [a, b]);
        }
        // There were only classes then.
        for label in self.classes().unwrap_or_default() {
            state[0] = state[0].rotate_left(5) ^ label;
        }
        let [a, b, c, d] = philox4x32(state, [0, 0]);
        format!("{a:08x}{b:08x}{c:08x}{d:08x}")
    }
}

/// Loads the data of a specification as images of the model's size, into memory.
///
/// # Errors
/// [`Error::Data`] naming the file and what is wrong with it.
pub fn load(spec: &DataSpec, channels: usize, size: usize) -> Result<Split> {
    load_by(spec, channels, size, Reading::default())
}

/// The same, with pictures read as `reading` says. What is loaded is the same in every way.
///
/// # Errors
/// As [`load`]; [`Error::Aborted`] where the listener ends it.
pub fn load_by(spec: &DataSpec, channels: usize, size: usize, reading: Reading<'_>) -> Result<Split> {
    spec.must_exist()?;
    let mut split = spec.kind.load(spec, channels, size, reading)?.into_split(spec)?;
    let validation = split.validation.iter().map(|part| (part, "validation"));
    for (part, name) in validation.chain([(&split.train, "training"), (&split.test, "test")]) {
        if part.is_empty() {
            let detail = format!(
                "holds no {name} images; a split of its own takes a share of `test_share` to test on"
            );
            return Err(bad(&spec.path, detail));
        }
        if (part.channels, part.size) != (channels, size) {
            let (has, side) = (part.channels, part.size);
            let detail =
                format!("{name} images are {has}×{side}×{side}, the model's {channels}×{size}×{size}");
            return Err(bad(&spec.path, detail));
        }
    }
    split.summary.count(&split.train, split.validation.as_ref(), &split.test);
    Ok(split)
}

/// A warning, with one example in words, where test images are training images too: equal in every pixel that the model sees.
fn shared(train: &Dataset, test: &Dataset, example: impl Fn(usize, usize) -> String) -> Option<String> {
    let pairs = copies_in(test, train).pairs;
    let [row, of_train] = pairs.first()?;
    let words = if pairs.len() == 1 { "is a training image too" } else { "are training images too" };
    let count = format!("{} of {} test images {words}", pairs.len(), test.len());
    Some(format!("{count} ({}): accuracy on them tells nothing", example(*of_train, *row)))
}

/// The error of a file.
fn bad(path: &Path, detail: impl Into<String>) -> Error {
    Error::Data { path: path.to_owned(), detail: detail.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(labels: Labels) -> Dataset {
        let images = (0..12).collect();
        Dataset { images, labels, channels: 1, size: 2, class_names: vec!["a".into(), "b".into()] }
    }

    #[test]
    fn a_fingerprint_tells_any_change_and_old_ones_are_still_compared() {
        let set = data(Labels::Classes(vec![0, 1, 1]));
        let fingerprint = set.fingerprint();
        assert!(fingerprint.starts_with("blake3:") && set.has_fingerprint(&fingerprint));
        // As the version before wrote it of these data.
        let old = "b55ddd7895d374fc54ceca6a44ae0b46";
        assert!(set.has_fingerprint(old));
        let mut brighter = set.clone();
        let mut levels = brighter.images.levels().into_owned();
        levels[3] += 1;
        brighter.images = levels.into();
        for other in [brighter, data(Labels::Classes(vec![0, 1, 0])), data(Labels::MultiLabel(vec![0.0; 6]))]
        {
            assert!(!other.has_fingerprint(&fingerprint) && !other.has_fingerprint(old), "{other:?}");
        }
        assert!(!set.has_fingerprint("") && !set.has_fingerprint("blake3:"));
    }

    #[test]
    fn several_labels_have_no_classes() {
        let set = data(Labels::MultiLabel(vec![0.0, 1.0, 1.0, 1.0, 0.0, 0.0]));
        assert_eq!(set.len(), 3);
        let error = set.of_each_class(0..1).unwrap_err().to_string();
        assert!(error.contains("one class per image"), "{error}");
        let classes = data(Labels::Classes(vec![1, UNLABELLED, 0, 1]));
        assert_eq!(classes.of_each_class(0..1).unwrap(), [0, 2]);
        assert_eq!(classes.of_each_class_from(1, 0..1).unwrap(), [2, 3]);
        assert!(classes.of_each_class_from(9, 0..1).unwrap().is_empty());
    }
}
