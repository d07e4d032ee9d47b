//! What a picture becomes before it is a tensor, natively and in a browser alike: turned upright, inverted where asked, laid
//! over a ground where it is transparent, made square, grey where the model is, resized, and scaled to −1..1.
//!
//! Decoding files is the caller's: browsers do it themselves.

use crate::error::{Error, Result};
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use serde::{Deserialize, Serialize};

/// Bytes of a pixel on the way: the resizer's one kind.
const LANES: usize = 4;
/// Most a level may differ within the corners of a picture for them to show its ground.
const PLAIN: u8 = 64;
/// Share of a picture's side that a corner is.
const CORNER: usize = 8;

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

/// How a picture that is not square becomes square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// Its central square; what is beside it is lost.
    #[default]
    Crop,
    /// All of it, with the ground at both sides.
    Pad,
    /// All of it, longer or wider than it is.
    Stretch,
}

impl Fit {
    /// All there are.
    pub const ALL: [Fit; 3] = [Fit::Crop, Fit::Pad, Fit::Stretch];

    /// Its name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Fit::Crop => "crop",
            Fit::Pad => "pad",
            Fit::Stretch => "stretch",
        }
    }

    /// The one of a name.
    ///
    /// # Errors
    /// [`Error::Config`] listing the names there are.
    pub fn named(name: &str) -> Result<Fit> {
        let found = Fit::ALL.into_iter().find(|fit| fit.name() == name);
        found.ok_or_else(|| {
            Error::config(
                "fit",
                format!("there is no {name:?}; there are: {}", Fit::ALL.map(Fit::name).join(", ")),
            )
        })
    }
}

/// What pictures a model was trained on: the part of its preparation that is not a matter of sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pictures {
    /// Grey level of the ground, 0 (black) to 255: what shows through where a picture is transparent, and what fills up
    /// one that is not square with [`Fit::Pad`].
    pub ground: u8,
    /// How pictures that are not square become square.
    pub fit: Fit,
}

/// What a picture becomes for a model.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::picture::{Fit, Picture, PixelLayout, Preparation};
///
/// // Four grey pixels, the last one transparent, for a model of 2 × 2 grey pixels.
/// let data = [0, 255, 255, 255, 51, 255, 255, 0];
/// let picture = Picture { width: 2, height: 2, layout: PixelLayout::GreyAlpha, data: &data, orientation: 1 };
/// assert_eq!(Preparation::new(1, 2).levels(&picture)?, [0, 255, 51, 0]);
/// let white = Preparation { ground: 255, ..Preparation::new(1, 2) };
/// assert_eq!(white.values(&picture)?, [-1.0, 1.0, -0.6, 1.0]);
///
/// // A dark thing on a light ground for a model that knows light things on black; what is transparent stays ground.
/// let inverted = Preparation { invert: true, ..Preparation::new(1, 2) };
/// assert_eq!(inverted.levels(&picture)?, [255, 0, 204, 0]);
///
/// // Of a row of two pixels the model sees one, or both.
/// let row = Picture { height: 1, layout: PixelLayout::Grey, data: &[255, 51], ..picture };
/// assert_eq!(Preparation::new(1, 2).levels(&row)?, [255; 4]);
/// assert_eq!(Preparation::new(1, 2).cut_off(&row), 0.5);
/// let pad = Preparation { fit: Fit::Pad, ..Preparation::new(1, 2) };
/// assert_eq!(pad.levels(&row)?, [255, 51, 0, 0]);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preparation {
    /// 1 grey, 3 colour.
    pub channels: usize,
    /// Height and width.
    pub size: usize,
    /// Grey level of the ground that shows through where a picture is transparent and fills what padding adds.
    pub ground: u8,
    /// How a picture that is not square becomes square.
    pub fit: Fit,
    /// Whether colours are inverted, before they are laid over the ground: of a dark drawing, on white or on nothing, a
    /// light one on black.
    pub invert: bool,
}

impl Preparation {
    /// Pictures of `size` × `size` pixels over black, the middle of those that are not square.
    pub fn new(channels: usize, size: usize) -> Preparation {
        Self::of(Pictures::default(), channels, size)
    }

