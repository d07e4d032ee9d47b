//! What is known of a tree's images, and the lists of it: a line for each, of all of them or of a part.

use crate::cli::Shard;
use crate::eval::row::Row;
use crate::io::files::whole;
use duet::model::Head;
use duet::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

/// Names of lists: these, and of parts which in between.
const NAME: [&str; 2] = ["explanations", ".jsonl"];

/// An image of the tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its number in the data, which its files are called by.
    pub number: usize,
    /// Whether the model decided it rightly.
    pub correct: bool,
    /// By number: its class, what it was decided to be, its target, what the counterfactual is decided to be. Of several labels
    /// of the one that is to change: 1 for having it, 0 for not.
    pub classes: [usize; 4],
    /// What became of it.
    #[serde(flatten)]
    pub row: Row,
}

impl Record {
    /// Of an image whose class is `truth`; of several labels whether it has the one that is to change, 0 or 1.
    pub fn of(number: usize, head: Head, truth: usize, row: Row) -> Record {
        let classes = match head {
            Head::Multiclass => [truth, row.decision_before, row.target, row.decision_after],
            Head::MultiLabel => {
                let has = |shares: &[f32]| usize::from(shares.get(row.target).is_some_and(|p| *p > 0.5));
                [truth, has(&row.before), usize::from(row.target_present), has(&row.after)]
            }
        };
        Record { number, correct: classes[0] == classes[1], classes, row }
    }
}

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
