//! Which checkpoints of a run stay in its folder: the newest, the ones before it, the best.

use duet::checkpoint::{Checkpoint, write_atomic};
use duet::{Error, Result};
use std::path::{Path, PathBuf};

/// The newest checkpoint.
pub const CHECKPOINT: &str = "checkpoint.safetensors";
/// That of the best evaluation.
pub const BEST: &str = "best.safetensors";
/// What temporary names begin with.
const TEMPORARY: &str = ".linked-";

/// The checkpoints in a run's folder.
pub struct Kept {
    folder: PathBuf,
    /// How many stay, the newest included.
    last: usize,
    /// The step of the newest.
    newest: Option<u64>,
}

impl Kept {
    /// Of a folder whose newest checkpoint is of the step `newest`.
    pub fn new(folder: &Path, last: usize, newest: Option<u64>) -> Kept {
        for name in [CHECKPOINT, BEST] {
            // Left by a run that was killed; where it cannot be removed, the next one that is needed says so.
            let _ = std::fs::remove_file(folder.join(format!("{TEMPORARY}{name}")));
        }
        Kept { folder: folder.to_owned(), last, newest }
    }

    /// Where the newest one lies.
    pub fn file(&self) -> PathBuf {
        self.folder.join(CHECKPOINT)
    }

    /// Of which step the newest one is.
    pub fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// Replaces the newest one.
    ///
    /// # Errors
    /// As [`Checkpoint::save`]: the one that is there stays.
    pub fn save(&mut self, checkpoint: &Checkpoint, step: u64) -> Result<()> {
        checkpoint.save(&self.file())?;
        self.newest = Some(step);
        Ok(())
    }

    /// Gives the newest one a name of its own before another replaces it, and removes those that are too old.
    ///
    /// # Errors
    /// [`Error::Write`]: there is one less than wanted.
    pub fn keep(&self) -> Result<()> {
        let (Some(newest), true) = (self.newest, self.last > 1) else { return Ok(()) };
        self.link(&name_of(newest))?;
        let mut steps = self.steps()?;
        // Of a run that went on from an earlier step, what was made beyond it is nobody's to remove.
        steps.retain(|step| *step <= newest);
        steps.sort_unstable();
        let surplus = steps.len().saturating_sub(self.last - 1);
        for step in steps.into_iter().take(surplus) {
            let path = self.folder.join(name_of(step));
            std::fs::remove_file(&path).map_err(|error| refused(&path, &error))?;
        }
        Ok(())
    }

    /// Makes the newest one the best.
    ///
    /// # Errors
    /// [`Error::Write`]: the former best one stays.
    pub fn mark_best(&self) -> Result<()> {
        self.link(BEST)
    }

    /// Another name for the newest one; a copy where the file system has one name for a file alone.
    fn link(&self, name: &str) -> Result<()> {
        let (from, to) = (self.file(), self.folder.join(name));
        let temporary = self.folder.join(format!("{TEMPORARY}{name}"));
        let linked = std::fs::hard_link(&from, &temporary).and_then(|()| std::fs::rename(&temporary, &to));
        if linked.is_ok() {
            // Renaming one name of a file to another one of the same leaves both.
            let _ = std::fs::remove_file(&temporary);
            return Ok(());
        }
        let _ = std::fs::remove_file(&temporary);
        let bytes = std::fs::read(&from).map_err(|error| refused(&to, &error))?;
        write_atomic(&to, &bytes)
    }

    /// Steps of the checkpoints that have names of their own.
    fn steps(&self) -> Result<Vec<u64>> {
        let entries = std::fs::read_dir(&self.folder).map_err(|error| refused(&self.folder, &error))?;
        let steps = entries.flatten().filter_map(|entry| step_of(entry.file_name().to_str()?));
        Ok(steps.collect())
    }
}

fn refused(path: &Path, error: &std::io::Error) -> Error {
    Error::Write { what: "checkpoint", path: path.to_owned(), detail: error.to_string() }
}

/// The name of an earlier checkpoint.
fn name_of(step: u64) -> String {
    format!("checkpoint_{step:07}.safetensors")
}

/// The step of an earlier checkpoint's name.
fn step_of(name: &str) -> Option<u64> {
    let step = name.strip_prefix("checkpoint_")?.strip_suffix(".safetensors")?.parse().ok()?;
    (name == name_of(step)).then_some(step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use duet::diffusion::DiffusionConfig;
    use duet::model::ModelConfig;
    use duet::tensor::Tensors;

    fn checkpoint(step: u64) -> Checkpoint {
        let mut made = Checkpoint::new(ModelConfig::default(), DiffusionConfig::default(), Tensors::new());
        made.info.insert("steps".into(), step.to_string());
        made
    }

    fn step_in(path: &Path) -> String {
        Checkpoint::load(path).unwrap().info["steps"].clone()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_last_ones_and_the_best_stay() {
        let folder = tempfile::tempdir().unwrap();
        // Of another name, and of a run that went further.
        for other in ["checkpoint_5.safetensors", "checkpoint_0000099.safetensors"] {
            std::fs::write(folder.path().join(other), "").unwrap();
        }
        let mut kept = Kept::new(folder.path(), 3, None);
        kept.keep().unwrap();
        for step in [5, 10, 15, 20] {
            kept.keep().unwrap();
            kept.save(&checkpoint(step), step).unwrap();
            if step == 10 {
                kept.mark_best().unwrap();
                kept.mark_best().unwrap();
            }
        }
        let want = [
            BEST,
            CHECKPOINT,
            "checkpoint_0000010.safetensors",
            "checkpoint_0000015.safetensors",
            "checkpoint_0000099.safetensors",
            "checkpoint_5.safetensors",
        ];
        assert_eq!(names(folder.path()), want);
        assert_eq!(step_in(&kept.file()), "20");
        for (name, step) in [(BEST, "10"), (want[2], "10"), (want[3], "15")] {
            assert_eq!(step_in(&folder.path().join(name)), step, "{name}");
        }
        // What is there of earlier settings is not removed by who keeps none.
        let mut one = Kept::new(folder.path(), 1, kept.newest());
        one.keep().unwrap();
        one.save(&checkpoint(25), 25).unwrap();
        assert_eq!(names(folder.path()), want);
    }

    #[test]
    fn a_name_that_cannot_be_given_leaves_the_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let mut kept = Kept::new(folder.path(), 2, None);
        kept.save(&checkpoint(5), 5).unwrap();
        std::fs::create_dir(folder.path().join(name_of(5))).unwrap();
        std::fs::create_dir(folder.path().join(BEST)).unwrap();
        assert!(kept.keep().unwrap_err().to_string().contains("checkpoint_0000005"));
        assert!(kept.mark_best().unwrap_err().to_string().contains(BEST));
        assert_eq!(step_in(&kept.file()), "5");
        assert_eq!(names(folder.path()).len(), 3);
    }
}
