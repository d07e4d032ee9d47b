//! Pictures: grids of images with a name per row, and strips of explanations; as PNG or JPEG, as the file's ending says.

use super::files::Kind;
use super::text;
use crate::data::ending;
use duet::{Error, Result};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{DynamicImage, Rgb, RgbImage};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Most pixels of a picture: 200 MB while it is drawn. It is wider than any screen long before.
pub(super) const MOST_PIXELS: u64 = 1 << 26;
/// Quality of JPEG pictures, of 100.
const JPEG_QUALITY: u8 = 95;
/// Pixels between images.
pub(super) const GAP: u32 = 2;
/// Pixels of a line with the names of columns.
const HEADER: u32 = text::HEIGHT + GAP;
/// Width of an outline.
const LINE: u32 = 2;
const OUTLINE: Rgb<u8> = Rgb([20, 20, 20]);
/// Difference, of −2..2, from which on a colour is full: half of the range. The same for all images of all models, so that
/// pictures can be compared.
const FULL: f32 = 1.0;
pub(super) const PAPER: Rgb<u8> = Rgb([255, 255, 255]);
pub(super) const INK: Rgb<u8> = Rgb([40, 40, 40]);
pub(super) const DARK: Rgb<u8> = Rgb([72, 31, 112]);
pub(super) const BRIGHTER: Rgb<u8> = Rgb([190, 30, 45]);
pub(super) const DARKER: Rgb<u8> = Rgb([33, 76, 180]);
/// What is left of a colour where nothing is solid.
pub(super) const FAINT: f32 = 0.15;

/// How images of one model are drawn.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Grid {
    /// Channels.
    pub channels: usize,
    /// Height and width.
    pub size: usize,
    /// Screen pixels per pixel.
    pub scale: u32,
}

/// How values become colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Palette {
    /// Images in −1..1.
    Image,
    /// Differences in −2..2: blue where darker, white where equal, red where brighter.
    Difference,
    /// Shares in 0..1 of pixels \[H,W\]: white for none, dark for all.
    Share,
}

impl Grid {
    pub(super) fn cell(&self) -> u32 {
        self.size as u32 * self.scale + GAP
    }

    /// Where a line of text begins that stands beside the middle of an image from `top` on.
    pub(super) fn middle(&self, top: u32) -> u32 {
        top + (self.cell() - GAP).saturating_sub(text::HEIGHT) / 2
    }

    fn image_len(&self) -> usize {
        self.channels * self.size * self.size
    }

    /// Images that fit into each of `rows` rows behind `names`, in a picture that can be drawn.
    pub fn most_columns(&self, rows: usize, names: &[String]) -> usize {
        let height = rows.max(1) as u64 * u64::from(self.cell()) + u64::from(GAP);
        let margin = u64::from(margin(names.iter().map(String::as_str)));
        ((MOST_PIXELS / height).saturating_sub(margin) / u64::from(self.cell())) as usize
    }

    /// Saves rows of images \[N,C,H,W\], each behind its name.
    ///
    /// # Errors
    /// [`Error::Write`] where the file cannot be written; [`Error::Config`] for more images than [`Grid::most_columns`].
    pub fn save_rows(&self, path: &Path, rows: &[Vec<f32>], names: &[String]) -> Result<()> {
        let columns = rows.iter().map(|r| r.len() / self.image_len()).max().unwrap_or(0);
        let most = self.most_columns(rows.len(), names);
        if columns > most {
            let detail = format!("{columns} images in a row are too many for one picture: at most {most}");
            return Err(Error::config("count", detail));
        }
        let margin = margin(names.iter().map(String::as_str));
        let (width, height) = (margin + columns as u32 * self.cell(), rows.len() as u32 * self.cell() + GAP);
        let mut picture = RgbImage::from_pixel(width, height, PAPER);
        for (y, (row, name)) in (0u32..).zip(rows.iter().zip(names)) {
            let top = y * self.cell() + GAP;
            text::write(&mut picture, [GAP, self.middle(top)], name, INK);
            for (x, image) in (0u32..).zip(row.chunks_exact(self.image_len())) {
                self.draw(&mut picture, [margin + x * self.cell(), top], image, Palette::Image, None);
            }
        }
        save(path, &picture)
    }

