//! Explanations side by side: a row each, behind its words, with a picture of every column.

use super::render::{GAP, Grid, INK, MOST_PIXELS, PAPER, Palette, margin, save};
use super::text;
use duet::{Error, Result};
use image::{Rgb, RgbImage};
use std::path::Path;

/// Pixels of a side of a picture, about.
const STRIP_SIDE: usize = 112;
/// How much wider than high a picture of many explanations is, about.
const LANDSCAPE: f64 = 1.4;
/// Pixels between blocks of explanations.
const BLOCK_GAP: u32 = 16;
const FRAME: Rgb<u8> = Rgb([170, 170, 170]);

/// A column of a picture of explanations.
pub struct Column<'a> {
    /// What stands above it.
    pub title: &'static str,
    /// How its pictures are drawn.
    pub palette: Palette,
    /// One of each explanation.
    pub pictures: Vec<&'a [f32]>,
    /// How solid each pixel of each is, 0 to 1 \[H,W\]; empty: all are.
    pub solid: Vec<&'a [f32]>,
}

impl<'a> Column<'a> {
    /// Pictures that are solid everywhere.
    pub fn new(title: &'static str, palette: Palette, pictures: Vec<&'a [f32]>) -> Column<'a> {
        Column { title, palette, pictures, solid: Vec::new() }
    }
}

impl Grid {
    /// Draws explanations of `count` images in `columns` pictures each, beside any of `labels`: about as large as can well be
    /// seen, or as still fits into a picture that can be drawn.
    ///
    /// # Errors
    /// [`Error::Config`] for more images than fit at all.
    pub fn for_strips(
        channels: usize,
        size: usize,
        count: usize,
        columns: usize,
        labels: &[String],
    ) -> Result<Grid> {
        let margin = margin(labels.iter().map(String::as_str));
        let largest = ((STRIP_SIDE + size / 2) / size.max(1)).max(1) as u32;
        let grids = (1..=largest).rev().map(|scale| Grid { channels, size, scale });
        let fits = |grid: &Grid| grid.blocks(count, columns, margin).pixels() <= MOST_PIXELS;
        grids.into_iter().find(fits).ok_or_else(|| {
            Error::config(
                "images",
                format!("{count} are too many for one picture: give fewer at a time, or --all"),
            )
        })
    }

    /// How explanations stand: in rows below each other, many in several blocks side by side.
    fn blocks(&self, count: usize, columns: usize, margin: u32) -> Blocks {
        let [cell, width] = [self.cell(), margin + columns as u32 * self.cell() + BLOCK_GAP].map(u64::from);
        let side_by_side = (LANDSCAPE * count as f64 * cell as f64 / width as f64).sqrt().round() as u64;
        let rows = (count as u64).div_ceil(side_by_side.max(1)).max(1);
        let blocks = (count as u64).div_ceil(rows).max(1);
        let title = u64::from(text::HEIGHT + 2 * GAP);
        Blocks { rows, width, size: [blocks * width, title + rows * cell] }
    }

    /// Saves explanations: a row each, in which its lines of `labels` stand before a picture of every column.
    ///
    /// # Errors
    /// [`Error::Write`] where the file cannot be written; [`Error::Config`] for more than fit into a picture.
    pub fn save_strips(&self, path: &Path, labels: &[Vec<String>], columns: &[Column]) -> Result<()> {
        let margin = margin(labels.iter().flatten().map(String::as_str));
        let blocks = self.blocks(labels.len(), columns.len(), margin);
        if blocks.pixels() > MOST_PIXELS {
            let detail = format!("{} are too many for one picture", labels.len());
            return Err(Error::config("images", detail));
        }
        // The last block's gap is left out.
        let [width, height] = [blocks.size[0] - u64::from(BLOCK_GAP), blocks.size[1]].map(|side| side as u32);
        let mut picture = RgbImage::from_pixel(width, height, PAPER);
        let first_row = text::HEIGHT + 2 * GAP;
        for block in 0..width.div_ceil(blocks.width as u32) {
            for (x, column) in (0u32..).zip(columns) {
                let left = block * blocks.width as u32 + margin + x * self.cell();
                // What is wider than its column would run into the next one's.
                let fits = |title: &&str| text::width(title) <= self.cell();
                let cut = (0..=column.title.len()).rev().filter_map(|end| column.title.get(..end)).find(fits);
                text::write(&mut picture, [left, GAP], cut.unwrap_or_default(), INK);
            }
        }
        for (i, lines) in labels.iter().enumerate() {
            let (block, row) = (i as u32 / blocks.rows as u32, i as u32 % blocks.rows as u32);
            let (left, top) = (block * blocks.width as u32, first_row + row * self.cell());
            let lines: Vec<&String> = lines.iter().take((self.cell() / text::HEIGHT) as usize).collect();
            let room = (self.cell() - GAP).saturating_sub(lines.len() as u32 * text::HEIGHT) / 2;
            for (y, line) in (0u32..).zip(lines) {
                text::write(&mut picture, [left + GAP, top + room + y * text::HEIGHT], line, INK);
            }
            for (x, column) in (0u32..).zip(columns) {
                let Some(image) = column.pictures.get(i) else { continue };
                let place = [left + margin + x * self.cell(), top];
                // A thin frame, so that white pictures end where they end.
                for y in top - 1..(top + self.cell() - 1).min(height) {
                    for x in place[0] - 1..(place[0] + self.cell() - 1).min(width) {
                        picture.put_pixel(x, y, FRAME);
                    }
                }
                self.draw(&mut picture, place, image, column.palette, column.solid.get(i).copied());
            }
        }
        save(path, &picture)
    }
}

