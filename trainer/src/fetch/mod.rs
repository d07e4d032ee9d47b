//! Published data sets, from where their authors put them into a folder that the readers know: what there is, the download that
//! goes on where it was cut, the check, and the unpacking.

mod checksum;
mod download;
mod record;
mod registry;
mod unpack;

pub use checksum::{Checksum, Sums};
pub use record::{RECORD, Unpacked};
pub use registry::{Archive, ByHand, File, SETS, Set, Source, named};

use crate::io::files::make_folder;
use download::Download;
use duet::{Error, Result};
use record::{Entry, Record};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

/// How files are got.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// What takes the place of the official host: scheme, host, and a path to put before the file's own.
    pub mirror: Option<&'a str>,
    /// Whether what is printed is JSON, so that no bar is drawn.
    pub json: bool,
    /// Whether to stop: asked often.
    pub stop: fn() -> bool,
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    /// The file, or the folder that it was unpacked to.
    pub path: PathBuf,
    /// Where it is from.
    pub address: String,
    /// Its bytes and sums, as they were downloaded.
    pub sums: Sums,
    /// Whether it was there already, and right.
    pub present: bool,
}

/// Gets all files of a set into a folder, which is made where it is not there. What is there and right is not got again.
///
/// # Errors
/// [`Error::Config`] for a set that may not be downloaded by a program; [`Error::Data`] naming the file and what went wrong with
/// it: what is whole by then stays, and what is not goes on from there the next time, unless it is damaged.
pub fn get(set: &Set, folder: &Path, options: Options<'_>) -> Result<Vec<Got>> {
    let files = match &set.source {
        Source::Files(files) => files,
        Source::ByHand(by_hand) => return Err(Error::config(set.name, by_hand.words(set, folder))),
    };
    make_folder(folder)?;
    let _lock = lock(folder)?;
    let mut record = Record::read(folder);
    let mut all = Vec::new();
    for file in *files {
        all.push(one(file, folder, &mut record, options)?);
        record.write(set, folder)?;
    }
    Ok(all)
}

/// Gets one file.
fn one(file: &File, folder: &Path, record: &mut Record, options: Options<'_>) -> Result<Got> {
    let address = address(file.url, options.mirror)?;
    let path = folder.join(file.archive.as_ref().map_or(file.name, |archive| archive.folder));
    if let Some(got) = present(file, &path, record)? {
        return Ok(got);
    }
    let download = Download { file, address: &address, folder, options };
    let (part, sums) = download.run()?;
    let unpacked = match &file.archive {
        Some(archive) => {
            let counted = unpack::unpack(file.name, &part, folder, archive, options.stop)?;
            download.forget()?;
            Some(counted)
        }
        None => {
            download.settle(&path)?;
            None
        }
    };
    record.set(Entry {
        file: file.name.to_owned(),
        address: address.clone(),
        bytes: sums.bytes,
        sha256: sums.sha256.clone(),
        checked: file.checksum.map(|checksum| checksum.text()),
        unpacked,
    });
    Ok(Got { path, address, sums, present: false })
}

/// The file where it is there already, and right.
fn present(file: &File, path: &Path, record: &Record) -> Result<Option<Got>> {
    if !path.exists() {
        return Ok(None);
    }
    let wrong = |detail: String| Error::Data { path: path.to_owned(), detail };
    let aside = "move it away to have it downloaded";
    let noted = record.entry(file.name);
    let Some(archive) = &file.archive else {
        let sums = checksum::of_file(path)?;
        if let Some(checksum) = file.checksum
            && !checksum.is_of(&sums)
        {
            let words = checksum.difference(&sums);
            return Err(wrong(format!("is there, but is not the published file ({words}): {aside}")));
        }
        if file.checksum.is_none() && noted.is_none_or(|noted| noted.sha256 != sums.sha256) {
            return Err(wrong(format!("is there, but was not downloaded by this command: {aside}")));
        }
        return Ok(Some(Got { path: path.to_owned(), address: file.url.to_owned(), sums, present: true }));
    };
    // The archive is gone: what was counted when it was unpacked tells whether all of it is still there.
    let counted = record::count(path)?;
    let checked = file.checksum.map(|checksum| checksum.text());
    match noted.filter(|noted| noted.unpacked == Some(counted) && noted.checked == checked) {
        Some(noted) => {
            let sums = Sums { bytes: noted.bytes, sha256: noted.sha256.clone(), md5: String::new() };
            Ok(Some(Got { path: path.to_owned(), address: noted.address.clone(), sums, present: true }))
        }
        None => Err(wrong(format!(
            "is there, but not as {} is unpacked ({} files, {} bytes): {aside}",
            archive.folder, counted.files, counted.bytes
        ))),
    }
}

/// A file's address, on a mirror where one is given: its scheme and host are replaced, its path stays.
fn address(url: &str, mirror: Option<&str>) -> Result<String> {
    let Some(mirror) = mirror else {
        return Ok(url.to_owned());
    };
    if !mirror.starts_with("http://") && !mirror.starts_with("https://") {
        return Err(Error::config("mirror", format!("must begin with http:// or https://, is {mirror:?}")));
    }
    let path = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    Ok(format!("{}/{path}", mirror.trim_end_matches('/')))
}

/// Keeps others from downloading into a folder until it is dropped. Where the file system has no locks nothing is locked.
fn lock(folder: &Path) -> Result<std::fs::File> {
    let path = folder.join(".duet-get.lock");
    let open = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = open.map_err(|e| Error::Write { what: "lock", path: path.clone(), detail: e.to_string() })?;
    match file.try_lock() {
        Err(std::fs::TryLockError::WouldBlock) => {
            let detail = "another `duet data get` is at work in this folder: wait for its end".into();
            Err(Error::Data { path: folder.to_owned(), detail })
        }
        _ => Ok(file),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_takes_the_host_s_place() {
        let url = "https://www.example.org/~a/data/x.tar.gz";
        assert_eq!(address(url, None).unwrap(), url);
        for mirror in ["http://10.0.0.1:8080/sets", "http://10.0.0.1:8080/sets/"] {
            assert_eq!(address(url, Some(mirror)).unwrap(), "http://10.0.0.1:8080/sets/~a/data/x.tar.gz");
        }
        assert!(address(url, Some("ftp://x")).unwrap_err().to_string().contains("mirror"));
    }
}
