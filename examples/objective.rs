//! Guidance by a loss of one's own: ankle boots whose upper half looks like that of a given picture.
//!
//! `cargo run --release --example objective` writes boots without that wish above boots with it.

use duet::Duet;
use duet::diffusion::Solver;
use duet::graph::NodeId;
use duet::model::{Labels, WeightSet};
use duet::rng::Seed;
use duet::sampling::{ChainOptions, Class, Guidance, Objective, Of, Parts, Sampler, StepSpec, Watch};

/// Mean squared distance of the predicted image from a sketch, where a mask is 1.
struct Sketch;

impl Objective for Sketch {
    fn of(&self) -> Of {
        Of::XStart
    }

    fn loss(&self, parts: &mut Parts<'_>, x_start: NodeId) -> duet::Result<NodeId> {
        let (sketch, mask) = (parts.image_input("sketch"), parts.image_input("mask"));
        let seen = parts.graph.multiply(x_start, mask)?;
        parts.graph.mse(seen, sketch)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [free, held] = pollster::block_on(distances())?;
    println!("mean squared distance of the upper half from the sketch: {free:.3} freely, {held:.3} guided");
    Ok(())
}

async fn distances() -> Result<[f32; 2], Box<dyn std::error::Error>> {
    const COUNT: usize = 4;
    let duet = Duet::load("web/demo/public/model.safetensors").await?;
    let picture = image::open("web/demo/public/images/00009.png")?.into_luma8();
    let half = picture.as_raw().len() / 2;
    let mask: Vec<f32> = (0..2 * half).map(|pixel| if pixel < half { 1.0 } else { 0.0 }).collect();
    let levels = picture.as_raw().iter().zip(&mask);
    let sketch: Vec<f32> = levels.map(|(level, mask)| mask * duet::picture::value(*level)).collect();

    let spec = StepSpec {
        guidance: Guidance::Gradient,
        solver: Solver::dpm_plus_plus(),
        clip: true,
        ..StepSpec::new(COUNT)
    };
    let (weights, diffusion) = (duet.weights(), &duet.checkpoint().diffusion);
    let objectives: [&dyn Objective; 2] = [&Class, &Sketch];
    let sampler = Sampler::toward(weights, diffusion, "10", spec, WeightSet::Raw, &objectives).await?;
    let boot = duet.config().find_class("Ankle boot")? as u32;
    let labels = Labels::Classes(vec![boot; COUNT]);
    let chain = ChainOptions { seed: Seed(3), first_row: 0, labels, alpha: 1.0 };
    let (mut distances, mut rows) = ([0.0; 2], Vec::new());
    // What the loss is weighed by is part of its input: a mask of zeros asks for nothing.
    for (weight, distance) in [0.0f32, 1.0].into_iter().zip(&mut distances) {
        let root = weight.sqrt();
        let each = |values: &[f32]| values.iter().map(|v| root * v).collect::<Vec<f32>>().repeat(COUNT);
        sampler.set_input("mask", &each(&mask))?;
        sampler.set_input("sketch", &each(&sketch))?;
        sampler.start_from_noise(chain.seed, chain.first_row)?;
        sampler.run(sampler.schedule().len(), &chain, Watch::None).await?;
        let images = sampler.get_images().await?;
        let squares = images.chunks(2 * half).flat_map(|image| image[..half].iter().zip(&sketch));
        *distance = squares.map(|(a, b)| (a - b).powi(2)).sum::<f32>() / (COUNT * half) as f32;
        rows.push(images);
    }

    let side = duet.config().image_size as u32;
    let grid = image::GrayImage::from_fn(COUNT as u32 * side, 2 * side, |x, y| {
        let image = &rows[(y / side) as usize][(x / side) as usize * 2 * half..];
        let value = image[(y % side * side + x % side) as usize].clamp(-1.0, 1.0);
        image::Luma([((value + 1.0) * 127.5).round() as u8])
    });
    let path = std::env::temp_dir().join("duet-objective.png");
    grid.save(&path)?;
    println!("wrote {}", path.display());
    Ok(distances)
}

#[cfg(test)]
mod tests {
    #[test]
    fn guided_images_are_nearer_to_the_sketch() {
        let [free, held] = pollster::block_on(super::distances()).unwrap();
        assert!(held < 0.97 * free, "{free} {held}");
    }
}
