//! Files that are kept between runs: which are whose in a folder, when each was last used, and which go.
//!
//! A file is named by its key, 64 hexadecimal digits, and what it holds: `KEY.ENDING`. What has another name is somebody else's, and is
//! left alone.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What files end in while they are made: those that a cache writes itself, after their name and what tells writers apart, and those
/// of [`duet::checkpoint::write_atomic`], which begin with a point, too.
pub const PARTIAL: &str = ".partial";
const TEMPORARY: &str = ".tmp";
/// What nobody used for so long is removed.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);
/// What a writer that was killed left behind is removed after this time; one at work changes its file more often.
const ABANDONED: Duration = Duration::from_secs(3600);

/// A file that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Where it is.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// When it was last used.
    pub used: SystemTime,
    /// Whether it has its name, and is not being made.
    pub whole: bool,
}

/// Files of one ending in a folder.
#[derive(Clone, Debug)]
pub struct Shelf {
    folder: PathBuf,
    ending: &'static str,
}

impl Shelf {
    /// Of a folder, which need not be there, the files that end in `ending`.
    pub fn new(folder: &Path, ending: &'static str) -> Shelf {
        Shelf { folder: folder.to_owned(), ending }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The place of a key's file.
    pub fn place(&self, key: &blake3::Hash) -> PathBuf {
        self.folder.join(format!("{}{}", key.to_hex(), self.ending))
    }

    /// Makes the folder for the user alone: what is kept may be nobody else's business.
    ///
    /// # Errors
    /// The system's.
    pub fn make_folder(&self) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.folder)
    }

    /// All files, what is being made among them, the last used first.
    ///
    /// # Errors
    /// A folder that cannot be read; none is one without files.
    pub fn kept(&self) -> io::Result<Vec<Kept>> {
        let list = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            list => list?,
        };
        let mut kept = Vec::new();
        for entry in list {
            let path = entry?.path();
            let Some(whole) = whole(&path, self.ending) else { continue };
            // What was removed in between is not there.
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            if meta.is_file() {
                let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                kept.push(Kept { path, bytes: meta.len(), used, whole });
            }
        }
        kept.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.path.cmp(&b.path)));
        Ok(kept)
    }

    /// Removes what nobody used for long and what killed writers left. What cannot be removed stays.
    pub fn remove_old(&self) {
        for Kept { path, used, whole, .. } in self.kept().unwrap_or_default() {
            let most = if whole { UNUSED } else { ABANDONED };
            if used.elapsed().is_ok_and(|unused| unused > most) {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Removes the least recently used files, until all together have no more than `most` bytes; the file at `but` stays, and so does what
    /// is being made or cannot be removed.
    pub fn remove_beyond(&self, most: u64, but: &Path) {
        let kept = self.kept().unwrap_or_default();
        let mut total: u64 = kept.iter().map(|kept| kept.bytes).sum();
        for Kept { path, bytes, .. } in kept.iter().rev().filter(|kept| kept.whole && kept.path != but) {
            if total <= most {
                break;
            }
            if fs::remove_file(path).is_ok() {
                total -= bytes;
            }
        }
    }
}

/// Notes that a file was used now. Of a folder of somebody else's it is not known.
pub fn use_now(file: &File) {
    let _ = file.set_modified(SystemTime::now());
}

/// Removes files.
///
/// # Errors
/// A file that cannot be removed; those before it are.
pub fn remove(kept: &[Kept]) -> io::Result<()> {
    kept.iter().try_for_each(|kept| fs::remove_file(&kept.path))
}

/// Whether a file's name is a key and this ending; `Some(false)` for one of that name that is being made, `None` for any other.
fn whole(path: &Path, ending: &str) -> Option<bool> {
    let name = path.file_name()?.to_str()?;
    let temporary = name.strip_prefix('.').and_then(|name| name.strip_suffix(TEMPORARY));
    let name = temporary.unwrap_or(name);
    let hex = name.bytes().take_while(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).count();
    let rest = name.get(hex..)?.strip_prefix(ending).filter(|_| hex == 64)?;
    match rest {
        "" => temporary.is_none().then_some(true),
        rest => (rest.starts_with('.') && (temporary.is_some() || rest.ends_with(PARTIAL))).then_some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDING: &str = ".things";

    fn name(digit: &str) -> String {
        format!("{}{ENDING}", digit.repeat(64))
    }

    /// A folder with files of so many bytes, last used so many seconds ago.
    fn folder(files: &[(&str, usize, u64)]) -> (tempfile::TempDir, Shelf) {
        let home = tempfile::tempdir().unwrap();
        for (name, bytes, ago) in files {
            let path = home.path().join(name);
            fs::write(&path, vec![0; *bytes]).unwrap();
            let used = SystemTime::now() - Duration::from_secs(*ago);
            File::open(&path).unwrap().set_modified(used).unwrap();
        }
        let shelf = Shelf::new(home.path(), ENDING);
        (home, shelf)
    }

    #[test]
    fn only_names_of_keys_are_ours() {
        let key = "0a".repeat(32);
        let is = |name: &str| whole(Path::new(name), ENDING);
        assert_eq!(is(&format!("{key}.things")), Some(true));
        assert_eq!(is(&format!("{key}.things.7-0-1.partial")), Some(false));
        assert_eq!(is(&format!(".{key}.things.1f-2-3.tmp")), Some(false));
        for other in [
            "holiday.things",
            &format!("{}.things", "A".repeat(64)),
            &format!("{}.things", &key[1..]),
            &format!("{key}0.things"),
            &format!("{key}.thing"),
            &format!("{key}.things2"),
            &format!("{key}.things.bak"),
            &format!(".{key}.things"),
            &format!(".{key}.things.tmp"),
            &format!("{key}.things.1-2-3.tmp"),
        ] {
            assert_eq!(is(other), None, "{other}");
        }
    }

    #[test]
    fn the_least_recently_used_go_and_nothing_else() {
        let [a, b, c, d] = ["a", "b", "c", "d"].map(name);
        let made = format!("{}.7-0-1{PARTIAL}", name("e"));
        let files = [
            (&*a, 40, 400),
            (&*b, 30, 100),
            (&*c, 20, 300),
            (&*d, 10, 200),
            ("mine.things", 99, 900),
            (&*made, 50, 10),
        ];
        let left = |home: &tempfile::TempDir| {
            files
                .iter()
                .filter(|(name, ..)| home.path().join(name).exists())
                .map(|file| file.0)
                .collect::<Vec<_>>()
        };
        // 150 bytes of ours: of 91 the two oldest must go, of 90 nothing more.
        for most in [91, 90] {
            let (home, shelf) = folder(&files);
            shelf.remove_beyond(most, Path::new("none"));
            assert_eq!(left(&home), [&*b, &*d, "mine.things", &*made], "{most}");
        }
        let (home, shelf) = folder(&files);
        shelf.remove_beyond(150, Path::new("none"));
        assert_eq!(left(&home).len(), files.len());
        // What was just kept stays though it is the oldest, and too large alone.
        shelf.remove_beyond(30, &home.path().join(&a));
        assert_eq!(left(&home), [&*a, "mine.things", &*made]);
        // Use is what counts.
        let (home, shelf) = folder(&files);
        use_now(&File::open(home.path().join(&a)).unwrap());
        assert!(shelf.kept().unwrap()[0].path.ends_with(&a));
        shelf.remove_beyond(130, Path::new("none"));
        assert_eq!(left(&home), [&*a, &*b, &*d, "mine.things", &*made]);
        Shelf::new(&home.path().join("none"), ENDING).remove_beyond(0, Path::new("none"));
    }
}
