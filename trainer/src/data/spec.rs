//! Which data, as recipes say it, and the list of formats there are.

use super::{Split, folder, idx, labels_csv};
use duet::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A format of data sets.
struct Source {
    /// What recipes call it.
    name: &'static str,
    /// Reads a specification's data as images of so many channels and pixels a side; [`super::load`] checks what comes.
    load: fn(&DataSpec, usize, usize) -> Result<Split>,
}

/// Every format there is: a file of its own in this folder, and a line here.
static SOURCES: [Source; 5] = [
    // The four idx files with Fashion-MNIST's class names.
    Source { name: "fashion-mnist", load: |spec, _, _| idx::load(spec, &idx::FASHION_MNIST) },
    // The four idx files with the digits' names.
    Source { name: "mnist", load: |spec, _, _| idx::load(spec, &idx::DIGITS) },
    // The four idx files; classes are numbered.
    Source { name: "idx", load: |spec, _, _| idx::load(spec, &[]) },
    // A folder per class with PNG or JPEG images.
    Source { name: "folder", load: folder::load },
    // A folder of images and a table of the labels that each has.
    Source { name: "labels-csv", load: labels_csv::load },
];

/// The format of a data set, by its name in recipes.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(try_from = "String", into = "&'static str")]
pub struct DataKind(&'static Source);

impl DataKind {
    /// The format of a name.
    ///
    /// # Errors
    /// [`Error::Config`] listing the names there are.
    pub fn named(name: &str) -> Result<DataKind> {
        SOURCES.iter().find(|source| source.name == name).map(DataKind).ok_or_else(|| {
            let known: Vec<&str> = SOURCES.iter().map(|source| source.name).collect();
            Error::config("data.kind", format!("there is no {name:?}; there are: {}", known.join(", ")))
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Whether the data are a folder of pictures, of which more would be read were they written into it.
    pub fn is_folder(self) -> bool {
        self.name() == "folder"
    }

    pub(super) fn load(self, spec: &DataSpec, channels: usize, size: usize) -> Result<Split> {
        (self.0.load)(spec, channels, size)
    }
}

impl TryFrom<String> for DataKind {
    type Error = Error;

    fn try_from(name: String) -> Result<DataKind> {
        DataKind::named(&name)
    }
}

impl From<DataKind> for &'static str {
    fn from(kind: DataKind) -> &'static str {
        kind.name()
    }
}

impl PartialEq for DataKind {
    fn eq(&self, other: &DataKind) -> bool {
        self.name() == other.name()
    }
}

impl std::fmt::Debug for DataKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Where the data are and how they are read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// Format.
    pub kind: DataKind,
    /// Folder of the files.
    pub path: PathBuf,
    /// Zeros are put around smaller idx images up to this size.
    #[serde(default)]
    pub pad_to: Option<usize>,
    /// Share of a folder's images held out for testing, where it has no `train` and `test` of its own.
    #[serde(default = "default_test_share")]
    pub test_share: f64,
    /// Seed of that split.
    #[serde(default)]
    pub split_seed: u64,
}

fn default_test_share() -> f64 {
    0.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_found_by_name_and_unknown_names_list_them() {
        for name in ["fashion-mnist", "mnist", "idx", "folder"] {
            let spec: DataSpec = toml::from_str(&format!("kind = {name:?}\npath = \"x\"")).unwrap();
            assert_eq!(spec.kind.name(), name);
            assert!(toml::to_string(&spec).unwrap().contains(&format!("kind = {name:?}")));
        }
        let error = toml::from_str::<DataSpec>("kind = \"idy\"\npath = \"x\"").unwrap_err().to_string();
        assert!(
            error.contains("idy") && error.contains("fashion-mnist, mnist, idx, folder, labels-csv"),
            "{error}"
        );
    }
}
