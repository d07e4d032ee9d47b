//! Counterfactual explanations (paper section 6.4): noise an image part of the way, denoise it towards another class,
//! and see what had to change.

use crate::diffusion::DiffusionConfig;
use crate::error::{Error, Result};
use crate::infer::ImageClassifier;
use crate::model::{Head, Labels, WeightSet};
use crate::rng::{Seed, Stream, normal_fill};
use crate::sampling::{Chain, ChainOptions, Guidance, Progress, Sampler, StepSpec};
use crate::tensor::Images;
use crate::weights::Weights;

/// How a counterfactual is made; the defaults are the paper's where it gives any.
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
    /// Which chain.
    pub chain: Chain,
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
            chain: Chain::default(),
            clip: true,
            seed: Seed(0),
            force: false,
            mask: None,
        }
    }
}

/// Counterfactuals of a batch of images, \[N,C,H,W\] in −1..1.
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
pub struct Explainer {
    sampler: Sampler,
    classifier: ImageClassifier,
    options: ExplainOptions,
    images: Images,
    from: usize,
    weights: Weights,
}

impl ExplainOptions {
    fn check(&self) -> Result<()> {
        if self.noise > 0.0 && self.noise <= 1.0 {
            return Ok(());
        }
        Err(Error::config("noise", format!("must be above 0 and at most 1, is {}", self.noise)))
    }

    fn spec(&self, batch: usize) -> StepSpec {
        StepSpec {
            chain: self.chain,
            guidance: self.guidance,
            clip: self.clip,
            force: self.force,
            masked: self.mask.is_some(),
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
        let from = options.start(sampler.schedule().len());
        let images = weights.model().config.images(batch);
        let (options, weights) = (options.clone(), weights.clone());
        Ok(Explainer { sampler, classifier, options, images, from, weights })
    }

    /// Changes the options without compiling or allocating anything; `false`: they ask for another kind of step, and
    /// a new explainer is needed.
    ///
    /// # Errors
    /// Options out of range.
    pub fn change(&mut self, options: &ExplainOptions) -> Result<bool> {
        options.check()?;
        if !self.sampler.change(&options.respacing, options.spec(self.images.batch))? {
            return Ok(false);
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
        self.classifier.probabilities(images).await
    }

    /// What [`Explainer::explain`] takes as targets to move each image to a class. Of a multi-label model these are the
    /// labels as they are decided now with that one added.
    ///
    /// # Errors
    /// [`Error::Config`] for a class out of range; device errors.
    pub async fn targets(&self, images: &[f32], classes: &[usize]) -> Result<Labels> {
        let config = &self.weights.model().config;
        let now = match config.head {
            Head::Multiclass => Vec::new(),
            Head::MultiLabel => self.classifier.probabilities(images).await?,
        };
        config.head.toward(&now, classes, config.num_classes)
    }

    /// Explains one batch: `targets` are what to move to, and `first_row` numbers the first image for the noise. `on_step` hears of each step and of the target's probabilities
    /// so far, and may stop by returning `false`.
    ///
    /// # Errors
    /// [`Error::Shape`] for a wrong number of images, [`Error::Config`] for a class out of range, [`Error::Aborted`],
    /// device errors.
    pub async fn explain(
        &self,
        images: &[f32],
        targets: &Labels,
        first_row: u32,
        mut on_step: impl FnMut(&Progress, &[Vec<f32>]) -> bool,
    ) -> Result<Explanation> {
        self.sampler.guide(targets, self.options.alpha)?;
        let before = self.classifier.probabilities(images).await?;
        if images.len() != self.images.len() {
            let detail = format!("{} values for {:?}", images.len(), self.images);
            return Err(Error::shape("explain", detail));
        }
        let noised = self.noise(images, self.from - 1, (Stream::InitialNoise, 0), first_row);
        self.sampler.set_images(&noised)?;
        if let Some(mask) = &self.options.mask {
            self.sampler.set_mask(&self.spread_mask(mask)?)?;
        }
        let chain = ChainOptions {
            seed: self.options.seed,
            first_row,
            labels: targets.clone(),
            alpha: self.options.alpha,
        };
        let mut curve = Vec::new();
        for done in 0..self.from {
            let index = self.from - 1 - done;
            if self.options.mask.is_some() {
                self.sampler.set_known(&self.known(images, index, first_row))?;
            }
            self.sampler.step(index, &chain).await?;
            curve.push(self.agreement(&self.sampler.logits().await?, targets));
            if !on_step(&Progress { done: done + 1, total: self.from }, &curve) {
                return Err(Error::Aborted);
            }
        }
        let mut counterfactual = self.sampler.get_images().await?;
        for value in &mut counterfactual {
            *value = value.clamp(-1.0, 1.0);
        }
        let after = self.classifier.probabilities(&counterfactual).await?;
        let difference = counterfactual.iter().zip(images).map(|(c, x)| c - x).collect();
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

    /// The originals as they would be after step `index`: noised to what is left of the chain.
    fn known(&self, images: &[f32], index: usize, first_row: u32) -> Vec<f32> {
        match index.checked_sub(1) {
            Some(left) => self.noise(images, left, (Stream::KeptNoise, index as u32), first_row),
            None => images.to_vec(),
        }
    }

    /// x_t of images at chain index `index`, with the noise of a stream at a step.
    fn noise(&self, images: &[f32], index: usize, (stream, step): (Stream, u32), first_row: u32) -> Vec<f32> {
        let [start, spread] = self.sampler.schedule().q_sample_coefficients(index);
        let mut noised = vec![0.0f32; images.len()];
        for (row, part) in noised.chunks_mut(self.images.image_len()).enumerate() {
            normal_fill(self.options.seed, stream, step, first_row + row as u32, part);
        }
        noised.iter_mut().zip(images).for_each(|(value, image)| *value = start * image + spread * *value);
        noised
    }

    /// Probability of each image's target; of several labels their mean agreement.
    fn agreement(&self, logits: &[f32], targets: &Labels) -> Vec<f32> {
        let config = &self.weights.model().config;
        let rows = config.head.probabilities(logits, config.num_classes);
        config.head.agreement(&rows, targets, config.num_classes)
    }
}
