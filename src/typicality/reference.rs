//! What the profiles of training images are like, and what that says of an image; as files hold it.

use super::protocol::{NUMBERS, Protocol};
use super::{Typicality, UNLIKE};
use crate::error::{Error, Result};
use crate::rng::Seed;
use serde::{Deserialize, Serialize};

/// Fewest training images that a reference is made of: with fewer the percentile says nothing.
pub const LEAST_IMAGES: usize = 100;
/// Version of the protocol that this program writes and knows.
const VERSION: u32 = 1;
/// Most timesteps that a file may ask for: its reader pays for them.
const MOST_TIMESTEPS: usize = 16;
/// Percentiles whose scores are kept: each whole one to 99, and from there each tenth.
pub(super) const LEVELS: usize = 110;
/// Added to each variance of a profile's numbers: differences of a per cent are no evidence.
const RIDGE: f64 = 1e-4;

/// What the profiles of a model's training images are like.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::diffusion::DiffusionConfig;
/// use duet::typicality::{Protocol, Reference};
///
/// let protocol = Protocol::new(&DiffusionConfig::default());
/// // Profiles of a hundred training images: numbers that rise and fall together.
/// let len = protocol.profile_len();
/// let profile = |i: usize| vec![0.01 * (i % 50) as f64; len];
/// let profiles: Vec<Vec<f64>> = (0..100).map(profile).collect();
/// let reference = Reference::new(protocol, &profiles)?;
/// assert!(!reference.typicality(&profiles[25])?.unlike);
/// // Far too large, far too small.
/// for error in [9.0, -9.0] {
///     assert!(reference.typicality(&vec![error; len])?.unlike);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "File", into = "File")]
pub struct Reference {
    protocol: Protocol,
    images: u64,
    mean: Vec<f64>,
    /// Row by row.
    covariance: Vec<f64>,
    /// Lower triangle L of the covariance L·Lᵀ, row by row.
    factor: Vec<f64>,
    /// Scores at the [`LEVELS`].
    scores: Vec<f64>,
}

impl Reference {
    /// The reference of training images' profiles.
    ///
    /// # Errors
    /// [`Error::Config`] for fewer than [`LEAST_IMAGES`]; [`Error::Shape`] for profiles of another protocol;
    /// [`Error::NotFinite`].
    pub fn new(protocol: Protocol, profiles: &[Vec<f64>]) -> Result<Reference> {
        let (count, width) = (profiles.len(), protocol.profile_len());
        if count < LEAST_IMAGES {
            let detail =
                format!("needs at least {LEAST_IMAGES} training images to compare with, there are {count}");
            return Err(Error::config("typicality", detail));
        }
        if let Some(bad) = profiles.iter().find(|p| p.len() != width) {
            let detail = format!("a profile of {} numbers instead of {width}", bad.len());
            return Err(Error::shape("typicality", detail));
        }
        let mean_of = |value: &dyn Fn(&[f64]) -> f64| -> f64 {
            profiles.iter().map(|p| value(p)).sum::<f64>() / count as f64
        };
        let mean: Vec<f64> = (0..width).map(|i| short(mean_of(&|p| p[i]))).collect();
        let entry = |at: usize| {
            let (i, j) = (at / width, at % width);
            let ridge = if i == j { RIDGE } else { 0.0 };
            short(mean_of(&|p| (p[i] - mean[i]) * (p[j] - mean[j])) + ridge)
        };
        let covariance: Vec<f64> = (0..width * width).map(entry).collect();
        let factor = cholesky(&covariance, width).ok_or_else(|| Error::NotFinite {
            detail: "the noise errors of the training images".to_owned(),
        })?;
        let empty =
            Reference { protocol, images: count as u64, mean, covariance, factor, scores: Vec::new() };
        let mut all: Vec<f64> = profiles.iter().map(|profile| empty.score(profile)).collect();
        all.sort_by(f64::total_cmp);
        let at = |percentile: f64| {
            let exact = percentile / 100.0 * (count - 1) as f64;
            let (below, share) = (exact.floor() as usize, exact.fract());
            let above = (below + 1).min(count - 1);
            short(all[below] + share * (all[above] - all[below]))
        };
        let scores = (0..LEVELS).map(|i| at(level(i))).collect();
        Ok(Reference { scores, ..empty })
    }

    /// Where and how images are looked at.
    pub fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// How many training images it was made of.
    pub fn images(&self) -> u64 {
        self.images
    }

    /// What a profile says.
    ///
    /// # Errors
    /// [`Error::Shape`] for a profile of another protocol; [`Error::NotFinite`].
    pub fn typicality(&self, profile: &[f64]) -> Result<Typicality> {
        if profile.len() != self.mean.len() {
            let detail = format!("a profile of {} numbers instead of {}", profile.len(), self.mean.len());
            return Err(Error::shape("typicality", detail));
        }
        let score = self.score(profile);
        if !score.is_finite() {
            return Err(Error::NotFinite { detail: "the image's noise error".to_owned() });
        }
        let percentile = self.percentile(score);
        Ok(Typicality { percentile, unlike: percentile > UNLIKE })
    }

