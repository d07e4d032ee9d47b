//! Which data, as recipes say it, and the list of formats there are.

use super::celeba::{self, Part};
use super::{Split, bad, folder, idx, labels_csv};
use duet::picture::{Fit, Pictures, Preparation};
use duet::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A format of data sets.
struct Source {
    /// What recipes call it.
    name: &'static str,
    /// Reads a specification's data as images of so many channels and pixels a side; [`super::load`] checks what comes.
    load: fn(&DataSpec, usize, usize) -> Result<Split>,
}

/// Every format there is: a file of its own in this folder, and a line here.
static SOURCES: [Source; 7] = [
    // The four idx files with Fashion-MNIST's class names.
    Source { name: "fashion-mnist", load: |spec, _, _| idx::load(spec, &idx::FASHION_MNIST) },
    // The four idx files with the digits' names.
    Source { name: "mnist", load: |spec, _, _| idx::load(spec, &idx::DIGITS) },
    // The four idx files; classes are numbered.
    Source { name: "idx", load: |spec, _, _| idx::load(spec, &[]) },
    // A folder per class with pictures.
    Source { name: "folder", load: folder::load },
    // A folder of images and a table of the labels that each has.
    Source { name: "labels-csv", load: labels_csv::load },
    // CelebA's files, split as they say.
    Source { name: "celeba", load: |spec, channels, size| celeba::load(spec, channels, size, Part::Test) },
    // The same, tested on the validation part: to choose settings by.
    Source {
        name: "celeba-validation",
        load: |spec, channels, size| celeba::load(spec, channels, size, Part::Validation),
    },
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
        matches!(self.name(), "folder" | "labels-csv" | "celeba" | "celeba-validation")
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
    /// The path as a recipe's text has it, where that is relative.
    #[serde(skip)]
    pub written: Option<PathBuf>,
    /// The ground is put around smaller idx images up to this size.
    #[serde(default)]
    pub pad_to: Option<usize>,
    /// Share of a folder's images held out for testing, where it has no `train` and `test` of its own.
    #[serde(default = "default_test_share")]
    pub test_share: f64,
    /// Seed of that split.
    #[serde(default)]
    pub split_seed: u64,
    /// Grey level of the ground that pictures lie on, 0 (black) to 255: part of the model. A folder's pictures show it where
    /// they are transparent.
    #[serde(default, skip_serializing_if = "is_black")]
    pub ground: u8,
    /// How pictures that are not square become square: "crop", "pad" or "stretch"; part of the model.
    #[serde(default, skip_serializing_if = "is_crop")]
    pub fit: Fit,
}

impl DataSpec {
    /// What pictures these are, as models hold it.
    pub fn pictures(&self) -> Pictures {
        Pictures { ground: self.ground, fit: self.fit }
    }

    /// Data of a format at a path, half of them to test on, for tests.
    #[cfg(test)]
    pub(super) fn of(kind: &str, path: &Path) -> DataSpec {
        DataSpec {
            kind: DataKind::named(kind).unwrap(),
            path: path.into(),
            written: None,
            pad_to: None,
            test_share: 0.5,
            split_seed: 1,
            ground: 0,
            fit: Fit::default(),
        }
    }

    /// What they become for a model of so many channels and pixels a side.
    pub fn preparation(&self, channels: usize, size: usize) -> Preparation {
        Preparation::of(self.pictures(), channels, size)
    }
}

/// What is left out was not known to earlier versions, which read such files.
fn is_black(ground: &u8) -> bool {
    *ground == 0
}

fn is_crop(fit: &Fit) -> bool {
    *fit == Fit::Crop
}

impl DataSpec {
    /// Takes another folder, as a command line gives it: relative to the working directory.
    pub fn set_path(&mut self, path: &Path) {
        self.path = home(path);
        self.written = None;
    }

    /// Takes the path for one of a recipe in a folder: relative to that, `~` for the user's own folder.
    pub fn resolve(&mut self, folder: &Path) {
        let path = home(&self.path);
        self.written = path.is_relative().then(|| path.clone());
        let path = folder.join(path);
        // Checkpoints say where their data are; that must hold in every working directory.
        self.path = std::path::absolute(&path).unwrap_or(path);
    }

