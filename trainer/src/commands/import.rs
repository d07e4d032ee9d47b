//! `duet import`: a model of another program's.

use super::network;
use crate::cli::{Cli, Import, ImportModel};
use crate::interchange::diffusers::{self, Imported};
use crate::interchange::head::{NewHead, TOPIC, UNTRAINED, drop_head};
use crate::interchange::settings::{Said, Settings};
use crate::interchange::shapes::Facts;
use crate::interchange::source::{self, bad};
use crate::io::files::{self, Kind};
use crate::io::output::{say, tell};
use duet::checkpoint::Checkpoint;
use duet::tensor::Tensors;
use duet::{Error, Result};
use std::path::Path;

/// Topic of what a checkpoint says of where it came from.
const ORIGIN: &str = "imported";

/// A network that was read, before its average and its head.
struct Read {
    settings: Settings,
    weights: Tensors,
    /// Whether it has a classifier.
    has_head: bool,
    /// What was found, in words.
    found: String,
    format: &'static str,
}

/// Runs the command.
///
/// # Errors
/// Files that cannot be read or are not such a model; settings that contradict it; a file that cannot be written.
pub fn run(arguments: &Cli, options: &Import) -> Result<()> {
    match (&options.network, &options.model) {
        (Some(what), _) => network::run(arguments, what),
        (None, Some(model)) => import(arguments, model),
        // The command line's parser does not let this be.
        (None, None) => Err(Error::config("import", "say which file")),
    }
}

fn import(arguments: &Cli, options: &ImportModel) -> Result<()> {
    files::must_end("out", &options.out, &["safetensors"])?;
    let inputs = [Some(&options.file), options.ema.as_ref(), options.config.as_ref()];
    let inputs: Vec<&Path> = inputs.into_iter().flatten().map(|path| path.as_path()).collect();
    files::check(&[(Kind::Model, &options.out)], &inputs)?;
    let head = options.new_head.as_deref().map(NewHead::parse).transpose()?;
    let said = Said::new(options.config.as_deref(), &options.set)?;
    let folder = options.file.is_dir();
    let Read { settings, mut weights, has_head, found, format } = match folder {
        true => of_diffusers(options, &said, head.as_ref())?,
        false => of_the_reference(options, &said, head.as_ref())?,
    };
    if !has_head && head.is_none() {
        let detail = "has no classifier, and this program's models have one: --new-head CLASSES gives it a new, untrained one";
        return Err(bad(&options.file, detail));
    }
    let mut model = settings.model;
    let mut ema = match &options.ema {
        Some(path) => Some(average(path, &weights)?),
        None => None,
    };
    if let Some(head) = &head {
        head.attach(&mut model, &mut weights)?;
        if let Some(ema) = &mut ema {
            // An average of what has not moved.
            head.attach(&mut model, ema)?;
        }
    }
    let mut checkpoint = Checkpoint::new(model, settings.diffusion, weights);
    checkpoint.pictures = settings.pictures;
    let model = checkpoint.joint_model(&options.file)?;
    if let Some(mut ema) = ema {
        let trained = model.params.expected(true);
        ema.retain(|name, _| trained.iter().any(|(wanted, _)| wanted == name));
        checkpoint.ema = Some(ema);
        checkpoint.joint_model(options.ema.as_deref().unwrap_or(&options.file))?;
    }
    let name = options.file.file_name().map_or_else(Default::default, |name| name.to_string_lossy());
    checkpoint.info.insert(ORIGIN.into(), format!("{name} ({format})"));
    if head.is_some() {
        checkpoint.info.insert(TOPIC.into(), UNTRAINED.into());
    }
    checkpoint.save(&options.out)?;
    let (parameters, out) = (model.params.parameter_count(), options.out.display());
    if arguments.json {
        let row = serde_json::json!({
            "file": out.to_string(), "format": format, "parameters": parameters, "ema": checkpoint.ema.is_some(),
            "model": checkpoint.model, "diffusion": checkpoint.diffusion, "new_head": head.is_some(),
            "assumed": settings.assumed,
        });
        say!("{row}");
        return Ok(());
    }
    say!("{format}: {found}");
    if !settings.assumed.is_empty() {
        say!("not in the file, and taken as follows (say otherwise with --set NAME=VALUE or --config FILE):");
        for assumed in &settings.assumed {
            say!("  {} = {}   ({})", assumed.name, assumed.value, assumed.meaning);
        }
    }
    if head.is_some() {
        say!("its classifier is {UNTRAINED}");
    }
    let averaged = if checkpoint.ema.is_some() { ", with their average" } else { "" };
    say!("wrote {out}: {parameters} parameters{averaged}");
    Ok(())
}

/// A state_dict of the reference's.
fn of_the_reference(options: &ImportModel, said: &Said, head: Option<&NewHead>) -> Result<Read> {
    let mut weights = source::read(&options.file, options.key.as_deref())?;
    let facts = Facts::of(&weights).map_err(|detail| bad(&options.file, detail))?;
    let classes = head.map(|head| head.classes).or(facts.num_classes);
    let settings = said.settle(&facts, classes)?;
    if head.is_some() {
        drop_head(&mut weights);
    }
    let format = "the reference's state_dict";
    Ok(Read { settings, weights, has_head: facts.num_classes.is_some(), found: facts.line(), format })
}

/// A folder of diffusers.
fn of_diffusers(options: &ImportModel, said: &Said, head: Option<&NewHead>) -> Result<Read> {
    for (option, given) in [("ema", options.ema.is_some()), ("key", options.key.is_some())] {
        if given {
            return Err(Error::config(
                option,
                "is for files of the reference; a folder of diffusers has one network",
            ));
        }
    }
    let Imported { mut model, diffusion, weights, has_scheduler } = diffusers::import(&options.file)?;
    let facts = Facts::of(&weights).map_err(|detail| bad(&options.file, detail))?;
    model.num_classes = head.map_or(model.num_classes, |head| head.classes);
    let settings = said.fill_in(model, diffusion, has_scheduler)?;
    let found = format!("{}×{0} images, {}", settings.model.image_size, facts.line());
    Ok(Read { settings, weights, has_head: false, found, format: "diffusers' UNet2DModel" })
}

/// The average of `weights` in another file, running statistics included.
fn average(path: &Path, weights: &Tensors) -> Result<Tensors> {
    let ema = source::read(path, None)?;
    let running = |name: &str| name.ends_with("running_mean") || name.ends_with("running_var");
    let differ = |(name, tensor): (&String, &duet::tensor::HostTensor)| {
        running(name) && ema.get(name).is_some_and(|other| other != tensor)
    };
    if weights.iter().any(differ) {
        tell!(
            "{}: BatchNorm's statistics are others than the weights' own, so it may be of another step; those of the weights \
             are kept",
            path.display()
        );
    }
    Ok(ema)
}
