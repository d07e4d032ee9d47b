//! COUT, counterfactual transition (Khorram and Fuxin 2022), as ACE computes it (Jeanneret et al. 2023): how soon the
//! classifier changes its mind when the counterfactual's pixels are put into the image, the most changed first. −1 to 1, more
//! is better: a change that is small and decides scores high.
//!
//! The area under a curve is the trapezoid rule's over blocks of 1/50 of the pixels, with a last block that may be cut short
//! and counts in full, as ACE has it: at 28 × 28 the score's largest magnitude is 1.014.

/// Blocks that a picture has about.
const BLOCKS: usize = 50;

/// The way from an image to its counterfactual, both \[C,H,W\].
#[derive(Clone, Debug)]
pub struct Insertion<'a> {
    original: &'a [f32],
    counterfactual: &'a [f32],
    /// Pixels, the most changed first.
    order: Vec<usize>,
    /// Pixels of a block.
    step: usize,
    /// Blocks until nothing changes any more.
    changing: usize,
}

impl<'a> Insertion<'a> {
    /// Of pictures of so many `channels`. Pixels that change equally keep the order of the picture.
    pub fn new(original: &'a [f32], counterfactual: &'a [f32], channels: usize) -> Insertion<'a> {
        let pixels = original.len() / channels.max(1);
        let change = |pixel: usize| -> f32 {
            let values = (pixel..original.len()).step_by(pixels.max(1));
            values.map(|at| (counterfactual[at] - original[at]).abs()).sum()
        };
        // Their scaling to 0..1 leaves the order as it is.
        let changes: Vec<f32> = (0..pixels).map(change).collect();
        let mut order: Vec<usize> = (0..pixels).collect();
        order.sort_by(|a, b| changes[*b].total_cmp(&changes[*a]));
        let step = (pixels / BLOCKS).max(1);
        let changing = changes.iter().filter(|change| **change > 0.0).count().div_ceil(step);
        Insertion { original, counterfactual, order, step, changing }
    }

    /// Pictures on the way that differ: the image, and after each block until the counterfactual is reached.
    pub fn pictures(&self) -> Vec<f32> {
        let pixels = self.order.len();
        let mut picture = self.original.to_vec();
        let mut all = picture.clone();
        for block in self.order.chunks(self.step).take(self.changing) {
            for at in block.iter().flat_map(|pixel| (*pixel..self.original.len()).step_by(pixels)) {
                picture[at] = self.counterfactual[at];
            }
            all.extend_from_slice(&picture);
        }
        all
    }

    /// How many there are of [`Insertion::pictures`].
    pub fn count(&self) -> usize {
        self.changing + 1
    }

    /// The score, of the probabilities that the classifier gives the target and the class it saw in the image, for each of
    /// [`Insertion::pictures`]. Of a counterfactual that is its image it is the difference of the two.
    pub fn score(&self, target: &[f32], source: &[f32]) -> f64 {
        self.area(target) - self.area(source)
    }

    /// The area under the curve of a class's probability; blocks that change nothing repeat its end.
    fn area(&self, curve: &[f32]) -> f64 {
        let pixels = self.order.len();
        let blocks = pixels.div_ceil(self.step);
        let at = |record: usize| curve.get(record.min(self.changing)).copied().map_or(0.0, f64::from);
        let inside: f64 = (1..blocks).map(at).sum();
        (at(0) / 2.0 + inside + at(blocks) / 2.0) * self.step as f64 / pixels.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The score where a class's probability is a function of the picture.
    fn score(
        original: &[f32],
        counterfactual: &[f32],
        channels: usize,
        target: impl Fn(&[f32]) -> f32,
    ) -> f64 {
        let insertion = Insertion::new(original, counterfactual, channels);
        let pictures = insertion.pictures();
        let target: Vec<f32> = pictures.chunks(original.len()).map(target).collect();
        assert_eq!(target.len(), insertion.count());
        let source: Vec<f32> = target.iter().map(|p| 1.0 - p).collect();
        insertion.score(&target, &source)
    }

    #[test]
    fn the_most_changed_pixels_go_first() {
        // Four pixels of one block each, changed by 0.1, 0.4, 0, 0.2.
        let (x, y) = ([0.0, 0.0, 0.5, 0.0], [0.1, -0.4, 0.5, 0.2]);
        let insertion = Insertion::new(&x, &y, 1);
        let want =
            [[0.0, 0.0, 0.5, 0.0], [0.0, -0.4, 0.5, 0.0], [0.0, -0.4, 0.5, 0.2], [0.1, -0.4, 0.5, 0.2]];
        assert_eq!(insertion.pictures(), want.concat());
        // Records 0, 1, 1, 1 and 1 again for the unchanged pixel: (0/2 + 1 + 1 + 1 + 1/2) / 4.
        let decided = |p: &[f32]| if p[1] < 0.0 { 1.0 } else { 0.0 };
        assert_eq!(score(&x, &y, 1, decided), 3.5 / 4.0 - 0.5 / 4.0);
        // The least changed pixel decides: 0, 0, 0, 1, 1.
        let late = |p: &[f32]| if p[0] > 0.0 { 1.0 } else { 0.0 };
        assert_eq!(score(&x, &y, 1, late), 1.5 / 4.0 - 2.5 / 4.0);
    }

    #[test]
    fn all_channels_of_a_pixel_change_at_once() {
        // Two pixels of two channels; the second changes by 0.3 + 0.3, the first by 0.5.
        let (x, y) = ([0.0, 0.0, 0.0, 0.0], [0.5, 0.3, 0.0, -0.3]);
        let insertion = Insertion::new(&x, &y, 2);
        assert_eq!(insertion.pictures(), [[0.0; 4], [0.0, 0.3, 0.0, -0.3], [0.5, 0.3, 0.0, -0.3]].concat());
    }

    #[test]
    fn the_largest_score_at_28_pixels_is_ace_s() {
        // 784 pixels in blocks of 15 are 53, and 53 · 15 = 795.
        let (x, y) = (vec![-1.0; 784], vec![1.0; 784]);
        assert_eq!(Insertion::new(&x, &y, 1).count(), 54);
        let area = Insertion::new(&x, &y, 1).score(&[1.0; 54], &[0.0; 54]);
        assert!((area - 795.0 / 784.0).abs() < 1e-12, "{area}");
    }

    #[test]
    fn an_unchanged_image_scores_by_what_it_is() {
        let x = [0.3; 9];
        let insertion = Insertion::new(&x, &x, 1);
        assert_eq!((insertion.pictures(), insertion.count()), (x.to_vec(), 1));
        assert!((insertion.score(&[0.25], &[0.75]) + 0.5).abs() < 1e-12);
    }
}
