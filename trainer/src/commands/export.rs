//! `duet export`: the averaged weights alone, in 16-bit floats, for shipping; with statistics of the training data where
//! those are given.

use super::export_onnx;
use crate::cli::{Cli, Export, WeightSet};
use crate::data::{Dataset, ending};
use crate::eval::accuracy::{TEST_ACCURACY, TEST_IMAGES};
use crate::io::files::{self, Kind};
use crate::io::output::{progress, say};
use crate::io::session::{Session, load_checkpoint};
use duet::checkpoint::{Checkpoint, Dtype};
use duet::infer::NoiseProfiles;
use duet::typicality::{LEAST_IMAGES, Protocol, Reference};
use duet::{Error, Result};

/// Images measured together.
const PART: usize = 8;

/// Runs the command.
///
/// # Errors
/// A bad checkpoint; values beyond the range of 16-bit floats; a file that cannot be written; bad data.
pub fn run(arguments: &Cli, options: &Export) -> Result<()> {
    if let Some(kind) = options.onnx.kind {
        return export_onnx::run(arguments, options, kind);
    }
    let inputs = [Some(&options.model.model), options.data.recipe.as_ref(), arguments.tuning.as_ref()];
    let inputs: Vec<_> = inputs.into_iter().flatten().map(|path| path.as_path()).collect();
    if ending(&options.out) != "safetensors" {
        let detail = format!("{} must end in .safetensors", options.out.display());
        return Err(Error::config("out", detail));
    }
    files::check(&[(Kind::Model, &options.out)], &inputs)?;
    let (mut checkpoint, model) = load_checkpoint(&options.model.model)?;
    let ema = match options.model.weights {
        WeightSet::Auto => checkpoint.ema.is_some(),
        WeightSet::Ema => true,
        WeightSet::Raw => false,
    };
    if !ema && checkpoint.ema.is_some() {
        // The accuracy that training noted is the average's.
        checkpoint.info.retain(|topic, _| ![TEST_ACCURACY, TEST_IMAGES].contains(&topic.as_str()));
    }
    let dtype = if options.f32 { Dtype::F32 } else { Dtype::F16 };
    let mut bytes = checkpoint.export(dtype, ema)?;
    let path = options.out.display().to_string();
    // Of the weights as they are in the file.
    let mut exported = Checkpoint::from_bytes(&bytes, &options.out)?;
    if options.data.recipe.is_some() || options.data.data.is_some() {
        exported.require_denoising()?;
        let session = Session::of(arguments, exported, &options.out)?;
        let train = session.data(&options.data)?.train;
        let reference = measure(&session, &train, options.typicality_images, arguments.json)?;
        session.close();
        exported = Checkpoint { typicality: Some(reference), ..session.checkpoint };
        bytes = exported.export(dtype, false)?;
    }
    Kind::Model.write(&options.out, &bytes)?;
    let (count, images) =
        (model.params.parameter_count(), exported.typicality.as_ref().map(Reference::images));
    if arguments.json {
        let row = serde_json::json!({
            "file": path, "bytes": bytes.len(), "parameters": count, "typicality_images": images,
        });
        say!("{row}");
        return Ok(());
    }
    say!("wrote {path}: {count} parameters in {}", crate::io::output::bytes(bytes.len() as u64));
    match images {
        Some(images) => say!("with statistics of {images} training images, to tell pictures unlike them"),
        None => say!(
            "without statistics of the training data: pictures unlike them will not be told (--recipe or --data stores them)"
        ),
    }
    Ok(())
}

/// The statistics of `wanted` of the training images, evenly spread over them.
fn measure(session: &Session, train: &Dataset, wanted: usize, quiet: bool) -> Result<Reference> {
    let count = wanted.min(train.len());
    if count < LEAST_IMAGES {
        let detail = format!(
            "statistics need at least {LEAST_IMAGES} training images, these are {count}: give more, or no data"
        );
        return Err(Error::config("typicality-images", detail));
    }
    let diffusion = &session.checkpoint.diffusion;
    let protocol = Protocol::new(diffusion);
    let new = NoiseProfiles::new(&session.weights, diffusion, &protocol, PART, session.set);
    let profiles = pollster::block_on(new)?;
    let rows: Vec<usize> = (0..count).map(|i| i * train.len() / count).collect();
    let bar = progress(count as u64, 0, "measuring {wide_bar} {pos}/{len} training images {eta}", quiet);
    let mut all = Vec::with_capacity(count);
    for part in rows.chunks(PART) {
        all.extend(pollster::block_on(profiles.get(&train.images_f32(part)))?);
        bar.inc(part.len() as u64);
    }
    bar.finish_and_clear();
    Reference::new(protocol, &all)
}
