//! Batches, and how they are put together from images in memory.

use super::order::BatchOrder;
use crate::error::{Error, Result};
use crate::model::{Labels, ModelConfig};
use crate::picture;

/// A batch on the host.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Images \[N,C,H,W\] in −1..1.
    pub images: Vec<f32>,
    /// What they are.
    pub labels: Labels,
}

/// Images \[N,C,H,W\] as they lie in memory.
#[derive(Clone, Copy, Debug)]
pub enum Pixels<'a> {
    /// Grey levels, which [`picture::value`] scales.
    Levels(&'a [u8]),
    /// The same of some images among others, as in a file that is mapped: the first is the `rows[0]`-th of them.
    Rows {
        /// Levels of all.
        levels: &'a [u8],
        /// Which of them.
        rows: &'a [usize],
    },
    /// Values in −1..1.
    Values(&'a [f32]),
}

impl Pixels<'_> {
    /// Values of all images, of `len` each.
    fn len(&self, len: usize) -> usize {
        match self {
            Pixels::Levels(levels) => levels.len(),
            Pixels::Rows { rows, .. } => rows.len().saturating_mul(len),
            Pixels::Values(values) => values.len(),
        }
    }

    /// Adds the values of an image of `len` of them; whether it is there.
    fn extend(&self, row: usize, len: usize, images: &mut Vec<f32>) -> bool {
        fn image<T>(all: &[T], row: usize, len: usize) -> Option<&[T]> {
            let first = row.checked_mul(len)?;
            all.get(first..first.checked_add(len)?)
        }
        let levels = match self {
            Pixels::Levels(levels) => image(levels, row, len),
            Pixels::Rows { levels, rows } => rows.get(row).and_then(|row| image(levels, *row, len)),
            Pixels::Values(values) => {
                return image(values, row, len).map(|values| images.extend_from_slice(values)).is_some();
            }
        };
        levels.map(|levels| images.extend(levels.iter().copied().map(picture::value))).is_some()
    }
}

/// Labelled images to train on.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::model::{Labels, ModelConfig};
/// use duet::train::{BatchOrder, Examples, Pixels};
///
/// // Three images of 2 × 2 grey levels.
/// let config = ModelConfig { image_size: 2, ..ModelConfig::default() };
/// let levels = [0, 0, 0, 0, 51, 51, 51, 51, 255, 255, 255, 255];
/// let labels = Labels::Classes(vec![4, 5, 6]);
/// let examples = Examples::new(&config, Pixels::Levels(&levels), &labels)?;
/// let batch = examples.batch(&[2, 0])?;
/// assert_eq!(batch.images, [1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0]);
/// assert_eq!(batch.labels, Labels::Classes(vec![6, 4]));
/// // The batch of step 0 of a run: two images, shuffled, each mirrored or not.
/// let batch = examples.next(&mut BatchOrder::new(examples.len(), 0), 0, 2, true)?;
/// assert_eq!(batch.images.len(), 2 * 4);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Examples<'a> {
    pixels: Pixels<'a>,
    labels: &'a Labels,
    image_len: usize,
    width: usize,
    classes: usize,
    count: usize,
}

/// Refuses a batch of more images than rows of noise can be numbered, before anything is made for each of them.
fn numbered(count: usize) -> Result<()> {
    match u32::try_from(count) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::config("batch_size", format!("{count} images are too many"))),
    }
}

/// Images whose borders are looked at.
const BORDERS: usize = 1024;

impl<'a> Examples<'a> {
    /// Images and labels of a model's size and classes.
    ///
    /// # Errors
    /// [`Error::Shape`] where there are none, or where the numbers of values and labels do not fit each other.
    pub fn new(config: &ModelConfig, pixels: Pixels<'a>, labels: &'a Labels) -> Result<Examples<'a>> {
        let (image_len, classes) = (config.images(1).len(), config.num_classes);
        let count = labels.len(classes);
        let values = pixels.len(image_len);
        if count == 0 || image_len == 0 || Some(values) != count.checked_mul(image_len) {
            let detail = format!("{values} values for {count} images of {image_len}");
            return Err(Error::shape("train", detail));
        }
        Ok(Examples { pixels, labels, image_len, width: config.image_size, classes, count })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The colour of what lies around the images: of each channel the median of their outermost pixels, of about a thousand
    /// images spread over all.
    pub fn border(&self) -> Vec<f64> {
        let plane = self.width * self.width;
        let every = self.count.div_ceil(BORDERS).max(1);
        let mut channels: Vec<Vec<f32>> = vec![Vec::new(); self.image_len / plane.max(1)];
        for row in (0..self.count).step_by(every) {
            let mut image = Vec::with_capacity(self.image_len);
            self.pixels.extend(row, self.image_len, &mut image);
            for (values, pixels) in channels.iter_mut().zip(image.chunks_exact(plane.max(1))) {
                let edge = |at: &usize| {
                    let (row, column) = (at / self.width, at % self.width);
                    row.min(column) == 0 || row.max(column) + 1 == self.width
                };
                let outermost = pixels.iter().enumerate().filter(|(at, _)| edge(at));
                values.extend(outermost.map(|(_, value)| *value));
            }
        }
        let median = |values: &mut Vec<f32>| {
            values.sort_by(f32::total_cmp);
            values.get(values.len() / 2).map_or(-1.0, |value| f64::from(*value))
        };
        channels.iter_mut().map(median).collect()
    }

