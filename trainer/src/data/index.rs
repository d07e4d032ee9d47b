//! The list of exported images: each file with the name of its class.

use super::bad;
use duet::Result;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Name of the list in the images' folder.
pub const INDEX: &str = "index.json";

/// An image of the list.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Indexed {
    /// File name in the same folder.
    pub file: String,
    /// Name of its class.
    pub label: String,
}

/// What class an image is said to be: by the list in its folder, or by the folder's name where that is one of
/// `class_names`; `None` where neither tells.
///
/// # Errors
/// A list that is there but is none.
pub fn true_class(image: &Path, class_names: &[String]) -> Result<Option<String>> {
    let folder = image.parent().unwrap_or(Path::new(""));
    let path = folder.join(INDEX);
    if let Ok(text) = std::fs::read_to_string(&path) {
        let list: Vec<Indexed> = serde_json::from_str(&text).map_err(|e| bad(&path, e.to_string()))?;
        let found = list.into_iter().find(|entry| Some(entry.file.as_ref()) == image.file_name());
        return Ok(found.map(|entry| entry.label));
    }
    let whole = std::fs::canonicalize(image).unwrap_or_else(|_| image.to_owned());
    let name = whole.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    Ok(name.filter(|name| class_names.contains(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_tells_the_class_and_else_the_folder() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("Coat");
        std::fs::create_dir(&folder).unwrap();
        let (image, other) = (folder.join("1.png"), folder.join("2.png"));
        let names = ["Bag".to_owned(), "Coat".to_owned()];
        assert_eq!(true_class(&image, &names).unwrap().as_deref(), Some("Coat"));
        assert_eq!(true_class(&image, &names[..1]).unwrap(), None);
        std::fs::write(folder.join(INDEX), r#"[{"file": "1.png", "label": "Bag"}]"#).unwrap();
        assert_eq!(true_class(&image, &names).unwrap().as_deref(), Some("Bag"));
        assert_eq!(true_class(&other, &names).unwrap(), None, "not in the list");
        std::fs::write(folder.join(INDEX), "[").unwrap();
        assert!(true_class(&image, &names).unwrap_err().to_string().contains(INDEX));
    }
}
