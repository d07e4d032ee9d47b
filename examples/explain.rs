//! What would have to change for the shipped model to take a sneaker for an ankle boot?
//!
//! `cargo run --release --example explain` writes original, counterfactual and difference side by side.

use duet::Duet;
use duet::explain::ExplainOptions;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    pollster::block_on(explain())
}

async fn explain() -> Result<(), Box<dyn std::error::Error>> {
    let mut duet = Duet::load("web/demo/public/model.safetensors").await?;
    let picture = image::open("web/demo/public/images/00009.png")?.into_luma8();
    let original: Vec<f32> = picture.as_raw().iter().map(|level| duet::picture::value(*level)).collect();

    let target = duet.config().find_class("Ankle boot")?;
    let options = ExplainOptions { respacing: "50".into(), ..ExplainOptions::default() };
    let made = duet.explain(&original, target, &options).await?;
    println!(
        "Ankle boot: {:.1} % before, {:.1} % after",
        100.0 * made.before[target],
        100.0 * made.after[target]
    );

    let side = duet.config().image_size as u32;
    let halves: Vec<f32> = made.difference.iter().map(|d| d / 2.0).collect();
    let parts = [&original, &made.counterfactual, &halves];
    let strip = image::GrayImage::from_fn(3 * side, side, |x, y| {
        let value = parts[(x / side) as usize][(y * side + x % side) as usize];
        image::Luma([((value + 1.0) * 127.5).round() as u8])
    });
    let path = std::env::temp_dir().join("duet-explain.png");
    strip.save(&path)?;
    println!("wrote {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_runs() {
        super::main().unwrap();
    }
}
