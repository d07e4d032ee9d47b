//! Archives of published data sets, unpacked into a folder and nowhere else.

use super::{Archive, Unpacked};
use duet::{Error, Result};
use flate2::read::MultiGzDecoder;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};
use zip::ZipArchive;

/// Most files and folders in an archive.
const MOST_FILES: u64 = 1_000_000;

/// Unpacks an archive called `name` that lies at `path`: its folder comes to lie in `folder`, whole or not at all. What an archive
/// may hold is files and folders inside it; links, devices, paths that lead elsewhere and more bytes than are known of it are
/// refused.
///
/// # Errors
/// [`Error::Data`] naming the archive and what is wrong in it; [`Error::Write`]; being asked to stop.
pub fn unpack(
    name: &str,
    path: &Path,
    folder: &Path,
    archive: &Archive,
    stop: fn() -> bool,
) -> Result<Unpacked> {
    let work = folder.join(format!(".{name}.unpacking"));
    let clear = || match fs::remove_dir_all(&work) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed_at(&work, &e)),
        _ => Ok(()),
    };
    // What an end in the middle has left.
    clear()?;
    let mut into =
        Unpacking { name, folder, work: &work, bytes: 0, entries: 0, most: archive.most_bytes, stop };
    let done = into.all(path).and_then(|()| {
        let inner = work.join(archive.folder);
        if !inner.is_dir() {
            return Err(into.bad(&format!("does not hold the folder {}", archive.folder)));
        }
        // Beside the folder an archive may hold what systems leave.
        let counted = super::record::count(&inner)?;
        let to = folder.join(archive.folder);
        fs::rename(&inner, &to).map_err(|e| failed_at(&to, &e))?;
        Ok(counted)
    });
    let cleared = clear();
    let counted = done?;
    cleared.map(|()| counted)
}

fn failed_at(path: &Path, error: &io::Error) -> Error {
    Error::Write { what: "data", path: path.to_owned(), detail: error.to_string() }
}

/// Where an archive is being unpacked.
struct Unpacking<'a> {
    name: &'a str,
    folder: &'a Path,
    work: &'a Path,
    bytes: u64,
    entries: u64,
    most: u64,
    stop: fn() -> bool,
}

impl Unpacking<'_> {
    fn bad(&self, detail: &str) -> Error {
        Error::Data { path: self.folder.join(self.name), detail: detail.to_owned() }
    }

    fn all(&mut self, path: &Path) -> Result<()> {
        fs::create_dir(self.work).map_err(|e| failed_at(self.work, &e))?;
        let file = File::open(path).map_err(|e| self.bad(&format!("cannot be read: {e}")))?;
        if self.name.ends_with(".zip") {
            self.zip(BufReader::new(file))
        } else {
            self.tar(BufReader::new(file))
        }
    }

    fn tar(&mut self, file: BufReader<File>) -> Result<()> {
        let broken = |this: &Self, e: io::Error| this.bad(&format!("cannot be unpacked: {e}"));
        let mut archive = tar::Archive::new(MultiGzDecoder::new(file));
        for entry in archive.entries().map_err(|e| broken(self, e))? {
            let mut entry = entry.map_err(|e| broken(self, e))?;
            let kind = entry.header().entry_type();
            if kind.is_pax_global_extensions() {
                continue;
            }
            let path = entry.path().map_err(|e| broken(self, e))?.into_owned();
            if !kind.is_dir() && !kind.is_file() {
                return Err(
                    self.bad(&format!("holds {}, which is no file or folder: refused", path.display()))
                );
            }
            self.entry(&path, kind.is_dir(), &mut entry)?;
        }
        Ok(())
    }

    fn zip(&mut self, file: BufReader<File>) -> Result<()> {
        let broken = |this: &Self, e: zip::result::ZipError| this.bad(&format!("cannot be unpacked: {e}"));
        let mut archive = ZipArchive::new(file).map_err(|e| broken(self, e))?;
        for i in 0..archive.len() {
            let mut entry = archive.by_index(i).map_err(|e| broken(self, e))?;
            let name = entry.name().map_err(|e| broken(self, e))?.into_owned();
            if !entry.is_dir() && !entry.is_file() {
                return Err(self.bad(&format!("holds {name}, which is no file or folder: refused")));
            }
            // Windows' separator, wherever this runs.
            if name.contains('\\') {
                return Err(self.bad(&format!("holds {name:?}, a path that leads elsewhere: refused")));
            }
            let is_folder = entry.is_dir();
            self.entry(Path::new(&name), is_folder, &mut entry)?;
        }
        Ok(())
    }

    /// Unpacks a file or makes a folder.
    fn entry(&mut self, path: &Path, is_folder: bool, contents: &mut dyn Read) -> Result<()> {
        if (self.stop)() {
            return Err(self.bad("stopped while it was unpacked: the same command goes on"));
        }
        self.entries += 1;
        if self.entries > MOST_FILES {
            return Err(self.bad(&format!("holds more than {MOST_FILES} files and folders: refused")));
        }
        let to = self.place(path)?;
        if is_folder {
            return fs::create_dir_all(&to).map_err(|e| failed_at(&to, &e));
        }
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(|e| failed_at(parent, &e))?;
        }
        // A name that comes twice is refused, as is one that differs in case alone where these are one.
        let mut file =
            OpenOptions::new().write(true).create_new(true).open(&to).map_err(|e| failed_at(&to, &e))?;
        let left = self.most.saturating_sub(self.bytes);
        let written = io::copy(&mut contents.take(left + 1), &mut file)
            .map_err(|e| self.bad(&format!("{} cannot be unpacked: {e}", path.display())))?;
        if written > left {
            return Err(
                self.bad(&format!("holds more than the {} bytes that are known of it: refused", self.most))
            );
        }
        self.bytes += written;
        Ok(())
    }

    /// Where an entry comes to lie: inside the folder, whatever its path says.
    fn place(&self, path: &Path) -> Result<PathBuf> {
        let mut to = self.work.to_owned();
        for part in path.components() {
            match part {
                Component::Normal(name) => to.push(name),
                Component::CurDir => {}
                _ => {
                    let words = format!(
                        "holds {:?}, a path that leads elsewhere: refused",
                        path.display().to_string()
                    );
                    return Err(self.bad(&words));
                }
            }
        }
        Ok(to)
    }
}
