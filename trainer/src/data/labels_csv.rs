//! A folder of images with a table, `labels.csv`, of the labels that each of them has, any number at once:
//!
//! ```csv
//! file,striped,long sleeves
//! a/1.png,1,0
//! a/2.png,1,1
//! ```

use super::decode::{decode, share, take_out};
use super::{DataSpec, Dataset, Split, Summary, bad};
use duet::Result;
use duet::model::Labels;
use duet::picture::Preparation;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Name of the table in the images' folder.
const TABLE: &str = "labels.csv";

/// Loads a folder: `train` and `test` inside it where both have a table, else a split of its own.
///
/// # Errors
/// A table that is missing or bad, naming file and line; images that cannot be read, all of them named up to a number.
pub fn load(spec: &DataSpec, channels: usize, size: usize) -> Result<Split> {
    let preparation = &spec.preparation(channels, size);
    let (train, test) = (spec.path.join("train"), spec.path.join("test"));
    if train.join(TABLE).is_file() && test.join(TABLE).is_file() {
        let [train, test] = [read(&train, preparation)?, read(&test, preparation)?];
        if train.class_names != test.class_names {
            return Err(bad(
                &spec.path,
                format!("`train` and `test` have different labels in their {TABLE}"),
            ));
        }
        return Ok(Split { train, test, summary: Summary::default() });
    }
    let mut train = read(&spec.path, preparation)?;
    // By contents, not by name: copies of one image land on one side.
    let held_out: Vec<bool> = train
        .images
        .chunks_exact(train.image_len())
        .map(|image| share(image, spec.split_seed) < spec.test_share)
        .collect();
    let names = train.class_names.len();
    let labels = |wanted: bool| {
        let rows: Vec<usize> = (0..held_out.len()).filter(|row| held_out[*row] == wanted).collect();
        train.labels.pick(&rows, names)
    };
    let [train_labels, test_labels] = [labels(false)?, labels(true)?];
    let images = take_out(&mut train.images, &held_out);
    let test =
        Dataset { images, labels: test_labels, class_names: train.class_names.clone(), channels, size };
    train.labels = train_labels;
    Ok(Split { train, test, summary: Summary::default() })
}

fn read(folder: &Path, preparation: &Preparation) -> Result<Dataset> {
    let path = folder.join(TABLE);
    let text = std::fs::read_to_string(&path).map_err(|e| bad(&path, format!("cannot be read: {e}")))?;
    let (class_names, rows) = table(&text).map_err(|detail| bad(&path, detail))?;
    let (files, targets): (Vec<PathBuf>, Vec<_>) =
        rows.into_iter().map(|(file, targets)| (folder.join(file), targets)).unzip();
    let paths: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let (images, _) = decode(folder, &paths, preparation, |_, _| false)?;
    let labels = targets.concat();
    let &Preparation { channels, size, .. } = preparation;
    Ok(Dataset { images, labels: Labels::MultiLabel(labels), channels, size, class_names })
}

/// The labels' names, and of each image its file and a number for each label.
type Table = (Vec<String>, Vec<(PathBuf, Vec<f32>)>);

fn table(text: &str) -> std::result::Result<Table, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    let (head, _) = lines.next().ok_or("is empty")?;
    let names: Vec<String> = fields(head).into_iter().skip(1).collect();
    if names.is_empty() || names.iter().any(String::is_empty) {
        return Err("line 1: must be \"file\" and a name for each label, separated by commas".into());
    }
    let (mut rows, mut files) = (Vec::new(), HashSet::new());
    for (line, number) in lines {
        let mut columns = fields(line).into_iter();
        let file = PathBuf::from(columns.next().unwrap_or_default());
        let target = |text: String| match text.parse::<f32>() {
            Ok(target) if (0.0..=1.0).contains(&target) => Ok(target),
            _ => {
                Err(format!("line {number}: {text:?} is no label: 0 where it does not hold, 1 where it does"))
            }
        };
        let targets = columns.map(target).collect::<std::result::Result<Vec<f32>, String>>()?;
        if targets.len() != names.len() {
            return Err(format!("line {number}: has {} labels, line 1 has {}", targets.len(), names.len()));
        }
        if !files.insert(file.clone()) {
            return Err(format!("line {number}: {} is there twice", file.display()));
        }
        rows.push((file, targets));
    }
    Ok((names, rows))
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
            for (image, labels) in set.images.chunks(16).zip(labels.chunks(2)) {
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
    }
}
