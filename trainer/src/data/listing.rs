//! The pictures in a folder.

use super::bad;
use duet::Result;
use std::path::{Path, PathBuf};

/// Whether files and folders of this name are passed over: hidden ones, and what a Mac adds to archives.
fn passed_over(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    name.starts_with('.') || name == "__MACOSX"
}

/// All pictures in a folder and the folders in it, those of each folder sorted by name, its own before those of the folders
/// in it. Links to folders are not followed, which could lead in a circle.
///
/// # Errors
/// A folder that cannot be listed, or that holds no picture at all.
pub fn pictures_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut pictures = Vec::new();
    list(folder, &mut pictures)?;
    if pictures.is_empty() {
        return Err(bad(folder, "holds no PNG or JPEG image"));
    }
    Ok(pictures)
}

fn list(folder: &Path, pictures: &mut Vec<PathBuf>) -> Result<()> {
    let failed = |e: std::io::Error| bad(folder, format!("cannot be listed: {e}"));
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.retain(|path| !passed_over(path));
    paths.sort();
    let ending = |path: &Path| path.extension().map(|e| e.to_string_lossy().to_lowercase());
    let is_picture =
        |path: &PathBuf| matches!(ending(path).as_deref(), Some("png" | "jpg" | "jpeg")) && path.is_file();
    pictures.extend(paths.iter().filter(|path| is_picture(path)).cloned());
    let is_folder = |path: &PathBuf| path.is_dir() && !path.is_symlink();
    paths.iter().filter(|path| is_folder(path)).try_for_each(|path| list(path, pictures))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_listed_by_name_and_what_is_hidden_is_passed_over() {
        let home = tempfile::tempdir().unwrap();
        assert!(pictures_in(home.path()).unwrap_err().to_string().contains("no PNG or JPEG"));
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
        let found = pictures_in(home.path()).unwrap();
        let names: Vec<_> = found.iter().map(|path| path.strip_prefix(home.path()).unwrap()).collect();
        assert_eq!(names, ["10.JPG", "2.png", "b/1.jpeg"].map(Path::new));
        let missing = pictures_in(&home.path().join("none")).unwrap_err().to_string();
        assert!(missing.contains("none") && missing.contains("cannot be listed"), "{missing}");
    }
}
