//! The paper's counterfactuals (section 6.4): noise an image part of the way, denoise it towards another class.

use super::explainer::{Asked, Ears};
use super::explanation::{Explanation, Passes, of_targets};
use super::options::{ExplainOptions, Paper};
use crate::diffusion::DiffusionConfig;
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Staging, Transfer};
use crate::graph::{Graph, Place, Plan};
use crate::infer::ImageClassifier;
use crate::model::{ModelConfig, Target, WeightSet};
use crate::rng::{Seed, Stream};
use crate::sampling::{ChainOptions, Finish, Guidance, Progress, Sampler, StepSpec, Watch, run_words};
use crate::tensor::{Images, unpad_rows};
use crate::weights::{Loaded, Weights};
use std::ops::ControlFlow;

/// Plans and memory of the paper's counterfactuals.
pub(super) struct PaperEngine {
    sampler: Sampler,
    finish: Finish,
    /// Makes "noised" of "original".
    begin: Loaded,
    staging: Staging,
    images: Images,
    from: usize,
    config: ModelConfig,
    guided: bool,
}

/// Requests that are explained together: their seed, the row of the first one's noise, and which they are.
struct Part {
    seed: Seed,
    first_row: u32,
    requests: Vec<usize>,
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

fn spec(options: &ExplainOptions, paper: &Paper, batch: usize) -> StepSpec {
    StepSpec {
        solver: paper.solver,
        guidance: paper.guidance,
        clip: paper.clip,
        force: options.force,
        masked: options.mask.is_some(),
        trace: true,
        ..StepSpec::new(batch)
    }
}

impl PaperEngine {
    pub async fn new(
        weights: &Weights,
        diffusion: &DiffusionConfig,
        batch: usize,
        options: &ExplainOptions,
        paper: &Paper,
        set: WeightSet,
    ) -> Result<PaperEngine> {
        let (_, from) = options.chain(diffusion)?;
        let spec = spec(options, paper, batch);
        let sampler = Sampler::new(weights, diffusion, &options.respacing, spec, set).await?;
        let classifier = ImageClassifier::new(weights, batch, set).await?;
        let finish = Finish::new(weights, &sampler, classifier).await?;
        let config = weights.model().config.clone();
        // With a mask the steps read the original too.
        let given: Vec<_> =
            sampler.loaded().buffer("original").map(|b| ("original", b)).into_iter().collect();
        let begin = weights.load_beside(&noising_plan(&config, batch)?, &given).await?;
        let staging = weights.device().staging(needed(&sampler, &begin, &finish)?).await?;
        let (images, guided) = (sampler.images(), paper.guidance != Guidance::None);
        Ok(PaperEngine { sampler, finish, begin, staging, images, from, config, guided })
    }

    /// Images that are explained at once.
    pub fn batch(&self) -> usize {
        self.images.batch
    }

    /// Steps of one chain, and of the whole one.
    pub fn steps(&self) -> [usize; 2] {
        [self.from, self.sampler.schedule().len()]
    }

    /// Takes other options; `false`: they need another plan.
    pub async fn change(&mut self, options: &ExplainOptions, paper: &Paper) -> Result<bool> {
        if !self.sampler.change(&options.respacing, spec(options, paper, self.images.batch)).await? {
            return Ok(false);
        }
        let need = needed(&self.sampler, &self.begin, &self.finish)?;
        if self.staging.bytes() < need {
            self.staging = self.sampler.device().staging(need).await?;
        }
        (_, self.from) = options.chain(self.sampler.diffusion())?;
        Ok(true)
    }

    /// Explains everything that is asked.
    pub async fn explain(
        &mut self,
        asked: &Asked<'_>,
        paper: &Paper,
        mask: Option<&[f32]>,
        ears: &mut Ears<'_, '_>,
    ) -> Result<Vec<Explanation>> {
        if let Some(mask) = mask {
            self.sampler.set_mask(&mask.repeat(self.images.batch * self.images.channels))?;
        }
        let parts = self.parts(asked)?;
        let mut made = Vec::with_capacity(asked.requests.len());
        for (number, part) in parts.iter().enumerate() {
            ears.expect(self.from * (parts.len() - number));
            self.run(asked, part, paper, ears).await?;
            self.finish.run();
            self.read(asked, part, paper, &mut made).await?;
        }
        Ok(made)
    }

    /// Requests in their order, cut where a batch is full, the seed is another or the image is not the next one: rows of noise
    /// count up within a batch.
    fn parts(&self, asked: &Asked<'_>) -> Result<Vec<Part>> {
        let mut parts: Vec<Part> = Vec::new();
        for index in 0..asked.requests.len() {
            let origin = asked.origin(index)?;
            match parts.last_mut() {
                Some(part)
                    if part.requests.len() < self.images.batch
                        && part.seed == origin.seed
                        && part.first_row.wrapping_add(part.requests.len() as u32) == origin.row =>
                {
                    part.requests.push(index);
                }
                _ => parts.push(Part { seed: origin.seed, first_row: origin.row, requests: vec![index] }),
            }
        }
        Ok(parts)
    }

