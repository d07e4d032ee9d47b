//! The command line.

mod audit;
mod check;
mod data;
mod experiment;
mod explain;
pub mod how;
mod import;
mod measure;
mod metrics;
mod network;
mod onnx;
mod place;
mod sample;
mod serve;
mod shard;
mod study;
mod train;

pub use audit::{Audit, SplitKind};
pub use check::Check;
pub use data::{DataCache, DataGet, DataInfo, DataTask};
pub use experiment::Experiment;
pub use explain::Explain;
pub use how::How;
pub use import::{Import, ImportModel};
pub use measure::{Eval, Frontier, Which};
pub use metrics::{Metric, Metrics};
pub use network::{FeatureChoice, ImportNetwork, NetworkFile};
pub use onnx::{OnnxArgs, OnnxKind};
pub use place::Place;
pub use sample::Sample;
pub use serve::Serve;
pub use shard::{Assigned, Merge, SHARD, Shard, ShardArgs};
pub use study::Study;
pub use train::{Preset, Resume, Train, is_recipe_name};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use duet::diffusion::Solver;
use duet::gpu::MatmulPrecision;
use duet::picture::Fit;
use duet::sampling::Guidance;
use serde::Serialize;
use std::path::PathBuf;

/// Joint diffusion models: one network generates, classifies and explains. All computation is WGSL compute shaders.
#[derive(Debug, Parser)]
#[command(name = "duet", bin_name = "duet", version, about)]
pub struct Cli {
    /// Print JSON for machines instead of text, each line of stdout a value of its own; errors on stderr are {"error": …}.
    #[arg(long, global = true)]
    pub json: bool,
    /// Say on stderr what the program does.
    #[arg(long, short, global = true)]
    pub verbose: bool,
    /// Choose the GPU whose name contains this text.
    #[arg(long, global = true, value_name = "NAME", env = "DUET_ADAPTER")]
    pub gpu: Option<String>,
    /// Use this table of measured kernels (from `duet tune`) instead of those in the user's folder.
    #[arg(long, global = true, value_name = "FILE", env = "DUET_TUNING")]
    pub tuning: Option<PathBuf>,
    /// Round the factors of matrix products and convolutions to f16 where the GPU has units for that (tensor cores); sums stay f32.
    /// Other GPUs compute in f32.
    #[arg(
        long,
        global = true,
        value_name = "PRECISION",
        default_value = "f32",
        env = "DUET_MATMUL_PRECISION"
    )]
    pub matmul_precision: Factors,
    /// Keep decoded pictures in this folder, so that no run decodes them again [default: $XDG_CACHE_HOME/duet/pictures or
    /// ~/.cache/duet/pictures]. They are read from there piece by piece: data may be larger than memory.
    #[arg(long, global = true, value_name = "FOLDER", env = "DUET_CACHE")]
    pub cache: Option<PathBuf>,
    /// Keep no decoded pictures: they are in memory alone.
    #[arg(long, global = true)]
    pub no_cache: bool,
    /// Number of this process among those of its machine that were started together: where several GPUs are as good, each has its own.
    #[arg(skip)]
    pub number: usize,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What may happen to the factors of products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Factors {
    /// They are f32.
    F32,
    /// They may be rounded to f16.
    F16,
}

