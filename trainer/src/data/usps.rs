//! USPS: 16 × 16 grey levels of handwritten digits as text, in one of two forms that are never mixed.
//!
//! The form of *The Elements of Statistical Learning*, `zip.train.gz` and `zip.test.gz`: a line is a digit and 256 values in
//! −1..1, row by row, −1 the ground. LIBSVM's form, `usps.bz2` and `usps.t.bz2`: a line is the digit + 1 and `index:value` with
//! indices 1 to 256. Both hold the same digits but not the same pixels: the latter's are smoothed.

use super::levels::Levels;
use super::split::Parts;
use super::{DataSpec, Dataset, Summary, bad, packed, shared};
use duet::Result;
use std::path::Path;

/// Pixels a side, and of an image.
const SIDE: usize = 16;
const PIXELS: usize = SIDE * SIDE;

/// A form of the text.
struct Form {
    /// Names of the files to train on and to test on.
    files: [&'static str; 2],
    /// A digit and its pixels' values, of the fields of a line.
    line: for<'a> fn(&'a str, &mut [f32; PIXELS]) -> std::result::Result<u32, String>,
}

const FORMS: [Form; 2] =
    [Form { files: ["zip.train", "zip.test"], line: row }, Form { files: ["usps", "usps.t"], line: sparse }];

/// Loads the two files of whichever form is whole; the first where both are.
///
/// # Errors
/// Missing files, or two of different forms; lines that are damaged, by number.
pub fn load(spec: &DataSpec, channels: usize, size: usize) -> Result<Parts> {
    let folder = &spec.path;
    let found = FORMS.each_ref().map(|form| form.files.map(|name| packed::find(folder, name)));
    let whole = FORMS.iter().zip(&found).find_map(|(form, found)| match found {
        [Some(train), Some(test)] => Some((form, train, test)),
        _ => None,
    });
    let Some((form, train, test)) = whole else {
        let there: Vec<String> =
            found.iter().flatten().flatten().map(|path| path.display().to_string()).collect();
        let beside = if there.is_empty() {
            String::new()
        } else {
            format!("; {} alone is not enough: the forms differ in every pixel", there.join(" and "))
        };
        let detail =
            format!("must hold zip.train and zip.test (.gz or not) or usps and usps.t (.bz2 or not){beside}");
        return Err(bad(folder, detail));
    };
    let mut summary = Summary::default();
    let others = FORMS.iter().zip(&found).filter(|(other, _)| other.files != form.files);
    for other in others.flat_map(|(_, found)| found.iter().flatten()) {
        let name = other.file_name().unwrap_or_default().to_string_lossy();
        summary.notes.push(format!("{name} has the same digits in another form and is not read"));
    }
    let mut resize_to = None;
    let mut part = |path: &Path, summary: &mut Summary| -> Result<Dataset> {
        let (data, classes) = read(path, form)?;
        let levels = Levels { data, channels: 1, sides: [SIDE; 2], together: false };
        let (digits, side) = levels.digits(path, spec, [channels, size], classes, summary)?;
        resize_to = side;
        Ok(digits)
    };
    let (train, test) = (part(train, &mut summary)?, part(test, &mut summary)?);
    summary.warnings.extend(shared(&train, &test, |of_train, of_test| {
        format!("line {} is line {} of the training images", of_test + 1, of_train + 1)
    }));
    Ok(Parts { resize_to, ..Parts::new(train, test, summary) })
}

/// Grey levels and digits of a file.
fn read(path: &Path, form: &Form) -> Result<(Vec<u8>, Vec<u32>)> {
    let (mut levels, mut classes) = (Vec::new(), Vec::new());
    let mut values = [0f32; PIXELS];
    packed::lines(path, |line| {
        classes.push((form.line)(line, &mut values)?);
        // Cut off, not rounded, as torchvision does it: the same levels as others have.
        levels.extend(values.iter().map(|value| ((value + 1.0) / 2.0 * 255.0) as u8));
        Ok(())
    })?;
    if classes.is_empty() {
        return Err(bad(path, "holds no images"));
    }
    Ok((levels, classes))
}

/// A digit written as a number, in one of the two countings.
fn digit(text: Option<&str>, first: u32) -> std::result::Result<u32, String> {
    let text = text.unwrap_or_default();
    let number = text.parse::<f32>().ok().filter(|number| number.fract() == 0.0);
    let digit = number.map(|number| number - first as f32).filter(|digit| (0.0..10.0).contains(digit));
    let wrong = || format!("the label {text:?} is none of {first} to {}", first + 9);
    digit.map(|digit| digit as u32).ok_or_else(wrong)
}

fn value(text: &str) -> std::result::Result<f32, String> {
    let value = text.parse::<f32>().ok().filter(|value| (-1.0..=1.0).contains(value));
    value.ok_or_else(|| format!("{text:?} is no value from −1 to 1"))
}

/// A line of a digit and all values.
fn row(line: &str, values: &mut [f32; PIXELS]) -> std::result::Result<u32, String> {
    let mut fields = line.split_ascii_whitespace();
    let digit = digit(fields.next(), 0)?;
    let count = fields.clone().count();
    if count != PIXELS {
        return Err(format!("has {count} values; an image has {PIXELS}"));
    }
    for (to, field) in values.iter_mut().zip(fields) {
        *to = value(field)?;
    }
    Ok(digit)
}

