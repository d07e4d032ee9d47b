//! What the network makes of noised images: the noise in them, and how well it tells it.

use super::finite;
use super::noised::{Answer, NoisedImages, Noising};
use crate::diffusion::{DiffusionConfig, Prediction, Schedule};
use crate::error::{Error, Result};
use crate::graph::{Graph, NodeId, Place, Plan};
use crate::model::{Builder, JointModel, WeightSet};
use crate::rng::Seed;
use crate::tensor::{Images, check_batch};
use crate::typicality::Protocol;
use crate::weights::{Loaded, Weights};

/// The plan of the network alone, without classifier or step, for `batch` noised images: buffers "x", "t", "model_out".
///
/// # Errors
/// As [`JointModel`]'s builders.
pub fn predict_plan(model: &JointModel, batch: usize, set: WeightSet) -> Result<Plan> {
    check_batch(batch)?;
    let config = &model.config;
    let mut b = Builder::new(&model.params, set, false);
    let shape = config.image_shape(batch);
    let x = b.graph.leaf(&shape, Place::whole("x"));
    let t = b.graph.leaf(&[batch], Place::whole("t"));
    let encoded = model.unet.encode(&mut b, x, t)?;
    let out = model.unet.decode(&mut b, &encoded)?;
    b.graph.place(out, Place::whole("model_out"));
    b.graph.compile()
}

/// What the network is to put out for an image noised by `coefficients` \[2N\] (√ᾱ, √(1 − ᾱ)): the noise, the image, or
/// v = √ᾱ·noise − √(1 − ᾱ)·x_start.
///
/// # Errors
/// As [`Graph::q_sample`].
pub(crate) fn target(
    graph: &mut Graph,
    prediction: Prediction,
    [x_start, noise]: [NodeId; 2],
    coefficients: NodeId,
) -> Result<NodeId> {
    match prediction {
        Prediction::Eps => Ok(noise),
        Prediction::XStart => Ok(x_start),
        Prediction::V => {
            let negative = graph.scale(x_start, -1.0);
            graph.q_sample(noise, negative, coefficients)
        }
    }
}

/// The plan of the network's denoising error, per sample: buffers "x_start", "t", "coefficients", "run", and "mse".
///
/// # Errors
/// As [`JointModel`]'s builders.
pub fn denoise_plan(
    model: &JointModel,
    diffusion: &DiffusionConfig,
    batch: usize,
    set: WeightSet,
) -> Result<Plan> {
    let mut b = Builder::new(&model.params, set, false);
    let noised = NoisedImages::new(&mut b, model, batch)?;
    let encoded = model.unet.encode(&mut b, noised.x_t, noised.t)?;
    let out = model.unet.decode(&mut b, &encoded)?;
    let pair = [noised.x_start, noised.noise];
    let target = target(&mut b.graph, diffusion.prediction, pair, noised.coefficients)?;
    let mse = b.graph.mse(out, target)?;
    b.graph.place(mse, Place::whole("mse"));
    b.graph.compile()
}

/// Predicts the noise in any number of noised images, `batch` at a time: a chain's step is its caller's to make.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::Duet;
/// use duet::infer::NoisePredictor;
/// use duet::model::WeightSet;
/// use duet::rng::{Seed, Stream, normal_fill};
///
/// let duet = Duet::load("web/demo/public/model.safetensors").await?;
/// let diffusion = &duet.checkpoint().diffusion;
/// let predictor = NoisePredictor::new(duet.weights(), diffusion, 1, WeightSet::Raw).await?;
/// // At the chain's end an image is all noise, and the network finds it.
/// let mut noise = vec![0.0; duet.image_len()];
/// normal_fill(Seed(0), Stream::InitialNoise, 0, 0, &mut noise);
/// let found = predictor.predict(&noise, &[999]).await?;
/// let error = found.iter().zip(&noise).map(|(found, eps)| (found - eps).powi(2)).sum::<f32>();
/// assert!(error / (noise.len() as f32) < 0.1); // of a variance of 1
/// # Ok(()) }) }
/// ```
pub struct NoisePredictor {
    loaded: Loaded,
    images: Images,
    out: Images,
    schedule: Schedule,
    prediction: Prediction,
}

