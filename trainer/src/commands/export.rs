//! `duet export`: the averaged weights alone, in 16-bit floats, for shipping, with statistics of the training data where those
//! are given; as PyTorch's file; as a pipeline of diffusers.

use super::export_onnx;
use crate::cli::{Cli, Export};
use crate::data::Dataset;
use crate::eval::accuracy::{TEST_ACCURACY, TEST_IMAGES};
use crate::interchange::diffusers;
use crate::io::files::{self, Kind};
use crate::io::output::{progress, say};
use crate::io::session::{Session, averaged, load_checkpoint};
use duet::checkpoint::{Checkpoint, Dtype};
use duet::infer::NoiseProfiles;
use duet::model::JointModel;
use duet::tensor::Tensors;
use duet::typicality::{LEAST_IMAGES, Protocol, Reference};
use duet::{Error, Result};
use std::path::Path;

/// Images measured together.
const PART: usize = 8;

/// Runs the command.
///
/// # Errors
/// A bad checkpoint; values beyond the range of 16-bit floats; a network that the other program has no place for; a file that
/// cannot be written; bad data.
pub fn run(arguments: &Cli, options: &Export) -> Result<()> {
    if let Some(kind) = options.onnx.kind {
        return export_onnx::run(arguments, options, kind);
    }
    let inputs = [Some(&options.model.model), options.data.recipe.as_ref(), arguments.tuning.as_ref()];
    let inputs: Vec<_> = inputs.into_iter().flatten().map(|path| path.as_path()).collect();
    if let Some(out) = &options.out {
        files::must_end("out", out, &["safetensors"])?;
    }
    if let Some(pt) = &options.pt {
        files::must_end("pt", pt, &["pt", "pth"])?;
    }
    let outputs: Vec<(Kind, &Path)> =
        [&options.out, &options.pt].into_iter().flatten().map(|path| (Kind::Model, path.as_path())).collect();
    files::check(&outputs, &inputs)?;
    let (mut checkpoint, model) = load_checkpoint(&options.model.model)?;
    let ema = averaged(&checkpoint, options.model.weights, &options.model.model)?;
    if !ema && checkpoint.ema.take().is_some() {
        // The accuracy that training noted is the average's.
        checkpoint.info.retain(|topic, _| ![TEST_ACCURACY, TEST_IMAGES].contains(&topic.as_str()));
    }
    if options.diffusers.is_some() || options.pt.is_some() {
        let inference = checkpoint.clone().into_inference();
        if let Some(folder) = &options.diffusers {
            for_diffusers(arguments, &inference, folder, &inputs)?;
        }
        if let Some(path) = &options.pt {
            for_pytorch(arguments, &inference.weights, &model, path)?;
        }
    }
    match &options.out {
        Some(out) => for_shipping(arguments, options, &checkpoint, &model, out),
        None => Ok(()),
    }
}

/// Writes a model for inference: the average where there is one, or the weights.
fn for_shipping(
    arguments: &Cli,
    options: &Export,
    checkpoint: &Checkpoint,
    model: &JointModel,
    out: &Path,
) -> Result<()> {
    let dtype = if options.f32 { Dtype::F32 } else { Dtype::F16 };
    let mut bytes = checkpoint.export(dtype, checkpoint.ema.is_some())?;
    let path = out.display().to_string();
    // Of the weights as they are in the file.
    let mut exported = Checkpoint::from_bytes(&bytes, out)?;
    if options.data.recipe.is_some() || options.data.data.is_some() {
        exported.require_denoising()?;
        let session = Session::of(arguments, exported, out)?;
        let train = session.data(&options.data)?.train;
        let reference = measure(&session, &train, options.typicality_images, arguments.json)?;
        session.close();
        exported = Checkpoint { typicality: Some(reference), ..session.checkpoint };
        bytes = exported.export(dtype, false)?;
    }
    Kind::Model.write(out, &bytes)?;
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

/// Writes weights as the reference's state_dict, in its order.
fn for_pytorch(arguments: &Cli, weights: &Tensors, model: &JointModel, path: &Path) -> Result<()> {
    let names = model.params.expected(false);
    let tensors = names.iter().filter_map(|(name, _)| Some((name.as_str(), weights.get(name)?)));
    let bytes = duet::torch::to_bytes(tensors)?;
    Kind::Model.write(path, &bytes)?;
    let path = path.display().to_string();
    if arguments.json {
        say!("{}", serde_json::json!({"pt": path, "bytes": bytes.len(), "tensors": names.len()}));
    } else {
        let size = crate::io::output::bytes(bytes.len() as u64);
        say!("wrote {path}: a state_dict of {} tensors in {size}, for torch.load", names.len());
    }
    Ok(())
}

/// Writes a pipeline of diffusers. Files that are there already are replaced, others stay.
fn for_diffusers(arguments: &Cli, checkpoint: &Checkpoint, folder: &Path, inputs: &[&Path]) -> Result<()> {
    checkpoint.require_denoising()?;
    let written = diffusers::export(&checkpoint.model, &checkpoint.diffusion, &checkpoint.weights)?;
    for (name, bytes) in &written {
        let path = folder.join(name);
        files::check_distinct(&[(Kind::Table, &path)], inputs)?;
        files::make_folder(path.parent().unwrap_or(folder))?;
        Kind::Table.write(&path, bytes)?;
    }
    let path = folder.display().to_string();
    if arguments.json {
        let names: Vec<&str> = written.iter().map(|(name, _)| *name).collect();
        say!("{}", serde_json::json!({"diffusers": path, "files": names}));
    } else {
        say!("wrote {path}: a DDPMPipeline of diffusers, without the classifier, for which it has no place");
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
