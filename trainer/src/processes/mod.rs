//! Several processes that train one model together, or compute a command in parts, as `mpirun` starts them: who this one is, and what
//! they agree upon.
//!
//! What everybody would do once the first process alone does: it reads checkpoints and finds recipes, writes files and tells. The
//! others are silent, unless one of them fails alone.

mod folder;
mod launch;
#[cfg(feature = "mpi")]
mod mpi;
mod settle;

pub use folder::Folder;
pub use launch::{Launched, join};

use duet::train::Ranks;
use duet::{Error, Result};
use std::cell::Cell;
use std::rc::Rc;

/// This process among those that work together; alone it is the first of one. Clones are the same.
#[derive(Clone)]
pub struct Processes {
    ranks: Option<Ranks>,
    /// Its number among those of this machine, from 0.
    local: usize,
    host: String,
    /// Whether the others know that it fails.
    known: Rc<Cell<bool>>,
}

impl Processes {
    /// One process.
    pub fn alone() -> Processes {
        Processes { ranks: None, local: 0, host: String::new(), known: Rc::new(Cell::new(true)) }
    }

    /// One of `ranks`, the `local`-th of its machine `host`.
    pub fn of(ranks: Ranks, local: usize, host: String) -> Processes {
        Processes { ranks: Some(ranks), local, host, known: Rc::new(Cell::new(false)) }
    }

    /// The ranks, where there are several.
    pub fn ranks(&self) -> Option<&Ranks> {
        self.ranks.as_ref()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.ranks.as_ref().map_or(1, Ranks::ranks)
    }

    /// Whether it is the one that saves and tells.
    pub fn is_first(&self) -> bool {
        self.ranks.as_ref().is_none_or(Ranks::is_first)
    }

    /// Its number, from 0.
    pub fn rank(&self) -> usize {
        self.ranks.as_ref().map_or(0, Ranks::rank)
    }

    /// Its number among those of this machine, which is also that of its adapter.
    pub fn local(&self) -> usize {
        self.local
    }

    fn name(&self) -> String {
        format!("process {} on {}", self.rank(), self.host)
    }

    /// What each of them did: goes on where all succeeded. Where one did not, the first one fails with what is told of that.
    ///
    /// # Errors
    /// What is wrong, on all.
    pub fn agree<T>(&self, outcome: Result<T>) -> Result<T> {
        let Some(ranks) = &self.ranks else { return outcome };
        let told = match &outcome {
            Ok(_) => String::new(),
            Err(error) if self.is_first() => error.to_string(),
            Err(error) => format!("{}: {error}", self.name()),
        };
        let all = ranks.gather(told.into_bytes())?;
        let mut wrong = all.iter().filter(|told| !told.is_empty());
        let Some(first) = wrong.next() else { return outcome };
        self.known.set(true);
        // An error of its own keeps its kind.
        outcome.and_then(|_| Err(Error::config("mpi", String::from_utf8_lossy(first))))
    }

    /// What the first process does, alone, and the bytes of it that the others get.
    ///
    /// # Errors
    /// What is wrong with it, on all.
    pub fn lead<T>(
        &self,
        work: impl FnOnce() -> Result<T>,
        share: impl FnOnce(&T) -> Result<Vec<u8>>,
    ) -> Result<(Option<T>, Vec<u8>)> {
        let Some(ranks) = &self.ranks else { return Ok((Some(work()?), Vec::new())) };
        let mut bytes = Vec::new();
        let done = match self.is_first() {
            true => work().and_then(|done| {
                bytes = share(&done)?;
                Ok(Some(done))
            }),
            false => Ok(None),
        };
        let done = self.agree(done)?;
        Ok((done, ranks.from_first(bytes)?))
    }

    /// The largest of what each of them has.
    ///
    /// # Errors
    /// What the exchange reports.
    pub fn most(&self, own: usize) -> Result<usize> {
        let Some(ranks) = &self.ranks else { return Ok(own) };
        let all = ranks.gather_equal((own as u64).to_le_bytes().to_vec())?;
        let most = bytemuck::pod_collect_to_vec::<u8, u64>(&all).into_iter().max().unwrap_or(0);
        Ok(usize::try_from(most).unwrap_or(usize::MAX))
    }

    /// Whether all of them are on one machine.
    ///
    /// # Errors
    /// What the exchange reports.
    pub fn one_machine(&self) -> Result<bool> {
        Ok(self.most(self.local)? + 1 == self.count())
    }

