//! The file of a run's figures, `metrics.jsonl`: a JSON object a line for each step that was looked at.
//!
//! It tells what happened and is needed for nothing: where it cannot be written, the run goes on.

use crate::io::files::{Kind, whole};
use duet::checkpoint::Figures;
use duet::{Error, Result};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A line.
#[derive(Serialize)]
struct Line<'a> {
    step: u64,
    #[serde(flatten)]
    values: &'a BTreeMap<String, f64>,
    /// Why the run stopped here.
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<&'a str>,
}

/// Figures as a line of the file, without its end: the step, then the figures by name.
pub fn line(figures: &Figures) -> String {
    written(&Line { step: figures.step, values: &figures.values, stopped: None })
}

fn written(line: &Line<'_>) -> String {
    // Numbers by names can always be written as JSON.
    serde_json::to_string(line).unwrap_or_default()
}

/// The figures that a file holds; what is no whole line is passed over.
pub fn history(path: &Path) -> Vec<Figures> {
    let text = whole(path).unwrap_or_default();
    let figures = |line: &[u8]| {
        let Ok(Value::Object(fields)) = serde_json::from_slice(line) else { return None };
        let step = fields.get("step")?.as_u64()?;
        let numbers = fields.iter().filter(|(name, _)| *name != "step");
        let values = numbers.filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect();
        Some(Figures { step, values })
    };
    text.split(|byte| *byte == b'\n').filter_map(figures).collect()
}

/// The open file.
pub struct MetricsFile {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines.
    length: u64,
}

impl MetricsFile {
    /// Opens the file of a run that goes on after `step`, without the lines of steps that were lost after the last save. The
    /// checkpoint's `last` figures are added where the run was killed between saving and writing them.
    ///
    /// # Errors
    /// [`Error::Write`] where it cannot be read or written.
    pub fn open(path: &Path, step: u64, last: Option<&Figures>) -> Result<MetricsFile> {
        let failed = |e: std::io::Error| unwritable(path, &e);
        let mut text = String::new();
        if step > 0 && path.try_exists().map_err(failed)? {
            let old = whole(path).map_err(failed)?;
            let mut newest = None;
            // What is no text any more is no line of ours.
            let whole = old.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
            for (number, line) in whole.filter_map(|line| Some((step_of(line)?, line))) {
                if number <= step {
                    text.extend([line, "\n"]);
                    newest = Some(number);
                }
            }
            if let Some(last) = last.filter(|last| last.step == step && newest != Some(step)) {
                text.extend([&line(last), "\n"]);
            }
        }
        Kind::Table.write(path, text.as_bytes())?;
        let file = OpenOptions::new().append(true).open(path).map_err(failed)?;
        Ok(MetricsFile { path: path.to_owned(), file, length: text.len() as u64 })
    }

    /// Adds a line of figures.
    ///
    /// # Errors
    /// [`Error::Write`] where it cannot be written; what is there stays whole.
    pub fn write(&mut self, figures: &Figures) -> Result<()> {
        self.add(&line(figures))
    }

    /// Adds a line that says why the run stopped at `step`.
    ///
    /// # Errors
    /// As [`MetricsFile::write`].
    pub fn stopped(&mut self, step: u64, why: &str) -> Result<()> {
        self.add(&written(&Line { step, values: &BTreeMap::new(), stopped: Some(why) }))
    }

    fn add(&mut self, line: &str) -> Result<()> {
        let line = format!("{line}\n");
        if let Err(error) = self.file.write_all(line.as_bytes()) {
            // Half a line would spoil the next one.
            return match self.file.set_len(self.length) {
                Ok(()) => Err(unwritable(&self.path, &error)),
                Err(error) => Err(unwritable(&self.path, &error)),
            };
        }
        self.length += line.len() as u64;
        Ok(())
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    Kind::Table.refuse(path, error.to_string())
}

/// The step of a whole line.
fn step_of(line: &str) -> Option<u64> {
    serde_json::from_str::<Value>(line).ok()?.get("step")?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(step: u64) -> Figures {
        let values = [("loss", 0.5), ("learning_rate", 2e-3), ("seconds", 1.25)];
        Figures { step, values: values.map(|(name, value)| (name.to_owned(), value)).into() }
    }

    #[test]
    fn lines_after_the_checkpoint_are_dropped_and_a_lost_one_is_restored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut file = MetricsFile::open(&path, 0, None).unwrap();
        for step in [2, 4, 6] {
            file.write(&figures(step)).unwrap();
        }
        file.stopped(7, "the \"loss\"\nis gone").unwrap();
        let line = |step: u64| {
            format!("{{\"step\":{step},\"learning_rate\":0.002,\"loss\":0.5,\"seconds\":1.25}}\n")
        };
        let read = || std::fs::read_to_string(&path).unwrap();
        assert_eq!(history(&path)[..3], [2, 4, 6].map(figures));
        assert!(history(&folder.path().join("none")).is_empty());
        let stopped = "{\"step\":7,\"stopped\":\"the \\\"loss\\\"\\nis gone\"}\n";
        assert_eq!(read(), [&line(2), &line(4), &line(6), stopped].concat());
        // Half a line, as a full disk may leave it, and something else.
        std::fs::write(
            &path,
            [line(2).as_bytes(), line(6).as_bytes(), b"\xff\xfe\n4\n", b"{\"step\":4,\"lo"].concat(),
        )
        .unwrap();
        MetricsFile::open(&path, 4, Some(&figures(4))).unwrap();
        assert_eq!(read(), [line(2), line(4)].concat());
        // What is there is not added again, and other steps' figures are not taken for it.
        MetricsFile::open(&path, 4, Some(&figures(4))).unwrap();
        MetricsFile::open(&path, 5, Some(&figures(4))).unwrap();
        assert_eq!(read(), [line(2), line(4)].concat());
        // A run that begins anew begins a new file.
        MetricsFile::open(&path, 0, None).unwrap();
        assert_eq!(read(), "");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_line_that_cannot_be_written_leaves_no_half() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let error = MetricsFile::open(&path, 0, None).err().unwrap().to_string();
        assert!(error.contains("metrics.jsonl") && error.contains("cannot be written"), "{error}");
        // Read-only as a full disk: nothing can be appended.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "{}\n").unwrap();
        let mut metrics = MetricsFile { path: path.clone(), file: File::open(&path).unwrap(), length: 3 };
        assert!(metrics.write(&figures(1)).unwrap_err().to_string().contains("cannot be written"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}\n");
    }
}
