//! What is found, along the way, of images that training does not see; always with the averaged weights.

use crate::data::{Dataset, Split};
use crate::eval::accuracy::{accuracy, noise_levels, of_noised};
use crate::recipe::{BestBy, Recipe, TrainRecipe};
use duet::infer::{DenoisingError, ImageClassifier, NoisedClassifier};
use duet::model::{Head, Labels, UNLABELLED, WeightSet};
use duet::rng::{Seed, Stream, uniform_u32_below};
use duet::train::ClassifierInput;
use duet::weights::Weights;
use duet::{Error, Result};

/// Images computed at once.
const BATCH: usize = 32;
/// Most images for each of them.
const LEVEL_IMAGES: usize = 128;

/// The part that is looked at along the way.
pub struct Part<'a> {
    /// Its name, with which its figures begin.
    pub name: &'static str,
    /// Its images.
    pub data: &'a Dataset,
    /// How many of them are looked at.
    pub count: usize,
}

impl<'a> Part<'a> {
    /// Of `split`, and of its images as many as the recipe says: the part to choose settings by, where there is one.
    pub fn of(split: &'a Split, train: &TrainRecipe) -> Part<'a> {
        let (name, data) = split.during_training();
        Part::new(name, data, train)
    }

    /// What is tested on, once the run is over.
    pub fn tested(split: &'a Split, train: &TrainRecipe) -> Part<'a> {
        Part::new("test", &split.test, train)
    }

    fn new(name: &'static str, data: &'a Dataset, train: &TrainRecipe) -> Part<'a> {
        let count = if train.eval_images == 0 { data.len() } else { train.eval_images.min(data.len()) };
        Part { name, data, count }
    }

    /// Its accuracy with its name.
    ///
    /// # Errors
    /// Labels that do not fit the model; device errors.
    pub fn accuracy(&self, weights: &Weights) -> Result<(String, f64)> {
        let right = accuracy(weights, WeightSet::Averaged, self.data, self.count, BATCH, true)?;
        Ok((self.figure("accuracy"), right.share))
    }

    /// The name of its figure `figure`.
    pub fn figure(&self, figure: &str) -> String {
        format!("{}_{figure}", self.name)
    }

    /// The name of its accuracy on images noised to step `t`.
    fn at(&self, t: usize) -> String {
        self.figure(&format!("accuracy_t{t}"))
    }
}

/// Accuracy, by noise level too where the classifier sees noised images, and the loss where checkpoints are chosen by it; each
/// with its name.
///
/// # Errors
/// Labels that do not fit the model; [`Error::NotFinite`]; device errors.
pub fn evaluate(weights: &Weights, recipe: &Recipe, part: &Part<'_>) -> Result<Vec<(String, f64)>> {
    let mut found = vec![part.accuracy(weights)?];
    let noised = matches!(recipe.train.classifier_input, ClassifierInput::Noised | ClassifierInput::Both);
    let classifier = match noised {
        true => {
            let new = NoisedClassifier::new(weights, &recipe.diffusion, BATCH, WeightSet::Averaged);
            Some(pollster::block_on(new)?)
        }
        false => None,
    };
    if let Some(classifier) = &classifier {
        found.extend(by_noise(classifier, recipe, part)?);
    }
    if recipe.train.keep_best == Some(BestBy::Loss) {
        found.push((part.figure("loss"), loss(weights, classifier.as_ref(), recipe, part)?));
    }
    Ok(found)
}

/// Accuracy on images noised to the middle of each part of the chain, with the same noise each time.
fn by_noise(classifier: &NoisedClassifier, recipe: &Recipe, part: &Part<'_>) -> Result<Vec<(String, f64)>> {
    let rows = part.data.spread(part.count.min(LEVEL_IMAGES));
    let mut found = Vec::new();
    for t in noise_levels(recipe.diffusion.diffusion_steps) {
        let at = (t, Seed(recipe.train.seed));
        found.push((part.at(t), of_noised(classifier, &recipe.model, part.data, &rows, at)?));
    }
    Ok(found)
}

/// What training minimises, as a mean over the part's images: the noise error and the classifier's loss of what it sees; without
/// the variational term. Noise and timesteps are the same each time.
fn loss(
    weights: &Weights,
    noised: Option<&NoisedClassifier>,
    recipe: &Recipe,
    part: &Part<'_>,
) -> Result<f64> {
    let (train, classes) = (&recipe.train, recipe.model.num_classes);
    let seed = Seed(train.seed);
    let clean = match train.classifier_input {
        ClassifierInput::Clean | ClassifierInput::Both => {
            Some(pollster::block_on(ImageClassifier::new(weights, BATCH, WeightSet::Averaged))?)
        }
        ClassifierInput::Noised | ClassifierInput::None => None,
    };
    let denoising = match train.classifier_only {
        true => None,
        false => {
            let new = DenoisingError::new(weights, &recipe.diffusion, BATCH, WeightSet::Averaged);
            Some(pollster::block_on(new)?)
        }
    };
    let weight = if train.classifier_only { 1.0 } else { f64::from(train.classifier_loss_scaling) };
    let (mut mse, mut cross) = (Mean::default(), Mean::default());
    let mut cross_noised = Mean::default();
    let rows = part.data.spread(part.count);
    for (number, rows) in rows.chunks(BATCH).enumerate() {
        let images = part.data.images_f32(rows);
        let labels = part.data.labels.pick(rows, part.data.class_names.len())?;
        let first = (number * BATCH) as u32;
        let steps = recipe.diffusion.diffusion_steps as u32;
        let time = |row: u32| uniform_u32_below(steps, seed, Stream::Timestep, 0, row) as usize;
        let times: Vec<usize> = (first..first + rows.len() as u32).map(time).collect();
        if let Some(denoising) = &denoising {
            let errors = pollster::block_on(denoising.measure(&images, &times, seed, first))?;
            errors.iter().for_each(|error| mse.add(f64::from(*error)));
        }
        if let Some(clean) = &clean {
            let logits = pollster::block_on(clean.logits(&images))?;
            cross.extend(cross_entropies(recipe.model.head, &labels, &logits, classes)?);
        }
        if let Some(noised) = noised {
            let logits = pollster::block_on(noised.logits(&images, &times, seed, first))?;
            cross_noised.extend(cross_entropies(recipe.model.head, &labels, &logits, classes)?);
        }
    }
    Ok(mse.value() + weight * (cross.value() + cross_noised.value()))
}

/// A mean as it grows; 0 of nothing.
#[derive(Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    fn extend(&mut self, values: Vec<f64>) {
        values.into_iter().for_each(|value| self.add(value));
    }

    fn value(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / self.count as f64 }
    }
}

