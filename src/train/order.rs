//! The order in which training sees the data: a function of seed and step alone, so that a resumed run goes on exactly.

use crate::rng::{Seed, Stream, block, shuffle};

/// Shuffled epochs without the incomplete last batch.
///
/// ```
/// use duet::train::BatchOrder;
///
/// // Ten images in batches of four: two batches an epoch.
/// let mut order = BatchOrder::new(10, 7);
/// let mut epoch = [order.indices(0, 4), order.indices(1, 4)].concat();
/// epoch.sort();
/// epoch.dedup();
/// assert_eq!(epoch.len(), 8); // none twice
/// // Step 5 is the same whether the steps before it were asked for or not.
/// assert_eq!(order.indices(5, 4), BatchOrder::new(10, 7).indices(5, 4));
/// ```
#[derive(Clone, Debug)]
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

    /// The images of step `step` with batches of `batch`. A set smaller than a batch is repeated within it; of an empty set
    /// there are none.
    pub fn indices(&mut self, step: u64, batch: usize) -> Vec<u32> {
        let len = self.order.len();
        if len == 0 || batch == 0 {
            return Vec::new();
        }
        let per_epoch = (len / batch).max(1) as u64;
        let (epoch, place) = (step / per_epoch, (step % per_epoch) as usize);
        if self.epoch != Some(epoch) {
            for (i, item) in self.order.iter_mut().enumerate() {
                *item = i as u32;
            }
            shuffle(self.seed, epoch as u32, &mut self.order);
            self.epoch = Some(epoch);
        }
        self.order.iter().skip(place * batch).chain(self.order.iter().cycle()).take(batch).copied().collect()
    }

    /// Mirrors an image \[C,H,W\] of rows of `width` for half of all (step, row).
    pub fn flip(&self, step: u64, row: usize, image: &mut [f32], width: usize) {
        let words = block(self.seed, Stream::Shuffle as u32, step as u32, row as u32, u32::MAX);
        if words[0] & 1 == 1 {
            image.chunks_exact_mut(width.max(1)).for_each(<[f32]>::reverse);
        }
    }
}
