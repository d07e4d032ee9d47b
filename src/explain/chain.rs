//! One chain of local counterfactuals on a device: as many images at once as it was compiled for, each with a target, a
//! strength and a reference path of its own.

use super::explanation::of_targets;
use super::inversion::{Pool, step_words};
use super::options::Local;
use crate::diffusion::{DiffusionConfig, Schedule};
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Run, Staging, Transfer};
use crate::graph::{Place, Plan};
use crate::infer::ImageClassifier;
use crate::model::{Builder, JointModel, Labels, ModelConfig, Target, WeightSet};
use crate::ops::Reference;
use crate::ops::counterfactual::COEFFICIENTS;
use crate::sampling::{Class, Finish, Gradients, Guidance, Pace, Unguided};
use crate::tensor::{Images, check_batch, device_bytes, pad_rows, unpad_rows};
use crate::weights::{Loaded, Weights};

/// What a step of local counterfactuals is compiled for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LocalStep {
    /// What steers.
    pub guidance: Guidance,
    /// See [`Local::normalize`].
    pub normalize: bool,
    /// The buffer "mask" \[H·W\] says where images may change.
    pub masked: bool,
}

/// The plan of one step of `batch` local counterfactuals, whose reference paths are `rows`: of states and of x_starts.
///
/// Its buffers: "x" the image, changed in place; "t"; "coefficients" \[8N\] in the order of `wgsl/counterfactual.wgsl`; "states" and
/// "x_starts" \[rows,H,W,C\]; with guidance "labels", with Algorithm 1 "alpha" \[N\], of a multi-label model "label_weights" \[N,K\];
/// "mask"; result "logits" \[N,K\].
///
/// # Errors
/// As [`JointModel`]'s builders.
pub fn local_step_plan(
    model: &JointModel,
    kind: LocalStep,
    batch: usize,
    rows: [usize; 2],
    set: WeightSet,
) -> Result<Plan> {
    check_batch(batch)?;
    let config = &model.config;
    let shape = config.image_shape(batch);
    let mut b = Builder::new(&model.params, set, false);
    let x = b.graph.leaf(&shape, Place::whole("x"));
    let t = b.graph.leaf(&[batch], Place::whole("t"));
    let coefficients = b.graph.leaf(&[COEFFICIENTS * batch], Place::whole("coefficients"));
    let [states, x_starts] = rows.map(|rows| config.image_shape(rows));
    let states = b.graph.leaf(&states, Place::whole("states"));
    let x_starts = b.graph.leaf(&x_starts, Place::whole("x_starts"));
    let encoded = model.unet.encode(&mut b, x, t)?;
    let features = model.classifier.features(&mut b, &encoded, t)?;
    let logits = model.classifier.logits(&mut b, features)?;
    b.graph.place(logits, Place::whole("logits"));
    let how = Gradients { normalize: kind.normalize, each: true, weighed: true };
    let unguided = Unguided { x, logits, encoded, coefficients: None };
    let guided = kind.guidance.steer(how, &mut b, model, unguided, &[&Class], &mut Vec::new())?;
    let model_out = model.unet.decode(&mut b, &guided.encoded)?;
    let x_start = b.graph.guided_x_start(x, model_out, coefficients, guided.ascent, true)?;
    let [_, height, width, _] = shape;
    let mask = kind.masked.then(|| b.graph.leaf(&[height * width], Place::whole("mask")));
    let radius = Local::radius(config.image_size);
    let reference = Reference { states, x_starts };
    b.graph.advance(x, x_start, reference, coefficients, mask, radius)?;
    b.graph.compile()
}

/// What the chain's numbers come from.
pub(super) struct Numbers<'a> {
    pub pool: &'a Pool,
    pub schedule: &'a Schedule,
    pub diffusion: &'a DiffusionConfig,
    /// Steps.
    pub steps: usize,
    pub options: &'a Local,
    pub mask: Option<&'a [f32]>,
}

/// One image of a batch.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// Where its inversion lies.
    pub slot: usize,
    pub target: Target,
    /// The same as labels of one image.
    pub labels: Labels,
    pub strength: f32,
}

/// What came of a job.
pub(super) struct Outcome {
    pub counterfactual: Vec<f32>,
    pub after: Vec<f32>,
    pub curve: Vec<f32>,
}

