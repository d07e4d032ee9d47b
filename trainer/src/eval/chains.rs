//! Guided chains of many images, and what the classifier thinks on the way.

use crate::cli::ChainArgs;
use crate::io::session::{Session, guidance, solver};
use duet::infer::{ImageClassifier, ImageFeatures};
use duet::model::{Labels, argmax};
use duet::rng::Seed;
use duet::sampling::{ChainOptions, Sampler, StepSpec, Watch};
use duet::{Error, Result};
use std::ops::{ControlFlow, Range};
use std::time::{Duration, Instant};

/// Runs chains from the noise of `seed` until there are `count` images, as [`from_noise_some`].
///
/// # Errors
/// As it.
pub fn from_noise(
    sampler: &Sampler,
    count: usize,
    chain: (Seed, f32),
    labels: impl FnMut(&[usize]) -> Result<Labels>,
    on_step: impl FnMut() -> ControlFlow<()>,
    take: impl FnMut(&[f32], Range<usize>) -> Result<()>,
) -> Result<()> {
    from_noise_some(sampler, (count, 0..count), chain, labels, on_step, take)
}

/// Runs chains from the noise of `seed` until there are the images `range` of `count`, guided with `alpha` towards the labels of each batch's rows. The
/// last batch is filled up with images like the last one, which are dropped. `labels` is asked when the noise is there, and may change it;
/// `on_step` hears of each step of a batch and may stop it, `take` is given the images \[N,C,H,W\] of each batch and their rows.
///
/// # Errors
/// [`Error::Aborted`]; those of `labels` and `take`; device errors.
pub fn from_noise_some(
    sampler: &Sampler,
    (count, range): (usize, Range<usize>),
    (seed, alpha): (Seed, f32),
    mut labels: impl FnMut(&[usize]) -> Result<Labels>,
    mut on_step: impl FnMut() -> ControlFlow<()>,
    mut take: impl FnMut(&[f32], Range<usize>) -> Result<()>,
) -> Result<()> {
    let (batch, steps) = (sampler.batch(), sampler.schedule().len());
    for first in range.clone().step_by(batch) {
        let kept = first..range.end.min(first + batch);
        let rows: Vec<usize> = (first..first + batch).map(|row| row.min(count - 1)).collect();
        let first_row = first as u32;
        sampler.start_from_noise(seed, first_row)?;
        let options = ChainOptions { seed, first_row, labels: labels(&rows)?, alpha };
        let mut step = |_| on_step();
        pollster::block_on(sampler.run(steps, &options, Watch::Progress(&mut step)))?;
        let made = pollster::block_on(sampler.get_images())?;
        take(&made[..kept.len() * (made.len() / batch)], kept)?;
    }
    Ok(())
}

/// How many rows of scores \[N,K\] are highest at their label.
///
/// # Errors
/// Scores that are no whole rows.
pub fn recognised(scores: &[f32], classes: usize, labels: &[usize]) -> Result<usize> {
    Ok(argmax(scores, classes)?.iter().zip(labels).filter(|(answer, label)| answer == label).count())
}

/// What is compiled once for all step sizes and seeds.
pub struct Chains {
    sampler: Sampler,
    timesteps: Vec<f32>,
    classifier: ImageClassifier,
    features: ImageFeatures,
    config: duet::model::ModelConfig,
    /// Class of each image: all of the first class, then all of the second, …
    labels: Vec<usize>,
    batch: usize,
}

/// What came of one step size and seed.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The step size.
    pub alpha: f32,
    /// The images \[N,C,H,W\], clipped to −1..1.
    pub images: Vec<f32>,
    /// Probability of its class for each image, by step: of x_t at t before each step, at last of the finished image at
    /// t = 0.
    pub curve: Vec<Vec<f32>>,
    /// Images whose most probable class is theirs.
    pub recognised: usize,
    /// How long the chain of an image took, as one of a batch: of the fastest, since what else a machine does only adds to it.
    pub seconds_per_image: f64,
}

