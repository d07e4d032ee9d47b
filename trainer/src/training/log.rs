//! The log of a run, `log.csv`: a row for each step that was looked at.
//!
//! It tells what happened and is needed for nothing: where it cannot be written, the run goes on.

use crate::io::files::Kind;
use duet::checkpoint::Figures;
use duet::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Columns after the step: the names of figures, and how many digits follow the point; none: three and an exponent.
const COLUMNS: [(&str, Option<usize>); 8] = [
    ("seconds", Some(1)),
    ("loss", Some(6)),
    ("mse", Some(6)),
    ("classifier_loss", Some(6)),
    ("vb", Some(6)),
    ("learning_rate", None),
    ("images_per_second", Some(2)),
    ("test_accuracy", Some(4)),
];

/// The open log.
pub struct Log {
    path: PathBuf,
    file: File,
    /// Bytes of whole rows.
    length: u64,
}

impl Log {
    /// Opens the log of a run that goes on after `step`, without the rows of steps that were lost after the last save. The
    /// checkpoint's `last` figures are added where the run was killed between saving and logging them.
    ///
    /// # Errors
    /// [`Error::Write`] where it cannot be read or written.
    pub fn open(path: &Path, step: u64, last: Option<&Figures>) -> Result<Log> {
        let failed = |e: std::io::Error| unwritable(path, &e);
        let mut text = "step".to_owned();
        COLUMNS.iter().for_each(|(name, _)| text.extend([",", name]));
        text.push('\n');
        if step > 0 && path.try_exists().map_err(failed)? {
            let old = std::fs::read_to_string(path).map_err(failed)?;
            let mut newest = None;
            for (number, line) in old.lines().filter_map(|line| Some((step_of(line)?, line))) {
                if number <= step {
                    text.extend([line, "\n"]);
                    newest = Some(number);
                }
            }
            if let Some(last) = last.filter(|last| last.step == step && newest != Some(step)) {
                text.push_str(&row(last));
            }
        }
        Kind::Table.write(path, text.as_bytes())?;
        let file = OpenOptions::new().append(true).open(path).map_err(failed)?;
        Ok(Log { path: path.to_owned(), file, length: text.len() as u64 })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// [`Error::Write`] where it cannot be written; what is there stays whole.
    pub fn write(&mut self, figures: &Figures) -> Result<()> {
        let row = row(figures);
        if let Err(error) = self.file.write_all(row.as_bytes()) {
            // Half a row would spoil the next one.
            return match self.file.set_len(self.length) {
                Ok(()) => Err(unwritable(&self.path, &error)),
                Err(error) => Err(unwritable(&self.path, &error)),
            };
        }
        self.length += row.len() as u64;
        Ok(())
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    Kind::Table.refuse(path, error.to_string())
}

/// The step of a whole row.
fn step_of(line: &str) -> Option<u64> {
    let step = line.split(',').next()?.parse().ok()?;
    (line.split(',').count() == 1 + COLUMNS.len()).then_some(step)
}

/// A row; what was not measured stays empty.
fn row(figures: &Figures) -> String {
    let mut row = figures.step.to_string();
    for (name, digits) in COLUMNS {
        let text = match (figures.values.get(name), digits) {
            (Some(value), Some(digits)) => format!("{value:.digits$}"),
            (Some(value), None) => format!("{value:.3e}"),
            (None, _) => String::new(),
        };
        row.extend([",", &text]);
    }
    row.push('\n');
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn figures(step: u64) -> Figures {
        let values = [("loss", 0.5), ("learning_rate", 2e-3), ("seconds", 1.25), ("images_per_second", 8.0)];
        Figures { step, values: values.map(|(name, value)| (name.to_owned(), value)).into() }
    }

    const HEADER: &str =
        "step,seconds,loss,mse,classifier_loss,vb,learning_rate,images_per_second,test_accuracy\n";

    #[test]
    fn rows_after_the_checkpoint_are_dropped_and_a_lost_one_is_restored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.csv");
        let mut log = Log::open(&path, 0, None).unwrap();
        for step in [2, 4, 6] {
            log.write(&figures(step)).unwrap();
        }
        let row = |step: u64| format!("{step},1.2,0.500000,,,,2.000e-3,8.00,\n");
        let read = || std::fs::read_to_string(&path).unwrap();
        assert_eq!(read(), [HEADER, &row(2), &row(4), &row(6)].concat());
        // Half a row, as a full disk may leave it.
        std::fs::write(&path, [HEADER, &row(2), &row(6), "4,1."].concat()).unwrap();
        Log::open(&path, 4, Some(&figures(4))).unwrap();
        assert_eq!(read(), [HEADER, &row(2), &row(4)].concat());
        // What is there is not added again, and other steps' figures are not taken for it.
        Log::open(&path, 4, Some(&figures(4))).unwrap();
        Log::open(&path, 5, Some(&figures(4))).unwrap();
        assert_eq!(read(), [HEADER, &row(2), &row(4)].concat());
        // A run that begins anew begins a new log.
        Log::open(&path, 0, None).unwrap();
        assert_eq!(read(), HEADER);
        let wide = Figures { step: 1, values: BTreeMap::new() };
        assert_eq!(super::row(&wide), "1,,,,,,,,\n");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_row_that_cannot_be_written_leaves_no_half() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.csv");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let error = Log::open(&path, 0, None).err().unwrap().to_string();
        assert!(error.contains("log.csv") && error.contains("cannot be written"), "{error}");
        // Read-only as a full disk: nothing can be appended.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, HEADER).unwrap();
        let file = File::open(&path).unwrap();
        let mut log = Log { path: path.clone(), file, length: HEADER.len() as u64 };
        assert!(log.write(&figures(1)).unwrap_err().to_string().contains("cannot be written"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), HEADER);
    }
}
