//! CelebA's file layout: a folder of pictures with tables of their attributes and of the official split.
//!
//! ```text
//! img_align_celeba/000001.jpg …      the pictures
//! list_attr_celeba.txt               how many; the attributes' names; then `000001.jpg -1  1 …`, 1 where one holds
//! list_eval_partition.txt            `000001.jpg 0`: 0 to train on, 1 to validate on, 2 to test on
//! boxes.txt                          where there are some: `000001.jpg SOURCE COLUMN ROW Name:x0,y0,x1,y1 …`
//! ```
//!
//! The two tables are read as the authors publish them or, ending in `.csv`, as mirrors do (`image_id,Name,…`, without the
//! count). Fields are separated by any run of blanks: the published line of names ends with one.

use super::decode::{Asked, Reading, decode};
use super::foreign::foreign;
use super::spec::Damaged;
use super::split::Parts;
use super::{DataSpec, Dataset, Summary, bad, shared, whole};
use duet::Result;
use duet::model::Labels;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Folder of the pictures; one mirror has it twice, inside each other.
const PICTURES: &str = "img_align_celeba";
/// The tables' names without their endings.
const ATTRIBUTES: &str = "list_attr_celeba";
const PARTITION: &str = "list_eval_partition";
/// Rows that an error names.
const MOST_NAMED: usize = 3;

/// A part of the official split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What is trained on.
    Train = 0,
    /// What settings are chosen by.
    Validation = 1,
    /// What is tested on, once.
    Test = 2,
}

/// What the tables say of the pictures of one part, in their order.
#[derive(Debug, Default)]
struct Rows {
    files: Vec<String>,
    /// For each picture a number for each attribute.
    targets: Vec<f32>,
}

/// Loads what is trained on and, to test on, the part `held_out`; the third part is not looked at, unless it is that to validate
/// on and `spec` asks for one.
///
/// # Errors
/// Tables that are missing, damaged or of different pictures, naming file and line; pictures that cannot be read.
pub fn load(
    spec: &DataSpec,
    channels: usize,
    size: usize,
    held_out: Part,
    reading: Reading<'_>,
) -> Result<Parts> {
    let mut summary = Summary::default();
    let parts = [Part::Train, Part::Validation, held_out];
    let (names, [train, validation, test]) = tables(&spec.path, parts, &mut summary)?;
    let folder = pictures(&spec.path)?;
    let part = |rows: &Rows| -> Result<Dataset> {
        let paths: Vec<PathBuf> = rows.files.iter().map(|file| folder.join(file)).collect();
        let pictures: &[&Path] = &paths.iter().map(PathBuf::as_path).collect::<Vec<_>>();
        let (root, preparation) = (spec.path.as_path(), &spec.preparation(channels, size));
        let asked = Asked { root, pictures, preparation, damaged: Damaged::Refuse };
        let images = decode(&asked, |_, _| false, reading)?.images;
        let (labels, class_names) = (Labels::MultiLabel(rows.targets.clone()), names.clone());
        Ok(Dataset { images, labels, channels, size, class_names })
    };
    let mut parts = Parts::new(part(&train)?, part(&test)?, summary);
    parts.summary.warnings.extend(shared(&parts.train, &parts.test, |of_train, of_test| {
        format!("{} is {}", test.files[of_test], train.files[of_train])
    }));
    if held_out == Part::Validation {
        parts.summary.notes.push("the validation part is tested on, the test part not looked at".into());
    } else if spec.validation_share > 0.0 {
        parts.validation = Some(part(&validation)?);
        parts.summary.notes.push("settings are chosen by the official validation part".into());
    }
    Ok(parts)
}

/// Names of the files of the part to test on, in the order of its images.
///
/// # Errors
/// As [`load`].
pub fn files(spec: &DataSpec, held_out: Part) -> Result<Vec<PathBuf>> {
    let (_, [rows]) = tables(&spec.path, [held_out], &mut Summary::default())?;
    let folder = pictures(&spec.path)?;
    Ok(rows.files.into_iter().map(|file| folder.join(file)).collect())
}

/// The folder of the pictures.
fn pictures(root: &Path) -> Result<PathBuf> {
    let folder = root.join(PICTURES);
    let nested = folder.join(PICTURES);
    if nested.is_dir() {
        return Ok(nested);
    }
    if folder.is_dir() {
        return Ok(folder);
    }
    let archive = root.join(format!("{PICTURES}.zip"));
    let detail = if archive.is_file() { ": unpack img_align_celeba.zip" } else { "" };
    Err(bad(root, format!("has no folder {PICTURES} with the pictures{detail}")))
}

