//! Options of the commands that measure counterfactuals.

use super::{Data, How, Metrics, Model, ShardArgs};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Which test images are explained, and towards what.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Which {
    /// Share of the test set, from its beginning, that counterfactuals pass over: images that a method was chosen on.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", allow_negative_numbers = true)]
    pub skip: f64,
    /// What they are moved to: "second" (the class that comes second in the model's decision about the image), "next" (the
    /// class after the image's true one, often a very different thing), or a class by name or number.
    #[arg(long, value_name = "CLASS", default_value = "second")]
    pub to: String,
}

/// `duet eval`.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Eval {
    /// Which model.
    #[command(flatten)]
    #[serde(flatten)]
    pub model: Model,
    /// Which data.
    #[command(flatten)]
    #[serde(flatten)]
    pub data: Data,
    /// Test images for accuracy, of each class its share; 0: all.
    #[arg(long, default_value_t = 0)]
    pub images: usize,
    /// Test images for the noise error, of each class its share; 0: none.
    #[arg(long, default_value_t = 256)]
    pub loss_images: usize,
    /// Counterfactuals of this many test images per class, the first ones; 0: none.
    #[arg(long, default_value_t = 0)]
    pub counterfactuals: usize,
    /// Of which images.
    #[command(flatten)]
    #[serde(flatten)]
    pub which: Which,
    /// How they are made.
    #[command(flatten)]
    #[serde(flatten)]
    pub how: How,
    /// Model that judges them: any that was trained apart, one of `duet train --classifier-only` too. It says how often it
    /// sees the target, and its features measure how like images of the target class they are. It never guides: the model that
    /// explains is refused, for it believes itself.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub judge: Option<PathBuf>,
    /// Compare image by image what the judge says, by the sign test: with "paper" or "local" (that method's defaults on the same
    /// images), or with a file that an earlier `duet --json eval` printed.
    #[arg(long, value_name = "WHAT", requires = "judge")]
    #[serde(skip)]
    pub against: Option<String>,
    /// More metrics.
    #[command(flatten)]
    #[serde(flatten)]
    pub more: Metrics,
    /// Images at a time.
    #[arg(long, default_value_t = 32)]
    pub batch: usize,
    /// In parts.
    #[command(flatten)]
    #[serde(skip)]
    pub shard: ShardArgs,
}

/// `duet frontier`.
#[derive(Debug, Args)]
pub struct Frontier {
    /// Which model.
    #[command(flatten)]
    pub model: Model,
    /// Which data.
    #[command(flatten)]
    pub data: Data,
    /// Model that judges, as for `duet eval`. It never guides: the model that explains is refused.
    #[arg(long, value_name = "FILE")]
    pub judge: PathBuf,
    /// Test images of each class, the first ones.
    #[arg(long, short = 'n', default_value_t = 10)]
    pub per_class: usize,
    /// Of which images.
    #[command(flatten)]
    pub which: Which,
    /// Only this way, or at other strengths: "local", "local=1,1.4,2". May be repeated; by default all ways at strengths that
    /// suit the shipped model.
    #[arg(long, value_name = "NAME[=STRENGTHS]")]
    pub way: Vec<String>,
    /// Share of the chain the images are noised by.
    #[arg(long, default_value_t = 0.2, allow_negative_numbers = true)]
    pub noise: f64,
    /// Seed of the noise.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Guide even by a classifier that never saw noised images.
    #[arg(long)]
    pub force: bool,
    /// Images at a time.
    #[arg(long, default_value_t = 32)]
    pub batch: usize,
    /// Folder for the table (CSV, JSON) and the plot (SVG).
    #[arg(long, short, value_name = "FOLDER", default_value = "frontier")]
    pub out: PathBuf,
}
