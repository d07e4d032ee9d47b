//! The images of a whole data set: those of the test set, or pictures in files.

use crate::cli::Explain;
use crate::data::{Dataset, load_image, true_class};
use crate::eval::row::Names;
use crate::io::given::preparation;
use crate::io::pictures;
use crate::io::session::Session;
use duet::model::{Head, Labels, UNLABELLED};
use duet::{Error, Result};

/// What images are.
enum Truths {
    Classes(Vec<usize>),
    /// Of each label, row after row.
    Labels(Vec<bool>),
}

/// The images to explain.
pub struct Source {
    /// What they are called.
    pub names: Vec<String>,
    /// By which numbers their files are called.
    pub numbers: Vec<usize>,
    /// Grey levels \[N,C,H,W\].
    levels: Vec<u8>,
    truths: Truths,
    /// Classes of the model.
    pub classes: usize,
}

impl Source {
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The images from `first` on, at most `count`, in −1..1.
    pub fn images(&self, first: usize, count: usize) -> Vec<f32> {
        let len = self.levels.len() / self.len().max(1);
        let levels = self.levels.iter().skip(first * len).take(count * len);
        levels.copied().map(duet::picture::value).collect()
    }

    /// The class of an image; of several labels whether it has the one of `class`.
    pub fn truth(&self, index: usize, class: usize) -> usize {
        match &self.truths {
            Truths::Classes(classes) => classes[index],
            Truths::Labels(labels) => usize::from(labels[index * self.classes + class]),
        }
    }

    /// The same for people.
    pub fn words(&self, index: usize, names: &Names) -> String {
        match &self.truths {
            Truths::Classes(classes) => names.name(classes[index]).to_owned(),
            Truths::Labels(labels) => {
                let row = &labels[index * self.classes..][..self.classes];
                names.decision(&row.iter().map(|has| f32::from(u8::from(*has))).collect::<Vec<_>>())
            }
        }
    }

    /// A hash of all of it.
    pub fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.levels);
        for (index, number) in self.numbers.iter().enumerate() {
            hasher.update(&(*number as u64).to_le_bytes());
            let truths = match &self.truths {
                Truths::Classes(_) => 1,
                Truths::Labels(_) => self.classes,
            };
            (0..truths).for_each(|class| {
                hasher.update(&(self.truth(index, class) as u64).to_le_bytes());
            });
        }
        format!("blake3:{}", hasher.finalize().to_hex())
    }

    /// Of test images.
    pub fn of_data(test: &Dataset, count: usize) -> Source {
        let rows = test.spread(if count == 0 { test.len() } else { count });
        let known = |row: &usize| match &test.labels {
            Labels::Classes(classes) => classes[*row] != UNLABELLED,
            Labels::MultiLabel(_) => true,
        };
        let rows: Vec<usize> = rows.into_iter().filter(known).collect();
        let classes = test.class_names.len();
        let truths = match &test.labels {
            Labels::Classes(list) => Truths::Classes(rows.iter().map(|row| list[*row] as usize).collect()),
            Labels::MultiLabel(list) => {
                let row = |row: &usize| list[row * classes..][..classes].iter().map(|label| *label > 0.5);
                Truths::Labels(rows.iter().flat_map(row).collect())
            }
        };
        let levels = rows.iter().flat_map(|row| test.image(*row)).copied().collect();
        let names = rows.iter().map(|row| format!("test image {row}")).collect();
        Source { names, numbers: rows, levels, truths, classes }
    }

    /// Of pictures in files, whose classes must be known.
    pub fn of_pictures(session: &Session, options: &Explain) -> Result<Source> {
        let (config, preparation) = (session.config(), preparation(session, &options.picture.reading));
        let given = pictures::expand(&options.images)?;
        let classes = config.num_classes;
        let (mut names, mut levels, mut truths) = (Vec::new(), Vec::new(), Vec::new());
        for path in &given {
            let class = true_class(path, config)?.and_then(|name| config.named_class(&name));
            truths.push(class.ok_or_else(|| Error::Data {
                path: path.clone(),
                detail: "its class is not known, and --all sorts images by whether they are decided rightly: put it into \
                         a folder called as its class, or list it in an index.json"
                    .into(),
            })?);
            levels.extend(load_image(path, &preparation)?.levels);
            let file = path.file_name().unwrap_or(path.as_os_str());
            names.push(file.to_string_lossy().into_owned());
        }
        let truths = match config.head {
            Head::Multiclass => Truths::Classes(truths),
            Head::MultiLabel => Truths::Labels(
                truths.iter().flat_map(|class| (0..classes).map(move |label| label == *class)).collect(),
            ),
        };
        Ok(Source { numbers: (0..given.len()).collect(), names, levels, truths, classes })
    }
}
