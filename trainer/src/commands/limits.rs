//! What numbers on the command line may be, checked before anything is opened or allocated. What depends on a model or on data
//! is checked where those are known.

use crate::cli::{ChainArgs, Cli, Command, DataTask, How};
use duet::{Error, Result};
use std::fmt::Display;
use std::ops::RangeInclusive;

/// Images at a time: more than any device holds, and so few that sizes computed from them do not overflow.
const BATCH: RangeInclusive<usize> = 1..=65_536;
/// Images in all, of one kind.
const COUNT: RangeInclusive<usize> = 1..=1_000_000;
/// Step sizes of guidance, in both directions; the npm package has the same limit.
const ALPHA: RangeInclusive<f32> = -1e6..=1e6;
/// Answers for each image.
const VARIANTS: RangeInclusive<usize> = 1..=1000;
/// Pixels a side of images.
const SIZE: RangeInclusive<usize> = 1..=1024;
/// Seeds of an experiment or a study.
const SEEDS: RangeInclusive<usize> = 1..=1000;
/// Seconds to measure a line for.
const SECONDS: RangeInclusive<f64> = 0.0..=3600.0;

/// Refuses a value out of its range, NaN included.
fn within<T: PartialOrd + Display>(option: &str, value: &T, range: &RangeInclusive<T>) -> Result<()> {
    if range.contains(value) {
        return Ok(());
    }
    let (low, high) = (range.start(), range.end());
    Err(Error::config(option, format!("must be from {low} to {high}, is {value}")))
}

fn chain(options: &ChainArgs) -> Result<()> {
    within("eta", &options.eta, &(0.0..=1.0))
}

fn how(options: &How) -> Result<()> {
    within("noise", &options.noise, &(0.0..=1.0))?;
    for (name, value) in [("alpha", options.alpha), ("strength", options.strength)] {
        value.iter().try_for_each(|value| within(name, value, &ALPHA))?;
    }
    for (name, value) in [("locality", options.locality), ("keep", options.keep)] {
        value.iter().try_for_each(|value| within(name, value, &(0.0..=*ALPHA.end())))?;
    }
    options.eta.iter().try_for_each(|eta| within("eta", eta, &(0.0..=1.0)))
}

