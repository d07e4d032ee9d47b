//! What does the shipped model say of a picture?
//!
//! `cargo run --release --example classify [PICTURE]`

use duet::blocking::Duet;
use duet::picture::{Picture, PixelLayout};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).filter(|path| path.ends_with(".png"));
    let path = path.unwrap_or_else(|| "web/demo/public/images/00009.png".into());
    let picture = image::open(&path)?.into_rgba8();
    let (width, height) = (picture.width() as usize, picture.height() as usize);

    let mut duet = Duet::load("web/demo/public/model.safetensors")?;
    let image = duet.image(&Picture {
        width,
        height,
        layout: PixelLayout::Rgba,
        data: picture.as_raw(),
        orientation: 1,
    })?;
    let answer = duet.classify(&image)?.remove(0);
    println!("{path}: {} {:.1} %", answer.name, 100.0 * answer.probabilities[answer.class]);
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_runs() {
        super::main().unwrap();
    }
}
