//! The pictures that a command is given: files, and folders of them. One that cannot be read does not keep the others from
//! being answered.

use super::output::tell;
use crate::data::pictures_in;
use duet::{Error, Result};
use std::path::{Path, PathBuf};

/// The files that are meant: those given, and all pictures in a folder that is given (see [`pictures_in`]); what is passed over
/// there is told.
///
/// # Errors
/// A folder that cannot be listed or holds no picture.
pub fn expand(given: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in given {
        if path.is_dir() {
            let (found, passed_over) = pictures_in(path)?;
            let words = passed_over.words();
            if !words.is_empty() {
                tell!("duet: {}: passed over {words}", path.display());
            }
            files.extend(found);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

/// What came of reading pictures.
#[derive(Debug)]
pub struct Pictures<T> {
    /// Those that could be read.
    pub read: Vec<T>,
    /// Which of the paths these are.
    pub good: Vec<usize>,
    /// Which could not be read, and why.
    pub bad: Vec<(usize, Error)>,
}

/// Reads pictures by `load`, whichever can be read.
pub fn read<T>(paths: &[PathBuf], load: impl Fn(&Path) -> Result<T>) -> Pictures<T> {
    let mut pictures = Pictures { read: Vec::new(), good: Vec::new(), bad: Vec::new() };
    for (i, path) in paths.iter().enumerate() {
        match load(path) {
            Ok(picture) => {
                pictures.read.push(picture);
                pictures.good.push(i);
            }
            Err(error) => pictures.bad.push((i, error)),
        }
    }
    pictures
}

/// Pictures that could not be read, named on stderr as they come, and what the command says in the end.
pub struct Failures {
    json: bool,
    of: usize,
    count: usize,
    only: Option<Error>,
}

impl Failures {
    /// None yet, of so many pictures; with `json` as objects, one a line.
    pub fn new(of: usize, json: bool) -> Failures {
        Failures { json, of, count: 0, only: None }
    }

    /// Takes up one; what stands in its place in results as JSON.
    pub fn add(&mut self, path: &Path, error: Error) -> serde_json::Value {
        let row = serde_json::json!({"image": path.display().to_string(), "error": error.to_string()});
        self.count += 1;
        if self.of == 1 {
            // The command ends with it: no need to say it twice.
            self.only = Some(error);
        } else if self.json {
            tell!("{row}");
        } else {
            tell!("duet: {error}");
        }
        row
    }

    /// Whether no picture could be read.
    pub fn all(&self) -> bool {
        self.count == self.of
    }

    /// How the command ends.
    ///
    /// # Errors
    /// Where there was one: the only picture's, or how many there were.
    pub fn outcome(self) -> Result<()> {
        match (self.count, self.only) {
            (0, _) => Ok(()),
            (_, Some(error)) => Err(error),
            (count, None) => {
                let others = if count < self.of { "; the others were answered" } else { "" };
                let detail = format!("{count} of {} could not be read, as said above{others}", self.of);
                Err(Error::config("images", detail))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_counted_and_named() {
        let paths = ["a", "b", "c"].map(PathBuf::from);
        let load = |path: &Path| match path.to_str() {
            Some("b") => Err(Error::config("b", "is broken")),
            _ => Ok(path.to_owned()),
        };
        let Pictures { read, good, bad } = read(&paths, load);
        assert_eq!((read, good), (vec!["a".into(), "c".into()], vec![0, 2]));
        let mut failures = Failures::new(paths.len(), true);
        for (i, error) in bad {
            assert_eq!(
                failures.add(&paths[i], error),
                serde_json::json!({"image": "b", "error": "b: is broken"})
            );
        }
        assert!(!failures.all());
        let said = failures.outcome().unwrap_err().to_string();
        assert!(said.contains("1 of 3") && said.contains("others were answered"), "{said}");

        Failures::new(3, true).outcome().unwrap();
        let mut only = Failures::new(1, true);
        only.add(&paths[1], Error::config("b", "is broken"));
        assert!(only.all());
        assert_eq!(only.outcome().unwrap_err().to_string(), "b: is broken", "its own words");
    }
}