impl From<Factors> for MatmulPrecision {
    fn from(factors: Factors) -> MatmulPrecision {
        match factors {
            Factors::F32 => MatmulPrecision::F32,
            Factors::F16 => MatmulPrecision::F16,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model on a folder of data, or by a recipe; Ctrl-C saves and exits, `--resume` goes on.
    ///
    /// As `mpirun -n 8 duet train RECIPE` eight processes, each with a GPU of its own, train as one (of a program that was built with
    /// `--features duet-trainer/mpi`). How many GPUs there are changes no bit, and a run goes on with another number.
    Train(Train),
    /// Classify images.
    Classify(Classify),
    /// Accuracy on the test set, the noise error by quarter of the chain, and what counterfactuals are worth.
    Eval(Eval),
    /// Which way to explain convinces a judge most for how much change: every way at several strengths.
    Frontier(Frontier),
    /// Whether explanations of labels change the pixels in the data's boxes: a table and a picture.
    Place(Place),
    /// Generate images: a row per class, per mixture of classes, or from one class to another; parts of a picture; near a picture.
    Sample(Sample),
    /// Explain a decision by a counterfactual image.
    Explain(Explain),
    /// Put the parts together that `duet eval`, `sample` and `explain` computed with --shard, on several GPUs or machines: figures,
    /// pictures and reports as of one process, bit for bit. Needs no GPU, no model and no data.
    Merge(Merge),
    /// Compare step sizes of guidance, or solvers by their numbers of steps: precision and recall, the way to the class, pictures.
    Study(Study),
    /// The paper's experiments, and what its readers ask: trainings, then a table. What is done is not done again.
    Experiment(Experiment),
    /// Look for shortcuts: small places that never move and make a class. Exit code 3 where one is found.
    ///
    /// Counterfactuals are made with one strength for all images: --strength, here 1 by default, without any further tries.
    Audit(Audit),
    /// Serve the page with a model to this machine's browsers: a run's folder, a checkpoint, or the page's own model.
    Serve(Serve),
    /// What a model is and needs, before anything is allocated.
    Info(Info),
    /// Export the averaged weights: for shipping, for PyTorch, for diffusers, for ONNX Runtime.
    Export(Export),
    /// Make a model of another program's: the reference's checkpoints (.pt), its state_dict, a network of diffusers; or read
    /// the weights of a network that features are measured with.
    ///
    /// What it reads executes nothing: a PyTorch file is a program, of which only the instructions and names are followed that
    /// tensors need; all else is refused by its name.
    ///
    /// The network's shape is found in the names and shapes of its tensors (channels, widths, levels, blocks, attention, classes, learned
    /// sigma). No tensor says the image's size, the number of heads, the order of q, k and v, the groups of GroupNorm, the kind of head,
    /// or anything of the diffusion process: these are taken as the reference's code has them by default, listed, and said
    /// otherwise with --set or --config.
    Import(Import),
    /// Write test images of a recipe's data as PNG files with a list of their classes, to try the other commands on.
    ExportImages(ExportImages),
    /// Data sets before anything is trained on them.
    #[command(subcommand)]
    Data(DataTask),
    /// Draw what a recipe's augmentation does to its training images: a row for each kind, then all together.
    Augment(Augment),
    /// Measure kernels and whole steps on this device.
    Bench(Bench),
    /// Measure which kernels are faster here for a model's shapes, and keep the table for later commands.
    Tune(Tune),
    /// Test the GPU: a small training step against stored numbers; with --full every operation in every family of kernels.
    Check(Check),
}

impl Command {
    /// Which part of its images is computed, of a command that knows parts.
    pub fn parts(&mut self) -> Option<&mut ShardArgs> {
        match self {
            Command::Eval(options) => Some(&mut options.shard),
            Command::Sample(options) => Some(&mut options.shard),
            Command::Explain(options) => Some(&mut options.shard),
            _ => None,
        }
    }
}

/// Which weights of a checkpoint to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum WeightSet {
    /// The moving average where there is one.
    #[default]
    Auto,
    /// The moving average.
    Ema,
    /// The weights as trained.
    Raw,
}

/// Options of every command that runs a trained model.
#[derive(Debug, Args, Serialize)]
pub struct Model {
    /// Checkpoint (.safetensors).
    #[arg(long, short, value_name = "FILE")]
    #[serde(skip)]
    pub model: PathBuf,
    /// Weights to use.
    #[arg(long, value_enum, default_value_t)]
    #[serde(skip)]
    pub weights: WeightSet,
}

/// Which data a trained model is measured on.
#[derive(Debug, Args, Serialize)]
pub struct Data {
    /// Recipe whose data are used; by default the one the model was trained by. Their classes are matched to the model's by
    /// name, in any case; numbers are numbers of classes where no class is called so.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub recipe: Option<PathBuf>,
    /// Folder of the data (overrides the recipe).
    #[arg(long, value_name = "FOLDER")]
    #[serde(skip)]
    pub data: Option<PathBuf>,
}

/// How pictures are made into what the model reads.
#[derive(Clone, Copy, Debug, Default, Args, Serialize)]
pub struct Reading {
    /// Invert the pictures' colours: of a dark thing on white, or drawn on nothing, a light one on black.
    #[arg(long)]
    pub invert: bool,
    /// How a picture that is not square becomes square; by default as the model's training pictures did.
    #[arg(long, value_parser = fits())]
    pub fit: Option<Fit>,
}

/// Pictures that a model is asked about.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PictureArgs {
    /// How they are read.
    #[command(flatten)]
    #[serde(flatten)]
    pub reading: Reading,
    /// Do not measure whether pictures are unlike the training data: of many pictures it takes most of the time.
    #[arg(long)]
    pub no_typicality: bool,
}

