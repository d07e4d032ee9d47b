//! The order in which training sees the data: a function of seed and step alone, so that a resumed run goes on exactly.

use duet::rng::{Seed, Stream, block, shuffle};

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
}
