//! Counterfactuals as the tree of folders that DiME and ACE write (Jeanneret et al. 2022, 2023), so that their evaluations and
//! others' read ours: `Original/{Correct,Incorrect}` and `Results/EXPERIMENT/{CC,IC}/{CCF,ICF}/{CF,Noise,Info,SM}`. CC are of
//! images that the model decided rightly, IC wrongly; CCF reached their target, ICF did not. Pictures are PNG where theirs are
//! JPEG, which alone changes labels.
//!
//! Beside it lies what this command needs to go on after an interruption: `settings.json`, and in `explanations.jsonl` a line
//! for each image, written after its pictures. An image without a line is made anew.

use super::records::{self, Record};
use crate::cli::Shard;
use crate::eval::row::Row;
use crate::io::files::{Kind, make_folder, whole};
use crate::io::render::{Grid, Palette};
use duet::{Error, Result};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What tells a folder of ours from others'.
const SETTINGS: &str = "settings.json";
/// Settings that all experiments of a tree share: their originals lie in the same folders.
const SHARED: [&str; 2] = ["model", "data"];

/// The images of one, \[C,H,W\] in −1..1.
pub struct Parts<'a> {
    /// As it was.
    pub original: &'a [f32],
    /// As it became.
    pub counterfactual: &'a [f32],
    /// Where the chain began.
    pub noised: &'a [f32],
    /// Counterfactual minus original.
    pub difference: &'a [f32],
    /// Share of the answers that change each pixel \[H,W\], of several.
    pub stability: Option<&'a [f32]>,
}

/// One kind of picture of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// As it was.
    Original,
    /// The counterfactual.
    Counterfactual,
    /// Where the chain began.
    Noised,
    /// Share of the answers that change each pixel; of several answers.
    Stability,
}

/// A tree being written, locked for this process alone.
pub struct Tree {
    root: PathBuf,
    results: PathBuf,
    grid: Grid,
    /// Their list, and where it is.
    records: File,
    list: PathBuf,
    /// What is there, by number.
    pub done: BTreeMap<usize, Record>,
}

fn refuse(path: &Path, detail: impl Into<String>) -> Error {
    Error::Write { what: "folder", path: path.to_owned(), detail: detail.into() }
}

fn failed(path: &Path, error: impl std::fmt::Display) -> Error {
    Kind::Table.refuse(path, error.to_string())
}

/// Begins the folder of an experiment, in one moment with its settings: of several processes the first one's stay.
fn begin(all: &Path, results: &Path, settings: &Map<String, Value>) -> Result<()> {
    make_folder(all)?;
    let text = serde_json::to_string_pretty(settings).map_err(|error| failed(results, error))?;
    let moment = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    let new = all.join(format!(".new-{}-{moment:x}", std::process::id()));
    make_folder(&new)?;
    Kind::Table.write(&new.join(SETTINGS), text.as_bytes())?;
    let Err(error) = std::fs::rename(&new, results) else { return Ok(()) };
    // Another process was first: its folder is there, with its settings, and this one goes.
    let gone = std::fs::remove_dir_all(&new);
    if results.join(SETTINGS).exists() {
        gone.map_err(|error| failed(&new, error))
    } else {
        Err(failed(results, error))
    }
}

/// The settings in a folder of an experiment; `None` where there are none.
fn settings_of(results: &Path) -> Result<Option<Map<String, Value>>> {
    let path = results.join(SETTINGS);
    match whole(&path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| failed(&path, error)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(failed(&path, error)),
    }
}

/// The first setting that differs, as it is there and as it is wanted.
fn other(there: &Map<String, Value>, wanted: &Map<String, Value>, names: &[&str]) -> Option<String> {
    let differs = |name: &&&str| there.get(**name) != wanted.get(**name);
    names.iter().find(differs).map(|name| {
        let show = |of: &Map<String, Value>| of.get(*name).unwrap_or(&Value::Null).to_string();
        format!("{name} {} there, {} now", show(there), show(wanted))
    })
}

impl Tree {
    /// As [`Tree::open_part`], of all images.
    ///
    /// # Errors
    /// As it.
    pub fn open(root: &Path, experiment: &str, grid: Grid, settings: &Map<String, Value>) -> Result<Tree> {
        Self::open_part(root, experiment, grid, settings, None)
    }

