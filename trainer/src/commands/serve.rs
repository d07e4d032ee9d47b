//! `duet serve`: the page with a model on this machine.

use super::export_images::first_of_each;
use crate::cli::{Cli, Data, Serve, WeightSet};
use crate::data::{Dataset, INDEX, Indexed};
use crate::io::data::Reader;
use crate::io::output::{say, tell};
use crate::io::render::{Grid, Palette};
use crate::io::session::{averaged, data, load_checkpoint, watch_interrupts};
use crate::serve::{Page, Server, Site};
use crate::training::CHECKPOINT;
use duet::checkpoint::{Checkpoint, Dtype};
use duet::model::Labels;
use duet::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The page's list of the models that its menu offers.
const MODELS: &str = "models.json";
/// The model that is served, in a folder that the page itself has not.
const MODEL: &str = "own/model.safetensors";
/// Its samples.
const IMAGES: &str = "own/images";

/// Files by path.
type Files = BTreeMap<String, Vec<u8>>;

/// Runs the command.
///
/// # Errors
/// A bad checkpoint; a program without the page; a port that is taken.
pub fn run(arguments: &Cli, options: &Serve) -> Result<()> {
    let page = Page::new(options.page.as_deref())?;
    let files = match &options.model {
        Some(path) => files(arguments, options, path, &page)?,
        None => {
            let Data { recipe, data } = &options.data;
            if recipe.is_some() || data.is_some() {
                return Err(Error::config("data", "is of a model: name one, the page's own has its samples"));
            }
            BTreeMap::new()
        }
    };
    let server = Server::new(options.host, options.port)?;
    watch_interrupts()?;
    let address = server.address();
    if arguments.json {
        say!("{}", serde_json::json!({"address": format!("http://{address}/")}));
    } else {
        say!("http://{address}/ (Ctrl-C ends it)");
    }
    if !address.ip().is_loopback() {
        tell!(
            "duet: other machines' browsers give this page no WebGPU, unless something in front of it speaks https"
        );
    }
    server.run(&Site::new(page, files));
    Ok(())
}

/// The checkpoint of a run's folder, or the file itself.
fn file_of(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(CHECKPOINT) } else { path.to_owned() }
}

/// What a model is called: as its folder, or as its file where that says more than that it is a checkpoint.
fn name_of(path: &Path) -> String {
    let file = path.file_name() == Some(CHECKPOINT.as_ref());
    let path = if file { path.parent().unwrap_or(path) } else { path };
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    name.map_or_else(|| "your model".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The page's list with the model that is served before its own ones; `icon`: a picture of it.
fn listed(page: &Page, name: &str, icon: Option<&str>) -> Vec<serde_json::Value> {
    let own = page.file(MODELS).and_then(|list| serde_json::from_slice::<Vec<_>>(&list).ok());
    let served = serde_json::json!({
        "id": "own", "name": name, "about": "served by duet", "file": MODEL, "samples": IMAGES, "icon": icon,
    });
    std::iter::once(served).chain(own.into_iter().flatten()).collect()
}

/// The model's files, and the list that names it first.
fn files(arguments: &Cli, options: &Serve, served: &Path, page: &Page) -> Result<Files> {
    let path = &file_of(served);
    let (checkpoint, _) = load_checkpoint(path)?;
    checkpoint.require_denoising()?;
    let mut files = BTreeMap::from([(MODEL.to_owned(), model(&checkpoint, options.weights, path)?)]);
    let (samples, index) = match options.samples {
        0 => (BTreeMap::new(), Vec::new()),
        count => match data(&Reader::of(arguments), &checkpoint, &options.data) {
            Ok(split) => samples(&split.test, count)?,
            // Data that were asked for have to be there; those the model was trained on may be on another machine.
            Err(error) if options.data.recipe.is_some() || options.data.data.is_some() => return Err(error),
            Err(error) => {
                tell!("duet: the page offers no test images ({error}); --data says where they are");
                (BTreeMap::new(), Vec::new())
            }
        },
    };
    files.extend(samples);
    let bytes =
        |list: serde_json::Result<Vec<u8>>| list.map_err(|error| Error::config("samples", error.to_string()));
    let icon = index.first().map(|Indexed { file, .. }| format!("{IMAGES}/{file}"));
    files.insert(
        MODELS.to_owned(),
        bytes(serde_json::to_vec(&listed(page, &name_of(served), icon.as_deref())))?,
    );
    files.insert(format!("{IMAGES}/{INDEX}"), bytes(serde_json::to_vec(&index))?);
    Ok(files)
}

/// The weights alone, in 16-bit floats where all fit.
fn model(checkpoint: &Checkpoint, weights: WeightSet, path: &Path) -> Result<Vec<u8>> {
    let averaged = averaged(checkpoint, weights, path)?;
    checkpoint.export(Dtype::F16, averaged).or_else(|_| checkpoint.export(Dtype::F32, averaged))
}

/// The first `count` test images of each class as PNG files, by path, and their list; of labels those any image has.
fn samples(test: &Dataset, count: usize) -> Result<(Files, Vec<Indexed>)> {
    let names = &test.class_names;
    let chosen: Vec<(usize, String)> = match &test.labels {
        Labels::Classes(classes) => first_of_each(classes, names.len(), count * names.len())
            .into_iter()
            .map(|row| (row, names[classes[row] as usize].clone()))
            .collect(),
        Labels::MultiLabel(labels) => {
            let words = |row: usize| {
                let has = |label: &usize| labels[row * names.len() + label] > 0.5;
                let own: Vec<&str> =
                    (0..names.len()).filter(has).map(|label| names[label].as_str()).collect();
                if own.is_empty() { "none".to_owned() } else { own.join(", ") }
            };
            let mut seen: BTreeMap<String, usize> = BTreeMap::new();
            let mut fresh = |(_, words): &(usize, String)| {
                let number = seen.entry(words.clone()).or_default();
                *number += 1;
                *number <= count
            };
            (0..test.len()).map(|row| (row, words(row))).filter(|entry| fresh(entry)).collect()
        }
    };
    let grid = Grid { channels: test.channels, size: test.size, scale: 1 };
    let (mut files, mut index) = (BTreeMap::new(), Vec::new());
    for (row, label) in chosen {
        let file = format!("{row:05}.png");
        let path = format!("{IMAGES}/{file}");
        let png = grid.encode_one(Path::new(&path), &test.images_f32(&[row]), Palette::Image, None)?;
        files.insert(path, png);
        index.push(Indexed { file, label });
    }
    Ok((files, index))
}