impl NoisePredictor {
    /// Compiles and loads the plan for `batch` images, or as many as the device can hold, with the weights of `set`.
    ///
    /// # Errors
    /// Device errors.
    pub async fn new(
        weights: &Weights,
        diffusion: &DiffusionConfig,
        batch: usize,
        set: WeightSet,
    ) -> Result<NoisePredictor> {
        let config = &weights.model().config;
        let plan = |batch| predict_plan(weights.model(), batch, set);
        let (batch, loaded) = weights.load_fitting(batch, plan).await?;
        let images = config.images(batch);
        let out = Images { channels: config.out_channels(), ..images };
        let (schedule, prediction) = (Schedule::new(diffusion)?, diffusion.prediction);
        Ok(NoisePredictor { loaded, images, out, schedule, prediction })
    }

    /// What the network puts out \[N,C,H,W\] for noised images \[N,C,H,W\], image `i` at step `timesteps[i]` of the whole chain; of a
    /// learned variance C is twice the images'.
    pub(super) async fn outputs(&self, images: &[f32], timesteps: &[usize]) -> Result<Vec<f32>> {
        let len = self.images.image_len();
        if Some(images.len()) != timesteps.len().checked_mul(len) {
            let detail = format!("{} values for {} images of {len}", images.len(), timesteps.len());
            return Err(Error::shape("predict noise", detail));
        }
        if let Some(bad) = timesteps.iter().find(|t| **t >= self.schedule.len()) {
            let detail = format!("must be below {}, is {bad}", self.schedule.len());
            return Err(Error::config("timesteps", detail));
        }
        let mut outputs = Vec::with_capacity(timesteps.len() * self.out.image_len());
        for (part, steps) in images.chunks(self.images.len()).zip(timesteps.chunks(self.images.batch)) {
            let mut padded = part.to_vec();
            padded.resize(self.images.len(), 0.0);
            let mut t = self.schedule.model_timesteps(steps)?;
            t.resize(self.images.batch, 0.0);
            self.loaded.write("x", bytemuck::cast_slice(&self.images.to_device(&padded)?))?;
            self.loaded.write("t", bytemuck::cast_slice(&t))?;
            self.loaded.run();
            let out = self.out.to_host(&self.loaded.read("model_out").await?)?;
            outputs.extend(out.into_iter().take(steps.len() * self.out.image_len()));
        }
        Ok(outputs)
    }

    /// The noise eps \[N,C,H,W\] in noised images \[N,C,H,W\], image `i` at step `timesteps[i]` of the whole chain. Of a
    /// network that predicts x_start or v it is what follows from that.
    ///
    /// # Errors
    /// [`Error::Shape`] where the images are not one for each timestep; [`Error::Config`] for a timestep past the chain's
    /// end; [`Error::NotFinite`] where the answer is none; device errors.
    pub async fn predict(&self, images: &[f32], timesteps: &[usize]) -> Result<Vec<f32>> {
        let len = self.images.image_len();
        let outputs = self.outputs(images, timesteps).await?;
        let mut noise = Vec::with_capacity(images.len());
        let rows = images.chunks_exact(len).zip(outputs.chunks_exact(self.out.image_len()));
        for ((x, row), t) in rows.zip(timesteps) {
            // Behind the prediction, where there is more, comes the variance.
            let levels = self.schedule.q_sample_coefficients(*t)?;
            noise.extend(x.iter().zip(row).map(|(x, out)| self.prediction.eps(*x, *out, levels)));
        }
        finite(&noise, len, "predicted noise")?;
        Ok(noise)
    }

    pub(super) fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    pub(super) fn prediction(&self) -> Prediction {
        self.prediction
    }

    /// Values of an image, and of what the network puts out for it.
    pub(super) fn lengths(&self) -> [usize; 2] {
        [self.images.image_len(), self.out.image_len()]
    }
}

/// The noise error of images at the timesteps of a [`Protocol`], `batch` images at a time.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::Duet;
/// use duet::infer::NoiseProfiles;
/// use duet::model::WeightSet;
/// use duet::typicality::Protocol;
///
/// let duet = Duet::load("web/demo/public/model.safetensors").await?;
/// let diffusion = &duet.checkpoint().diffusion;
/// let protocol = Protocol::new(diffusion);
/// let profiles = NoiseProfiles::new(duet.weights(), diffusion, &protocol, 2, WeightSet::Raw).await?;
/// // Of two images a row each that begins with the error's logarithm at little noise, which is harder to tell than much.
/// let rows = profiles.get(&[vec![-1.0; duet.image_len()], vec![0.5; duet.image_len()]].concat()).await?;
/// assert_eq!((rows.len(), rows[0].len()), (2, protocol.profile_len()));
/// assert!(rows.iter().all(|row| row[0] > row[3]));
/// # Ok(()) }) }
/// ```
pub struct NoiseProfiles {
    predictor: NoisePredictor,
    protocol: Protocol,
    size: usize,
}

