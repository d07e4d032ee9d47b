//! Accuracy on images as a classifier meets them in the wild: noisy, pale, turned.

use super::accuracy::{Accuracy, of_images};
use crate::data::Dataset;
use crate::io::output::progress;
use duet::infer::ImageClassifier;
use duet::model::{ModelConfig, WeightSet};
use duet::rng::{Seed, Stream, normal_fill, uniform_u32_below};
use duet::train::{Augment, Augmentation, Augmenter};
use duet::weights::Weights;
use duet::{Error, Result};
use serde::Serialize;
use std::fmt;

/// What befalls an image, and how badly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", content = "level", rename_all = "snake_case")]
pub enum Corruption {
    /// Gaussian noise of this standard deviation added to values in −1..1, which are then held to −1..1.
    Noise(f64),
    /// Each value's distance from the mid grey (0 in −1..1) multiplied by this, then held to −1..1. A black ground
    /// becomes grey by it.
    Contrast(f64),
    /// Turned about the middle by this many degrees, to which side is drawn for each image; bilinear, and what was outside of the
    /// image has the colour of the data's borders.
    Rotation(f64),
}

/// Three levels of each kind, from mild to severe.
pub const LEVELS: [Corruption; 9] = [
    Corruption::Noise(0.1),
    Corruption::Noise(0.2),
    Corruption::Noise(0.4),
    Corruption::Contrast(0.75),
    Corruption::Contrast(0.5),
    Corruption::Contrast(0.25),
    Corruption::Rotation(15.0),
    Corruption::Rotation(30.0),
    Corruption::Rotation(45.0),
];

impl Corruption {
    /// Its kind: "noise", "contrast" or "rotation".
    pub fn name(self) -> &'static str {
        match self {
            Corruption::Noise(_) => "noise",
            Corruption::Contrast(_) => "contrast",
            Corruption::Rotation(_) => "rotation",
        }
    }

    /// Its level: a standard deviation, a factor, degrees.
    pub fn level(self) -> f64 {
        let (Corruption::Noise(level) | Corruption::Contrast(level) | Corruption::Rotation(level)) = self;
        level
    }

    /// Refuses levels that mean nothing.
    fn check(self) -> Result<()> {
        let most = match self {
            Corruption::Noise(_) => 100.0,
            Corruption::Contrast(_) => 255.0,
            Corruption::Rotation(_) => 180.0,
        };
        if !(0.0..=most).contains(&self.level()) {
            let detail = format!("must be from 0 to {most}, is {}", self.level());
            return Err(Error::config(self.name(), detail));
        }
        Ok(())
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name(), self.level())?;
        f.write_str(if matches!(self, Corruption::Rotation(_)) { "°" } else { "" })
    }
}

/// Corrupts images of a data set: what happens to one depends on the seed and its row alone.
pub struct Corruptor {
    augmenter: Augmenter,
    image_len: usize,
    size: usize,
    batch: usize,
    seed: Seed,
}

/// Nothing but a map of places.
fn turned(map: [f64; 6]) -> Augmentation {
    Augmentation { jitter: None, map: Some(map), contrast: 1.0, sharpness: 1.0, brightness: 0.0, mixed: 0.0 }
}

/// From a place in an image of `size`² that is turned by `degrees`, against the clock as one looks at it, to the place that is seen
/// there.
fn turn(degrees: f64, size: usize) -> [f64; 6] {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let middle = 0.5 * (size as f64 - 1.0);
    [cos, -sin, middle * (1.0 - cos + sin), sin, cos, middle * (1.0 - sin - cos)]
}

impl Corruptor {
    /// For images of a model, on the device where its weights are, `batch` at a time; `border` is the colour around the data's images, a value in −1..1 for
    /// each channel ([`duet::train::Examples::border`]).
    ///
    /// # Errors
    /// A border of another number of channels; device errors.
    pub fn new(weights: &Weights, border: Vec<f64>, batch: usize, seed: Seed) -> Result<Corruptor> {
        let config = &weights.model().config;
        let outside = Augment { border, ..Augment::default() };
        let augmenter = pollster::block_on(Augmenter::new(weights.device(), config, &outside, batch))?;
        Ok(Corruptor { augmenter, image_len: config.images(1).len(), size: config.image_size, batch, seed })
    }

