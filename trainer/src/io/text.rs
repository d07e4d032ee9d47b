//! Text in pictures: Latin letters as far as Latin Extended-A, which holds what European names are written with.

use image::{Rgb, RgbImage};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, RasterizedChar, get_raster};

/// Pixels of a line of text, from the highest accent to the lowest descender.
pub const HEIGHT: u32 = FACE.val() as u32;

const FACE: RasterHeight = RasterHeight::Size16;
/// Pixels by which an accent stands higher over a capital letter.
const LIFT: u32 = 3;

/// A letter at its place from the text's left and upper end.
type Placed = ([u32; 2], RasterizedChar);

fn glyph(letter: char) -> Option<RasterizedChar> {
    get_raster(letter, FontWeight::Regular, FACE)
}

/// The accent that stands alone for one that joins the letter before it.
fn accent(joining: char) -> Option<char> {
    let pairs = "\u{300}`\u{301}´\u{302}^\u{303}~\u{304}¯\u{308}¨\u{327}¸";
    pairs.chars().skip_while(|c| *c != joining).nth(1)
}

/// The letters of a text at their places, and its width. Accents may come apart from their letters (macOS writes names of
/// files so): those are drawn over the letter before them, or left out where the face lacks them. Other letters that it
/// lacks become its replacement character.
fn lay(text: &str) -> (Vec<Placed>, u32) {
    let (mut placed, mut width): (Vec<Placed>, u32) = (Vec::new(), 0);
    let mut capital = false;
    for letter in text.chars().filter(|letter| !letter.is_control()) {
        if ('\u{300}'..='\u{36f}').contains(&letter) {
            if let Some(mark) = accent(letter).and_then(glyph) {
                // A cedilla stands below.
                let raised = capital && letter != '\u{327}';
                let top = if raised { 0 } else { LIFT };
                placed.push(([width.saturating_sub(mark.width() as u32), top], mark));
            }
        } else if let Some(raster) = glyph(letter).or_else(|| glyph(char::REPLACEMENT_CHARACTER)) {
            placed.push(([width, LIFT], raster));
            width += raster.width() as u32;
            capital = letter.is_uppercase();
        }
    }
    (placed, width)
}

/// Pixels from the left end of `text` to its right one.
pub fn width(text: &str) -> u32 {
    lay(text).1
}

/// Writes `text` from `left` on, [`HEIGHT`] pixels high from `top` (accents apart from their capitals may stand [`LIFT`]
/// pixels higher); what lies outside of the picture is left out.
pub fn write(picture: &mut RgbImage, [left, top]: [u32; 2], text: &str, ink: Rgb<u8>) {
    for ([x, y], raster) in lay(text).0 {
        for (i, share) in (0u32..).zip(raster.pixels()) {
            let (x, y) = (left + x + i % raster.width() as u32, top + y + i / raster.width() as u32);
            let inside = y.checked_sub(LIFT).and_then(|y| picture.get_pixel_mut_checked(x, y));
            if let Some(pixel) = inside {
                let share = f32::from(*share) / 255.0;
                for (paper, ink) in pixel.0.iter_mut().zip(ink.0) {
                    *paper = (f32::from(*paper) * (1.0 - share) + f32::from(ink) * share).round() as u8;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAPER: Rgb<u8> = Rgb([255; 3]);

    fn written(text: &str) -> RgbImage {
        let mut picture = RgbImage::from_pixel(width(text) + 8, HEIGHT + 8, PAPER);
        write(&mut picture, [4, 4], text, Rgb([0; 3]));
        picture
    }

    #[test]
    fn letters_of_latin_names_differ_and_stay_inside() {
        let letters = "aäáåąAÄeéęiïoöőøuüűßsšłžçñÑ-_./%09";
        let pictures: Vec<RgbImage> = letters.chars().map(|c| written(&c.to_string())).collect();
        let unknown = written("\u{e000}");
        for (i, picture) in pictures.iter().enumerate() {
            assert!(*picture != unknown && pictures[..i].iter().all(|other| other != picture), "letter {i}");
            let (w, h) = picture.dimensions();
            let outside = |x, y| !(4..w - 4).contains(&x) || !(4..h - 4).contains(&y);
            let mut edge = picture.enumerate_pixels().filter(|(x, y, _)| outside(*x, *y));
            assert!(edge.all(|(_, _, pixel)| *pixel == PAPER), "letter {i} leaves its place");
        }
        assert_ne!(unknown, written(" "), "what is not known is seen");
    }

    #[test]
    fn accents_apart_stand_over_their_letters() {
        let accented = written("Mu\u{308}tze");
        assert_eq!(accented.dimensions(), written("Mütze").dimensions());
        assert!(accented != written("Mutze"));
        assert_ne!(written("A\u{308}"), written("A\u{301}"));
        assert_eq!(written("a\u{36f}"), written("a"), "unknown accents are left out");
    }

    #[test]
    fn width_is_measured_and_what_lies_outside_left_out() {
        assert_eq!(width(""), 0);
        assert_eq!(width("ab\u{7}"), 2 * width("m"));
        let mut small = RgbImage::from_pixel(3, 3, PAPER);
        write(&mut small, [1, 1], "Much too long", Rgb([0; 3]));
        write(&mut small, [9, 9], "Outside", Rgb([0; 3]));
    }
}