    /// Pictures of `size` × `size` pixels, as a model of such pictures reads them.
    pub fn of(pictures: Pictures, channels: usize, size: usize) -> Preparation {
        Preparation { channels, size, ground: pictures.ground, fit: pictures.fit, invert: false }
    }

    /// Grey levels \[C,H,W\] of a picture, resized by Lanczos' filter with as wide a support as shrinking needs; a picture
    /// of the right size keeps its exact levels. Grey is Rec. 601's luma, as PIL rounds it. With [`Fit::Pad`] the picture
    /// is resized and then laid on the ground, in the middle, as PIL's `ImageOps.pad` does it.
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
        let (from, window) = self.window(picture)?;
        let [width, height] = from;
        let to = match self.fit {
            Fit::Crop | Fit::Stretch => [self.size; 2],
            Fit::Pad => from.map(|side| scaled(side, self.size, width.max(height))),
        };
        let small = if from == to { window } else { resize(&window, from, to)? };
        let small = if self.fit == Fit::Pad { self.pad(&small, to) } else { small };
        Ok((0..self.channels).flat_map(|c| small.iter().skip(c).step_by(LANES).copied()).collect())
    }

    /// As [`Preparation::levels`], in −1..1.
    ///
    /// # Errors
    /// As [`Preparation::levels`].
    pub fn values(&self, picture: &Picture<'_>) -> Result<Vec<f32>> {
        Ok(self.levels(picture)?.into_iter().map(value).collect())
    }

    /// Share of a picture's pixels, 0 to 1, that the model never sees: those beside the central square.
    pub fn cut_off(&self, picture: &Picture<'_>) -> f64 {
        let (short, long) = (picture.width.min(picture.height), picture.width.max(picture.height));
        if self.fit == Fit::Crop && long > 0 { 1.0 - short as f64 / long as f64 } else { 0.0 }
    }

    /// Whether a prepared picture \[C,H,W\] lies on a plain ground, the same in its four corners, that is nearer to the
    /// opposite of the model's ground: a photograph of a thing on white, for a model that knows things on black. A picture
    /// without a plain ground says nothing.
    pub fn opposite_ground(&self, levels: &[u8]) -> bool {
        let corner = (self.size / CORNER).max(1);
        let at_edge = |at: usize| at < corner || at + corner >= self.size;
        let corners = || {
            let planes = levels.chunks_exact(self.size.max(1)).enumerate();
            planes.filter(|(row, _)| at_edge(row % self.size)).flat_map(|(_, row)| {
                row.iter().enumerate().filter(|(at, _)| at_edge(*at)).map(|(_, level)| *level)
            })
        };
        let (Some(darkest), Some(lightest)) = (corners().min(), corners().max()) else {
            return false;
        };
        // Clearly nearer to what inverting the ground gives than to the ground itself: never where that is a middle grey.
        let far =
            |level: u8| level.abs_diff(self.ground) > level.abs_diff(255 - self.ground).saturating_add(PLAIN);
        lightest - darkest <= PLAIN && far(darkest) && far(lightest)
    }

    /// A resized picture in the middle of the ground.
    fn pad(&self, small: &[u8], [width, height]: [usize; 2]) -> Vec<u8> {
        let (left, top) = ((self.size - width) / 2, (self.size - height) / 2);
        let mut levels = vec![self.ground; self.size * self.size * LANES];
        for (y, row) in small.chunks_exact(width * LANES).enumerate() {
            let at = ((top + y) * self.size + left) * LANES;
            levels[at..at + row.len()].copy_from_slice(row);
        }
        levels
    }

    /// What the model sees of the upright picture, as [`LANES`] levels a pixel, the model's channels first, with width and
    /// height.
    fn window(&self, picture: &Picture<'_>) -> Result<([usize; 2], Vec<u8>)> {
        let &Picture { width, height, layout, data, orientation } = picture;
        let bytes = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(layout.bytes()));
        let side = width.min(height);
        if side == 0 || self.size == 0 || bytes.is_none_or(|bytes| bytes > data.len()) {
            let detail = format!("{} bytes of {width}×{height} pixels as {layout:?}", data.len());
            return Err(Error::shape("picture", detail));
        }
        let turned = (5..=8).contains(&orientation);
        let upright = if turned { [height, width] } else { [width, height] };
        let seen = if self.fit == Fit::Crop { [side; 2] } else { upright };
        let [left, top] = [0, 1].map(|axis| (upright[axis] - seen[axis]) / 2);
        let mut levels = Vec::with_capacity(seen[0] * seen[1] * LANES);
        for y in 0..seen[1] {
            for x in 0..seen[0] {
                let [from_x, from_y] = stored(orientation, [left + x, top + y], [width, height]);
                let at = (from_y * width + from_x) * layout.bytes();
                let [r, g, b, a] = layout.rgba(&data[at..at + layout.bytes()]);
                let [r, g, b] =
                    [r, g, b].map(|v| over(if self.invert { 255 - v } else { v }, a, self.ground));
                levels.extend(if self.channels == 1 { [luma(r, g, b), 0, 0, 0] } else { [r, g, b, 0] });
            }
        }
        Ok((seen, levels))
    }
}