    /// Corrupts images \[N,C,H,W\] in −1..1, which are the data's `rows`.
    ///
    /// # Errors
    /// [`Error::Config`] for a level that means nothing; [`Error::Shape`] where the images are not one for each row; device errors.
    pub fn apply(&self, corruption: Corruption, mut images: Vec<f32>, rows: &[usize]) -> Result<Vec<f32>> {
        corruption.check()?;
        if images.len() != rows.len() * self.image_len {
            let detail = format!("{} values for {} images of {}", images.len(), rows.len(), self.image_len);
            return Err(Error::shape("corrupt", detail));
        }
        match corruption {
            Corruption::Noise(deviation) => {
                let mut noise = vec![0.0; self.image_len];
                for (image, row) in images.chunks_exact_mut(self.image_len).zip(rows) {
                    normal_fill(self.seed, Stream::InitialNoise, 0, *row as u32, &mut noise);
                    let noisy = |(x, e): (&mut f32, &f32)| *x = (*x + deviation as f32 * e).clamp(-1.0, 1.0);
                    image.iter_mut().zip(&noise).for_each(noisy);
                }
                Ok(images)
            }
            Corruption::Contrast(factor) => {
                images.iter_mut().for_each(|x| *x = (*x * factor as f32).clamp(-1.0, 1.0));
                Ok(images)
            }
            Corruption::Rotation(degrees) => self.turn(degrees, &images, rows),
        }
    }

    /// Images turned by so many degrees, either way.
    fn turn(&self, degrees: f64, images: &[f32], rows: &[usize]) -> Result<Vec<f32>> {
        let mut all = Vec::with_capacity(images.len());
        for (part, rows) in images.chunks(self.batch * self.image_len).zip(rows.chunks(self.batch)) {
            let side = |row: &usize| uniform_u32_below(2, self.seed, Stream::Augment, 0, *row as u32);
            let maps = rows.iter().map(|row| match side(row) {
                0 => turn(degrees, self.size),
                _ => turn(-degrees, self.size),
            });
            let mut drawn: Vec<Augmentation> = maps.map(turned).collect();
            // The last batch is filled up with images that are dropped.
            drawn.resize(self.batch, turned(turn(0.0, self.size)));
            let mut padded = part.to_vec();
            padded.resize(self.batch * self.image_len, 0.0);
            let found = pollster::block_on(self.augmenter.apply(&padded, &drawn))?;
            all.extend(found.into_iter().take(part.len()));
        }
        Ok(all)
    }
}

/// Which images, and how.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Test images, of [`Dataset::spread`].
    pub images: usize,
    /// Images at a time.
    pub batch: usize,
    /// Of noise, and of the side to which images are turned.
    pub seed: Seed,
    /// Whether no progress is shown.
    pub quiet: bool,
}

/// Accuracy on test images after each corruption.
///
/// # Errors
/// As [`super::accuracy::accuracy`] and [`Corruptor::apply`].
pub fn accuracies(
    weights: &Weights,
    set: WeightSet,
    test: &Dataset,
    options: Options,
    corruptions: &[Corruption],
) -> Result<Vec<Accuracy>> {
    let config: &ModelConfig = &weights.model().config;
    let batch = options.batch.max(1);
    corruptions.iter().try_for_each(|corruption| corruption.check())?;
    let border = test.examples(config)?.border();
    let corruptor = Corruptor::new(weights, border, batch, options.seed)?;
    let classifier = pollster::block_on(ImageClassifier::new(weights, batch, set))?;
    let rows = test.spread(options.images);
    let steps = (rows.len() * corruptions.len()) as u64;
    let bar = progress(steps, 0, "classifying corrupted images {wide_bar} {pos}/{len} {eta}", options.quiet);
    let of = |corruption: &Corruption| {
        let images = |part: &[usize]| {
            bar.inc(part.len() as u64);
            corruptor.apply(*corruption, test.images_f32(part), part)
        };
        of_images(&classifier, config, test, &rows, batch, images)
    };
    let found = corruptions.iter().map(of).collect();
    bar.finish_and_clear();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_levels() {
        assert_eq!(Corruption::Rotation(30.0).to_string(), "rotation 30°");
        assert_eq!(Corruption::Noise(0.1).to_string(), "noise 0.1");
        assert_eq!((LEVELS[5].name(), LEVELS[5].level()), ("contrast", 0.25));
        assert_eq!(
            serde_json::to_value(Corruption::Contrast(0.5)).unwrap(),
            serde_json::json!({ "kind": "contrast", "level": 0.5 })
        );
        for bad in [Corruption::Noise(-0.1), Corruption::Contrast(f64::NAN), Corruption::Rotation(181.0)] {
            assert!(bad.check().unwrap_err().to_string().contains(bad.name()));
        }
        assert!(LEVELS.iter().all(|level| level.check().is_ok()));
    }

    #[test]
    fn a_quarter_turn_moves_corners_to_corners() {
        let [a, b, c, d, e, f] = turn(90.0, 3);
        let place = |x: f64, y: f64| [(a * x + b * y + c).round(), (d * x + e * y + f).round()];
        // Seen at the left upper corner: what was at the right upper one, for it turned against the clock.
        assert_eq!(place(0.0, 0.0), [2.0, 0.0]);
        assert_eq!(place(1.0, 1.0), [1.0, 1.0]);
        assert_eq!(place(2.0, 0.0), [2.0, 2.0]);
    }
}
