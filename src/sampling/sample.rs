//! Sampling: one denoising step as a plan, and the chain that runs it (paper sections 2 and 5.3, Algorithm 1).

use crate::diffusion::{DiffusionConfig, Schedule};
use crate::error::{Error, Result};
use crate::gpu::Device;
use crate::graph::{NodeId, Place, Plan};
use crate::model::{AcrossLabels, Builder, Encoded, JointModel, Labels, WeightSet};
use crate::ops::{SamplerFlags, SamplerInputs};
use crate::rng::{Seed, Stream};
use crate::tensor::Images;
use crate::weights::{Loaded, Weights};

/// Which chain denoises.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Chain {
    /// DDPM's ancestral sampling, variance "fixed large" or learned.
    Ancestral,
    /// DDIM with noise share η in 0..=1.
    Ddim {
        /// 0: deterministic; 1: as much noise as ancestral sampling.
        eta: f64,
    },
}

impl Default for Chain {
    /// DDIM with η = 1: ancestral sampling with the posterior's variance. "Fixed large" variance, which the reference
    /// uses on the whole chain, leaves a respaced one with more noise before its last step than the network expects there.
    fn default() -> Chain {
        Chain::Ddim { eta: 1.0 }
    }
}

/// How a class steers the chain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Guidance {
    /// Not at all.
    None,
    /// Algorithm 1: bottleneck and skips move by α along the gradient of the classifier's cross-entropy summed over the
    /// batch, then the decoder runs. A *positive* α steers away from the class in the network's eps, which is
    /// subtracted, and so towards it in the image (paper 5.3).
    Representation,
    /// Classifier guidance by the gradient of the log probability on x_t (paper Eq. 12) with the joint model's own
    /// classifier.
    Gradient,
}

/// What one step's plan is compiled for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepSpec {
    /// Images denoised together.
    pub batch: usize,
    /// Which chain.
    pub chain: Chain,
    /// Which guidance.
    pub guidance: Guidance,
    /// Clip the predicted x_start to −1..1.
    pub clip: bool,
    /// Run DDIM backwards: from image to noise.
    pub reverse: bool,
    /// Noise comes from the buffer "z" instead of the generator.
    pub given_noise: bool,
    /// After the step the image becomes that of the buffer "known" where the buffer "mask" is 0.
    pub masked: bool,
    /// Guide even where the classifier has never seen noised images.
    pub force: bool,
}

impl StepSpec {
    /// An unguided, unclipped ancestral step.
    pub fn new(batch: usize) -> StepSpec {
        StepSpec {
            batch,
            chain: Chain::Ancestral,
            guidance: Guidance::None,
            clip: false,
            reverse: false,
            given_noise: false,
            masked: false,
            force: false,
        }
    }
}

/// Sum over the batch of the classifier's loss against the buffer "labels".
fn summed_loss(b: &mut Builder<'_>, model: &JointModel, logits: NodeId, batch: usize) -> Result<NodeId> {
    let (head, classes) = (model.config.head, model.config.num_classes);
    let labels = head.labels(&mut b.graph, "labels", batch, classes);
    let values = head.loss(&mut b.graph, logits, labels, AcrossLabels::Sum)?;
    Ok(b.graph.weighted_sum(values, 1.0))
}

