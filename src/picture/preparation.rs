//! From the bytes of a picture to the levels that a model reads.

use super::{Fit, Picture, Pictures, Resize, value};
use crate::error::{Error, Result};
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

/// Bytes of a pixel on the way: the resizer's one kind.
const LANES: usize = 4;
/// Most a level may differ within the corners of a picture for them to show its ground.
const PLAIN: u8 = 64;
/// Share of a picture's side that a corner is.
const CORNER: usize = 8;

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
///
/// // Two pixels a side with the ground around them, for a model of four.
/// let inside = Preparation { resize_to: Some(2), ..Preparation::new(1, 4) };
/// assert_eq!(inside.levels(&picture)?, [0, 0, 0, 0, 0, 0, 255, 0, 0, 51, 0, 0, 0, 0, 0, 0]);
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
    /// By what filter it is resized.
    pub resize: Resize,
    /// Pixels a side that it is resized to, the ground around it; `None`: `size`.
    pub resize_to: Option<usize>,
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
        let Pictures { ground, fit, resize, resize_to } = pictures;
        Preparation { channels, size, ground, fit, resize, resize_to, invert: false }
    }

    /// Pixels a side of the square that pictures fill, and of the ground to its left and above it.
    pub fn inside(&self) -> [usize; 2] {
        let side = self.resize_to.unwrap_or(self.size).min(self.size);
        [side, (self.size - side) / 2]
    }

    /// Grey levels \[C,H,W\] of a picture, resized by a filter with as wide a support as shrinking needs; a picture
    /// of the right size keeps its exact levels. Grey is Rec. 601's luma, as PIL rounds it. With [`Fit::Pad`] the picture
    /// is resized and then laid on the ground, in the middle, as PIL's `ImageOps.pad` does it; so it is where `resize_to` is
    /// less than `size`.
    ///
    /// # Errors
    /// [`Error::Config`] for another number of channels or a `resize_to` beyond the model's size, [`Error::Shape`] for a picture without pixels or with too few
    /// bytes.
    pub fn levels(&self, picture: &Picture<'_>) -> Result<Vec<u8>> {
        if !matches!(self.channels, 1 | 3) {
            let detail =
                format!("a model of {} channels cannot read pictures: 1 or 3 are possible", self.channels);
            return Err(Error::config("channels", detail));
        }
        Pictures { resize_to: self.resize_to, ..Pictures::default() }.check(self.size)?;
        let [inside, _] = self.inside();
        let (from, window) = self.window(picture)?;
        let [width, height] = from;
        let to = match self.fit {
            Fit::Crop | Fit::Stretch => [inside; 2],
            Fit::Pad => from.map(|side| scaled(side, inside, width.max(height))),
        };
        let small = if from == to { window } else { resize(&window, from, to, self.resize)? };
        let small = if to == [self.size; 2] { small } else { self.pad(&small, to) };
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
        let [inside, before] = self.inside();
        let corner = (inside / CORNER).max(1);
        // Of what is the picture's own: the ground around it is the model's in any case.
        let in_corner = |at: usize| {
            let at = at.checked_sub(before).filter(|at| *at < inside);
            at.is_some_and(|at| at < corner || at + corner >= inside)
        };
        let corners = || {
            let planes = levels.chunks_exact(self.size.max(1)).enumerate();
            planes.filter(|(row, _)| in_corner(row % self.size)).flat_map(|(_, row)| {
                row.iter().enumerate().filter(|(at, _)| in_corner(*at)).map(|(_, level)| *level)
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
fn resize(levels: &[u8], from: [usize; 2], to: [usize; 2], by: Resize) -> Result<Vec<u8>> {
    let failed = |error: String| {
        Error::shape("picture", format!("{}×{} to {}×{}: {error}", from[0], from[1], to[0], to[1]))
    };
    let side = |side: usize| u32::try_from(side).map_err(|e| failed(e.to_string()));
    let source = ImageRef::new(side(from[0])?, side(from[1])?, levels, PixelType::U8x4)
        .map_err(|e| failed(e.to_string()))?;
    let mut target = Image::new(side(to[0])?, side(to[1])?, PixelType::U8x4);
    let filter = match by {
        Resize::Lanczos => FilterType::Lanczos3,
        Resize::Bilinear => FilterType::Bilinear,
    };
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false);
    Resizer::new().resize(&source, &mut target, &options).map_err(|e| failed(e.to_string()))?;
    Ok(target.into_vec())
}
