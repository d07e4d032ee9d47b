//! How like its training data an image is for a model, as numbers alone.
//!
//! A model that denoises knows what its data look like: what it has never seen it denoises worse, and what is emptier than
//! its data better. An image is noised to a little and to a middle noise ([`Protocol`]). Of the network's error in the noise
//! there, three numbers are the image's profile: the logarithm of the mean squared error, that at the image's border, and
//! the mean error (a brightness that the network did not expect) as a share of the root mean square. A [`Reference`] holds
//! mean and covariance of the profiles of training images; the score of an image is its profile's Mahalanobis distance from
//! them, so that errors too small count as those too large do, and so does a relation between them that the data do not
//! show. The percentile is the share of the training images whose score is lower.
//!
//! Chosen by measuring: the squared error alone, at eight timesteps, knew half of what these know at two. They tell pictures
//! of another ground, contrast, size or texture; of other things drawn as the data are (digits for garments) only some.
//! This tells what looks unlike the data. It does not tell which answers are right.

use crate::diffusion::{DiffusionConfig, Schedule};
use crate::error::{Error, Result};
use crate::rng::{Seed, Stream, normal_fill};
use serde::{Deserialize, Serialize};

/// Percentile beyond which an image counts as unlike the training data: of images like them one in two hundred does.
pub const UNLIKE: f64 = 99.5;
/// Fewest training images that a reference is made of: with fewer the percentile says nothing.
pub const LEAST_IMAGES: usize = 100;
/// Version of the protocol that this program writes and knows.
const VERSION: u32 = 1;
/// Where in the chain images are looked at, as shares of it.
const SHARES: [f64; 2] = [0.01, 0.25];
/// Numbers of a profile for each timestep.
const NUMBERS: usize = 3;
/// The border is this part of an image's side wide.
const BORDER: usize = 7;
/// Most timesteps that a file may ask for: its reader pays for them.
const MOST_TIMESTEPS: usize = 16;
/// Percentiles whose scores are kept: each whole one to 99, and from there each tenth.
const LEVELS: usize = 110;
/// Added to each variance of a profile's numbers: differences of a per cent are no evidence.
const RIDGE: f64 = 1e-4;
/// Errors below this one are equal.
const LEAST_ERROR: f64 = 1e-12;

/// What a model makes of an image's likeness to its training data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Typicality {
    /// Per cent of the training images that look more like the others than it does: 0 to 100.
    pub percentile: f64,
    /// Whether it lies beyond [`UNLIKE`].
    pub unlike: bool,
}

impl std::fmt::Display for Typicality {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.unlike, self.percentile) {
            (false, _) => f.write_str("like the training data"),
            (true, 100.0) => f.write_str("unlike the training data (beyond all of it)"),
            // Never rounded up.
            (true, p) => {
                write!(f, "unlike the training data (beyond {:.1} % of it)", (10.0 * p).floor() / 10.0)
            }
        }
    }
}

/// Where and with which noise images are looked at: the same for every image, wherever it lies in a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Protocol {
    timesteps: Vec<usize>,
    seed: Seed,
}

impl Protocol {
    /// Two timesteps: a hundredth and a quarter of the chain.
    pub fn new(diffusion: &DiffusionConfig) -> Protocol {
        let last = diffusion.diffusion_steps.saturating_sub(1);
        let step = |share: f64| ((share * diffusion.diffusion_steps as f64).round() as usize).min(last);
        Protocol { timesteps: SHARES.map(step).to_vec(), seed: Seed(0) }
    }

    /// The timesteps of the whole chain.
    pub fn timesteps(&self) -> &[usize] {
        &self.timesteps
    }

    /// An image's pixels noised for each timestep, one after the other: at the k-th with the noise of row k.
    ///
    /// # Errors
    /// [`Error::Config`] for a timestep beyond the schedule.
    pub fn noised(&self, schedule: &Schedule, image: &[f32]) -> Result<Vec<f32>> {
        let mut all = Vec::with_capacity(self.timesteps.len() * image.len());
        for (slot, timestep) in self.timesteps.iter().enumerate() {
            if *timestep >= schedule.len() {
                let detail = format!("timestep {timestep} of a chain of {}", schedule.len());
                return Err(Error::config("typicality", detail));
            }
            let [kept, noised] = schedule.q_sample_coefficients(*timestep);
            all.extend(image.iter().zip(self.noise(slot, image.len())).map(|(x, e)| kept * x + noised * e));
        }
        Ok(all)
    }

