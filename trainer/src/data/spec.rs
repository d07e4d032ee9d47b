//! Which data, as recipes say it, and the list of formats there are.

use super::celeba::{self, Part};
use super::decode::Reading;
use super::split::Parts;
use super::{bad, cifar, folder, idx, labels_csv, malaria, npz, optdigits, svhn, usps};
use duet::picture::{Fit, Pictures, Preparation, Resize};
use duet::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A format of data sets.
struct Source {
    /// What recipes call it.
    name: &'static str,
    /// Its files, in a few words.
    files: &'static str,
    /// Reads a specification's data as images of so many channels and pixels a side; [`super::load`] checks what comes.
    load: Load,
}

/// What reads a format.
enum Load {
    /// Files of numbers.
    Numbers(fn(&DataSpec, usize, usize) -> Result<Parts>),
    /// Pictures in a folder, of which more would be read were they written into it.
    Pictures(fn(&DataSpec, usize, usize, Reading<'_>) -> Result<Parts>),
}

/// Every format there is: a file of its own in this folder, and an entry here.
static SOURCES: [Source; 14] = [
    Source {
        name: "fashion-mnist",
        files: "the four idx files, gzip or not, with Fashion-MNIST's class names",
        load: Load::Numbers(|spec, channels, size| idx::load(spec, channels, size, &idx::FASHION_MNIST)),
    },
    Source {
        name: "mnist",
        files: "the four idx files, gzip or not, of ten digits",
        load: Load::Numbers(|spec, channels, size| idx::load(spec, channels, size, &idx::DIGITS)),
    },
    Source {
        name: "idx",
        files: "the four idx files, gzip or not, of numbered classes",
        load: Load::Numbers(|spec, channels, size| idx::load(spec, channels, size, &[])),
    },
    Source {
        name: "usps",
        files: "zip.train and zip.test (gzip or not), or usps and usps.t in LIBSVM's form (bzip2 or not)",
        load: Load::Numbers(usps::load),
    },
    Source {
        name: "optdigits",
        files: "optdigits.tra and optdigits.tes, or digits.csv (gzip or not), of 8×8 digits",
        load: Load::Numbers(optdigits::load),
    },
    Source {
        name: "cifar10",
        files: "data_batch_1.bin to data_batch_5.bin and test_batch.bin",
        load: Load::Numbers(cifar::load_10),
    },
    Source {
        name: "cifar100",
        files: "train.bin and test.bin; `labels` are \"fine\" or \"coarse\"",
        load: Load::Numbers(cifar::load_100),
    },
    Source { name: "svhn", files: "train_32x32.mat and test_32x32.mat", load: Load::Numbers(svhn::load) },
    Source {
        name: "npz",
        files: "train.npz and test.npz, or one .npz: images as arr_0, labels as arr_1",
        load: Load::Numbers(npz::load),
    },
    Source { name: "folder", files: "a folder per class with pictures", load: Load::Pictures(folder::load) },
    Source {
        name: "labels-csv",
        files: "a folder of pictures and labels.csv with the labels of each",
        load: Load::Pictures(labels_csv::load),
    },
    Source {
        name: "malaria",
        files: "cell_images/Parasitized, cell_images/Uninfected and the tables of slides",
        load: Load::Pictures(malaria::load),
    },
    Source {
        name: "celeba",
        files: "img_align_celeba, list_attr_celeba and list_eval_partition (.txt or .csv)",
        load: Load::Pictures(|spec, channels, size, reading| {
            celeba::load(spec, channels, size, Part::Test, reading)
        }),
    },
    Source {
        name: "celeba-validation",
        files: "the same, tested on the validation part",
        load: Load::Pictures(|spec, channels, size, reading| {
            celeba::load(spec, channels, size, Part::Validation, reading)
        }),
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
            let known = DataKind::all().map(|(name, files)| format!("\n  {name}: {files}"));
            Error::config(
                "data.kind",
                format!("there is no {name:?}; there are:{}", known.collect::<String>()),
            )
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// All there are: their names, and their files in a few words.
    pub fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
        SOURCES.iter().map(|source| (source.name, source.files))
    }

    /// Whether the data are a folder of pictures, of which more would be read were they written into it.
    pub fn is_folder(self) -> bool {
        matches!(self.0.load, Load::Pictures(_))
    }

    /// Whether damaged pictures may be passed over: of people's own; published data have none.
    pub fn may_have_damaged(self) -> bool {
        ["folder", "labels-csv"].contains(&self.name())
    }

    pub(super) fn load(
        self,
        spec: &DataSpec,
        channels: usize,
        size: usize,
        reading: Reading<'_>,
    ) -> Result<Parts> {
        match self.0.load {
            Load::Numbers(load) => load(spec, channels, size),
            Load::Pictures(load) => load(spec, channels, size, reading),
        }
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
    /// The ground is put around smaller images in files of numbers (idx and the like) up to this size, the model's.
    #[serde(default)]
    pub pad_to: Option<usize>,
    /// Share of the images held out for testing, where the data have no test images of their own.
    #[serde(default = "default_test_share")]
    pub test_share: f64,
    /// Share of the training images held out to choose settings by, what is looked at during training among them; data
    /// with a validation part of their own (CelebA) give that for any share above 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub validation_share: f64,
    /// Pattern in the names of pictures, their folders among them, whose first group tells what belongs together (a patient,
    /// a scene): no group is on two sides of a split.
    #[serde(default, skip_serializing_if = "is_default")]
    pub group: Option<String>,
    /// Seed of these splits.
    #[serde(default)]
    pub split_seed: u64,
    /// Which of CIFAR-100's two labels.
    #[serde(default, skip_serializing_if = "is_default")]
    pub labels: Grain,
    /// What a picture that cannot be read does: "refuse" all data, or "pass_over" it, which is told. Of folders of pictures.
    #[serde(default, skip_serializing_if = "is_default")]
    pub damaged: Damaged,
    /// Grey level of the ground that pictures lie on, 0 (black) to 255: part of the model. A folder's pictures show it where
    /// they are transparent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ground: u8,
    /// How pictures that are not square become square: "crop", "pad" or "stretch"; part of the model.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fit: Fit,
    /// By what filter pictures of another size are resized: "lanczos" or "bilinear"; part of the model.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resize: Resize,
    /// Pixels a side that pictures are resized to, with the ground around them up to the model's size; left out: to all of
    /// that. Part of the model.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resize_to: Option<usize>,
}

/// Which of CIFAR-100's two labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grain {
    /// Its hundred classes.
    #[default]
    Fine,
    /// The twenty classes that these make up.
    Coarse,
}

/// What becomes of data some pictures of which cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Damaged {
    /// They are refused, with the pictures named.
    #[default]
    Refuse,
    /// These pictures are left out, and named.
    PassOver,
}

/// What is left out was not known to earlier versions, which read such files.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl DataSpec {
    /// Data of a format in a folder, everything else as recipes that do not say it have it.
    pub fn new(kind: DataKind, path: &Path) -> DataSpec {
        DataSpec {
            kind,
            path: path.into(),
            written: None,
            pad_to: None,
            test_share: default_test_share(),
            validation_share: 0.0,
            group: None,
            split_seed: 0,
            labels: Grain::default(),
            damaged: Damaged::default(),
            ground: 0,
            fit: Fit::default(),
            resize: Resize::default(),
            resize_to: None,
        }
    }