/// The attributes' names, and what the tables say of the pictures of some parts.
fn tables<const N: usize>(
    root: &Path,
    parts: [Part; N],
    summary: &mut Summary,
) -> Result<(Vec<String>, [Rows; N])> {
    let (path, text) = table(root, ATTRIBUTES, summary)?;
    let attributes = Attributes::parse(&text, is_csv(&path)).map_err(|detail| bad(&path, detail))?;
    let (partition_path, text) = table(root, PARTITION, summary)?;
    let partition =
        partition(&text, is_csv(&partition_path)).map_err(|detail| bad(&partition_path, detail))?;
    let other = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let lacking: Vec<&str> =
        attributes.rows.iter().map(|(file, _)| *file).filter(|file| !partition.contains_key(file)).collect();
    if !lacking.is_empty() {
        let detail = format!("has no line for {}, of which {} has one", some(&lacking), other(&path));
        return Err(bad(&partition_path, detail));
    }
    if partition.len() > attributes.rows.len() {
        let known: std::collections::HashSet<&str> = attributes.rows.iter().map(|(file, _)| *file).collect();
        let mut lacking: Vec<&str> = partition.keys().copied().filter(|file| !known.contains(file)).collect();
        lacking.sort_unstable();
        let detail =
            format!("has no line for {}, of which {} has one", some(&lacking), other(&partition_path));
        return Err(bad(&path, detail));
    }
    let rows = parts.map(|part| {
        let mut rows = Rows::default();
        for (file, targets) in
            attributes.rows.iter().filter(|(file, _)| partition.get(file) == Some(&(part as u8)))
        {
            rows.files.push((*file).to_owned());
            rows.targets.extend(targets.iter().map(|holds| f32::from(u8::from(*holds))));
        }
        rows
    });
    Ok((attributes.names, rows))
}

/// A few names of a list.
fn some(list: &[&str]) -> String {
    let named = list.iter().take(MOST_NAMED).copied().collect::<Vec<_>>().join(", ");
    match list.len().checked_sub(MOST_NAMED) {
        Some(more) if more > 0 => format!("{named} and {more} more"),
        _ => named,
    }
}

fn is_csv(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "csv")
}

/// A table of that name, ending in `.txt` as published or in `.csv`.
fn table(root: &Path, stem: &str, summary: &mut Summary) -> Result<(PathBuf, String)> {
    let [txt, csv] = ["txt", "csv"].map(|ending| root.join(format!("{stem}.{ending}")));
    let path = match (txt.is_file(), csv.is_file()) {
        (true, true) => {
            summary.notes.push(format!("{stem}.txt is read, {stem}.csv is not"));
            txt
        }
        (true, false) => txt,
        (false, true) => csv,
        (false, false) => return Err(bad(root, format!("has no file {stem}.txt or {stem}.csv"))),
    };
    let bytes = whole(&path).map_err(|e| bad(&path, format!("cannot be read: {e}")))?;
    if let Some(word) = foreign(&bytes) {
        return Err(bad(&path, word));
    }
    let text = String::from_utf8(bytes).map_err(|_| bad(&path, "is no text in UTF-8"))?;
    Ok((path, text))
}

/// The lines of a table that are not blank, with their numbers, and the fields of one.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty())
}

fn fields(line: &str, csv: bool) -> Vec<&str> {
    if csv { line.split(',').map(str::trim).collect() } else { line.split_whitespace().collect() }
}

/// A picture's name in a table, which must be one of the pictures' folder.
fn file_name(field: Option<&&str>, number: usize) -> std::result::Result<(), String> {
    let name = field.copied().unwrap_or_default();
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', ':', '\0']) {
        return Err(format!("line {number}: {name:?} is no name of a picture"));
    }
    Ok(())
}

/// The attributes' table.
struct Attributes<'a> {
    names: Vec<String>,
    rows: Vec<(&'a str, Box<[bool]>)>,
}

