//! `duet import`.

use super::ImportNetwork;
use clap::Args;
use std::path::PathBuf;

/// `duet import`.
///
/// What it reads executes nothing: a PyTorch file is a program, of which only the instructions and names are followed that tensors
/// need; all else is refused by its name.
///
/// The network's shape is found in the names and shapes of its tensors (channels, widths, levels, blocks, attention, classes, learned sigma). No
/// tensor says the image's size, the number of heads, the order of q, k and v, the groups of GroupNorm, the kind of head, or
/// anything of the diffusion process: these are taken as the reference's code has them by default, listed, and said otherwise
/// with --set or --config.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Import {
    /// Weights of a network that features are measured with.
    #[command(subcommand)]
    pub network: Option<ImportNetwork>,
    /// Or a model.
    #[command(flatten)]
    pub model: Option<ImportModel>,
}

/// A model of another program's, and what it becomes.
#[derive(Debug, Args)]
pub struct ImportModel {
    /// The model: a checkpoint or state_dict of the reference as PyTorch wrote it (.pt, .pth; either format) or as a safetensors
    /// file, or a folder of diffusers (a pipeline, or a UNet2DModel alone).
    pub file: PathBuf,
    /// Model to write (.safetensors).
    #[arg(long, short, value_name = "FILE")]
    pub out: PathBuf,
    /// The moving average of the same step (the reference's ema_*.pt): both go into one model, and the average is what commands
    /// use.
    #[arg(long, value_name = "FILE")]
    pub ema: Option<PathBuf>,
    /// What the file does not say: a recipe (.toml, .json), or JSON with "model" and "diffusion", as `duet info --json` prints it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Say one setting, as in model.num_heads=8 or diffusion.noise_schedule=cosine; often.
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// Of a PyTorch file that holds several dictionaries of tensors, the name of the one to take.
    #[arg(long, value_name = "NAME")]
    pub key: Option<String>,
    /// Give it a new, untrained classifier of so many classes, or of these names (cat,dog), in the place of its own where it
    /// has one. A network without a classifier needs it: whoever trains the model trains it.
    #[arg(long, value_name = "CLASSES")]
    pub new_head: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  duet import model500000_0.pt --ema ema_0.9999_500000_0.pt --out cifar10.safetensors
  duet import model.pt --config trainer/recipes/fashion-mnist.toml --out model.safetensors
  duet import unet.pt --set model.image_size=64 --set model.num_head_channels=64 --new-head cat,dog --out model.safetensors
  duet import ddpm-pipeline/ --new-head 10 --out model.safetensors
  duet import inception pt_inception-2015-12-05-6726825d.pth --out inception.safetensors

Settings that no tensor says, with their defaults:
  model.image_size                     by the multipliers: 28 (1,2,2), 32 (1,2,2,2), 64 (1,2,3,4)
  model.num_heads = 4                  or model.num_head_channels = CHANNELS
  model.use_new_attention_order = false
  model.num_groups = 32
  model.head = \"multiclass\"           or \"multi_label\"
  model.class_names = []               numbers
  diffusion.diffusion_steps = 1000
  diffusion.noise_schedule = \"linear\" or \"cosine\"
  diffusion.linear_start = 0.001       first β at T = 1000; most other programs have 0.0001
  diffusion.linear_end = 0.02
  diffusion.predict_xstart = false
  diffusion.rescale_timesteps = false
  model.dropout = 0, model.classifier_dropout = 0.7, diffusion.rescale_learned_sigmas = false   for training on";
