//! Options of `duet place`.

use super::{Data, How, Model};
use clap::Args;
use std::path::PathBuf;

/// `duet place`.
#[derive(Debug, Args)]
pub struct Place {
    /// Which model, of any number of labels.
    #[command(flatten)]
    pub model: Model,
    /// Which data: a kind that has boxes, as "celeba".
    #[command(flatten)]
    pub data: Data,
    /// Only these labels, by name (in any case) or number; by default all that have boxes. Several are separated by commas, or
    /// the option is repeated.
    #[arg(long)]
    pub label: Vec<String>,
    /// Test images explained for each label and each way, the first ones; 0: all.
    #[arg(long, short = 'n', default_value_t = 0)]
    pub images: usize,
    /// How they are explained.
    #[command(flatten)]
    pub how: How,
    /// Picture to write (PNG or, where its name ends so, JPEG): of the first images of each label and way the original,
    /// counterfactual and difference, with the boxes.
    #[arg(long, short, default_value = "place.png")]
    pub out: PathBuf,
    /// Images at a time.
    #[arg(long, default_value_t = 16)]
    pub batch: usize,
}
