//! An evaluation of images that come batch after batch: sums alone are kept, however many images there are.

use super::calibration::{Calibration, Sums};
use super::confusion::{Confusion, OfClass};
use crate::diffusion::{DiffusionConfig, Prediction};
use crate::error::{Error, Result};
use crate::model::{Head, ModelConfig, UNLABELLED, argmax};
use crate::rng::Seed;
use serde::Serialize;

/// What is measured beside the classifier.
///
/// ```
/// use duet::evaluation::EvaluationOptions;
///
/// // The classifier alone.
/// let options = EvaluationOptions { timesteps: 0, ..EvaluationOptions::default() };
/// assert_eq!(options.noise_images, 200);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvaluationOptions {
    /// At how many timesteps the noise error is measured, see [`evenly_spaced`]; 0: not at all.
    pub timesteps: usize,
    /// Of how many images it is measured, spread over all of them; each costs a pass of the whole network for each timestep.
    pub noise_images: usize,
    /// Seed of the noise.
    pub seed: Seed,
}

impl Default for EvaluationOptions {
    fn default() -> EvaluationOptions {
        EvaluationOptions { timesteps: 10, noise_images: 200, seed: Seed(0) }
    }
}

/// The middles of `count` equal parts of a chain of `steps` steps, from the image's end to the noise's.
///
/// ```
/// assert_eq!(duet::evaluation::evenly_spaced(4, 1000), [125, 375, 625, 875]);
/// ```
pub fn evenly_spaced(count: usize, steps: usize) -> Vec<usize> {
    let (parts, steps) = (2 * count as u64, steps as u64);
    (0..count as u64).map(|part| ((2 * part + 1) * steps / parts) as usize).collect()
}

/// The noise error at a timestep.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct NoiseError {
    /// The timestep of the whole chain.
    pub timestep: usize,
    /// Mean over the images of the mean squared error of what the network predicts: the noise, of most models.
    pub error: f64,
    /// Standard error of that mean; `None` of one image.
    pub standard_error: Option<f64>,
}

/// What an evaluation found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Accuracy, calibration error, the bins behind it.
    pub calibration: Calibration,
    /// What images of each class are taken for.
    pub confusion: Confusion,
    /// Figures of each class.
    pub per_class: Vec<OfClass>,
    /// By timestep, from little noise to much; none where it was not asked for.
    pub noise_error: Vec<NoiseError>,
    /// Images that it is of.
    pub noise_images: usize,
    /// How all of it was measured, in a sentence that belongs beside the figures.
    pub protocol: String,
}

/// Sums over images that come batch after batch.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::diffusion::DiffusionConfig;
/// use duet::evaluation::{Evaluation, EvaluationOptions};
/// use duet::model::ModelConfig;
///
/// let config = ModelConfig { num_classes: 2, ..ModelConfig::default() };
/// let options = EvaluationOptions { timesteps: 2, noise_images: 1, ..EvaluationOptions::default() };
/// let mut evaluation = Evaluation::new(&config, &DiffusionConfig::default(), 2, &options)?;
/// // Of two images the second is noised, too: its errors at timesteps 250 and 750.
/// assert_eq!(evaluation.noised(2), [1]);
/// evaluation.add(&[0.9, 0.1, 0.3, 0.7], &[0, 1], &[0.2, 0.1])?;
/// let report = evaluation.report()?;
/// assert_eq!((report.calibration.accuracy, report.noise_error[1].timestep), (1.0, 750));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Evaluation {
    classes: usize,
    steps: usize,
    prediction: Prediction,
    timesteps: Vec<usize>,
    /// Images that are announced, and of these to be noised.
    images: u64,
    noise_images: u64,
    seed: Seed,
    /// Images so far, and of these noised.
    seen: u64,
    noised: u64,
    calibration: Sums,
    confusion: Confusion,
    /// Sums of errors and of their squares by timestep.
    errors: Vec<[f64; 2]>,
}

impl Evaluation {
    /// Of `images` images by a model of `config` and `diffusion`.
    ///
    /// # Errors
    /// [`Error::Config`] for no images, more timesteps than the chain has steps, no images to noise where there are timesteps, or a
    /// model of several labels, whose answers are no classes.
    pub fn new(
        config: &ModelConfig,
        diffusion: &DiffusionConfig,
        images: usize,
        options: &EvaluationOptions,
    ) -> Result<Evaluation> {
        if config.head == Head::MultiLabel {
            let detail = "decides several labels one by one: calibration and a confusion matrix are of models whose images have one class each";
            return Err(Error::config("model", detail));
        }
        if images == 0 {
            return Err(Error::config("images", "there are none: nothing can be measured"));
        }
        let (steps, EvaluationOptions { timesteps, noise_images, seed }) =
            (diffusion.diffusion_steps, options.clone());
        if timesteps > steps {
            let detail = format!("must be from 0 to the chain's {steps}, is {timesteps}");
            return Err(Error::config("timesteps", detail));
        }
        if timesteps > 0 && noise_images == 0 {
            return Err(Error::config("noise_images", "must be at least 1 where there are timesteps"));
        }
        Ok(Evaluation {
            classes: config.num_classes,
            steps,
            prediction: diffusion.prediction,
            timesteps: evenly_spaced(timesteps, steps),
            images: images as u64,
            noise_images: if timesteps == 0 { 0 } else { noise_images.min(images) as u64 },
            seed,
            seen: 0,
            noised: 0,
            calibration: Sums::default(),
            confusion: Confusion::new(config.num_classes),
            errors: vec![[0.0; 2]; timesteps],
        })
    }