    /// Makes sure that all have the same of something.
    ///
    /// # Errors
    /// [`Error::Config`] that names the first process which has something else, with `help`.
    pub fn same(&self, what: &str, own: &str, help: &str) -> Result<()> {
        let Some(ranks) = &self.ranks else { return Ok(()) };
        let all = ranks.gather(format!("{own}\0{}", self.name()).into_bytes())?;
        let parts = |told: &Vec<u8>| {
            let text = String::from_utf8_lossy(told).into_owned();
            text.split_once('\0').map(|(own, name)| (own.to_owned(), name.to_owned())).unwrap_or_default()
        };
        let Some((first, _)) = all.first().map(parts) else { return Ok(()) };
        match all.iter().map(parts).find(|(own, _)| *own != first) {
            None => Ok(()),
            Some((_, name)) => {
                self.known.set(true);
                Err(Error::config(
                    "mpi",
                    format!("{name} has {what} other than those of the first process: {help}"),
                ))
            }
        }
    }

    /// Lets one process of each machine do something first, the others after it: what it leaves on the disk they find there.
    ///
    /// # Errors
    /// What the exchange reports.
    pub fn one_before_others<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        let Some(ranks) = &self.ranks else { return Ok(work()) };
        let done = match self.local {
            0 => Some(work()),
            _ => return ranks.gather(Vec::new()).map(|_| work()),
        };
        ranks.gather(Vec::new())?;
        done.ok_or_else(|| Error::config("mpi", "nothing was done"))
    }

    /// How a command ends: an error that all know of is told by the first alone, whose exit code is that of all; one that only this
    /// process knows of is told by it. The others are ended then, for they wait for it.
    ///
    /// # Errors
    /// What is to be told.
    pub fn end(&self, outcome: Result<()>) -> Result<()> {
        let Some(ranks) = &self.ranks else { return outcome };
        match outcome {
            Err(error) if !self.known.get() => {
                crate::io::output::unmute();
                Err(if self.is_first() {
                    error
                } else {
                    Error::config("mpi", format!("{}: {error}", self.name()))
                })
            }
            outcome => {
                ranks.leave()?;
                if self.is_first() { outcome } else { Ok(()) }
            }
        }
    }

    /// An error that all processes have found alike.
    pub fn all_know(&self) {
        self.known.set(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use duet::train::Threads;

    pub fn group<T: Send>(count: usize, work: impl Fn(&Processes) -> T + Sync) -> Vec<T> {
        std::thread::scope(|scope| {
            let work = &work;
            let start = |place: Threads| {
                scope.spawn(move || {
                    let ranks = Ranks::new(place).unwrap();
                    let host = format!("host{}", ranks.rank());
                    work(&Processes::of(ranks.clone(), ranks.rank(), host))
                })
            };
            let threads: Vec<_> = Threads::group(count).into_iter().map(start).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn what_is_wrong_with_one_is_known_to_all_and_told_by_the_first() {
        let told = group(3, |processes| {
            processes.agree(Ok(1)).unwrap();
            let own = match processes.local() {
                1 => Err(Error::config("data", "is not there")),
                _ => Ok(()),
            };
            let error = processes.agree(own).unwrap_err().to_string();
            (error.clone(), processes.end(Err(Error::config("mpi", error))).is_err())
        });
        assert!(told[0].0.contains("process 1 on host1: data: is not there"), "{told:?}");
        assert_eq!([told[0].1, told[1].1, told[2].1], [true, false, false]);
        let alone = Processes::alone();
        assert!(alone.agree::<()>(Err(Error::Aborted)).is_err() && alone.end(Err(Error::Aborted)).is_err());
    }

    #[test]
    fn the_first_works_and_the_others_hear_of_it() {
        let told = group(2, |processes| {
            let (done, bytes) = processes.lead(|| Ok(7u8), |seven| Ok(vec![*seven; 3])).unwrap();
            let failed = processes.lead(|| Err::<u8, _>(Error::Aborted), |_| Ok(Vec::new()));
            (done, bytes, failed.is_err())
        });
        assert_eq!(told, [(Some(7), vec![7; 3], true), (None, vec![7; 3], true)]);
    }

    #[test]
    fn what_differs_is_named() {
        let told = group(2, |processes| {
            processes.same("data", "alike", "?").unwrap();
            assert!(processes.one_machine().unwrap());
            let own = processes.local().to_string();
            processes.same("data", &own, "give all the same").unwrap_err().to_string()
        });
        assert!(told[0].contains("process 1 on host1 has data other") && told[0] == told[1], "{told:?}");
    }
}
