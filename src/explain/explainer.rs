//! Compiled plans that explain any number of images, by either method.

use super::explanation::{Explanation, Variants};
use super::inversion::Origin;
use super::local::LocalEngine;
use super::options::{ExplainOptions, Method, Request};
use super::paper::PaperEngine;
use crate::diffusion::DiffusionConfig;
use crate::error::{Error, Result};
use crate::gpu::Staging;
use crate::infer::ImageClassifier;
use crate::model::{Head, Labels, ModelConfig, Target, WeightSet};
use crate::sampling::{Guidance, Progress, Watch, guidable};
use crate::tensor::Images;
use crate::weights::Weights;
use std::ops::ControlFlow;

/// What is asked, checked, with what the classifier says of the images now.
pub(super) struct Asked<'a> {
    pub images: &'a [f32],
    pub requests: &'a [Request],
    pub first_row: u32,
    pub head: Head,
    /// Probabilities \[M,K\] of the images.
    before: Vec<f32>,
    /// Of each request.
    labels: Labels,
    len: usize,
    classes: usize,
}

impl Asked<'_> {
    /// The request at `index`, and its labels as those of one image.
    pub fn request(&self, index: usize) -> Result<(Request, Labels)> {
        let request = self.requests.get(index).ok_or_else(|| out_of_range("request", index))?;
        Ok((*request, self.labels.rows(index..index + 1, self.classes)?))
    }

    /// The labels of requests.
    pub fn labels(&self, requests: &[usize]) -> Result<Labels> {
        self.labels.pick(requests, self.classes)
    }

    /// An image.
    pub fn image(&self, image: usize) -> Result<&[f32]> {
        let found = self.images.chunks_exact(self.len.max(1)).nth(image);
        found.ok_or_else(|| out_of_range("image", image))
    }

    /// Its probabilities.
    pub fn before(&self, image: usize) -> Result<&[f32]> {
        let found = self.before.chunks_exact(self.classes.max(1)).nth(image);
        found.ok_or_else(|| out_of_range("image", image))
    }

    /// What is inverted for a request.
    pub fn origin(&self, index: usize) -> Result<Origin> {
        let (request, _) = self.request(index)?;
        let row = self.first_row.wrapping_add(request.image as u32);
        Ok(Origin { image: self.image(request.image)?.to_vec(), seed: request.seed, row })
    }
}

fn out_of_range(what: &str, index: usize) -> Error {
    Error::shape("explain", format!("there is no {what} {index}, counted from 0"))
}

/// Who hears of the steps of all chains, and how far they are.
pub(super) struct Ears<'a, 'w> {
    watch: &'a mut Watch<'w, [Vec<f32>]>,
    done: usize,
    total: usize,
}

impl<'a, 'w> Ears<'a, 'w> {
    pub fn new(watch: &'a mut Watch<'w, [Vec<f32>]>) -> Ears<'a, 'w> {
        Ears { watch, done: 0, total: 0 }
    }

    pub fn any(&self) -> bool {
        !matches!(self.watch, Watch::None)
    }

    /// Whether each step's probabilities are heard of.
    pub fn curve(&self) -> bool {
        matches!(self.watch, Watch::Curve(_))
    }

    /// So many steps are to come, as far as is known now.
    pub fn expect(&mut self, steps: usize) {
        self.total = self.total.max(self.done + steps);
    }

    /// One step has run.
    pub fn step(&mut self) -> Result<()> {
        self.step_with(&[])
    }

    /// One step has run; `curve`: what the classifier has said so far of the images under way, by step then image.
    pub fn step_with(&mut self, curve: &[Vec<f32>]) -> Result<()> {
        self.done += 1;
        let progress = Progress { done: self.done, total: self.total.max(self.done) };
        let answer = match self.watch {
            Watch::None => ControlFlow::Continue(()),
            Watch::Progress(hear) => hear(progress),
            Watch::Curve(hear) => hear(progress, curve),
        };
        if answer.is_break() { Err(Error::Aborted) } else { Ok(()) }
    }
}

enum Engine {
    Local(Box<LocalEngine>),
    Paper(Box<PaperEngine>),
}

/// What classifies the originals, through memory that is there.
struct Originals {
    classifier: ImageClassifier,
    staging: Staging,
}

impl Originals {
    async fn new(weights: &Weights, batch: usize, set: WeightSet) -> Result<Originals> {
        let classifier = ImageClassifier::new(weights, batch, set).await?;
        let staging = weights.device().staging(classifier.loaded().require("logits")?.bytes()).await?;
        Ok(Originals { classifier, staging })
    }

    async fn probabilities(&self, images: &[f32]) -> Result<Vec<f32>> {
        self.classifier.probabilities_through(images, &self.staging).await
    }
}