/// Checks the numbers of a command line.
///
/// # Errors
/// [`Error::Config`] naming the option, what it is and what it may be.
pub fn check(arguments: &Cli) -> Result<()> {
    match &arguments.command {
        Command::Train(options) => options.batch.iter().try_for_each(|batch| within("batch", batch, &BATCH)),
        Command::Classify(options) => within("top", &options.top, &(1..=usize::MAX)),
        Command::Eval(options) => {
            within("counterfactuals", &options.counterfactuals, &(0..=*COUNT.end()))?;
            within("skip", &options.which.skip, &(0.0..=1.0))?;
            how(&options.how)?;
            within("batch", &options.batch, &BATCH)
        }
        Command::Frontier(options) => {
            within("per_class", &options.per_class, &COUNT)?;
            within("skip", &options.which.skip, &(0.0..=1.0))?;
            within("noise", &options.noise, &(0.0..=1.0))?;
            within("batch", &options.batch, &BATCH)
        }
        Command::Place(options) => {
            within("images", &options.images, &(0..=*COUNT.end()))?;
            how(&options.how)?;
            within("batch", &options.batch, &BATCH)
        }
        Command::Sample(options) => {
            chain(&options.chain)?;
            within("alpha", &options.alpha, &ALPHA)?;
            within("count", &options.count, &COUNT)?;
            within("batch", &options.batch, &BATCH)
        }
        Command::Explain(options) => {
            how(&options.how)?;
            within("variants", &options.variants, &VARIANTS)?;
            within("batch", &options.batch, &BATCH)
        }
        Command::Study(options) => {
            chain(&options.chain)?;
            within("per_class", &options.per_class, &COUNT)?;
            within("batch", &options.batch, &BATCH)?;
            within("seeds", &options.seeds, &SEEDS)?;
            if let Some(bad) = options.step_sizes.iter().find(|alpha| !alpha.is_finite()) {
                return Err(Error::config("step_sizes", format!("must be finite, one is {bad}")));
            }
            options.step_sizes.iter().try_for_each(|alpha| within("step_sizes", alpha, &ALPHA))
        }
        Command::Audit(options) => {
            how(&options.how)?;
            within("per_class", &options.per_class, &COUNT)?;
            within("batch", &options.batch, &BATCH)
        }
        Command::Info(options) => within("batch", &options.batch, &BATCH),
        Command::Bench(options) => {
            within("seconds", &options.seconds, &SECONDS)?;
            within("batch", &options.batch, &(2..=*BATCH.end()))
        }
        Command::Tune(options) => {
            within("seconds", &options.seconds, &SECONDS)?;
            options.batch.iter().try_for_each(|batch| within("batch", batch, &BATCH))
        }
        Command::Data(DataTask::Info(options)) => {
            options.size.iter().try_for_each(|size| within("size", size, &SIZE))?;
            within("count", &options.count, &COUNT)
        }
        Command::Augment(options) => within("count", &options.count, &COUNT),
        Command::Serve(options) => within("samples", &options.samples, &(0..=*COUNT.end())),
        Command::Data(DataTask::Cache(_) | DataTask::Get(_) | DataTask::List) => Ok(()),
        Command::Experiment(options) => {
            options.seeds.iter().try_for_each(|seeds| within("seeds", seeds, &SEEDS))
        }
        Command::Merge(_)
        | Command::Export(_)
        | Command::ExportImages(_)
        | Command::Import(_)
        | Command::Check(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    /// What is said of a command line; nothing where it may be.
    fn said(line: &str) -> String {
        let arguments = Cli::try_parse_from(line.split(' ')).unwrap();
        check(&arguments).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn numbers_out_of_range_are_refused_by_name() {
        let lines = [
            ("classify --model m --top 0 a.png", "top"),
            ("sample --model m --alpha nan", "alpha"),
            ("sample --model m --alpha -1.1e6", "alpha"),
            ("sample --model m --alpha inf", "alpha"),
            ("sample --model m --eta nan", "eta"),
            ("sample --model m --sampler ancestral --eta=-0.1", "eta"),
            ("sample --model m -n 0", "count"),
            ("sample --model m -n 18446744073709551615", "count"),
            ("sample --model m --batch 1000000000", "batch"),
            ("explain --model m --alpha 1e30 a.png", "alpha"),
            ("explain --model m --noise nan a.png", "noise"),
            ("explain --model m --strength inf a.png", "strength"),
            ("explain --model m --locality -0.1 a.png", "locality"),
            ("explain --model m --keep nan a.png", "keep"),
            ("explain --model m --eta 2 a.png", "eta"),
            ("explain --model m --variants 0 a.png", "variants"),
            ("explain --model m --batch 0 a.png", "batch"),
            ("eval --model m --batch 1000000000", "batch"),
            ("eval --model m --noise 1.5", "noise"),
            ("eval --model m --skip 1.1", "skip"),
            ("eval --model m --counterfactuals 18446744073709551615", "counterfactuals"),
            ("frontier --model m --judge j --skip -0.1", "skip"),
            ("frontier --model m --judge j -n 0", "per_class"),
            ("frontier --model m --judge j --noise nan", "noise"),
            ("place --model m --batch 0", "batch"),
            ("place --model m --strength nan", "strength"),
            ("eval --model m --alpha nan", "alpha"),
            ("study --model m --step-sizes 1,nan", "step_sizes"),
            ("study --model m --step-sizes 1,2e6", "step_sizes"),
            ("study --model m --solvers ddim:5 --seeds 0", "seeds"),
            ("study --model m -n 18446744073709551615", "per_class"),
            ("audit --model m -n 0", "per_class"),
            ("audit --model m --strength nan", "strength"),
            ("audit --model m --batch 0", "batch"),
            ("train r.toml --out o --batch 1000000000", "batch"),
            ("info m --batch 1000000000", "batch"),
            ("bench --seconds inf", "seconds"),
            ("bench --batch 1", "batch"),
            ("tune --seconds nan", "seconds"),
            ("tune --batch 2,0", "batch"),
        ];
        for (line, option) in lines {
            let said = said(&format!("duet {line}"));
            assert!(said.starts_with(&format!("{option}: must be ")), "{line}: {said}");
        }
        for line in
            ["sample --model m --alpha -1e6", "sample --model m --eta 0", "bench --seconds 0", "check"]
        {
            assert_eq!(said(&format!("duet {line}")), "", "{line}");
        }
    }
}
