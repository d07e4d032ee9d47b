//! The grid of samples that shows what a run has learnt: a row per class.

use crate::io::render::Grid;
use crate::io::session::go_on;
use crate::recipe::Recipe;
use duet::diffusion::Solver;
use duet::model::{ModelConfig, Target, WeightSet};
use duet::rng::Seed;
use duet::sampling::{ChainOptions, Guidance, Sampler, StepSpec, Watch};
use duet::train::ClassifierInput;
use duet::weights::Weights;
use duet::{Error, Result};
use std::path::Path;

/// Samples of each class.
const COLUMNS: usize = 4;
/// Most classes shown: the first ones.
const MOST_ROWS: usize = 32;

/// Classes that a grid of `classes` shows: all, or the first ones.
pub fn shown(classes: usize) -> usize {
    classes.min(MOST_ROWS)
}

/// Images made at once, of `images` in all: as few batches as possible, of similar size, none larger than what a training
/// pass of `most` images at once takes, which needs more memory an image.
fn batch(images: usize, most: usize) -> usize {
    images.div_ceil(images.div_ceil(most.max(1)).max(1))
}

/// Draws the grid with the averaged weights, saves it and gives the images of its rows; unguided where the classifier never sees noised images. The
/// noise belongs to the seed and the image, whatever the batch.
///
/// # Errors
/// [`Error::Aborted`] at Ctrl-C; [`Error::NotFinite`]; device errors; a picture that cannot be written.
pub fn draw(weights: &Weights, recipe: &Recipe, path: &Path) -> Result<Vec<Vec<f32>>> {
    let (config, train) = (&recipe.model, &recipe.train);
    let noised = matches!(train.classifier_input, ClassifierInput::Noised | ClassifierInput::Both);
    let guidance = if noised { Guidance::Representation } else { Guidance::None };
    let rows = shown(config.num_classes);
    let count = COLUMNS * rows;
    let batch = batch(count, train.batch_size / train.micro_batches);
    // The running statistics on the device are newer than the check that `force` skips.
    let spec =
        StepSpec { solver: Solver::default(), guidance, clip: true, force: true, ..StepSpec::new(batch) };
    let new = Sampler::fitting(weights, &recipe.diffusion, &train.sample_steps, spec, WeightSet::Averaged);
    let sampler = pollster::block_on(new)?;
    let batch = sampler.batch();
    let mut images = Vec::new();
    for first in (0..count).step_by(batch) {
        images.extend(chain(&sampler, recipe, first, batch)?);
    }
    // The last batch may have had more images than were left.
    images.truncate(count * config.images(1).len());
    let rows: Vec<Vec<f32>> = images.chunks(COLUMNS * config.images(1).len()).map(<[f32]>::to_vec).collect();
    let names: Vec<String> = (0..rows.len()).map(|c| config.class_name(c)).collect();
    let grid = Grid { channels: config.in_channels, size: config.image_size, scale: 2 };
    grid.save_rows(path, &rows, &names)?;
    Ok(rows)
}

/// Images `first`, `first` + 1 and so on of the grid, in −1..1.
fn chain(sampler: &Sampler, recipe: &Recipe, first: usize, batch: usize) -> Result<Vec<f32>> {
    let (config, train): (&ModelConfig, _) = (&recipe.model, &recipe.train);
    let seed = Seed(train.seed);
    sampler.start_from_noise(seed, first as u32)?;
    let class = |image: usize| (image / COLUMNS).min(config.num_classes - 1);
    let classes: Vec<Target> = (first..first + batch).map(|image| class(image).into()).collect();
    let nothing = vec![0.0; batch * config.num_classes];
    let labels = config.head.toward(&nothing, &classes, config.num_classes)?;
    let options = ChainOptions { seed, first_row: first as u32, labels, alpha: train.sample_alpha };
    let mut hear = |_| go_on();
    pollster::block_on(sampler.run(sampler.schedule().len(), &options, Watch::Progress(&mut hear)))?;
    let mut images = pollster::block_on(sampler.get_images())?;
    if images.iter().any(|value| !value.is_finite()) {
        return Err(Error::NotFinite { detail: "the samples".into() });
    }
    images.iter_mut().for_each(|value| *value = value.clamp(-1.0, 1.0));
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;
    use duet::gpu::{Device, DeviceOptions};
    use duet::model::JointModel;
    use std::sync::Arc;

    #[test]
    fn grids_are_bounded_and_their_batches_too() {
        assert_eq!((shown(10), shown(32), shown(1000)), (10, 32, 32));
        for (images, most, want) in
            [(40, 16, 14), (40, 40, 40), (40, 128, 40), (128, 3, 3), (8, 1, 1), (40, 0, 1)]
        {
            let got = batch(images, most);
            assert_eq!(got, want, "{images} images, at most {most}");
            assert!(got <= most.max(1) && got * images.div_ceil(got) < images + got);
        }
    }

    #[test]
    fn the_images_do_not_depend_on_the_batch() {
        let device = pollster::block_on(Device::open(&DeviceOptions::default())).unwrap();
        let text = |batch: usize| {
            format!(
                "[data]\nkind = \"mnist\"\npath = \"x\"\n[model]\nimage_size = 8\nnum_channels = 8\nnum_res_blocks = 1\n\
                 channel_mult = [1, 2]\nnum_groups = 4\nnum_classes = 4\n[train]\nbatch_size = {batch}\n\
                 classifier_input = \"both\"\nsample_steps = \"3\"\nseed = 5\n"
            )
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grid.png");
        let recipe = |batch: usize| Recipe::parse(&text(batch), Path::new("recipe.toml")).unwrap();
        let model = Arc::new(JointModel::new(&recipe(16).model).unwrap());
        let start = model.params.initial(Seed(1));
        let weights = pollster::block_on(Weights::upload(&device, model, &start, Some(&start))).unwrap();
        // Sixteen at once, eight, and six, of which the last two are too many.
        let pictures = [16, 9, 6].map(|batch| {
            draw(&weights, &recipe(batch), &path).unwrap();
            image::open(&path).unwrap().into_luma8().into_raw()
        });
        for picture in &pictures[1..] {
            let apart = pictures[0].iter().zip(picture).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(picture.len() == pictures[0].len() && apart <= Some(1), "{apart:?}");
        }
        let (dark, bright) = (pictures[0].iter().min(), pictures[0].iter().max());
        assert!(dark < Some(&50) && bright > Some(&200), "an empty picture");
    }
}
