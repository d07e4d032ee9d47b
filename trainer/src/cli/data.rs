//! `duet data`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What to do with data sets.
#[derive(Debug, Subcommand)]
pub enum DataTask {
    /// What a data set holds: counts, balance, sizes, levels, images that are there twice; as a sheet of pictures, too.
    Info(DataInfo),
    /// Download a published data set from where its authors put it, check it and unpack it; what was cut goes on.
    Get(DataGet),
    /// The published data sets there are: their size, licence, where they are from, what to cite.
    List,
    /// The decoded pictures, and the features of real images, that are kept: where, how large, when they were last used.
    Cache(DataCache),
}

/// `duet data info`.
#[derive(Debug, Args)]
pub struct DataInfo {
    /// Recipe (.toml, .json) whose data are looked at, or a folder, or a file in one.
    pub source: PathBuf,
    /// Format of a folder's data, as recipes say it under `kind`; by default it is told by the files.
    #[arg(long)]
    pub kind: Option<String>,
    /// Pixels a side that images become; by default the recipe's, those of files of numbers as they are, or 32.
    #[arg(long, allow_negative_numbers = true)]
    pub size: Option<usize>,
    /// 1 for grey, 3 for colour; by default the recipe's, or as the data are.
    #[arg(long, allow_negative_numbers = true)]
    pub channels: Option<usize>,
    /// Picture to write with training images of each class in a row: PNG or, where its name ends so, JPEG.
    #[arg(long, value_name = "FILE")]
    pub sheet: Option<PathBuf>,
    /// Images in a row of it.
    #[arg(long, short = 'n', default_value_t = 10)]
    pub count: usize,
}

/// `duet data get`.
#[derive(Debug, Args)]
pub struct DataGet {
    /// Which one; `duet data list` names them.
    pub name: String,
    /// Folder to put its files into; by default `data/NAME`.
    #[arg(long, value_name = "FOLDER")]
    pub to: Option<PathBuf>,
    /// Host to download from instead of the official one, with the same paths: "http://10.0.0.1:8000".
    #[arg(long, value_name = "URL", env = "DUET_MIRROR")]
    pub mirror: Option<String>,
}

/// `duet data cache`.
#[derive(Debug, Args)]
pub struct DataCache {
    /// Remove all of them. They are made again when they are needed; a run that uses them goes on.
    #[arg(long)]
    pub clear: bool,
}
