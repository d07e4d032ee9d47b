//! Malaria cells of thin blood smears (NIH/NLM): two folders of pictures and two tables that say which slide each is cut from.
//!
//! ```text
//! cell_images/Parasitized/C100P61ThinF_IMG_20150918_144104_cell_162.png …
//! cell_images/Uninfected/…
//! patientid_cellmapping_parasitized.csv      `C100P61ThinF,"['C100P61ThinF_IMG_….png', …]",,` a slide a line, no header
//! patientid_cellmapping_uninfected.csv
//! ```
//!
//! No split is official. Cells of one slide look alike, so a split by cells would test on what is all but trained on: whole slides
//! are held out, all those of a patient together. A slide's name begins with a C-number, one for each patient.

use super::decode::{Asked, Reading, decode};
use super::foreign::foreign;
use super::images::Images;
use super::spec::Damaged;
use super::split::{Parts, hold_out};
use super::summary::Summary;
use super::{DataSpec, Dataset, bad, shared, tree, whole};
use duet::Result;
use duet::model::Labels;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Folder of the two classes, and theirs.
const CELLS: &str = "cell_images";
const CLASSES: [&str; 2] = ["Parasitized", "Uninfected"];
/// The tables of their slides.
const TABLES: [&str; 2] = ["patientid_cellmapping_parasitized.csv", "patientid_cellmapping_uninfected.csv"];
/// Longest table that is read: the published ones have less than a million bytes.
const LONGEST_TABLE: u64 = 1 << 26;
/// Pictures that an error names.
const MOST_NAMED: usize = 3;

/// Loads both classes, and holds out a share of the slides.
///
/// # Errors
/// Missing folders or tables, a table that is damaged, by line; pictures that no table names or that cannot be read.
pub fn load(spec: &DataSpec, channels: usize, size: usize, reading: Reading<'_>) -> Result<Parts> {
    let root = &spec.path;
    let cells = Some(root.join(CELLS)).filter(|folder| folder.is_dir()).unwrap_or_else(|| root.clone());
    let mut summary = Summary::default();
    let (mut paths, mut classes, mut groups) = (Vec::new(), Vec::new(), Vec::new());
    for ((class, name), table) in (0u32..).zip(CLASSES).zip(TABLES) {
        let folder = cells.join(name);
        if !folder.is_dir() {
            let detail = format!("must hold the folders {0}/{1} and {0}/{2}", CELLS, CLASSES[0], CLASSES[1]);
            return Err(bad(root, detail));
        }
        let slides = read_table(root, &cells, table)?;
        let (found, passed_over) = tree::pictures_in(&folder)?;
        summary.passed_over.join(passed_over);
        let slide = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str())?;
            slides.get(name).cloned()
        };
        let lacking: Vec<String> = found
            .iter()
            .filter(|path| slide(path).is_none())
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect();
        if !lacking.is_empty() {
            let named = lacking.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", ");
            let detail =
                format!("has {} pictures that {table} does not name, {named} among them", lacking.len());
            return Err(bad(&folder, detail));
        }
        groups.extend(found.iter().filter_map(slide));
        classes.extend(std::iter::repeat_n(class, found.len()));
        paths.extend(found);
    }
    let held_out = hold_out(&groups, spec.test_share, spec.split_seed).map_err(|detail| bad(root, detail))?;
    let files: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    let preparation = &spec.preparation(channels, size);
    let asked = Asked { root, pictures: &files, preparation, damaged: Damaged::Refuse };
    let mut images = decode(&asked, |_, _| false, reading)?.images;
    let test_images = images.take_out(&held_out);
    let rows = [false, true].map(|test| {
        let all = held_out.iter().enumerate().filter(|(_, side)| **side == test);
        all.map(|(row, _)| row).collect::<Vec<usize>>()
    });
    let part = |images: Images, rows: &[usize]| {
        let labels = Labels::Classes(rows.iter().map(|row| classes[*row]).collect());
        Dataset { images, labels, channels, size, class_names: CLASSES.map(str::to_owned).to_vec() }
    };
    let (train, test) = (part(images, &rows[0]), part(test_images, &rows[1]));
    let patients = |groups: &mut dyn Iterator<Item = &String>| groups.collect::<HashSet<_>>().len();
    let tested = patients(&mut rows[1].iter().map(|row| &groups[*row]));
    summary.notes.push(format!("{tested} of {} patients are tested on", patients(&mut groups.iter())));
    let name = |row: usize| files[row].strip_prefix(root).unwrap_or(files[row]).display();
    summary.warnings.extend(shared(&train, &test, |of_train, of_test| {
        format!("{} is {}", name(rows[1][of_test]), name(rows[0][of_train]))
    }));
    let groups = rows[0].iter().map(|row| groups[*row].clone()).collect();
    Ok(Parts { groups, ..Parts::new(train, test, summary) })
}

