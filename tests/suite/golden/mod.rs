//! Golden data: numbers computed by the reference's own code.
//!
//! Every `.safetensors` file in `tests/fixtures` is compared, and every one in the folder that `DUET_GOLDEN` names; what
//! a file holds is told by its metadata. Networks as wide as the paper's take minutes on a software device and have a test of
//! their own, which `make slow-test` runs.

mod average;
mod fixture;
mod layers;
mod model;
mod sampling;
mod setup;
mod synthetic;
mod training;

pub use fixture::{Fixture, weights};
pub use setup::Setup;
use std::path::{Path, PathBuf};

/// Networks of so many channels take minutes on a software device.
const SLOW_CHANNELS: u64 = 128;

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "safetensors"));
    files.sort();
    files
}

/// Whether a file is left to the slow tests.
fn is_slow(path: &Path) -> bool {
    Fixture::load(path).config["num_channels"].as_u64() >= Some(SLOW_CHANNELS)
}

fn compare(path: &Path) -> Result<(), String> {
    let fixture = Fixture::load(path);
    let first = fixture.config.as_object().and_then(|c| c.values().next());
    if first.and_then(|f| f.get("noise_schedule")).is_some() {
        crate::schedules::compare_tables(path);
        println!("{}: every table equal", fixture.name);
        return Ok(());
    }
    compare_loaded(fixture)
}

/// Compares everything that a file holds; what it does not hold is not asked for.
fn compare_loaded(mut fixture: Fixture) -> Result<(), String> {
    let cases = fixture.config.as_object();
    let has_kind = cases.and_then(|c| c.values().next()).and_then(|f| f.get("kind")).is_some();
    if fixture.config.get("num_channels").is_some() {
        if fixture.has("x_T") {
            sampling::chain(&mut fixture);
        } else if fixture.has("x") {
            sampling::steps(&mut fixture);
        } else if fixture.has("step0.t") {
            training::several_steps(&mut fixture);
        } else if fixture.has("input.t") {
            model::forward(&mut fixture);
            if ["mse", "loss", "grads"].iter().any(|name| fixture.has(name)) {
                training::one_step(&mut fixture);
            }
        } else {
            return Err(format!("{}: holds neither inputs, steps nor chains", fixture.name));
        }
    } else if has_kind && fixture.tensors.keys().any(|k| k.ends_with("/grad_out")) {
        layers::compare(&mut fixture);
    } else if fixture.tensors.keys().any(|k| k.starts_with("fid_")) {
        // Evaluation metrics are no part of this library yet: nothing here computes them.
        println!("{}: holds evaluation metrics, which this build does not compute", fixture.name);
        return Ok(());
    } else {
        return Err(format!("{}: unknown kind of fixture", fixture.name));
    }
    fixture.finish()
}

/// The committed files, and those of the folder that `DUET_GOLDEN` names.
fn all_files() -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut paths = files(&own);
    assert!(paths.len() >= 8, "only {} fixtures in {}", paths.len(), own.display());
    if let Some(folder) = std::env::var_os("DUET_GOLDEN") {
        paths.extend(files(Path::new(&folder)));
    }
    paths
}

fn compare_all(slow: bool) {
    let mut paths = all_files();
    paths.retain(|path| is_slow(path) == slow);
    assert!(!paths.is_empty(), "there is nothing to compare");
    let failures: Vec<String> = paths.iter().filter_map(|path| compare(path).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_fixture_matches() {
    compare_all(false);
}

#[test]
#[ignore = "networks of the paper's width take minutes on a software device: make slow-test"]
fn every_wide_fixture_matches() {
    compare_all(true);
}
