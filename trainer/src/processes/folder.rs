//! A folder that several processes reach, for what is too large for messages.

use super::Processes;
use crate::io::files::{Kind, make_folder};
use duet::{Error, Result};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often, and how long apart, a process looks for what another one wrote: a network's disk may show it a moment later.
const LOOKS: u32 = 10;
const APART: Duration = Duration::from_millis(200);

/// A folder that all processes reach.
pub struct Folder {
    path: PathBuf,
    /// Whether it goes when it is done with.
    temporary: bool,
    /// Whether it goes with this value.
    owned: bool,
}

/// A name that no other process gives.
fn unique() -> String {
    let moment = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    format!("duet-{}-{moment:x}", std::process::id())
}

/// Makes a folder that is this user's alone.
fn make_temporary() -> Result<PathBuf> {
    let path = std::env::temp_dir().join(unique());
    let builder = &mut std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(builder, 0o700);
    let made = builder.create(&path);
    made.map_err(|error| Error::Write { what: "folder", path: path.clone(), detail: error.to_string() })?;
    Ok(path)
}

impl Folder {
    /// The folder `given`, which stays, or a temporary one that the first process makes. Errors name the option `option`.
    ///
    /// # Errors
    /// On all: [`Error::Write`] for a folder that cannot be made or written to, [`Error::Config`] for one that a process does not reach.
    pub fn of(processes: &Processes, given: Option<&Path>, option: &str) -> Result<Folder> {
        Self::made(processes, given, option, |path| path)
    }

    /// As [`Folder::of`], where `seen` is under which name a process has what the first one calls so.
    fn made(
        processes: &Processes,
        given: Option<&Path>,
        option: &str,
        seen: impl Fn(PathBuf) -> PathBuf,
    ) -> Result<Folder> {
        let make = || {
            let path = match given {
                Some(path) => {
                    make_folder(path)?;
                    std::path::absolute(path).map_err(|error| Kind::Table.refuse(path, error.to_string()))?
                }
                None => make_temporary()?,
            };
            // From here on it goes with whatever fails.
            let folder = Folder { path, temporary: given.is_none(), owned: true };
            let mark = folder.path.join(format!(".{}", unique()));
            Kind::Table.write(&mark, &[])?;
            Ok((folder, mark))
        };
        let text = |(_, mark): &(Folder, PathBuf)| match mark.to_str() {
            Some(text) => Ok(text.as_bytes().to_vec()),
            None => Err(Error::config(option, format!("{} is no Unicode", mark.display()))),
        };
        let (first, told) = processes.lead(make, text)?;
        let Some((folder, mark)) = first else {
            let mark = seen(PathBuf::from(String::from_utf8_lossy(&told).into_owned()));
            let path = mark.parent().map(Path::to_owned).unwrap_or_default();
            processes.agree(look(&mark, &path, option))?;
            return Ok(Folder { path, temporary: given.is_none(), owned: false });
        };
        let seen = processes.agree(Ok(()));
        let _ = std::fs::remove_file(mark);
        seen.map(|()| folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it goes when it is done with.
    pub fn is_temporary(&self) -> bool {
        self.temporary
    }

    /// Lets it stay.
    pub fn keep(mut self) {
        self.owned = false;
    }

    /// What makes it go before its time, where it is temporary: of any process, which ends all of them.
    pub fn remover(&self) -> impl FnOnce() + Send + use<> {
        let path = self.temporary.then(|| self.path.clone());
        // What another process removed already is gone.
        move || drop(path.map(std::fs::remove_dir_all))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.owned {
            self.remover()();
        }
    }
}

/// Looks for what the first process wrote.
fn look(mark: &Path, folder: &Path, option: &str) -> Result<()> {
    for number in 0..LOOKS {
        if mark.is_file() {
            return Ok(());
        }
        if number + 1 < LOOKS {
            std::thread::sleep(APART);
        }
    }
    let detail = format!(
        "the first process's folder {} is not to be seen from here: give --{option} FOLDER on a disk that all machines share",
        folder.display()
    );
    Err(Error::config(option, detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processes::tests::group;

    fn entries(folder: &Path) -> usize {
        std::fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_folder_is_the_first_ones_and_goes_unless_it_was_given() {
        let home = tempfile::tempdir().unwrap();
        let given = home.path().join("there/parts");
        for given in [None, Some(given.as_path())] {
            let told = group(3, |processes| {
                let folder = Folder::of(processes, given, "shards").unwrap();
                let path = folder.path().to_owned();
                std::fs::write(path.join(processes.local().to_string()), "x").unwrap();
                processes.agree(Ok(())).unwrap();
                let there = entries(&path);
                processes.agree(Ok(())).unwrap();
                (path, there, folder.is_temporary())
            });
            assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
            let (path, there, temporary) = &told[0];
            assert_eq!((*there, *temporary, path.exists()), (3, given.is_none(), given.is_some()));
        }
        assert_eq!(entries(&given), 3, "nothing but what was written stays");
    }

    #[test]
    fn a_folder_that_another_machine_does_not_reach_is_named_and_goes() {
        let said = group(2, |processes| {
            let elsewhere =
                |path: PathBuf| Path::new("/nowhere").join(path.strip_prefix("/").unwrap_or(&path));
            Folder::made(processes, None, "shards", elsewhere).err().unwrap().to_string()
        });
        assert!(said[0].contains("process 1 on host1") && said[0].contains("--shards FOLDER"), "{said:?}");
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("file"), "").unwrap();
        let bad = home.path().join("file/parts");
        let said =
            group(2, |processes| Folder::of(processes, Some(&bad), "shards").err().unwrap().to_string());
        assert!(said.iter().all(|said| said.contains("file/parts")), "{said:?}");
    }

    #[test]
    fn a_folder_that_is_kept_stays() {
        let alone = Processes::alone();
        let folder = Folder::of(&alone, None, "shards").unwrap();
        let path = folder.path().to_owned();
        folder.keep();
        assert!(path.is_dir());
        std::fs::remove_dir(&path).unwrap();
    }
}
