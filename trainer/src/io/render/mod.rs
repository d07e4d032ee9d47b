//! Pictures: grids of images with a name per row, and strips of explanations; as PNG or JPEG, as the file's ending says.

mod placed;
mod sheet;

pub use placed::Outlined;
pub use sheet::Sheet;

use super::files::Kind;
use super::text;
use crate::data::ending;
use duet::{Error, Result};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{DynamicImage, Rgb, RgbImage};
use std::path::Path;

/// Pixels of a side of an explanation's pictures, about.
const STRIP_SIDE: usize = 112;
/// How much wider than high a picture of many explanations is, about.
const LANDSCAPE: f64 = 1.4;
/// Most pixels of a picture: 200 MB while it is drawn. It is wider than any screen long before.
const MOST_PIXELS: u64 = 1 << 26;
/// Quality of JPEG pictures, of 100.
const JPEG_QUALITY: u8 = 95;
/// Pixels between images.
const GAP: u32 = 2;
/// Pixels between blocks of explanations, beyond that.
const BLOCK_GAP: u32 = 16;
/// Difference, of −2..2, from which on a colour is full: half of the range. The same for all images of all models, so that
/// pictures can be compared.
const FULL: f32 = 1.0;
const PAPER: Rgb<u8> = Rgb([255, 255, 255]);
const FRAME: Rgb<u8> = Rgb([170, 170, 170]);
const INK: Rgb<u8> = Rgb([40, 40, 40]);
const DARK: Rgb<u8> = Rgb([72, 31, 112]);
const BRIGHTER: Rgb<u8> = Rgb([190, 30, 45]);
const DARKER: Rgb<u8> = Rgb([33, 76, 180]);
/// What is left of a colour where nothing is solid.
const FAINT: f32 = 0.15;

/// How images of one model are drawn.
#[derive(Clone, Copy, Debug)]
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

impl Grid {
    fn cell(&self) -> u32 {
        self.size as u32 * self.scale + GAP
    }

    /// Where a line of text begins that stands beside the middle of an image from `top` on.
    fn middle(&self, top: u32) -> u32 {
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

    fn draw(
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

/// Room for the longest of `names`.
fn margin<'a>(names: impl IntoIterator<Item = &'a str>) -> u32 {
    names.into_iter().map(text::width).max().unwrap_or(0) + 3 * GAP
}

/// Grey level of a value in −1..1, what is outside clipped.
fn level(value: f32) -> u8 {
    ((value + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8
}

/// Blue for darker, white for 0, red for brighter: in proportion, and full from [`FULL`] on.
fn diverging(value: f32) -> Rgb<u8> {
    fade(if value < 0.0 { DARKER } else { BRIGHTER }, (value.abs() / FULL).min(1.0))
}

/// So much of a colour on white.
fn fade(colour: Rgb<u8>, share: f32) -> Rgb<u8> {
    Rgb(colour.0.map(|to| (255.0 + (f32::from(to) - 255.0) * share).round() as u8))
}

/// Writes a picture in the format of the file's ending; others than those of JPEG are PNG's.
fn save(path: &Path, picture: &RgbImage) -> Result<()> {
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
        let (left, top) = (super::margin(["Coat"]), text::HEIGHT + 2 * GAP);
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
    fn channels_that_change_against_each_other_are_seen() {
        let grid = Grid { channels: 3, size: 1, scale: 1 };
        let of = |image: &[f32]| {
            let bytes = grid.encode_one(Path::new("x.png"), image, Palette::Difference, None).unwrap();
            *image::load_from_memory(&bytes).unwrap().to_rgb8().get_pixel(0, 0)
        };
        assert_eq!(of(&[0.5, -0.5, 0.1]), fade(BRIGHTER, 0.5));
        assert_eq!(of(&[-0.5, -0.2, 0.0]), fade(DARKER, 0.5));
        assert_eq!(of(&[0.0; 3]), PAPER);
    }

    #[test]
    fn many_strips_stand_side_by_side_and_grey_pictures_are_stored_grey() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("strips.png");
        let grid = Grid { channels: 1, size: 2, scale: 3 };
        let (black, white) = ([-1.0f32; 4], [1.0f32; 4]);
        let mut pictures: Vec<&[f32]> = vec![&black; 40];
        pictures[38] = &white;
        let labels = vec![vec!["abc".to_owned(), "left out: too low".to_owned()]; 40];
        grid.save_strips(&path, &labels, &[column("a", Palette::Image, pictures)]).unwrap();
        let picture = image::open(&path).unwrap().to_rgb8();
        let width = super::margin(["left out: too low"]) + 8 + BLOCK_GAP;
        let [blocks, rows] =
            [picture.width().div_ceil(width), (picture.height() - text::HEIGHT - 2 * GAP) / 8];
        assert!(blocks * rows >= 40 && (blocks - 1) * rows < 40, "{blocks} blocks of {rows}");
        let (block, row) = (38 / rows, 38 % rows);
        let left = block * width + width - 8 - BLOCK_GAP;
        let top = text::HEIGHT + 2 * GAP + row * 8;
        assert_eq!(picture.get_pixel(left, top), &Rgb([255; 3]));
        assert_eq!(picture.get_pixel(left, top - 8), &Rgb([0; 3]), "the one above it");
        grid.save_one(&path, &[-1.0, 0.0, 0.5, 1.0]).unwrap();
        assert_eq!(image::open(&path).unwrap().color(), image::ColorType::L8);
        let bytes = grid.encode_one(&path, &[-2.0, 0.0, 0.5, 2.0], Palette::Difference, None).unwrap();
        assert_eq!(image::load_from_memory(&bytes).unwrap().color(), image::ColorType::Rgb8);
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
    fn pictures_beyond_measure_are_refused_before_they_are_drawn() {
        let grid = Grid { channels: 1, size: 1, scale: 28 };
        let names: Vec<String> = vec!["a".into()];
        let most = grid.most_columns(1, &names);
        assert!((1 << 16..1 << 17).contains(&most), "30 pixels each in 32 rows of 2^21: {most}");
        let path = Path::new("never.png");
        let error = grid.save_rows(path, &[vec![0.0; most + 1]], &names).unwrap_err().to_string();
        assert!(error.contains("count") && error.contains(&most.to_string()), "{error}");
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
        assert_eq!(grid.most_columns(usize::MAX >> 32, &names), 0);
    }

    #[test]
    fn a_picture_that_cannot_be_written_is_named() {
        let grid = Grid { channels: 1, size: 1, scale: 1 };
        let error = grid.save_rows(Path::new("/nonexistent/x.png"), &[vec![0.0]], &["a".into()]).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/x.png"), "{error}");
    }
}
