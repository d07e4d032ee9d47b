//! Replacing a file so that at every moment, power cuts included, it is either the old or the new one.

use crate::error::{Error, Result};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Ending of temporary files.
const SUFFIX: &str = ".tmp";

/// Writes `bytes` to the file at `path` atomically and durably: into a temporary file in the same folder, synced,
/// renamed, the folder synced. A full disk or a killed process leaves the file already there as it was. A symbolic
/// link is followed.
///
/// Temporary files which other, killed processes left of the same file are removed first (see [`remove_temporaries`]). Should another live process
/// be writing the same file, its writing fails with an error; the file stays sound.
///
/// # Errors
/// [`Error::Write`] naming the file and the system's reason; the file at `path` is then unchanged, unless the very last
/// step, syncing the folder, is what failed.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    replace("file", bytes.len() as u64, path, |sink| sink.write_all(bytes))
}

/// Whether [`write_atomic`] could write the file at `path` now: its temporary file is made, and removed again.
///
/// # Errors
/// As [`write_atomic`].
pub fn check_writable(path: &Path) -> Result<()> {
    let begin = || {
        let target = resolve(path)?;
        let (folder, name) = place(&target)?;
        Temporary::create(folder, name).map(drop)
    };
    begin().map_err(|error| refused("file", 0, path, &error))
}

/// As [`write_atomic`], the contents, which errors call `what`, and of which there are `need` bytes, written by `write`.
pub(super) fn replace(
    what: &'static str,
    need: u64,
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<()> {
    try_replace(path, write).map_err(|error| refused(what, need, path, &error))
}

fn refused(what: &'static str, need: u64, path: &Path, error: &io::Error) -> Error {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let detail = match error.kind() {
        // Beside the file that is there, which stays until the new one is whole.
        StorageFull | QuotaExceeded | FileTooLarge if need > 0 => format!("{error}; {need} bytes are needed"),
        _ => error.to_string(),
    };
    Error::Write { what, path: path.to_owned(), detail }
}

/// Folder and name of a file.
fn place(target: &Path) -> io::Result<(&Path, &OsStr)> {
    let name = target.file_name().ok_or_else(|| io::Error::other("the path names no file"))?;
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => Ok((parent, name)),
        _ => Ok((Path::new("."), name)),
    }
}

fn try_replace(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let target = resolve(path)?;
    let (folder, name) = place(&target)?;
    remove_temporaries(folder, |other| other == name.to_string_lossy());
    let (temporary, file) = Temporary::create(folder, name)?;
    let mut sink = BufWriter::new(file);
    write(&mut sink)?;
    let file = sink.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    // Closed before it is renamed, which some systems demand.
    drop(file);
    fs::rename(&temporary.path, &target)?;
    sync_folder(folder)
}

/// The file that `path` leads to. Anything but a regular file or nothing is refused: renaming would replace it.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(path.to_owned()),
        Err(error) => Err(error),
        Ok(found) => {
            let target = if found.is_symlink() { fs::canonicalize(path)? } else { path.to_owned() };
            if fs::metadata(&target)?.is_file() {
                Ok(target)
            } else {
                Err(io::Error::other("there is something that is not a regular file"))
            }
        }
    }
}

/// Makes the renaming durable. Windows has no such call and needs none.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// A temporary file, removed when it goes out of scope. After the renaming there is nothing left to remove.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    /// A new one, of the file `name`.
    fn create(folder: &Path, name: &OsStr) -> io::Result<(Temporary, File)> {
        let path = folder.join(temporary_name(name));
        // `create_new` follows no link and opens nobody else's file.
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok((Temporary { path }, file))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // A failure leaves a file that the next run removes.
        let _ = fs::remove_file(&self.path);
    }
}

/// What tells this process's temporary files from those of every other process, past ones of the same id included.
fn process_token() -> &'static str {
    static TOKEN: OnceLock<String> = OnceLock::new();
    TOKEN.get_or_init(|| {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
        format!("{:x}-{started:x}", std::process::id())
    })
}

/// `.NAME.PID-TIME-COUNT.tmp`, never the same twice.
fn temporary_name(name: &OsStr) -> OsString {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}-{count:x}{SUFFIX}", process_token()));
    temporary
}

/// The file that `candidate` is a temporary file of, and the part `PID-TIME-COUNT` of its name; `None` for any other name.
fn parts(candidate: &str) -> Option<(&str, &str)> {
    let (name, token) = candidate.strip_prefix('.')?.strip_suffix(SUFFIX)?.rsplit_once('.')?;
    let part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_hexdigit());
    (!name.is_empty() && token.split('-').count() == 3 && token.split('-').all(part)).then_some((name, token))
}

/// Removes the temporary files that killed processes left in `folder` of files whose names are the caller's, as `own` says:
/// no other live process may be writing those. Best effort: failing to clean must not stop anything.
pub fn remove_temporaries(folder: &Path, own: impl Fn(&str) -> bool) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let file_name = entry.file_name();
        // What is no UTF-8 keeps its temporary files apart from all others' in the same lossy way.
        let file_name = file_name.to_string_lossy();
        let left = parts(&file_name)
            .is_some_and(|(name, token)| own(name) && !token.starts_with(&format!("{}-", process_token())));
        if left {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_names_are_told_apart() {
        let own = temporary_name(OsStr::new("a.safetensors"));
        assert_ne!(own, temporary_name(OsStr::new("a.safetensors")));
        let (name, token) = parts(own.to_str().unwrap()).unwrap();
        assert!(name == "a.safetensors" && token.starts_with(process_token()));
        // Another target's temporary file, and files that only look alike.
        assert_eq!(parts(".a.safetensors.b.1-2-3.tmp"), Some(("a.safetensors.b", "1-2-3")));
        for candidate in
            ["a.safetensors", ".a.safetensors.tmp", ".a.safetensors.1-2.tmp", ".1-2-3.tmp", ".a.1-2-g.tmp"]
        {
            assert_eq!(parts(candidate), None, "{candidate}");
        }
        assert_eq!(parts(".a.safetensors.1f-2-3.tmp"), Some(("a.safetensors", "1f-2-3")));
    }

    #[test]
    fn what_killed_processes_left_is_removed_of_the_caller_s_files_alone() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let live = temporary_name(OsStr::new("a"));
        let names = [".a.1-2-3.tmp", ".a.b.1-2-3.tmp", ".b.1-2-3.tmp", "a", live.to_str().unwrap()];
        names.iter().for_each(|name| fs::write(folder.join(name), "").unwrap());
        remove_temporaries(folder, |name| name.starts_with('a'));
        let left = names.map(|name| folder.join(name).exists());
        assert_eq!(left, [false, false, true, true, true]);
        write_atomic(&folder.join("b"), b"").unwrap();
        assert!(!folder.join(names[2]).exists());
        remove_temporaries(&folder.join("none"), |_| true);
    }

    #[test]
    fn a_failing_writer_leaves_the_old_file_and_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let path = folder.join("file");
        write_atomic(&path, b"old").unwrap();
        let failed = replace("picture", 200_000, &path, |sink| {
            sink.write_all(&vec![1; 100_000])?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        let error = failed.unwrap_err().to_string();
        assert!(error.starts_with("picture ") && error.contains("cannot be written"), "{error}");
        assert!(error.ends_with("200000 bytes are needed"), "{error}");
        check_writable(&path).unwrap();
        check_writable(&folder.join("new")).unwrap();
        assert!(check_writable(&folder.join("none/new")).is_err());
        assert!(check_writable(folder).is_err(), "a folder");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
    }
}
