//! `duet sample`: generated images, a row per class, per mixture of classes or per way from one to another; parts of a picture, images
//! near a picture.

mod goals;
mod guide;
mod told;

use crate::cli::{Cli, Merge, Sample, Shard};
use crate::data::{Array, load_image, pack};
use crate::eval::chains::from_noise_some;
use crate::eval::features::Pixels;
use crate::io::files::{self, Kind};
use crate::io::given::{load_mask, preparation};
use crate::io::output::{progress, say};
use crate::io::render::{Grid, level};
use crate::io::session::{Session, go_on, guidance, solver, watch_interrupts};
use crate::shard::{Gathered, Identity, Part, Table, Target};
use duet::infer::ImageClassifier;
use duet::model::{Head, ModelConfig};
use duet::rng::Seed;
use duet::sampling::{Sampler, StepSpec};
use duet::{Error, Result};
use goals::Row;
use guide::{Aim, Guide};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::ops::Range;
use std::path::{Path, PathBuf};
use told::{Told, distance};

/// Images of a row that a picture shows where all of them are in another file.
const SHOWN: usize = 32;

/// What parts of it are called.
pub const NAME: &str = "sample";

/// What is written.
struct SampleFiles {
    picture: PathBuf,
    npz: Option<PathBuf>,
}

impl SampleFiles {
    /// Sees that it can be, and replaces nothing that is read.
    fn check(&self, inputs: &[&Path]) -> Result<()> {
        let mut outputs: Vec<(Kind, &Path)> = vec![(Kind::Picture, &self.picture)];
        if let Some(npz) = &self.npz {
            files::must_end("npz", npz, &["npz"])?;
            outputs.push((Kind::Table, npz));
        }
        files::check(&outputs, inputs)
    }

    /// Images of a row that its picture shows.
    ///
    /// # Errors
    /// More than a picture can hold, where it is to hold all.
    fn shown(&self, facts: &Facts) -> Result<usize> {
        let (count, names) = (facts.count, facts.names());
        let most = facts.grid().most_columns(names.len(), &names);
        if self.npz.is_some() {
            return Ok(count.min(most).min(SHOWN));
        }
        if count > most {
            let detail = format!(
                "must be at most {most}, or the picture becomes too large (--npz takes any number); is {count}"
            );
            return Err(Error::config("count", detail));
        }
        Ok(count)
    }
}

/// Files that are read.
fn inputs<'a>(arguments: &'a Cli, options: &'a Sample) -> Vec<&'a Path> {
    let pictures = [&options.inpaint, &options.mask, &options.near].into_iter().flatten();
    let inputs = [&options.model.model].into_iter().chain(&arguments.tuning).chain(pictures);
    inputs.map(PathBuf::as_path).collect()
}

/// What is known of all images beside themselves.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Facts {
    config: ModelConfig,
    rows: Vec<Row>,
    /// Images of a row.
    count: usize,
    /// Whether they were to stay near a picture.
    near: bool,
}

impl Facts {
    const NAME: &str = "sample";

    fn grid(&self) -> Grid {
        Grid { channels: self.config.in_channels, size: self.config.image_size, scale: 2 }
    }

    fn names(&self) -> Vec<String> {
        self.rows.iter().map(|row| row.name.clone()).collect()
    }
}

/// The images, row after row.
const IMAGES: &str = "images";

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
    let outputs = SampleFiles { picture: options.out.clone(), npz: options.npz.clone() };
    let target = Target::of(&options.shard, NAME)?;
    match &target {
        // Only `duet merge` writes them, or the first of several processes.
        Some(target) if !target.merges() => {
            options.npz.iter().try_for_each(|npz| files::must_end("npz", npz, &["npz"]))?
        }
        _ => outputs.check(&inputs(arguments, options))?,
    }
    let session = Session::open(arguments, &options.model)?;
    session.checkpoint.require_denoising()?;
    let config = session.config().clone();
    let rows = goals::rows(&config, &options.class, &options.toward, &options.between)?;
    let facts = Facts { config, rows, count: options.count, near: options.near.is_some() };
    outputs.shown(&facts)?;
    let shard = target.as_ref().map_or(Shard::WHOLE, |target| target.shard);
    let identity = target.as_ref().map(|_| identity(arguments, options, &session)).transpose()?;
    let mut part = Part::default();
    part.put(IMAGES, images(arguments, options, &session, &facts, shard)?);
    session.close();
    if let (Some(target), Some(identity)) = (target, identity) {
        part.state(Facts::NAME, &facts)?;
        let outputs = json!({ "out": options.out, "npz": options.npz });
        return target.write(arguments, &session, identity, outputs, &part);
    }
    finish(arguments, &outputs, &facts, &mut part)
}