/// A side of a picture whose `longest` side becomes `size`: at least a pixel.
fn scaled(side: usize, size: usize, longest: usize) -> usize {
    let exact = side as f64 * size as f64 / longest.max(1) as f64;
    (exact.round() as usize).clamp(1, size)
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

/// Each of the lanes for itself, from one width and height to another.
fn resize(levels: &[u8], from: [usize; 2], to: [usize; 2]) -> Result<Vec<u8>> {
    let failed = |error: String| {
        Error::shape("picture", format!("{}×{} to {}×{}: {error}", from[0], from[1], to[0], to[1]))
    };
    let side = |side: usize| u32::try_from(side).map_err(|e| failed(e.to_string()));
    let source = ImageRef::new(side(from[0])?, side(from[1])?, levels, PixelType::U8x4)
        .map_err(|e| failed(e.to_string()))?;
    let mut target = Image::new(side(to[0])?, side(to[1])?, PixelType::U8x4);
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

    /// A bar across the middle of a wide picture, and the same turned for a tall one.
    fn wide(width: usize, height: usize) -> Vec<u8> {
        (0..width * height).map(|i| if (i % width) * 2 < width { 200 } else { 50 }).collect()
    }

    #[test]
    fn padding_keeps_all_on_the_ground_and_stretching_fills_the_square() {
        let options = |fit, ground| Preparation { fit, ground, ..Preparation::new(1, 8) };
        // Twice as wide as high, already as wide as the model's: exact levels between two bars of ground.
        let data = wide(8, 4);
        let across = picture(PixelLayout::Grey, 8, &data);
        let padded = options(Fit::Pad, 9).levels(&across).unwrap();
        let row = [200, 200, 200, 200, 50, 50, 50, 50];
        let expected: Vec<u8> = (0..8).flat_map(|y| if (2..6).contains(&y) { row } else { [9; 8] }).collect();
        assert_eq!(padded, expected);
        // Turned a quarter, the result is the turned one.
        let turned = Picture { orientation: 6, ..across };
        let upright = options(Fit::Pad, 9).levels(&turned).unwrap();
        let transposed: Vec<u8> = (0..64).map(|i| expected[(i % 8) * 8 + i / 8]).collect();
        assert_eq!(upright, transposed);
        // Stretched, every row is the row, and every column of the turned one.
        let stretched = options(Fit::Stretch, 9).levels(&across).unwrap();
        assert!(stretched.chunks(8).all(|found| found == row), "{stretched:?}");
        let upright = options(Fit::Stretch, 9).levels(&turned).unwrap();
        assert!((0..64).all(|i| upright[i] == row[i / 8]), "{upright:?}");
        // Larger ones are the same but at the edges that the filter rings at.
        let data = wide(80, 40);
        let large = picture(PixelLayout::Grey, 80, &data);
        for (fit, small) in [(Fit::Pad, &padded), (Fit::Stretch, &stretched)] {
            let found = options(fit, 9).levels(&large).unwrap();
            let far = found.iter().zip(small).filter(|(a, b)| a.abs_diff(**b) > 12).count();
            assert_eq!(far, 0, "{fit:?} {found:?}");
        }
        // A line keeps a pixel, and a square is a square whatever the fit.
        let line = vec![255; 3000];
        let padded = options(Fit::Pad, 0).levels(&picture(PixelLayout::Grey, 3000, &line)).unwrap();
        assert_eq!(padded.iter().filter(|v| **v == 255).count(), 8);
        let square = wide(8, 8);
        for fit in Fit::ALL {
            assert_eq!(options(fit, 9).levels(&picture(PixelLayout::Grey, 8, &square)).unwrap(), square);
            assert_eq!(Fit::named(fit.name()).unwrap(), fit);
            assert_eq!(serde_json::to_string(&fit).unwrap(), format!("{:?}", fit.name()));
        }
        assert!(Fit::named("squeeze").unwrap_err().to_string().contains("crop, pad, stretch"));
    }

    #[test]
    fn what_a_crop_loses_is_told() {
        let data = wide(40, 30);
        let across = picture(PixelLayout::Grey, 40, &data);
        let cut = |fit, picture: &Picture<'_>| Preparation { fit, ..Preparation::new(1, 8) }.cut_off(picture);
        assert_eq!(cut(Fit::Crop, &across), 0.25);
        assert_eq!(cut(Fit::Crop, &Picture { orientation: 6, ..across }), 0.25);
        assert_eq!((cut(Fit::Pad, &across), cut(Fit::Stretch, &across)), (0.0, 0.0));
        assert_eq!(cut(Fit::Crop, &picture(PixelLayout::Grey, 30, &data[..900])), 0.0);
    }

    #[test]
    fn inverting_leaves_the_ground_alone() {
        let invert = Preparation { invert: true, ..Preparation::new(1, 2) };
        // Dark strokes on nothing become light strokes on black; half a stroke is half as light.
        let strokes = picture(PixelLayout::GreyAlpha, 2, &[0, 255, 0, 0, 77, 0, 0, 128]);
        assert_eq!(invert.levels(&strokes).unwrap(), [255, 0, 0, 128]);
        let on_white = Preparation { ground: 255, ..invert };
        assert_eq!(on_white.levels(&strokes).unwrap(), [255; 4], "light strokes on white are not seen");
        // Padding is ground too.
        let pad = Preparation { fit: Fit::Pad, ..invert };
        assert_eq!(pad.levels(&picture(PixelLayout::Grey, 2, &[255, 0])).unwrap(), [0, 255, 0, 0]);
        let colour = Preparation { invert: true, ..Preparation::new(3, 1) };
        assert_eq!(colour.levels(&picture(PixelLayout::Rgb, 1, &[0, 100, 255])).unwrap(), [255, 155, 0]);
    }

    #[test]
    fn a_plain_ground_opposite_to_the_model_s_is_seen() {
        let black = Preparation::new(1, 16);
        let white = Preparation { ground: 255, ..black };
        let grey = Preparation { ground: 128, ..black };
        // A thing on a ground; what is in the middle does not matter.
        let on = |level: u8| -> Vec<u8> {
            let thing = |i: usize| (3..13).contains(&(i % 16)) && (3..13).contains(&(i / 16));
            (0..256).map(|i| if thing(i) { 255 - level } else { level }).collect()
        };
        assert!(black.opposite_ground(&on(255)) && black.opposite_ground(&on(190)));
        assert!(!black.opposite_ground(&on(0)) && !black.opposite_ground(&on(100)));
        assert!(white.opposite_ground(&on(0)) && !white.opposite_ground(&on(255)));
        assert!(![0, 90, 160].iter().any(|level| grey.opposite_ground(&on(*level))));
        // Light corners that differ, or one dark corner, are no ground.
        let slope: Vec<u8> = (0..256).map(|i| 140 + (i % 16 * 7) as u8).collect();
        let mut corner = on(250);
        corner[255] = 0;
        assert!(!black.opposite_ground(&slope) && !black.opposite_ground(&corner));
        let colour = Preparation::new(3, 16);
        assert!(colour.opposite_ground(&[on(250), on(240), on(230)].concat()));
        assert!(!colour.opposite_ground(&[on(250), on(0), on(0)].concat()), "red");
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
