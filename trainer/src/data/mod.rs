//! Data sets: the idx files of the MNIST family, and folders of labelled images.

mod folder;
mod idx;
mod index;
mod order;

pub use folder::load_image;
pub use index::{INDEX, Indexed, true_class};
pub use order::BatchOrder;

use crate::recipe::{DataKind, DataSpec};
use duet::rng::philox4x32;
use duet::{Error, Result};
use std::path::Path;

/// Labelled images of one size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dataset {
    /// Grey levels \[N,C,H,W\].
    pub images: Vec<u8>,
    /// Class of each image.
    pub labels: Vec<u32>,
    /// Channels.
    pub channels: usize,
    /// Height and width.
    pub size: usize,
    /// Names of the classes.
    pub class_names: Vec<String>,
}

/// Images to train on and to test on; no image is in both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// To train on.
    pub train: Dataset,
    /// To test on.
    pub test: Dataset,
}

impl Dataset {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Values of one image.
    pub fn image_len(&self) -> usize {
        self.channels * self.size * self.size
    }

    /// The images of `rows`, one after the other, as the reference scales them: x / 127.5 − 1.
    pub fn images_f32(&self, rows: &[usize]) -> Vec<f32> {
        let len = self.image_len();
        let levels = rows.iter().flat_map(|row| &self.images[row * len..(row + 1) * len]);
        levels.copied().map(duet::picture::value).collect()
    }

    /// Rows of the images that come `ranks`-th among those of their class, counted from 0, in the data's order.
    pub fn of_each_class(&self, ranks: std::ops::Range<usize>) -> Vec<usize> {
        let mut seen = vec![0usize; self.labels.iter().max().map_or(0, |largest| *largest as usize + 1)];
        let mut rows = Vec::new();
        for (row, label) in self.labels.iter().enumerate() {
            let rank = &mut seen[*label as usize];
            if ranks.contains(rank) {
                rows.push(row);
            }
            *rank += 1;
        }
        rows
    }

    /// A short text that differs for other data: a run is not resumed on them by mistake.
    pub fn fingerprint(&self) -> String {
        let mut state = [self.len() as u32, self.channels as u32, self.size as u32, 0];
        for chunk in self.images.chunks(1 << 16) {
            // Sum and weighted sum of a chunk, mixed into the state: any single changed pixel shows.
            let (mut a, mut b) = (0u32, 0u32);
            for level in chunk {
                a = a.wrapping_add(u32::from(*level));
                b = b.wrapping_add(a);
            }
            state = philox4x32(state, [a, b]);
        }
        for label in &self.labels {
            state[0] = state[0].rotate_left(5) ^ label;
        }
        let [a, b, c, d] = philox4x32(state, [0, 0]);
        format!("{a:08x}{b:08x}{c:08x}{d:08x}")
    }
}

/// Loads the data of a specification as images of the model's size.
///
/// # Errors
/// [`Error::Data`] naming the file and what is wrong with it.
pub fn load(spec: &DataSpec, channels: usize, size: usize) -> Result<Split> {
    let split = match spec.kind {
        DataKind::Folder => folder::load(spec, channels, size)?,
        DataKind::FashionMnist => idx::load(&spec.path, spec.pad_to, &idx::FASHION_MNIST)?,
        DataKind::Mnist => idx::load(&spec.path, spec.pad_to, &idx::DIGITS)?,
        DataKind::Idx => idx::load(&spec.path, spec.pad_to, &[])?,
    };
    for (part, name) in [(&split.train, "training"), (&split.test, "test")] {
        if part.is_empty() {
            return Err(bad(&spec.path, format!("holds no {name} images")));
        }
        if (part.channels, part.size) != (channels, size) {
            let detail = format!(
                "{name} images are {}×{}×{}, the model's {channels}×{size}×{size}; `pad_to` enlarges smaller ones",
                part.channels, part.size, part.size
            );
            return Err(bad(&spec.path, detail));
        }
    }
    Ok(split)
}

/// The error of a file.
fn bad(path: &Path, detail: impl Into<String>) -> Error {
    Error::Data { path: path.to_owned(), detail: detail.into() }
}
