//! What a picture becomes before it is a tensor, natively and in a browser alike: turned upright, inverted where asked, laid
//! over a ground where it is transparent, made square, grey where the model is, resized, surrounded by ground where the model
//! wants it, and scaled to −1..1.
//!
//! Decoding files is the caller's: browsers do it themselves.

mod preparation;

pub use preparation::Preparation;

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

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

/// By what filter pictures change their size. Each takes in as many pixels as shrinking needs, so that nothing aliases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// Lanczos' of three lobes: the sharpest.
    #[default]
    Lanczos,
    /// Linear in both directions, as PIL's and torchvision's default: softer, and without rings at edges.
    Bilinear,
}

impl Resize {
    /// All there are.
    pub const ALL: [Resize; 2] = [Resize::Lanczos, Resize::Bilinear];

    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Resize::Lanczos => "lanczos",
            Resize::Bilinear => "bilinear",
        }
    }

    /// The one of a name.
    ///
    /// # Errors
    /// [`Error::Config`] listing the names there are.
    pub fn named(name: &str) -> Result<Resize> {
        let found = Resize::ALL.into_iter().find(|resize| resize.name() == name);
        found.ok_or_else(|| {
            let known = Resize::ALL.map(Resize::name).join(", ");
            Error::config("resize", format!("there is no {name:?}; there are: {known}"))
        })
    }
}

/// What pictures a model was trained on: the part of its preparation that is not the model's own size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pictures {
    /// Grey level of the ground, 0 (black) to 255: what shows through where a picture is transparent, and what fills up
    /// one that is not square with [`Fit::Pad`].
    pub ground: u8,
    /// How pictures that are not square become square.
    pub fit: Fit,
    /// By what filter they are resized.
    #[serde(skip_serializing_if = "is_default")]
    pub resize: Resize,
    /// Pixels a side that they are resized to, the ground around them up to the model's size; `None`: to all of that.
    #[serde(skip_serializing_if = "is_default")]
    pub resize_to: Option<usize>,
}

impl Pictures {
    /// Whether a model of `size` × `size` pixels can have such pictures.
    ///
    /// # Errors
    /// [`Error::Config`] where they would be larger than the model's, or nothing.
    pub fn check(&self, size: usize) -> Result<()> {
        match self.resize_to {
            Some(side) if side == 0 || side > size => Err(Error::config(
                "resize_to",
                format!("must be from 1 to the model's {size} pixels, is {side}"),
            )),
            _ => Ok(()),
        }
    }
}

/// What is left out was not known to earlier versions, which read such files.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A grey level in −1..1, as the reference scales it.
pub fn value(level: u8) -> f32 {
    f32::from(level) / 127.5 - 1.0
}

#[cfg(test)]
mod tests;