impl<'a> Attributes<'a> {
    fn parse(text: &'a str, csv: bool) -> std::result::Result<Attributes<'a>, String> {
        let mut lines = lines(text);
        let mut next = |what: &str| lines.next().ok_or_else(|| format!("ends before {what}"));
        let announced = if csv {
            None
        } else {
            let (number, line) = next("the number of pictures")?;
            let count = line.trim().parse::<usize>();
            Some(count.map_err(|_| format!("line {number}: must be the number of pictures alone"))?)
        };
        let (number, line) = next("the attributes' names")?;
        // Mirrors' tables have a name for the column of files too.
        let names: Vec<&str> = fields(line, csv).into_iter().skip(usize::from(csv)).collect();
        if names.is_empty() || names.iter().any(|name| name.is_empty()) {
            return Err(format!("line {number}: must be the attributes' names"));
        }
        let mut sorted = names.clone();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("line {number}: the attribute {:?} is there twice", twice[0]));
        }
        let (mut rows, mut seen) = (Vec::new(), HashMap::new());
        for (number, line) in lines {
            let fields = fields(line, csv);
            file_name(fields.first(), number)?;
            let values = fields.get(1..).unwrap_or_default();
            if values.len() != names.len() {
                return Err(format!(
                    "line {number}: has {} attributes, {} have names",
                    values.len(),
                    names.len()
                ));
            }
            let holds = |value: &&str| match *value {
                "1" => Ok(true),
                "-1" => Ok(false),
                other => {
                    Err(format!("line {number}: {other:?} is neither 1, where an attribute holds, nor -1"))
                }
            };
            let targets = values.iter().map(holds).collect::<std::result::Result<Box<[bool]>, String>>()?;
            if let Some(before) = seen.insert(fields[0], number) {
                return Err(format!("line {number}: {} is there twice, in line {before} before", fields[0]));
            }
            rows.push((fields[0], targets));
        }
        match announced {
            Some(count) if count != rows.len() => Err(format!(
                "announces {count} pictures and has lines for {}: it is cut short or changed",
                rows.len()
            )),
            _ => Ok(Attributes { names: names.into_iter().map(str::to_owned).collect(), rows }),
        }
    }
}

