//! UCI's Optical Recognition of Handwritten Digits: a line is 64 counts of 0 to 16, row by row, and the digit, with commas between.
//!
//! `optdigits.tra` and `optdigits.tes` are its two parts, of different writers. scikit-learn carries the second alone, as
//! `digits.csv.gz`: of that a share is held out, by the pictures' contents, for no writer is known.

use super::decode::share;
use super::levels::Levels;
use super::split::{Parts, held};
use super::{DataSpec, Dataset, Summary, bad, packed, shared};
use duet::Result;
use std::path::Path;

/// Pixels a side, and of an image.
const SIDE: usize = 8;
const PIXELS: usize = SIDE * SIDE;
/// The largest count: a pixel is how many of sixteen were ink.
const INK: u32 = 16;

/// Loads both parts, or holds a share of the one there is out.
///
/// # Errors
/// Missing files; lines that are damaged, by number; one file without a share to hold out.
pub fn load(spec: &DataSpec, channels: usize, size: usize) -> Result<Parts> {
    let find = |name| packed::find(&spec.path, name);
    let mut summary = Summary::default();
    let mut resize_to = None;
    let mut part = |path: &Path| -> Result<Dataset> {
        let (data, classes) = read(path)?;
        let levels = Levels { data, channels: 1, sides: [SIDE; 2], together: false };
        let (digits, side) = levels.digits(path, spec, [channels, size], classes, &mut summary)?;
        resize_to = side;
        Ok(digits)
    };
    let (train, test) = match (find("optdigits.tra"), find("optdigits.tes"), find("digits.csv")) {
        (Some(train), Some(test), _) => (part(&train)?, part(&test)?),
        (None, None, Some(path)) => {
            let mut all = part(&path)?;
            let out: Vec<bool> =
                all.each().map(|image| share(image, spec.split_seed) < spec.test_share).collect();
            let test = held(&mut all, &out)?;
            if test.is_empty() || all.is_empty() {
                let detail =
                    format!("is one part: a `test_share` of {} leaves one of two empty", spec.test_share);
                return Err(bad(&path, detail));
            }
            summary.notes.push(format!(
                "{} of {} digits are held out by their contents",
                test.len(),
                out.len()
            ));
            (all, test)
        }
        _ => {
            let detail = "must hold optdigits.tra and optdigits.tes, or digits.csv (.gz or not)";
            return Err(bad(&spec.path, detail));
        }
    };
    summary.warnings.extend(shared(&train, &test, |of_train, of_test| {
        format!("digit {} to test on is digit {} of the training images", of_test + 1, of_train + 1)
    }));
    Ok(Parts { resize_to, ..Parts::new(train, test, summary) })
}

/// Grey levels and digits of a file.
fn read(path: &Path) -> Result<(Vec<u8>, Vec<u32>)> {
    let (mut levels, mut classes) = (Vec::new(), Vec::new());
    packed::lines(path, |line| {
        let fields: Vec<&str> = line.trim().split(',').map(str::trim).collect();
        let [counts @ .., digit] = fields.as_slice() else { return Err("is empty".into()) };
        if counts.len() != PIXELS {
            return Err(format!("has {} counts; an image has {PIXELS}", counts.len()));
        }
        for field in counts {
            let count = number(field, INK).ok_or_else(|| format!("{field:?} is no count from 0 to {INK}"))?;
            levels.push(((count * 255 + INK / 2) / INK) as u8);
        }
        classes.push(number(digit, 9).ok_or_else(|| format!("the label {digit:?} is none of 0 to 9"))?);
        Ok(())
    })?;
    if classes.is_empty() {
        return Err(bad(path, "holds no images"));
    }
    Ok((levels, classes))
}

fn number(text: &str, most: u32) -> Option<u32> {
    let value = text.parse::<f32>().ok().filter(|value| value.fract() == 0.0)?;
    (0.0..=most as f32).contains(&value).then_some(value as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Split, load as load_checked};

    fn line(first: &str, digit: &str) -> String {
        format!("{first}{},{digit}\n", ",0".repeat(PIXELS - first.split(',').count()))
    }

    fn read_folder(files: &[(&str, String)], test_share: f64) -> Result<Split> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        load_checked(&DataSpec { test_share, ..DataSpec::of("optdigits", folder.path()) }, 1, SIDE)
    }

    #[test]
    fn both_parts_are_read() {
        let (train, test) = (line("0,16,8,1", "7") + &line("1", "0"), line("16.0", "9.0"));
        let split = read_folder(&[("optdigits.tra", train), ("optdigits.tes", test)], 0.0).unwrap();
        assert_eq!((split.train.classes().unwrap(), split.test.classes().unwrap()), (&[7, 0][..], &[9][..]));
        // 255 · count / 16, rounded.
        assert_eq!(split.train.images.levels()[..4], [0, 255, 128, 16]);
        assert_eq!(split.test.images.levels()[..2], [255, 0]);
    }

    #[test]
    fn of_one_part_a_share_is_held_out() {
        let all: String =
            (0..200).map(|n| line(&format!("{},{}", n % 16, n / 16), &(n % 10).to_string())).collect();
        let split = read_folder(&[("digits.csv", all.clone())], 0.25).unwrap();
        assert_eq!(split.train.len() + split.test.len(), 200);
        assert!((30..70).contains(&split.test.len()), "{}", split.test.len());
        let again = read_folder(&[("digits.csv", all.clone())], 0.25).unwrap();
        assert_eq!(again.test.images.levels(), split.test.images.levels());
        let error = read_folder(&[("digits.csv", all)], 0.0).unwrap_err().to_string();
        assert!(error.contains("test_share") && error.contains("digits.csv"), "{error}");
    }

    #[test]
    fn damaged_lines_are_named() {
        let good = line("0", "1");
        for (bad, word) in [
            (line("17", "1"), "\"17\" is no count"),
            (line("0.5", "1"), "\"0.5\" is no count"),
            (line("0", "10"), "\"10\" is none of 0 to 9"),
            ("1,2,3\n".to_owned(), "2 counts"),
        ] {
            let files = [("optdigits.tra", format!("{good}\n{bad}")), ("optdigits.tes", good.clone())];
            let error = read_folder(&files, 0.0).unwrap_err().to_string();
            assert!(error.contains("line 3: ") && error.contains(word), "{error}");
        }
        let error = read_folder(&[("optdigits.tra", good.clone())], 0.0).unwrap_err().to_string();
        assert!(error.contains("optdigits.tes"), "{error}");
        let files = [("optdigits.tra", String::new()), ("optdigits.tes", good)];
        let error = read_folder(&files, 0.0).unwrap_err().to_string();
        assert!(error.contains("holds no images"), "{error}");
    }
}
