//! Pictures to numbers, by the function that the command uses too.

use crate::error::to_js;
use duet::picture::{Fit, Picture, Pictures, PixelLayout, Preparation, Resize};
use wasm_bindgen::prelude::*;

/// RGBA pixels of an upright picture as the numbers \[C,H,W\] in −1..1 that a model of `channels` and `size` reads, laid
/// over the model's `ground` (without: black), made square as its `fit` says (without: its middle), and resized by the filter
/// `resize` (without: Lanczos') to `resize_to` pixels a side (without: the model's); `Engine.info` has all of them.
#[wasm_bindgen(js_name = pictureValues)]
pub fn picture_values(
    rgba: &[u8],
    width: usize,
    channels: usize,
    size: usize,
    ground: Option<u8>,
    fit: Option<String>,
    resize: Option<String>,
    resize_to: Option<usize>,
) -> std::result::Result<Vec<f32>, JsValue> {
    let fit = fit.map_or(Ok(Fit::default()), |name| Fit::named(&name)).map_err(|e| to_js(&e))?;
    let resize = resize.map_or(Ok(Resize::default()), |name| Resize::named(&name)).map_err(|e| to_js(&e))?;
    let pictures = Pictures { ground: ground.unwrap_or_default(), fit, resize, resize_to };
    let height = rgba.len() / 4 / width.max(1);
    let picture = Picture { width, height, layout: PixelLayout::Rgba, data: rgba, orientation: 1 };
    Preparation::of(pictures, channels, size).values(&picture).map_err(|e| to_js(&e))
}

/// Whether an image \[C,H,W\] in −1..1, whose picture has `resize_to` pixels a side (without: all of it), lies on a plain ground
/// that is the opposite of the model's: inverting it may help.
#[wasm_bindgen(js_name = oppositeGround)]
pub fn opposite_ground(
    values: &[f32],
    channels: usize,
    size: usize,
    ground: u8,
    resize_to: Option<usize>,
) -> bool {
    let levels: Vec<u8> = values.iter().map(|v| ((v + 1.0) * 127.5).round() as u8).collect();
    let pictures = Pictures { ground, resize_to, ..Pictures::default() };
    Preparation::of(pictures, channels, size).opposite_ground(&levels)
}
