//! Counterfactual explanations (paper section 6.4): noise an image part of the way, denoise it towards another class,
//! and see what had to change.

use crate::diffusion::{DiffusionConfig, Solver};
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Staging, Transfer};
use crate::graph::{Graph, Place, Plan};
use crate::infer::ImageClassifier;
use crate::model::{Head, Labels, ModelConfig, WeightSet};
use crate::rng::{Seed, Stream};
use crate::sampling::{ChainOptions, Finish, Guidance, Progress, Sampler, StepSpec, Watch, run_words};
use crate::tensor::{Images, unpad_rows};
use crate::weights::{Loaded, Weights};
use std::ops::ControlFlow;

/// How a counterfactual is made; the defaults are the paper's where it gives any.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::Duet;
/// use duet::explain::ExplainOptions;
///
/// let mut duet = Duet::load("web/demo/public/model.safetensors").await?;
/// let image = vec![-1.0; duet.image_len()];
/// // Only the upper half of 28 × 28 pixels may change.
/// let mask: Vec<f32> = (0..28 * 28).map(|pixel| if pixel < 14 * 28 { 1.0 } else { 0.0 }).collect();
/// let options = ExplainOptions { respacing: "25".into(), mask: Some(mask), ..ExplainOptions::default() };
/// let made = duet.explain(&image, 8, &options).await?;
/// let (upper, lower) = made.difference.split_at(14 * 28);
/// assert!(upper.iter().any(|d| *d != 0.0) && lower.iter().all(|d| d.abs() < 1e-5));
/// # Ok(()) }) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ExplainOptions {
    /// Share of the chain the image is noised by, above 0 to 1 (paper: 0.2).
    pub noise: f64,
    /// Steps of the whole chain: "" for all, "100", "ddim25" and so on.
    pub respacing: String,
    /// Step size α of Algorithm 1, or scale of Eq. 12.
    pub alpha: f32,
    /// Which guidance.
    pub guidance: Guidance,
    /// Which solver.
    pub solver: Solver,
    /// Clip the predicted x_start. The reference does not; a briefly trained network's errors then add up.
    pub clip: bool,
    /// Seed of the noise.
    pub seed: Seed,
    /// Guide even where the classifier has never seen noised images.
    pub force: bool,
    /// Where the images may change: 1 free, 0 kept, \[H,W\] for every image and channel. The kept part follows the
    /// original, noised to each step (as Lugmayr et al. 2022 inpaint).
    pub mask: Option<Vec<f32>>,
}

impl Default for ExplainOptions {
    fn default() -> Self {
        ExplainOptions {
            noise: 0.2,
            respacing: "100".into(),
            alpha: 60.0,
            guidance: Guidance::Representation,
            solver: Solver::default(),
            clip: true,
            seed: Seed(0),
            force: false,
            mask: None,
        }
    }
}

/// Counterfactuals of a batch of images, \[N,C,H,W\] in −1..1.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::Duet;
/// use duet::explain::ExplainOptions;
///
/// let mut duet = Duet::load("web/demo/public/model.safetensors").await?;
/// let image = vec![-1.0; duet.image_len()];
/// let options = ExplainOptions { respacing: "25".into(), ..ExplainOptions::default() };
/// let made = duet.explain(&image, 8, &options).await?;
/// // How sure the classifier is of class 8 (a bag): of the image, on the way, of the counterfactual.
/// println!("{:.2} {:.2?} {:.2}", made.before[8], made.curve, made.after[8]);
/// assert_eq!(made.curve.len(), 5); // a fifth of 25 steps
/// let darkest = made.difference.iter().copied().fold(0.0, f32::min);
/// assert!(darkest >= -1e-6); // what was black can only become lighter
/// # Ok(()) }) }
/// ```
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The images noised.
    pub noised: Vec<f32>,
    /// The counterfactuals, clipped to −1..1.
    pub counterfactual: Vec<f32>,
    /// Counterfactual minus original, in −2..2.
    pub difference: Vec<f32>,
    /// The classifier's probabilities of the originals \[N,K\].
    pub before: Vec<f32>,
    /// Its probabilities of the counterfactuals.
    pub after: Vec<f32>,
    /// Probability of the target on the way, by step then image; of noised images x_t at their t.
    pub curve: Vec<Vec<f32>>,
}

