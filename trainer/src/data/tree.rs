//! The files of a folder of classes.

use super::summary::{PassedOver, Why};
use super::{bad, file};
use duet::Result;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Folders that systems put among others'.
const SYSTEM_FOLDERS: [&str; 5] =
    ["__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information"];

/// Files that systems put among others', in small letters.
const SYSTEM_FILES: [&str; 4] = ["thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"];

/// Folders inside each other more than so many times are no data set.
const DEEPEST: usize = 64;

/// A class: a folder's name, and the pictures in it and its sub-folders.
#[derive(Clone, Debug)]
pub struct Class {
    /// The folder's name.
    pub name: String,
    /// Its pictures, sorted.
    pub files: Vec<PathBuf>,
}

/// What lies in a folder, sorted, without what is hidden or a system's.
pub struct Listing {
    /// Folders with their names.
    pub folders: Vec<(String, PathBuf)>,
    /// All else.
    pub files: Vec<PathBuf>,
}

/// Lists a folder.
///
/// # Errors
/// A folder that cannot be listed; a folder whose name is no text.
pub fn list(folder: &Path) -> Result<Listing> {
    let failed = |e: std::io::Error| bad(folder, format!("cannot be listed: {e}"));
    let mut listing = Listing { folders: Vec::new(), files: Vec::new() };
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        if !path.is_dir() {
            if !SYSTEM_FILES.contains(&name.to_lowercase().as_str()) {
                listing.files.push(path);
            }
        } else if !SYSTEM_FOLDERS.contains(&name.as_str()) {
            if path.file_name().is_none_or(|name| name.to_str().is_none()) {
                return Err(bad(&path, "has a name that is no UTF-8: rename the folder"));
            }
            listing.folders.push((name, path));
        }
    }
    listing.folders.sort_by(|a, b| a.1.cmp(&b.1));
    listing.files.sort();
    Ok(listing)
}

/// The sub-folders of a folder as classes, by name.
///
/// # Errors
/// As [`list`].
pub fn classes(folder: &Path, passed_over: &mut PassedOver) -> Result<Vec<Class>> {
    let listing = list(folder)?;
    for file in &listing.files {
        passed_over.add(Why::NoClass, file::ending(file));
    }
    // A link back to the whole would make pictures of all classes one's own.
    let whole = folder.canonicalize().map_err(|e| bad(folder, format!("cannot be listed: {e}")))?;
    let mut classes = Vec::new();
    for (name, path) in listing.folders {
        let mut files = Vec::new();
        gather(&path, &mut files, passed_over, &mut HashSet::from([whole.clone()]), 0)?;
        classes.push(Class { name, files });
    }
    Ok(classes)
}

/// All pictures in a folder and its sub-folders, those of each folder by name, its own before those of its sub-folders; and what
/// was passed over.
///
/// # Errors
/// As [`list`]; a folder that holds no picture at all.
pub fn pictures_in(folder: &Path) -> Result<(Vec<PathBuf>, PassedOver)> {
    let (mut files, mut passed_over) = (Vec::new(), PassedOver::default());
    gather(folder, &mut files, &mut passed_over, &mut HashSet::new(), 0)?;
    if files.is_empty() {
        return Err(bad(folder, "holds no picture"));
    }
    Ok((files, passed_over))
}

/// Adds a folder's pictures, then its sub-folders'. A folder that links lead to again is read once.
fn gather(
    folder: &Path,
    files: &mut Vec<PathBuf>,
    passed_over: &mut PassedOver,
    seen: &mut HashSet<PathBuf>,
    depth: usize,
) -> Result<()> {
    let real = folder.canonicalize().map_err(|e| bad(folder, format!("cannot be listed: {e}")))?;
    if !seen.insert(real) {
        return Ok(());
    }
    if depth > DEEPEST {
        return Err(bad(folder, format!("lies more than {DEEPEST} folders deep in its class")));
    }
    let listing = list(folder)?;
    for path in listing.files {
        let why = match file::kind(&path) {
            file::Kind::Picture => {
                files.push(path);
                continue;
            }
            file::Kind::Unread => Why::Format,
            file::Kind::Other => Why::NoPicture,
            file::Kind::Special => Why::NoFile,
        };
        passed_over.add(why, file::ending(&path));
    }
    for (_, path) in listing.folders {
        gather(&path, files, passed_over, seen, depth + 1)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_listed_by_name_and_what_is_hidden_is_passed_over() {
        let home = tempfile::tempdir().unwrap();
        assert!(pictures_in(home.path()).unwrap_err().to_string().contains("holds no picture"));
        for name in ["b", ".hidden", "__MACOSX"] {
            std::fs::create_dir(home.path().join(name)).unwrap();
        }
        let files =
            ["2.png", "10.JPG", "b/1.jpeg", "._2.png", "notes.txt", ".hidden/1.png", "__MACOSX/2.png"];
        for name in files {
            std::fs::write(home.path().join(name), "").unwrap();
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink(home.path(), home.path().join("circle")).unwrap();
        let (found, passed_over) = pictures_in(home.path()).unwrap();
        assert_eq!(passed_over.words(), "1 file that is no picture (1 .txt)");
        let names: Vec<_> = found.iter().map(|path| path.strip_prefix(home.path()).unwrap()).collect();
        assert_eq!(names, ["10.JPG", "2.png", "b/1.jpeg"].map(Path::new));
        let missing = pictures_in(&home.path().join("none")).unwrap_err().to_string();
        assert!(missing.contains("none") && missing.contains("cannot be listed"), "{missing}");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_back_to_the_whole_adds_no_other_class() {
        let home = tempfile::tempdir().unwrap();
        for class in ["dark", "light"] {
            std::fs::create_dir(home.path().join(class)).unwrap();
            std::fs::write(home.path().join(class).join("1.png"), "").unwrap();
        }
        std::os::unix::fs::symlink("..", home.path().join("dark/up")).unwrap();
        let found = classes(home.path(), &mut PassedOver::default()).unwrap();
        assert_eq!(found.iter().map(|class| class.files.len()).collect::<Vec<_>>(), [1, 1]);
    }
}