/// A line of a digit + 1 and those values that are not 0, each after its index from 1.
fn sparse(line: &str, values: &mut [f32; PIXELS]) -> std::result::Result<u32, String> {
    let mut fields = line.split_ascii_whitespace();
    let digit = digit(fields.next(), 1)?;
    *values = [0.0; PIXELS];
    let mut before = 0;
    for field in fields {
        let wrong = || format!("{field:?} is no `index:value` with indices from 1 to {PIXELS} in order");
        let (index, text) = field.split_once(':').ok_or_else(wrong)?;
        let index = index.parse::<usize>().ok().filter(|index| *index > before).ok_or_else(wrong)?;
        *values.get_mut(index - 1).ok_or_else(wrong)? = value(text)?;
        before = index;
    }
    Ok(digit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::idx;
    use crate::data::{Split, load as load_checked};
    use std::io::Write as _;

    /// A line of the first form: a digit whose first pixels have these values, the others −1.
    fn line(digit: &str, first: &str) -> String {
        let rest = PIXELS - first.split_ascii_whitespace().count();
        format!("{digit} {first}{} \n", " -1".repeat(rest))
    }

    fn gz(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn bz2(text: &str) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn folder(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    fn read(folder: &Path) -> Result<Split> {
        load_checked(&DataSpec::of("usps", folder), 1, SIDE)
    }

    #[test]
    fn both_forms_are_read_each_with_its_own_counting() {
        // As published: labels as numbers with a point, four decimals or as few as needed.
        let train = line("6.0000", "-1.0000 1.0000 -0.6310 0.8620") + &line("0.0000", "");
        let test = line("9", "-1 1 0.148 0");
        let ours = folder(&[("zip.train.gz", gz(&train)), ("zip.test", test.into_bytes())]);
        let split = read(ours.path()).unwrap();
        assert_eq!((split.train.classes().unwrap(), split.test.classes().unwrap()), (&[6, 0][..], &[9][..]));
        // (v + 1) / 2 · 255, cut off.
        assert_eq!(split.train.images.levels()[..5], [0, 255, 47, 237, 0]);
        assert_eq!(split.test.images.levels()[..5], [0, 255, 146, 127, 0]);
        assert_eq!(split.train.class_names, idx::DIGITS);

        let libsvm = "10 1:-0.999999 3:0.5 256:1\n1 \n";
        let theirs = folder(&[("usps.bz2", bz2(libsvm)), ("usps.t", b"2 1:1\n".to_vec())]);
        let split = read(theirs.path()).unwrap();
        assert_eq!((split.train.classes().unwrap(), split.test.classes().unwrap()), (&[9, 0][..], &[1][..]));
        let first = &split.train.images.levels()[..PIXELS];
        assert_eq!((first[0], first[1], first[2], first[255]), (0, 127, 191, 255), "what is left out is 0");

        // Of another size they are resized, as is said.
        let large = load_checked(&DataSpec::of("usps", ours.path()), 3, 28).unwrap();
        assert_eq!(large.train.image_len(), 3 * 28 * 28);
        assert!(large.summary.text(false).contains("images of 1×16×16 become 3×28×28 (resized: lanczos)"));
    }

    #[test]
    fn the_forms_are_never_mixed() {
        let (train, test) = (gz(&line("1", "")), bz2("2 1:1\n"));
        let mixed = folder(&[("zip.train.gz", train.clone()), ("usps.t.bz2", test.clone())]);
        let error = read(mixed.path()).unwrap_err().to_string();
        for word in ["zip.train.gz and", "usps.t.bz2 alone is not enough", "zip.test"] {
            assert!(error.contains(word), "{word}: {error}");
        }
        let both = [("zip.train.gz", train.clone()), ("zip.test.gz", train), ("usps.t.bz2", test)];
        let split = read(folder(&both).path()).unwrap();
        assert!(split.summary.text(false).contains("usps.t.bz2 has the same digits in another form"));
        let empty = tempfile::tempdir().unwrap();
        let error = read(empty.path()).unwrap_err().to_string();
        assert!(error.contains("must hold zip.train and zip.test") && !error.contains("alone"), "{error}");
    }

    #[test]
    fn damaged_lines_are_named_by_number() {
        let good = line("1", "");
        let cases = [
            (format!("{good}{}", line("10", "")), "line 2: the label \"10\" is none of 0 to 9"),
            (line("1.5", ""), "line 1: the label \"1.5\""),
            (line("3", "nan"), "\"nan\" is no value from −1 to 1"),
            (line("3", "1.01"), "\"1.01\" is no value"),
            (good[..good.len() - 10].to_owned(), "has 253 values; an image has 256"),
            ("2 1:0.5\n".into(), "has 1 values"),
            ("7 ".repeat(1 << 15), "more than 32768 bytes"),
            ("<!DOCTYPE html>".into(), "HTML page"),
            (" \n\n".into(), "holds no images"),
        ];
        for (text, word) in cases {
            let files = [("zip.train", text.into_bytes()), ("zip.test", good.clone().into_bytes())];
            let error = read(folder(&files).path()).unwrap_err().to_string();
            assert!(error.contains("zip.train") && error.contains(word), "{word}: {error}");
        }
        for (text, word) in [
            ("0 1:1\n", "the label \"0\" is none of 1 to 10"),
            ("1 0:1\n", "\"0:1\" is no `index:value`"),
            ("1 257:1\n", "\"257:1\""),
            ("1 2:1 2:1\n", "in order"),
            ("1 2:x\n", "\"x\" is no value"),
        ] {
            let files = [("usps.bz2", bz2(text)), ("usps.t.bz2", bz2("1 1:1"))];
            let error = read(folder(&files).path()).unwrap_err().to_string();
            assert!(error.contains("usps.bz2") && error.contains(word), "{word}: {error}");
        }
        let mut cut = gz(&good.repeat(20));
        cut.truncate(cut.len() / 2);
        let error = read(folder(&[("zip.train.gz", cut), ("zip.test", good.into())]).path());
        assert!(error.unwrap_err().to_string().contains("cannot be read"));
    }
}
