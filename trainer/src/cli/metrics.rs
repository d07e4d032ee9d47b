//! Options of `duet eval` that ask for more metrics.

use super::{FeatureChoice, GuidanceKind, solvers};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A metric beside those that are always measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Fréchet distance of pooled features.
    Fid,
    /// Fréchet distance of features that keep their places.
    SfidSpatial,
    /// Fréchet distance of halves, as papers on counterfactuals have it.
    SfidSplit,
    /// Inception score.
    Is,
    /// Kernel Inception distance.
    Kid,
    /// Precision and recall for distributions: the largest F₈ and F₁⸝₈.
    Prd,
    /// Improved precision and recall.
    PrecisionRecall,
    /// Density and coverage.
    DensityCoverage,
    /// Calibration error of the classifier.
    Ece,
    /// What the classifier takes each class for.
    Confusion,
    /// Recall and precision of each class.
    PerClass,
    /// Bound on the negative log-likelihood in bits per dimension, with its terms by timestep.
    Nll,
    /// All of them that the model has.
    All,
}

impl Metric {
    /// Whether it compares generated images with real ones.
    pub fn of_generated(self) -> bool {
        self < Metric::Ece
    }

    /// Its name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Which metrics, of which images.
#[derive(Clone, Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Metrics {
    /// Measure these as well, separated by commas: figures of generated images, of the classifier, of the likelihood; each is told
    /// with the protocol it was measured by. A figure bears the name of its features.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST")]
    pub metrics: Vec<Metric>,
    /// Which network gives the features that images are compared by: the model itself (own), Inception-v3 (inception:FILE) or, for 28×28
    /// grey images, a LeNet (lenet:FILE); FILE is a PyTorch file of their weights, or one that `duet import` made. Only features of the weights that
    /// published FIDs are measured with give a figure called FID.
    #[arg(long, default_value = "own", value_name = "NETWORK", requires = "metrics")]
    #[serde(skip)]
    pub features: FeatureChoice,
    /// Images to generate for metrics.
    #[arg(long, default_value_t = 1000, value_name = "NUMBER", requires = "metrics")]
    pub samples: usize,
    /// Generated images from this file instead (`duet sample --npz`, or anybody's: uint8 [N,H,W,C] as `arr_0`).
    #[arg(long, value_name = "FILE", requires = "metrics", conflicts_with = "samples")]
    #[serde(skip)]
    pub samples_npz: Option<PathBuf>,
    /// Real images from this file instead of the test set: uint8 [N,H,W,C] as `arr_0`, or what a Fréchet distance needs of them, `mu` and
    /// `sigma` (spatial: `mu_s` and `sigma_s`), of the same features.
    #[arg(long, value_name = "FILE", requires = "metrics")]
    #[serde(skip)]
    pub reference: Option<PathBuf>,
    /// Real images that generated ones are compared with, of each class its share; 0: all.
    #[arg(long, default_value_t = 0, value_name = "NUMBER", requires = "metrics")]
    pub real_images: usize,
    /// Steps of the chain that generates: "10", "10,10,5", "ddim25"; empty for all.
    #[arg(long, default_value = "10", value_name = "STEPS", requires = "metrics")]
    pub sample_steps: String,
    /// Its solver.
    #[arg(long, value_parser = solvers(), default_value = "dpm++", value_name = "SAMPLER", requires = "metrics")]
    pub sample_solver: String,
    /// DDIM's share of noise, 0 to 1.
    #[arg(long, default_value_t = 1.0, value_name = "ETA", requires = "metrics")]
    pub sample_eta: f64,
    /// How classes steer the generated images, of each class equally many; none: nothing does, as the data's own distribution asks.
    #[arg(long, value_enum, default_value = "none", value_name = "GUIDANCE", requires = "metrics")]
    pub sample_guidance: GuidanceKind,
    /// Step size of Algorithm 1, or scale of Eq. 12.
    #[arg(
        long,
        default_value_t = 20.0,
        allow_negative_numbers = true,
        value_name = "ALPHA",
        requires = "metrics"
    )]
    pub sample_alpha: f32,
    /// Test images of the likelihood.
    #[arg(long, default_value_t = 100, value_name = "NUMBER", requires = "metrics")]
    pub nll_images: usize,
    /// Timesteps of each of these images, beside t = 0: one from each of so many equal stretches of the chain; 0: every timestep.
    #[arg(long, default_value_t = 20, value_name = "NUMBER", requires = "metrics")]
    pub nll_timesteps: usize,
}