/// How explanations stand in a picture.
struct Blocks {
    /// Explanations below each other.
    rows: u64,
    /// Pixels of a block.
    width: u64,
    /// Width and height of all.
    size: [u64; 2],
}

impl Blocks {
    fn pixels(&self) -> u64 {
        self.size[0].saturating_mul(self.size[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::render::{BRIGHTER, DARK, DARKER, FAINT, fade};

    /// A column of pictures without solidity.
    fn column<'a>(title: &'static str, palette: Palette, pictures: Vec<&'a [f32]>) -> Column<'a> {
        Column { title, palette, pictures, solid: Vec::new() }
    }

    #[test]
    fn explanations_stand_in_rows_behind_their_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("strips.png");
        let grid = Grid { channels: 1, size: 2, scale: 3 };
        let (black, change, half) = ([-1.0f32; 4], [2.0f32, -2.0, 0.0, 0.5], [1.0f32, 0.0, 1.0, 0.5]);
        let mut columns = [
            column("a", Palette::Image, vec![&black]),
            column("b", Palette::Difference, vec![&change]),
            column("c", Palette::Share, vec![&half]),
        ];
        let labels = [vec!["Coat".to_owned()]];
        grid.save_strips(&path, &labels, &columns).unwrap();
        let drawn = || image::open(&path).unwrap().to_rgb8();
        let (left, top) = (margin(["Coat"]), text::HEIGHT + 2 * GAP);
        let pixel = |picture: &RgbImage, column: u32, x: u32, y: u32| {
            *picture.get_pixel(left + column * 8 + 3 * x, top + 3 * y)
        };
        let picture = drawn();
        assert_eq!(picture.dimensions(), (left + 3 * 8, top + 8));
        assert_eq!(pixel(&picture, 0, 0, 0), Rgb([0; 3]));
        let difference = [[0, 0], [1, 0], [0, 1], [1, 1]].map(|[x, y]| pixel(&picture, 1, x, y));
        // Half of the full colour at a quarter of the range, on a scale that no other pixel changes.
        assert_eq!(difference, [BRIGHTER, DARKER, PAPER, fade(BRIGHTER, 0.5)]);
        assert_eq!(
            [[0, 0], [1, 0], [1, 1]].map(|[x, y]| pixel(&picture, 2, x, y)),
            [DARK, PAPER, fade(DARK, 0.5)]
        );
        columns[1].solid = vec![&half];
        grid.save_strips(&path, &labels, &columns).unwrap();
        let picture = drawn();
        assert_eq!(pixel(&picture, 1, 0, 0), BRIGHTER, "stable changes are solid");
        assert_eq!(pixel(&picture, 1, 1, 0), fade(DARKER, FAINT), "unstable ones faint");
    }

    #[test]
    fn many_strips_stand_side_by_side() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("strips.png");
        let grid = Grid { channels: 1, size: 2, scale: 3 };
        let (black, white) = ([-1.0f32; 4], [1.0f32; 4]);
        let mut pictures: Vec<&[f32]> = vec![&black; 40];
        pictures[38] = &white;
        let labels = vec![vec!["abc".to_owned(), "left out: too low".to_owned()]; 40];
        grid.save_strips(&path, &labels, &[column("a", Palette::Image, pictures)]).unwrap();
        let picture = image::open(&path).unwrap().to_rgb8();
        let width = margin(["left out: too low"]) + 8 + BLOCK_GAP;
        let [blocks, rows] =
            [picture.width().div_ceil(width), (picture.height() - text::HEIGHT - 2 * GAP) / 8];
        assert!(blocks * rows >= 40 && (blocks - 1) * rows < 40, "{blocks} blocks of {rows}");
        let (block, row) = (38 / rows, 38 % rows);
        let left = block * width + width - 8 - BLOCK_GAP;
        let top = text::HEIGHT + 2 * GAP + row * 8;
        assert_eq!(picture.get_pixel(left, top), &Rgb([255; 3]));
        assert_eq!(picture.get_pixel(left, top - 8), &Rgb([0; 3]), "the one above it");
    }

    #[test]
    fn pictures_beyond_measure_are_refused_before_they_are_drawn() {
        let names: Vec<String> = vec!["a".into()];
        let path = Path::new("never.png");
        let strips = |size, count| Grid::for_strips(1, size, count, 3, &names).map(|grid| grid.scale);
        for (size, count, scale) in [(28, 1, 4), (8, 1, 14), (64, 1, 2), (28, 1000, 4), (28, 10_000, 1)] {
            assert_eq!(strips(size, count).unwrap(), scale, "{size} {count}");
        }
        let error = strips(28, 1_000_000).unwrap_err().to_string();
        assert!(error.contains("images") && error.contains("--all"), "{error}");
        let tiny = Grid { channels: 1, size: 28, scale: 4 };
        let part = vec![0.0; 28 * 28];
        let columns = [column("a", Palette::Image, vec![&part[..]; 100_000])];
        let error = tiny.save_strips(path, &vec![names.clone(); 100_000], &columns).unwrap_err().to_string();
        assert!(error.contains("100000 are too many"), "{error}");
    }
}