/// The plan of one denoising step of `spec`, reading the weights of `set`.
///
/// Its buffers: "x" the image, changed in place; "t" the network's timestep; "coefficients"; "run"; with guidance
/// "labels", and "alpha" (Algorithm 1); with a mask "mask" and "known"; results "logits" \[N,K\], "model_out", "pred_xstart".
///
/// # Errors
/// As [`JointModel`]'s builders.
pub fn step_plan(
    model: &JointModel,
    diffusion: &DiffusionConfig,
    spec: &StepSpec,
    set: WeightSet,
) -> Result<Plan> {
    let config = &model.config;
    let shape = [spec.batch, config.image_size, config.image_size, config.in_channels];
    let mut b = Builder::new(&model.params, set, false);
    let x = b.graph.leaf(&shape, Place::whole("x"));
    let t = b.graph.leaf(&[spec.batch], Place::whole("t"));
    let coefficients = b.graph.leaf(&[12 * spec.batch], Place::whole("coefficients"));
    let mut encoded = model.unet.encode(&mut b, x, t)?;
    let features = model.classifier.features(&mut b, &encoded, t)?;
    let logits = model.classifier.logits(&mut b, features)?;
    b.graph.place(logits, Place::whole("logits"));
    let mut gradient = None;
    match spec.guidance {
        Guidance::None => {}
        Guidance::Representation => {
            let loss = summed_loss(&mut b, model, logits, spec.batch)?;
            let mut targets = vec![encoded.bottleneck];
            targets.extend(&encoded.skips);
            let gradients = b.graph.grad(loss, &targets)?;
            let alpha = b.graph.leaf(&[1], Place::whole("alpha"));
            let mut moved = Vec::new();
            for (h, g) in targets.into_iter().zip(gradients) {
                moved.push(b.graph.axpy(h, g, alpha)?);
            }
            let skips = moved.split_off(1);
            encoded = Encoded { bottleneck: moved[0], skips, ..encoded };
        }
        Guidance::Gradient => {
            let loss = summed_loss(&mut b, model, logits, spec.batch)?;
            let ascent = b.graph.grad(loss, &[x])?[0];
            // The loss is minus the log probability.
            let toward = b.graph.scale(ascent, -1.0);
            gradient = Some(toward);
        }
    }
    let model_out = model.unet.decode(&mut b, &encoded)?;
    b.graph.place(model_out, Place::whole("model_out"));
    let noise = if spec.given_noise {
        b.graph.leaf(&shape, Place::whole("z"))
    } else {
        let run = b.run();
        b.graph.normal(run, shape, Stream::SamplerNoise as u32)
    };
    let flags = SamplerFlags {
        clip: spec.clip,
        predict_xstart: diffusion.predict_xstart,
        learned_variance: config.learn_sigma,
    };
    let step = SamplerInputs { model_out, noise, gradient, coefficients, flags };
    let pred_xstart = b.graph.sampler(x, step, spec.chain != Chain::Ancestral)?;
    b.graph.place(pred_xstart, Place::whole("pred_xstart"));
    if spec.masked {
        let mask = b.graph.leaf(&shape, Place::whole("mask"));
        let known = b.graph.leaf(&shape, Place::whole("known"));
        b.graph.blend(mask, known, x)?;
    }
    b.graph.compile()
}

/// A classifier that saw noised images has a variance of its timestep feature near T²/12; one that saw t = 0 alone has
/// almost none left, and BatchNorm divides by it.
const LEAST_TIMESTEP_VARIANCE: f32 = 0.1;

/// Whether the classifier has seen noised images, so that its gradient means something at t > 0.
pub fn guidable(weights: &Weights) -> bool {
    weights.timestep_variance() >= LEAST_TIMESTEP_VARIANCE
}

/// A step loaded onto a device with the chain's tables.
pub struct Sampler {
    loaded: Loaded,
    spec: StepSpec,
    schedule: Schedule,
    model: JointModel,
    diffusion: DiffusionConfig,
}

fn check_chain(chain: Chain) -> Result<()> {
    match chain {
        Chain::Ddim { eta } if !(0.0..=1.0).contains(&eta) => {
            Err(Error::config("eta", format!("must be from 0 to 1, is {eta}")))
        }
        _ => Ok(()),
    }
}

/// What a chain is run with.
#[derive(Clone, Debug)]
pub struct ChainOptions {
    /// Seed of all noise; image `i` of a batch gets row `first_row + i` of its streams.
    pub seed: Seed,
    /// See `seed`.
    pub first_row: u32,
    /// What each image is to become; a class of none: that image is not guided.
    pub labels: Labels,
    /// Step size α of Algorithm 1, or the scale of Eq. 12.
    pub alpha: f32,
}

