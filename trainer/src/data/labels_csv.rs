//! A folder of images with a table, `labels.csv`, of the labels that each of them has, any number at once:
//!
//! ```csv
//! file,striped,long sleeves
//! a/1.png,1,0
//! a/2.png,1,1
//! ```
//!
//! or in one column `labels` their names, separated by `;`, `|` or, in quotes, `,`:
//!
//! ```csv
//! file,labels
//! a/1.png,striped
//! a/2.png,striped;long sleeves
//! ```

use super::decode::{Asked, Decoded, Reading, decode, share};
use super::foreign::foreign;
use super::spec::Damaged;
use super::split::{Parts, held, hold_out, warn_of_unknown_groups};
use super::{DataSpec, Dataset, Summary, bad, whole};
use duet::Result;
use duet::model::Labels;
use duet::picture::Preparation;
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

/// Name of the table in the images' folder.
const TABLE: &str = "labels.csv";

/// Loads a folder: `train` and `test` inside it where both have a table, else a split of its own.
///
/// # Errors
/// A table that is missing or bad, naming file and line; images that cannot be read, all of them named up to a number.
pub fn load(spec: &DataSpec, channels: usize, size: usize, reading: Reading<'_>) -> Result<Parts> {
    let preparation = &spec.preparation(channels, size);
    let (train, test) = (spec.path.join("train"), spec.path.join("test"));
    let mut summary = Summary::default();
    if train.join(TABLE).is_file() && test.join(TABLE).is_file() {
        let mut tables = [table_in(&train)?, table_in(&test)?];
        agree(&mut tables).map_err(|detail| bad(&spec.path, detail))?;
        let [of_train, of_test] = tables;
        let groups = spec.groups(&of_train.names("train/"))?.unwrap_or_default();
        let [train, test] = [(&train, of_train), (&test, of_test)]
            .map(|(at, table)| table.read(at, preparation, spec.damaged, reading));
        let ((train, decoded), (test, tested)) = (train?, test?);
        let groups = if groups.is_empty() { groups } else { decoded.kept(groups) };
        summary.warnings.extend(decoded.warning.into_iter().chain(tested.warning));
        return Ok(Parts { groups, ..Parts::new(train, test, summary) });
    }
    let table = table_in(&spec.path)?;
    let groups = spec.groups(&table.names(""))?;
    let (mut train, decoded) = table.read(&spec.path, preparation, spec.damaged, reading)?;
    let groups = groups.map(|groups| decoded.kept(groups));
    summary.warnings.extend(decoded.warning);
    let held_out: Vec<bool> = match &groups {
        Some(groups) => {
            hold_out(groups, spec.test_share, spec.split_seed).map_err(|detail| bad(&spec.path, detail))?
        }
        None => {
            warn_of_unknown_groups(
                &mut summary,
                "; `group` gives a pattern in the pictures' names that tells",
            );
            // By contents, not by name: copies of one image land on one side.
            train.each().map(|image| share(image, spec.split_seed) < spec.test_share).collect()
        }
    };
    let test = held(&mut train, &held_out)?;
    let of_train = groups.into_iter().flatten().zip(&held_out).filter(|(_, held_out)| !**held_out);
    let groups = of_train.map(|(group, _)| group).collect();
    Ok(Parts { groups, ..Parts::new(train, test, summary) })
}

fn table_in(folder: &Path) -> Result<Table> {
    let path = folder.join(TABLE);
    let bytes = whole(&path).map_err(|e| bad(&path, format!("cannot be read: {e}")))?;
    if let Some(word) = foreign(&bytes) {
        return Err(bad(&path, word));
    }
    let text = String::from_utf8(bytes).map_err(|_| bad(&path, "is no text in UTF-8"))?;
    Table::parse(&text).map_err(|detail| bad(&path, detail))
}

