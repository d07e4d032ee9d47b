//! Scores of how unlike the training data images are, and how well they tell one set of images from another.
//!
//! Each is higher the more unlike an image is. What the classifier is unsure of, the free energy of its logits (Liu et al.,
//! "Energy-based out-of-distribution detection", 2020), and how badly the network tells the noise in an image.

use crate::data::Dataset;
use crate::io::output::progress;
use crate::metrics::roc::{auroc, false_positives_at};
use duet::diffusion::{DiffusionConfig, Schedule};
use duet::infer::{ImageClassifier, NoisePredictor};
use duet::model::{Head, WeightSet};
use duet::rng::{Seed, Stream, normal_fill};
use duet::typicality::Protocol;
use duet::weights::Weights;
use duet::{Error, Result};
use serde::Serialize;

/// Share of the images of the training data's kind that a threshold accepts, where false alarms are counted (FPR95).
const ACCEPTED: f64 = 0.95;

/// Scores of the same images, one of each in their order.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Scores {
    /// Free energy at temperature 1: −ln Σ exp(logit) of one class per image; of any number of labels the sum of each label's,
    /// −Σ ln(1 + exp(logit)) (Wang et al., "Can multi-label classification networks know what they don't know?", 2021).
    pub energy: Vec<f64>,
    /// Mean squared error of the predicted noise, averaged over the timesteps; `None` where none were to be looked at.
    pub noise_error: Option<Vec<f64>>,
    /// 1 − the largest probability, the baseline (Hendrycks and Gimpel 2017).
    pub doubt: Vec<f64>,
}

/// How well a score tells images that are unlike the training data from images that are like them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Apart {
    /// How probable it is that one of the others has the higher score, ties counting half.
    pub auroc: f64,
    /// Share of the others that pass where 95 % of the images of the training data's kind do.
    pub fpr95: f64,
}

/// The same for each score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// By the free energy.
    pub energy: Apart,
    /// By the noise error, where both have one.
    pub noise_error: Option<Apart>,
    /// By 1 − the largest probability.
    pub doubt: Apart,
}

/// A model that scores images.
pub struct Scorer {
    classifier: ImageClassifier,
    head: Head,
    classes: usize,
    image_len: usize,
    noise: Option<Noise>,
    batch: usize,
}

/// How the noise error is measured.
struct Noise {
    predictor: NoisePredictor,
    schedule: Schedule,
    timesteps: Vec<usize>,
    seed: Seed,
}

/// The timesteps at which a model's pages tell whether a picture is like its training data: a hundredth and a quarter of the
/// chain.
pub fn default_timesteps(diffusion: &DiffusionConfig) -> Vec<usize> {
    Protocol::new(diffusion).timesteps().to_vec()
}

impl Noise {
    /// Mean squared errors over the timesteps, of images \[N,C,H,W\] of `len` values: every image has the same noise at a timestep.
    fn errors(&self, images: &[f32], len: usize) -> Result<Vec<f64>> {
        let count = images.len() / len;
        let mut sums = vec![0.0; count];
        for (slot, timestep) in self.timesteps.iter().enumerate() {
            let [kept, noised] = self.schedule.q_sample_coefficients(*timestep)?;
            let mut noise = vec![0.0; len];
            normal_fill(self.seed, Stream::TrainNoise, 0, slot as u32, &mut noise);
            let mix = |image: &[f32]| image.iter().zip(&noise).map(|(x, e)| kept * x + noised * e).collect();
            let x_t: Vec<f32> =
                images.chunks_exact(len).flat_map(|image| -> Vec<f32> { mix(image) }).collect();
            let found = pollster::block_on(self.predictor.predict(&x_t, &vec![*timestep; count]))?;
            for (sum, row) in sums.iter_mut().zip(found.chunks_exact(len)) {
                let squares = row.iter().zip(&noise).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
                *sum += squares.sum::<f64>() / len as f64;
            }
        }
        Ok(sums.into_iter().map(|sum| sum / self.timesteps.len() as f64).collect())
    }
}

/// ln(1 + eˣ).
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The free energy of one image's logits.
fn energy(head: Head, logits: &[f32]) -> f64 {
    let values = || logits.iter().map(|value| f64::from(*value));
    match head {
        Head::Multiclass => {
            let largest = values().fold(f64::NEG_INFINITY, f64::max);
            -(largest + values().map(|value| (value - largest).exp()).sum::<f64>().ln())
        }
        Head::MultiLabel => -values().map(softplus).sum::<f64>(),
    }
}

impl Scorer {
    /// Compiles and loads, with the weights of `set`, for `batch` images at a time, or as many as the device can hold. The noise
    /// error is the mean over `timesteps` of the whole chain, with noise by `seed`; none are given where it is not to be measured,
    /// as of a classifier alone.
    ///
    /// # Errors
    /// [`Error::Config`] for a timestep past the chain's end; device errors.
    pub fn new(
        weights: &Weights,
        diffusion: &DiffusionConfig,
        set: WeightSet,
        batch: usize,
        timesteps: &[usize],
        seed: Seed,
    ) -> Result<Scorer> {
        let config = &weights.model().config;
        let schedule = Schedule::new(diffusion)?;
        if let Some(bad) = timesteps.iter().find(|t| **t >= schedule.len()) {
            return Err(Error::config("timesteps", format!("must be below {}, is {bad}", schedule.len())));
        }
        let noise = match timesteps.is_empty() {
            true => None,
            false => {
                let predictor = pollster::block_on(NoisePredictor::new(weights, diffusion, batch, set))?;
                Some(Noise { predictor, schedule, timesteps: timesteps.to_vec(), seed })
            }
        };
        Ok(Scorer {
            classifier: pollster::block_on(ImageClassifier::new(weights, batch, set))?,
            head: config.head,
            classes: config.num_classes,
            image_len: config.images(1).len(),
            noise,
            batch: batch.max(1),
        })
    }

