//! Options of `duet explain`.

use super::{Data, How, Model, PictureArgs, ShardArgs};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// `duet explain`.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Explain {
    /// Which model.
    #[command(flatten)]
    #[serde(flatten)]
    pub model: Model,
    /// How they are made.
    #[command(flatten)]
    #[serde(flatten)]
    pub how: How,
    /// Images, or folders, as for `duet classify`. With --all they may be left out.
    #[arg(required_unless_present = "all")]
    #[serde(skip)]
    pub images: Vec<PathBuf>,
    /// How pictures are read.
    #[command(flatten)]
    #[serde(flatten)]
    pub picture: PictureArgs,
    /// Class to move to, by name (in any case) or number: one for all images, or one for each, separated by commas or by
    /// repeating the option; a name that holds commas is given whole. "second": the class that comes second in the decision
    /// about the image. Of a model with several labels: "+LABEL" to add one, "-LABEL" to take it away; a label whose own name
    /// begins so needs a sign before that.
    #[arg(long, value_name = "CLASS", default_value = "second", allow_hyphen_values = true)]
    pub to: Vec<String>,
    /// Picture to write (PNG or, where its name ends so, JPEG): original, counterfactual, difference (red brighter, blue darker,
    /// at one scale for all), of the paper's method the noised image too [default: explanation.png]. With --all: folder to
    /// write to.
    #[arg(long, short)]
    #[serde(skip)]
    pub out: Option<PathBuf>,
    /// Report to write (.html), to be read in any browser: pictures, probabilities, what changed.
    #[arg(long, value_name = "FILE", conflicts_with = "all")]
    #[serde(skip)]
    pub report: Option<PathBuf>,
    /// Answers for each image, by noise of as many seeds: of those that reach the target the one that changes least is shown
    /// first, with the share of the answers that change each pixel.
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub variants: usize,
    /// Another model, which never guides: what it makes of each counterfactual stands beside it. Any of the same classes and
    /// images, a classifier alone too; not the model itself.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub judge: Option<PathBuf>,
    /// Explain a whole data set: the test images of --recipe or --data (by default what the model was trained on), or the given
    /// images, whose classes their folders or an index.json must tell. Into the folder --out goes the tree of DiME and ACE
    /// (Original/…, Results/NAME/{CC,IC}/{CCF,ICF}/{CF,Noise,Info,SM}), and into Results/NAME summary.json and report.html. A
    /// tree that was interrupted is completed by the same command; one made with other options is refused.
    #[arg(long, requires = "out")]
    pub all: bool,
    /// Which data, with --all.
    #[command(flatten)]
    #[serde(flatten)]
    pub data: Data,
    /// With --all: test images, of each class its share; 0: all.
    #[arg(long, short = 'n', default_value_t = 0, requires = "all")]
    pub count: usize,
    /// With --all: name of the folder in Results.
    #[arg(long, value_name = "NAME", default_value = "duet", requires = "all")]
    pub experiment: String,
    /// Images at a time.
    #[arg(long, default_value_t = 16)]
    pub batch: usize,
    /// Grey picture of where the image may change: white may, black may not.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub mask: Option<PathBuf>,
    /// In parts.
    #[command(flatten)]
    #[serde(skip)]
    pub shard: ShardArgs,
}
