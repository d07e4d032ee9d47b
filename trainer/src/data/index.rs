//! The list of exported images: each file with the name of its class.

use super::{bad, whole};
use duet::Result;
use duet::model::ModelConfig;
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

/// What class an image is said to be: by the list in its folder, or by the folder's name where that is one of the model's
/// classes; `None` where neither tells. Names are the model's where it has one that differs in case alone; what the list says
/// else is told as it is.
///
/// # Errors
/// A list that is there but is none.
pub fn true_class(image: &Path, model: &ModelConfig) -> Result<Option<String>> {
    let known = |name: &str| model.named_class(name).map(|class| model.class_name(class));
    let folder = image.parent().unwrap_or(Path::new(""));
    let path = folder.join(INDEX);
    if let Ok(text) = whole(&path) {
        let list: Vec<Indexed> = serde_json::from_slice(&text).map_err(|e| bad(&path, e.to_string()))?;
        let found = list.into_iter().find(|entry| Some(entry.file.as_ref()) == image.file_name());
        return Ok(found.map(|entry| known(&entry.label).unwrap_or(entry.label)));
    }
    let whole = std::fs::canonicalize(image).unwrap_or_else(|_| image.to_owned());
    let name = whole.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    Ok(name.and_then(|name| known(&name)))
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
        let model = |names: &[&str]| ModelConfig {
            num_classes: names.len(),
            class_names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..ModelConfig::default()
        };
        let names = model(&["bag", "COAT"]);
        assert_eq!(true_class(&image, &names).unwrap().as_deref(), Some("COAT"));
        assert_eq!(true_class(&image, &model(&["bag"])).unwrap(), None);
        let list = r#"[{"file": "1.png", "label": "Bag"}, {"file": "3.png", "label": "Hat"}]"#;
        std::fs::write(folder.join(INDEX), list).unwrap();
        assert_eq!(true_class(&image, &names).unwrap().as_deref(), Some("bag"));
        assert_eq!(true_class(&folder.join("3.png"), &names).unwrap().as_deref(), Some("Hat"));
        assert_eq!(true_class(&other, &names).unwrap(), None, "not in the list");
        std::fs::write(folder.join(INDEX), "[").unwrap();
        assert!(true_class(&image, &names).unwrap_err().to_string().contains(INDEX));
    }
}
