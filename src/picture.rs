//! What a picture becomes before it is a tensor, natively and in a browser alike: turned upright, laid over a ground where it
//! is transparent, cropped to a square, grey where the model is, resized, and scaled to −1..1.
//!
//! Decoding files is the caller's: browsers do it themselves.

use crate::error::{Error, Result};
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

/// Bytes of a pixel on the way: the resizer's one kind.
const LANES: usize = 4;

/// How the bytes of a pixel are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelLayout {
    /// One byte: grey.
    Grey,
    /// Two: grey, opacity.
    GreyAlpha,
    /// Three: red, green, blue.
    Rgb,
    /// Four: red, green, blue, opacity (not multiplied in).
    Rgba,
}

impl PixelLayout {
    fn bytes(self) -> usize {
        match self {
            PixelLayout::Grey => 1,
            PixelLayout::GreyAlpha => 2,
            PixelLayout::Rgb => 3,
            PixelLayout::Rgba => 4,
        }
    }

    /// Red, green, blue, opacity of one pixel's bytes.
    fn rgba(self, p: &[u8]) -> [u8; 4] {
        match (self, p) {
            (PixelLayout::Grey, &[v]) => [v, v, v, 255],
            (PixelLayout::GreyAlpha, &[v, a]) => [v, v, v, a],
            (PixelLayout::Rgb, &[r, g, b]) => [r, g, b, 255],
            (PixelLayout::Rgba, &[r, g, b, a]) => [r, g, b, a],
            _ => [0; 4],
        }
    }
}

/// A decoded picture: rows from top to bottom, 8 bits a value.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::picture::{Picture, PixelLayout, Preparation};
///
/// // A black and a white pixel, as a camera held sideways writes them: orientation 6 is a quarter turn clockwise.
/// let data = [0, 0, 0, 255, 255, 255];
/// let picture = Picture { width: 2, height: 1, layout: PixelLayout::Rgb, data: &data, orientation: 6 };
/// // Of two pixels one above the other the central square is the first one.
/// assert_eq!(Preparation::new(1, 1).values(&picture)?, [-1.0]);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// How pixels lie in `data`.
    pub layout: PixelLayout,
    /// The bytes.
    pub data: &'a [u8],
    /// EXIF's orientation, 1 (upright) to 8; what is outside counts as 1.
    pub orientation: u8,
}

/// What a model's pictures are.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::picture::{Picture, PixelLayout, Preparation};
///
/// // Four grey pixels, the last one transparent, for a model of 2 × 2 grey pixels.
/// let data = [0, 255, 255, 255, 51, 255, 255, 0];
/// let picture = Picture { width: 2, height: 2, layout: PixelLayout::GreyAlpha, data: &data, orientation: 1 };
/// assert_eq!(Preparation::new(1, 2).levels(&picture)?, [0, 255, 51, 0]);
/// let white = Preparation { ground: 255, ..Preparation::new(1, 2) };
/// assert_eq!(white.values(&picture)?, [-1.0, 1.0, -0.6, 1.0]);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preparation {
    /// 1 grey, 3 colour.
    pub channels: usize,
    /// Height and width.
    pub size: usize,
    /// Grey level of the ground that shows through where a picture is transparent.
    pub ground: u8,
}

impl Preparation {
    /// Pictures of `size` × `size` pixels over black.
    pub fn new(channels: usize, size: usize) -> Preparation {
        Preparation { channels, size, ground: 0 }
    }

    /// Grey levels \[C,H,W\] of a picture's central square, resized by Lanczos' filter with as wide a support as shrinking
    /// needs; a picture of the right size keeps its exact levels. Grey is Rec. 601's luma, as PIL rounds it.
    ///
    /// # Errors
    /// [`Error::Config`] for another number of channels, [`Error::Shape`] for a picture without pixels or with too few
    /// bytes.
    pub fn levels(&self, picture: &Picture<'_>) -> Result<Vec<u8>> {
        if !matches!(self.channels, 1 | 3) {
            let detail =
                format!("a model of {} channels cannot read pictures: 1 or 3 are possible", self.channels);
            return Err(Error::config("channels", detail));
        }
        let square = self.square(picture)?;
        let side = picture.width.min(picture.height);
        let small = if side == self.size { square } else { resize(&square, side, self.size)? };
        Ok((0..self.channels).flat_map(|c| small.iter().skip(c).step_by(LANES).copied()).collect())
    }

