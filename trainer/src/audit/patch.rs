//! A flagged place cut out of what a class has there, pasted into images of other classes.

use duet::rng::{Seed, shuffle};

/// A part of an image: some pixels and their values.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// Places in \[H,W\].
    pub pixels: Vec<usize>,
    /// Values \[C,pixels\] in −1..1.
    values: Vec<f32>,
}

impl Patch {
    /// These pixels of an image \[C,H,W\] of `plane` pixels.
    pub fn cut(image: &[f32], pixels: &[usize], plane: usize) -> Patch {
        let channels = image.chunks_exact(plane);
        let values = channels.flat_map(|channel| pixels.iter().map(|pixel| channel[*pixel])).collect();
        Patch { pixels: pixels.to_vec(), values }
    }

    /// The same elsewhere.
    pub fn at(&self, pixels: Vec<usize>) -> Patch {
        Patch { pixels, values: self.values.clone() }
    }

    /// Each of `images` \[N,C,H,W\] with the patch on it.
    pub fn paste(&self, images: &[f32], plane: usize) -> Vec<f32> {
        let channels = self.values.len() / self.pixels.len().max(1);
        let mut pasted = images.to_vec();
        for image in pasted.chunks_exact_mut(channels * plane) {
            let parts = image.chunks_exact_mut(plane).zip(self.values.chunks_exact(self.pixels.len()));
            for (channel, values) in parts {
                self.pixels.iter().zip(values).for_each(|(pixel, value)| channel[*pixel] = *value);
            }
        }
        pasted
    }
}

/// Up to `count` other places, by chance, for `pixels` of an image of `height` × `width`: inside the image and apart from where
/// they are.
pub fn elsewhere(pixels: &[usize], [height, width]: [usize; 2], count: usize, seed: Seed) -> Vec<Vec<usize>> {
    let (rows, columns) = (pixels.iter().map(|p| p / width), pixels.iter().map(|p| p % width));
    let extent = |values: &mut dyn Iterator<Item = usize>| {
        values.fold((usize::MAX, 0), |(low, high), value| (low.min(value), high.max(value)))
    };
    let ((top, bottom), (left, right)) = (extent(&mut rows.clone()), extent(&mut columns.clone()));
    if pixels.is_empty() {
        return Vec::new();
    }
    let (tall, wide) = (bottom - top + 1, right - left + 1);
    let mut corners: Vec<u32> = (0..(height + 1 - tall) * (width + 1 - wide)).map(|i| i as u32).collect();
    shuffle(seed, 0, &mut corners);
    let mut places = Vec::new();
    for corner in corners {
        let (y, x) = (corner as usize / (width + 1 - wide), corner as usize % (width + 1 - wide));
        if y.abs_diff(top) >= tall || x.abs_diff(left) >= wide {
            let moved = rows.clone().zip(columns.clone());
            places.push(moved.map(|(row, column)| (row - top + y) * width + column - left + x).collect());
        }
        if places.len() == count {
            break;
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_replaces_its_pixels_in_every_channel() {
        // Two channels of 2 × 3 pixels.
        let image: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let patch = Patch::cut(&image, &[1, 5], 6);
        let pasted = patch.paste(&[-1.0; 24], 6);
        let one = [-1.0, 1.0, -1.0, -1.0, -1.0, 5.0, -1.0, 7.0, -1.0, -1.0, -1.0, 11.0];
        assert_eq!(pasted, [one, one].concat());
        assert_eq!(patch.at(vec![0, 4]).paste(&[-1.0; 12], 6)[6..], [7.0, -1.0, -1.0, -1.0, 11.0, -1.0]);
    }

    #[test]
    fn other_places_are_inside_and_apart() {
        // An L of three pixels in the corner of 5 × 6.
        let pixels = [0, 6, 7];
        let places = elsewhere(&pixels, [5, 6], 100, Seed(3));
        // Of 4 × 5 places of its 2 × 2 box four overlap the corner's.
        assert_eq!(places.len(), 16);
        for place in &places {
            let [a, b, c] = place[..] else { panic!("{place:?}") };
            assert!(b == a + 6 && c == a + 7 && c < 30 && a % 6 < 5, "{place:?}");
            assert!(place.iter().all(|pixel| !pixels.contains(pixel)), "{place:?}");
        }
        assert_eq!(elsewhere(&pixels, [5, 6], 4, Seed(3)), places[..4]);
        assert!(elsewhere(&(0..30).collect::<Vec<_>>(), [5, 6], 4, Seed(3)).is_empty());
        assert!(elsewhere(&[], [5, 6], 4, Seed(3)).is_empty());
    }
}