/// Compiled plans to explain batches of images.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::Duet;
/// use duet::explain::{ExplainOptions, Explainer, Request};
/// use duet::model::WeightSet;
/// use duet::rng::Seed;
/// use duet::sampling::Watch;
///
/// let duet = Duet::load("web/demo/public/model.safetensors").await?;
/// let diffusion = &duet.checkpoint().diffusion;
/// let options = ExplainOptions { respacing: "10".into(), ..ExplainOptions::default() };
/// let mut explainer = Explainer::new(duet.weights(), diffusion, 2, &options, WeightSet::Raw).await?;
/// // Two images, the first one towards two classes: it is inverted once.
/// let images = vec![-1.0; 2 * duet.image_len()];
/// let request = |image, class: usize| Request { image, target: class.into(), seed: Seed(0) };
/// let requests = [request(0, 7), request(0, 9), request(1, 7)];
/// let made = explainer.explain(&images, &requests, 0, Watch::None).await?;
/// assert!(made.len() == 3 && made[1].target.class == 9);
/// assert!(made[1].passes.decoder < made[0].passes.decoder);
/// # Ok(()) }) }
/// ```
pub struct Explainer {
    engine: Engine,
    classifier: Originals,
    /// The same for one image alone, where batches are larger: a batch is computed whole, however few images are in it.
    alone: Option<Originals>,
    options: ExplainOptions,
    images: Images,
    config: ModelConfig,
}