    /// One image as a PNG file's bytes, without any frame; `solid` as in [`Column`].
    ///
    /// # Errors
    /// [`Error::Write`] naming `path`, for whose sake it is encoded.
    pub fn encode_one(
        &self,
        path: &Path,
        image: &[f32],
        palette: Palette,
        solid: Option<&[f32]>,
    ) -> Result<Vec<u8>> {
        let side = self.size as u32 * self.scale;
        let mut picture = RgbImage::from_pixel(side, side, PAPER);
        self.draw(&mut picture, [0, 0], image, palette, solid);
        png(path, &picture)
    }

    /// Saves one image without any frame.
    ///
    /// # Errors
    /// [`Error::Write`] where the file cannot be written.
    pub fn save_one(&self, path: &Path, image: &[f32]) -> Result<()> {
        Kind::Picture.write(path, &self.encode_one(path, image, Palette::Image, None)?)
    }

    pub(super) fn draw(
        &self,
        picture: &mut RgbImage,
        [left, top]: [u32; 2],
        image: &[f32],
        palette: Palette,
        solid: Option<&[f32]>,
    ) {
        let plane = self.size * self.size;
        for y in 0..self.size {
            for x in 0..self.size {
                let at = y * self.size + x;
                let value = |c: usize| image[(c % self.channels) * plane + at];
                let colour = match palette {
                    Palette::Image if self.channels >= 3 => {
                        Rgb([level(value(0)), level(value(1)), level(value(2))])
                    }
                    Palette::Image => Rgb([level(value(0)); 3]),
                    Palette::Difference => {
                        // Channels that change against each other have changed all the same.
                        let mean = (0..self.channels).map(value).sum::<f32>();
                        let most = (0..self.channels).map(|c| value(c).abs()).fold(0.0, f32::max);
                        diverging(most.copysign(mean))
                    }
                    Palette::Share => fade(DARK, image[at].clamp(0.0, 1.0)),
                };
                let colour = solid.map_or(colour, |solid| fade(colour, FAINT + (1.0 - FAINT) * solid[at]));
                for dy in 0..self.scale {
                    for dx in 0..self.scale {
                        let (px, py) = (left + x as u32 * self.scale + dx, top + y as u32 * self.scale + dy);
                        if px < picture.width() && py < picture.height() {
                            picture.put_pixel(px, py, colour);
                        }
                    }
                }
            }
        }
    }
}

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

/// Room for the longest of `names`.
pub(super) fn margin<'a>(names: impl IntoIterator<Item = &'a str>) -> u32 {
    names.into_iter().map(text::width).max().unwrap_or(0) + 3 * GAP
}

