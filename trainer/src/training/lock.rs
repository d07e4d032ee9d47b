//! One run at a time in a folder.

use super::warn;
use duet::{Error, Result};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// The file that is locked, with the number of the process that did. It stays, for a name that goes and comes could be
/// locked by two; what counts is the lock, which the system frees when the process ends, whatever ends it.
const FILE: &str = ".lock";

/// How long a run that goes on waits for the one before it: a process that was killed is there until the system has freed its
/// memory and its GPU's, and a scheduler may start the next one at once.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A folder that is this run's alone until the value goes out of scope.
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes `folder`, which another run may have for `patience` still. Where the file system has no locks this is told, and
    /// nothing is locked.
    ///
    /// # Errors
    /// [`Error::Data`] where another run has it; [`Error::Write`] where nothing can be written there.
    pub fn take(folder: &Path, patience: Duration, json: bool) -> Result<Lock> {
        let path = folder.join(FILE);
        // Not truncated: as long as the lock is not ours, the number in it is not either.
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file =
            open.map_err(|e| Error::Write { what: "lock", path: path.clone(), detail: e.to_string() })?;
        match try_lock(&file, patience) {
            // The number is for people alone: a full disk must not keep a run from going on.
            Ok(()) => drop(file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()))),
            Err(TryLockError::WouldBlock) => {
                let detail = format!(
                    "another run{} is at work in this folder: wait for its end, or give another --out",
                    holder(&file)
                );
                return Err(Error::Data { path: folder.to_owned(), detail });
            }
            Err(TryLockError::Error(error)) => {
                let folder = folder.display();
                warn(
                    json,
                    &format!("{folder} cannot be locked ({error}): see to it that no other run writes there"),
                );
            }
        }
        Ok(Lock { _file: file })
    }
}

/// Locks `file` as soon as nobody else has it, if that is within `patience`.
fn try_lock(file: &File, patience: Duration) -> std::result::Result<(), TryLockError> {
    let begin = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if begin.elapsed() < patience => {
                std::thread::sleep(Duration::from_millis(20));
            }
            done => return done,
        }
    }
}

/// The process that holds the lock, in brackets; nothing where the system lets nobody read what is locked.
fn holder(file: &File) -> String {
    let mut text = String::new();
    let read = file.take(32).read_to_string(&mut text);
    match text.trim().parse::<u32>() {
        Ok(pid) if read.is_ok() => format!(" (pid {pid})"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_taken_once_and_free_again_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::take(folder.path(), Duration::ZERO, false).unwrap();
        let error = Lock::take(folder.path(), Duration::ZERO, false).err().unwrap().to_string();
        let words = format!("another run (pid {}) is at work in this folder", std::process::id());
        assert!(cfg!(windows) || error.contains(&words), "{error}");
        assert!(error.contains(&*folder.path().to_string_lossy()), "{error}");
        drop(lock);
        // A longer number of an earlier process leaves nothing behind.
        std::fs::write(folder.path().join(FILE), "4294967295\n").unwrap();
        let lock = Lock::take(folder.path(), Duration::ZERO, false).unwrap();
        drop(lock);
        let text = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
        let nowhere =
            Lock::take(&folder.path().join("none"), Duration::ZERO, false).err().unwrap().to_string();
        assert!(nowhere.contains("cannot be written"), "{nowhere}");
    }

    #[test]
    fn a_run_that_is_about_to_end_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::take(folder.path(), Duration::ZERO, false).unwrap();
        std::thread::scope(|scope| {
            let next = scope.spawn(|| Lock::take(folder.path(), Duration::from_secs(60), false).map(drop));
            std::thread::sleep(Duration::from_millis(100));
            drop(lock);
            next.join().unwrap().unwrap();
        });
    }
}
