//! `duet data cache`: decoded pictures that are kept, and removing them.

use crate::cli::{Cli, DataCache};
use crate::data::{Cache, Kept};
use crate::io::data::Reader;
use crate::io::output::{bytes, say, time};
use duet::{Error, Result};
use serde_json::json;
use std::time::Duration;

/// Runs the command.
///
/// # Errors
/// A folder that cannot be read, a file that cannot be removed.
pub fn run(arguments: &Cli, options: &DataCache) -> Result<()> {
    let Some(cache) = Reader::of(arguments).cache else {
        let detail = "nothing is kept: give a folder (--cache), and leave out --no-cache";
        return Err(Error::config("cache", detail));
    };
    let failed = |error: std::io::Error| Error::Data {
        path: cache.folder().to_owned(),
        detail: format!("cannot be {}: {error}", if options.clear { "cleared" } else { "read" }),
    };
    let kept = if options.clear { cache.clear() } else { cache.kept() }.map_err(failed)?;
    if arguments.json {
        say!("{}", json_of(&cache, &kept, options.clear));
        return Ok(());
    }
    let folder = cache.folder().display();
    let total = bytes(kept.iter().map(|kept| kept.bytes).sum());
    let files = if kept.len() == 1 { "file" } else { "files" };
    if options.clear {
        say!("removed {} {files} ({total}) from {folder}", kept.len());
        return Ok(());
    }
    say!("{folder}: {} {files} of decoded pictures, {total}", kept.len());
    for kept in &kept {
        let name = kept.path.file_name().unwrap_or_default().to_string_lossy();
        let what = match kept.pictures {
            Some([count, channels, size]) => format!("{count} pictures of {channels}×{size}×{size}"),
            None => "not whole".to_owned(),
        };
        let used = time(unused(kept).as_secs_f64());
        say!("  {} {what}, {}, used {used} ago", name.get(..12).unwrap_or(&name), bytes(kept.bytes));
    }
    if !kept.is_empty() {
        say!("what is not used for 30 days goes when something new is kept; --clear removes all of it");
    }
    Ok(())
}

fn unused(kept: &Kept) -> Duration {
    kept.used.elapsed().unwrap_or_default()
}

fn json_of(cache: &Cache, kept: &[Kept], cleared: bool) -> serde_json::Value {
    let files: Vec<_> = kept
        .iter()
        .map(|kept| {
            let [pictures, channels, size] = kept.pictures.map_or([None; 3], |shape| shape.map(Some));
            json!({
                "file": kept.path, "bytes": kept.bytes, "pictures": pictures, "channels": channels, "size": size,
                "unused_seconds": unused(kept).as_secs(),
            })
        })
        .collect();
    json!({ "folder": cache.folder(), "cleared": cleared, "files": files })
}
