//! Whole steps: what a user waits for, with the memory each one takes.

use super::models::Subject;
use super::results::{Kind, Line, Memory};
use super::timing::best;
use duet::families::Choices;
use duet::gpu::{Buffer, Device, Executable};
use duet::graph::{Place, Plan};
use duet::infer::classify_plan;
use duet::model::{Builder, Head, JointModel, Labels, WeightSet};
use duet::rng::Seed;
use duet::sampling::{Guidance, StepSpec, step_plan};
use duet::train::{Augment, Batch, ClassifierInput, TrainSpec, Trainer, train_plan};
use duet::weights::{Loaded, Weights};
use duet::{Error, Result};
use std::sync::Arc;
use std::time::Instant;

/// A whole step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Encoder and classifier on clean images.
    Classify,
    /// The UNet alone, image to noise: what other frameworks call its forward pass.
    Eps,
    /// A step of an unguided chain, with the classifier's answer.
    Denoising,
    /// A step of Algorithm 1.
    Guided,
    /// Losses, gradients, AdamW and moving average.
    Training(ClassifierInput),
}

impl Step {
    /// All of them, in the order in which they are printed.
    pub const ALL: [Step; 8] = [
        Step::Classify,
        Step::Eps,
        Step::Denoising,
        Step::Guided,
        Step::Training(ClassifierInput::None),
        Step::Training(ClassifierInput::Noised),
        Step::Training(ClassifierInput::Clean),
        Step::Training(ClassifierInput::Both),
    ];

    /// The one whose start-up is measured: everything is in it.
    pub const TRAINING: Step = Step::Training(ClassifierInput::Both);

    /// The line's name.
    pub fn name(self, subject: &Subject, batch: usize) -> String {
        let kind = match self {
            Step::Classify => "classify",
            Step::Eps => "eps",
            Step::Denoising => "denoising step",
            Step::Guided => "guided step",
            Step::Training(ClassifierInput::None) => "training step, noise only,",
            Step::Training(ClassifierInput::Noised) => "training step, noised classifier,",
            Step::Training(ClassifierInput::Clean) => "training step, clean classifier,",
            Step::Training(ClassifierInput::Both) => "training step, both classifiers,",
        };
        format!("{kind} {} b{batch}", subject.name)
    }

    /// The step compiled.
    ///
    /// # Errors
    /// As [`JointModel`]'s builders.
    pub fn plan(self, subject: &Subject, batch: usize) -> Result<Plan> {
        let (model, diffusion) = (&subject.model, &subject.diffusion);
        let spec = |guidance| StepSpec { guidance, ..StepSpec::new(batch) };
        match self {
            Step::Classify => classify_plan(model, batch, WeightSet::Raw),
            Step::Eps => eps_plan(model, batch),
            Step::Denoising => step_plan(model, &spec(Guidance::None), WeightSet::Raw),
            Step::Guided => step_plan(model, &spec(Guidance::Representation), WeightSet::Raw),
            Step::Training(input) => {
                train_plan(model, diffusion, &TrainSpec::of(&train_options(subject, batch, input)))
            }
        }
    }
}

fn train_options(subject: &Subject, batch: usize, input: ClassifierInput) -> duet::train::TrainOptions {
    let mut train = subject.train.clone();
    // Without a classifier there is nothing that could be trained alone.
    train.classifier_only &= input != ClassifierInput::None;
    // Only images that are the classifier's own are augmented, and mixed in pairs.
    let own = matches!(input, ClassifierInput::Clean | ClassifierInput::Both) || train.classifier_only;
    if !own {
        train.augment = Augment::default();
    }
    train.augment.mixup = train.augment.mixup.filter(|_| batch.is_multiple_of(2));
    duet::train::TrainOptions { batch_size: batch, micro_batches: 1, classifier_input: input, ..train }
}

fn eps_plan(model: &JointModel, batch: usize) -> Result<Plan> {
    let config = &model.config;
    let mut b = Builder::new(&model.params, WeightSet::Raw, false);
    let shape = [batch, config.image_size, config.image_size, config.in_channels];
    let x = b.graph.leaf(&shape, Place::whole("x"));
    let t = b.graph.leaf(&[batch], Place::whole("t"));
    let encoded = model.unet.encode(&mut b, x, t)?;
    let out = model.unet.decode(&mut b, &encoded)?;
    b.graph.place(out, Place::whole("model_out"));
    b.graph.compile()
}

enum Runner {
    Plan(Loaded),
    Training(Box<Trainer>, Batch),
}

impl Runner {
    fn loaded(&self) -> Vec<&Loaded> {
        match self {
            Runner::Plan(loaded) => vec![loaded],
            Runner::Training(trainer, _) => trainer.plans().to_vec(),
        }
    }
}