    /// The timesteps of the noise error.
    pub fn timesteps(&self) -> &[usize] {
        &self.timesteps
    }

    /// The seed of the noise.
    pub fn seed(&self) -> Seed {
        self.seed
    }

    /// Which of the next `count` images are noised, counted from the first of them.
    pub fn noised(&self, count: usize) -> Vec<usize> {
        // Evenly spread, whatever the batches: image i where the share of images up to it first allows one more.
        let up_to = |number: u64| number.min(self.images) * self.noise_images / self.images;
        let taken = |place: &usize| {
            let number = self.seen + *place as u64;
            up_to(number + 1) > up_to(number)
        };
        (0..count).filter(taken).collect()
    }

    /// The number of the noise of the first timestep of the next image that is noised; those of its other timesteps, and then of other
    /// images, follow. No two errors share their noise.
    pub fn first_row(&self) -> u32 {
        (self.noised * self.timesteps.len() as u64) as u32
    }

    /// Adds the next images: probabilities \[N,K\], classes \[N\], and of those that [`Evaluation::noised`] names the noise errors
    /// \[M, timesteps\]. Where anything does not fit, nothing of it is added.
    ///
    /// # Errors
    /// [`Error::Shape`] where those are not a row for each image; [`Error::Config`] for a class that is none of the K, a number that is
    /// no probability; [`Error::NotFinite`] for an error that is none.
    pub fn add(&mut self, probabilities: &[f32], classes: &[u32], noise_errors: &[f32]) -> Result<()> {
        if let Some(place) = classes.iter().position(|class| *class == UNLABELLED) {
            return Err(Error::config("classes", format!("image {place} (counted from 0) has none")));
        }
        let noised = self.noised(classes.len()).len();
        if noise_errors.len() != noised * self.timesteps.len() {
            let detail = format!(
                "{} noise errors of {noised} images at {} timesteps",
                noise_errors.len(),
                self.timesteps.len()
            );
            return Err(Error::shape("evaluation", detail));
        }
        if noise_errors.iter().any(|error| !error.is_finite()) {
            return Err(Error::NotFinite { detail: "a noise error became NaN or infinite".into() });
        }
        let answers = argmax(probabilities, self.classes)?;
        self.calibration.add(probabilities, classes, self.classes)?;
        // What the first one took fits the second, too.
        self.confusion.add(&answers, classes)?;
        for row in noise_errors.chunks_exact(self.timesteps.len().max(1)) {
            for ([sum, squares], error) in self.errors.iter_mut().zip(row) {
                let error = f64::from(*error);
                (*sum, *squares) = (*sum + error, *squares + error * error);
            }
        }
        self.seen += classes.len() as u64;
        self.noised += noised as u64;
        Ok(())
    }

    /// What was found so far.
    ///
    /// # Errors
    /// [`Error::Config`] where no image was added.
    pub fn report(&self) -> Result<Report> {
        Ok(Report {
            calibration: self.calibration.figures()?,
            per_class: self.confusion.per_class(),
            confusion: self.confusion.clone(),
            noise_error: self.noise_error(),
            noise_images: self.noised as usize,
            protocol: self.protocol(),
        })
    }

    fn noise_error(&self) -> Vec<NoiseError> {
        let count = self.noised as f64;
        let of = |(timestep, [sum, squares]): (&usize, &[f64; 2])| {
            let error = sum / count;
            let variance = (squares - count * error * error).max(0.0) / (count - 1.0);
            let standard_error = (self.noised > 1).then(|| (variance / count).sqrt());
            NoiseError { timestep: *timestep, error, standard_error }
        };
        // Of no image there is no error.
        self.timesteps.iter().zip(&self.errors).filter(|_| self.noised > 0).map(of).collect()
    }