/// Compiled plans to explain batches of images.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::Duet;
/// use duet::explain::{ExplainOptions, Explainer};
/// use duet::model::WeightSet;
/// use duet::sampling::Watch;
///
/// let duet = Duet::load("web/demo/public/model.safetensors").await?;
/// let diffusion = &duet.checkpoint().diffusion;
/// let options = ExplainOptions { respacing: "10".into(), ..ExplainOptions::default() };
/// let explainer = Explainer::new(duet.weights(), diffusion, 2, &options, WeightSet::Raw).await?;
/// // Two images at once: one towards class 7, one towards class 9.
/// let images = vec![-1.0; 2 * duet.image_len()];
/// let targets = explainer.targets(&images, &[7, 9]).await?;
/// let made = explainer.explain(&images, &targets, 0, Watch::None).await?;
/// assert_eq!(made.counterfactual.len(), images.len());
/// assert!(made.curve.len() == explainer.steps() && made.curve[0].len() == 2);
/// # Ok(()) }) }
/// ```
pub struct Explainer {
    sampler: Sampler,
    finish: Finish,
    /// Makes "noised" of "original".
    begin: Loaded,
    /// Logits of the originals.
    before: Buffer,
    staging: Staging,
    options: ExplainOptions,
    images: Images,
    from: usize,
    config: ModelConfig,
}

/// The plan that noises the images in "original" to "noised", with the generator's initial noise.
fn noising_plan(config: &ModelConfig, batch: usize) -> Result<Plan> {
    let mut graph = Graph::new();
    let shape = config.image_shape(batch);
    let run = graph.leaf(&[4], Place::whole("run"));
    let original = graph.leaf(&shape, Place::whole("original"));
    let coefficients = graph.leaf(&[2 * batch], Place::whole("coefficients"));
    let noise = graph.normal(run, shape, Stream::InitialNoise as u32);
    let noised = graph.q_sample(original, noise, coefficients)?;
    graph.place(noised, Place::whole("noised"));
    graph.compile()
}

impl ExplainOptions {
    fn check(&self) -> Result<()> {
        if !(self.noise > 0.0 && self.noise <= 1.0) {
            return Err(Error::config("noise", format!("must be above 0 and at most 1, is {}", self.noise)));
        }
        if !self.alpha.is_finite() {
            return Err(Error::config("alpha", format!("must be a finite number, is {}", self.alpha)));
        }
        Ok(())
    }

    fn spec(&self, batch: usize) -> StepSpec {
        StepSpec {
            solver: self.solver,
            guidance: self.guidance,
            clip: self.clip,
            force: self.force,
            masked: self.mask.is_some(),
            trace: true,
            ..StepSpec::new(batch)
        }
    }

    /// Steps of one explanation on a chain of `steps`.
    fn start(&self, steps: usize) -> usize {
        ((self.noise * steps as f64).round() as usize).clamp(1, steps)
    }
}

impl Explainer {
    /// Compiles and loads what explaining `batch` images at once needs.
    ///
    /// # Errors
    /// Options out of range; device errors.
    pub async fn new(
        weights: &Weights,
        diffusion: &DiffusionConfig,
        batch: usize,
        options: &ExplainOptions,
        set: WeightSet,
    ) -> Result<Explainer> {
        options.check()?;
        let spec = options.spec(batch);
        let sampler = Sampler::new(weights, diffusion, &options.respacing, spec, set).await?;
        let classifier = ImageClassifier::new(weights, batch, set).await?;
        let finish = Finish::new(weights, &sampler, classifier).await?;
        let config = weights.model().config.clone();
        // With a mask the steps read the original too.
        let given: Vec<_> =
            sampler.loaded().buffer("original").map(|b| ("original", b)).into_iter().collect();
        let begin = weights.load_beside(&noising_plan(&config, batch)?, &given).await?;
        let [_, logits] = finish.finished()?;
        let before = weights.device().buffer("before", logits.bytes()).await?;
        let staging = weights.device().staging(needed(&sampler, &begin, &before)?).await?;
        let (from, images) = (options.start(sampler.schedule().len()), sampler.images());
        let options = options.clone();
        Ok(Explainer { sampler, finish, begin, before, staging, options, images, from, config })
    }