    /// As [`Preparation::levels`], in −1..1.
    ///
    /// # Errors
    /// As [`Preparation::levels`].
    pub fn values(&self, picture: &Picture<'_>) -> Result<Vec<f32>> {
        Ok(self.levels(picture)?.into_iter().map(value).collect())
    }

    /// The upright picture's central square as [`LANES`] levels a pixel, the model's channels first.
    fn square(&self, picture: &Picture<'_>) -> Result<Vec<u8>> {
        let &Picture { width, height, layout, data, orientation } = picture;
        let bytes = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(layout.bytes()));
        let side = width.min(height);
        if side == 0 || self.size == 0 || bytes.is_none_or(|bytes| bytes > data.len()) {
            let detail = format!("{} bytes of {width}×{height} pixels as {layout:?}", data.len());
            return Err(Error::shape("picture", detail));
        }
        let turned = (5..=8).contains(&orientation);
        let (upright_width, upright_height) = if turned { (height, width) } else { (width, height) };
        let (left, top) = ((upright_width - side) / 2, (upright_height - side) / 2);
        let mut levels = Vec::with_capacity(side * side * LANES);
        for y in 0..side {
            for x in 0..side {
                let [from_x, from_y] = stored(orientation, [left + x, top + y], [width, height]);
                let at = (from_y * width + from_x) * layout.bytes();
                let [r, g, b, a] = layout.rgba(&data[at..at + layout.bytes()]);
                let [r, g, b] = [r, g, b].map(|v| over(v, a, self.ground));
                levels.extend(if self.channels == 1 { [luma(r, g, b), 0, 0, 0] } else { [r, g, b, 0] });
            }
        }
        Ok(levels)
    }
}

/// A grey level in −1..1, as the reference scales it.
pub fn value(level: u8) -> f32 {
    f32::from(level) / 127.5 - 1.0
}

/// Where a pixel of the upright picture lies in the stored one of the given width and height (EXIF 2.3, tag 0x0112).
fn stored(orientation: u8, [x, y]: [usize; 2], [width, height]: [usize; 2]) -> [usize; 2] {
    let (right, bottom) = (width - 1, height - 1);
    match orientation {
        2 => [right - x, y],
        3 => [right - x, bottom - y],
        4 => [x, bottom - y],
        5 => [y, x],
        6 => [y, bottom - x],
        7 => [right - y, bottom - x],
        8 => [right - y, x],
        _ => [x, y],
    }
}

/// A level of opacity `alpha` over the ground.
fn over(level: u8, alpha: u8, ground: u8) -> u8 {
    let (level, alpha, ground) = (u32::from(level), u32::from(alpha), u32::from(ground));
    ((level * alpha + ground * (255 - alpha) + 127) / 255) as u8
}

/// Rec. 601 luma in 16-bit fixed point, as PIL computes it; of equal parts it is that part.
fn luma(r: u8, g: u8, b: u8) -> u8 {
    ((19_595 * u32::from(r) + 38_470 * u32::from(g) + 7_471 * u32::from(b) + 0x8000) >> 16) as u8
}