    /// Numbers of a profile.
    pub fn profile_len(&self) -> usize {
        NUMBERS * self.timesteps.len()
    }

    /// The profile of an image \[C,H,W\] of `size` pixels a side, whose noise the network predicted at each timestep.
    ///
    /// # Errors
    /// [`Error::Shape`] where those are not one image for each timestep; [`Error::NotFinite`].
    pub fn profile(&self, predicted: &[f32], size: usize) -> Result<Vec<f64>> {
        let (len, plane) = (predicted.len() / self.timesteps.len(), size * size);
        if len == 0
            || plane == 0
            || !len.is_multiple_of(plane)
            || len * self.timesteps.len() != predicted.len()
        {
            let detail = format!(
                "{} values for {} timesteps of images of {size}×{size}",
                predicted.len(),
                self.timesteps.len()
            );
            return Err(Error::shape("typicality", detail));
        }
        let edge = (size / BORDER).max(1);
        let inside = |at: usize| at >= edge && at + edge < size;
        let mut profile = Vec::with_capacity(self.profile_len());
        for (slot, row) in predicted.chunks_exact(len).enumerate() {
            let (mut sum, mut squares, mut border, mut border_count) = (0.0, 0.0, 0.0, 0usize);
            for (i, (found, noise)) in row.iter().zip(self.noise(slot, len)).enumerate() {
                let error = f64::from(*found) - f64::from(noise);
                (sum, squares) = (sum + error, squares + error * error);
                if !(inside(i % size) && inside(i / size % size)) {
                    (border, border_count) = (border + error * error, border_count + 1);
                }
            }
            let mean_square = squares / len as f64;
            if !mean_square.is_finite() {
                let detail = format!("the noise error at timestep {}", self.timesteps[slot]);
                return Err(Error::NotFinite { detail });
            }
            let [whole, border] = [mean_square, border / border_count as f64].map(|v| v.max(LEAST_ERROR));
            profile.extend([whole.ln(), border.ln(), sum / len as f64 / whole.sqrt()]);
        }
        Ok(profile)
    }

