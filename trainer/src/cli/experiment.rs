//! Options of `duet experiment`.

use clap::Args;
use std::path::PathBuf;

/// `duet experiment`.
#[derive(Debug, Args)]
pub struct Experiment {
    /// Which: a name of `duet experiment list`, several, or "all"; "list" names them, "report" makes one page of every table
    /// that is there.
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// Folder that holds the data sets' folders, as `duet data get` makes them.
    #[arg(long, value_name = "FOLDER", default_value = "data")]
    pub data: PathBuf,
    /// How large: "tiny" (minutes on two processor cores), "small" (an evening on one GPU) or "paper" (the paper's settings).
    #[arg(long, default_value = "tiny")]
    pub scale: String,
    /// So many seeds, 1, 2 and so on, instead of the scale's own.
    #[arg(long, value_name = "NUMBER")]
    pub seeds: Option<usize>,
    /// Trainings at a time. On a graphics card one at a time is as fast; a processor is used better by two or more small ones.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: u16,
    /// Change a setting of every training, as in train.steps=500; often.
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// Folder for trainings, tables, pictures and the report. What is there is gone on with.
    #[arg(long, short, value_name = "FOLDER", default_value = "runs/experiments")]
    pub out: PathBuf,
}
