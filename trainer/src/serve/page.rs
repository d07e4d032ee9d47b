//! The page's files: those that were built before this program was, and lie inside it, or those of a folder.

use duet::{Error, Result};
use rust_embed::Embed;
use std::borrow::Cow;
use std::path::{Component, Path, PathBuf};

/// What `make web-build` makes. A program that is built before has none of it.
#[derive(Embed)]
#[folder = "../web/demo/dist"]
#[allow_missing = true]
struct Built;

const START: &str = "index.html";

/// Where the page's files come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    /// From inside this program.
    Built,
    /// From a folder, read anew at every request.
    Folder(PathBuf),
}

impl Page {
    /// The page of a folder, or else the one inside the program.
    ///
    /// # Errors
    /// [`Error::Config`] where there is none.
    pub fn new(folder: Option<&Path>) -> Result<Page> {
        let page = folder.map_or(Page::Built, |folder| Page::Folder(folder.to_owned()));
        if page.file(START).is_some() {
            return Ok(page);
        }
        let detail = match &page {
            Page::Built => "none is inside this program, which was built before the page: run `make web-build`, then build \
                            `duet` again, or give the folder that it makes (--page web/demo/dist)"
                .into(),
            Page::Folder(folder) => format!("{} holds no {START}: `make web-build` makes web/demo/dist", folder.display()),
        };
        Err(Error::config("page", detail))
    }

    /// A file of the page, by its path from the page's folder on.
    pub fn file(&self, name: &str) -> Option<Cow<'static, [u8]>> {
        match self {
            Page::Built => Built::get(name).map(|file| file.data),
            Page::Folder(folder) => {
                let name = Path::new(name);
                // Nothing outside of the folder: no "..", no drive, no root.
                name.components().all(|part| matches!(part, Component::Normal(_))).then_some(())?;
                std::fs::read(folder.join(name)).ok().map(Cow::Owned)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_what_is_in_it_and_nothing_else() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("page");
        std::fs::create_dir_all(folder.join("assets")).unwrap();
        std::fs::write(outer.path().join("secret"), "no").unwrap();
        let error = Page::new(Some(&folder)).unwrap_err().to_string();
        assert!(error.contains("index.html") && error.contains("web-build"), "{error}");
        for (name, text) in [("index.html", "page"), ("assets/a.js", "code")] {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let page = Page::new(Some(&folder)).unwrap();
        assert_eq!(page.file("assets/a.js").as_deref(), Some(&b"code"[..]));
        for name in ["../secret", "assets/../../secret", "/etc/passwd", "assets", "none", ""] {
            assert_eq!(page.file(name), None, "{name}");
        }
    }
}
