//! diffusers' `UNet2DModel` and `DDPMPipeline`: a folder with the network's configuration and weights, and the process as a
//! scheduler's. The network is the same where its parts are laid out alike; where they are not, every reason is named.
//!
//! diffusers has no classifier on the encoder: it is left behind on the way out, and must be made anew on the way in.

mod config;
mod names;
mod scheduler;

use super::source::{self, bad};
use crate::data::whole;
use duet::checkpoint::StateDict;
use duet::diffusion::DiffusionConfig;
use duet::model::ModelConfig;
use duet::tensor::Tensors;
use duet::{Error, Result};
use serde_json::{Value, json};
use std::path::Path;

/// The network's weights in its folder.
const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";
/// The same of older versions, as a PyTorch file.
const OLD_WEIGHTS: &str = "diffusion_pytorch_model.bin";
/// The version whose configuration files these are.
const VERSION: &str = "0.42.1";

/// A network of diffusers in the reference's names.
#[derive(Clone, Debug)]
pub struct Imported {
    /// Without classes: there is no head.
    pub model: ModelConfig,
    /// The process.
    pub diffusion: DiffusionConfig,
    /// All weights but a classifier's.
    pub weights: Tensors,
    /// Whether the folder says what the process is; otherwise it is what diffusers' scheduler has by default.
    pub has_scheduler: bool,
}

/// Files of a pipeline, by their place in its folder.
///
/// # Errors
/// [`Error::Config`] with every reason why the network or its process is none that diffusers has.
pub fn export(
    model: &ModelConfig,
    diffusion: &DiffusionConfig,
    weights: &Tensors,
) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let unet = config::write(model)?;
    let (unet, scheduler) = match (unet, scheduler::write(model, diffusion)) {
        (Ok(unet), Ok(scheduler)) => (unet, scheduler),
        (unet, scheduler) => {
            let reasons: Vec<String> =
                [unet.err(), scheduler.err()].into_iter().flatten().flatten().collect();
            let detail = format!("this model is no UNet2DModel of diffusers: {}", reasons.join("; "));
            return Err(Error::config("diffusers", detail));
        }
    };
    let index = json!({
        "_class_name": "DDPMPipeline", "_diffusers_version": VERSION,
        "scheduler": ["diffusers", "DDPMScheduler"], "unet": ["diffusers", "UNet2DModel"],
    });
    let tensors = names::export(model, weights)?;
    let texts = [("format".to_owned(), "pt".to_owned())].into();
    let written = StateDict { tensors, texts }.to_bytes(Path::new(WEIGHTS))?;
    let text = |value: &Value| format!("{value:#}\n").into_bytes();
    Ok(vec![
        ("model_index.json", text(&index)),
        ("scheduler/scheduler_config.json", text(&scheduler)),
        ("unet/config.json", text(&unet)),
        ("unet/diffusion_pytorch_model.safetensors", written),
    ])
}

/// Reads a pipeline's folder, or that of a network alone.
///
/// # Errors
/// Files that are missing or damaged; [`Error::Checkpoint`] with every reason why it is no network of ours.
pub fn import(folder: &Path) -> Result<Imported> {
    let inside = folder.join("unet");
    let unet = if inside.join("config.json").is_file() { inside } else { folder.to_owned() };
    let path = unet.join("config.json");
    if !path.is_file() {
        let detail =
            "is a folder without unet/config.json or config.json: no pipeline or UNet2DModel of diffusers";
        return Err(bad(folder, detail));
    }
    let model = config::read(&object(&path)?).map_err(|reasons| {
        bad(&path, format!("is no network that this program has: {}", reasons.join("; ")))
    })?;
    let place = folder.join("scheduler/scheduler_config.json");
    let has_scheduler = place.is_file();
    let said = if has_scheduler { object(&place)? } else { serde_json::Map::new() };
    let diffusion = scheduler::read(&said).map_err(|reasons| {
        bad(&place, format!("is no process that this program has: {}", reasons.join("; ")))
    })?;
    let [new, old] = [WEIGHTS, OLD_WEIGHTS].map(|name| unet.join(name));
    let file = if !new.is_file() && old.is_file() { old } else { new };
    let weights = names::import(&model, source::read(&file, None)?).map_err(|detail| bad(&file, detail))?;
    Ok(Imported { model, diffusion, weights, has_scheduler })
}

/// A file of JSON with one object.
fn object(path: &Path) -> Result<serde_json::Map<String, Value>> {
    let bytes = whole(path).map_err(|error| bad(path, format!("cannot be read: {error}")))?;
    serde_json::from_slice(&bytes).map_err(|error| bad(path, format!("is no configuration: {error}")))
}

/// Reads settings one by one, and collects what is wrong with them.
struct Reader<'a> {
    settings: &'a serde_json::Map<String, Value>,
    /// Settings that were asked for.
    asked: std::collections::BTreeSet<&'static str>,
    reasons: Vec<String>,
}

impl<'a> Reader<'a> {
    fn new(settings: &'a serde_json::Map<String, Value>) -> Reader<'a> {
        Reader { settings, asked: Default::default(), reasons: Vec::new() }
    }

    /// What is said; nothing where it is null.
    fn get(&mut self, name: &'static str) -> Option<&'a Value> {
        self.asked.insert(name);
        self.settings.get(name).filter(|value| !value.is_null())
    }

    /// As `of` reads it, or `default` where nothing is said.
    fn read<T>(
        &mut self,
        name: &'static str,
        default: T,
        what: &str,
        of: impl Fn(&'a Value) -> Option<T>,
    ) -> T {
        let Some(value) = self.get(name) else { return default };
        of(value).unwrap_or_else(|| {
            self.reasons.push(format!("{name} is {value}, must be {what}"));
            default
        })
    }

    fn whole(&mut self, name: &'static str, default: usize) -> usize {
        self.read(name, default, "a whole number above 0", whole_number)
    }

    fn number(&mut self, name: &'static str, default: f64) -> f64 {
        self.read(name, default, "a number", Value::as_f64)
    }

    /// What has no choice: where nothing is said, it is `default`.
    fn must(&mut self, name: &'static str, default: &Value, allowed: &[Value]) {
        let value = self.get(name).unwrap_or(default);
        let same = |allowed: &Value| match (allowed.as_f64(), value.as_f64()) {
            (Some(a), Some(b)) => a == b,
            _ => allowed == value,
        };
        if !allowed.iter().any(same) {
            let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
            self.reasons.push(format!("{name} is {value}, must be {}", allowed.join(" or ")));
        }
    }

    /// Settings that do not matter here.
    fn pass_over(&mut self, names: &[&'static str]) {
        self.asked.extend(names);
    }

    /// What is wrong: settings that say something and were not asked for, too.
    fn finish(mut self) -> std::result::Result<(), Vec<String>> {
        for (name, value) in self.settings {
            if !name.starts_with('_') && !value.is_null() && !self.asked.contains(name.as_str()) {
                self.reasons.push(format!("{name} is {value}, which is not known here"));
            }
        }
        if self.reasons.is_empty() { Ok(()) } else { Err(self.reasons) }
    }
}

/// A whole number above 0.
fn whole_number(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|value| usize::try_from(value).ok()).filter(|value| *value > 0)
}
