//! Generated images, as a model makes them or as a file holds them.

use crate::cli::Metrics;
use crate::data::Arrays;
use crate::eval::chains::from_noise_some;
use crate::eval::features::{Features, Pixels};
use crate::io::output::progress;
use crate::io::render::level;
use crate::io::session::{Session, go_on};
use duet::diffusion::Solver;
use duet::model::{Head, Labels, WeightSet};
use duet::rng::Seed;
use duet::sampling::{Guidance, Sampler, StepSpec};
use duet::{Error, Result};
use std::ops::Range;
use std::path::Path;

/// Images and where they are from, for protocols.
pub struct Samples {
    /// The images.
    pub pixels: Pixels,
    /// Where they are from: sampler, steps, guidance, seed; or the file.
    pub source: String,
}

/// Images of a file: uint8 \[N,H,W,C\] as `arr_0`.
///
/// # Errors
/// A missing or damaged file, an array of another type or shape.
pub fn read(arrays: &mut Arrays) -> Result<Pixels> {
    let images = arrays.get("arr_0")?;
    let (count, [height, width], channels) =
        images.header.images().map_err(|detail| arrays.wrong("arr_0", detail))?;
    if images.header.kind != "|u1" || count == 0 {
        let detail = format!("{count} images of the type {:?}; bytes (uint8) are needed", images.header.kind);
        return Err(arrays.wrong("arr_0", detail));
    }
    Pixels::new(images.bytes, [height, width, channels])
}

/// The same, of a size that the features read: one image is looked at.
///
/// # Errors
/// As [`read`]; images of another size; device errors.
pub fn read_for(features: &mut dyn Features, arrays: &mut Arrays) -> Result<Pixels> {
    let pixels = read(arrays)?;
    match features.extract(&pixels.part(0..1)) {
        Ok(_) => Ok(pixels),
        Err(error @ Error::Shape { .. }) => Err(arrays.wrong("arr_0", error)),
        Err(error) => Err(error),
    }
}

/// Images of the file at `path`, of a size that the features read.
///
/// # Errors
/// As [`read_for`].
pub fn of_file(features: &mut dyn Features, path: &Path) -> Result<Samples> {
    let pixels = read_for(features, &mut Arrays::open(path)?)?;
    let hash = blake3::hash(&pixels.bytes).to_hex();
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(Samples { source: format!("of {file} (blake3:{})", &hash[..12]), pixels })
}

/// Generates the images `range` of as many as `options` ask for: with guidance of each class equally many, in turn.
///
/// # Errors
/// A model that cannot generate; a bad chain; guidance that the model has none of; [`Error::NotFinite`]; [`Error::Aborted`] after Ctrl-C;
/// device errors.
pub fn generate(
    session: &Session,
    options: &Metrics,
    range: Range<usize>,
    (seed, batch, quiet): (u64, usize, bool),
) -> Result<Samples> {
    session.checkpoint.require_denoising()?;
    let config = session.config();
    let guidance = options.sample_guidance.guidance();
    if config.head == Head::MultiLabel && guidance != Guidance::None {
        return Err(Error::config("sample-guidance", "a multi-label model has no single class to move to"));
    }
    let solver = Solver::named(&options.sample_solver, options.sample_eta)?;
    let spec =
        StepSpec { solver, guidance, clip: true, ..StepSpec::new(batch.clamp(1, options.samples.max(1))) };
    let diffusion = &session.checkpoint.diffusion;
    let sampler = Sampler::fitting(&session.weights, diffusion, &options.sample_steps, spec, session.set);
    let sampler = pollster::block_on(sampler)?;
    let (batch, steps) = (sampler.batch(), sampler.schedule().len());
    let work = (range.len().div_ceil(batch) * steps) as u64;
    let bar = progress(work, 0, "generating {wide_bar} {pos}/{len} steps {eta}", quiet);
    let mut planes = Vec::with_capacity(range.len() * config.images(1).image_len());
    let labels = |rows: &[usize]| {
        Ok(Labels::Classes(rows.iter().map(|row| (row % config.num_classes) as u32).collect()))
    };
    let step = || {
        bar.inc(1);
        go_on()
    };
    let take = |made: &[f32], _| {
        if made.iter().any(|value| !value.is_finite()) {
            let detail = "generating images gave NaN; try more --sample-steps or a smaller --sample-alpha";
            return Err(Error::NotFinite { detail: detail.into() });
        }
        planes.extend(made.iter().map(|value| level(*value)));
        Ok(())
    };
    let chain = (Seed(seed), options.sample_alpha);
    from_noise_some(&sampler, (options.samples, range), chain, labels, step, take)?;
    bar.finish_and_clear();
    let size = config.image_size;
    let pixels = Pixels::from_planes(&planes, [config.in_channels, size, size])?;
    let steered = match guidance {
        Guidance::None => "unguided".to_owned(),
        _ => format!(
            "guided by {} (α = {})",
            if guidance == Guidance::Gradient { "Eq. 12" } else { "Algorithm 1" },
            options.sample_alpha
        ),
    };
    let weights = if session.set == WeightSet::Averaged { "EMA weights" } else { "weights as in the file" };
    let source = format!("by {weights}, {solver}, {steps} steps, {steered}, x0 clipped, seed {seed}");
    Ok(Samples { pixels, source })
}