impl Explainer {
    /// Compiles and loads what explaining `batch` images at once needs. Any number of images can be explained: more at once
    /// only makes better use of a device.
    ///
    /// # Errors
    /// Options out of range; a classifier that cannot guide; device errors.
    pub async fn new(
        weights: &Weights,
        diffusion: &DiffusionConfig,
        batch: usize,
        options: &ExplainOptions,
        set: WeightSet,
    ) -> Result<Explainer> {
        options.check()?;
        crate::tensor::check_batch(batch)?;
        let config = weights.model().config.clone();
        let images = config.images(1);
        options.mask_of(images.pixels)?;
        let (Method::Local(super::Local { guidance, .. }) | Method::Paper(super::Paper { guidance, .. })) =
            &options.method;
        if *guidance != Guidance::None && !options.force && !guidable(weights) {
            let detail = "the classifier was trained on clean images only (t = 0), so its gradient at t > 0 is \
                          meaningless: train it on noised images too, or force guidance";
            return Err(Error::config("guidance", detail));
        }
        let engine = match &options.method {
            Method::Local(local) => Engine::Local(Box::new(
                LocalEngine::new(weights, diffusion, batch, options, local, set).await?,
            )),
            Method::Paper(paper) => Engine::Paper(Box::new(
                PaperEngine::new(weights, diffusion, batch, options, paper, set).await?,
            )),
        };
        let classifier = Originals::new(weights, batch, set).await?;
        let alone = if batch > 1 { Some(Originals::new(weights, 1, set).await?) } else { None };
        Ok(Explainer { engine, classifier, alone, options: options.clone(), images, config })
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

    /// The explainer in `kept` where it can take the options, or else a new one in its place, as [`Explainer::fitting`]. Options
    /// that are refused leave what is kept; memory of the one before is freed first.
    ///
    /// # Errors
    /// As [`Explainer::fitting`].
    pub async fn reuse<'a>(
        kept: &'a mut Option<Explainer>,
        weights: &Weights,
        diffusion: &DiffusionConfig,
        batch: usize,
        options: &ExplainOptions,
        set: WeightSet,
    ) -> Result<&'a mut Explainer> {
        let fits = match kept {
            Some(explainer) => explainer.change(options).await?,
            None => false,
        };
        if !fits {
            *kept = None;
            *kept = Some(Self::fitting(weights, diffusion, batch, options, set).await?);
        }
        kept.as_mut().ok_or_else(|| Error::shape("explain", "there is no explainer"))
    }

    /// Images that are explained at once.
    pub fn batch(&self) -> usize {
        match &self.engine {
            Engine::Local(engine) => engine.batch(),
            Engine::Paper(engine) => engine.batch(),
        }
    }

    /// Changes the options without compiling anything, nor allocating but for a longer chain; `false`: they ask for
    /// another kind of step, and a new explainer is needed.
    ///
    /// # Errors
    /// Options out of range; device errors.
    pub async fn change(&mut self, options: &ExplainOptions) -> Result<bool> {
        options.check()?;
        options.mask_of(self.images.pixels)?;
        if self.options.force && !options.force {
            return Ok(false);
        }
        let fits = match (&mut self.engine, &options.method) {
            (Engine::Local(engine), Method::Local(local)) => engine.change(options, local)?,
            (Engine::Paper(engine), Method::Paper(paper)) => engine.change(options, paper).await?,
            _ => false,
        };
        if fits {
            self.options = options.clone();
        }
        Ok(fits)
    }

    /// Steps of one chain.
    pub fn steps(&self) -> usize {
        let [steps, _] = self.both_steps();
        steps
    }

    /// Steps of the whole chain.
    pub fn chain_steps(&self) -> usize {
        let [_, steps] = self.both_steps();
        steps
    }

    /// Height times width of an image.
    pub fn pixels(&self) -> usize {
        self.images.pixels
    }

    fn both_steps(&self) -> [usize; 2] {
        match &self.engine {
            Engine::Local(engine) => engine.steps(),
            Engine::Paper(engine) => engine.steps(),
        }
    }

    /// The classifier's probabilities \[N,K\] of any number of images, as they are.
    ///
    /// # Errors
    /// As [`ImageClassifier::probabilities`].
    pub async fn probabilities(&self, images: &[f32]) -> Result<Vec<f32>> {
        self.classifier.classifier.probabilities(images).await
    }

    /// Does what questions about images \[M,C,H,W\] share, before one is asked: inverts them by noise of the options' seed, as far
    /// as inversions are kept, and loads what answers a question. The paper's method has nothing of the kind.
    ///
    /// # Errors
    /// [`Error::Shape`] for part of an image; [`Error::Aborted`]; device errors.
    pub async fn invert(
        &mut self,
        images: &[f32],
        first_row: u32,
        mut watch: Watch<'_, [Vec<f32>]>,
    ) -> Result<()> {
        self.count(images)?;
        let Engine::Local(engine) = &mut self.engine else { return Ok(()) };
        let origin = |(image, row): (&[f32], u32)| {
            let row = first_row.wrapping_add(row);
            Origin { image: image.to_vec(), seed: self.options.seed, row }
        };
        let origins = images.chunks_exact(self.images.image_len().max(1)).zip(0..).map(origin).collect();
        engine.invert(origins, &mut Ears::new(&mut watch)).await
    }

    /// How many images these are.
    fn count(&self, images: &[f32]) -> Result<usize> {
        let len = self.images.image_len();
        let count = images.len() / len.max(1);
        if count * len != images.len() {
            let detail = format!("{} values are no whole number of images of {len}", images.len());
            return Err(Error::shape("explain", detail));
        }
        Ok(count)
    }

    /// Explains any number of `images` \[M,C,H,W\] in −1..1: an answer for each request, in their order. Image `i` has the noise
    /// of row `first_row + i` of a request's seed, so an answer does not depend on the others. A curve is heard as the targets'
    /// probabilities so far of the images under way. From the upload of a batch to the one read-back of its results nothing is
    /// read but what a curve is watched by; nothing is allocated but at the first use of a number of images at once.
    ///
    /// # Errors
    /// [`Error::Shape`] for part of an image, or a request for one that is not there; [`Error::Config`] for a class out of range
    /// or one to be taken away; [`Error::NotFinite`] where the strength is too large; [`Error::Aborted`]; device errors.
    pub async fn explain(
        &mut self,
        images: &[f32],
        requests: &[Request],
        first_row: u32,
        mut watch: Watch<'_, [Vec<f32>]>,
    ) -> Result<Vec<Explanation>> {
        let (len, classes) = (self.images.image_len(), self.config.num_classes);
        let count = self.count(images)?;
        if let Some(bad) = requests.iter().find(|request| request.image >= count) {
            return Err(out_of_range("image", bad.image));
        }
        // What is wrong with a class is said before anything runs.
        let targets: Vec<Target> = requests.iter().map(|request| request.target).collect();
        self.config.head.toward(&vec![0.0; requests.len() * classes], &targets, classes)?;
        let before = match &self.alone {
            Some(alone) if count == 1 => alone.probabilities(images).await?,
            _ => self.classifier.probabilities(images).await?,
        };
        let now: Vec<f32> = requests
            .iter()
            .filter_map(|request| before.chunks_exact(classes).nth(request.image))
            .flatten()
            .copied()
            .collect();
        let head = self.config.head;
        let labels = head.toward(&now, &targets, classes)?;
        let asked = Asked { images, requests, first_row, head, before, labels, len, classes };
        let mut ears = Ears::new(&mut watch);
        let options = &self.options;
        let mask = options.mask_of(self.images.pixels)?;
        match (&mut self.engine, &options.method) {
            (Engine::Local(engine), Method::Local(local)) => {
                engine.explain(&asked, local, mask, &mut ears).await
            }
            (Engine::Paper(engine), Method::Paper(paper)) => {
                engine.explain(&asked, paper, mask, &mut ears).await
            }
            _ => Err(Error::config("method", "is not the one that was compiled")),
        }
    }

    /// Several answers for one image \[C,H,W\]: by noise of `variants` seeds, from the options' seed on.
    ///
    /// # Errors
    /// As [`Explainer::explain`]; [`Error::Config`] for none.
    pub async fn variants(
        &mut self,
        image: &[f32],
        target: Target,
        variants: usize,
        watch: Watch<'_, [Vec<f32>]>,
    ) -> Result<Variants> {
        if !(1..=MOST_VARIANTS).contains(&variants) {
            return Err(Error::config(
                "variants",
                format!("must be from 1 to {MOST_VARIANTS}, is {variants}"),
            ));
        }
        let seed = |number: usize| crate::rng::Seed(self.options.seed.0.wrapping_add(number as u64));
        let requests: Vec<Request> =
            (0..variants).map(|number| Request { image: 0, target, seed: seed(number) }).collect();
        Ok(Variants::of(self.explain(image, &requests, 0, watch).await?, self.images.pixels))
    }
}

/// Most answers to one question.
const MOST_VARIANTS: usize = 1000;
