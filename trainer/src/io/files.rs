//! What a command writes, checked before it works: that it can be written under that name, and that nothing which is read, or
//! written too, would be replaced by it.

use crate::data::ending;
pub use crate::data::whole;
use duet::checkpoint::{check_writable, write_atomic};
use duet::{Error, Result};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// What a file is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A picture, in the format its ending says.
    Picture,
    /// A report to read in a browser.
    Report,
    /// A model.
    Model,
    /// Numbers or a list: CSV, JSON, a log.
    Table,
}

impl Kind {
    /// What errors call it.
    fn name(self) -> &'static str {
        match self {
            Kind::Picture => "picture",
            Kind::Report => "report",
            Kind::Model => "model",
            Kind::Table => "table",
        }
    }

    /// The endings that tell others what is in the file; none where any name will do.
    fn endings(self) -> &'static [&'static str] {
        match self {
            Kind::Picture => &["png", "jpg", "jpeg"],
            Kind::Report => &["html", "htm"],
            Kind::Model | Kind::Table => &[],
        }
    }

    /// An error about the file at `path`.
    pub fn refuse(self, path: &Path, detail: impl Into<String>) -> Error {
        Error::Write { what: self.name(), path: path.to_owned(), detail: detail.into() }
    }

    /// Writes the file as a whole or not at all.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write(self, path: &Path, bytes: &[u8]) -> Result<()> {
        self.named(write_atomic(path, bytes))
    }

    /// The same with its error naming the kind.
    fn named(self, result: Result<()>) -> Result<()> {
        result.map_err(|error| match error {
            Error::Write { path, detail, .. } => Error::Write { what: self.name(), path, detail },
            other => other,
        })
    }

    /// Whether the file could be written now, under such a name.
    fn check(self, path: &Path) -> Result<()> {
        let endings = self.endings();
        if path.is_dir() {
            return Err(self.refuse(path, "is a folder; give the name of a file"));
        }
        if !endings.is_empty() && !endings.contains(&ending(path).as_str()) {
            let list: Vec<String> = endings.iter().map(|ending| format!(".{ending}")).collect();
            let detail = format!("its name must end in {}, which says what it becomes", list.join(" or "));
            return Err(self.refuse(path, detail));
        }
        let folder = folder(path);
        if !folder.is_dir() {
            let what = if folder.exists() { "is no folder" } else { "does not exist" };
            return Err(self.refuse(path, format!("{} {what}", folder.display())));
        }
        self.named(check_writable(path))
    }
}

/// The folder that a file lies in.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The device and the number on it of the file that a path leads to: the same for all its names, links and symbolic links.
#[cfg(unix)]
fn number(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// Elsewhere paths without links and detours are compared.
#[cfg(not(unix))]
fn number(path: &Path) -> Option<PathBuf> {
    std::fs::canonicalize(path).ok()
}

/// Where a file would come to lie that does not exist yet. Names that differ in case alone are one file on some systems, and
/// nobody's wish on the others.
fn place(path: &Path) -> Option<(PathBuf, String)> {
    let name = path.file_name().map(OsStr::to_string_lossy)?;
    Some((std::fs::canonicalize(folder(path)).ok()?, name.to_lowercase()))
}

/// Whether two paths lead to one file, or would.
fn same(a: &Path, b: &Path) -> bool {
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a == b,
        (None, None) => place(a).is_some_and(|place_a| Some(place_a) == place(b)),
        _ => false,
    }
}

/// Checks what a command is to write, before it does anything: each file can be written where it is, and as
/// [`check_distinct`].
///
/// # Errors
/// [`Error::Write`] naming the first file that is not so, and why.
pub fn check(outputs: &[(Kind, &Path)], inputs: &[&Path]) -> Result<()> {
    check_distinct(outputs, inputs)?;
    outputs.iter().try_for_each(|(kind, path)| kind.check(path))
}

/// Checks that none of the files to write is one of `inputs` or another one to write.
///
/// # Errors
/// [`Error::Write`] naming the first file that is, and what it would replace.
pub fn check_distinct(outputs: &[(Kind, &Path)], inputs: &[&Path]) -> Result<()> {
    for (i, (kind, path)) in outputs.iter().enumerate() {
        if let Some(input) = inputs.iter().find(|input| same(path, input)) {
            let detail = format!("it would replace {}, which is read; choose another name", input.display());
            return Err(kind.refuse(path, detail));
        }
        if let Some((other, _)) = outputs[..i].iter().find(|(_, other)| same(path, other)) {
            let detail = format!("the {} goes there too; choose another name", other.name());
            return Err(kind.refuse(path, detail));
        }
    }
    Ok(())
}

/// Makes a folder to write into, unless it is there.
///
/// # Errors
/// [`Error::Write`] naming it.
pub fn make_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|error| Error::Write {
        what: "folder",
        path: path.to_owned(),
        detail: format!("it cannot be created: {error}"),
    })
}