/// What is known after a step of a chain.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Steps done.
    pub done: usize,
    /// Steps in all.
    pub total: usize,
}

impl Sampler {
    /// Compiles and loads the step of `spec` for the respaced chain `respacing` ("" for all steps).
    ///
    /// # Errors
    /// Bad configuration or respacing; device errors.
    pub async fn new(
        weights: &Weights,
        diffusion: &DiffusionConfig,
        respacing: &str,
        spec: StepSpec,
        set: WeightSet,
    ) -> Result<Sampler> {
        check_chain(spec.chain)?;
        if spec.guidance != Guidance::None && !spec.force && !guidable(weights) {
            let detail = "the classifier was trained on clean images only (t = 0), so its gradient at t > 0 is \
                          meaningless: train it on noised images too, or force guidance";
            return Err(Error::config("guidance", detail));
        }
        let schedule = Schedule::respaced(diffusion, respacing)?;
        let model = weights.model().clone();
        let plan = step_plan(&model, diffusion, &spec, set)?;
        let loaded = weights.load(&plan).await?;
        Ok(Sampler { loaded, spec, schedule, model, diffusion: diffusion.clone() })
    }

    /// Changes to another respacing and another chain of the same kind without compiling anything; `false`: the step
    /// of `spec` is another one.
    ///
    /// # Errors
    /// Bad respacing or η.
    pub fn change(&mut self, respacing: &str, spec: StepSpec) -> Result<bool> {
        let same_chain = (self.spec.chain == Chain::Ancestral) == (spec.chain == Chain::Ancestral);
        // `force` only decides whether the sampler may be made at all.
        let same = StepSpec { chain: spec.chain, force: spec.force, ..self.spec } == spec;
        if !same_chain || !same || (self.spec.force && !spec.force) {
            return Ok(false);
        }
        check_chain(spec.chain)?;
        self.schedule = Schedule::respaced(&self.diffusion, respacing)?;
        self.spec.chain = spec.chain;
        Ok(true)
    }

    /// The chain's tables.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The loaded step.
    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// Whether the network predicts x_start.
    pub fn predicts_xstart(&self) -> bool {
        self.diffusion.predict_xstart
    }

    /// Writes what step `index` of the chain needs for rows at these indices (all equal in a chain).
    ///
    /// # Errors
    /// [`Error::Shape`] where the number of rows is not the batch.
    pub fn prepare(&self, indices: &[usize], scale: f32) -> Result<()> {
        if indices.len() != self.spec.batch {
            let detail = format!("{} rows for a batch of {}", indices.len(), self.spec.batch);
            return Err(Error::shape("sampler", detail));
        }
        let t: Vec<f32> = indices.iter().map(|i| self.schedule.model_timestep(*i)).collect();
        self.loaded.write("t", bytemuck::cast_slice(&t))?;
        let mut words: Vec<f32> = Vec::with_capacity(12 * indices.len());
        for &i in indices {
            match self.spec.chain {
                Chain::Ancestral => {
                    let row = self.schedule.ancestral_coefficients(i, scale);
                    words.extend_from_slice(bytemuck::cast_slice(&[row]));
                }
                Chain::Ddim { eta } => {
                    let row = self.schedule.ddim_coefficients(i, eta, scale, self.spec.reverse);
                    words.extend_from_slice(bytemuck::cast_slice(&[row]));
                }
            }
        }
        self.loaded.write("coefficients", bytemuck::cast_slice(&words))
    }

    /// Sets the classes (or targets) and the step size.
    ///
    /// # Errors
    /// [`Error::Config`] for a class out of range or a wrong number of labels.
    pub fn guide(&self, labels: &Labels, alpha: f32) -> Result<()> {
        if self.spec.guidance == Guidance::None {
            return Ok(());
        }
        if self.spec.guidance == Guidance::Representation {
            self.loaded.write("alpha", bytemuck::bytes_of(&[alpha, 0.0, 0.0, 0.0]))?;
        }
        let config = &self.model.config;
        self.loaded.write("labels", &config.head.pack(labels, self.spec.batch, config.num_classes)?)
    }