    /// Begins the tree of an experiment in the folder `root`, or goes on with it: where it is there with the same `settings`, an
    /// object, [`Tree::done`] is what it has of these images. Parts of them have lists of their own, so that several processes can
    /// write into one tree.
    ///
    /// # Errors
    /// [`Error::Config`] for a name that is no name of a folder; [`Error::Write`] for a folder that holds something else, other
    /// settings, or is being written by another process.
    pub fn open_part(
        root: &Path,
        experiment: &str,
        grid: Grid,
        settings: &Map<String, Value>,
        shard: Option<Shard>,
    ) -> Result<Tree> {
        if Path::new(experiment).file_name().is_none_or(|name| name != experiment) {
            let detail = format!("{experiment:?} is no name of a folder");
            return Err(Error::config("experiment", detail));
        }
        let all = root.join("Results");
        let results = all.join(experiment);
        for entry in std::fs::read_dir(&all).into_iter().flatten().flatten() {
            let Some(there) = settings_of(&entry.path())? else { continue };
            if let Some(difference) = other(&there, settings, &SHARED) {
                let name = entry.file_name().to_string_lossy().into_owned();
                let detail = format!(
                    "its experiment {name:?} is of another model or other images ({difference}), whose originals lie in \
                     the same folders; choose another --out"
                );
                return Err(refuse(root, detail));
            }
        }
        let names: Vec<&str> = settings.keys().map(String::as_str).collect();
        let theirs = root.join("Original").exists() && !all.exists();
        if !results.exists() && !theirs {
            begin(&all, &results, settings)?;
        }
        match settings_of(&results)? {
            Some(there) => {
                if let Some(difference) = other(&there, settings, &names) {
                    let detail = format!(
                        "holds explanations made in another way ({difference}); give the same options to complete it, or \
                         another --experiment"
                    );
                    return Err(refuse(&results, detail));
                }
            }
            None => {
                let detail = "is there already and not of `duet explain --all`, which would mix with it; choose another \
                              --out or --experiment";
                return Err(refuse(if results.exists() { &results } else { root }, detail));
            }
        }
        let path = results.join(records::name(shard));
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut records = open.map_err(|error| failed(&path, error))?;
        if let Err(TryLockError::WouldBlock) = records.try_lock() {
            return Err(refuse(&results, "is being written by another process: wait for its end"));
        }
        let text = whole(&path).map_err(|error| failed(&path, error))?;
        let (done, whole) = records::whole_lines(&text, &path)?;
        // What a killed process left of a line goes.
        let cut = records.set_len(whole as u64).and_then(|()| records.seek(SeekFrom::End(0)));
        cut.map_err(|error| failed(&path, error))?;
        let mut tree = Tree { root: root.to_owned(), results, grid, list: path, records, done };
        tree.take_over(shard.is_none())?;
        Ok(tree)
    }

    /// Takes over what others have done of these images, in however many parts; into the list, too, where that is of all images.
    fn take_over(&mut self, whole: bool) -> Result<()> {
        for (number, record) in records::of_others(&self.results, &self.list)? {
            match self.done.contains_key(&number) {
                true => {}
                false if whole => self.add(record, None)?,
                false => drop(self.done.insert(number, record)),
            }
        }
        Ok(())
    }

    /// Removes the lists of parts that are in the list of all images, unless a process is at work on one.
    pub fn tidy(&self) {
        records::remove_contained(&self.results, &self.list, &self.done);
    }

    /// The folder of the experiment.
    pub fn results(&self) -> &Path {
        &self.results
    }

    /// Where a picture lies.
    fn place(&self, record: &Record, folder: &str) -> PathBuf {
        let right = if record.correct { "CC" } else { "IC" };
        let reached = if record.row.reached { "CCF" } else { "ICF" };
        self.results.join(right).join(reached).join(folder)
    }

    fn path(&self, record: &Record, part: Part) -> PathBuf {
        let folder = match part {
            Part::Original => {
                self.root.join("Original").join(if record.correct { "Correct" } else { "Incorrect" })
            }
            Part::Counterfactual => self.place(record, "CF"),
            Part::Noised => self.place(record, "Noise"),
            Part::Stability => self.place(record, "Stability"),
        };
        folder.join(format!("{:07}.png", record.number))
    }