/// The patient of each picture, by a table beside the folders of cells or among them.
fn read_table(root: &Path, cells: &Path, name: &str) -> Result<HashMap<String, String>> {
    let path = [root, cells].map(|folder| folder.join(name)).into_iter().find(|path| path.is_file());
    let path = path.ok_or_else(|| {
        let detail = format!("has no file {name}: without it pictures of one slide would be on both sides");
        bad(root, detail)
    })?;
    let failed = |e: std::io::Error| bad(&path, format!("cannot be read: {e}"));
    if std::fs::metadata(&path).map_err(failed)?.len() > LONGEST_TABLE {
        return Err(bad(&path, format!("has more than {} MiB", LONGEST_TABLE >> 20)));
    }
    let bytes = whole(&path).map_err(failed)?;
    if let Some(word) = foreign(&bytes) {
        return Err(bad(&path, word));
    }
    let text = String::from_utf8(bytes).map_err(|_| bad(&path, "is no text in UTF-8"))?;
    table(&text).map_err(|detail| bad(&path, detail))
}

/// What a table says: a slide a line, its pictures in a list as Python prints it, with or without quotes around, and empty cells
/// behind. It is no proper CSV.
fn table(text: &str) -> std::result::Result<HashMap<String, String>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut slides = HashMap::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |detail: &str| format!("line {number}: {detail}");
        let (slide, list) = line.split_once(',').ok_or_else(|| wrong("has a slide and no pictures"))?;
        let patient = patient(slide).ok_or_else(|| wrong("must begin with a slide, C and a number"))?;
        let open = list.find('[').ok_or_else(|| wrong("has no list of pictures"))?;
        let close = list.rfind(']').filter(|close| *close > open);
        let close = close.ok_or_else(|| wrong("its list of pictures does not end: the file is cut"))?;
        let pictures = list.get(open + 1..close).unwrap_or_default().split(',');
        for picture in
            pictures.map(|name| name.trim_matches([' ', '\'', '"'])).filter(|name| !name.is_empty())
        {
            let before = slides.insert(picture.to_owned(), patient.to_owned());
            if before.is_some_and(|before| before != patient) {
                return Err(wrong(&format!("{picture} is of another slide before")));
            }
        }
    }
    Ok(slides)
}