/// Makes the picture and the file of images of which parts were generated.
///
/// # Errors
/// Files that cannot be written.
pub fn merge(arguments: &Cli, options: &Merge, mut all: Gathered) -> Result<()> {
    let picture = all.output("out", options.out.as_deref());
    let picture = picture.ok_or_else(|| Error::config("out", "is not named"))?;
    let outputs = SampleFiles { picture, npz: all.output("npz", options.npz.as_deref()) };
    outputs.check(
        &options.shards.iter().filter(|path| path.is_file()).map(PathBuf::as_path).collect::<Vec<_>>(),
    )?;
    let facts: Facts = all.part.fact(Facts::NAME)?;
    finish(arguments, &outputs, &facts, &mut all.part)
}

/// What the images of all parts are of.
fn identity(arguments: &Cli, options: &Sample, session: &Session) -> Result<Identity> {
    Identity::new(NAME, arguments, options)?
        .with_file("model", Some(&options.model.model))?
        .with("weights", format!("{:?}", session.set))
        .with_file("inpaint", options.inpaint.as_deref())?
        .with_file("mask", options.mask.as_deref())?
        .with_file("near", options.near.as_deref())
}

/// Generates a part of the images: their levels, what the classifier makes of them, how far they are from the picture to stay near.
fn images(
    arguments: &Cli,
    options: &Sample,
    session: &Session,
    facts: &Facts,
    shard: Shard,
) -> Result<Table> {
    let Facts { config, rows, count, .. } = facts;
    let target = Aim::of(config, options, rows)?;
    let near = options.near.as_deref().map(|path| picture(session, options, path)).transpose()?;
    let kept = Kept::load(session, options)?;
    watch_interrupts()?;
    let total = rows.len() * count;
    let batch = options.batch.min(total);
    let range = shard.range(total, batch);
    let spec = StepSpec {
        solver: solver(&options.chain)?,
        guidance: guidance(&options.chain),
        clip: !options.chain.no_clip,
        force: options.chain.force,
        masked: kept.is_some(),
        ..StepSpec::new(batch)
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
    let guide = Guide::new(&sampler, config, options, rows, target, near.as_deref())?;
    let classifier = ImageClassifier::new(&session.weights, sampler.batch(), session.set);
    let classifier = pollster::block_on(classifier)?;
    let steps = sampler.schedule().len() * range.len().div_ceil(sampler.batch());
    let bar = progress(steps as u64, 0, "sampling {wide_bar} {pos}/{len} steps {eta}", arguments.json);
    let len = config.images(1).image_len();
    let mut levels = Vec::with_capacity(range.len() * len);
    let (mut probabilities, mut distances) = (Vec::new(), Vec::new());
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
        probabilities.extend(pollster::block_on(classifier.probabilities(&made))?);
        levels.extend(made.iter().map(|value| level(*value)));
        if let Some(near) = &near {
            distances.extend(made.chunks(len).map(|image| distance(image, near)));
        }
        Ok(())
    };
    let chain = (Seed(options.chain.seed), options.alpha);
    let labels = |numbers: &[usize]| guide.prepare(numbers);
    from_noise_some(&sampler, (total, range.clone()), chain, labels, step, take)?;
    bar.finish_and_clear();
    let table =
        Table::new(total, range).with_bytes("levels", levels)?.with_f32("probabilities", probabilities)?;
    if facts.near { table.with_f64("distance", distances) } else { Ok(table) }
}

/// Writes all images, and tells what the classifier takes them for.
fn finish(arguments: &Cli, outputs: &SampleFiles, facts: &Facts, part: &mut Part) -> Result<()> {
    let Facts { config, rows, count, near } = facts;
    let shown = outputs.shown(facts)?;
    let mut table = part.take(IMAGES)?;
    let ((levels, len), (probabilities, classes)) = (table.bytes("levels")?, table.f32s("probabilities")?);
    let distances = if *near { table.f64s("distance")?.0 } else { Vec::new() };
    if [len, classes] != [config.images(1).image_len(), config.num_classes]
        || table.total() != rows.len() * count
    {
        return Err(Error::config("shards", "hold images of another size or number than they say"));
    }
    let mut drawn = vec![Vec::new(); rows.len()];
    let mut told = Told::new(config, rows, *count, *near);
    let images = levels.chunks(len).zip(probabilities.chunks(classes)).enumerate();
    for (number, (image, seen)) in images {
        if number % count < shown {
            drawn[number / count].extend(image.iter().copied().map(duet::picture::value));
        }
        told.add(number, seen, distances.get(number))?;
    }
    facts.grid().save_rows(&outputs.picture, &drawn, &facts.names())?;
    if let Some(npz) = &outputs.npz {
        Kind::Table.write(npz, &archive(config, rows, &levels)?)?;
    }
    if arguments.json {
        let mut object = told.json();
        object["picture"] = outputs.picture.display().to_string().into();
        if let Some(npz) = &outputs.npz {
            object["npz"] = npz.display().to_string().into();
        }
        say!("{object}");
        return Ok(());
    }
    told.lines().iter().for_each(|line| say!("{line}"));
    for path in [Some(&outputs.picture), outputs.npz.as_ref()].into_iter().flatten() {
        say!("wrote {}", path.display());
    }
    Ok(())
}