/// A step on the device, fed with data.
pub struct Ready {
    /// The line's name.
    pub name: String,
    /// What runs.
    pub plan: Plan,
    runner: Runner,
    memory: Memory,
}

impl Ready {
    /// Compiles the plan and loads it with fresh weights.
    ///
    /// # Errors
    /// Device errors.
    pub fn load(device: &Device, subject: &Subject, step: Step, batch: usize) -> Result<Ready> {
        let plan = step.plan(subject, batch)?.chosen(&Choices::of_device(device))?;
        let images = subject.model.config.images(batch);
        let pixels: Vec<f32> = (0..images.len()).map(|i| (i % 17) as f32 / 8.0 - 1.0).collect();
        let tensors = subject.model.params.initial(Seed(1));
        let before = device.counters().live_bytes;
        let (runner, weights) = if let Step::Training(input) = step {
            let options = train_options(subject, batch, input);
            let new = Trainer::new(device, Arc::clone(&subject.model), &subject.diffusion, &options);
            let trainer = Box::new(pollster::block_on(new)?);
            let weights = trainer.weights().clone();
            let data = Batch { images: pixels, labels: labels(&subject.model, batch) };
            (Runner::Training(trainer, data), weights)
        } else {
            let upload = Weights::upload(device, Arc::clone(&subject.model), &tensors, None);
            let weights = pollster::block_on(upload)?;
            let loaded = pollster::block_on(weights.load(&plan))?;
            loaded.write("x", bytemuck::cast_slice(&images.to_device(&pixels)?))?;
            (Runner::Plan(loaded), weights)
        };
        // What the device allocated by its own count, weights and moments included.
        let live = device.counters().live_bytes.saturating_sub(before);
        let loaded = runner.loaded();
        let own = plan.externals().flat_map(|(name, _)| loaded.iter().filter_map(move |l| l.buffer(name)));
        let own = own.map(Buffer::bytes);
        let named = weights.bytes() + own.sum::<u64>();
        let stats = plan.stats();
        let memory = Memory {
            planned_bytes: stats.slot_bytes,
            lower_bound_bytes: stats.lower_bound,
            unshared_bytes: stats.unshared_bytes,
            allocated_bytes: live.saturating_sub(named),
            named_bytes: named,
            live_bytes: live,
        };
        Ok(Ready { name: step.name(subject, batch), plan, runner, memory })
    }

    /// The programs on the device: together the plan's launches.
    pub fn executables(&self) -> Vec<&Executable> {
        self.runner.loaded().into_iter().map(Loaded::executable).collect()
    }

    fn device(&self) -> Device {
        let loaded = match &self.runner {
            Runner::Plan(loaded) => loaded,
            Runner::Training(trainer, _) => trainer.plans()[0],
        };
        loaded.device().clone()
    }

    /// Runs the step once and waits for it; seconds until it was handed to the device.
    ///
    /// # Errors
    /// Device errors.
    pub fn run(&mut self) -> Result<f64> {
        let device = self.device();
        let start = Instant::now();
        match &mut self.runner {
            Runner::Plan(loaded) => loaded.run(),
            Runner::Training(trainer, data) => trainer.train_step(data, 1e-4)?,
        }
        let host = start.elapsed().as_secs_f64();
        device.wait()?;
        Ok(host)
    }

    /// The step measured for at least `seconds`.
    ///
    /// # Errors
    /// Device errors; a step that allocates, which none may.
    pub fn measure(&mut self, batch: usize, seconds: f64) -> Result<Line> {
        let device = self.device();
        let loaded = device.counters().live_bytes;
        let mut host = f64::INFINITY;
        let seconds = best(seconds, 3, || {
            host = host.min(self.run()?);
            Ok(())
        })?;
        let now = device.counters().live_bytes;
        if now != loaded {
            let detail = format!("{}: {loaded} bytes before, {now} after running", self.name);
            return Err(Error::Gpu { detail });
        }
        let stats = self.plan.stats();
        let mut line = Line::new(Kind::Step, &self.name, seconds, &self.plan.program().launches);
        line.images_per_second = Some(batch as f64 / seconds);
        line.host_seconds = Some(host);
        line.pipelines = Some(stats.pipelines as u64);
        line.memory = Some(self.memory);
        Ok(line)
    }
}

fn labels(model: &JointModel, batch: usize) -> Labels {
    let classes = model.config.num_classes;
    match model.config.head {
        Head::Multiclass => Labels::Classes((0..batch).map(|i| (i % classes) as u32).collect()),
        Head::MultiLabel => Labels::MultiLabel((0..batch * classes).map(|i| (i % 2) as f32).collect()),
    }
}