    /// Writes an image's files, then its line. Of one that was of the target already there is the line alone.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn add(&mut self, record: Record, parts: Option<&Parts>) -> Result<()> {
        if let Some(parts) = parts {
            let write = |path: &Path, bytes: &[u8], kind: Kind| -> Result<()> {
                path.parent().map_or(Ok(()), make_folder)?;
                kind.write(path, bytes)
            };
            let pictures = [
                (Part::Original, parts.original),
                (Part::Counterfactual, parts.counterfactual),
                (Part::Noised, parts.noised),
            ];
            for (part, image) in pictures {
                let path = self.path(&record, part);
                write(&path, &self.grid.encode_one(&path, image, Palette::Image, None)?, Kind::Picture)?;
            }
            let grey = Grid { channels: 1, ..self.grid };
            let name = format!("{:07}.png", record.number);
            let path = self.place(&record, "SM").join(name);
            let map = change_map(parts.difference, self.grid.size * self.grid.size);
            write(&path, &grey.encode_one(&path, &map, Palette::Image, None)?, Kind::Picture)?;
            if let Some(stability) = parts.stability {
                let path = self.path(&record, Part::Stability);
                let levels: Vec<f32> = stability.iter().map(|share| 2.0 * share - 1.0).collect();
                write(&path, &grey.encode_one(&path, &levels, Palette::Image, None)?, Kind::Picture)?;
            }
            let path = self.place(&record, "Info").join(format!("{:07}.txt", record.number));
            write(&path, info(&record).as_bytes(), Kind::Table)?;
        }
        let path = &self.list;
        // The map lies beside it as a picture.
        let row = Row { stability: None, ..record.row };
        let record = Record { row, ..record };
        let mut line = serde_json::to_string(&record).map_err(|error| failed(path, error))?;
        line.push('\n');
        self.records.write_all(line.as_bytes()).map_err(|error| failed(path, error))?;
        self.done.insert(record.number, record);
        Ok(())
    }

    /// A picture of an image that is there, \[C,H,W\] (of [`Part::Stability`] \[H,W\]) in −1..1.
    ///
    /// # Errors
    /// [`Error::Data`] naming a file that is no such picture any more.
    pub fn read(&self, record: &Record, part: Part) -> Result<Vec<f32>> {
        let path = self.path(record, part);
        let bad = |detail: String| Error::Data { path: path.clone(), detail };
        let picture = image::open(&path).map_err(|error| bad(error.to_string()))?.into_rgb8();
        let side = self.grid.size as u32;
        if picture.dimensions() != (side, side) {
            return Err(bad(format!("is no longer {side} pixels wide and high")));
        }
        let channels = if part == Part::Stability { 1 } else { self.grid.channels };
        let channel = |c: usize| picture.pixels().map(move |pixel| duet::picture::value(pixel.0[c % 3]));
        Ok((0..channels).flat_map(channel).collect())
    }

    /// Writes a file of the experiment.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write(&self, name: &str, kind: Kind, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.results.join(name);
        kind.write(&path, bytes)?;
        Ok(path)
    }
}

/// DiME's map of the change: Σ over channels of |Δ|, over its largest, as an image of −1..1.
fn change_map(difference: &[f32], pixels: usize) -> Vec<f32> {
    let sum =
        |pixel: usize| difference.iter().skip(pixel).step_by(pixels.max(1)).map(|d| d.abs()).sum::<f32>();
    let sums: Vec<f32> = (0..pixels).map(sum).collect();
    let most = sums.iter().copied().fold(0.0, f32::max);
    sums.iter().map(|sum| if most > 0.0 { 2.0 * sum / most - 1.0 } else { -1.0 }).collect()
}