/// Two tables with the same labels. A column of names tells only of those that some image has: each table gets the other's.
fn agree(tables: &mut [Table; 2]) -> std::result::Result<(), String> {
    let all: BTreeSet<String> = tables.iter().flat_map(|table| table.labels.iter().cloned()).collect();
    let all: Vec<String> = all.into_iter().collect();
    tables.iter_mut().filter(|table| table.listed).for_each(|table| table.widen(&all));
    match tables {
        [train, test] if train.labels == test.labels => Ok(()),
        _ => Err(format!("`train` and `test` have different labels in their {TABLE}")),
    }
}

/// What a table says.
struct Table {
    /// The labels' names.
    labels: Vec<String>,
    /// Of each image its file and a number for each label.
    rows: Vec<(PathBuf, Vec<f32>)>,
    /// Whether labels are listed by name.
    listed: bool,
}

impl Table {
    /// Names of the images, with what goes before them in the data's folder.
    fn names(&self, folder: &str) -> Vec<String> {
        self.rows.iter().map(|(file, _)| format!("{folder}{}", file.display()).replace('\\', "/")).collect()
    }

    /// The same of more labels, which none of its images has.
    fn widen(&mut self, all: &[String]) {
        let places: Vec<Option<usize>> =
            all.iter().map(|label| self.labels.iter().position(|own| own == label)).collect();
        for (_, targets) in &mut self.rows {
            let of =
                |place: &Option<usize>| place.and_then(|place| targets.get(place)).copied().unwrap_or(0.0);
            *targets = places.iter().map(of).collect();
        }
        self.labels = all.to_vec();
    }

    /// The images of a folder.
    fn read(
        self,
        root: &Path,
        preparation: &Preparation,
        damaged: Damaged,
        reading: Reading<'_>,
    ) -> Result<(Dataset, Decoded)> {
        let (files, targets): (Vec<PathBuf>, Vec<_>) =
            self.rows.into_iter().map(|(file, targets)| (root.join(file), targets)).unzip();
        let paths: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
        let asked = Asked { root, pictures: &paths, preparation, damaged };
        let mut decoded = decode(&asked, |_, _| false, reading)?;
        let images = std::mem::take(&mut decoded.images);
        let labels = Labels::MultiLabel(decoded.kept(targets).concat());
        let &Preparation { channels, size, .. } = preparation;
        Ok((Dataset { images, labels, channels, size, class_names: self.labels }, decoded))
    }

    fn parse(text: &str) -> std::result::Result<Table, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
        let (head, _) = lines.next().ok_or("is empty")?;
        let mut labels: Vec<String> = fields(head).into_iter().skip(1).collect();
        if labels.is_empty() || labels.iter().any(String::is_empty) {
            return Err("line 1: must be \"file\" and a name for each label, separated by commas".into());
        }
        let listed = matches!(labels.as_slice(), [only] if only.eq_ignore_ascii_case("labels"));
        let (mut rows, mut lists, mut files) = (Vec::new(), Vec::new(), HashSet::new());
        for (line, number) in lines {
            let mut columns = fields(line).into_iter();
            let file = PathBuf::from(columns.next().unwrap_or_default());
            let columns: Vec<String> = columns.collect();
            if columns.len() != labels.len() {
                let (has, names) = (columns.len(), labels.len());
                return Err(format!("line {number}: has {has} labels, line 1 has {names}"));
            }
            if !files.insert(file.clone()) {
                return Err(format!("line {number}: {} is there twice", file.display()));
            }
            if listed {
                let names = columns.iter().flat_map(|list| list.split([';', '|', ',']));
                lists
                    .push(names.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect());
                rows.push((file, Vec::new()));
                continue;
            }
            let target = |text: &String| match text.parse::<f32>() {
                Ok(target) if (0.0..=1.0).contains(&target) => Ok(target),
                _ => Err(format!(
                    "line {number}: {text:?} is no label: 0 where it does not hold, 1 where it does"
                )),
            };
            rows.push((file, columns.iter().map(target).collect::<std::result::Result<_, String>>()?));
        }
        if listed {
            let all: BTreeSet<&String> = lists.iter().flat_map(|list: &Vec<String>| list).collect();
            labels = all.into_iter().cloned().collect();
            if labels.is_empty() {
                return Err("no image has a label".into());
            }
            for ((_, targets), list) in rows.iter_mut().zip(&lists) {
                *targets = labels.iter().map(|label| f32::from(u8::from(list.contains(label)))).collect();
            }
        }
        Ok(Table { labels, rows, listed })
    }
}

