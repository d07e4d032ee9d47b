//! The chain: a step loaded onto a device, run again and again without the host in between.

use super::guidance::{Guidance, guidable};
use super::numbers::{Numbers, Row, STEPS};
use super::objective::{Class, Input, Objective, Of, buffer};
use super::pace::Pace;
use super::step::{StepSpec, plan_toward};
use super::watch::{ChainOptions, Progress, Watch};
use crate::diffusion::{Coefficients, DiffusionConfig, Schedule, StepAt};
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Device, Mark, Staging, Transfer};
use crate::graph::{Graph, Place, Plan};
use crate::model::{Labels, ModelConfig, WeightSet};
use crate::rng::{Seed, Stream};
use crate::tensor::{Images, device_bytes, pad_rows, unpad_rows};
use crate::weights::{Loaded, Weights};
use std::ops::ControlFlow;

/// A step loaded onto a device with the chain's tables.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::Duet;
/// use duet::diffusion::Solver;
/// use duet::model::{Labels, WeightSet};
/// use duet::rng::Seed;
/// use duet::sampling::{ChainOptions, Guidance, Sampler, StepSpec, Watch};
///
/// let duet = Duet::load("web/demo/public/model.safetensors").await?;
/// let guidance = Guidance::Representation;
/// let spec = StepSpec { guidance, solver: Solver::default(), clip: true, ..StepSpec::new(2) };
/// // A trouser and a sneaker in five steps; 50 make good ones.
/// let diffusion = &duet.checkpoint().diffusion;
/// let sampler = Sampler::new(duet.weights(), diffusion, "5", spec, WeightSet::Raw).await?;
/// let labels = Labels::Classes(vec![1, 7]);
/// sampler.start_from_noise(Seed(3), 0)?;
/// let chain = ChainOptions { seed: Seed(3), first_row: 0, labels, alpha: 20.0 };
/// sampler.run(sampler.schedule().len(), &chain, Watch::None).await?;
/// let images = sampler.get_images().await?; // [N,C,H,W] in −1..1
/// assert_eq!(images.len(), 2 * duet.image_len());
/// # Ok(()) }) }
/// ```
pub struct Sampler {
    step: Loaded,
    /// Makes "x" of noise.
    begin: Loaded,
    numbers: Numbers,
    /// Logits \[steps,N,K\] of a chain.
    trace: Option<Buffer>,
    staging: Staging,
    /// What the objectives are told before a chain.
    inputs: Vec<Input>,
    spec: StepSpec,
    schedule: Schedule,
    config: ModelConfig,
    diffusion: DiffusionConfig,
}

/// The plan that fills "x" with x_T.
fn noise_plan(config: &ModelConfig, batch: usize) -> Result<Plan> {
    let mut graph = Graph::new();
    let run = graph.leaf(&[4], Place::whole("run"));
    let shape = config.image_shape(batch);
    let noise = graph.normal(run, shape, Stream::InitialNoise as u32);
    graph.place(noise, Place::whole("x"));
    graph.compile()
}

/// The words of a "run" buffer.
pub(crate) fn run_words(seed: Seed, step: u32, first_row: u32) -> [u32; 4] {
    [seed.0 as u32, (seed.0 >> 32) as u32, step, first_row]
}

