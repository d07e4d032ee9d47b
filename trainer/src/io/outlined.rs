//! Pictures of explanations beside boxes: what was to change is outlined.

use super::render::{GAP, Grid, INK, MOST_PIXELS, PAPER, Palette, margin, save};
use super::text;
use duet::{Error, Result};
use image::{Rgb, RgbImage};
use std::path::Path;

/// Titles of the rows of explanations with boxes.
const PLACED: [&str; 3] = ["original", "counterfactual", "difference"];
/// Boxes of what was to change, and of all else.
const OWN: Rgb<u8> = Rgb([0, 140, 60]);
const OTHER: Rgb<u8> = Rgb([140, 140, 140]);

/// An explanation with boxes in the image's pixels: left, top, right and bottom edge.
pub struct Outlined<'a> {
    /// The image \[C,H,W\] in −1..1.
    pub original: &'a [f32],
    /// What was made of it.
    pub counterfactual: &'a [f32],
    /// Counterfactual minus original.
    pub difference: &'a [f32],
    /// Boxes of what was to change.
    pub own: &'a [[f64; 4]],
    /// Boxes of all else.
    pub others: &'a [[f64; 4]],
}

impl Grid {
    /// Saves groups of explanations, each a title, then a column per image with its original, counterfactual and difference; boxes
    /// are outlined in the original and the difference.
    ///
    /// # Errors
    /// [`Error::Write`] where the file cannot be written; [`Error::Config`] for more images than one picture can hold.
    pub fn save_placed(&self, path: &Path, groups: &[(String, Vec<Outlined<'_>>)]) -> Result<()> {
        let margin = margin(PLACED);
        let columns = groups.iter().map(|(_, images)| images.len()).max().unwrap_or(0) as u32;
        let titles = groups.iter().map(|(title, _)| text::width(title) + 2 * GAP).max().unwrap_or(0);
        let width = (margin + columns * self.cell()).max(titles);
        let block = text::HEIGHT + 3 * self.cell() + 6 * GAP;
        let height = block * groups.len() as u32;
        if u64::from(width) * u64::from(height) > MOST_PIXELS {
            return Err(Error::config("images", "are too many for one picture"));
        }
        let mut picture = RgbImage::from_pixel(width.max(1), height.max(1), PAPER);
        for (b, (title, images)) in (0u32..).zip(groups) {
            let first = b * block + 2 * GAP;
            text::write(&mut picture, [GAP, first], title, INK);
            for (y, name) in (0u32..).zip(PLACED) {
                let top = first + text::HEIGHT + GAP + y * self.cell();
                text::write(&mut picture, [GAP, self.middle(top)], name, INK);
                for (x, image) in (0u32..).zip(images) {
                    let at = [margin + x * self.cell(), top];
                    let (part, palette) = match y {
                        0 => (image.original, Palette::Image),
                        1 => (image.counterfactual, Palette::Image),
                        _ => (image.difference, Palette::Difference),
                    };
                    self.draw(&mut picture, at, part, palette, None);
                    if y != 1 {
                        image.others.iter().for_each(|edges| self.outline(&mut picture, at, edges, OTHER));
                        image.own.iter().for_each(|edges| self.outline(&mut picture, at, edges, OWN));
                    }
                }
            }
        }
        save(path, &picture)
    }

    /// A line, a screen pixel wide, around a box in an image's pixels.
    fn outline(&self, picture: &mut RgbImage, [left, top]: [u32; 2], edges: &[f64; 4], colour: Rgb<u8>) {
        let last = self.size as u32 * self.scale - 1;
        let [x0, y0, x1, y1] = edges.map(|edge| ((edge * f64::from(self.scale)).round() as u32).min(last));
        let along = (x0..=x1).flat_map(|x| [(x, y0), (x, y1)]);
        for (x, y) in along.chain((y0..=y1).flat_map(|y| [(x0, y), (x1, y)])) {
            picture.put_pixel(left + x, top + y, colour);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_outlined_where_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("place.png");
        let grid = Grid { channels: 1, size: 4, scale: 4 };
        let image = [1.0f32; 16];
        let (own, others) = ([[1.0, 0.0, 3.0, 2.0]], [[0.0, 0.0, 4.0, 4.0]]);
        let one = || Outlined {
            original: &image,
            counterfactual: &image,
            difference: &[0.0; 16],
            own: &own,
            others: &others,
        };
        grid.save_placed(&path, &[("A, taken away".into(), vec![one(), one()]), ("A, given".into(), vec![])])
            .unwrap();
        let picture = image::open(&path).unwrap().to_rgb8();
        let margin = margin(PLACED);
        let block = text::HEIGHT + 3 * grid.cell() + 6 * GAP;
        assert_eq!(picture.height(), 2 * block);
        let top = 3 * GAP + text::HEIGHT;
        for (left, top) in [(margin, top), (margin + grid.cell(), top + 2 * grid.cell())] {
            let at = |x: u32, y: u32| *picture.get_pixel(left + x, top + y);
            assert_eq!([at(4, 0), at(12, 8), at(4, 5), at(6, 8)], [OWN; 4]);
            assert_eq!([at(0, 0), at(15, 15), at(0, 9)], [OTHER; 3]);
            assert_eq!([at(6, 4), at(14, 5)], [PAPER; 2]);
        }
        assert_eq!(*picture.get_pixel(margin, top + grid.cell()), PAPER, "the counterfactual stays as it is");
    }
}
