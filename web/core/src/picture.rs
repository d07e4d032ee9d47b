//! Pictures to numbers, by the function that the command uses too.

use crate::error::to_js;
use duet::picture::{Picture, PixelLayout, Preparation};
use wasm_bindgen::prelude::*;

/// RGBA pixels of an upright picture as the numbers \[C,H,W\] in −1..1 that a model of `channels` and `size` reads.
#[wasm_bindgen(js_name = pictureValues)]
pub fn picture_values(
    rgba: &[u8],
    width: usize,
    channels: usize,
    size: usize,
) -> std::result::Result<Vec<f32>, JsValue> {
    let height = rgba.len() / 4 / width.max(1);
    let picture = Picture { width, height, layout: PixelLayout::Rgba, data: rgba, orientation: 1 };
    Preparation::new(channels, size).values(&picture).map_err(|e| to_js(&e))
}
