//! Whether a change lies where a box says that a thing is.

use super::change::{VISIBLE, regions};

/// A box: left, top, right and bottom edge in pixels.
pub type Edges = [f64; 4];

/// The pixels \[H,W\] of a square picture whose centre lies in one of the boxes.
pub fn covered(boxes: &[Edges], size: usize) -> Vec<bool> {
    let centre = |at: usize| at as f64 + 0.5;
    let inside = |pixel: usize| {
        let (x, y) = (centre(pixel % size.max(1)), centre(pixel / size.max(1)));
        boxes
            .iter()
            .any(|[left, top, right, bottom]| (*left..*right).contains(&x) && (*top..*bottom).contains(&y))
    };
    (0..size * size).map(inside).collect()
}

/// How much of a change lies in a region, and how large that is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placement {
    /// Share of the sum of all pixels' absolute differences. Of a change that knows nothing of the region it is, in the mean,
    /// the region's area.
    pub share: f64,
    /// Share of the picture's pixels.
    pub area: f64,
    /// Whether the pixel that changes most lies in it (the pointing game of Zhang et al. 2018); by chance as often as the area is
    /// large.
    pub hit: bool,
}

impl Placement {
    /// Of each pixel's difference; `None` where nothing changed, and of a region that is empty.
    pub fn of(differences: &[f64], region: &[bool]) -> Option<Placement> {
        let total: f64 = differences.iter().sum();
        let pixels = region.iter().filter(|inside| **inside).count();
        if total <= 0.0 || pixels == 0 {
            return None;
        }
        let inside = differences.iter().zip(region).filter(|(_, inside)| **inside);
        let most = (0..differences.len()).max_by(|a, b| differences[*a].total_cmp(&differences[*b]))?;
        Some(Placement {
            share: inside.map(|(difference, _)| difference).sum::<f64>() / total,
            area: pixels as f64 / region.len() as f64,
            hit: region.get(most).copied().unwrap_or(false),
        })
    }
}

/// The connected part of a change that holds most of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Largest {
    /// Its share of the sum of all pixels' absolute differences.
    pub share: f64,
    /// Its pixels.
    pub pixels: usize,
    /// Parts that there are.
    pub parts: usize,
}

impl Largest {
    /// Of each pixel's difference; parts are of pixels that differ by more than [`VISIBLE`] and touch, at a corner at least.
    /// `None` where there is none.
    pub fn of(differences: &[f64], size: usize) -> Option<Largest> {
        let visible: Vec<bool> = differences.iter().map(|amount| *amount > VISIBLE).collect();
        let parts = regions(&visible, size);
        let amount = |part: &[usize]| part.iter().map(|pixel| differences[*pixel]).sum::<f64>();
        let largest = parts.iter().max_by(|a, b| amount(a).total_cmp(&amount(b)))?;
        let share = amount(largest) / differences.iter().sum::<f64>();
        Some(Largest { share, pixels: largest.len(), parts: parts.len() })
    }
}

/// The middle one of sorted numbers, of two the lower; `None` where there are none.
pub fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pixel_is_in_a_box_with_its_centre() {
        // Of 4 × 4 pixels two columns of the upper three rows; the second box adds the last pixel, a third none.
        let region = covered(&[[0.6, 0.0, 2.6, 2.9], [3.0, 3.0, 4.0, 4.0], [3.6, 0.0, 3.9, 0.4]], 4);
        let inside: Vec<usize> = (0..16).filter(|pixel| region[*pixel]).collect();
        assert_eq!(inside, [1, 2, 5, 6, 9, 10, 15]);
        assert!(covered(&[], 3).iter().all(|inside| !inside));
    }

    #[test]
    fn the_share_inside_the_area_and_the_most_changed_pixel() {
        let region = [true, true, false, false, false, false, false, false];
        let found = Placement::of(&[0.5, 0.1, 0.2, 0.2, 0.0, 0.0, 0.0, 0.0], &region).unwrap();
        assert!((found.share - 0.6).abs() < 1e-12 && found.area == 0.25 && found.hit, "{found:?}");
        let outside = Placement::of(&[0.1, 0.0, 0.3, 0.0, 0.0, 0.0, 0.0, 0.0], &region).unwrap();
        assert!((outside.share - 0.25).abs() < 1e-12 && !outside.hit, "as a change that knows nothing");
        assert_eq!(Placement::of(&[0.0; 8], &region), None);
        assert_eq!(Placement::of(&[1.0; 8], &[false; 8]), None);
    }

    #[test]
    fn the_largest_part_is_the_one_that_changes_most() {
        // One strong pixel, three weak ones that touch, and haze that is not seen.
        let mut differences = vec![0.01; 16];
        differences[0] = 0.5;
        for pixel in [10, 11, 15] {
            differences[pixel] = 0.1;
        }
        let found = Largest::of(&differences, 4).unwrap();
        assert!((found.share - 0.5 / 0.92).abs() < 1e-12, "{found:?}");
        assert_eq!((found.pixels, found.parts), (1, 2));
        differences[0] = 0.2;
        assert_eq!(Largest::of(&differences, 4).unwrap().pixels, 3);
        assert_eq!(Largest::of(&[0.01; 16], 4), None);
        assert_eq!(
            (median(vec![3.0, 1.0, 2.0]), median(vec![2.0, 1.0]), median(vec![])),
            (Some(2.0), Some(1.0), None)
        );
    }
}
