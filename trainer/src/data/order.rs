//! The order in which training sees the data: a function of seed and step alone, so that a resumed run goes on exactly.

use super::Dataset;
use duet::Result;
use duet::rng::{Seed, Stream, block, shuffle};
use duet::train::Batch;

/// Shuffled epochs without the incomplete last batch.
pub struct BatchOrder {
    seed: Seed,
    epoch: Option<u64>,
    order: Vec<u32>,
}

impl BatchOrder {
    /// Over `len` images.
    pub fn new(len: usize, seed: u64) -> BatchOrder {
        BatchOrder { seed: Seed(seed), epoch: None, order: (0..len as u32).collect() }
    }

    /// The images of step `step` with batches of `batch`. A set smaller than a batch is repeated within it.
    pub fn indices(&mut self, step: u64, batch: usize) -> Vec<u32> {
        let per_epoch = (self.order.len() / batch).max(1) as u64;
        let (epoch, place) = (step / per_epoch, (step % per_epoch) as usize);
        if self.epoch != Some(epoch) {
            for (i, item) in self.order.iter_mut().enumerate() {
                *item = i as u32;
            }
            shuffle(self.seed, epoch as u32, &mut self.order);
            self.epoch = Some(epoch);
        }
        (0..batch).map(|i| self.order[(place * batch + i) % self.order.len()]).collect()
    }

    /// Images and labels of step `step`, `batch` of them; with `flip`, half of the images mirrored.
    ///
    /// # Errors
    /// [`duet::Error::Shape`] where the data have fewer labels than images.
    pub fn batch(&mut self, data: &Dataset, step: u64, batch: usize, flip: bool) -> Result<Batch> {
        let rows: Vec<usize> = self.indices(step, batch).into_iter().map(|row| row as usize).collect();
        let mut images = data.images_f32(&rows);
        if flip {
            for (row, image) in images.chunks_mut(data.image_len()).enumerate() {
                self.flip(step, row, image, data.size);
            }
        }
        Ok(Batch { images, labels: data.labels.pick(&rows, data.class_names.len())? })
    }

    /// Mirrors an image \[C,H,W\] of rows of `width` for half of all (step, row).
    pub fn flip(&self, step: u64, row: usize, image: &mut [f32], width: usize) {
        let words = block(self.seed, Stream::Shuffle as u32, step as u32, row as u32, u32::MAX);
        if words[0] & 1 == 1 {
            image.chunks_exact_mut(width).for_each(<[f32]>::reverse);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use duet::model::Labels;

    #[test]
    fn an_epoch_visits_each_image_once_and_any_step_can_be_asked_for() {
        let mut order = BatchOrder::new(10, 3);
        let mut seen: Vec<u32> = (0..3).flat_map(|step| order.indices(step, 3)).collect();
        let later = order.indices(7, 3);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 9);
        assert_eq!(BatchOrder::new(10, 3).indices(7, 3), later);
        assert_ne!(BatchOrder::new(10, 4).indices(7, 3), later);
        assert_eq!(BatchOrder::new(2, 1).indices(5, 6).len(), 6);
    }

    #[test]
    fn about_half_of_the_images_are_mirrored() {
        let order = BatchOrder::new(10, 3);
        let mirrored = (0..400).filter(|row| {
            let mut image = [0.0, 1.0];
            order.flip(5, *row, &mut image, 2);
            image[0] == 1.0
        });
        assert!((150..250).contains(&mirrored.count()));
    }

    /// Four images of one grey level each; the labels say which are bright and which come first.
    fn labelled() -> Dataset {
        let images = [0u8, 255, 0, 255].iter().flat_map(|level| [*level; 64]).collect();
        let labels = Labels::MultiLabel(vec![0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
        let class_names = vec!["bright".into(), "early".into()];
        Dataset { images, labels, channels: 1, size: 8, class_names }
    }

    #[test]
    fn a_batch_holds_each_image_with_its_labels() {
        let mut order = BatchOrder::new(4, 3);
        let rows = order.indices(0, 4);
        let batch = order.batch(&labelled(), 0, 4, true).unwrap();
        let expected: Vec<f32> =
            rows.iter().flat_map(|row| [f32::from(row % 2 == 1), f32::from(*row < 2)]).collect();
        assert_eq!(batch.labels, Labels::MultiLabel(expected));
        for (image, row) in batch.images.chunks(64).zip(rows) {
            assert!(image.iter().all(|value| *value == if row % 2 == 1 { 1.0 } else { -1.0 }));
        }
    }
}
