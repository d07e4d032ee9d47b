//! What is answered to which path: a model, its pictures and the list that names it, the rest from the page.

use super::page::Page;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

/// A page and what takes the place of its own files.
pub struct Site {
    page: Page,
    /// By path, without the first slash.
    files: BTreeMap<String, Vec<u8>>,
}

/// A file's contents and what they are.
pub struct Found<'a> {
    /// Its bytes.
    pub bytes: Cow<'a, [u8]>,
    /// Media type.
    pub kind: &'static str,
}

/// The media type of a file. Browsers compile WebAssembly while it comes only if it is called so.
fn kind(name: &str) -> &'static str {
    match Path::new(name).extension().and_then(|ending| ending.to_str()).unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" => "application/json; charset=utf-8",
        "md" => "text/markdown; charset=utf-8",
        "txt" => "text/plain; charset=utf-8",
        "wasm" => "application/wasm",
        "webmanifest" => "application/manifest+json",
        "png" => "image/png",
        "svg" => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

impl Site {
    /// A page whose own files of these paths are replaced. Of a folder that is named here ("own/…") nothing is the page's.
    pub fn new(page: Page, files: BTreeMap<String, Vec<u8>>) -> Site {
        Site { page, files }
    }

    /// The file behind an address's path; a page is found without its ending, too ("/check").
    pub fn get(&self, address: &str) -> Option<Found<'_>> {
        let path = address.split(['?', '#']).next()?.strip_prefix('/')?;
        let name = if path.is_empty() { "index.html" } else { path };
        self.file(name).or_else(|| {
            let bare = !name.ends_with('/') && Path::new(name).extension().is_none();
            bare.then(|| self.file(&format!("{name}.html"))).flatten()
        })
    }

    fn file(&self, name: &str) -> Option<Found<'_>> {
        if let Some(bytes) = self.files.get(name) {
            return Some(Found { bytes: Cow::Borrowed(bytes), kind: kind(name) });
        }
        let folder = name.split_once('/').map(|(folder, _)| format!("{folder}/"));
        if folder.is_some_and(|folder| self.files.keys().any(|own| own.starts_with(&folder))) {
            return None;
        }
        Some(Found { bytes: self.page.file(name)?, kind: kind(name) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_and_its_pictures_take_the_place_of_the_page_s() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("images")).unwrap();
        for name in
            ["index.html", "check.html", "model.safetensors", "images/index.json", "images/a.png", "a.wasm"]
        {
            std::fs::write(folder.path().join(name), format!("page's {name}")).unwrap();
        }
        let page = Page::new(Some(folder.path())).unwrap();
        let own = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), b"own".to_vec())).collect();
        let text = |site: &Site, address: &str| {
            site.get(address).map(|found| (String::from_utf8(found.bytes.into_owned()).unwrap(), found.kind))
        };
        let plain = Site::new(page.clone(), BTreeMap::new());
        assert_eq!(text(&plain, "/").unwrap(), ("page's index.html".into(), "text/html; charset=utf-8"));
        assert_eq!(text(&plain, "/a.wasm?v=1").unwrap().1, "application/wasm");
        assert_eq!(text(&plain, "/images/a.png").unwrap().0, "page's images/a.png");
        assert_eq!(text(&plain, "/check?x=1").unwrap(), text(&plain, "/check.html").unwrap());
        for none in ["/none", "index.html", "/../x", "//", "/check/", "/images", "/check.htm"] {
            assert!(text(&plain, none).is_none(), "{none}");
        }
        let site = Site::new(page, own(&["model.safetensors", "images/index.json"]));
        assert_eq!(text(&site, "/model.safetensors").unwrap().0, "own");
        assert_eq!(text(&site, "/images/index.json").unwrap().0, "own");
        assert!(text(&site, "/images/a.png").is_none(), "a picture of the page's own model");
        assert_eq!(text(&site, "/index.html").unwrap().0, "page's index.html");
    }
}
