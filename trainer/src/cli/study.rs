//! `duet study`.

use super::{ChainArgs, Data, Model};
use clap::Args;
use std::path::PathBuf;

/// Step sizes that are compared by default.
const STEP_SIZES: [f32; 6] = [0.0, 5.0, 10.0, 20.0, 40.0, 80.0];
/// The one by which solvers are compared: that of `duet sample`.
const STEP_SIZE: f32 = 20.0;

/// `duet study`.
#[derive(Debug, Args)]
pub struct Study {
    /// Which model.
    #[command(flatten)]
    pub model: Model,
    /// Which data.
    #[command(flatten)]
    pub data: Data,
    /// The chain.
    #[command(flatten)]
    pub chain: ChainArgs,
    /// Step sizes of Algorithm 1 (or scales of Eq. 12) to compare [default: 0,5,10,20,40,80]; with --solvers the one that guides all of them
    /// [default: 20].
    #[arg(long, value_delimiter = ',', value_name = "LIST", allow_negative_numbers = true)]
    pub step_sizes: Vec<f32>,
    /// Compare solvers by their numbers of steps instead, from the same noise: SOLVER:STEPS, or SOLVER:STEPS:ETA of one that takes a share of
    /// noise (by default --eta), separated by commas. The first is what the others are held against. Alone:
    /// ddim:25,ddim:10,dpm++:10,dpm++:5,dpm++sde:10.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "LIST",
        num_args = 0..=1,
        default_missing_value = "ddim:25,ddim:10,dpm++:10,dpm++:5,dpm++sde:10",
        conflicts_with_all = ["steps", "sampler"]
    )]
    pub solvers: Vec<String>,
    /// Seeds of noise that each solver generates all images from: --seed and those after it. Of more than one the spread is told.
    #[arg(long, default_value_t = 1, value_name = "NUMBER", requires = "solvers")]
    pub seeds: usize,
    /// Model that looks at the generated images, too, and guided none of them; as for `duet eval`.
    #[arg(long, value_name = "FILE", requires = "solvers")]
    pub judge: Option<PathBuf>,
    /// Images generated of each class and step size (or solver and seed), and test images of each class they are compared with.
    #[arg(long, short = 'n', default_value_t = 10)]
    pub per_class: usize,
    /// Neighbours that decide how wide the manifolds of precision and recall are.
    #[arg(long, default_value_t = 3)]
    pub neighbours: usize,
    /// Images at a time.
    #[arg(long, default_value_t = 25)]
    pub batch: usize,
    /// Folder for tables (CSV, JSON, Markdown), plots (SVG) and pictures (PNG).
    #[arg(long, short, value_name = "FOLDER", default_value = "study")]
    pub out: PathBuf,
}

impl Study {
    /// The step sizes that are compared, in order, each once.
    pub fn alphas(&self) -> Vec<f32> {
        let mut alphas =
            if self.step_sizes.is_empty() { STEP_SIZES.to_vec() } else { self.step_sizes.clone() };
        alphas.sort_by(f32::total_cmp);
        alphas.dedup();
        alphas
    }

    /// The step size that guides all solvers; `None` where several are asked for.
    pub fn alpha(&self) -> Option<f32> {
        match self.step_sizes.as_slice() {
            [] => Some(STEP_SIZE),
            [alpha] => Some(*alpha),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::{Cli, Command};
    use clap::Parser as _;

    fn study(line: &str) -> super::Study {
        let line = "duet study --model m".split(' ').chain(line.split_whitespace());
        let Command::Study(study) = Cli::try_parse_from(line).unwrap().command else { panic!("no study") };
        study
    }

    #[test]
    fn solvers_have_a_list_and_one_step_size_by_default() {
        let plain = study("");
        assert_eq!((plain.solvers.len(), plain.alphas().len()), (0, 6));
        assert_eq!(study("--step-sizes 2,0,2").alphas(), [0.0, 2.0]);
        let alone = study("--solvers -n 3");
        assert_eq!((alone.solvers.len(), alone.alpha(), alone.per_class), (5, Some(20.0), 3));
        assert_eq!(alone.solvers[2], "dpm++:10");
        let given = study("--solvers ddim:2,dpm++:3 --step-sizes=-5");
        assert_eq!((given.solvers.len(), given.alpha()), (2, Some(-5.0)));
        assert_eq!(study("--solvers ddim:2 --step-sizes 1,2").alpha(), None);
    }
}
