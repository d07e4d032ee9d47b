//! Golden data: numbers computed by the reference's own code.
//!
//! Every `.safetensors` file in `tests/fixtures` is compared, and every one in the folder that `DUET_GOLDEN` names; what
//! a file holds is told by its metadata.

mod fixture;
mod layers;
mod model;
mod sampling;
mod setup;
mod training;

pub use fixture::{Fixture, weights};
pub use setup::Setup;
use std::path::{Path, PathBuf};

/// Fixtures that take minutes on a software device: compared where `DUET_SLOW` is set.
const SLOW_CHANNELS: u64 = 128;

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "safetensors"));
    files.sort();
    files
}

fn compare(path: &Path) -> Result<(), String> {
    let mut fixture = Fixture::load(path);
    let cases = fixture.config.as_object();
    let first = cases.and_then(|c| c.values().next());
    let has = |key: &str| first.and_then(|f| f.get(key)).is_some();
    if fixture.config.get("num_channels").is_some() {
        let slow = fixture.config["num_channels"].as_u64() >= Some(SLOW_CHANNELS);
        if slow && std::env::var_os("DUET_SLOW").is_none() {
            println!("{}: left for DUET_SLOW=1", fixture.name);
            return Ok(());
        }
        if fixture.has("plain_a.t") {
            sampling::steps(&mut fixture);
        } else if fixture.has("x_T") {
            sampling::chain(&mut fixture);
        } else if fixture.has("step0.t") {
            training::several_steps(&mut fixture);
        } else {
            model::forward(&mut fixture);
            if fixture.has("grads") {
                training::one_step(&mut fixture);
            }
        }
    } else if has("noise_schedule") {
        crate::schedules::compare_tables(path);
        println!("{}: every table equal", fixture.name);
        return Ok(());
    } else if has("kind") && fixture.tensors.keys().any(|k| k.ends_with("/grad_out")) {
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

#[test]
fn every_fixture_matches() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut paths = files(&own);
    assert!(paths.len() >= 8, "only {} fixtures in {}", paths.len(), own.display());
    if let Some(folder) = std::env::var_os("DUET_GOLDEN") {
        paths.extend(files(Path::new(&folder)));
    }
    let failures: Vec<String> = paths.iter().filter_map(|path| compare(path).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