/// Refuses to write into a folder of data, where pictures would join those that are read.
///
/// # Errors
/// [`Error::Write`] naming both.
pub fn check_apart(folder: &Path, data: &Path) -> Result<()> {
    let (Some(folder_whole), Ok(data_whole)) = (existing(folder), std::fs::canonicalize(data)) else {
        return Ok(());
    };
    if !folder_whole.starts_with(&data_whole) {
        return Ok(());
    }
    let detail = format!("it lies in the data's folder {}; choose one outside of it", data.display());
    Err(Error::Write { what: "folder", path: folder.to_owned(), detail })
}

/// The whole path of a folder or, where that is still to be made, of the nearest one above it that exists.
fn existing(folder: &Path) -> Option<PathBuf> {
    let above =
        folder.ancestors().map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path });
    above.into_iter().find_map(|path| std::fs::canonicalize(path).ok())
}

/// Refuses a path of the option `option` that has none of these endings.
///
/// # Errors
/// [`Error::Config`] naming them.
pub fn must_end(option: &str, path: &Path, endings: &[&str]) -> Result<()> {
    if endings.contains(&ending(path).as_str()) {
        return Ok(());
    }
    Err(Error::config(option, format!("{} must end in .{}", path.display(), endings.join(" or ."))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(outputs: &[(Kind, &Path)], inputs: &[&Path]) -> String {
        check(outputs, inputs).unwrap_err().to_string()
    }

    #[test]
    fn an_output_is_compared_with_inputs_as_a_file_not_as_a_name() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        std::fs::write(at("a.png"), "a").unwrap();
        std::fs::create_dir(at("sub")).unwrap();
        let input = at("a.png");
        let mut names = vec![at("a.png"), at("./a.png"), at("sub/../a.png")];
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&input, at("link.png")).unwrap();
            std::os::unix::fs::symlink(at("sub/.."), at("detour")).unwrap();
            std::fs::hard_link(&input, at("hard.png")).unwrap();
            names.extend([at("link.png"), at("detour/a.png"), at("hard.png")]);
        }
        for name in names {
            let said = refused(&[(Kind::Picture, &name)], &[&at("other"), &input]);
            assert!(said.starts_with("picture ") && said.contains("a.png, which is read"), "{said}");
        }
        check(&[(Kind::Picture, &at("b.png"))], &[&input]).unwrap();
        assert_eq!(std::fs::read(&input).unwrap(), b"a");
    }

    #[test]
    fn outputs_must_not_replace_each_other() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        for other in ["new.html", "./new.html", "NEW.html"] {
            let said = refused(&[(Kind::Table, &at("new.html")), (Kind::Report, &at(other))], &[]);
            assert!(said.starts_with("report ") && said.contains("the table goes there too"), "{said}");
        }
        check(&[(Kind::Table, &at("new.html")), (Kind::Report, &at("other.html"))], &[]).unwrap();
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "trying leaves nothing");
    }

    #[test]
    fn what_cannot_be_written_is_told_with_its_kind() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        std::fs::write(at("file"), "").unwrap();
        std::fs::create_dir(at("folder.png")).unwrap();
        let cases = [
            (Kind::Picture, "none/strip.png", "does not exist"),
            (Kind::Picture, "file/strip.png", "is no folder"),
            (Kind::Picture, "folder.png", "is a folder"),
            (Kind::Picture, "strip.gif", ".png or .jpg or .jpeg"),
            (Kind::Picture, "strip", ".png"),
            (Kind::Report, "page.png", ".html"),
            (Kind::Model, "none/model.safetensors", "does not exist"),
        ];
        for (kind, name, words) in cases {
            let said = refused(&[(kind, &at(name))], &[]);
            assert!(said.starts_with(kind.name()) && said.contains(words), "{name}: {said}");
        }
        for name in ["strip.PNG", "strip.Jpg", "strip.jpeg"] {
            check(&[(Kind::Picture, &at(name))], &[]).unwrap();
        }
        let said = Kind::Picture.write(&at("none/x.png"), b"x").unwrap_err().to_string();
        assert!(said.starts_with("picture ") && !said.contains("checkpoint"), "{said}");
        let said = make_folder(&at("file")).unwrap_err().to_string();
        assert!(said.contains("cannot be created"), "{said}");
    }

    #[test]
    fn results_stay_out_of_the_data() {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        std::fs::create_dir(&data).unwrap();
        for inside in ["data", "data/dark", "data/dark/new", "data/../data"] {
            assert!(check_apart(&home.path().join(inside), &data).is_err(), "{inside}");
        }
        for outside in [".", "images", "data-images", "data/../images"] {
            check_apart(&home.path().join(outside), &data).unwrap();
        }
    }
}