/// The part of each picture, as a number.
fn partition(text: &str, csv: bool) -> std::result::Result<HashMap<&str, u8>, String> {
    let mut parts = HashMap::new();
    for (number, line) in lines(text).skip(usize::from(csv)) {
        let fields = fields(line, csv);
        file_name(fields.first(), number)?;
        let part = match fields[1..] {
            ["0"] => Part::Train,
            ["1"] => Part::Validation,
            ["2"] => Part::Test,
            _ => {
                return Err(format!(
                    "line {number}: must be a picture and its part: 0 (train), 1 (validation) or 2 (test)"
                ));
            }
        };
        if parts.insert(fields[0], part as u8).is_some() {
            return Err(format!("line {number}: {} is there twice", fields[0]));
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Boxed, Split, boxes};
    use duet::picture::Fit;

    const NAMES: &str = "5_o_Clock_Shadow Arched_Eyebrows Young ";

    fn write(folder: &Path, name: &str, text: &str) {
        std::fs::write(folder.join(name), text).unwrap();
    }

    /// Six pictures of 178×218 pixels in the official layout, bright as their number; two in each part.
    fn official() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(PICTURES)).unwrap();
        let (mut attributes, mut parts) = (format!("6\n{NAMES}\n"), String::new());
        for i in 1..=6u8 {
            let name = format!("00000{i}.jpg");
            let picture = image::RgbImage::from_pixel(178, 218, image::Rgb([i * 40, 0, 0]));
            picture.save(home.path().join(PICTURES).join(&name)).unwrap();
            let sign = |holds: bool| if holds { " 1" } else { "-1" };
            attributes += &format!("{name} {} {} {}\n", sign(i % 2 == 0), sign(i > 3), sign(true));
            parts += &format!("{name} {}\n", (i - 1) / 2);
        }
        write(home.path(), "list_attr_celeba.txt", &attributes);
        write(home.path(), "list_eval_partition.txt", &parts);
        home
    }

    /// Read with a cache, made and then found, and without one, which must be the same.
    fn read(folder: &Path, kind: &str) -> Result<Split> {
        let (kept, spec) = (tempfile::tempdir().unwrap(), DataSpec::of(kind, folder));
        let cache = crate::data::Cache::new(kept.path());
        let cached = || crate::data::load_by(&spec, 3, 8, Reading { cache: Some(&cache), listener: None });
        let split = crate::data::load(&spec, 3, 8)?;
        assert!(cached().unwrap() == split && cached().unwrap() == split);
        Ok(split)
    }

    #[test]
    fn the_official_files_are_read_as_they_are_split() {
        let home = official();
        let split = read(home.path(), "celeba").unwrap();
        assert_eq!(split.train.class_names, ["5_o_Clock_Shadow", "Arched_Eyebrows", "Young"]);
        assert_eq!(split.train.labels, Labels::MultiLabel(vec![0.0, 0.0, 1.0, 1.0, 0.0, 1.0]));
        assert_eq!(split.test.labels, Labels::MultiLabel(vec![0.0, 1.0, 1.0, 1.0, 1.0, 1.0]));
        let reds = |set: &Dataset| [0, 1].map(|row| set.images.levels()[row * 192 + 30]);
        for (set, want) in [(&split.train, [40, 80]), (&split.test, [200, 240])] {
            let near = reds(set).into_iter().zip(want).all(|(red, want): (u8, u8)| red.abs_diff(want) < 4);
            assert!(near, "{:?} and {want:?}", reds(set));
        }
        let validation = read(home.path(), "celeba-validation").unwrap();
        assert_eq!(validation.train, split.train);
        assert!(reds(&validation.test)[0].abs_diff(120) < 4, "{:?}", reds(&validation.test));
        assert!(validation.summary.text(false).contains("the validation part is tested on"));
        // As mirrors have it: tables with commas, another line end, the folder twice.
        let mirror = tempfile::tempdir().unwrap();
        let nested = mirror.path().join(PICTURES).join(PICTURES);
        std::fs::create_dir_all(&nested).unwrap();
        for i in 1..=6 {
            let name = format!("00000{i}.jpg");
            std::fs::copy(home.path().join(PICTURES).join(&name), nested.join(&name)).unwrap();
        }
        let table = |name: &str| std::fs::read_to_string(home.path().join(name)).unwrap();
        let commas = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(",") + "\r\n";
        let attributes = table("list_attr_celeba.txt");
        let rows: String = attributes.lines().skip(2).map(commas).collect();
        write(mirror.path(), "list_attr_celeba.csv", &format!("\u{feff}image_id,{}{rows}", commas(NAMES)));
        let rows: String = table("list_eval_partition.txt").lines().map(commas).collect();
        write(mirror.path(), "list_eval_partition.csv", &format!("image_id,partition\r\n{rows}"));
        assert_eq!(read(mirror.path(), "celeba").unwrap(), split);
        // The published file goes before a mirror's.
        write(mirror.path(), "list_attr_celeba.txt", &attributes.replace("Young", "Old"));
        let both = read(mirror.path(), "celeba").unwrap();
        assert_eq!(both.train.class_names[2], "Old");
        assert!(both.summary.text(false).contains("list_attr_celeba.csv is not"));
    }

    #[test]
    fn missing_foreign_and_damaged_files_are_named() {
        let tables = ["list_attr_celeba.txt", "list_eval_partition.txt"];
        for name in tables {
            let home = official();
            std::fs::remove_file(home.path().join(name)).unwrap();
            let error = read(home.path(), "celeba").unwrap_err().to_string();
            assert!(error.contains(&format!("has no file {name}")), "{error}");
            for (text, words) in [
                ("<!DOCTYPE html><title>Google Drive", "HTML page"),
                ("version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
            ] {
                write(home.path(), name, text);
                let error = read(home.path(), "celeba").unwrap_err().to_string();
                assert!(error.contains(name) && error.contains(words), "{error}");
            }
            std::fs::write(home.path().join(name), [0xFF, 0xFE, 0, 1]).unwrap();
            assert!(read(home.path(), "celeba").unwrap_err().to_string().contains("UTF-8"));
        }
        let home = official();
        let text = |name: &str| std::fs::read_to_string(home.path().join(name)).unwrap();
        let [attributes, partition] = tables.map(text);
        let refused = |name: &str, text: &str| {
            write(home.path(), name, text);
            let error = read(home.path(), "celeba").unwrap_err().to_string();
            write(home.path(), tables[0], &attributes);
            write(home.path(), tables[1], &partition);
            error
        };
        let short = attributes.trim_end().rsplit_once('\n').unwrap().0;
        for (text, words) in [
            ("", "ends before the number of pictures"),
            ("6\n", "ends before the attributes' names"),
            (&attributes.replacen("6\n", "", 1), "line 1: must be the number of pictures alone"),
            (short, "announces 6 pictures and has lines for 5"),
            (&attributes.replacen("-1", "0", 1), "line 3: \"0\" is neither 1"),
            (&attributes.replacen("-1", "", 1), "line 3: has 2 attributes, 3 have names"),
            (&attributes.replace("Young", "Arched_Eyebrows"), "line 2: the attribute \"Arched_Eyebrows\""),
            (&attributes.replace("000002", "000001"), "line 4: 000001.jpg is there twice, in line 3"),
            (&attributes.replace("000002", "../000002"), "line 4: \"../000002.jpg\" is no name"),
            (
                &attributes.replace("000002", "000009"),
                "has no line for 000009.jpg, of which list_attr_celeba.txt",
            ),
        ] {
            let error = refused(tables[0], text);
            assert!(error.contains("list_") && error.contains(words), "{words}: {error}");
        }
        for (text, words) in [
            ("000001.jpg 3\n", "line 1: must be a picture and its part"),
            ("000001.jpg\n", "line 1: must be a picture and its part"),
            (&partition.replace("000002", "000001"), "line 2: 000001.jpg is there twice"),
            ("", "has no line for 000001.jpg, 000002.jpg, 000003.jpg and 3 more"),
            (
                &format!("{partition}000007.jpg 2\n"),
                "has no line for 000007.jpg, of which list_eval_partition.txt",
            ),
            (&partition.replace(" 2", " 1"), "holds no test images"),
        ] {
            let error = refused(tables[1], text);
            assert!(error.contains(words), "{words}: {error}");
        }
        std::fs::remove_file(home.path().join(PICTURES).join("000006.jpg")).unwrap();
        let error = read(home.path(), "celeba").unwrap_err().to_string();
        assert!(error.contains("1 of 2 pictures") && error.contains("000006.jpg"), "{error}");
        std::fs::remove_dir_all(home.path().join(PICTURES)).unwrap();
        write(home.path(), "img_align_celeba.zip", "PK");
        let error = read(home.path(), "celeba").unwrap_err().to_string();
        assert!(error.contains("no folder img_align_celeba") && error.contains("unpack"), "{error}");
    }

    #[test]
    fn boxes_are_those_of_the_images_tested_on_in_the_model_s_pixels() {
        let home = official();
        let lines = "000001.jpg A 0 0 x:oops\n";
        write(home.path(), "boxes.txt", lines);
        let error = boxes(&DataSpec::of("celeba", home.path()), 89).unwrap_err().to_string();
        assert!(error.contains("boxes.txt") && error.contains("line 1: \"x:oops\" is no box"), "{error}");
        // The middle 178 rows of 218 become 89: from row 20 on, two pixels each.
        let lines =
            "000005.jpg A 0 0 Eye:10,30,50,70 Chin:0,210,178,218 Hair:-4,0,100,40\n000006.jpg A 0 0\n";
        write(home.path(), "boxes.txt", lines);
        let found = boxes(&DataSpec::of("celeba", home.path()), 89).unwrap();
        let eye = Boxed { label: "Eye".into(), edges: [5.0, 5.0, 25.0, 25.0] };
        let hair = Boxed { label: "Hair".into(), edges: [0.0, 0.0, 50.0, 10.0] };
        assert_eq!(found, [vec![eye, hair], vec![]], "what is cut off is not seen");
        let pad = DataSpec { fit: Fit::Pad, ..DataSpec::of("celeba", home.path()) };
        assert_eq!(boxes(&pad, 218).unwrap()[0][0].edges, [30.0, 30.0, 70.0, 70.0]);
        let stretch = DataSpec { fit: Fit::Stretch, ..DataSpec::of("celeba", home.path()) };
        assert_eq!(boxes(&stretch, 89).unwrap()[0][1].edges[3], 89.0);
        let error = boxes(&DataSpec::of("celeba-validation", home.path()), 8).unwrap_err().to_string();
        assert!(error.contains("has no line for 000003.jpg"), "{error}");
        let error = boxes(&DataSpec::of("folder", home.path()), 8).unwrap_err().to_string();
        assert!(error.contains("\"folder\" has no boxes"), "{error}");
        for bad in ["x:1,2,3", "x:1,2,1,4", "x:1,nan,3,4", ":1,2,3,4", "1,2,3,4", "x:3,2,1,4"] {
            write(home.path(), "boxes.txt", &format!("a.jpg A 0 0 {bad}\n"));
            assert!(boxes(&DataSpec::of("celeba", home.path()), 8).is_err(), "{bad}");
        }
    }

    #[test]
    #[ignore = "needs the published files, which nobody may pass on: CELEBA=FOLDER"]
    fn published_files_are_read() {
        let folder = std::env::var_os("CELEBA").expect("CELEBA=FOLDER");
        let split = read(Path::new(&folder), "celeba").unwrap();
        assert!(!split.train.is_empty() && !split.test.is_empty());
    }
}
