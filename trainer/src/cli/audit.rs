//! Options of `duet audit`.

use super::{Data, How, Model, PictureArgs};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Images of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SplitKind {
    /// Those to train on.
    Train,
    /// Those to test on.
    Test,
}

/// `duet audit`.
#[derive(Debug, Args)]
pub struct Audit {
    /// Which model.
    #[command(flatten)]
    pub model: Model,
    /// Images, or folders, as for `duet classify`: many of each class. Without any, those of a data set.
    #[arg(conflicts_with_all = ["recipe", "data", "split", "per_class"])]
    pub images: Vec<PathBuf>,
    /// Which data.
    #[command(flatten)]
    pub data: Data,
    /// Which of the data's images.
    #[arg(long, value_enum, default_value = "test")]
    pub split: SplitKind,
    /// Images of each class of the data that are explained, each towards every class.
    #[arg(long, short = 'n', default_value_t = 4)]
    pub per_class: usize,
    /// How pictures are read.
    #[command(flatten)]
    pub picture: PictureArgs,
    /// How they are made; the strength is 1 and the only one, for what is cheapest to change is the shortcut.
    #[command(flatten)]
    pub how: How,
    /// Only these classes, by name (in any case) or number, at least two; by default all.
    #[arg(long, value_name = "CLASS")]
    pub to: Vec<String>,
    /// Picture to write (PNG or, where its name ends so, JPEG): a map of the changes for each class, flagged places outlined.
    #[arg(long, short, default_value = "audit.png")]
    pub out: PathBuf,
    /// Images at a time.
    #[arg(long, default_value_t = 32)]
    pub batch: usize,
}