/// The text of `Info`, in DiME's words; BKL is the bounded Kullback-Leibler divergence (1 − the target's probability), l_1 the
/// mean |Δ| in 0..1.
fn info(record: &Record) -> String {
    let [label, before, target, after] = record.classes;
    let bound = 1.0 - record.row.aim().probability(&record.row.after);
    let change = record.row.mean_change;
    format!(
        "label: {label}\npred: {before}\ntarget: {target}\ncf pred: {after}\nBKL: {bound:.6}\nl_1: {change:.6}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::page::tests::row;
    use duet::model::Head;

    fn settings(strength: f64, model: &str) -> Map<String, Value> {
        let value = serde_json::json!({"model": model, "data": "d", "strength": strength});
        value.as_object().unwrap().clone()
    }

    const GRID: Grid = Grid { channels: 1, size: 2, scale: 1 };

    fn record(number: usize) -> Record {
        Record::of(number, Head::Multiclass, 0, row(2, [0, 2]))
    }

    fn add(tree: &mut Tree, record: Record) {
        let parts = Parts {
            original: &[-1.0, -1.0, 1.0, 0.0],
            counterfactual: &[-1.0, 1.0, 1.0, 0.0],
            noised: &[0.0; 4],
            difference: &[0.0, 2.0, 0.0, -0.5],
            stability: Some(&[0.0, 1.0, 0.0, 0.5]),
        };
        tree.add(record, Some(&parts)).unwrap();
    }

    #[test]
    fn files_lie_where_dime_looks_for_them() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("out");
        let mut tree = Tree::open(&root, "exp", GRID, &settings(1.7, "m")).unwrap();
        add(&mut tree, record(123));
        let wrong = Record::of(7, Head::Multiclass, 1, row(1, [0, 2]));
        add(&mut tree, wrong);
        let grey = |name: &str| image::open(root.join(name)).unwrap().into_luma8().into_raw();
        assert_eq!(grey("Original/Correct/0000123.png"), [0, 0, 255, 128]);
        assert_eq!(grey("Results/exp/CC/CCF/CF/0000123.png"), [0, 255, 255, 128]);
        assert_eq!(grey("Results/exp/CC/CCF/Noise/0000123.png"), [128; 4]);
        assert_eq!(grey("Results/exp/CC/CCF/SM/0000123.png"), [0, 255, 0, 64]);
        assert_eq!(grey("Results/exp/CC/CCF/Stability/0000123.png"), [0, 255, 0, 128]);
        let text = std::fs::read_to_string(root.join("Results/exp/CC/CCF/Info/0000123.txt")).unwrap();
        assert_eq!(text, "label: 0\npred: 0\ntarget: 2\ncf pred: 2\nBKL: 0.350000\nl_1: 0.050000\n");
        // Decided wrongly, and it became a third class.
        assert_eq!(grey("Original/Incorrect/0000007.png").len(), 4);
        let text = std::fs::read_to_string(root.join("Results/exp/IC/ICF/Info/0000007.txt")).unwrap();
        assert!(text.starts_with("label: 1\npred: 0\ntarget: 1\ncf pred: 2\n"), "{text}");
        assert_eq!(tree.read(&record(123), Part::Counterfactual).unwrap()[..3], [-1.0, 1.0, 1.0]);
        assert_eq!(change_map(&[0.5, 0.0, -0.5, 0.25], 2), [1.0, -0.5], "summed over two channels");
        assert_eq!(change_map(&[0.0; 2], 2), [-1.0; 2]);
    }

    #[test]
    fn of_several_labels_the_one_that_is_to_change_is_the_class() {
        let mut row = row(1, [0, 0]);
        (row.before, row.after, row.target_present) = (vec![0.9, 0.8], vec![0.9, 0.3], false);
        let record = Record::of(1, Head::MultiLabel, 1, row);
        assert!(record.correct);
        assert_eq!(record.classes, [1, 1, 0, 0]);
        assert!(info(&record).contains("BKL: 0.300000"), "{}", info(&record));
    }

    #[test]
    fn a_tree_is_completed_with_the_same_settings_and_else_refused() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("out");
        let open = |name: &str, settings: &Map<String, Value>| Tree::open(&root, name, GRID, settings);
        let mut tree = open("a", &settings(1.7, "m")).unwrap();
        add(&mut tree, record(1));
        add(&mut tree, record(2));
        let said = open("a", &settings(1.7, "m")).err().unwrap().to_string();
        assert!(said.contains("another process"), "{said}");
        drop(tree);
        // A process was killed within a line: its image is made anew, the others are there.
        let lines = root.join("Results/a").join(records::name(None));
        let text = std::fs::read(&lines).unwrap();
        std::fs::write(&lines, &text[..text.len() - 9]).unwrap();
        let mut tree = open("a", &settings(1.7, "m")).unwrap();
        assert_eq!(tree.done.values().collect::<Vec<_>>(), [&record(1)]);
        add(&mut tree, record(2));
        assert_eq!(std::fs::read(&lines).unwrap(), text, "as if nothing had happened");
        drop(tree);

        let said = open("a", &settings(2.4, "m")).err().unwrap().to_string();
        assert!(said.contains("strength 1.7 there, 2.4 now") && said.contains("--experiment"), "{said}");
        open("b", &settings(2.4, "m")).unwrap();
        let said = open("c", &settings(1.7, "other")).err().unwrap().to_string();
        assert!(said.contains("\"m\" there") && said.contains("--out"), "{said}");
        std::fs::create_dir(root.join("Results/theirs")).unwrap();
        let said = open("theirs", &settings(1.7, "m")).err().unwrap().to_string();
        assert!(said.contains("not of `duet explain --all`"), "{said}");
        for name in ["", "..", "a/b", "/"] {
            let said = open(name, &settings(1.7, "m")).err().unwrap().to_string();
            assert!(said.starts_with("experiment"), "{said}");
        }
        std::fs::write(&lines, "nothing\n").unwrap();
        let said = open("a", &settings(1.7, "m")).err().unwrap().to_string();
        assert!(said.contains("line 1"), "{said}");
    }
}