/// The ways to fit, by name.
fn fits() -> impl TypedValueParser<Value = Fit> {
    let named = |fit: Fit| {
        PossibleValue::new(fit.name()).help(match fit {
            Fit::Crop => "Its central square",
            Fit::Pad => "All of it, on the model's ground",
            Fit::Stretch => "All of it, longer or wider than it is",
        })
    };
    PossibleValuesParser::new(Fit::ALL.map(named)).try_map(|name| Fit::named(&name))
}

/// `duet classify`.
#[derive(Debug, Args)]
pub struct Classify {
    /// Which model.
    #[command(flatten)]
    pub model: Model,
    /// Images (PNG, JPEG, WebP, GIF, BMP or TIFF, by their contents), or folders, whose images and those of the folders in
    /// them are taken sorted by name. Some that cannot be read do not keep the others from being answered; they are named on
    /// stderr, and the exit code is 1.
    #[arg(required = true)]
    pub images: Vec<PathBuf>,
    /// How pictures are read.
    #[command(flatten)]
    pub picture: PictureArgs,
    /// Classes to print of each image.
    #[arg(long, default_value_t = 3)]
    pub top: usize,
}

/// The names of all solvers.
fn solvers() -> PossibleValuesParser {
    PossibleValuesParser::new(
        Solver::methods().iter().map(|m| PossibleValue::new(m.name).help(m.description)),
    )
}

/// How a class steers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuidanceKind {
    /// Algorithm 1: the internal representations move.
    Representation,
    /// Eq. 12: the gradient on the noised image.
    Gradient,
    /// None.
    None,
}

impl GuidanceKind {
    /// As the library has it.
    pub fn guidance(self) -> Guidance {
        match self {
            GuidanceKind::Representation => Guidance::Representation,
            GuidanceKind::Gradient => Guidance::Gradient,
            GuidanceKind::None => Guidance::None,
        }
    }
}

/// Options of the chain.
#[derive(Clone, Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ChainArgs {
    /// Steps of the whole chain: "100", "10,10,5", "ddim25"; empty for all.
    #[arg(long, default_value = "100")]
    pub steps: String,
    /// Which solver.
    #[arg(long, value_parser = solvers(), default_value = "ddim")]
    pub sampler: String,
    /// DDIM's share of noise, 0 to 1. With 1 it is ancestral sampling with the posterior's variance.
    #[arg(long, default_value_t = 1.0)]
    pub eta: f64,
    /// How the class steers.
    #[arg(long, value_enum, default_value = "representation")]
    pub guidance: GuidanceKind,
    /// Let the predicted image leave its range: the paper's chain, which a model trained briefly does not survive.
    #[arg(long)]
    pub no_clip: bool,
    /// Seed of the noise.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Guide even by a classifier that never saw noised images.
    #[arg(long)]
    pub force: bool,
}

/// `duet info`.
#[derive(Debug, Args)]
pub struct Info {
    /// Checkpoint (.safetensors) or recipe (.toml, .json).
    pub model: PathBuf,
    /// Images at a time.
    #[arg(long, default_value_t = 8)]
    pub batch: usize,
    /// Print the plan of this kind instead.
    #[arg(long, value_enum)]
    pub plan: Option<PlanKind>,
}

/// The plans of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PlanKind {
    /// Classification.
    Classify,
    /// An unguided denoising step.
    Step,
    /// A step of Algorithm 1.
    Guided,
    /// A training step.
    Train,
}