impl Chains {
    /// Compiles and loads, for `per_class` images of each of the model's `classes`, up to `batch` at a time.
    ///
    /// # Errors
    /// A bad chain; device errors.
    pub fn new(
        session: &Session,
        chain: &ChainArgs,
        classes: &[usize],
        per_class: usize,
        batch: usize,
    ) -> Result<Chains> {
        let config = session.config().clone();
        let labels: Vec<usize> =
            classes.iter().flat_map(|class| std::iter::repeat_n(*class, per_class)).collect();
        let batch = batch.min(labels.len());
        let spec = StepSpec {
            solver: solver(chain)?,
            guidance: guidance(chain),
            clip: !chain.no_clip,
            force: chain.force,
            trace: true,
            ..StepSpec::new(batch)
        };
        let (weights, diffusion) = (&session.weights, &session.checkpoint.diffusion);
        let sampler = Sampler::fitting(weights, diffusion, &chain.steps, spec, session.set);
        let sampler = pollster::block_on(sampler)?;
        let batch = sampler.batch();
        let indices: Vec<usize> = (0..sampler.schedule().len()).rev().collect();
        let mut timesteps = sampler.schedule().model_timesteps(&indices)?;
        timesteps.push(0.0);
        Ok(Chains {
            sampler,
            timesteps,
            classifier: pollster::block_on(ImageClassifier::new(weights, batch, session.set))?,
            features: pollster::block_on(ImageFeatures::new(weights, batch, session.set))?,
            config,
            labels,
            batch,
        })
    }

    /// Class of each image.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// The classes there are images of.
    pub fn classes(&self) -> impl Iterator<Item = usize> + '_ {
        let first = |i: &usize| *i == 0 || self.labels[*i] != self.labels[*i - 1];
        (0..self.labels.len()).filter(first).map(|i| self.labels[i])
    }

    /// The network's timestep before each step, from the noisiest, and 0 for the finished image.
    pub fn timesteps(&self) -> Vec<f32> {
        self.timesteps.clone()
    }

    /// Steps of all batches of one step size and seed.
    pub fn work(&self) -> usize {
        self.labels.len().div_ceil(self.batch) * self.sampler.schedule().len()
    }

    /// Generates all images with one step size from the noise of `seed`, which is the same for every step size, solver and number of
    /// steps. `on_step` hears of each step of a batch and may stop it.
    ///
    /// # Errors
    /// [`Error::Aborted`]; [`Error::NotFinite`] where the step size is too large; device errors.
    pub fn generate(
        &self,
        seed: Seed,
        alpha: f32,
        on_step: impl FnMut() -> ControlFlow<()>,
    ) -> Result<Generated> {
        let steps = self.sampler.schedule().len();
        let mut images = Vec::new();
        let mut curve = vec![Vec::new(); steps + 1];
        let labels =
            |rows: &[usize]| Ok(Labels::Classes(rows.iter().map(|row| self.labels[*row] as u32).collect()));
        let (mut begun, mut fastest) = (Instant::now(), Duration::MAX);
        let take = |made: &[f32], rows: Range<usize>| {
            fastest = fastest.min(begun.elapsed());
            let logits = pollster::block_on(self.sampler.trace(steps))?;
            for (row, logits) in curve.iter_mut().zip(&logits) {
                row.extend(self.of_labels(logits, &self.labels[rows.clone()])?);
            }
            // Before clipping, which would make an infinite pixel an honest white one.
            if made.iter().any(|v| !v.is_finite()) {
                let detail = format!("sampling with the step size {alpha} gave NaN; leave it out");
                return Err(Error::NotFinite { detail });
            }
            images.extend(made.iter().map(|v| v.clamp(-1.0, 1.0)));
            begun = Instant::now();
            Ok(())
        };
        from_noise(&self.sampler, self.labels.len(), (seed, alpha), labels, on_step, take)?;
        let logits = pollster::block_on(self.classifier.logits(&images))?;
        curve[steps] = self.of_labels(&logits, &self.labels)?;
        let recognised = recognised(&logits, self.config.num_classes, &self.labels)?;
        // A batch that is not full is filled up, and takes as long.
        let seconds_per_image = fastest.as_secs_f64() / self.batch as f64;
        Ok(Generated { alpha, images, curve, recognised, seconds_per_image })
    }

    /// How many images \[N,C,H,W\] the model's own classifier takes for what they are.
    ///
    /// # Errors
    /// Device errors.
    pub fn recognised(&self, images: &[f32], labels: &[usize]) -> Result<usize> {
        let logits = pollster::block_on(self.classifier.logits(images))?;
        recognised(&logits, self.config.num_classes, labels)
    }

    /// Probability of each image's class.
    fn of_labels(&self, logits: &[f32], labels: &[usize]) -> Result<Vec<f32>> {
        let rows = self.config.head.probabilities(logits, self.config.num_classes)?;
        Ok(rows.chunks_exact(self.config.num_classes).zip(labels).map(|(row, label)| row[*label]).collect())
    }

    /// The model's own representations of images, and how many numbers each has.
    ///
    /// # Errors
    /// Device errors.
    pub fn features(&self, images: &[f32]) -> Result<(Vec<f32>, usize)> {
        Ok((pollster::block_on(self.features.get(images))?, self.features.columns()))
    }
}