impl NoiseProfiles {
    /// Compiles and loads the plan for the protocol's timesteps of `batch` images with the weights of `set`.
    ///
    /// # Errors
    /// Device errors.
    pub async fn new(
        weights: &Weights,
        diffusion: &DiffusionConfig,
        protocol: &Protocol,
        batch: usize,
        set: WeightSet,
    ) -> Result<NoiseProfiles> {
        let rows = batch.max(1) * protocol.timesteps().len();
        let predictor = NoisePredictor::new(weights, diffusion, rows, set).await?;
        let size = weights.model().config.image_size;
        Ok(NoiseProfiles { predictor, protocol: protocol.clone(), size })
    }

    /// The profile of each of any number of images \[N,C,H,W\] in −1..1; it does not depend on the others.
    ///
    /// # Errors
    /// [`Error::Shape`] for part of an image; [`Error::NotFinite`]; device errors.
    pub async fn get(&self, images: &[f32]) -> Result<Vec<Vec<f64>>> {
        let len = self.predictor.images.image_len();
        if !images.len().is_multiple_of(len) {
            let detail = format!("{} values are no whole number of images of {len}", images.len());
            return Err(Error::shape("typicality", detail));
        }
        let mut rows = Vec::with_capacity(images.len() / len);
        let timesteps = self.protocol.timesteps();
        for part in images.chunks(self.predictor.images.batch / timesteps.len() * len) {
            let (mut noised, mut steps) = (Vec::new(), Vec::new());
            for image in part.chunks_exact(len) {
                noised.extend(self.protocol.noised(&self.predictor.schedule, image)?);
                steps.extend_from_slice(timesteps);
            }
            let predicted = self.predictor.predict(&noised, &steps).await?;
            for image in predicted.chunks_exact(timesteps.len() * len) {
                rows.push(self.protocol.profile(image, self.size)?);
            }
        }
        Ok(rows)
    }
}

/// Measures the noise error of images at given timesteps.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::Duet;
/// use duet::infer::DenoisingError;
/// use duet::model::WeightSet;
/// use duet::rng::Seed;
///
/// let duet = Duet::load("web/demo/public/model.safetensors").await?;
/// let diffusion = &duet.checkpoint().diffusion;
/// let error = DenoisingError::new(duet.weights(), diffusion, 2, WeightSet::Raw).await?;
/// // The same black image twice: a little noise on it is harder to tell than much.
/// let images = vec![-1.0; 2 * duet.image_len()];
/// let mse = error.measure(&images, &[20, 900], Seed(0), 0).await?;
/// assert!(mse[0] > mse[1]);
/// # Ok(()) }) }
/// ```
pub struct DenoisingError {
    noising: Noising,
}

impl DenoisingError {
    /// Compiles and loads the plan for `batch` images, or as many as the device can hold.
    ///
    /// # Errors
    /// Device errors.
    pub async fn new(
        weights: &Weights,
        diffusion: &DiffusionConfig,
        batch: usize,
        set: WeightSet,
    ) -> Result<DenoisingError> {
        let plan = |batch| denoise_plan(weights.model(), diffusion, batch, set);
        let answer = Answer { name: "mse", columns: None, doing: "measure", what: "noise error" };
        Ok(DenoisingError { noising: Noising::new(weights, diffusion, batch, plan, answer).await? })
    }

    /// Mean squared error per image of any number of images, image `i` at timestep `timesteps[i]` with noise of row
    /// `first_row + i`.
    ///
    /// # Errors
    /// [`Error::Shape`] where the images are not one for each timestep, or one is past the chain's end;
    /// [`Error::NotFinite`] where the answer is none; device errors.
    pub async fn measure(
        &self,
        images: &[f32],
        timesteps: &[usize],
        seed: Seed,
        first_row: u32,
    ) -> Result<Vec<f32>> {
        self.noising.get(images, timesteps, seed, first_row).await
    }
}
