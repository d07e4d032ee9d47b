//! `duet augment`: what augmentation does to images, on a sheet.

use crate::cli::{Augment as Options, Cli};
use crate::io::data::Reader;
use crate::io::files::{self, Kind};
use crate::io::output::say;
use crate::io::render::Grid;
use crate::io::session::open_device;
use crate::recipe::Recipe;
use duet::gpu::Device;
use duet::model::ModelConfig;
use duet::rng::Seed;
use duet::train::{
    Augment, Augmenter, Brightness, ColorJitter, Contrast, Crop, HorizontalFlip, MixUp, Rotation, Sharpness,
};
use duet::{Error, Result};

/// Runs the command.
///
/// # Errors
/// A bad recipe or data; device errors; a picture that cannot be written.
pub fn run(arguments: &Cli, options: &Options) -> Result<()> {
    let recipe = Recipe::load_on(&options.recipe, options.data.as_deref())?;
    files::check(&[(Kind::Picture, &options.out)], &[&options.recipe])?;
    let (config, own) = (&recipe.model, recipe.augment.is_on());
    let mut augment = if own { recipe.augment.clone() } else { everything(config.in_channels) };
    let kinds = kinds(&augment);
    let mut names = vec!["as they are".to_owned()];
    names.extend(kinds.iter().map(|(name, _)| (*name).to_owned()));
    names.push("all together".into());
    let grid = Grid {
        channels: config.in_channels,
        size: config.image_size,
        scale: (96 / config.image_size.max(1)).clamp(1, 4) as u32,
    };
    let most = grid.most_columns(names.len(), &names);
    if options.count > most {
        let detail =
            format!("must be at most {most}, or the picture becomes too large; is {}", options.count);
        return Err(Error::config("count", detail));
    }
    let train = Reader::of(arguments).load(&recipe.data, config.in_channels, config.image_size)?.train;
    if augment.border.is_empty() {
        // By the data's own number of classes: the model's need not fit yet.
        let config = ModelConfig { num_classes: train.class_names.len(), ..config.clone() };
        augment.border = train.examples(&config)?.border();
    }
    // Mixed in pairs: one more image than shown where their number is odd.
    let batch = options.count.next_multiple_of(2);
    let images = train.images_f32(&spread(train.len(), batch));
    let device = open_device(arguments)?;
    let mut rows = vec![images.clone()];
    for (_, kind) in kinds {
        let kind = Augment { border: augment.border.clone(), ..kind };
        rows.push(augmented(&device, config, &kind, &images, recipe.train.seed)?);
    }
    rows.push(augmented(&device, config, &augment, &images, recipe.train.seed)?);
    rows.iter_mut().for_each(|row| row.truncate(options.count * config.images(1).len()));
    grid.save_rows(&options.out, &rows, &names)?;
    device.save_pipeline_cache();
    let picture = options.out.display();
    if arguments.json {
        let line = serde_json::json!({
            "picture": picture.to_string(), "rows": names, "border": augment.border, "of_recipe": own,
        });
        say!("{line}");
        return Ok(());
    }
    if !own {
        say!("the recipe augments nothing: shown is every kind as it is by default");
    }
    say!("wrote {picture}; beyond an image's edge lies {:?}", augment.border);
    Ok(())
}

/// `count` rows spread over `len` images, over and over where there are fewer.
fn spread(len: usize, count: usize) -> Vec<usize> {
    let rows = 0..count;
    if len < count {
        rows.map(|row| row % len.max(1)).collect()
    } else {
        rows.map(|row| row * len / count).collect()
    }
}

/// Every kind as it is by default; what needs colours where there are any.
fn everything(channels: usize) -> Augment {
    Augment {
        color_jitter: (channels == 3).then(ColorJitter::default),
        crop: Some(Crop::default()),
        rotation: Some(Rotation::default()),
        horizontal_flip: Some(HorizontalFlip::default()),
        contrast: Some(Contrast::default()),
        sharpness: Some(Sharpness::default()),
        brightness: Some(Brightness::default()),
        mixup: Some(MixUp::default()),
        border: Vec::new(),
    }
}

/// The kinds that are on, each by itself and happening to every image.
fn kinds(all: &Augment) -> Vec<(&'static str, Augment)> {
    let nothing = Augment::default;
    let probability = 1.0;
    let kinds = [
        (
            "color jitter",
            Augment { color_jitter: all.color_jitter.map(|k| ColorJitter { probability, ..k }), ..nothing() },
        ),
        ("crop", Augment { crop: all.crop.map(|k| Crop { probability, ..k }), ..nothing() }),
        ("rotation", Augment { rotation: all.rotation.map(|k| Rotation { probability, ..k }), ..nothing() }),
        (
            "horizontal flip",
            Augment {
                horizontal_flip: all.horizontal_flip.map(|_| HorizontalFlip { probability }),
                ..nothing()
            },
        ),
        ("contrast", Augment { contrast: all.contrast.map(|k| Contrast { probability, ..k }), ..nothing() }),
        (
            "sharpness",
            Augment { sharpness: all.sharpness.map(|k| Sharpness { probability, ..k }), ..nothing() },
        ),
        (
            "brightness",
            Augment { brightness: all.brightness.map(|k| Brightness { probability, ..k }), ..nothing() },
        ),
        ("mixup", Augment { mixup: all.mixup.map(|k| MixUp { probability, ..k }), ..nothing() }),
    ];
    kinds.into_iter().filter(|(_, kind)| kind.is_on()).collect()
}

/// Images in −1..1, an even number, as step 0 of a run would show them to the classifier.
fn augmented(
    device: &Device,
    config: &ModelConfig,
    augment: &Augment,
    images: &[f32],
    seed: u64,
) -> Result<Vec<f32>> {
    let (size, batch) = (config.image_size, images.len() / config.images(1).len());
    let augmenter = pollster::block_on(Augmenter::new(device, config, augment, batch))?;
    let drawn = (0..batch).map(|row| augment.draw(Seed(seed), 0, row as u32, [size, size]));
    pollster::block_on(augmenter.apply(images, &drawn.collect::<Vec<_>>()))
}
