//! Counterfactual explanations (paper section 6.4): noise an image part of the way, denoise it towards another class,
//! and see what had to change.

use super::config::DiffusionConfig;
use super::sample::{Chain, ChainOptions, Guidance, Progress, Sampler, StepSpec};
use crate::error::{Error, Result};
use crate::infer::{ImageClassifier, probabilities};
use crate::model::Head;
use crate::rng::{Seed, Stream, normal_fill};
use crate::runtime::{Images, Weights};

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
}

impl Default for ExplainOptions {
    fn default() -> Self {
        ExplainOptions {
            noise: 0.2,
            respacing: "100".into(),
            alpha: 20.0,
            guidance: Guidance::Representation,
            chain: Chain::Ancestral,
            clip: true,
            seed: Seed(0),
            force: false,
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
        set: &'static str,
    ) -> Result<Explainer> {
        if !(options.noise > 0.0 && options.noise <= 1.0) {
            return Err(Error::config(
                "noise",
                format!("must be above 0 and at most 1, is {}", options.noise),
            ));
        }
        let spec = StepSpec {
            chain: options.chain,
            guidance: options.guidance,
            clip: options.clip,
            force: options.force,
            ..StepSpec::new(batch)
        };
        let sampler = Sampler::new(weights, diffusion, &options.respacing, spec, set).await?;
        let classifier = ImageClassifier::new(weights, batch, set).await?;
        let steps = sampler.schedule().len();
        let from = ((options.noise * steps as f64).round() as usize).clamp(1, steps);
        let images = Images::of(&weights.model().config, batch);
        let (options, weights) = (options.clone(), weights.clone());
        Ok(Explainer { sampler, classifier, options, images, from, weights })
    }

    /// Steps of one explanation.
    pub fn steps(&self) -> usize {
        self.from
    }

    /// Explains one batch: `targets` are the classes to move to (of a multi-label model the wanted labels \[N,K\]), and
    /// `first_row` numbers the first image for the noise. `on_step` may stop by returning `false`.
    ///
    /// # Errors
    /// [`Error::Shape`] for a wrong number of images, [`Error::Config`] for a class out of range, [`Error::Aborted`],
    /// device errors.
    pub async fn explain(
        &self,
        images: &[f32],
        targets: &[f32],
        first_row: u32,
        mut on_step: impl FnMut(&Progress) -> bool,
    ) -> Result<Explanation> {
        self.sampler.guide(targets, self.options.alpha)?;
        let before = self.classifier.probabilities(images).await?;
        let [start, spread] = self.sampler.schedule().q_sample_coefficients(self.from - 1);
        let mut noised = vec![0.0f32; self.images.len()];
        if images.len() != noised.len() {
            let detail = format!("{} values for {:?}", images.len(), self.images);
            return Err(Error::shape("explain", detail));
        }
        for (row, part) in noised.chunks_mut(self.images.image_len()).enumerate() {
            normal_fill(self.options.seed, Stream::InitialNoise, 0, first_row + row as u32, part);
        }
        for (value, image) in noised.iter_mut().zip(images) {
            *value = start * image + spread * *value;
        }
        self.sampler.set_images(&noised)?;
        let chain = ChainOptions {
            seed: self.options.seed,
            first_row,
            labels: targets.to_vec(),
            alpha: self.options.alpha,
        };
        let mut curve = Vec::new();
        for done in 0..self.from {
            self.sampler.step(self.from - 1 - done, &chain).await?;
            let rows = probabilities(&self.weights.model().config, &self.sampler.logits().await?);
            curve.push(self.target_probability(&rows, targets));
            if !on_step(&Progress { done: done + 1, total: self.from }) {
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

    /// Probability of each image's target; of several labels their mean agreement.
    fn target_probability(&self, rows: &[f32], targets: &[f32]) -> Vec<f32> {
        let config = &self.weights.model().config;
        let classes = config.num_classes;
        let rows = rows.chunks_exact(classes).take(self.images.batch);
        match config.head {
            Head::Multiclass => rows.zip(targets).map(|(row, t)| row[*t as usize]).collect(),
            Head::MultiLabel => rows
                .zip(targets.chunks_exact(classes))
                .map(|(row, wanted)| {
                    let agree = |(p, w): (&f32, &f32)| if *w > 0.5 { *p } else { 1.0 - p };
                    row.iter().zip(wanted).map(agree).sum::<f32>() / classes as f32
                })
                .collect(),
        }
    }
}
