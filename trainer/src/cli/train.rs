//! Options of `duet train`.

use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};

/// `duet train`.
#[derive(Debug, Args)]
pub struct Train {
    /// Folder of data, for which a recipe is found, or a recipe (.toml, .json).
    pub source: PathBuf,
    /// Folder for checkpoints, figures and sample grids [default: runs/, and the source's name].
    #[arg(long, short, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Recipe for the folder of data, instead of one that is found; also a web page's, which says nothing of files.
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// Of a recipe that is found: how large.
    #[arg(long, value_enum, conflicts_with = "recipe")]
    pub preset: Option<Preset>,
    /// Change a setting, as in train.steps=500 or model.num_channels=32; often.
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// Write report.html at the end: what was trained on what, how it went, samples and counterfactuals. For data without a
    /// recipe that is done anyway.
    #[arg(long)]
    pub report: bool,
    /// Go on from the folder's checkpoint; `--resume=auto` begins where there is none.
    #[arg(long, value_enum, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "existing")]
    pub resume: Option<Resume>,
    /// Go on even where settings or data are others than the run had so far; they are named.
    #[arg(long = "override", requires = "resume")]
    pub override_settings: bool,
    /// Go on from this checkpoint of a run instead of the newest in the folder: an earlier one, or its best.
    #[arg(long, value_name = "FILE", requires = "resume")]
    pub from: Option<PathBuf>,
    /// Begin with another model's weights instead of fresh ones (its average where it has one).
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    pub init: Option<PathBuf>,
    /// Train the classifier alone, without the noise error and the decoder: a judge of others' explanations, say. It then
    /// does nothing but classify.
    #[arg(long)]
    pub classifier_only: bool,
    /// Of a recipe with `labelled_share`: let labelled images wait as the reference's code does, whose classifier drifts in steps
    /// without a full buffer; to compare with.
    #[arg(long)]
    pub reference_buffer: bool,
    /// Stop after this many steps in all (overrides the recipe).
    #[arg(long, allow_negative_numbers = true)]
    pub steps: Option<u64>,
    /// End the run after this time in all, resumed parts included: "2h", "90m", "45s". Linear and cosine rates are then at
    /// their end (overrides the recipe).
    #[arg(long, value_name = "TIME")]
    pub max_time: Option<String>,
    /// Print lines instead of a dashboard; so do --json, and output that is no terminal.
    #[arg(long)]
    pub plain: bool,
    /// Write event files for TensorBoard beside the checkpoint: figures and sample grids.
    #[arg(long)]
    pub tensorboard: bool,
    /// Pause after this many minutes, saving first, to be gone on with; `inf`: never.
    #[arg(long, allow_negative_numbers = true)]
    pub minutes: Option<f64>,
    /// Images per step (overrides the recipe).
    #[arg(long, allow_negative_numbers = true)]
    pub batch: Option<usize>,
    /// Learning rate (overrides the recipe).
    #[arg(long, allow_negative_numbers = true)]
    pub lr: Option<f64>,
    /// Seed (overrides the recipe).
    #[arg(long, allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Folder of the data (overrides the recipe).
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
}

impl Train {
    /// The run's folder.
    pub fn folder(&self) -> PathBuf {
        let source = std::path::absolute(&self.source).unwrap_or_else(|_| self.source.clone());
        let name = if self.is_recipe() { source.file_stem() } else { source.file_name() };
        let own = || PathBuf::from("runs").join(name.unwrap_or("run".as_ref()));
        self.out.clone().unwrap_or_else(own)
    }

    /// Whether the source is a recipe: any file, for data are given as their folder.
    pub fn is_recipe(&self) -> bool {
        self.source.is_file() || (is_recipe_name(&self.source) && !self.source.is_dir())
    }
}

/// Whether a file's name says that it is a recipe.
pub fn is_recipe_name(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default();
    ["toml", "json"].iter().any(|known| ending.eq_ignore_ascii_case(known))
}

/// What `--resume` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Resume {
    /// To go on; refused where there is nothing to go on from.
    Existing,
    /// To go on, or to begin where there is nothing yet: the same line for every start of a script.
    Auto,
}

/// How large a recipe that is found is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// Minutes on any device, to see that all works.
    Tiny,
    /// An evening on one GPU.
    Small,
    /// The paper's network, rate and number of steps.
    Paper,
}