    /// Puts images \[N,C,H,W\] in −1..1 where the chain works on them.
    ///
    /// # Errors
    /// [`Error::Shape`] where they are not the batch's size.
    pub fn set_images(&self, images: &[f32]) -> Result<()> {
        let layout = self.images();
        self.loaded.write("x", bytemuck::cast_slice(&layout.to_device(images)?))
    }

    /// Says where the image may change (1) and where not (0), \[N,C,H,W\]; for a step compiled with a mask.
    ///
    /// # Errors
    /// [`Error::Shape`] where it is not the batch's size.
    pub fn set_mask(&self, mask: &[f32]) -> Result<()> {
        self.loaded.write("mask", bytemuck::cast_slice(&self.images().to_device(mask)?))
    }

    /// Sets what the kept part becomes after the next step, \[N,C,H,W\].
    ///
    /// # Errors
    /// [`Error::Shape`] where it is not the batch's size.
    pub fn set_known(&self, known: &[f32]) -> Result<()> {
        self.loaded.write("known", bytemuck::cast_slice(&self.images().to_device(known)?))
    }

    /// The images \[N,C,H,W\] as they are now.
    ///
    /// # Errors
    /// Device errors.
    pub async fn get_images(&self) -> Result<Vec<f32>> {
        let layout = self.images();
        Ok(layout.to_host(&self.loaded.read("x").await?))
    }

    fn images(&self) -> Images {
        self.model.config.images(self.spec.batch)
    }

    /// Runs the chain from index `from` (exclusive) down to 0 on the images that are there. `on_step` hears of each
    /// step's end and may stop the chain by returning `false`.
    ///
    /// # Errors
    /// [`Error::Aborted`], device errors, bad labels.
    pub async fn run(
        &self,
        from: usize,
        options: &ChainOptions,
        mut on_step: impl FnMut(&Progress) -> bool,
    ) -> Result<()> {
        if from > self.schedule.len() {
            let detail = format!("{from} of {} steps", self.schedule.len());
            return Err(Error::config("steps", detail));
        }
        self.guide(&options.labels, options.alpha)?;
        for (done, index) in (0..from).rev().enumerate() {
            self.step(index, options).await?;
            if !on_step(&Progress { done: done + 1, total: from }) {
                return Err(Error::Aborted);
            }
        }
        Ok(())
    }

    /// Runs the step of one index of the chain and waits for it; [`Sampler::guide`] must have been called.
    ///
    /// # Errors
    /// Device errors.
    pub async fn step(&self, index: usize, options: &ChainOptions) -> Result<()> {
        self.prepare(&vec![index; self.spec.batch], options.alpha)?;
        let run = [options.seed.0 as u32, (options.seed.0 >> 32) as u32, index as u32, options.first_row];
        self.loaded.write("run", bytemuck::cast_slice(&run))?;
        self.loaded.run();
        self.device().idle().await
    }

    /// Fills the images with the initial noise of `seed`.
    ///
    /// # Errors
    /// Device errors.
    pub fn start_from_noise(&self, seed: Seed, first_row: u32) -> Result<()> {
        let layout = self.images();
        let mut noise = vec![0.0f32; layout.len()];
        for (row, image) in noise.chunks_mut(layout.image_len()).enumerate() {
            crate::rng::normal_fill(seed, Stream::InitialNoise, 0, first_row + row as u32, image);
        }
        self.set_images(&noise)
    }

    /// The logits \[N,K\] of the last step, of x_t before that step.
    ///
    /// # Errors
    /// Device errors.
    pub async fn logits(&self) -> Result<Vec<f32>> {
        let classes = self.model.config.num_classes;
        Ok(crate::tensor::unpad_rows(&self.loaded.read("logits").await?, classes))
    }

    /// The device.
    pub fn device(&self) -> &Device {
        self.loaded.device()
    }
}
