//! What a model makes of images that its plan noises: answers, representations, how well it tells the noise.

use super::{finite, without_timestep};
use crate::diffusion::{DiffusionConfig, Schedule};
use crate::error::{Error, Result};
use crate::graph::{NodeId, Place, Plan};
use crate::model::{Builder, JointModel, WeightSet};
use crate::rng::{Seed, Stream};
use crate::tensor::{Images, check_batch, unpad_rows};
use crate::weights::{Loaded, Weights};

/// Images noised on the device, as nodes of a plan of `batch`: its buffers "x_start", "t", "coefficients" and "run" are what
/// [`Noising`] writes.
pub(super) struct NoisedImages {
    pub(super) x_start: NodeId,
    pub(super) noise: NodeId,
    pub(super) coefficients: NodeId,
    pub(super) x_t: NodeId,
    pub(super) t: NodeId,
}

impl NoisedImages {
    pub(super) fn new(b: &mut Builder<'_>, model: &JointModel, batch: usize) -> Result<NoisedImages> {
        check_batch(batch)?;
        let shape = model.config.image_shape(batch);
        let x_start = b.graph.leaf(&shape, Place::whole("x_start"));
        let t = b.graph.leaf(&[batch], Place::whole("t"));
        let coefficients = b.graph.leaf(&[2 * batch], Place::whole("coefficients"));
        let run = b.run();
        let noise = b.graph.normal(run, shape, Stream::TrainNoise as u32);
        let x_t = b.graph.q_sample(x_start, noise, coefficients)?;
        Ok(NoisedImages { x_start, noise, coefficients, x_t, t })
    }

    /// What the classifier reads \[N,F+1\] of them; the last number is the timestep.
    fn features(&self, b: &mut Builder<'_>, model: &JointModel) -> Result<NodeId> {
        let encoded = model.unet.encode(b, self.x_t, self.t)?;
        model.classifier.features(b, &encoded, self.t)
    }
}

/// What a plan of [`NoisedImages`] leaves, and how it is told of.
pub(super) struct Answer {
    /// The buffer.
    pub(super) name: &'static str,
    /// Numbers of an image, in a padded row of its own; `None`: one of each image, side by side.
    pub(super) columns: Option<usize>,
    /// What is done, in errors about what is given.
    pub(super) doing: &'static str,
    /// What the numbers are, in errors about them.
    pub(super) what: &'static str,
}

/// A plan of [`NoisedImages`], loaded.
pub(super) struct Noising {
    loaded: Loaded,
    images: Images,
    schedule: Schedule,
    answer: Answer,
}

impl Noising {
    /// Loads a plan for `batch` images, or as many as the device can hold.
    pub(super) async fn new(
        weights: &Weights,
        diffusion: &DiffusionConfig,
        batch: usize,
        plan: impl Fn(usize) -> Result<Plan>,
        answer: Answer,
    ) -> Result<Noising> {
        let (batch, loaded) = weights.load_fitting(batch, plan).await?;
        let images = weights.model().config.images(batch);
        Ok(Noising { loaded, images, schedule: Schedule::new(diffusion)?, answer })
    }

    /// Numbers of an image.
    fn columns(&self) -> usize {
        self.answer.columns.unwrap_or(1)
    }

    /// The numbers of any number of images \[N,C,H,W\], image `i` noised to step `timesteps[i]` of the whole chain with noise of
    /// row `first_row + i`.
    pub(super) async fn get(
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
            return Err(Error::shape(self.answer.doing, detail));
        }
        let mut numbers = Vec::new();
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
            let read = self.loaded.read(self.answer.name).await?;
            let read = match self.answer.columns {
                Some(columns) => unpad_rows(&read, columns),
                None => read,
            };
            numbers.extend(read.into_iter().take(steps.len() * self.columns()));
            row = row.wrapping_add(steps.len() as u32);
        }
        finite(&numbers, self.columns(), self.answer.what)?;
        Ok(numbers)
    }
}