/// `duet export`.
#[derive(Debug, Args)]
pub struct Export {
    /// Which model.
    #[command(flatten)]
    pub model: Model,
    /// Model to write (.safetensors), or the ONNX file (.onnx with --onnx).
    #[arg(long, short, value_name = "FILE", required_unless_present_any = ["pt", "diffusers"])]
    pub out: Option<PathBuf>,
    /// Write the weights as the reference's state_dict, in 32-bit floats, as a file that PyTorch loads
    /// (`torch.load(FILE, weights_only=True)`).
    #[arg(long, value_name = "FILE")]
    pub pt: Option<PathBuf>,
    /// Write the network and its process as a DDPMPipeline of diffusers, in 32-bit floats: model_index.json,
    /// unet/ (UNet2DModel) and scheduler/ in this folder. The classifier, for which diffusers has no place, is left out. A
    /// network that is laid out otherwise there is refused with every reason.
    #[arg(long, value_name = "FOLDER")]
    pub diffusers: Option<PathBuf>,
    /// Keep 32-bit floats in the model.
    #[arg(long)]
    pub f32: bool,
    /// The same as a file for other programs.
    #[command(flatten)]
    pub onnx: OnnxArgs,
    /// The data the model was trained on. With --recipe or --data its noise error on training images is measured and stored,
    /// so that `classify` and `explain` can tell pictures unlike them.
    #[command(flatten)]
    pub data: Data,
    /// Training images to measure.
    #[arg(long, value_name = "NUMBER", default_value_t = 2048)]
    pub typicality_images: usize,
}

/// `duet export-images`.
#[derive(Debug, Args)]
pub struct ExportImages {
    /// Recipe (TOML) whose data are used.
    #[arg(long, value_name = "FILE")]
    pub recipe: PathBuf,
    /// Images in all: the first ones of each class, equally many; what is left over goes to the classes whose next image
    /// comes first.
    #[arg(long, short = 'n', default_value_t = 10)]
    pub count: usize,
    /// Folder to write to.
    #[arg(long, short, default_value = "images")]
    pub out: PathBuf,
}

/// `duet augment`.
#[derive(Debug, Args)]
pub struct Augment {
    /// Recipe (TOML) whose data and augmentation are shown. One that augments nothing shows every kind as it is by default.
    #[arg(long, value_name = "FILE")]
    pub recipe: PathBuf,
    /// Folder of the data (overrides the recipe).
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Images in a row, spread over the training images.
    #[arg(long, short = 'n', default_value_t = 12)]
    pub count: usize,
    /// Picture to write: PNG or, where its name ends so, JPEG.
    #[arg(long, short, default_value = "augmented.png")]
    pub out: PathBuf,
}

/// `duet bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// Images at a time of the whole steps and of the 28×28 kernels.
    #[arg(long, default_value_t = 8)]
    pub batch: usize,
    /// Least seconds to measure each line for.
    #[arg(long, default_value_t = 0.2)]
    pub seconds: f64,
    /// Only lines whose name contains this.
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
    /// Network of the whole steps: "28x28-c32", "32x32-c128", "64x64-c128", "recipe" (the shipped one), or a recipe's
    /// file.
    #[arg(long, default_value = "28x28-c32", value_name = "NAME")]
    pub model: String,
    /// Whole steps and start-up alone, no single kernels.
    #[arg(long)]
    pub steps_only: bool,
    /// Where the time of whole steps goes, by kernel, instead of the other lines. With --only start-up: the first dispatch of each
    /// pipeline, in which software drivers compile it (with an empty shader cache: MESA_SHADER_CACHE_DISABLE=true).
    #[arg(long)]
    pub profile: bool,
    /// As --profile, beside what the device could do at most: two small probes measure its bytes and multiply-adds per second, and each
    /// kernel's time stands beside the least that its own take.
    #[arg(long)]
    pub roofline: bool,
    /// Compare with an earlier run's JSON.
    #[arg(long, value_name = "BEFORE")]
    pub against: Option<PathBuf>,
    /// Measure nothing: compare two earlier runs' JSON.
    #[arg(long, num_args = 2, value_names = ["BEFORE", "AFTER"], conflicts_with = "against")]
    pub compare: Option<Vec<PathBuf>>,
}

/// `duet tune`.
#[derive(Debug, Args)]
pub struct Tune {
    /// Recipe (.toml, .json) or checkpoint (.safetensors) whose shapes are measured; by default the shipped recipe.
    pub model: Option<PathBuf>,
    /// Images at a time, several separated by commas; by default the recipe's (of a checkpoint: the reference's).
    #[arg(long, value_delimiter = ',')]
    pub batch: Vec<usize>,
    /// Least seconds to measure each shape for.
    #[arg(long, default_value_t = 0.3)]
    pub seconds: f64,
    /// Table to write (JSON), read by `--tuning`. By default a file of this adapter in the user's folder
    /// ($XDG_CONFIG_HOME/duet/tuning or ~/.config/duet/tuning), which every later command reads.
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
}