/// Grey level of a value in −1..1, what is outside clipped.
pub fn level(value: f32) -> u8 {
    ((value + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8
}

/// Blue for darker, white for 0, red for brighter: in proportion, and full from [`FULL`] on.
fn diverging(value: f32) -> Rgb<u8> {
    fade(if value < 0.0 { DARKER } else { BRIGHTER }, (value.abs() / FULL).min(1.0))
}

/// So much of a colour on white.
pub(super) fn fade(colour: Rgb<u8>, share: f32) -> Rgb<u8> {
    Rgb(colour.0.map(|to| (255.0 + (f32::from(to) - 255.0) * share).round() as u8))
}

/// Writes a picture in the format of the file's ending; others than those of JPEG are PNG's.
pub(super) fn save(path: &Path, picture: &RgbImage) -> Result<()> {
    let bytes = match ending(path).as_str() {
        "jpg" | "jpeg" => jpeg(path, picture)?,
        _ => png(path, picture)?,
    };
    Kind::Picture.write(path, &bytes)
}

/// The picture, grey where no pixel is coloured.
fn plain(picture: &RgbImage) -> DynamicImage {
    let grey = picture.pixels().all(|p| p.0[0] == p.0[1] && p.0[1] == p.0[2]);
    let whole = DynamicImage::from(picture.clone());
    if grey { DynamicImage::from(whole.to_luma8()) } else { whole }
}

fn unencoded(path: &Path, error: &image::ImageError) -> Error {
    Kind::Picture.refuse(path, format!("encoding it failed: {error}"))
}

fn jpeg(path: &Path, picture: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
    plain(picture).write_with_encoder(encoder).map_err(|e| unencoded(path, &e))?;
    Ok(bytes)
}

/// A picture as PNG by the filter that gives fewer bytes (enlarged pixels repeat and want none, small images may want one).
fn png(path: &Path, picture: &RgbImage) -> Result<Vec<u8>> {
    let whole = plain(picture);
    let with = |filter| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Best, filter);
        whole.write_with_encoder(encoder).map_err(|e| unencoded(path, &e))?;
        Ok(bytes.into_inner())
    };
    let (plain, filtered) = (with(FilterType::NoFilter)?, with(FilterType::Adaptive)?);
    Ok(if filtered.len() < plain.len() { filtered } else { plain })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_strips_are_drawn_where_they_belong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grid.png");
        let grid = Grid { channels: 1, size: 2, scale: 3 };
        let rows = vec![vec![1.0; 8], vec![-1.0; 4]];
        grid.save_rows(&path, &rows, &["a".into(), "bc".into()]).unwrap();
        let picture = image::open(&path).unwrap().to_rgb8();
        let margin = super::margin(["bc"]);
        assert_eq!(picture.dimensions(), (margin + 16, 18));
        assert_eq!(picture.get_pixel(margin, GAP), &Rgb([255; 3]));
        assert_eq!(picture.get_pixel(margin + 5, 8 + GAP + 5), &Rgb([0; 3]));
        assert_eq!(picture.get_pixel(margin + 8, 8 + GAP), &PAPER, "no second image in the second row");
    }

    #[test]
    fn grey_pictures_are_stored_grey_and_all_channels_of_a_change_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.png");
        let grid = Grid { channels: 1, size: 2, scale: 3 };
        grid.save_one(&path, &[-1.0, 0.0, 0.5, 1.0]).unwrap();
        assert_eq!(image::open(&path).unwrap().color(), image::ColorType::L8);
        let bytes = grid.encode_one(&path, &[-2.0, 0.0, 0.5, 2.0], Palette::Difference, None).unwrap();
        assert_eq!(image::load_from_memory(&bytes).unwrap().color(), image::ColorType::Rgb8);
        let grid = Grid { channels: 3, size: 1, scale: 1 };
        let of = |image: &[f32]| {
            let bytes = grid.encode_one(&path, image, Palette::Difference, None).unwrap();
            *image::load_from_memory(&bytes).unwrap().to_rgb8().get_pixel(0, 0)
        };
        assert_eq!(of(&[0.5, -0.5, 0.1]), fade(BRIGHTER, 0.5), "channels that change against each other");
        assert_eq!(of(&[-0.5, -0.2, 0.0]), fade(DARKER, 0.5));
        assert_eq!(of(&[0.0; 3]), PAPER);
    }

    #[test]
    fn the_ending_says_the_format() {
        let folder = tempfile::tempdir().unwrap();
        let grid = Grid { channels: 1, size: 16, scale: 1 };
        let rows = vec![(0..256).map(|i| (i % 16) as f32 / 8.0 - 1.0).collect::<Vec<f32>>()];
        let mut pictures = Vec::new();
        for (name, format) in [
            ("a.png", image::ImageFormat::Png),
            ("a.jpg", image::ImageFormat::Jpeg),
            ("a.JPEG", image::ImageFormat::Jpeg),
        ] {
            let path = folder.path().join(name);
            grid.save_rows(&path, &rows, &["a".into()]).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(image::guess_format(&bytes).unwrap(), format, "{name}");
            pictures.push(image::load_from_memory(&bytes).unwrap().to_luma8());
        }
        let [png, jpeg, _] = &pictures[..] else { unreachable!() };
        let far = png.as_raw().iter().zip(jpeg.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(png.dimensions() == jpeg.dimensions() && far < 40, "{far}: at quality 95 edges stay");
    }

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

    #[test]
    fn pictures_beyond_measure_are_refused_before_they_are_drawn() {
        let grid = Grid { channels: 1, size: 1, scale: 28 };
        let names: Vec<String> = vec!["a".into()];
        let most = grid.most_columns(1, &names);
        assert!((1 << 16..1 << 17).contains(&most), "30 pixels each in 32 rows of 2^21: {most}");
        let path = Path::new("never.png");
        let error = grid.save_rows(path, &[vec![0.0; most + 1]], &names).unwrap_err().to_string();
        assert!(error.contains("count") && error.contains(&most.to_string()), "{error}");
        assert_eq!(grid.most_columns(usize::MAX >> 32, &names), 0);
    }

    #[test]
    fn a_picture_that_cannot_be_written_is_named() {
        let grid = Grid { channels: 1, size: 1, scale: 1 };
        let error = grid.save_rows(Path::new("/nonexistent/x.png"), &[vec![0.0]], &["a".into()]).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/x.png"), "{error}");
    }
}
