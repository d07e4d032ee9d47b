//! `duet data cache`: what is kept between runs, decoded pictures and features of real images, and removing it.

use crate::cli::{Cli, DataCache};
use crate::data::Cache;
use crate::data::kept::{Kept, remove};
use crate::eval::generated;
use crate::io::data::Reader;
use crate::io::output::{bytes, say, time};
use duet::{Error, Result};
use serde_json::{Value, json};
use std::time::Duration;

/// What a file is of.
enum What {
    /// Decoded pictures: how many, channels, pixels a side.
    Pictures(Option<[usize; 3]>),
    /// Features: of how many images, how many numbers each.
    Features(Option<[usize; 2]>),
}

impl What {
    /// For people.
    fn words(&self) -> String {
        match self {
            What::Pictures(Some([count, channels, size])) => {
                format!("{count} pictures of {channels}×{size}×{size}")
            }
            What::Features(Some([count, numbers])) => {
                format!("features of {count} images, {numbers} numbers each")
            }
            What::Pictures(None) | What::Features(None) => "not whole".into(),
        }
    }

    fn json(&self, kept: &Kept) -> Value {
        let (kind, [pictures, channels, size, numbers]) = match self {
            What::Pictures(shape) => {
                let [pictures, channels, size] = shape.map_or([None; 3], |shape| shape.map(Some));
                ("pictures", [pictures, channels, size, None])
            }
            What::Features(shape) => {
                let [pictures, numbers] = shape.map_or([None; 2], |shape| shape.map(Some));
                ("features", [pictures, None, None, numbers])
            }
        };
        json!({
            "file": kept.path, "kind": kind, "bytes": kept.bytes, "pictures": pictures, "channels": channels, "size": size,
            "numbers": numbers, "unused_seconds": unused(kept).as_secs(),
        })
    }
}

/// "2 files of …, 3 MiB".
fn count<'a>(kept: impl Iterator<Item = &'a Kept>, what: &str) -> String {
    let lengths: Vec<u64> = kept.map(|kept| kept.bytes).collect();
    let files = if lengths.len() == 1 { "file" } else { "files" };
    format!("{} {files}{what}, {}", lengths.len(), bytes(lengths.iter().sum()))
}

fn unused(kept: &Kept) -> Duration {
    kept.used.elapsed().unwrap_or_default()
}

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
    let pictures = cache.kept().map_err(failed)?;
    let features = generated::Cache::new(cache.folder()).kept().map_err(failed)?;
    // What files hold is known while they are there.
    let of_pictures = pictures.iter().map(|kept| (kept, What::Pictures(Cache::pictures(kept))));
    let of_features = features.iter().map(|kept| (kept, What::Features(generated::Cache::shape(kept))));
    let all: Vec<(&Kept, What)> = of_pictures.chain(of_features).collect();
    if options.clear {
        [&pictures, &features].into_iter().try_for_each(|kept| remove(kept)).map_err(failed)?;
    }
    let folder = cache.folder().display();
    if arguments.json {
        let files: Vec<Value> = all.iter().map(|(kept, what)| what.json(kept)).collect();
        say!("{}", json!({ "folder": cache.folder(), "cleared": options.clear, "files": files }));
        return Ok(());
    }
    if options.clear {
        say!("removed from {folder}: {}", count(all.iter().map(|(kept, _)| *kept), ""));
        return Ok(());
    }
    let of_pictures = count(pictures.iter(), " of decoded pictures");
    say!("{folder}: {of_pictures}; {}", count(features.iter(), " of features of real images"));
    for (kept, what) in &all {
        let name = kept.path.file_name().unwrap_or_default().to_string_lossy();
        let used = time(unused(kept).as_secs_f64());
        let name = name.get(..12).unwrap_or(&name);
        say!("  {name} {}, {}, used {used} ago", what.words(), bytes(kept.bytes));
    }
    if !all.is_empty() {
        say!(
            "what is not used for 30 days goes when something new is kept, and so do the features not used for longest where all of them are more \
             than {}; --clear removes all of it",
            bytes(generated::MOST_KEPT)
        );
    }
    Ok(())
}
