//! A note beside the files: where they are from, their sums, and under which licence.

use super::Set;
use crate::io::files::Kind;
use duet::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The note's name.
pub const RECORD: &str = "duet-source.json";

/// Folders inside each other of what is counted.
const DEEPEST: usize = 64;

/// What an archive was unpacked to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpacked {
    /// Files.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
}

/// A file that was got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name.
    pub file: String,
    /// Where it is from.
    pub address: String,
    /// Its bytes.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: String,
    /// The published checksum that it was compared with.
    pub checked: Option<String>,
    /// What it was unpacked to.
    pub unpacked: Option<Unpacked>,
}

/// What is noted of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    title: String,
    licence: String,
    citation: String,
    files: Vec<Entry>,
}

impl Record {
    /// The note of a folder; an empty one where there is none that can be read.
    pub fn read(folder: &Path) -> Record {
        let text = std::fs::read(folder.join(RECORD)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// What is noted of a file.
    pub fn entry(&self, file: &str) -> Option<&Entry> {
        self.files.iter().find(|entry| entry.file == file)
    }

    /// Notes a file in place of what was noted of it.
    pub fn set(&mut self, entry: Entry) {
        self.files.retain(|other| other.file != entry.file);
        self.files.push(entry);
    }

    /// Writes the note, unless nothing was got.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write(&mut self, set: &Set, folder: &Path) -> Result<()> {
        if self.files.is_empty() {
            return Ok(());
        }
        let words = [&mut self.title, &mut self.licence, &mut self.citation];
        words
            .into_iter()
            .zip([set.title, set.licence, set.citation])
            .for_each(|(to, from)| from.clone_into(to));
        let path = folder.join(RECORD);
        let mut text =
            serde_json::to_vec_pretty(self).map_err(|e| Kind::Table.refuse(&path, e.to_string()))?;
        text.push(b'\n');
        Kind::Table.write(&path, &text)
    }
}

/// Counts what is in a folder and those in it.
///
/// # Errors
/// One that cannot be listed.
pub fn count(folder: &Path) -> Result<Unpacked> {
    let mut counted = Unpacked::default();
    add(folder, &mut counted, 0)
        .map_err(|e| Error::Data { path: folder.to_owned(), detail: format!("cannot be listed: {e}") })?;
    Ok(counted)
}

fn add(folder: &Path, counted: &mut Unpacked, depth: usize) -> std::io::Result<()> {
    if depth > DEEPEST {
        return Err(std::io::Error::other("too many folders inside each other"));
    }
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // Of a link itself: what it leads to was not unpacked.
        let found = entry.metadata()?;
        if found.is_dir() {
            add(&entry.path(), counted, depth + 1)?;
        } else {
            counted.files += 1;
            counted.bytes += found.len();
        }
    }
    Ok(())
}