/// The plan that noises `batch` images and classifies them: its answer is "logits".
fn classify_plan(model: &JointModel, batch: usize, set: WeightSet) -> Result<Plan> {
    let mut b = Builder::new(&model.params, set, false);
    let features = NoisedImages::new(&mut b, model, batch)?.features(&mut b, model)?;
    let logits = model.classifier.logits(&mut b, features)?;
    b.graph.place(logits, Place::whole("logits"));
    b.graph.compile()
}

/// The plan that noises `batch` images and leaves what the classifier reads of them in "features".
fn features_plan(model: &JointModel, batch: usize, set: WeightSet) -> Result<Plan> {
    let mut b = Builder::new(&model.params, set, false);
    let features = NoisedImages::new(&mut b, model, batch)?.features(&mut b, model)?;
    b.graph.place(features, Place::whole("features"));
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
    noising: Noising,
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
        let plan = |batch| classify_plan(weights.model(), batch, set);
        let columns = Some(weights.model().config.num_classes);
        let answer = Answer { name: "logits", columns, doing: "classify noised images", what: "logits" };
        Ok(NoisedClassifier { noising: Noising::new(weights, diffusion, batch, plan, answer).await? })
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
        self.noising.get(images, timesteps, seed, first_row).await
    }
}

/// The representations the classifier reads of images that are noised first: every encoder level and the bottleneck at the
/// timestep of an image, average-pooled. What [`super::ImageFeatures`] are of clean images.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::Duet;
/// use duet::infer::NoisedFeatures;
/// use duet::model::WeightSet;
/// use duet::rng::Seed;
///
/// let duet = Duet::load("web/demo/public/model.safetensors").await?;
/// let diffusion = &duet.checkpoint().diffusion;
/// let features = NoisedFeatures::new(duet.weights(), diffusion, 2, WeightSet::Raw).await?;
/// // One black image, hardly and half noised, as rows [N,F]: what does the network see of it at either timestep?
/// let images = vec![-1.0; 2 * duet.image_len()];
/// let rows = features.get(&images, &[0, 500], Seed(0), 0).await?;
/// let (clear, hazy) = rows.split_at(features.columns());
/// assert!(clear.len() == hazy.len() && clear != hazy);
/// # Ok(()) }) }
/// ```
pub struct NoisedFeatures {
    noising: Noising,
}

impl NoisedFeatures {
    /// Compiles and loads the plan for `batch` images, or as many as the device can hold, with the weights of `set`.
    ///
    /// # Errors
    /// Device errors.
    pub async fn new(
        weights: &Weights,
        diffusion: &DiffusionConfig,
        batch: usize,
        set: WeightSet,
    ) -> Result<NoisedFeatures> {
        let model = weights.model();
        let mut one = Builder::new(&model.params, set, false);
        let features = NoisedImages::new(&mut one, model, 1)?.features(&mut one, model)?;
        let columns = Some(one.graph.shape(features).last().copied().unwrap_or(0));
        let plan = |batch| features_plan(model, batch, set);
        let answer = Answer { name: "features", columns, doing: "represent noised images", what: "features" };
        Ok(NoisedFeatures { noising: Noising::new(weights, diffusion, batch, plan, answer).await? })
    }

    /// Numbers per image.
    pub fn columns(&self) -> usize {
        self.noising.columns().saturating_sub(1)
    }

    /// Representations \[N,F\] of images \[N,C,H,W\] in −1..1, image `i` noised to step `timesteps[i]` of the whole chain with
    /// noise of row `first_row + i`.
    ///
    /// # Errors
    /// As [`NoisedClassifier::logits`].
    pub async fn get(
        &self,
        images: &[f32],
        timesteps: &[usize],
        seed: Seed,
        first_row: u32,
    ) -> Result<Vec<f32>> {
        let rows = self.noising.get(images, timesteps, seed, first_row).await?;
        Ok(without_timestep(&rows, self.noising.columns()))
    }
}
