//! `duet sample`: generated images, a row per class, per mixture of classes or per way from one to another; parts of a picture, images
//! near a picture.

mod goals;
mod guide;
mod told;

use crate::cli::{Cli, Sample};
use crate::data::{Array, load_image, pack};
use crate::eval::chains::from_noise;
use crate::eval::features::Pixels;
use crate::io::files::{self, Kind};
use crate::io::given::{load_mask, preparation};
use crate::io::output::{progress, say};
use crate::io::render::{Grid, level};
use crate::io::session::{Session, go_on, guidance, solver, watch_interrupts};
use duet::infer::ImageClassifier;
use duet::model::{Head, ModelConfig};
use duet::rng::Seed;
use duet::sampling::{Sampler, StepSpec};
use duet::{Error, Result};
use goals::Row;
use guide::{Guide, Target};
use std::ops::Range;
use std::path::{Path, PathBuf};
use told::Told;

/// Images of a row that a picture shows where all of them are in another file.
const SHOWN: usize = 32;

/// Sees that what is written can be, and replaces nothing that is read.
fn check_outputs(arguments: &Cli, options: &Sample) -> Result<()> {
    let mut outputs: Vec<(Kind, &Path)> = vec![(Kind::Picture, &options.out)];
    if let Some(npz) = &options.npz {
        files::must_end("npz", npz, &["npz"])?;
        outputs.push((Kind::Table, npz));
    }
    let pictures = [&options.inpaint, &options.mask, &options.near].into_iter().flatten();
    let inputs = [&options.model.model].into_iter().chain(&arguments.tuning).chain(pictures);
    files::check(&outputs, &inputs.map(PathBuf::as_path).collect::<Vec<_>>())
}

/// Images of a row that its picture shows.
///
/// # Errors
/// More than a picture can hold, where it is to hold all.
fn shown(options: &Sample, grid: Grid, names: &[String]) -> Result<usize> {
    let most = grid.most_columns(names.len(), names);
    if options.npz.is_some() {
        return Ok(options.count.min(most).min(SHOWN));
    }
    if options.count > most {
        let detail = format!(
            "must be at most {most}, or the picture becomes too large (--npz takes any number); is {}",
            options.count
        );
        return Err(Error::config("count", detail));
    }
    Ok(options.count)
}

/// A picture \[C,H,W\] as the model reads it.
fn picture(session: &Session, options: &Sample, path: &Path) -> Result<Vec<f32>> {
    Ok(load_image(path, &preparation(session, &options.reading))?.values().collect())
}

/// What stays of a picture, and where: the mask \[C,H,W\] is 1 where it may change.
struct Kept {
    original: Vec<f32>,
    mask: Vec<f32>,
}

impl Kept {
    fn load(session: &Session, options: &Sample) -> Result<Option<Kept>> {
        let (Some(original), Some(mask)) = (&options.inpaint, &options.mask) else {
            return Ok(None);
        };
        let plane = load_mask(mask, &preparation(session, &options.reading))?;
        if plane.iter().all(|share| *share == 0.0) {
            let detail = format!("{} is black all over: nothing may change", mask.display());
            return Err(Error::config("mask", detail));
        }
        let mask = plane.repeat(session.config().in_channels);
        Ok(Some(Kept { original: picture(session, options, original)?, mask }))
    }

    /// Puts them beside every image of a chain.
    fn put(&self, sampler: &Sampler) -> Result<()> {
        sampler.set_mask(&self.mask.repeat(sampler.batch()))?;
        sampler.set_original(&self.original.repeat(sampler.batch()))
    }
}

/// All images as evaluators read them, and the class of each where each row is one.
fn archive(config: &ModelConfig, rows: &[Row], planes: &[u8]) -> Result<Vec<u8>> {
    let (channels, size) = (config.in_channels, config.image_size);
    let pixels = Pixels::from_planes(planes, [channels, size, size])?;
    let count = pixels.count / rows.len().max(1);
    let mut arrays = vec![("arr_0", Array::of_bytes(&[pixels.count, size, size, channels], pixels.bytes))];
    let classes: Option<Vec<usize>> = rows.iter().map(Row::class).collect();
    if let (Some(classes), Head::Multiclass) = (classes, config.head) {
        let labels: Vec<i64> =
            classes.iter().flat_map(|class| std::iter::repeat_n(*class as i64, count)).collect();
        arrays.push(("arr_1", Array::of_labels(&[labels.len()], &labels)));
    }
    pack(&arrays)
}

