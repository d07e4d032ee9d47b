//! `duet data get`: a published data set into a folder.

use crate::cli::{Cli, DataGet};
use crate::fetch::{self, Got, Options, Set, Source, named};
use crate::io::output::{bytes, say, tell};
use crate::io::session::{interrupted, watch_interrupts};
use duet::Result;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Runs the command.
///
/// # Errors
/// A set that there is not, or that no program may download; what goes wrong on the way, and whether the same command goes on.
pub fn run(arguments: &Cli, options: &DataGet) -> Result<()> {
    let set = named(&options.name)?;
    let folder = options.to.clone().unwrap_or_else(|| PathBuf::from("data").join(set.name));
    if matches!(set.source, Source::Files(_)) && !arguments.json {
        // Before anything is taken.
        tell!("{}: {}", set.title, set.page);
        tell!("licence: {}", set.licence);
        tell!("cite: {}", set.citation);
    }
    watch_interrupts()?;
    let how = Options { mirror: options.mirror.as_deref(), json: arguments.json, stop: interrupted };
    let got = fetch::get(set, &folder, how)?;
    if arguments.json {
        say!("{}", json_of(set, &folder, &got));
        return Ok(());
    }
    let Source::Files(files) = set.source else { return Ok(()) };
    for (file, got) in files.iter().zip(&got) {
        let size = bytes(got.sums.bytes);
        let checked = file.checksum.map_or_else(
            || format!("no checksum is published; SHA-256 {}", got.sums.sha256),
            |checksum| format!("{} is right", checksum.text()),
        );
        let what = if got.present { "was there" } else { "downloaded" };
        say!("{} {what} ({size}; {checked})", got.path.display());
    }
    say!(
        "in a recipe: [data] kind = {:?}, path = {:?}; duet data info {} looks at it",
        set.name,
        folder,
        folder.display()
    );
    Ok(())
}

fn json_of(set: &Set, folder: &Path, got: &[Got]) -> serde_json::Value {
    let Source::Files(files) = set.source else { return json!(null) };
    let files: Vec<_> = files
        .iter()
        .zip(got)
        .map(|(file, got)| {
            json!({
                "file": file.name, "path": got.path, "address": got.address, "bytes": got.sums.bytes,
                "sha256": got.sums.sha256, "checked": file.checksum.map(|checksum| checksum.text()),
                "present": got.present,
            })
        })
        .collect();
    json!({
        "name": set.name, "kind": set.name, "path": folder, "licence": set.licence, "citation": set.citation,
        "page": set.page, "files": files,
    })
}
