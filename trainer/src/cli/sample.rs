//! Options of `duet sample`.

use super::{ChainArgs, Model, Reading, ShardArgs};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// `duet sample`.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sample {
    /// Which model.
    #[command(flatten)]
    #[serde(flatten)]
    pub model: Model,
    /// The chain.
    #[command(flatten)]
    #[serde(flatten)]
    pub chain: ChainArgs,
    /// Picture to write: PNG or, where its name ends so, JPEG. Beside --npz it shows the first images of each row.
    #[arg(long, short, default_value = "samples.png")]
    #[serde(skip)]
    pub out: PathBuf,
    /// Also write all images for evaluators of other programs: uint8 [N,H,W,C] as `arr_0` and, where each row is a class, int64 [N]
    /// as `arr_1`, row after row.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub npz: Option<PathBuf>,
    /// Only these classes, by name (in any case) or number; by default all, unless --toward or --between say what to make.
    /// Several are separated by commas, or the option is repeated; a name that holds commas is given whole. What is both a name and
    /// a number is the name.
    #[arg(long)]
    pub class: Vec<String>,
    /// A row toward several at once, "NAME=SHARE,NAME=SHARE"; without a share it is 1. Of a model with one class per image shares of
    /// classes, which are divided by their sum; of one with any number of labels what each is to be, from 0 (not there) to 1
    /// (there), also as -NAME and +NAME, all others being left to the model. Can be repeated.
    #[arg(long, value_name = "MIXTURE", allow_hyphen_values = true)]
    pub toward: Vec<String>,
    /// A row from one class to another, "NAME,NAME", in equal steps of their shares and from the same noise. Can be repeated. Needs a
    /// chain that adds no noise (--eta 0, or --sampler dpm++).
    #[arg(long, value_name = "CLASSES")]
    pub between: Vec<String>,
    /// The noise of each row goes along a great circle from that of its first image to that of its last one (slerp). Needs a chain
    /// that adds no noise.
    #[arg(long)]
    pub interpolate: bool,
    /// A picture of which the part that --mask says is made anew (inpainting: what is kept is noised to where the chain is, at every
    /// step).
    #[arg(long, value_name = "FILE", requires = "mask")]
    #[serde(skip)]
    pub inpaint: Option<PathBuf>,
    /// Grey picture of where --inpaint may change: white may, black may not.
    #[arg(long, value_name = "FILE", requires = "inpaint")]
    #[serde(skip)]
    pub mask: Option<PathBuf>,
    /// A picture to stay near: guidance also makes the predicted image's mean squared distance from it smaller.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub near: Option<PathBuf>,
    /// Weight of that distance beside the classifier's loss: 1 to 4 with Algorithm 1; too much of it overshoots.
    #[arg(long, value_name = "WEIGHT", default_value_t = 1.0, requires = "near")]
    pub nearness: f32,
    /// How these pictures are read.
    #[command(flatten)]
    #[serde(flatten)]
    pub reading: Reading,
    /// Images of each row.
    #[arg(long, short = 'n', default_value_t = 8)]
    pub count: usize,
    /// Step size of Algorithm 1, or scale of Eq. 12: −1,000,000 to 1,000,000.
    #[arg(long, default_value_t = 20.0, allow_negative_numbers = true)]
    pub alpha: f32,
    /// Images at a time; their noise belongs to the images, so they are the same for any number.
    #[arg(long, default_value_t = 16)]
    pub batch: usize,
    /// In parts.
    #[command(flatten)]
    #[serde(skip)]
    pub shard: ShardArgs,
}