/// Runs the command.
///
/// # Errors
/// A bad checkpoint, class, mixture, chain or picture; device errors; a file that cannot be written.
pub fn run(arguments: &Cli, options: &Sample) -> Result<()> {
    check_outputs(arguments, options)?;
    let session = Session::open(arguments, &options.model)?;
    session.checkpoint.require_denoising()?;
    let config = session.config().clone();
    let rows = goals::rows(&config, &options.class, &options.toward, &options.between)?;
    let target = Target::of(&config, options, &rows)?;
    let grid = Grid { channels: config.in_channels, size: config.image_size, scale: 2 };
    let names: Vec<String> = rows.iter().map(|row| row.name.clone()).collect();
    let shown = shown(options, grid, &names)?;
    let near = options.near.as_deref().map(|path| picture(&session, options, path)).transpose()?;
    let kept = Kept::load(&session, options)?;
    watch_interrupts()?;
    let total = rows.len() * options.count;
    let spec = StepSpec {
        solver: solver(&options.chain)?,
        guidance: guidance(&options.chain),
        clip: !options.chain.no_clip,
        force: options.chain.force,
        masked: kept.is_some(),
        ..StepSpec::new(options.batch.min(total))
    };
    let objectives = target.objectives();
    let sampler = Sampler::toward_fitting(
        &session.weights,
        &session.checkpoint.diffusion,
        &options.chain.steps,
        spec,
        session.set,
        &objectives,
    );
    let sampler = pollster::block_on(sampler)?;
    if let Some(kept) = &kept {
        kept.put(&sampler)?;
    }
    let guide = Guide::new(&sampler, &config, options, &rows, target, near.as_deref())?;
    let classifier = ImageClassifier::new(&session.weights, sampler.batch(), session.set);
    let classifier = pollster::block_on(classifier)?;
    let steps = sampler.schedule().len() * total.div_ceil(sampler.batch());
    let bar = progress(steps as u64, 0, "sampling {wide_bar} {pos}/{len} steps {eta}", arguments.json);
    let (count, len) = (options.count, config.images(1).image_len());
    let mut planes = Vec::with_capacity(if options.npz.is_some() { total * len } else { 0 });
    let mut drawn = vec![Vec::new(); rows.len()];
    let mut told = Told::new(&config, &rows, count, near.as_deref());
    let step = || {
        bar.inc(1);
        go_on()
    };
    let take = |made: &[f32], numbers: Range<usize>| {
        if let Some(bad) = made.chunks(len).position(|image| image.iter().any(|v| !v.is_finite())) {
            let name = &rows[(numbers.start + bad) / count].name;
            return Err(Error::NotFinite {
                detail: format!("sampling {name} gave NaN; try a smaller --alpha"),
            });
        }
        let made: Vec<f32> = made.iter().map(|value| value.clamp(-1.0, 1.0)).collect();
        let probabilities = pollster::block_on(classifier.probabilities(&made))?;
        for (number, image) in numbers.clone().zip(made.chunks(len)) {
            if number % count < shown {
                drawn[number / count].extend_from_slice(image);
            }
        }
        if options.npz.is_some() {
            planes.extend(made.iter().map(|value| level(*value)));
        }
        told.add(numbers, &probabilities, &made)
    };
    let chain = (Seed(options.chain.seed), options.alpha);
    from_noise(&sampler, total, chain, |numbers| guide.prepare(numbers), step, take)?;
    bar.finish_and_clear();
    session.close();
    grid.save_rows(&options.out, &drawn, &names)?;
    if let Some(npz) = &options.npz {
        Kind::Table.write(npz, &archive(&config, &rows, &planes)?)?;
    }
    if arguments.json {
        let mut object = told.json();
        object["picture"] = options.out.display().to_string().into();
        if let Some(npz) = &options.npz {
            object["npz"] = npz.display().to_string().into();
        }
        say!("{object}");
        return Ok(());
    }
    told.lines().iter().for_each(|line| say!("{line}"));
    for path in [Some(&options.out), options.npz.as_ref()].into_iter().flatten() {
        say!("wrote {}", path.display());
    }
    Ok(())
}