/// Who hears of a chain's steps.
pub(super) enum Hear<'a> {
    Nobody,
    /// Of each.
    Steps(&'a mut dyn FnMut() -> Result<()>),
    /// Of each, with the targets' probabilities.
    Curve(&'a mut dyn FnMut(Vec<f32>) -> Result<()>),
}

/// A step loaded for a number of images, and what ends its chains.
pub(super) struct Chain {
    step: Loaded,
    finish: Finish,
    /// Coefficients and timestep of each image, by step.
    table: Buffer,
    /// Logits \[steps,N,K\].
    trace: Buffer,
    staging: Staging,
    images: Images,
    config: ModelConfig,
}

impl Chain {
    /// Loads the chain of `batch` images of up to `steps` steps beside `pool`.
    pub async fn new(
        weights: &Weights,
        pool: &Pool,
        kind: LocalStep,
        batch: usize,
        steps: usize,
        set: WeightSet,
    ) -> Result<Chain> {
        let (config, device) = (weights.model().config.clone(), weights.device());
        let plan = local_step_plan(weights.model(), kind, batch, pool.rows(), set)?;
        let given = [("states", &pool.states), ("x_starts", &pool.x_starts)];
        let step = weights.load_beside(&plan, &given).await?;
        let classifier = ImageClassifier::new(weights, batch, set).await?;
        let images = config.images(batch);
        let finish = Finish::of(weights, step.require("x")?, images, classifier).await?;
        let table = device.buffer("numbers", (steps * batch * (COEFFICIENTS + 1)) as u64 * 4).await?;
        let logits = device_bytes(&[batch, config.num_classes]);
        let trace = device.buffer("trace", logits * steps as u64).await?;
        let [finished, after] = finish.finished()?;
        let staging = device.staging(finished.bytes() + after.bytes() + trace.bytes()).await?;
        Ok(Chain { step, finish, table, trace, staging, images, config })
    }

    fn logits_bytes(&self) -> u64 {
        device_bytes(&[self.images.batch, self.config.num_classes])
    }

    /// Runs the chain of at most as many jobs as it is compiled for: one submission where nobody listens and the device takes
    /// it, and one read-back.
    pub async fn run(&self, jobs: &[Job], numbers: &Numbers<'_>, mut hear: Hear<'_>) -> Result<Vec<Outcome>> {
        // Places that no job takes repeat the first one; what comes of them is dropped.
        let all: Vec<&Job> = jobs
            .iter()
            .chain(std::iter::repeat_with(|| jobs.first()).flatten())
            .take(self.images.batch)
            .collect();
        self.write(&all, numbers)?;
        let steps = numbers.steps;
        let mut runs: Vec<Run<'_>> = (0..steps).map(|done| self.step_run(done)).collect();
        let image = numbers.pool.row_bytes;
        let x = self.step.require("x")?;
        let start = all.iter().enumerate().map(|(place, job)| Transfer {
            from: (&numbers.pool.states, numbers.pool.state(job.slot, steps) as u64 * image),
            to: (x, place as u64 * image),
            bytes: image,
        });
        if let Some(first) = runs.first_mut() {
            first.before.extend(start);
        }
        let device = self.step.device();
        let mut pace = Pace::new(device);
        match &mut hear {
            Hear::Nobody if device.runs_ahead() > 1 => {
                runs.extend(self.finish.runs());
                device.run_all(&runs)?;
            }
            hear => {
                for run in runs {
                    let mark = device.run_all(&[run])?;
                    if let Hear::Curve(tell) = hear {
                        let logits = self.step.require("logits")?;
                        let part = (logits, 0, self.logits_bytes());
                        let [logits] = self.staging.read_parts([part]).await?;
                        tell(self.targets(&logits, jobs)?)?;
                    } else if pace.submitted(mark).await?
                        && let Hear::Steps(tell) = hear
                    {
                        tell()?;
                    }
                }
                device.run_all(&self.finish.runs())?;
                while pace.next().await? {
                    if let Hear::Steps(tell) = hear {
                        tell()?;
                    }
                }
            }
        }
        self.read(jobs, steps).await
    }

    fn step_run(&self, done: usize) -> Run<'_> {
        let batch = self.images.batch;
        let mut place = (done * batch * (COEFFICIENTS + 1)) as u64 * 4;
        let mut run = Run { executable: self.step.executable(), before: Vec::new(), after: Vec::new() };
        for (name, words) in [("coefficients", COEFFICIENTS), ("t", 1)] {
            let bytes = (words * batch) as u64 * 4;
            if let Some(buffer) = self.step.buffer(name) {
                run.before.push(Transfer { from: (&self.table, place), to: (buffer, 0), bytes });
            }
            place += bytes;
        }
        if let Some(logits) = self.step.buffer("logits") {
            let bytes = self.logits_bytes();
            let to = (&self.trace, done as u64 * bytes);
            run.after.push(Transfer { from: (logits, 0), to, bytes });
        }
        run
    }

    /// Uploads everything that the steps are told.
    fn write(&self, jobs: &[&Job], numbers: &Numbers<'_>) -> Result<()> {
        let Numbers { pool, schedule, diffusion, steps, options, mask } = *numbers;
        let (head, classes) = (self.config.head, self.config.num_classes);
        // A gradient as it is has a size of its own; so have those on representations.
        let fitted = options.normalize && options.guidance == Guidance::Gradient;
        let unit = if fitted { Local::unit(self.images.image_len()) } else { 1.0 };
        let mut words: Vec<f32> = Vec::with_capacity(steps * jobs.len() * (COEFFICIENTS + 1));
        for index in (0..steps).rev() {
            for job in jobs {
                words.extend(step_words(schedule, diffusion, index, unit * job.strength, options.locality)?);
                words.push(pool.state(job.slot, index + 1) as f32);
                words.push(pool.x_start(job.slot, index) as f32);
            }
            let t = schedule.model_timestep(index)?;
            words.extend(std::iter::repeat_n(t, jobs.len()));
        }
        self.step.device().write(&self.table, 0, bytemuck::cast_slice(&words))?;
        let mut labels = Vec::new();
        for job in jobs {
            // A multi-label image's row is padded; classes lie one after the other.
            labels.extend(head.pack(&job.labels, 1, classes)?);
        }
        self.step.write("labels", &labels)?;
        let strengths: Vec<f32> = jobs.iter().map(|job| job.strength).collect();
        self.step.write("alpha", bytemuck::cast_slice(&strengths))?;
        let weight = |job: &&Job| {
            let class = job.target.class;
            (0..classes)
                .map(move |label| if label == class { 1.0 } else { options.keep })
                .collect::<Vec<f32>>()
        };
        let weights: Vec<f32> = jobs.iter().flat_map(weight).collect();
        self.step.write("label_weights", bytemuck::cast_slice(&pad_rows(&weights, classes)))?;
        match mask {
            Some(mask) => {
                let mut mask = mask.to_vec();
                mask.resize(mask.len().next_multiple_of(4), 0.0);
                self.step.write("mask", bytemuck::cast_slice(&mask))
            }
            None => Ok(()),
        }
    }

    /// The targets' probabilities of a step's logits, as they lie on the device.
    fn targets(&self, logits: &[f32], jobs: &[Job]) -> Result<Vec<f32>> {
        let targets: Vec<Target> = jobs.iter().map(|job| job.target).collect();
        // Logits are of the images on their way.
        of_targets(&self.config, &unpad_rows(logits, self.config.num_classes), &targets)
            .map_err(|_| not_finite())
    }

    async fn read(&self, jobs: &[Job], steps: usize) -> Result<Vec<Outcome>> {
        let [finished, after] = self.finish.finished()?;
        let trace = self.logits_bytes() * steps as u64;
        let parts = [(finished, 0, finished.bytes()), (after, 0, after.bytes()), (&self.trace, 0, trace)];
        let [finished, after, trace] = self.staging.read_parts(parts).await?;
        let (len, classes) = (self.images.image_len(), self.config.num_classes);
        let images = self.images.to_host(&finished)?;
        let images = images.get(..jobs.len() * len).unwrap_or(&images);
        if !images.iter().all(|value| value.is_finite()) {
            return Err(not_finite());
        }
        let after = unpad_rows(&after, classes);
        let used = after.get(..jobs.len() * classes).unwrap_or(&after);
        let after = self.config.head.probabilities(used, classes)?;
        let mut outcomes: Vec<Outcome> = images
            .chunks_exact(len)
            .zip(after.chunks_exact(classes))
            .map(|(image, after)| Outcome {
                counterfactual: image.to_vec(),
                after: after.to_vec(),
                curve: Vec::with_capacity(steps),
            })
            .collect();
        for step in trace.chunks_exact((self.logits_bytes() / 4) as usize) {
            for (outcome, p) in outcomes.iter_mut().zip(self.targets(step, jobs)?) {
                outcome.curve.push(p);
            }
        }
        Ok(outcomes)
    }
}

/// The error of a chain that went too far.
fn not_finite() -> Error {
    Error::NotFinite { detail: "the counterfactual became NaN; try a smaller --strength".into() }
}
