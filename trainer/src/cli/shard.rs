//! `--shard`: a part of a command's images, for several GPUs or machines.

use clap::Args;
use duet::{Error, Result};
use std::fmt::{self, Display};
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

/// Most parts: a job array of thousands is one, a typing error in a variable is not.
const MOST: usize = 100_000;

/// A part of the work: number `number`, from 1 on, of `of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shard {
    number: usize,
    of: usize,
}

impl Shard {
    /// All of it.
    pub const WHOLE: Shard = Shard { number: 1, of: 1 };

    /// Part `number`, from 1 on, of `of`; `None` for one that there is not.
    pub fn new(number: usize, of: usize) -> Option<Shard> {
        ((1..=MOST).contains(&of) && (1..=of).contains(&number)).then_some(Shard { number, of })
    }

    /// Which, from 1 on.
    pub fn number(self) -> usize {
        self.number
    }

    /// How many there are.
    pub fn of(self) -> usize {
        self.of
    }

    /// Its rows of `total`: neighbours, in whole groups of `group`, of which each part has as many as the others or one more. Every
    /// row is in one part; where there are fewer groups than parts, some have none.
    pub fn range(self, total: usize, group: usize) -> Range<usize> {
        let group = group.max(1);
        let groups = total.div_ceil(group);
        let edge = |number: usize| (number * groups / self.of).saturating_mul(group).min(total);
        edge(self.number - 1)..edge(self.number)
    }
}

impl Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Shard, String> {
        let numbers =
            text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        numbers.and_then(|(number, of)| Shard::new(number, of)).ok_or_else(|| {
            format!("must be I/N, part I of N counted from 1 (1/4, 2/4, 3/4, 4/4), N up to {MOST}")
        })
    }
}

/// Which part of a command's images this process computes.
#[derive(Clone, Debug, Args)]
pub struct ShardArgs {
    /// Compute part I of N (from 1 on) alone, and write its rows to COMMAND.I-of-N.npz in the folder --shards. `duet merge` makes of all
    /// parts what the command makes of everything at once, bit for bit on the same device. In a Slurm array from 0 on:
    /// --shard $((SLURM_ARRAY_TASK_ID+1))/$SLURM_ARRAY_TASK_COUNT. Processes that mpirun starts together (`mpirun -n 4 duet …`) are parts
    /// without it, and the first one merges.
    #[arg(long, value_name = "I/N", env = SHARD)]
    pub shard: Option<Shard>,
    /// Folder of the parts' files [default: shards]. Of processes that were started together: one that all of them reach, where the
    /// files stay; by default a temporary one, which several machines do not share.
    #[arg(long, value_name = "FOLDER")]
    pub shards: Option<PathBuf>,
    /// Of a process that was started with others.
    #[arg(skip)]
    assigned: Option<Assigned>,
}

/// The part of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// Which.
    pub shard: Shard,
    /// Where the parts' files lie.
    pub folder: PathBuf,
    /// Whether all parts are computed at once, by processes of which the first one merges them.
    pub together: bool,
}

/// The variable of the environment that says the same as `--shard`.
pub const SHARD: &str = "DUET_SHARD";

/// Folder of parts that are computed apart.
const FOLDER: &str = "shards";

impl ShardArgs {
    /// Which part this process is: the one place that decides it. `None`: it computes everything.
    ///
    /// # Errors
    /// [`Error::Config`] for a folder of parts where there are none.
    pub fn which(&self) -> Result<Option<Assigned>> {
        match (&self.assigned, self.shard, &self.shards) {
            (Some(assigned), ..) => Ok(Some(assigned.clone())),
            (None, Some(shard), folder) => {
                let folder = folder.clone().unwrap_or_else(|| FOLDER.into());
                Ok(Some(Assigned { shard, folder, together: false }))
            }
            (None, None, None) => Ok(None),
            (None, None, Some(_)) => {
                let detail = "is where parts go, and this is all: give --shard I/N too, or start several processes by mpirun";
                Err(Error::config("shards", detail))
            }
        }
    }