    fn noise(&self, slot: usize, len: usize) -> Vec<f32> {
        let mut noise = vec![0.0; len];
        normal_fill(self.seed, Stream::TrainNoise, 0, slot as u32, &mut noise);
        noise
    }
}

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
fn level(i: usize) -> f64 {
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
struct File {
    version: u32,
    timesteps: Vec<usize>,
    seed: u64,
    images: u64,
    mean: Vec<f64>,
    covariance: Vec<f64>,
    scores: Vec<f64>,
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
        if !mean.iter().chain(&covariance).chain(&scores).all(|v| v.is_finite()) {
            return Err("holds NaN or infinity".into());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::uniform;

    /// Profiles whose first two numbers go together: a common part and a little of each one's own.
    fn profiles(count: usize, seed: u64) -> Vec<Vec<f64>> {
        let mut numbers = vec![0.0; 4 * count];
        normal_fill(Seed(seed), Stream::TrainNoise, 0, 0, &mut numbers);
        let row = |n: &[f32]| {
            let [common, a, b, c] = [n[0], n[1], n[2], n[3]].map(f64::from);
            vec![-3.0 + 0.5 * common + 0.05 * a, -5.0 + 0.5 * common + 0.05 * b, 0.1 * c]
        };
        numbers.chunks_exact(4).map(row).collect()
    }

    fn protocol() -> Protocol {
        Protocol { timesteps: vec![10], seed: Seed(0) }
    }

    fn reference() -> Reference {
        Reference::new(protocol(), &profiles(4000, 1)).unwrap()
    }

    #[test]
    fn percentiles_of_images_like_the_training_data_are_uniform() {
        let reference = reference();
        for (seed, slack) in [(1, 0.003), (2, 0.03)] {
            let mut found: Vec<f64> = profiles(4000, seed)
                .iter()
                .map(|profile| reference.typicality(profile).unwrap().percentile / 100.0)
                .collect();
            found.sort_by(f64::total_cmp);
            // Kolmogorov and Smirnov's distance from the uniform distribution.
            let far =
                found.iter().enumerate().map(|(i, p)| (p - i as f64 / 4000.0).abs()).fold(0.0, f64::max);
            assert!(far < slack, "seed {seed}: {far}");
            let unlike = found.iter().filter(|p| 100.0 * **p > UNLIKE).count();
            assert!((8..40).contains(&unlike), "seed {seed}: {unlike} of 4000, nominal 20");
        }
    }

    #[test]
    fn too_large_too_small_and_out_of_proportion_are_unlike() {
        let reference = reference();
        let unlike = |[a, b]: [f64; 2]| reference.typicality(&[a, b, 0.0]).unwrap();
        assert!(!unlike([-3.0, -5.0]).unlike && !unlike([-2.5, -4.5]).unlike);
        // Both numbers of the third are well within their own range.
        for profile in [[0.0, -2.0], [-6.0, -8.0], [-2.7, -5.3]] {
            let found = unlike(profile);
            assert!(found.unlike && found.percentile == 100.0, "{profile:?}: {found:?}");
            assert_eq!(found.to_string(), "unlike the training data (beyond all of it)");
        }
        let words = Typicality { percentile: 99.97, unlike: true }.to_string();
        assert_eq!(words, "unlike the training data (beyond 99.9 % of it)");
        assert!(
            reference.typicality(&[0.0]).is_err() && reference.typicality(&[f64::NAN, 0.0, 0.0]).is_err()
        );
    }

    #[test]
    fn the_score_is_the_distance_by_hand() {
        // Covariance [[4, 2], [2, 5]] of the first two: its inverse is [[5, −2], [−2, 4]] / 16. The third is on its own.
        let scores: Vec<f64> = (0..LEVELS).map(level).collect();
        let file = File {
            version: 1,
            timesteps: vec![1],
            seed: 0,
            images: 100,
            mean: vec![1.0, -1.0, 3.0],
            covariance: vec![4.0, 2.0, 0.0, 2.0, 5.0, 0.0, 0.0, 0.0, 9.0],
            scores,
        };
        let reference = Reference::try_from(file).unwrap();
        let [x, y, z] = [2.0f64, 4.0, 6.0];
        let by_hand = ((5.0 * x * x - 4.0 * x * y + 4.0 * y * y) / 16.0 + z * z / 9.0).sqrt();
        let found = reference.typicality(&[1.0 + x, -1.0 + y, 3.0 + z]).unwrap();
        assert!((found.percentile - by_hand).abs() < 1e-12, "the score of each percentile is itself here");
    }

    #[test]
    fn a_profile_is_errors_and_their_mean() {
        let schedule = Schedule::new(&DiffusionConfig::default()).unwrap();
        let protocol = Protocol::new(&DiffusionConfig::default());
        // Two channels of 4 × 4 pixels: the border is one pixel wide.
        let mut image = vec![0.0; 32];
        uniform(Seed(3), Stream::Init, 0, 0, &mut image);
        let noised = protocol.noised(&schedule, &image).unwrap();
        // A network that takes the noised image itself for the noise.
        let profile = protocol.profile(&noised, 4).unwrap();
        for (slot, timestep) in protocol.timesteps().iter().enumerate() {
            let mut noise = vec![0.0; 32];
            normal_fill(Seed(0), Stream::TrainNoise, 0, slot as u32, &mut noise);
            let [kept, share] = schedule.q_sample_coefficients(*timestep).map(f64::from);
            let error = |i: &usize| {
                let e = f64::from(noise[*i]);
                kept * f64::from(image[*i]) + share * e - e
            };
            let all: Vec<f64> = (0..32).map(|i| error(&i)).collect();
            let border: Vec<f64> =
                (0..32).filter(|i| ![5, 6, 9, 10].contains(&(i % 16))).map(|i| error(&i)).collect();
            let square = |errors: &[f64]| errors.iter().map(|e| e * e).sum::<f64>() / errors.len() as f64;
            let mean = all.iter().sum::<f64>() / 32.0;
            let expected = [square(&all).ln(), square(&border).ln(), mean / square(&all).sqrt()];
            for (found, expected) in profile[3 * slot..].iter().zip(expected) {
                assert!((found - expected).abs() < 1e-5, "{slot}: {found} {expected}");
            }
        }
        assert_eq!(profile.len(), protocol.profile_len());
        assert!(protocol.profile(&noised[1..], 4).is_err() && protocol.profile(&noised, 5).is_err());
        assert!(matches!(protocol.profile(&[f32::NAN; 2], 1), Err(Error::NotFinite { .. })));
        let short = Schedule::new(&DiffusionConfig { diffusion_steps: 100, ..Default::default() }).unwrap();
        assert!(protocol.noised(&short, &image).is_err());
        for steps in [1, 2, 7, 4000] {
            let config = DiffusionConfig { diffusion_steps: steps, ..Default::default() };
            assert!(Protocol::new(&config).timesteps().iter().all(|t| *t < steps));
        }
    }

    #[test]
    fn files_are_read_as_written_and_malformed_ones_refused() {
        let written = reference();
        let text = serde_json::to_string(&written).unwrap();
        assert_eq!(parse(&text).unwrap(), Some(written));
        assert!(text.len() < 3000, "{}", text.len());
        let good: serde_json::Value = serde_json::from_str(&text).unwrap();
        let change = |key: &str, value: serde_json::Value| {
            let mut file = good.clone();
            file[key] = value;
            parse(&file.to_string())
        };
        assert_eq!(change("version", 2.into()).unwrap(), None, "of a later version nothing is known");
        let scores = || good["scores"].as_array().unwrap().clone();
        let mut unsorted = scores();
        unsorted.swap(3, 90);
        let mut negative = scores();
        negative[0] = (-0.5).into();
        let cases = [
            ("version", 0.into(), "version"),
            ("scores", unsorted.into(), "not in order"),
            ("scores", negative.into(), "not in order"),
            ("scores", scores()[1..].to_vec().into(), "109 scores"),
            ("scores", serde_json::Value::Null, "null"),
            ("mean", vec![0.0; 2].into(), "2 means"),
            ("mean", vec![serde_json::Value::Null; 3].into(), "null"),
            ("covariance", vec![1.0; 3].into(), "3 covariances"),
            ("covariance", vec![1.0, 0.5, 0.0, 0.4, 1.0, 0.0, 0.0, 0.0, 1.0].into(), "symmetric"),
            ("covariance", vec![1.0, 2.0, 0.0, 2.0, 1.0, 0.0, 0.0, 0.0, 1.0].into(), "positive definite"),
            ("covariance", vec![0.0; 9].into(), "positive definite"),
            ("timesteps", Vec::<u64>::new().into(), "0 timesteps"),
            ("timesteps", vec![1; 17].into(), "17 timesteps"),
            ("further", 1.into(), "further"),
        ];
        for (key, value, word) in cases {
            let error = change(key, value).unwrap_err();
            assert!(error.contains(word), "{key}: {error}");
        }
        assert!(parse(&text.replacen("\"mean\":[-", "\"mean\":[1e999,-", 1)).is_err());
        for few in [0, 1, LEAST_IMAGES - 1] {
            assert!(Reference::new(protocol(), &profiles(few, 1)).is_err());
        }
        // Images that are all alike: what differs by more than a few per cent is unlike.
        let alike = Reference::new(protocol(), &vec![vec![-3.0, -4.0, 0.0]; 100]).unwrap();
        assert!(
            !alike.typicality(&[-3.0, -4.0, 0.0]).unwrap().unlike
                && alike.typicality(&[-2.0, -4.0, 0.0]).unwrap().unlike
        );
        let nan = vec![vec![f64::NAN, 0.0, 0.0]; 100];
        assert!(matches!(Reference::new(protocol(), &nan), Err(Error::NotFinite { .. })));
    }
}