    fn protocol(&self) -> String {
        let mut text = format!(
            "Accuracy, confusion matrix and calibration: {} images, the model's classifier at t = 0; calibration error (ECE): {}.",
            self.seen,
            Calibration::protocol()
        );
        if self.noised > 0 {
            let what = match self.prediction {
                Prediction::Eps => "noise",
                Prediction::XStart => "image (x_start)",
                Prediction::V => "v",
            };
            text += &format!(
                " Noise error: mean squared error of the predicted {what} on {} of them, at the middles of {} equal parts of the chain of \
                 {}, noise by Philox with seed {}, another for each image and timestep.",
                self.noised,
                self.timesteps.len(),
                self.steps,
                self.seed.0
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(classes: usize) -> ModelConfig {
        ModelConfig { num_classes: classes, ..ModelConfig::default() }
    }

    fn new(images: usize, options: &EvaluationOptions) -> Evaluation {
        Evaluation::new(&config(2), &DiffusionConfig::default(), images, options).unwrap()
    }

    #[test]
    fn figures_do_not_depend_on_batches() {
        let options = EvaluationOptions { timesteps: 3, noise_images: 4, ..EvaluationOptions::default() };
        let probabilities: Vec<f32> =
            (0..10).flat_map(|i| [0.05 + 0.1 * i as f32, 0.95 - 0.1 * i as f32]).collect();
        let classes: Vec<u32> = (0..10).map(|i| u32::from(i % 3 == 0)).collect();
        let run = |batch: usize| {
            let mut evaluation = new(10, &options);
            let mut rows = Vec::new();
            for (p, c) in probabilities.chunks(2 * batch).zip(classes.chunks(batch)) {
                let first = evaluation.first_row() as usize;
                let errors: Vec<f32> =
                    (0..3 * evaluation.noised(c.len()).len()).map(|i| (first + i) as f32).collect();
                rows.extend(errors.iter().map(|row| *row as usize));
                evaluation.add(p, c, &errors).unwrap();
            }
            assert_eq!(rows, (0..12).collect::<Vec<_>>(), "noise of its own for each error");
            evaluation.report().unwrap()
        };
        let whole = run(10);
        assert!(whole == run(1) && whole == run(3) && whole == run(4));
        assert_eq!((whole.calibration.images, whole.noise_images), (10, 4));
        assert_eq!(whole.calibration, Calibration::of(&probabilities, &classes, 2).unwrap());
        let answers = argmax(&probabilities, 2).unwrap();
        assert_eq!(whole.confusion, Confusion::of(&answers, &classes, 2).unwrap());
        // Errors 0, 3, 6, 9 at the first timestep: mean 4.5, variance 15, of four.
        assert_eq!((whole.noise_error[0].timestep, whole.noise_error[0].error), (166, 4.5));
        assert!((whole.noise_error[0].standard_error.unwrap() - (15.0f64 / 4.0).sqrt()).abs() < 1e-12);
        assert!(whole.protocol.contains("10 images") && whole.protocol.contains("on 4 of them"));
    }

    #[test]
    fn noised_images_are_spread_over_all() {
        let of = |images, noise_images| {
            let options = EvaluationOptions { noise_images, ..EvaluationOptions::default() };
            new(images, &options).noised(images)
        };
        assert_eq!(of(10, 5), [1, 3, 5, 7, 9]);
        assert_eq!(of(10, 3), [3, 6, 9]);
        assert_eq!(of(3, 200), [0, 1, 2]);
        assert_eq!(of(60_000, 200).len(), 200);
        let none = EvaluationOptions { timesteps: 0, ..EvaluationOptions::default() };
        let mut without = new(1, &none);
        without.add(&[1.0, 0.0], &[0], &[]).unwrap();
        let report = without.report().unwrap();
        assert!(report.noise_error.is_empty() && !report.protocol.contains("Noise"));
    }

    #[test]
    fn timesteps_are_the_middles_of_equal_parts() {
        assert_eq!(evenly_spaced(1, 1000), [500]);
        assert_eq!(evenly_spaced(10, 1000)[..2], [50, 150]);
        assert_eq!(evenly_spaced(3, 3), [0, 1, 2]);
        assert!(evenly_spaced(0, 10).is_empty());
    }

    #[test]
    fn what_does_not_fit_is_refused_and_adds_nothing() {
        let options = EvaluationOptions { timesteps: 1, noise_images: 2, ..EvaluationOptions::default() };
        let mut evaluation = new(2, &options);
        let mut fails = |probabilities: &[f32], classes: &[u32], errors: &[f32]| {
            evaluation.add(probabilities, classes, errors).unwrap_err().to_string()
        };
        assert!(fails(&[0.5; 3], &[0], &[0.1]).contains("3 numbers"));
        assert!(fails(&[0.5; 2], &[2], &[0.1]).contains("none of 2"));
        assert!(fails(&[0.5; 2], &[UNLABELLED], &[0.1]).contains("image 0"));
        assert!(fails(&[0.5; 2], &[1], &[]).contains("0 noise errors of 1 images"));
        assert!(fails(&[0.5; 2], &[1], &[f32::NAN]).contains("NaN"));
        assert!(fails(&[3.0, 0.0], &[1], &[0.1]).contains("from 0 to 1"));
        assert!(evaluation.report().unwrap_err().to_string().contains("no image"));

        let diffusion = DiffusionConfig::default();
        let refused = |config: &ModelConfig, images, options: &EvaluationOptions| {
            Evaluation::new(config, &diffusion, images, options).unwrap_err().to_string()
        };
        let several = ModelConfig { head: Head::MultiLabel, ..config(2) };
        assert!(refused(&several, 1, &options).contains("one class each"));
        assert!(refused(&config(2), 0, &options).contains("there are none"));
        let many = EvaluationOptions { timesteps: 1001, ..options.clone() };
        assert!(refused(&config(2), 1, &many).contains("from 0 to the chain's 1000, is 1001"));
        let no_images = EvaluationOptions { noise_images: 0, ..options };
        assert!(refused(&config(2), 1, &no_images).contains("at least 1"));
    }
}