    /// Data of a format at a path, half of them to test on, for tests.
    #[cfg(test)]
    pub(super) fn of(kind: &str, path: &Path) -> DataSpec {
        DataSpec { test_share: 0.5, split_seed: 1, ..DataSpec::new(DataKind::named(kind).unwrap(), path) }
    }

    /// What pictures these are, as models hold it.
    pub fn pictures(&self) -> Pictures {
        let &DataSpec { ground, fit, resize, resize_to, .. } = self;
        Pictures { ground, fit, resize, resize_to }
    }

    /// What they become for a model of so many channels and pixels a side.
    pub fn preparation(&self, channels: usize, size: usize) -> Preparation {
        Preparation::of(self.pictures(), channels, size)
    }

    /// Checks numbers and patterns.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field.
    pub fn validate(&self) -> Result<()> {
        for (field, share) in
            [("data.test_share", self.test_share), ("data.validation_share", self.validation_share)]
        {
            if !(0.0..1.0).contains(&share) {
                return Err(Error::config(field, format!("must be at least 0 and below 1, is {share}")));
            }
        }
        if self.damaged == Damaged::PassOver && !self.kind.may_have_damaged() {
            let detail = "can be \"pass_over\" for the kinds \"folder\" and \"labels-csv\" alone: published data have no damaged pictures";
            return Err(Error::config("data.damaged", detail));
        }
        if self.pad_to.is_some() && self.resize_to.is_some() {
            let detail = "says what `data.pad_to` says, in another way: give one of them";
            return Err(Error::config("data.resize_to", detail));
        }
        self.group_pattern().map(|_| ())
    }
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
            assert_eq!(written.lines().count(), 4, "as before: {written}");
        }
        let text = "kind = \"folder\"\npath = \"x\"\nground = 255\nfit = \"pad\"";
        let spec: DataSpec = toml::from_str(text).unwrap();
        assert_eq!(spec.pictures(), Pictures { ground: 255, fit: Fit::Pad, ..Pictures::default() });
        assert_eq!(toml::from_str::<DataSpec>(&toml::to_string(&spec).unwrap()).unwrap(), spec);
        let error = toml::from_str::<DataSpec>(&text.replace("pad", "squeeze")).unwrap_err().to_string();
        assert!(error.contains("squeeze") && error.contains("stretch"), "{error}");
        let error = toml::from_str::<DataSpec>("kind = \"idy\"\npath = \"x\"").unwrap_err().to_string();
        assert!(
            error.contains("idy") && error.contains("\n  folder: a folder per class with pictures\n"),
            "{error}"
        );
    }

    #[test]
    fn the_readme_s_table_has_every_format() {
        let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
        let text = std::fs::read_to_string(readme).unwrap();
        let table = text.split_once("| `kind` |").unwrap().1.split_once("\n\n").unwrap().0;
        let cells = table.lines().skip(2).filter_map(|line| line.split('|').nth(1));
        let mut told: Vec<&str> =
            cells.flat_map(|cell| cell.split(',')).map(|name| name.trim_matches([' ', '`'])).collect();
        let mut known: Vec<&str> = DataKind::all().map(|(name, _)| name).collect();
        told.sort_unstable();
        known.sort_unstable();
        assert_eq!(told, known);
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