    /// As [`Explainer::new`], of as many of `batch` images as the device can hold at a time ([`Explainer::batch`]).
    ///
    /// # Errors
    /// As [`Explainer::new`], where one image is too large.
    pub async fn fitting(
        weights: &Weights,
        diffusion: &DiffusionConfig,
        mut batch: usize,
        options: &ExplainOptions,
        set: WeightSet,
    ) -> Result<Explainer> {
        loop {
            match Self::new(weights, diffusion, batch, options, set).await {
                Err(error) => batch = error.smaller_batch(batch).ok_or(error)?,
                explainer => return explainer,
            }
        }
    }

    /// Images that are explained at once.
    pub fn batch(&self) -> usize {
        self.images.batch
    }

    /// Changes the options without compiling anything, nor allocating but for a longer chain; `false`: they ask for
    /// another kind of step, and a new explainer is needed.
    ///
    /// # Errors
    /// Options out of range; device errors.
    pub async fn change(&mut self, options: &ExplainOptions) -> Result<bool> {
        options.check()?;
        if !self.sampler.change(&options.respacing, options.spec(self.images.batch)).await? {
            return Ok(false);
        }
        let need = needed(&self.sampler, &self.begin, &self.before)?;
        if self.staging.bytes() < need {
            self.staging = self.sampler.device().staging(need).await?;
        }
        self.from = options.start(self.sampler.schedule().len());
        self.options = options.clone();
        Ok(true)
    }

    /// Steps of one explanation.
    pub fn steps(&self) -> usize {
        self.from
    }

    /// Steps of the whole chain.
    pub fn chain_steps(&self) -> usize {
        self.sampler.schedule().len()
    }

    /// The classifier's probabilities \[N,K\] of any number of images, as they are.
    ///
    /// # Errors
    /// As [`ImageClassifier::probabilities`].
    pub async fn probabilities(&self, images: &[f32]) -> Result<Vec<f32>> {
        self.finish.classifier().probabilities(images).await
    }

    /// What [`Explainer::explain`] takes as targets to move each image to a class. Of a multi-label model these are the
    /// labels as they are decided now with that one added.
    ///
    /// # Errors
    /// [`Error::Config`] for a class out of range; device errors.
    pub async fn targets(&self, images: &[f32], classes: &[usize]) -> Result<Labels> {
        let config = &self.config;
        let now = match config.head {
            Head::Multiclass => Vec::new(),
            Head::MultiLabel => self.probabilities(images).await?,
        };
        config.head.toward(&now, classes, config.num_classes)
    }

    /// Explains one batch: `targets` are what to move to, and `first_row` numbers the first image for the noise. A curve
    /// is heard as the target's probabilities so far. From the upload of the images to the one read-back of all results
    /// nothing is allocated, and nothing read but what a curve is watched by.
    ///
    /// # Errors
    /// [`Error::Shape`] for a wrong number of images, [`Error::Config`] for a class out of range, [`Error::NotFinite`] where
    /// the step size is too large, [`Error::Aborted`], device errors.
    pub async fn explain(
        &self,
        images: &[f32],
        targets: &Labels,
        first_row: u32,
        watch: Watch<'_, [Vec<f32>]>,
    ) -> Result<Explanation> {
        let options = &self.options;
        // Targets are looked at on the way even where they do not guide.
        self.config.head.pack(targets, self.images.batch, self.config.num_classes)?;
        self.sampler.guide(targets, options.alpha)?;
        self.begin_from(images, first_row)?;
        if let Some(mask) = &options.mask {
            self.sampler.set_mask(&self.spread_mask(mask)?)?;
        }
        let (labels, alpha) = (targets.clone(), options.alpha);
        let chain = ChainOptions { seed: options.seed, first_row, labels, alpha };
        match watch {
            Watch::None => self.sampler.run(self.from, &chain, Watch::None).await?,
            Watch::Progress(hear) => self.sampler.run(self.from, &chain, Watch::Progress(hear)).await?,
            Watch::Curve(hear) => {
                let (mut curve, mut lost) = (Vec::new(), false);
                let mut hear = |progress: Progress, logits: &[f32]| match self.agreement(logits, targets) {
                    Ok(step) => {
                        curve.push(step);
                        hear(progress, &curve)
                    }
                    // Logits are of the image on its way.
                    Err(_) => {
                        lost = true;
                        ControlFlow::Break(())
                    }
                };
                let outcome = self.sampler.run(self.from, &chain, Watch::Curve(&mut hear)).await;
                if lost {
                    return Err(not_finite());
                }
                outcome?;
            }
        }
        self.finish.run();
        self.results(images, targets).await
    }