/// The classifier's loss of each labelled image, of its logits \[N,K\]: cross-entropy, or the mean of binary ones over the labels.
fn cross_entropies(head: Head, labels: &Labels, logits: &[f32], classes: usize) -> Result<Vec<f64>> {
    let rows = logits.chunks_exact(classes.max(1));
    let binary = |z: f64, y: f64| z.max(0.0) - z * y + (-z.abs()).exp().ln_1p();
    let over = |row: &[f32], target: &dyn Fn(usize) -> f64| {
        let sum: f64 = row.iter().enumerate().map(|(k, z)| binary(f64::from(*z), target(k))).sum();
        sum / classes as f64
    };
    match (head, labels) {
        (Head::Multiclass, Labels::Classes(truths)) => {
            let of = |(row, label): (&[f32], &u32)| {
                let truth = f64::from(*row.get(*label as usize)?);
                let most = row.iter().fold(f64::NEG_INFINITY, |most, z| most.max(f64::from(*z)));
                let sum: f64 = row.iter().map(|z| (f64::from(*z) - most).exp()).sum();
                Some(most + sum.ln() - truth)
            };
            Ok(rows.zip(truths).filter(|(_, label)| **label != UNLABELLED).filter_map(of).collect())
        }
        (Head::MultiLabel, Labels::MultiLabel(truths)) => {
            let of = |(row, truth): (&[f32], &[f32])| {
                over(row, &|k| f64::from(truth.get(k).copied().unwrap_or(0.0)))
            };
            Ok(rows.zip(truths.chunks_exact(classes.max(1))).map(of).collect())
        }
        (Head::MultiLabel, Labels::Classes(truths)) => {
            let of = |(row, label): (&[f32], &u32)| over(row, &|k| f64::from(u8::from(k == *label as usize)));
            Ok(rows.zip(truths).map(of).collect())
        }
        (Head::Multiclass, Labels::MultiLabel(_)) => {
            Err(Error::config("head", "the model's does not answer what the data's labels say"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_those_of_the_formulas() {
        let close = |got: &[f64], want: &[f64]| {
            assert!(
                got.len() == want.len() && got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12),
                "{got:?}"
            );
        };
        let ln = f64::ln;
        // Softmax of (ln 1, ln 3) is (1/4, 3/4); shifted by 1000 as well. One image has no label.
        let logits = [0.0, 3f32.ln(), 1000.0, 1000.0, 5.0, 5.0];
        let labels = Labels::Classes(vec![1, 0, UNLABELLED]);
        let got = cross_entropies(Head::Multiclass, &labels, &logits, 2).unwrap();
        let third = f64::from(3f32.ln());
        close(&got, &[ln(1.0 + third.exp()) - third, ln(2.0)]);
        // Sigmoid of ln 3 is 3/4.
        let z = 3f32.ln();
        let want = 0.5 * (ln(1.0 + (-third).exp()) + ln(2.0));
        let targets = Labels::MultiLabel(vec![1.0, 0.0]);
        close(&cross_entropies(Head::MultiLabel, &targets, &[z, 0.0], 2).unwrap(), &[want]);
        close(&cross_entropies(Head::MultiLabel, &Labels::Classes(vec![0]), &[z, 0.0], 2).unwrap(), &[want]);
        assert!(cross_entropies(Head::Multiclass, &targets, &[z, 0.0], 2).is_err());
        assert_eq!(Mean::default().value(), 0.0);
    }
}
