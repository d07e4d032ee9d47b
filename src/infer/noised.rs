//! What the classifier makes of noised images.

use super::finite;
use crate::diffusion::{DiffusionConfig, Schedule};
use crate::error::{Error, Result};
use crate::graph::{Place, Plan};
use crate::model::{Builder, JointModel, WeightSet};
use crate::rng::{Seed, Stream};
use crate::tensor::{Images, check_batch, unpad_rows};
use crate::weights::{Loaded, Weights};

/// The plan that noises `batch` images and classifies them: buffers "x_start", "t", "coefficients", "run", and "logits".
fn noised_plan(model: &JointModel, batch: usize, set: WeightSet) -> Result<Plan> {
    check_batch(batch)?;
    let mut b = Builder::new(&model.params, set, false);
    let shape = model.config.image_shape(batch);
    let x_start = b.graph.leaf(&shape, Place::whole("x_start"));
    let t = b.graph.leaf(&[batch], Place::whole("t"));
    let coefficients = b.graph.leaf(&[2 * batch], Place::whole("coefficients"));
    let run = b.run();
    let noise = b.graph.normal(run, shape, Stream::TrainNoise as u32);
    let x_t = b.graph.q_sample(x_start, noise, coefficients)?;
    let encoded = model.unet.encode(&mut b, x_t, t)?;
    let features = model.classifier.features(&mut b, &encoded, t)?;
    let logits = model.classifier.logits(&mut b, features)?;
    b.graph.place(logits, Place::whole("logits"));
    b.graph.compile()
}

/// Noises any number of images and classifies them, `batch` at a time.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::Duet;
/// use duet::infer::NoisedClassifier;
/// use duet::model::WeightSet;
/// use duet::rng::Seed;
///
/// let duet = Duet::load("web/demo/public/model.safetensors").await?;
/// let diffusion = &duet.checkpoint().diffusion;
/// let classifier = NoisedClassifier::new(duet.weights(), diffusion, 2, WeightSet::Raw).await?;
/// // One black image, hardly and wholly noised.
/// let images = vec![-1.0; 2 * duet.image_len()];
/// let logits = classifier.logits(&images, &[0, 999], Seed(0), 0).await?;
/// let (clear, noise) = logits.split_at(10);
/// assert!(logits.len() == 20 && clear != noise);
/// # Ok(()) }) }
/// ```
pub struct NoisedClassifier {
    loaded: Loaded,
    images: Images,
    schedule: Schedule,
    columns: usize,
}

impl NoisedClassifier {
    /// Compiles and loads the plan for `batch` images, or as many as the device can hold.
    ///
    /// # Errors
    /// Device errors.
    pub async fn new(
        weights: &Weights,
        diffusion: &DiffusionConfig,
        batch: usize,
        set: WeightSet,
    ) -> Result<NoisedClassifier> {
        let plan = |batch| noised_plan(weights.model(), batch, set);
        let (batch, loaded) = weights.load_fitting(batch, plan).await?;
        let config = &weights.model().config;
        let (images, columns) = (config.images(batch), config.num_classes);
        Ok(NoisedClassifier { loaded, images, schedule: Schedule::new(diffusion)?, columns })
    }

    /// Logits \[N,K\] of images \[N,C,H,W\] in −1..1, image `i` noised to step `timesteps[i]` of the whole chain with noise
    /// of row `first_row + i`.
    ///
    /// # Errors
    /// [`Error::Shape`] where the images are not one for each timestep, or one is past the chain's end;
    /// [`Error::NotFinite`] where an answer is no number; device errors.
    pub async fn logits(
        &self,
        images: &[f32],
        timesteps: &[usize],
        seed: Seed,
        first_row: u32,
    ) -> Result<Vec<f32>> {
        let (len, batch) = (self.images.image_len(), self.images.batch);
        let beyond = timesteps.iter().any(|t| *t >= self.schedule.len());
        if beyond || Some(images.len()) != timesteps.len().checked_mul(len) {
            let detail = format!("{} values at timesteps {timesteps:?}", images.len());
            return Err(Error::shape("classify noised images", detail));
        }
        let mut logits = Vec::with_capacity(timesteps.len() * self.columns);
        let mut row = first_row;
        for (part, steps) in images.chunks(batch * len).zip(timesteps.chunks(batch)) {
            // The last batch is filled up with images that are dropped.
            let (mut padded, mut steps_of) = (part.to_vec(), steps.to_vec());
            padded.resize(batch * len, 0.0);
            steps_of.resize(batch, 0);
            let t = self.schedule.model_timesteps(&steps_of)?;
            let mix = steps_of.iter().map(|t| self.schedule.q_sample_coefficients(*t));
            let mix = mix.collect::<Result<Vec<_>>>()?;
            let run = [seed.0 as u32, (seed.0 >> 32) as u32, 0, row];
            self.loaded.write("x_start", bytemuck::cast_slice(&self.images.to_device(&padded)?))?;
            self.loaded.write("t", bytemuck::cast_slice(&t))?;
            self.loaded.write("coefficients", bytemuck::cast_slice(mix.as_flattened()))?;
            self.loaded.write("run", bytemuck::cast_slice(&run))?;
            self.loaded.run();
            let rows = unpad_rows(&self.loaded.read("logits").await?, self.columns);
            logits.extend(rows.into_iter().take(steps.len() * self.columns));
            row = row.wrapping_add(steps.len() as u32);
        }
        finite(&logits, self.columns, "logits")?;
        Ok(logits)
    }
}
