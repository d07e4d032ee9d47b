//! The lists of a tree's images: a line for each, of all of them or of a part.

use super::tree::Record;
use crate::cli::Shard;
use crate::io::files::whole;
use duet::{Error, Result};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

/// Names of lists: these, and of parts which in between.
const NAME: [&str; 2] = ["explanations", ".jsonl"];

/// The name of the list of all images, or of a part of them.
pub fn name(shard: Option<Shard>) -> String {
    let [begin, end] = NAME;
    match shard {
        None => format!("{begin}{end}"),
        Some(shard) => format!("{begin}.{}-of-{}{end}", shard.number(), shard.of()),
    }
}

/// The records of whole lines, and bytes they take.
///
/// # Errors
/// [`Error::Data`] naming a line that is none.
pub fn whole_lines(text: &[u8], path: &Path) -> Result<(BTreeMap<usize, Record>, usize)> {
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let mut done = BTreeMap::new();
    for (number, line) in
        (1..).zip(text[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()))
    {
        let record: Record = serde_json::from_slice(line).map_err(|error| Error::Data {
            path: path.to_owned(),
            detail: format!("line {number} is none of `duet explain --all`: {error}"),
        })?;
        done.insert(record.number, record);
    }
    Ok((done, whole))
}

/// The lists in a folder but for `own`.
fn others(results: &Path, own: &Path) -> Vec<PathBuf> {
    let is_list = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        path != own && name.starts_with(NAME[0]) && name.ends_with(NAME[1])
    };
    let entries = std::fs::read_dir(results).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(is_list).collect()
}

/// What the lists in a folder hold but for `own`. Of one that cannot be read, for it is gone meanwhile or the system lets nobody read what is
/// locked, images are made anew.
///
/// # Errors
/// As [`whole_lines`].
pub fn of_others(results: &Path, own: &Path) -> Result<BTreeMap<usize, Record>> {
    let mut all = BTreeMap::new();
    for list in others(results, own) {
        if let Ok(text) = whole(&list) {
            all.extend(whole_lines(&text, &list)?.0);
        }
    }
    Ok(all)
}

/// Removes lists but for `own` all of whose images are in `done`, unless a process is at work on one. One that stays is read again, and
/// changes nothing.
pub fn remove_contained(results: &Path, own: &Path, done: &BTreeMap<usize, Record>) {
    for list in others(results, own) {
        let open = OpenOptions::new().read(true).write(true).open(&list).ok();
        let Some(_locked) = open.filter(|file| file.try_lock().is_ok()) else { continue };
        let there = whole(&list).ok().and_then(|text| Some(whole_lines(&text, &list).ok()?.0));
        if there.is_some_and(|there| there.keys().all(|number| done.contains_key(number))) {
            let _ = std::fs::remove_file(&list);
        }
    }
}