    async fn run(
        &self,
        asked: &Asked<'_>,
        part: &Part,
        paper: &Paper,
        ears: &mut Ears<'_, '_>,
    ) -> Result<()> {
        let Part { seed, first_row, ref requests } = *part;
        // The last batch is filled up with its own images, which are dropped.
        let filled: Vec<usize> = requests.iter().cycle().take(self.images.batch).copied().collect();
        let labels = asked.labels(&filled)?;
        self.config.head.pack(&labels, self.images.batch, self.config.num_classes)?;
        let mut images = Vec::with_capacity(self.images.len());
        for index in &filled {
            images.extend_from_slice(asked.image(asked.request(*index)?.0.image)?);
        }
        let begin = &self.begin;
        begin.write("original", bytemuck::cast_slice(&self.images.to_device(&images)?))?;
        let levels = self.sampler.schedule().q_sample_coefficients(self.from - 1)?;
        begin.write("coefficients", bytemuck::cast_slice(&levels.repeat(self.images.batch)))?;
        begin.write("run", bytemuck::cast_slice(&run_words(seed, 0, first_row)))?;
        let start = Transfer::whole(begin.require("noised")?, self.sampler.loaded().require("x")?);
        begin.executable().run_between(&[], &[start])?;
        let chain = ChainOptions { seed, first_row, labels, alpha: paper.alpha };
        if ears.curve() {
            let targets = self.targets(asked, part)?;
            let (mut curve, mut stopped) = (Vec::new(), None);
            let mut hear = |_: Progress, logits: &[f32]| {
                let outcome = match of_targets(&self.config, logits, &targets) {
                    Ok(step) => {
                        curve.push(step);
                        ears.step_with(&curve)
                    }
                    // Logits are of the image on its way.
                    Err(_) => Err(not_finite()),
                };
                match outcome {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => {
                        stopped = Some(error);
                        ControlFlow::Break(())
                    }
                }
            };
            let outcome = self.sampler.run(self.from, &chain, Watch::Curve(&mut hear)).await;
            return stopped.map_or(outcome, Err);
        }
        if !ears.any() {
            return self.sampler.run(self.from, &chain, Watch::None).await;
        }
        let mut hear =
            |_| if ears.step().is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        self.sampler.run(self.from, &chain, Watch::Progress(&mut hear)).await
    }

    fn targets(&self, asked: &Asked<'_>, part: &Part) -> Result<Vec<Target>> {
        part.requests.iter().map(|index| Ok(asked.request(*index)?.0.target)).collect()
    }

    /// Reads what came of a chain.
    async fn read(
        &self,
        asked: &Asked<'_>,
        part: &Part,
        paper: &Paper,
        made: &mut Vec<Explanation>,
    ) -> Result<()> {
        let [finished, after] = self.finish.finished()?;
        let (trace, trace_bytes) = self.sampler.traced(self.from)?;
        let whole = |buffer| (buffer, 0, Buffer::bytes(buffer));
        let noised = self.begin.require("noised")?;
        let parts = [whole(noised), whole(finished), whole(after), (trace, 0, trace_bytes)];
        let [noised, finished, after, trace] = self.staging.read_parts(parts).await?;
        let (head, classes, len) = (self.config.head, self.config.num_classes, self.images.image_len());
        let [noised, finished] = [self.images.to_host(&noised)?, self.images.to_host(&finished)?];
        if !finished.iter().all(|value| value.is_finite()) {
            return Err(not_finite());
        }
        let after = head.probabilities(&unpad_rows(&after, classes), classes)?;
        let targets = self.targets(asked, part)?;
        let steps = self.sampler.steps_of(&trace);
        let curve = steps.iter().map(|logits| of_targets(&self.config, logits, &targets));
        let curve = curve.collect::<Result<Vec<_>>>()?;
        let rows = finished.chunks_exact(len).zip(noised.chunks_exact(len)).zip(after.chunks_exact(classes));
        for (place, (((image, noised), after), index)) in rows.zip(&part.requests).enumerate() {
            let (request, _) = asked.request(*index)?;
            let before = asked.before(request.image)?;
            let (reached, moved) = head.reached(before, after, request.target)?;
            let original = asked.image(request.image)?;
            let backward = if self.guided { self.from } else { 0 };
            made.push(Explanation {
                target: request.target,
                seed: request.seed,
                noised: noised.to_vec(),
                counterfactual: image.to_vec(),
                difference: image.iter().zip(original).map(|(c, x)| c - x).collect(),
                before: before.to_vec(),
                after: after.to_vec(),
                curve: curve.iter().filter_map(|step| step.get(place)).copied().collect(),
                reached,
                moved,
                rung: 0,
                strength: paper.alpha,
                chains: 1,
                passes: Passes { encoder: self.from + 1, decoder: self.from, backward },
            });
        }
        Ok(())
    }
}

/// The error of a chain that went too far.
fn not_finite() -> Error {
    Error::NotFinite { detail: "the counterfactual became NaN; try a smaller --alpha".into() }
}

/// Bytes of everything that one explanation reads: two batches of images, their logits, those of every step.
fn needed(sampler: &Sampler, begin: &Loaded, finish: &Finish) -> Result<u64> {
    let (_, trace) = sampler.traced(sampler.schedule().len())?;
    let [_, logits] = finish.finished()?;
    Ok(2 * begin.require("noised")?.bytes() + logits.bytes() + trace)
}