    /// The batch of step `step` in `order`; with `flip` half of its images are mirrored.
    ///
    /// # Errors
    /// As [`Examples::batch`]; [`Error::Config`] for a batch of more images than rows of noise can be numbered.
    pub fn next(&self, order: &mut BatchOrder, step: u64, count: usize, flip: bool) -> Result<Batch> {
        numbered(count)?;
        let all: Vec<usize> = (0..count).collect();
        self.next_of(order, step, count, flip, &all)
    }

    /// As [`Examples::next`], with the images of the rows `own` of the batch alone, beside the labels of all.
    ///
    /// # Errors
    /// As [`Examples::next`].
    pub fn next_of(
        &self,
        order: &mut BatchOrder,
        step: u64,
        count: usize,
        flip: bool,
        own: &[usize],
    ) -> Result<Batch> {
        numbered(count)?;
        let rows: Vec<usize> = order.indices(step, count).into_iter().map(|row| row as usize).collect();
        let mut batch = self.batch_of(&rows, own)?;
        if flip {
            for (row, image) in own.iter().zip(batch.images.chunks_exact_mut(self.image_len)) {
                order.flip(step, *row, image, self.width);
            }
        }
        Ok(batch)
    }

    /// The images of `rows`, one after the other.
    ///
    /// # Errors
    /// [`Error::Shape`] for a row that is not there.
    pub fn batch(&self, rows: &[usize]) -> Result<Batch> {
        let all: Vec<usize> = (0..rows.len()).collect();
        self.batch_of(rows, &all)
    }

    /// As [`Examples::batch`], with the images of some of the rows alone: `own` says which of them, by their place in `rows`.
    ///
    /// # Errors
    /// As [`Examples::batch`].
    pub fn batch_of(&self, rows: &[usize], own: &[usize]) -> Result<Batch> {
        let mut images = Vec::with_capacity(own.len() * self.image_len);
        for place in own {
            let row = rows.get(*place).copied().unwrap_or(usize::MAX);
            if !self.pixels.extend(row, self.image_len, &mut images) {
                let detail = format!("row {row} of {} images", self.count);
                return Err(Error::shape("batch", detail));
            }
        }
        Ok(Batch { images, labels: self.labels.pick(rows, self.classes)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_among_others_are_batched_as_those_that_lie_together() {
        let config = ModelConfig { image_size: 1, num_classes: 2, ..ModelConfig::default() };
        let labels = Labels::Classes(vec![0, 1, 0]);
        let examples = |pixels| Examples::new(&config, pixels, &labels);
        let all = [7, 0, 51, 255];
        let chosen = examples(Pixels::Rows { levels: &all, rows: &[3, 1, 2] }).unwrap();
        let together = examples(Pixels::Levels(&[255, 0, 51])).unwrap();
        let [chosen, together] = [chosen, together].map(|examples| examples.batch(&[2, 0, 1]).unwrap());
        assert_eq!((chosen.images, chosen.labels), (together.images, together.labels));
        let own = examples(Pixels::Levels(&[255, 0, 51])).unwrap().batch_of(&[2, 0, 1], &[1]).unwrap();
        assert_eq!((own.images, own.labels.len(2)), (vec![1.0], 3));
        // One that is not among them, and too few.
        let beyond = examples(Pixels::Rows { levels: &all, rows: &[0, 4, 1] }).unwrap();
        assert!(beyond.batch(&[0]).is_ok() && beyond.batch(&[1]).is_err() && beyond.batch(&[3]).is_err());
        assert!(examples(Pixels::Rows { levels: &all, rows: &[0, 1] }).is_err());
    }

    #[test]
    fn a_border_is_the_median_of_the_outermost_pixels() {
        let config = ModelConfig { image_size: 3, in_channels: 2, num_classes: 1, ..ModelConfig::default() };
        // White inside; the first channel's edges are black but for two, the second one's all of another grey.
        let mut levels = vec![0, 0, 9, 0, 255, 0, 0, 255, 0];
        levels.extend([51, 51, 51, 51, 255, 51, 51, 51, 51]);
        let labels = Labels::Classes(vec![0]);
        let examples = Examples::new(&config, Pixels::Levels(&levels), &labels).unwrap();
        assert_eq!(examples.border(), [-1.0, f64::from(picture::value(51))]);
        let values = [0.25f32; 2 * 18];
        let labels = Labels::Classes(vec![0, 0]);
        let examples = Examples::new(&config, Pixels::Values(&values), &labels).unwrap();
        assert_eq!(examples.border(), [0.25, 0.25]);
    }
}
