//! Where images are looked at, and what is kept of it.

use crate::diffusion::{DiffusionConfig, Schedule};
use crate::error::{Error, Result};
use crate::rng::{Seed, Stream, normal_fill};

/// Where in the chain images are looked at, as shares of it.
const SHARES: [f64; 2] = [0.01, 0.25];
/// Numbers of a profile for each timestep.
pub(super) const NUMBERS: usize = 3;
/// The border is this part of an image's side wide.
const BORDER: usize = 7;
/// Errors below this one are equal.
const LEAST_ERROR: f64 = 1e-12;

/// Where and with which noise images are looked at: the same for every image, wherever it lies in a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Protocol {
    pub(super) timesteps: Vec<usize>,
    pub(super) seed: Seed,
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
            let [kept, noised] = schedule.q_sample_coefficients(*timestep)?;
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