/// The fields of a line, without the blanks around them. One in quotes may hold commas, and quotes written twice.
fn fields(line: &str) -> Vec<String> {
    let (mut list, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.next_if_eq(&'"').is_some() => field.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => list.push(std::mem::take(&mut field).trim().to_owned()),
            other => field.push(other),
        }
    }
    list.push(field.trim().to_owned());
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(spec: &DataSpec, channels: usize, size: usize) -> Result<Parts> {
        super::load(spec, channels, size, Reading::default())
    }

    #[test]
    fn images_have_the_labels_of_their_row() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        let mut text = "file,bright,\"a \"\"b\"\", c\"\r\n".to_owned();
        for i in 0..20u8 {
            // Each picture twice under different names.
            let level = i / 2 * 20;
            let file = format!("a/{i}.png");
            image::GrayImage::from_pixel(4, 4, image::Luma([level])).save(folder.path().join(&file)).unwrap();
            text.push_str(&format!("{file}, {} ,0.25\r\n", u8::from(level > 100)));
        }
        std::fs::write(folder.path().join(TABLE), &text).unwrap();
        let split = load(&DataSpec::of("labels-csv", folder.path()), 1, 4).unwrap();
        assert_eq!(split.train.class_names, ["bright", "a \"b\", c"]);
        assert_eq!(split.train.len() + split.test.len(), 20);
        assert!(split.test.len() >= 2 && split.train.len() >= 2 && split.test.len().is_multiple_of(2));
        for set in [&split.train, &split.test] {
            let Labels::MultiLabel(labels) = &set.labels else { panic!("{:?}", set.labels) };
            for (image, labels) in set.images.levels().chunks(16).zip(labels.chunks(2)) {
                assert!(image.iter().all(|level| level % 20 == 0 && *level == image[0]));
                assert_eq!(labels, [f32::from(u8::from(image[0] > 100)), 0.25]);
            }
        }
        for part in ["train", "test"] {
            std::fs::create_dir_all(folder.path().join(part).join("a")).unwrap();
            let copy = folder.path().join(part);
            std::fs::copy(folder.path().join("a/0.png"), copy.join("0.png")).unwrap();
            std::fs::write(copy.join(TABLE), "file,x\n0.png,1\n").unwrap();
        }
        let split = load(&DataSpec::of("labels-csv", folder.path()), 1, 4).unwrap();
        assert_eq!((split.train.len(), split.test.len()), (1, 1));
        std::fs::write(folder.path().join("test").join(TABLE), "file,y\n0.png,1\n").unwrap();
        assert!(
            load(&DataSpec::of("labels-csv", folder.path()), 1, 4)
                .unwrap_err()
                .to_string()
                .contains("different labels")
        );
    }

    #[test]
    fn bad_tables_are_refused_with_their_line() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |text: Option<&str>| {
            if let Some(text) = text {
                std::fs::write(folder.path().join(TABLE), text).unwrap();
            }
            load(&DataSpec::of("labels-csv", folder.path()), 1, 4).unwrap_err().to_string()
        };
        for (text, words) in [
            (None, "cannot be read"),
            (Some(""), "is empty"),
            (Some("file\n1.png\n"), "line 1"),
            (Some("file,x,\n1.png,1,0\n"), "line 1"),
            (Some("file,x,y\n\n1.png,1\n"), "line 3: has 1 labels, line 1 has 2"),
            (Some("file,x\n1.png,yes\n"), "line 2: \"yes\" is no label"),
            (Some("file,x\n1.png,nan\n"), "\"nan\" is no label"),
            (Some("file,x\n1.png,2\n"), "\"2\" is no label"),
            (Some("file,x\n1.png,1\n1.png,0\n"), "line 3: 1.png is there twice"),
        ] {
            let error = refused(text);
            assert!(error.contains(words) && error.contains(TABLE), "{words}: {error}");
        }
        assert!(refused(Some("file,x\nnone.png,1\n")).contains("none.png"));
        assert!(refused(Some("<!doctype html>")).contains("HTML page"));
        std::fs::write(folder.path().join(TABLE), b"file,\xff\n").unwrap();
        assert!(refused(None).contains("is no text in UTF-8"));
        #[cfg(unix)]
        {
            // Who would write into it never comes.
            let pipe = folder.path().join(TABLE);
            std::fs::remove_file(&pipe).unwrap();
            assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
            assert!(refused(None).contains("a pipe or a device"));
        }
    }
    #[test]
    fn a_column_of_names_is_read_as_one_of_each() {
        let folder = tempfile::tempdir().unwrap();
        for part in ["train", "test"] {
            std::fs::create_dir(folder.path().join(part)).unwrap();
            for i in 0..4u8 {
                let picture = image::GrayImage::from_pixel(4, 4, image::Luma([i]));
                picture.save(folder.path().join(part).join(format!("p{}_{i}.png", i / 2))).unwrap();
            }
        }
        let write =
            |part: &str, text: &str| std::fs::write(folder.path().join(part).join(TABLE), text).unwrap();
        write("train", "image,Labels\np0_0.png,b ; a\np0_1.png,\np1_2.png,b|c d\np1_3.png,\"a,b\"\n");
        write("test", "image,labels\np0_0.png,e\n");
        let spec = DataSpec::of("labels-csv", folder.path());
        let split = load(&spec, 1, 4).unwrap();
        assert_eq!(split.train.class_names, ["a", "b", "c d", "e"]);
        let rows = [[1.0, 1.0, 0.0, 0.0], [0.0; 4], [0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]];
        assert_eq!(split.train.labels, Labels::MultiLabel(rows.concat()));
        assert_eq!(split.test.labels, Labels::MultiLabel(vec![0.0, 0.0, 0.0, 1.0]));
        assert_eq!(split.test.class_names, split.train.class_names);
        // One column each in one table, names in the other: those of the latter are among the former's.
        write("test", "image,a,b,c d\np0_0.png,0,1,0\n");
        assert_eq!(load(&spec, 1, 4).unwrap().test.labels, Labels::MultiLabel(vec![0.0, 1.0, 0.0]));

        // As one folder it is split by what a pattern finds, or by contents with a warning.
        let whole = |group: Option<&str>| {
            let spec = DataSpec::of("labels-csv", &folder.path().join("train"));
            load(&DataSpec { group: group.map(str::to_owned), ..spec }, 1, 4).unwrap()
        };
        let grouped = whole(Some("^p([0-9])_"));
        let patients = [&grouped.train, &grouped.test]
            .map(|set| set.images.levels().iter().map(|i| i / 2).collect::<BTreeSet<_>>());
        assert_eq!(patients.iter().map(BTreeSet::len).collect::<Vec<_>>(), [1, 1], "{patients:?}");
        assert!(grouped.summary.warnings.is_empty() && grouped.groups.len() == 2);
        assert!(whole(None).summary.warnings[0].contains("`group` gives a pattern"));
        write("test", "file,labels\np0_0.png,\n");
        std::fs::remove_file(folder.path().join("train").join(TABLE)).unwrap();
        let spec = DataSpec::of("labels-csv", &folder.path().join("test"));
        assert!(load(&spec, 1, 4).unwrap_err().to_string().contains("no image has a label"));
    }
}