    /// Scores of images \[N,C,H,W\] in −1..1; an image's do not depend on the others.
    ///
    /// # Errors
    /// [`Error::Shape`] for part of an image; [`Error::NotFinite`]; device errors.
    pub fn images(&self, images: &[f32]) -> Result<Scores> {
        let logits = pollster::block_on(self.classifier.logits(images))?;
        let probabilities = self.head.probabilities(&logits, self.classes)?;
        let largest = |row: &[f32]| row.iter().copied().fold(0.0, f32::max);
        Ok(Scores {
            energy: logits.chunks_exact(self.classes).map(|row| energy(self.head, row)).collect(),
            noise_error: self.noise.as_ref().map(|noise| noise.errors(images, self.image_len)).transpose()?,
            doubt: probabilities
                .chunks_exact(self.classes)
                .map(|row| 1.0 - f64::from(largest(row)))
                .collect(),
        })
    }

    /// Scores of `count` images of [`Dataset::spread`], a batch after the other.
    ///
    /// # Errors
    /// As [`Scorer::images`]; images of another shape than the model's.
    pub fn data(&self, data: &Dataset, count: usize, quiet: bool) -> Result<Scores> {
        if data.image_len() != self.image_len {
            let detail =
                format!("images of {} values, the model's have {}", data.image_len(), self.image_len);
            return Err(Error::shape("unlike", detail));
        }
        let rows = data.spread(count);
        let mut all = Scores { noise_error: self.noise.as_ref().map(|_| Vec::new()), ..Scores::default() };
        let bar = progress(rows.len() as u64, 0, "scoring {wide_bar} {pos}/{len} {eta}", quiet);
        for part in rows.chunks(self.batch) {
            let found = self.images(&data.images_f32(part))?;
            all.energy.extend(found.energy);
            all.doubt.extend(found.doubt);
            if let (Some(all), Some(found)) = (&mut all.noise_error, found.noise_error) {
                all.extend(found);
            }
            bar.inc(part.len() as u64);
        }
        bar.finish_and_clear();
        Ok(all)
    }
}

impl Apart {
    /// Of the scores of images like the training data and of others.
    fn of(like: &[f64], unlike: &[f64]) -> Result<Apart> {
        // Accepted is what lies below a threshold: the like ones are to.
        let lower = |scores: &[f64]| scores.iter().map(|score| -score).collect::<Vec<_>>();
        let fpr95 = false_positives_at(ACCEPTED, &lower(like), &lower(unlike))?;
        Ok(Apart { auroc: auroc(unlike, like)?, fpr95 })
    }
}

/// How well each score tells `unlike` images from those that are `like` the training data, as its test images are.
///
/// # Errors
/// [`Error::Config`] where either has no images.
pub fn compare(like: &Scores, unlike: &Scores) -> Result<Comparison> {
    let noise = like.noise_error.as_ref().zip(unlike.noise_error.as_ref());
    Ok(Comparison {
        energy: Apart::of(&like.energy, &unlike.energy)?,
        noise_error: noise.map(|(like, unlike)| Apart::of(like, unlike)).transpose()?,
        doubt: Apart::of(&like.doubt, &unlike.doubt)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn energies_by_hand() {
        let close = |got: f64, want: f64| assert!((got - want).abs() < 1e-9, "{got} instead of {want}");
        // e⁰ + e⁰, and e^ln3 + e⁰.
        close(energy(Head::Multiclass, &[0.0, 0.0]), -2f64.ln());
        close(energy(Head::Multiclass, &[1000.0, 0.0]), -1000.0);
        close(energy(Head::MultiLabel, &[0.0, 0.0]), -2.0 * 2f64.ln());
        close(energy(Head::MultiLabel, &[1000.0, -1000.0]), -1000.0);
    }

    #[test]
    fn the_higher_score_is_the_unlike_one() {
        let scores = |energy: &[f64], noise_error: Option<&[f64]>| Scores {
            energy: energy.to_vec(),
            noise_error: noise_error.map(<[f64]>::to_vec),
            doubt: vec![0.5; energy.len()],
        };
        let like = scores(&[-9.0, -8.0, -7.0, -1.0], Some(&[0.1; 4]));
        let unlike = scores(&[-2.0, -3.0], Some(&[0.05, 0.2]));
        let found = compare(&like, &unlike).unwrap();
        // Either of two is above three of four. Accepting 95 % of four is accepting all, up to −1.
        assert_eq!(found.energy, Apart { auroc: 0.75, fpr95: 1.0 });
        assert_eq!(found.noise_error, Some(Apart { auroc: 0.5, fpr95: 0.5 }));
        assert_eq!(found.doubt, Apart { auroc: 0.5, fpr95: 1.0 });
        assert_eq!(compare(&like, &scores(&[1.0], None)).unwrap().noise_error, None);
        assert!(compare(&like, &Scores::default()).is_err());
    }
}