/// The part of a slide's name that tells the patient: `C47` of `C47P8thinOriginalOlympusCX21`.
fn patient(slide: &str) -> Option<&str> {
    let slide = slide.trim();
    let digits = slide.strip_prefix('C')?.bytes().take_while(u8::is_ascii_digit).count();
    slide.get(..digits + 1).filter(|_| digits > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Split, load as load_checked};

    fn name(slide: &str, cell: usize) -> String {
        format!("{slide}_IMG_20150918_144104_cell_{cell}.png")
    }

    /// Three cells of each class on each of these slides, bright as slide and cell say.
    fn official(slides: &[&str]) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        for (class, folder) in CLASSES.iter().enumerate() {
            let path = home.path().join(CELLS).join(folder);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("Thumbs.db"), "system's").unwrap();
            let mut text = String::new();
            for (number, slide) in slides.iter().enumerate() {
                let names: Vec<String> = (0..3).map(|cell| name(slide, 3 * class + cell)).collect();
                for (cell, name) in names.iter().enumerate() {
                    let level = image::Rgb([20 * number as u8, 100 * class as u8, 10 * cell as u8]);
                    image::RgbImage::from_pixel(12, 9, level).save(path.join(name)).unwrap();
                }
                let list = names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
                // As published, and as one copy has it.
                text += &if class == 0 {
                    format!("{slide},\"[{list}]\",,,\r\n")
                } else {
                    format!("{slide},[{list}]\n")
                };
            }
            std::fs::write(home.path().join(TABLES[class]), text).unwrap();
        }
        home
    }

    const SLIDES: [&str; 6] = [
        "C100P61ThinF",
        "C1_thinF",
        "C6NThinF",
        "C47P8thin_Original_Motic",
        "C47P8thinOriginalOlympusCX21",
        "C39P4thinF_original",
    ];

    fn read(folder: &Path, spec: impl Fn(DataSpec) -> DataSpec) -> Result<Split> {
        // Read with a cache, made and then found, and without one, which must be the same.
        let (kept, spec) = (tempfile::tempdir().unwrap(), spec(DataSpec::of("malaria", folder)));
        let cache = crate::data::Cache::new(kept.path());
        let cached = || crate::data::load_by(&spec, 3, 4, Reading { cache: Some(&cache), listener: None });
        let split = load_checked(&spec, 3, 4)?;
        assert!(cached().unwrap() == split && cached().unwrap() == split);
        Ok(split)
    }

    #[test]
    fn patients_are_on_one_side_with_all_their_slides() {
        let home = official(&SLIDES);
        let mut sizes = Vec::new();
        for split_seed in 0..8 {
            let split = read(home.path(), |spec| DataSpec { split_seed, test_share: 0.4, ..spec }).unwrap();
            assert_eq!(split.train.class_names, CLASSES);
            let patients = |set: &Dataset| -> Vec<usize> {
                let slide = |image: &[u8]| usize::from(image[0] / 20);
                set.images
                    .levels()
                    .chunks(48)
                    .map(slide)
                    .map(|slide| if slide == 4 { 3 } else { slide })
                    .collect()
            };
            let (train, test) = (patients(&split.train), patients(&split.test));
            assert!(test.iter().all(|patient| !train.contains(patient)), "{train:?} {test:?}");
            for set in [&split.train, &split.test] {
                let greens = set.each().map(|image| u32::from(image[16] / 100));
                assert!(greens.eq(set.classes().unwrap().iter().copied()), "{:?}", set.labels);
            }
            sizes.push(split.test.len());
            let line = split.summary.text(false);
            assert!(line.contains("patients are tested on") && split.summary.warnings.is_empty(), "{line}");
        }
        assert!(sizes.iter().all(|size| [6, 12].contains(size)), "{sizes:?}");
        // Images to choose by are other patients again.
        let spec = |spec| DataSpec { validation_share: 0.34, test_share: 0.2, ..spec };
        let split = read(home.path(), spec).unwrap();
        let [train, validation] = [&split.train, split.validation.as_ref().unwrap()];
        let red = |set: &Dataset| set.images.levels().chunks(48).map(|image| image[0]).collect::<Vec<u8>>();
        assert!(red(validation).iter().all(|slide| !red(train).contains(slide)));
    }

    #[test]
    fn what_is_missing_or_damaged_is_named() {
        let failure = |home: &tempfile::TempDir| read(home.path(), |spec| spec).unwrap_err().to_string();
        let home = official(&SLIDES);
        let table = home.path().join(TABLES[1]);
        let text = std::fs::read_to_string(&table).unwrap();
        for (text, words) in [
            (text.replacen("C100P61ThinF,", "P61,", 1), "line 1: must begin with a slide"),
            (text.replacen("C1_thinF,", "C1_thinF", 1), "line 2: has no list"),
            (text[..text.len() - 20].to_owned(), "line 6: its list of pictures does not end"),
            ("C1_thinF\n".into(), "line 1: has a slide and no pictures"),
            (text.replacen("[", "", 1), "line 1: has no list"),
            (text.replacen(&name(SLIDES[0], 3), &name(SLIDES[1], 3), 1), "is of another slide before"),
            (text.replacen(&name(SLIDES[0], 3), "x.png", 1), "1 pictures that"),
            ("<html>".into(), "HTML page"),
        ] {
            std::fs::write(&table, &text).unwrap();
            let error = failure(&home);
            assert!(error.contains(TABLES[1]) && error.contains(words), "{words}: {error}");
        }
        std::fs::remove_file(&table).unwrap();
        assert!(failure(&home).contains(&format!("has no file {}", TABLES[1])), "{}", failure(&home));
        std::fs::remove_dir_all(home.path().join(CELLS).join("Uninfected")).unwrap();
        assert!(failure(&home).contains("cell_images/Uninfected"), "{}", failure(&home));
        let one = official(&SLIDES[..1]);
        assert!(failure(&one).contains("one group, \"C100\""), "{}", failure(&one));
    }
}