    /// As checkpoints note it: files of models are passed on, and need not tell where their maker's own folder lies.
    pub fn noted(&self) -> DataSpec {
        let own = std::env::home_dir().filter(|own| own.parent().is_some());
        let inside = own.and_then(|own| self.path.strip_prefix(own).map(Path::to_owned).ok());
        DataSpec {
            path: inside.map_or_else(|| self.path.clone(), |path| Path::new("~").join(path)),
            ..self.clone()
        }
    }

    /// Whether the folder is there.
    ///
    /// # Errors
    /// [`Error::Data`] naming the place, and the one beside the working directory if that is meant.
    pub(super) fn must_exist(&self) -> Result<()> {
        if self.path.is_dir() {
            return Ok(());
        }
        let mut detail = if self.path.exists() { "is no folder" } else { "is not there" }.to_owned();
        let here = |written: &PathBuf| std::path::absolute(written).unwrap_or_else(|_| written.clone());
        if let Some((written, here)) =
            self.written.as_ref().map(|w| (w, here(w))).filter(|(_, here)| *here != self.path)
        {
            let what = if here.is_dir() { "is there" } else { "is not there either" };
            detail.push_str(&format!(
                ": a path in a recipe counts from the recipe's folder; in the working directory {} {what}",
                here.display()
            ));
            if here.is_dir() {
                detail.push_str(&format!(": write it in the recipe, or give --data {}", written.display()));
            }
        }
        Err(bad(&self.path, detail))
    }
}

/// A path with `~` for the user's folder at its beginning.
fn home(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) if !home.as_os_str().is_empty() => home.join(rest),
        _ => path.to_owned(),
    }
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
            let written = toml::to_string(&spec).unwrap();
            assert!(written.contains(&format!("kind = {name:?}")));
            assert!(!written.contains("ground") && !written.contains("fit"), "as before: {written}");
        }
        let text = "kind = \"folder\"\npath = \"x\"\nground = 255\nfit = \"pad\"";
        let spec: DataSpec = toml::from_str(text).unwrap();
        assert_eq!(spec.pictures(), Pictures { ground: 255, fit: Fit::Pad });
        assert_eq!(toml::from_str::<DataSpec>(&toml::to_string(&spec).unwrap()).unwrap(), spec);
        let error = toml::from_str::<DataSpec>(&text.replace("pad", "squeeze")).unwrap_err().to_string();
        assert!(error.contains("squeeze") && error.contains("stretch"), "{error}");
        let error = toml::from_str::<DataSpec>("kind = \"idy\"\npath = \"x\"").unwrap_err().to_string();
        assert!(
            error.contains("idy")
                && error.contains("fashion-mnist, mnist, idx, folder, labels-csv, celeba, celeba-validation"),
            "{error}"
        );
    }

    #[test]
    fn a_recipe_s_path_counts_from_its_folder_and_others_from_the_working_directory() {
        let spec = |path: &str| -> DataSpec {
            let mut spec: DataSpec = toml::from_str(&format!("kind = \"idx\"\npath = {path:?}")).unwrap();
            spec.resolve(Path::new("/some/recipes"));
            spec
        };
        assert_eq!(spec("data").path, Path::new("/some/recipes/data"));
        assert_eq!(spec("/data").path, Path::new("/data"));
        let user = std::env::home_dir().unwrap();
        assert_eq!(spec("~/data").path, user.join("data"));
        assert_eq!(spec("~").path, user);
        assert_eq!(spec("~/data").noted().path, Path::new("~/data"));
        assert_eq!(spec("data").noted().path, Path::new("/some/recipes/data"));
        let mut back = spec("~/data").noted();
        back.set_path(&back.path.clone());
        assert_eq!(back.path, user.join("data"));
        assert_eq!(spec("~data").path, Path::new("/some/recipes/~data"));
        let mut given = spec("data");
        given.set_path(Path::new("here"));
        assert_eq!((given.path.as_path(), &given.written), (Path::new("here"), &None));
        // Tests run in the package's folder, where `src` lies.
        let error = spec("src").must_exist().unwrap_err().to_string();
        let here = std::env::current_dir().unwrap().join("src");
        for word in ["/some/recipes/src", "is not there", &here.display().to_string(), "give --data src"] {
            assert!(error.contains(word), "{word}: {error}");
        }
        let error = spec("nowhere").must_exist().unwrap_err().to_string();
        assert!(error.contains("not there either"), "{error}");
    }
}
