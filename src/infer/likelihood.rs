//! The bound on how likely a model finds images: terms of single steps, from the network's outputs on a device.

use super::finite;
use super::noise::NoisePredictor;
use crate::diffusion::{BoundTerm, DiffusionConfig, Noised};
use crate::error::{Error, Result};
use crate::model::WeightSet;
use crate::rng::{Seed, Stream, normal_fill};
use crate::weights::Weights;

/// Measures terms of the bound on the negative log-likelihood, in bits per dimension, of images at given steps of the whole
/// chain. Their sum over all steps and [`LikelihoodBound::prior`] is the bound, as the reference's `calc_bpd_loop` has it.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::Duet;
/// use duet::infer::LikelihoodBound;
/// use duet::model::WeightSet;
/// use duet::rng::Seed;
///
/// let duet = Duet::load("web/demo/public/model.safetensors").await?;
/// let diffusion = &duet.checkpoint().diffusion;
/// let bound = LikelihoodBound::new(duet.weights(), diffusion, 2, WeightSet::Raw).await?;
/// // A black image at the first step, which says most, and at the last one, which says next to nothing.
/// let black = vec![-1.0; duet.image_len()];
/// let terms = bound.terms(&[black.clone(), black.clone()].concat(), &[0, 999], Seed(0), &[0, 0]).await?;
/// assert!(terms[0].bits > 100.0 * terms[1].bits && terms[1].bits >= 0.0);
/// assert!(bound.prior(&black) < 0.01);
/// # Ok(()) }) }
/// ```
pub struct LikelihoodBound {
    predictor: NoisePredictor,
}

impl LikelihoodBound {
    /// Compiles and loads the plan for `batch` images, or as many as the device can hold, with the weights of `set`.
    ///
    /// # Errors
    /// Device errors.
    pub async fn new(
        weights: &Weights,
        diffusion: &DiffusionConfig,
        batch: usize,
        set: WeightSet,
    ) -> Result<LikelihoodBound> {
        Ok(LikelihoodBound { predictor: NoisePredictor::new(weights, diffusion, batch, set).await? })
    }

    /// Steps of the chain.
    pub fn steps(&self) -> usize {
        self.predictor.schedule().len()
    }

    /// The terms of images \[N,C,H,W\] in −1..1, image `i` at step `timesteps[i]`, noised by what the seed gives for that step and the
    /// row `rows[i]`.
    ///
    /// # Errors
    /// [`Error::Shape`] where there is not an image for each timestep and row; [`Error::Config`] for a timestep past the chain's end;
    /// [`Error::NotFinite`] where the network's output is none; device errors.
    pub async fn terms(
        &self,
        images: &[f32],
        timesteps: &[usize],
        seed: Seed,
        rows: &[u32],
    ) -> Result<Vec<BoundTerm>> {
        let [len, out_len] = self.predictor.lengths();
        if rows.len() != timesteps.len() || Some(images.len()) != timesteps.len().checked_mul(len) {
            let detail =
                format!("{} values, {} timesteps, {} rows", images.len(), timesteps.len(), rows.len());
            return Err(Error::shape("bound", detail));
        }
        let schedule = self.predictor.schedule();
        let mut noise = vec![0.0; images.len()];
        let mut noised = Vec::with_capacity(images.len());
        let places = images.chunks_exact(len).zip(noise.chunks_exact_mut(len)).zip(timesteps).zip(rows);
        for (((image, noise), t), row) in places {
            normal_fill(seed, Stream::TrainNoise, *t as u32, *row, noise);
            noised.extend(schedule.noised(*t, image, noise)?);
        }
        let outputs = self.predictor.outputs(&noised, timesteps).await?;
        finite(&outputs, out_len, "network's output")?;
        let images = images.chunks_exact(len).zip(noise.chunks_exact(len)).zip(outputs.chunks_exact(out_len));
        let mut terms = Vec::with_capacity(timesteps.len());
        for (((x_start, noise), out), t) in images.zip(timesteps) {
            terms.push(schedule.bound_term(
                *t,
                self.predictor.prediction(),
                Noised { x_start, noise, out },
            )?);
        }
        Ok(terms)
    }

    /// The divergence of an image \[C,H,W\] at the chain's end from a standard normal, in bits per dimension.
    pub fn prior(&self, image: &[f32]) -> f64 {
        self.predictor.schedule().prior_bits(image)
    }
}
