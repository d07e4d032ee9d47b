//! Which network the whole steps are measured on.

use crate::recipe::Recipe;
use duet::Result;
use duet::diffusion::DiffusionConfig;
use duet::model::{JointModel, ModelConfig};
use duet::train::TrainOptions;
use std::path::Path;
use std::sync::Arc;

/// The recipe in the repository, so that its name works anywhere.
const SHIPPED: &str = include_str!("../../recipes/fashion-mnist.toml");

/// A network with its process and its way of training.
pub struct Subject {
    /// Name in the lines: the option's value without folder and ending.
    pub name: String,
    /// The network.
    pub model: Arc<JointModel>,
    /// The diffusion process.
    pub diffusion: DiffusionConfig,
    /// How it is trained; the batch and the classifier's input are each line's own.
    pub train: TrainOptions,
}

/// 28×28 grey images, one residual block per level, attention in the middle block alone: small enough for a software
/// device, and the network that other frameworks are measured on.
fn small() -> ModelConfig {
    ModelConfig {
        num_channels: 32,
        num_res_blocks: 1,
        channel_mult: vec![1, 2, 2],
        attention_resolutions: Vec::new(),
        ..ModelConfig::default()
    }
}

/// 32×32 colour images at the reference's width and depth.
fn large() -> ModelConfig {
    ModelConfig { image_size: 32, in_channels: 3, num_channels: 128, ..ModelConfig::default() }
}

/// 64×64 colour images at the reference's width and depth, levels 1, 2, 3, 4: work enough to fill a large GPU.
fn largest() -> ModelConfig {
    ModelConfig { image_size: 64, in_channels: 3, num_channels: 128, ..ModelConfig::default() }
}

impl Subject {
    /// The configuration called `name`: "28x28-c32", "32x32-c128", "64x64-c128", "recipe" (the shipped one), or a
    /// recipe's file.
    ///
    /// # Errors
    /// [`duet::Error::Data`] for a file that is no recipe.
    pub fn named(name: &str) -> Result<Subject> {
        let of_config = |config: &ModelConfig| -> Result<Subject> {
            Ok(Subject {
                name: name.to_owned(),
                model: Arc::new(JointModel::new(config)?),
                diffusion: DiffusionConfig::default(),
                train: TrainOptions::default(),
            })
        };
        let recipe = match name {
            "28x28-c32" => return of_config(&small()),
            "32x32-c128" => return of_config(&large()),
            "64x64-c128" => return of_config(&largest()),
            "recipe" => Recipe::parse_without_data(SHIPPED, Path::new("fashion-mnist.toml"))?,
            path => Recipe::load_without_data(Path::new(path))?,
        };
        let stem = Path::new(name).file_stem().map(|stem| stem.to_string_lossy().into_owned());
        Ok(Subject {
            name: stem.unwrap_or_else(|| name.to_owned()),
            model: Arc::new(JointModel::new(&recipe.model)?),
            train: recipe.options(),
            diffusion: recipe.diffusion,
        })
    }

    /// Parameters of the UNet alone, without the classifier.
    pub fn unet_parameters(&self) -> usize {
        let of_unet = |name: &str| !name.starts_with("clasifier.");
        let specs = self.model.params.specs().iter();
        specs.filter(|s| s.trainable() && of_unet(&s.name)).map(|s| s.shape.iter().product::<usize>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_small_network_is_the_one_that_others_are_measured_on() {
        assert_eq!(Subject::named("28x28-c32").unwrap().unet_parameters(), 1_140_929);
    }

    #[test]
    fn the_largest_network_has_four_levels() {
        let subject = Subject::named("64x64-c128").unwrap();
        let config = &subject.model.config;
        assert_eq!((config.image_size, config.levels().unwrap()), (64, vec![1, 2, 3, 4]));
        assert!(subject.unet_parameters() > 100_000_000, "{}", subject.unet_parameters());
    }

    #[test]
    fn the_shipped_recipe_has_a_name_and_other_names_are_files() {
        assert_eq!(Subject::named("recipe").unwrap().model.config.num_channels, 24);
        let error = Subject::named("nowhere.toml").err().unwrap().to_string();
        assert!(error.contains("nowhere.toml"), "{error}");
    }
}
