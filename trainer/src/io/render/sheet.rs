//! Pictures of images in rows and columns that have names.

use super::{GAP, Grid, INK, MOST_PIXELS, PAPER, Palette, margin, save};
use crate::io::text;
use duet::{Error, Result};
use image::{Rgb, RgbImage};
use std::path::Path;

/// Pixels of a line with the names of columns.
const HEADER: u32 = text::HEIGHT + GAP;
/// Width of an outline.
const LINE: u32 = 2;
const OUTLINE: Rgb<u8> = Rgb([20, 20, 20]);

/// A picture of images in rows and columns that have names, with places of them outlined.
pub struct Sheet {
    grid: Grid,
    picture: RgbImage,
    margin: u32,
    column: u32,
}

impl Sheet {
    /// An empty one.
    ///
    /// # Errors
    /// [`Error::Config`] for one that is too large to be drawn.
    pub fn new(grid: Grid, rows: &[String], columns: &[&str]) -> Result<Sheet> {
        let margin = margin(rows.iter().map(String::as_str));
        // A name may be wider than its images.
        let column = columns.iter().map(|name| text::width(name) + 2 * GAP).fold(grid.cell(), u32::max);
        let width = u64::from(margin) + columns.len() as u64 * u64::from(column);
        let height = u64::from(HEADER) + rows.len() as u64 * u64::from(grid.cell()) + u64::from(GAP);
        if width * height > MOST_PIXELS {
            let detail =
                format!("{} rows of {} images are too many for one picture", rows.len(), columns.len());
            return Err(Error::config("images", detail));
        }
        let mut picture = RgbImage::from_pixel(width as u32, height as u32, PAPER);
        for (y, name) in (0u32..).zip(rows) {
            text::write(&mut picture, [GAP, grid.middle(HEADER + y * grid.cell() + GAP)], name, INK);
        }
        for (x, name) in (0u32..).zip(columns) {
            text::write(&mut picture, [margin + x * column, GAP], name, INK);
        }
        Ok(Sheet { grid, picture, margin, column })
    }

    fn place(&self, [column, row]: [u32; 2]) -> [u32; 2] {
        [self.margin + column * self.column, HEADER + row * self.grid.cell() + GAP]
    }

    /// Draws an image \[C,H,W\] in a column and a row.
    pub fn draw(&mut self, at: [u32; 2], image: &[f32], palette: Palette) {
        let place = self.place(at);
        self.grid.draw(&mut self.picture, place, image, palette, None);
    }

    /// Outlines the pixels for which `inside` \[H,W\] holds: a line along their edges, on the pixels beside them where there are
    /// any.
    pub fn outline(&mut self, at: [u32; 2], inside: &[bool]) {
        let ([left, top], size) = (self.place(at), self.grid.size);
        let (scale, side) = (self.grid.scale, (size as u32) * self.grid.scale);
        let is = |x: u32, y: u32| inside[(y / scale) as usize * size + (x / scale) as usize];
        for y in 0..side {
            for x in 0..side {
                let around = |reach: u32| {
                    let rows = y.saturating_sub(reach)..(y + reach + 1).min(side);
                    rows.flat_map(move |b| {
                        (x.saturating_sub(reach)..(x + reach + 1).min(side)).map(move |a| (a, b))
                    })
                };
                if !is(x, y) && around(LINE).any(|(a, b)| is(a, b)) {
                    self.picture.put_pixel(left + x, top + y, OUTLINE);
                }
            }
        }
    }

    /// Saves it.
    ///
    /// # Errors
    /// [`Error::Write`] where the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        save(path, &self.picture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::render::diverging;

    #[test]
    fn a_sheet_has_names_images_and_outlines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.png");
        let grid = Grid { channels: 1, size: 3, scale: 4 };
        let mut sheet = Sheet::new(grid, &["a".into(), "b".into()], &["first", "second"]).unwrap();
        sheet.draw([1, 1], &[0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0], Palette::Difference);
        let [left, top] = sheet.place([1, 1]);
        sheet.outline([1, 1], &[false, false, false, false, true, false, false, false, false]);
        sheet.save(&path).unwrap();
        let picture = image::open(&path).unwrap().to_rgb8();
        let (column, margin) = (text::width("second") + 2 * GAP, super::margin(["a"]));
        assert_eq!(picture.dimensions(), (margin + 2 * column, HEADER + 2 * 14 + GAP));
        let pixel = |x, y| *picture.get_pixel(left + x, top + y);
        // The pixel in the middle keeps its colour; the line runs around it.
        assert!(pixel(4, 4) == diverging(2.0) && pixel(7, 7) == diverging(2.0));
        assert!(pixel(3, 5) == OUTLINE && pixel(2, 2) == OUTLINE && pixel(8, 5) == OUTLINE);
        assert!(pixel(1, 5) == PAPER && pixel(10, 5) == PAPER);
        let many = vec![String::new(); 10_000_000];
        assert!(Sheet::new(grid, &many, &["a"]).is_err());
    }
}
