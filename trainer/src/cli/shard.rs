//! `--shard`: a part of a command's images, for several GPUs or machines.

use clap::Args;
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

    fn from_str(text: &str) -> Result<Shard, String> {
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
    /// --shard $((SLURM_ARRAY_TASK_ID+1))/$SLURM_ARRAY_TASK_COUNT.
    #[arg(long, value_name = "I/N", env = SHARD)]
    pub shard: Option<Shard>,
    /// Folder of the parts' files.
    #[arg(long, value_name = "FOLDER", default_value = "shards", requires = "shard")]
    pub shards: PathBuf,
}

/// The variable of the environment that says the same as `--shard`.
pub const SHARD: &str = "DUET_SHARD";

impl ShardArgs {
    /// Which part this process is: the one place that decides it. `None`: it computes everything.
    pub fn which(&self) -> Option<Shard> {
        self.shard
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