/// Memory for the logits of each step where they are kept, and for what is read at once.
async fn results(
    device: &Device,
    config: &ModelConfig,
    spec: &StepSpec,
    steps: usize,
) -> Result<(Option<Buffer>, Staging)> {
    let logits = device_bytes(&[spec.batch, config.num_classes]);
    let images = device_bytes(&config.image_shape(spec.batch));
    if !spec.trace {
        return Ok((None, device.staging(images.max(logits)).await?));
    }
    let bytes = steps as u64 * logits;
    Ok((Some(device.buffer("trace", bytes).await?), device.staging(images.max(bytes)).await?))
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
        Self::toward(weights, diffusion, respacing, spec, set, &[&Class]).await
    }

    /// As [`Sampler::new`], guided by objectives whose losses add up; what they are told is set by [`Sampler::set_input`]. Where
    /// [`Class`] is not among them the labels of a chain are not looked at.
    ///
    /// # Errors
    /// As [`Sampler::new`]; what an objective says is wrong; inputs of one name in two shapes.
    pub async fn toward(
        weights: &Weights,
        diffusion: &DiffusionConfig,
        respacing: &str,
        spec: StepSpec,
        set: WeightSet,
        objectives: &[&dyn Objective],
    ) -> Result<Sampler> {
        let schedule = Schedule::respaced(diffusion, respacing)?;
        spec.solver.check()?;
        let by_classifier =
            spec.guidance != Guidance::None && objectives.iter().any(|one| one.of() == Of::Logits);
        if by_classifier && !spec.force && !guidable(weights) {
            let detail = "the classifier was trained on clean images only (t = 0), so its gradient at t > 0 is \
                          meaningless: train it on noised images too, or force guidance";
            return Err(Error::config("guidance", detail));
        }
        let (config, device) = (weights.model().config.clone(), weights.device());
        let (plan, inputs) = plan_toward(weights.model(), &spec, set, objectives)?;
        let step = weights.load(&plan).await?;
        let noise = noise_plan(&config, spec.batch)?;
        let begin = weights.load_beside(&noise, &[("x", step.require("x")?)]).await?;
        let numbers = Numbers::new(device, spec.batch).await?;
        let (trace, staging) = results(device, &config, &spec, schedule.len()).await?;
        let diffusion = diffusion.clone();
        Ok(Sampler { step, begin, numbers, trace, staging, inputs, spec, schedule, config, diffusion })
    }

    /// As [`Sampler::new`], of as many of the batch's images as the device can hold at a time ([`Sampler::batch`]): a chain
    /// of them ends in the same images, whatever the batch, where their first row is told.
    ///
    /// # Errors
    /// As [`Sampler::new`], where one image is too large.
    pub async fn fitting(
        weights: &Weights,
        diffusion: &DiffusionConfig,
        respacing: &str,
        spec: StepSpec,
        set: WeightSet,
    ) -> Result<Sampler> {
        Self::toward_fitting(weights, diffusion, respacing, spec, set, &[&Class]).await
    }

    /// As [`Sampler::fitting`], guided by objectives.
    ///
    /// # Errors
    /// As [`Sampler::toward`], where one image is too large.
    pub async fn toward_fitting(
        weights: &Weights,
        diffusion: &DiffusionConfig,
        respacing: &str,
        mut spec: StepSpec,
        set: WeightSet,
        objectives: &[&dyn Objective],
    ) -> Result<Sampler> {
        loop {
            match Self::toward(weights, diffusion, respacing, spec, set, objectives).await {
                Err(error) => spec.batch = error.smaller_batch(spec.batch).ok_or(error)?,
                sampler => return sampler,
            }
        }
    }

    /// Images of a chain.
    pub fn batch(&self) -> usize {
        self.spec.batch
    }

    /// Changes to another respacing and another solver without compiling anything; `false`: the step of `spec` is
    /// another one. Memory is allocated only where the logits of a longer chain are to be kept.
    ///
    /// # Errors
    /// Bad respacing or η; device errors.
    pub async fn change(&mut self, respacing: &str, spec: StepSpec) -> Result<bool> {
        if !self.spec.same_plan(&spec) || (self.spec.force && !spec.force) {
            return Ok(false);
        }
        let schedule = Schedule::respaced(&self.diffusion, respacing)?;
        spec.solver.check()?;
        let room =
            self.trace.as_ref().is_none_or(|t| t.bytes() >= schedule.len() as u64 * self.logits_bytes());
        if !room {
            (self.trace, self.staging) = results(self.device(), &self.config, &spec, schedule.len()).await?;
        }
        self.schedule = schedule;
        self.spec.solver = spec.solver;
        Ok(true)
    }

    /// The chain's tables.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The process.
    pub fn diffusion(&self) -> &DiffusionConfig {
        &self.diffusion
    }

    /// The loaded step.
    pub fn loaded(&self) -> &Loaded {
        &self.step
    }

    /// The device.
    pub fn device(&self) -> &Device {
        self.step.device()
    }

    /// Size of a batch.
    pub fn images(&self) -> Images {
        self.config.images(self.spec.batch)
    }

    fn logits_bytes(&self) -> u64 {
        device_bytes(&[self.spec.batch, self.config.num_classes])
    }

    /// The numbers of the step at `index`; `before`: the step made just before it in this chain.
    ///
    /// # Errors
    /// [`Error::Config`] for an index past the chain's end.
    pub fn coefficients(&self, index: usize, before: Option<usize>, scale: f32) -> Result<Coefficients> {
        self.spec.solver.coefficients(&StepAt {
            schedule: &self.schedule,
            index,
            before,
            prediction: self.diffusion.prediction,
            learned_variance: self.config.learn_sigma,
            scale: f64::from(scale),
        })
    }

    /// Writes what a single step needs for rows at these indices of the chain, each the first of its chain.
    ///
    /// # Errors
    /// [`Error::Shape`] where the number of rows is not the batch, [`Error::Config`] for an index past the chain's end.
    pub fn prepare(&self, indices: &[usize], scale: f32) -> Result<()> {
        if indices.len() != self.spec.batch {
            let detail = format!("{} rows for a batch of {}", indices.len(), self.spec.batch);
            return Err(Error::shape("sampler", detail));
        }
        let mut words: Vec<f32> = Vec::with_capacity(Coefficients::WORDS * indices.len());
        let mut t: Vec<f32> = Vec::with_capacity(indices.len());
        for &index in indices {
            words.extend(self.coefficients(index, None, scale)?.words());
            t.push(self.schedule.model_timestep(index)?);
        }
        self.step.write("t", bytemuck::cast_slice(&t))?;
        self.step.write("coefficients", bytemuck::cast_slice(&words))
    }

    /// Sets the classes (or targets) and the step size.
    ///
    /// # Errors
    /// [`Error::Config`] for a class out of range or a step size that is no number, [`Error::Shape`] for a wrong number of
    /// labels.
    pub fn guide(&self, labels: &Labels, alpha: f32) -> Result<()> {
        if self.spec.guidance == Guidance::None {
            return Ok(());
        }
        if !alpha.is_finite() {
            return Err(Error::config("alpha", format!("must be a finite number, is {alpha}")));
        }
        self.step.write("alpha", bytemuck::bytes_of(&[alpha, 0.0, 0.0, 0.0]))?;
        // Objectives that read no labels are given none.
        if self.step.buffer("labels").is_none() {
            return Ok(());
        }
        self.step.write("labels", &self.config.head.pack(labels, self.spec.batch, self.config.num_classes)?)
    }

    /// Tells the objectives what they call `name`: \[N\], \[N,columns\], or images \[N,C,H,W\].
    ///
    /// # Errors
    /// [`Error::Config`] for a name that none of them asked for, listing those that were; [`Error::Shape`] for another number of
    /// values.
    pub fn set_input(&self, name: &str, values: &[f32]) -> Result<()> {
        let Some(Input { shape, .. }) = self.inputs.iter().find(|input| input.name == name) else {
            let known: Vec<&str> = self.inputs.iter().map(|input| input.name.as_str()).collect();
            let detail = match &known[..] {
                [] => format!("no objective asks for {name:?}, nor for anything else"),
                _ => format!("no objective asks for {name:?}; asked for: {}", known.join(", ")),
            };
            return Err(Error::config("objective", detail));
        };
        if let [_, _, _, _] = shape[..] {
            return self.step.write(&buffer(name), bytemuck::cast_slice(&self.images().to_device(values)?));
        }
        if shape.iter().product::<usize>() != values.len() {
            let detail = format!("{name:?} is {shape:?}, not {} numbers", values.len());
            return Err(Error::shape("objective", detail));
        }
        let columns = shape.last().copied().unwrap_or(1);
        self.step.write(&buffer(name), bytemuck::cast_slice(&pad_rows(values, columns)))
    }

    /// Puts images \[N,C,H,W\] in −1..1 where the chain works on them.
    ///
    /// # Errors
    /// [`Error::Shape`] where they are not the batch's size.
    pub fn set_images(&self, images: &[f32]) -> Result<()> {
        self.step.write("x", bytemuck::cast_slice(&self.images().to_device(images)?))
    }

    /// Says where the image may change (1) and where not (0), \[N,C,H,W\]; for a step compiled with a mask.
    ///
    /// # Errors
    /// [`Error::Shape`] where it is not the batch's size.
    pub fn set_mask(&self, mask: &[f32]) -> Result<()> {
        self.step.write("mask", bytemuck::cast_slice(&self.images().to_device(mask)?))
    }

    /// The images \[N,C,H,W\] in −1..1 that stay where the mask is 0 (inpainting; Lugmayr et al. 2022 without their resampling); for a
    /// step compiled with a mask.
    ///
    /// # Errors
    /// [`Error::Shape`] where they are not the batch's size.
    pub fn set_original(&self, images: &[f32]) -> Result<()> {
        self.step.write("original", bytemuck::cast_slice(&self.images().to_device(images)?))
    }

    /// Fills the images with the initial noise of `seed`, on the device.
    ///
    /// # Errors
    /// Device errors.
    pub fn start_from_noise(&self, seed: Seed, first_row: u32) -> Result<()> {
        self.begin.write("run", bytemuck::cast_slice(&run_words(seed, 0, first_row)))?;
        self.begin.run();
        Ok(())
    }

    /// Runs the chain from index `from` (exclusive) down to 0 on the images that are there. Nothing is allocated, and
    /// nothing read back but the logits that a curve is watched by.
    ///
    /// # Errors
    /// [`Error::Aborted`] where the listener stops it, device errors, bad labels.
    pub async fn run(&self, from: usize, options: &ChainOptions, mut watch: Watch<'_, [f32]>) -> Result<()> {
        if from > self.schedule.len() {
            let detail = format!("{from} of {} steps", self.schedule.len());
            return Err(Error::config("steps", detail));
        }
        self.guide(&options.labels, options.alpha)?;
        let mut heard = 0;
        let mut tell = |watch: &mut Watch<'_, [f32]>, logits: Option<&[f32]>| {
            heard += 1;
            let progress = Progress { done: heard, total: from };
            let answer = match (watch, logits) {
                (Watch::Progress(hear), _) => hear(progress),
                (Watch::Curve(hear), Some(logits)) => hear(progress, logits),
                _ => ControlFlow::Continue(()),
            };
            if answer.is_break() { Err(Error::Aborted) } else { Ok(()) }
        };
        let mut pace = Pace::new(self.step.device());
        for done in 0..from {
            if done % STEPS == 0 {
                self.upload(from, done, options)?;
            }
            let mark = self.submit(done)?;
            if matches!(watch, Watch::Curve(_)) {
                let logits = self.logits().await?;
                tell(&mut watch, Some(&logits))?;
                continue;
            }
            if pace.submitted(mark).await? {
                tell(&mut watch, None)?;
            }
        }
        while pace.next().await? {
            tell(&mut watch, None)?;
        }
        Ok(())
    }

    /// Writes the numbers of the steps after the first `done` of a chain of `from`.
    fn upload(&self, from: usize, done: usize, options: &ChainOptions) -> Result<()> {
        let row = |done: usize| {
            let index = from - 1 - done;
            let before = (done > 0).then_some(index + 1);
            // After the last step what is kept is the original itself.
            let left =
                index.checked_sub(1).map(|left| self.schedule.q_sample_coefficients(left)).transpose()?;
            Ok(Row {
                coefficients: self.coefficients(index, before, options.alpha)?,
                timestep: self.schedule.model_timestep(index)?,
                kept: left.unwrap_or([1.0, 0.0]),
                run: run_words(options.seed, index as u32, options.first_row),
            })
        };
        let rows = (done..from.min(done + STEPS)).map(row).collect::<Result<Vec<Row>>>()?;
        self.numbers.upload(self.device(), &rows)
    }

    /// Submits the step after the first `done`.
    fn submit(&self, done: usize) -> Result<Mark> {
        let before = self.numbers.transfers(&self.step, done % STEPS);
        let mut after = Vec::new();
        if let (Some(trace), Some(logits)) = (&self.trace, self.step.buffer("logits")) {
            let bytes = self.logits_bytes();
            after.push(Transfer { from: (logits, 0), to: (trace, done as u64 * bytes), bytes });
        }
        self.step.executable().run_between(&before, &after)
    }

    /// The images \[N,C,H,W\] as they are now.
    ///
    /// # Errors
    /// Device errors.
    pub async fn get_images(&self) -> Result<Vec<f32>> {
        let x = self.step.require("x")?;
        self.images().to_host(&self.read(x, x.bytes()).await?)
    }

    /// The logits \[N,K\] of the last step, of x_t before that step.
    ///
    /// # Errors
    /// Device errors.
    pub async fn logits(&self) -> Result<Vec<f32>> {
        let logits = self.read(self.step.require("logits")?, self.logits_bytes()).await?;
        Ok(unpad_rows(&logits, self.config.num_classes))
    }

    /// The logits of the first `steps` steps of the last chain, each \[N,K\] of x_t before the step.
    ///
    /// # Errors
    /// [`Error::Config`] where they were not kept or are not so many; device errors.
    pub async fn trace(&self, steps: usize) -> Result<Vec<Vec<f32>>> {
        let (trace, bytes) = self.traced(steps)?;
        Ok(self.steps_of(&self.read(trace, bytes).await?))
    }

    /// Where the logits of the first `steps` steps lie, and how many bytes they are.
    pub(crate) fn traced(&self, steps: usize) -> Result<(&Buffer, u64)> {
        let bytes = (steps as u64).saturating_mul(self.logits_bytes());
        match &self.trace {
            Some(trace) if bytes <= trace.bytes() => Ok((trace, bytes)),
            _ => Err(Error::config("trace", format!("the logits of {steps} steps were not kept"))),
        }
    }

    /// Logits as they lie in the trace, by step.
    pub(crate) fn steps_of(&self, trace: &[f32]) -> Vec<Vec<f32>> {
        let step = (self.logits_bytes() / 4) as usize;
        trace.chunks_exact(step.max(1)).map(|logits| unpad_rows(logits, self.config.num_classes)).collect()
    }

    async fn read(&self, buffer: &Buffer, bytes: u64) -> Result<Vec<f32>> {
        let [data] = self.staging.read_parts([(buffer, 0, bytes)]).await?;
        Ok(data)
    }
}