    /// Makes this process the part `shard` of those that were started together, whose files go to `folder`.
    ///
    /// # Errors
    /// [`Error::Config`] where the command line or the environment names a part as well.
    pub fn assign(&mut self, shard: Shard, folder: PathBuf) -> Result<()> {
        self.check_undivided(shard.of())?;
        self.assigned = Some(Assigned { shard, folder, together: true });
        Ok(())
    }

    /// Refuses a part that is named where `count` processes are parts already.
    ///
    /// # Errors
    /// As [`ShardArgs::assign`].
    pub fn check_undivided(&self, count: usize) -> Result<()> {
        let Some(shard) = self.shard else { return Ok(()) };
        let detail = format!(
            "is {shard}, but {count} processes were started together and divide the images themselves: leave --shard and {SHARD} \
             out, or start each part by itself"
        );
        Err(Error::config("shard", detail))
    }
}

/// `duet merge`.
#[derive(Debug, Args)]
pub struct Merge {
    /// Files of all parts, or folders of them.
    #[arg(required = true, value_name = "SHARD")]
    pub shards: Vec<PathBuf>,
    /// Picture to write (of `duet sample` and `duet explain`), or the tree's folder (of `duet explain --all`), instead of the one that
    /// the parts were made with.
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Of `duet sample`: file of all images, as its option of this name; without it none, unless the parts were made with one.
    #[arg(long, value_name = "FILE")]
    pub npz: Option<PathBuf>,
    /// Of `duet explain`: report to write (.html), likewise.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_named_by_two_numbers() {
        let of = |text: &str| text.parse::<Shard>();
        assert_eq!(of("2/4"), Ok(Shard { number: 2, of: 4 }));
        assert_eq!((of("1/1").unwrap(), of("2/4").unwrap().to_string()), (Shard::WHOLE, "2/4".into()));
        for bad in [
            "",
            "2",
            "0/4",
            "5/4",
            "1/0",
            "-1/4",
            "1/2/3",
            "a/b",
            "1/100001",
            "1/",
            "/4",
            "1/18446744073709551616",
        ] {
            assert!(of(bad).unwrap_err().contains("I/N"), "{bad}");
        }
    }

    #[test]
    fn one_place_decides_which_part_a_process_is() {
        let args = |shard, shards: Option<&str>| ShardArgs {
            shard,
            shards: shards.map(PathBuf::from),
            assigned: None,
        };
        assert_eq!(args(None, None).which().unwrap(), None);
        let half = Shard::new(1, 2);
        let apart = |folder: &str| Assigned { shard: half.unwrap(), folder: folder.into(), together: false };
        assert_eq!(args(half, None).which().unwrap(), Some(apart("shards")));
        assert_eq!(args(half, Some("x")).which().unwrap(), Some(apart("x")));
        assert!(args(None, Some("x")).which().unwrap_err().to_string().contains("--shard I/N"));
        let mut started = args(None, Some("x"));
        started.assign(half.unwrap(), "/there".into()).unwrap();
        assert_eq!(started.which().unwrap(), Some(Assigned { together: true, ..apart("/there") }));
        let said = args(half, None).assign(half.unwrap(), "/there".into()).unwrap_err().to_string();
        assert!(said.contains("1/2") && said.contains("2 processes") && said.contains(SHARD), "{said}");
    }

    #[test]
    fn every_row_is_in_one_part_and_groups_stay_whole() {
        for (total, group, of) in [(100, 16, 4), (7, 1, 3), (5, 8, 3), (0, 4, 2), (33, 32, 2), (1000, 7, 13)]
        {
            let parts: Vec<_> = (1..=of).map(|n| Shard::new(n, of).unwrap().range(total, group)).collect();
            assert_eq!((parts[0].start, parts[of - 1].end), (0, total));
            assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert!(parts.iter().all(|part| part.start % group == 0 || part.is_empty()), "{parts:?}");
            let groups = parts.iter().map(|part| part.len().div_ceil(group));
            let (least, most) = (groups.clone().min().unwrap(), groups.max().unwrap());
            assert!(most - least <= 1, "{parts:?}");
        }
    }
}