    /// Mahalanobis distance of a profile: |L⁻¹ (profile − mean)|.
    fn score(&self, profile: &[f64]) -> f64 {
        let width = self.mean.len();
        let mut solved = vec![0.0; width];
        for i in 0..width {
            let row = &self.factor[i * width..][..width];
            let known: f64 = row[..i].iter().zip(&solved).map(|(l, s)| l * s).sum();
            solved[i] = (profile[i] - self.mean[i] - known) / row[i];
        }
        solved.iter().map(|s| s * s).sum::<f64>().sqrt()
    }

    /// Per cent of the training images with a lower score, between the kept ones on a straight line.
    fn percentile(&self, score: f64) -> f64 {
        let above = self.scores.partition_point(|known| *known < score);
        let (Some(below), Some(known)) = (above.checked_sub(1), self.scores.get(above)) else {
            return if above == 0 { 0.0 } else { 100.0 };
        };
        let (from, to) = (self.scores[below], *known);
        level(below) + (level(above) - level(below)) * (score - from) / (to - from)
    }
}

/// The i-th percentile whose score is kept.
pub(super) fn level(i: usize) -> f64 {
    if i < 100 { i as f64 } else { 99.0 + (i - 99) as f64 / 10.0 }
}

/// Seven digits: more would be the arithmetic's, and a file's length.
fn short(value: f64) -> f64 {
    format!("{value:.6e}").parse().unwrap_or(f64::NAN)
}

/// The lower triangle L of a symmetric positive definite matrix L·Lᵀ, row by row; `None` for any other matrix.
fn cholesky(matrix: &[f64], width: usize) -> Option<Vec<f64>> {
    let mut factor = vec![0.0; width * width];
    for i in 0..width {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| factor[i * width + k] * factor[j * width + k]).sum();
            let rest = matrix[i * width + j] - known;
            factor[i * width + j] = match i == j {
                true if rest > 0.0 && rest.is_finite() => rest.sqrt(),
                true => return None,
                false => rest / factor[j * width + j],
            };
        }
    }
    factor.iter().all(|v| v.is_finite()).then_some(factor)
}

/// A reference as files hold it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub version: u32,
    pub timesteps: Vec<usize>,
    pub seed: u64,
    pub images: u64,
    pub mean: Vec<f64>,
    pub covariance: Vec<f64>,
    pub scores: Vec<f64>,
}

impl From<Reference> for File {
    fn from(reference: Reference) -> File {
        File {
            version: VERSION,
            timesteps: reference.protocol.timesteps,
            seed: reference.protocol.seed.0,
            images: reference.images,
            mean: reference.mean,
            covariance: reference.covariance,
            scores: reference.scores,
        }
    }
}

impl TryFrom<File> for Reference {
    type Error = String;

    fn try_from(file: File) -> std::result::Result<Reference, String> {
        let File { timesteps, seed, images, mean, covariance, scores, version } = file;
        if version != VERSION {
            return Err(format!("is of version {version}, known is {VERSION}"));
        }
        let width = NUMBERS * timesteps.len();
        if !(1..=MOST_TIMESTEPS).contains(&timesteps.len()) {
            return Err(format!("has {} timesteps: 1 to {MOST_TIMESTEPS} are possible", timesteps.len()));
        }
        for (what, found, wanted) in [
            ("means", mean.len(), width),
            ("covariances", covariance.len(), width * width),
            ("scores", scores.len(), LEVELS),
        ] {
            if found != wanted {
                return Err(format!("has {found} {what}, must have {wanted}"));
            }
        }
        if !mean.iter().chain(&covariance).chain(&scores).all(|v| (*v as f32).is_finite()) {
            return Err("holds NaN, infinity or a number beyond f32".into());
        }
        if !scores.is_sorted() || scores.first().is_some_and(|first| *first < 0.0) {
            return Err("has scores that are not in order from 0 up".into());
        }
        let symmetric =
            (0..width * width).all(|at| covariance[at] == covariance[at % width * width + at / width]);
        let factor = cholesky(&covariance, width)
            .filter(|_| symmetric)
            .ok_or("has a covariance that is not symmetric and positive definite")?;
        let protocol = Protocol { timesteps, seed: Seed(seed) };
        Ok(Reference { protocol, images, mean, covariance, factor, scores })
    }
}

/// Reads a file's text. Of a version that this program does not know it is `None`: then nothing is said.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse(text: &str) -> std::result::Result<Option<Reference>, String> {
    /// The one field that every version has.
    #[derive(Deserialize)]
    struct Version {
        version: u64,
    }
    let version: Version = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if version.version > u64::from(VERSION) {
        return Ok(None);
    }
    serde_json::from_str(text).map(Some).map_err(|error| error.to_string())
}