/// Each of the lanes for itself.
fn resize(levels: &[u8], from: usize, to: usize) -> Result<Vec<u8>> {
    let failed = |error: String| Error::shape("picture", format!("{from}×{from} to {to}×{to}: {error}"));
    let side = |side: usize| u32::try_from(side).map_err(|e| failed(e.to_string()));
    let (from_side, to_side) = (side(from)?, side(to)?);
    let source =
        ImageRef::new(from_side, from_side, levels, PixelType::U8x4).map_err(|e| failed(e.to_string()))?;
    let mut target = Image::new(to_side, to_side, PixelType::U8x4);
    let options =
        ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3)).use_alpha(false);
    Resizer::new().resize(&source, &mut target, &options).map_err(|e| failed(e.to_string()))?;
    Ok(target.into_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(layout: PixelLayout, width: usize, data: &[u8]) -> Picture<'_> {
        let height = data.len() / layout.bytes() / width;
        Picture { width, height, layout, data, orientation: 1 }
    }

    #[test]
    fn a_picture_of_the_right_size_keeps_its_levels() {
        let data: Vec<u8> = (0..=255).collect();
        let grey = picture(PixelLayout::Grey, 16, &data);
        assert_eq!(Preparation::new(1, 16).levels(&grey).unwrap(), data);
        let colour = Preparation::new(3, 16).levels(&grey).unwrap();
        assert!(colour.chunks(256).all(|plane| plane == data), "channel after channel");
        assert_eq!([value(0), value(255)], [-1.0, 1.0]);
    }

    #[test]
    fn eight_orientations_of_one_picture_are_one() {
        // Four pixels by three, all different; stored as each orientation says.
        let upright: Vec<u8> = (0..12).map(|i| 20 * i).collect();
        let pixel = |x: usize, y: usize| upright[4 * y + x];
        for orientation in 1..=8u8 {
            // Where the stored picture's column and row go, from EXIF's words for row 0 and column 0.
            let (width, height) = if orientation < 5 { (4, 3) } else { (3, 4) };
            let mut data = Vec::new();
            for row in 0..height {
                for column in 0..width {
                    data.push(match orientation {
                        1 => pixel(column, row),
                        2 => pixel(3 - column, row),
                        3 => pixel(3 - column, 2 - row),
                        4 => pixel(column, 2 - row),
                        5 => pixel(row, column),
                        6 => pixel(3 - row, column),
                        7 => pixel(3 - row, 2 - column),
                        _ => pixel(row, 2 - column),
                    });
                }
            }
            let turned = Picture { orientation, ..picture(PixelLayout::Grey, width, &data) };
            let levels = Preparation::new(1, 3).levels(&turned).unwrap();
            assert_eq!(levels, [0, 20, 40, 80, 100, 120, 160, 180, 200], "orientation {orientation}");
        }
    }

    #[test]
    fn what_is_transparent_shows_the_ground_and_grey_is_rec_601() {
        let data = [200, 10, 10, 0, 255, 255, 255, 128, 255, 0, 0, 255, 0, 0, 255, 255];
        let rgba = picture(PixelLayout::Rgba, 2, &data);
        assert_eq!(Preparation::new(1, 2).levels(&rgba).unwrap(), [0, 128, 76, 29]);
        let white = Preparation { ground: 255, ..Preparation::new(1, 2) };
        assert_eq!(white.levels(&rgba).unwrap(), [255, 255, 76, 29]);
        let grey = picture(PixelLayout::GreyAlpha, 2, &[100, 255, 100, 0, 9, 9, 255, 51]);
        assert_eq!(Preparation::new(1, 2).levels(&grey).unwrap(), [100, 0, 0, 51]);
    }

    #[test]
    fn the_middle_is_cut_out_and_shrinking_averages() {
        let mut data = vec![7u8; 40 * 20];
        for (i, level) in data.iter_mut().enumerate() {
            if (10..30).contains(&(i % 40)) {
                // Stripes finer than the result's pixels.
                *level = if i % 2 == 0 { 0 } else { 255 };
            }
        }
        let small = Preparation::new(1, 2).levels(&picture(PixelLayout::Grey, 40, &data)).unwrap();
        assert!(small.iter().all(|v| (118..=137).contains(v)), "{small:?}");
    }

    #[test]
    fn bad_pictures_are_refused() {
        let options = Preparation::new(1, 4);
        let short = Picture { height: 9, ..picture(PixelLayout::Rgb, 2, &[0; 24]) };
        let empty = Picture { width: 0, ..picture(PixelLayout::Grey, 2, &[0; 4]) };
        let huge = Picture { width: usize::MAX, ..picture(PixelLayout::Rgba, 2, &[0; 8]) };
        for bad in [short, empty, huge] {
            assert!(options.levels(&bad).unwrap_err().to_string().contains("picture"));
        }
        assert!(Preparation::new(2, 4).levels(&picture(PixelLayout::Grey, 2, &[0; 4])).is_err());
    }
}
