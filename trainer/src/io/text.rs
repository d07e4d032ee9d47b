//! Text in pictures.

use ab_glyph::{Font as _, FontRef, InvalidFont, PxScaleFont, ScaleFont as _, point};
use duet::{Error, Result};
use image::{Rgb, RgbImage};
use unicode_normalization::UnicodeNormalization as _;

/// Pixels of a line of text, from the highest letter to the lowest.
pub const HEIGHT: u32 = 13;

/// A face in which names are written: Latin, Greek and Cyrillic letters; what it lacks becomes its box.
pub struct Face(PxScaleFont<FontRef<'static>>);

impl Face {
    /// The face that is compiled in.
    ///
    /// # Errors
    /// [`Error::Config`] where it cannot be read.
    pub fn new() -> Result<Face> {
        let bad = |e: InvalidFont| Error::config("font", e.to_string());
        let font = FontRef::try_from_slice(epaint_default_fonts::HACK_REGULAR).map_err(bad)?;
        Ok(Face(font.into_scaled(HEIGHT as f32)))
    }

    /// Places of the letters and the width of all. Names of folders may come with accents apart from their letters (macOS
    /// writes them so); the font has accented letters as one.
    fn lay(&self, text: &str) -> (Vec<(f32, char)>, f32) {
        let mut at = 0.0;
        let place = |letter: char| {
            let here = at;
            at += self.0.h_advance(self.0.glyph_id(letter));
            (here, letter)
        };
        let places = text.nfc().filter(|letter| !letter.is_control()).map(place).collect();
        (places, at)
    }

    /// Pixels from the left end of `text` to its right one.
    pub fn width(&self, text: &str) -> u32 {
        self.lay(text).1.ceil() as u32
    }

    /// Writes `text` from `left` on, [`HEIGHT`] pixels high from `top`; what lies outside of the picture is left out.
    pub fn write(&self, picture: &mut RgbImage, [left, top]: [u32; 2], text: &str, ink: Rgb<u8>) {
        let base = top as f32 + self.0.ascent();
        for (x, letter) in self.lay(text).0 {
            // Whole pixels: stems of small letters stay sharp.
            let start = point((left as f32 + x).round(), base.round());
            let glyph = self.0.glyph_id(letter).with_scale_and_position(self.0.scale(), start);
            let Some(outline) = self.0.outline_glyph(glyph) else { continue };
            let origin = outline.px_bounds().min;
            outline.draw(|x, y, share| {
                let (x, y) = (origin.x as i64 + i64::from(x), origin.y as i64 + i64::from(y));
                let inside = u32::try_from(x).ok().zip(u32::try_from(y).ok());
                if let Some(pixel) = inside.and_then(|(x, y)| picture.get_pixel_mut_checked(x, y)) {
                    let share = share.clamp(0.0, 1.0);
                    for (paper, ink) in pixel.0.iter_mut().zip(ink.0) {
                        *paper = (f32::from(*paper) * (1.0 - share) + f32::from(ink) * share).round() as u8;
                    }
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAPER: Rgb<u8> = Rgb([255; 3]);

    fn written(text: &str) -> RgbImage {
        let face = Face::new().unwrap();
        let mut picture = RgbImage::from_pixel(face.width(text) + 8, HEIGHT + 8, PAPER);
        face.write(&mut picture, [4, 4], text, Rgb([0; 3]));
        picture
    }

    #[test]
    fn letters_of_any_latin_name_differ_and_stay_inside() {
        let letters = "aäáåąÄeéęiïoöőøuüűßsšłžçñÑ-_./%09";
        let pictures: Vec<RgbImage> = letters.chars().map(|c| written(&c.to_string())).collect();
        let unknown = written("\u{e000}");
        for (i, picture) in pictures.iter().enumerate() {
            assert!(*picture != unknown && pictures[..i].iter().all(|other| other != picture), "letter {i}");
            let (w, h) = picture.dimensions();
            let edge = picture
                .enumerate_pixels()
                .filter(|(x, y, _)| !(3..w - 3).contains(x) || !(3..h - 3).contains(y));
            assert!(edge.into_iter().all(|(_, _, pixel)| *pixel == PAPER), "letter {i} leaves its place");
        }
    }

    #[test]
    fn accents_apart_are_written_as_one_letter_and_width_is_measured() {
        assert_eq!(written("Mu\u{308}tze"), written("Mütze"));
        let face = Face::new().unwrap();
        assert_eq!(face.width(""), 0);
        assert!(face.width("mm") > face.width("m"));
        let mut small = RgbImage::from_pixel(3, 3, PAPER);
        face.write(&mut small, [1, 1], "Much too long", Rgb([0; 3]));
        face.write(&mut small, [9, 9], "Outside", Rgb([0; 3]));
    }
}