    /// Uploads the images, classifies them, and noises them to where the chain begins.
    fn begin_from(&self, images: &[f32], first_row: u32) -> Result<()> {
        let begin = &self.begin;
        begin.write("original", bytemuck::cast_slice(&self.images.to_device(images)?))?;
        let levels = self.sampler.schedule().q_sample_coefficients(self.from - 1)?;
        begin.write("coefficients", bytemuck::cast_slice(&levels.repeat(self.images.batch)))?;
        begin.write("run", bytemuck::cast_slice(&run_words(self.options.seed, 0, first_row)))?;
        let [x, logits] = self.finish.finished()?;
        let upload = Transfer::whole(begin.require("original")?, x);
        let answer = Transfer::whole(logits, &self.before);
        self.finish.classifier().loaded().executable().run_between(&[upload], &[answer])?;
        let start = Transfer::whole(begin.require("noised")?, self.sampler.loaded().require("x")?);
        begin.executable().run_between(&[], &[start])?;
        Ok(())
    }

    /// Reads what came of a chain.
    async fn results(&self, images: &[f32], targets: &Labels) -> Result<Explanation> {
        let [finished, after] = self.finish.finished()?;
        let (trace, trace_bytes) = self.sampler.traced(self.from)?;
        let whole = |buffer| (buffer, 0, Buffer::bytes(buffer));
        let noised = self.begin.require("noised")?;
        let parts =
            [whole(noised), whole(finished), whole(&self.before), whole(after), (trace, 0, trace_bytes)];
        let data: Vec<f32> = bytemuck::pod_collect_to_vec(&self.staging.read(&parts).await?);
        let mut rest = data.as_slice();
        let [noised, counterfactual, before, after, trace] = parts.map(|(_, _, bytes)| {
            let (part, behind) = rest.split_at((bytes / 4) as usize);
            rest = behind;
            part
        });
        let (head, classes) = (self.config.head, self.config.num_classes);
        let [noised, counterfactual] = [self.images.to_host(noised)?, self.images.to_host(counterfactual)?];
        let answer = |logits| head.probabilities(&unpad_rows(logits, classes), classes);
        let before = answer(before)?;
        if !counterfactual.iter().all(|value| value.is_finite()) {
            return Err(not_finite());
        }
        let after = answer(after)?;
        let difference = counterfactual.iter().zip(images).map(|(c, x)| c - x).collect();
        let steps = self.sampler.steps_of(trace);
        let curve = steps.iter().map(|logits| self.agreement(logits, targets)).collect::<Result<_>>()?;
        Ok(Explanation { noised, counterfactual, difference, before, after, curve })
    }

    /// The mask for every image and channel.
    fn spread_mask(&self, mask: &[f32]) -> Result<Vec<f32>> {
        if mask.len() != self.images.pixels || mask.iter().any(|m| !(0.0..=1.0).contains(m)) {
            let detail = format!("must be {} numbers from 0 to 1, is {}", self.images.pixels, mask.len());
            return Err(Error::config("mask", detail));
        }
        Ok(mask.repeat(self.images.batch * self.images.channels))
    }

    /// Probability of each image's target; of several labels their mean agreement.
    fn agreement(&self, logits: &[f32], targets: &Labels) -> Result<Vec<f32>> {
        let (head, classes) = (self.config.head, self.config.num_classes);
        head.agreement(&head.probabilities(logits, classes)?, targets, classes)
    }
}

/// The error of a chain that went too far.
fn not_finite() -> Error {
    Error::NotFinite { detail: "the counterfactual became NaN; try a smaller --alpha".into() }
}

/// Bytes of everything that one explanation reads: two batches of images, two of logits, those of every step.
fn needed(sampler: &Sampler, begin: &Loaded, before: &Buffer) -> Result<u64> {
    let (_, trace) = sampler.traced(sampler.schedule().len())?;
    Ok(2 * begin.require("noised")?.bytes() + 2 * before.bytes() + trace)
}
