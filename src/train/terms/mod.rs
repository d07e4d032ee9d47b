//! What a training step minimises: a sum of terms, each over the images of the batch it reads.
//!
//! A term is a file here and a line in [`joint`]'s list. Terms that read the same [`Feed`] share what they both need through
//! [`Pass`]: one encoder pass serves the noise error and the classifier on noised images.

mod classifier;
mod noise_error;
mod variational;

pub use classifier::{ClassifierLoss, Seen};
pub use noise_error::NoiseError;
pub use variational::VariationalTerm;

use super::step::TrainSpec;
use super::timesteps::TimestepSampler;
use crate::diffusion::DiffusionConfig;
use crate::error::{Error, Result};
use crate::graph::{NodeId, Place};
use crate::model::{Builder, Encoded, JointModel, Part};
use crate::ops::augment::NUMBERS;
use crate::rng::Stream;
use std::collections::BTreeMap;
use std::fmt::Debug;

/// Buffer of a feed that holds [`Pass::label_weight`].
pub(super) const LABEL_WEIGHT: &str = "label_weight";
/// Buffer of a feed that holds what happens to its images before the classifier sees them.
pub(super) const AUGMENT: &str = "augment";
/// Buffer of a feed that holds the labels of its mixed images.
pub(super) const MIXED_LABELS: &str = "mixed_labels";
/// Buffer of the first feed that holds the weights of losses at timesteps that were not drawn uniformly.
pub(super) const IMPORTANCE: &str = "importance";
/// Buffer of a feed that holds the weights of noise errors by their timesteps.
pub(super) const SNR_WEIGHT: &str = "snr_weight";

/// A batch that terms read.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::diffusion::Prediction;
/// use duet::train::terms::{ClassifierLoss, Feed, NoiseError, Seen, Terms, feeds};
///
/// // Noise is learned from 48 images without labels, the classifier from 16 others that have them.
/// let (all, few) = (Feed::first(48), Feed { prefix: "labelled.".into(), batch: 16 });
/// let terms: Terms = vec![
///     Box::new(NoiseError { feed: all.clone(), prediction: Prediction::Eps }),
///     Box::new(ClassifierLoss { feed: few.clone(), seen: Seen::Clean, scaling: 0.001 }),
/// ];
/// // `Trainer::train_step_of` takes a batch for each of them.
/// assert_eq!(feeds(&terms)?, [all, few]);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// What its buffers' names begin with: nothing for the first feed, as "labelled." for another.
    pub prefix: String,
    /// Images per micro-batch.
    pub batch: usize,
}

impl Feed {
    /// The first feed, whose buffers have no prefix.
    pub fn first(batch: usize) -> Feed {
        Feed { prefix: String::new(), batch }
    }

    /// The feed's buffer `buffer`.
    pub fn buffer(&self, buffer: &str) -> String {
        format!("{}{buffer}", self.prefix)
    }
}

/// Which of the means a term is reported in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Noise error.
    NoiseError = 1,
    /// Classifier loss.
    Classifier = 2,
    /// Variational term.
    Variational = 3,
}

/// What each image counts in a mean.
#[derive(Clone, Copy, Debug)]
pub enum Weight {
    /// Always the same.
    Fixed(f32),
    /// What this tensor \[1\] holds in a run.
    Given(NodeId),
}

/// A term's forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// Loss of each image \[N\].
    pub values: NodeId,
    /// What is reported of each image, where that is something else.
    pub reported: Option<NodeId>,
    /// Weight of each in the reported mean.
    pub weight: Weight,
    /// What that mean is multiplied by in the total; `None`: 1.
    pub scale: Option<f32>,
    /// Where it is reported.
    pub metric: Metric,
}

/// A part of the loss.
///
/// A term of one's own puts operations on the pass's graph, or builds on a term that is there:
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::diffusion::Prediction;
/// # use duet::model::{JointModel, ModelConfig};
/// use duet::train::terms::{Feed, Loss, NoiseError, Pass, Term};
/// use duet::train::{TrainOptions, TrainSpec, backward_plan_of};
///
/// /// The noise error at half its weight.
/// #[derive(Debug)]
/// struct Halved(NoiseError);
///
/// impl Term for Halved {
///     fn feed(&self) -> &Feed {
///         self.0.feed()
///     }
///     fn forward(&self, pass: &mut Pass<'_, '_>) -> duet::Result<Loss> {
///         Ok(Loss { scale: Some(0.5), ..self.0.forward(pass)? })
///     }
/// }
///
/// // Of a `model` and a specification `spec` of 8 images a step:
/// # let config = ModelConfig { num_channels: 32, num_res_blocks: 1, ..ModelConfig::default() };
/// # let model = JointModel::new(&config)?;
/// # let spec = TrainSpec::of(&TrainOptions { batch_size: 8, ..TrainOptions::default() });
/// let term = Halved(NoiseError { feed: Feed::first(spec.batch), prediction: Prediction::Eps });
/// let plan = backward_plan_of(&model, &spec, &[Box::new(term)])?;
/// assert!(plan.externals().any(|(name, _)| name == "x_start"));
/// # Ok(()) }
/// ```
pub trait Term: Debug + Send + Sync {
    /// The batch it reads.
    fn feed(&self) -> &Feed;

    /// Adds its forward pass.
    ///
    /// # Errors
    /// [`Error::Config`] for a model or process that it does not fit.
    fn forward(&self, pass: &mut Pass<'_, '_>) -> Result<Loss>;
}

/// The parts of a loss.
pub type Terms = Vec<Box<dyn Term>>;

/// Gives the terms of one file that a specification asks for, in their order.
type Of = fn(&DiffusionConfig, &JointModel, &TrainSpec) -> Result<Terms>;

/// The terms of the joint loss (paper Eq. 5 to 10), all on the first feed; of a classifier alone its own.
///
/// # Errors
/// As [`Term::forward`].
pub fn joint(model: &JointModel, diffusion: &DiffusionConfig, spec: &TrainSpec) -> Result<Terms> {
    let joint: [Of; 3] = [noise_error::of, variational::of, classifier::of];
    let alone: [Of; 1] = [classifier::of];
    let mut terms = Vec::new();
    for of in if spec.classifier_only { &alone[..] } else { &joint[..] } {
        terms.extend(of(diffusion, model, spec)?);
    }
    Ok(terms)
}

/// The terms of the joint loss where few images have labels (paper 0.B.2): the noise error of the first feed's images, whether
/// they have labels or not, and the classifier's loss of another feed's, all of which have them. Where that feed has none in a
/// step, the classifier stays as it is, see [`super::Trainer`].
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::diffusion::DiffusionConfig;
/// use duet::model::{JointModel, ModelConfig};
/// use duet::train::terms::{Feed, feeds, semi_supervised};
/// use duet::train::{TrainOptions, TrainSpec};
///
/// let model = JointModel::new(&ModelConfig { num_channels: 32, num_res_blocks: 1, ..ModelConfig::default() })?;
/// let spec = TrainSpec::of(&TrainOptions { batch_size: 8, ..TrainOptions::default() });
/// let labelled = Feed { prefix: "labelled.".into(), batch: 4 };
/// let terms = semi_supervised(&model, &DiffusionConfig::default(), &spec, &labelled)?;
/// // `Trainer::train_step_of` takes eight images and four that have labels.
/// assert_eq!(feeds(&terms)?, [Feed::first(8), labelled]);
/// # Ok(()) }
/// ```
///
/// # Errors
/// As [`Term::forward`]; [`Error::Config`] for a classifier that sees nothing, or alone.
pub fn semi_supervised(
    model: &JointModel,
    diffusion: &DiffusionConfig,
    spec: &TrainSpec,
    labelled: &Feed,
) -> Result<Terms> {
    if spec.classifier_only || labelled.prefix.is_empty() {
        let detail = "a classifier alone learns from the first feed: give it the labelled images as that";
        return Err(Error::config("classifier_only", detail));
    }
    let mut terms = noise_error::of(diffusion, model, spec)?;
    terms.extend(variational::of(diffusion, model, spec)?);
    let classifier = classifier::on(labelled, spec);
    if classifier.is_empty() {
        return Err(Error::config("classifier_input", "is \"none\": there is nothing to do with labels"));
    }
    terms.extend(classifier);
    Ok(terms)
}

/// The feeds of `terms`, in the order in which they first appear.
///
/// # Errors
/// [`Error::Config`] where two of one prefix differ, or there are none.
pub fn feeds(terms: &[Box<dyn Term>]) -> Result<Vec<Feed>> {
    let mut feeds: Vec<Feed> = Vec::new();
    for feed in terms.iter().map(|term| term.feed()) {
        match feeds.iter().find(|known| known.prefix == feed.prefix) {
            Some(known) if known != feed => {
                let detail = format!("two terms read {known:?} and {feed:?}");
                return Err(Error::config("terms", detail));
            }
            Some(_) => {}
            None => feeds.push(feed.clone()),
        }
    }
    if feeds.is_empty() { Err(Error::config("terms", "there is no term to minimise")) } else { Ok(feeds) }
}

/// Noised images.
#[derive(Clone, Copy, Debug)]
pub struct Noised {
    /// Images \[N,H,W,C\].
    pub x_start: NodeId,
    /// The noise.
    pub noise: NodeId,
    /// The noised images.
    pub x_t: NodeId,
    /// How much there is of both in each \[2N\].
    pub coefficients: NodeId,
    /// Their timesteps \[N\] (f32).
    pub t: NodeId,
}

/// What terms of one feed share.
#[derive(Default)]
struct Shared {
    run: Option<NodeId>,
    label_weight: Option<NodeId>,
    x_start: Option<NodeId>,
    augmented: Option<NodeId>,
    noised: Option<Noised>,
    noised_code: Option<Encoded>,
    model_out: Option<NodeId>,
    clean_code: Option<(Encoded, NodeId)>,
}

/// A forward pass under construction, as the terms of one feed see it.
pub struct Pass<'a, 'b> {
    /// The graph with the parameters.
    pub builder: &'a mut Builder<'b>,
    /// The model.
    pub model: &'a JointModel,
    /// What the plan is compiled for.
    pub spec: &'a TrainSpec,
    feed: Feed,
    shared: BTreeMap<String, Shared>,
    results: BTreeMap<String, NodeId>,
}

impl<'a, 'b> Pass<'a, 'b> {
    pub(super) fn new(
        builder: &'a mut Builder<'b>,
        model: &'a JointModel,
        spec: &'a TrainSpec,
    ) -> Pass<'a, 'b> {
        let (feed, shared, results) = (Feed::first(spec.batch), BTreeMap::new(), BTreeMap::new());
        Pass { builder, model, spec, feed, shared, results }
    }

    /// The term's forward pass, on its feed.
    pub(super) fn add(&mut self, term: &dyn Term) -> Result<Loss> {
        self.feed = term.feed().clone();
        let known = self.shared().run;
        let run = match known {
            Some(run) => run,
            None if self.feed.prefix.is_empty() => self.builder.run(),
            None => self.leaf("run", &[4]),
        };
        self.shared().run = Some(run);
        let before = self.builder.replace_run(run);
        let loss = term.forward(self);
        self.builder.replace_run(before);
        loss
    }

    /// Makes the results that terms leave lie in buffers of their names.
    pub(super) fn place_results(self) {
        for (name, node) in self.results {
            self.builder.graph.place(node, Place::whole(name));
        }
    }

    fn shared(&mut self) -> &mut Shared {
        self.shared.entry(self.feed.prefix.clone()).or_default()
    }

    /// Images per micro-batch of the feed.
    pub fn batch(&self) -> usize {
        self.feed.batch
    }

    /// Weight of one image in the mean over the feed's whole batch.
    pub fn weight(&self) -> f32 {
        1.0 / (self.feed.batch * self.spec.micro_batches) as f32
    }

    /// Weight \[1\] of one labelled image in the mean over the labelled ones of the feed's whole batch; 0 where there are none.
    pub fn label_weight(&mut self) -> NodeId {
        if let Some(known) = self.shared().label_weight {
            return known;
        }
        let weight = self.leaf(LABEL_WEIGHT, &[1]);
        self.shared().label_weight = Some(weight);
        weight
    }

    /// The feed's buffer `name` as a tensor.
    pub fn leaf(&mut self, name: &str, shape: &[usize]) -> NodeId {
        let place = Place::whole(self.feed.buffer(name));
        self.builder.graph.leaf(shape, place)
    }

    /// Name of the feed's buffer `name`.
    pub fn buffer(&self, name: &str) -> String {
        self.feed.buffer(name)
    }

    /// Leaves `node` in the feed's buffer `name` after the step; the last of a name stays.
    pub fn result(&mut self, name: &str, node: NodeId) {
        self.results.insert(self.feed.buffer(name), node);
    }

    /// The images \[N,H,W,C\].
    pub fn x_start(&mut self) -> NodeId {
        if let Some(known) = self.shared().x_start {
            return known;
        }
        let config = &self.model.config;
        let shape = config.image_shape(self.feed.batch);
        let x_start = self.leaf("x_start", &shape);
        self.shared().x_start = Some(x_start);
        x_start
    }

    /// The images \[N,H,W,C\] that are the classifier's own, augmented where the specification says so.
    ///
    /// # Errors
    /// As [`crate::train::Augment::validate_for`].
    pub fn augmented(&mut self) -> Result<NodeId> {
        let x_start = self.x_start();
        let augment = &self.spec.augment;
        if !augment.is_on() {
            return Ok(x_start);
        }
        if let Some(known) = self.shared().augmented {
            return Ok(known);
        }
        augment.validate_for(&self.model.config)?;
        let numbers = self.leaf(AUGMENT, &[self.feed.batch, NUMBERS]);
        let jitter = augment.color_jitter.is_some();
        let images = self.builder.graph.augment(x_start, numbers, augment.border_lanes(), jitter)?;
        self.shared().augmented = Some(images);
        Ok(images)
    }

    /// Whether the feed's timesteps are drawn as the specification says: those of the first feed are, others' uniformly.
    pub(super) fn draws_timesteps(&self) -> bool {
        self.spec.timestep_sampler != TimestepSampler::Uniform && self.feed.prefix.is_empty()
    }

    /// Losses \[N\] of noised images, weighed so that their mean is that over uniform timesteps, however those were drawn.
    ///
    /// # Errors
    /// [`Error::Shape`] where the values are not \[N\].
    pub fn over_timesteps(&mut self, values: NodeId) -> Result<NodeId> {
        if !self.draws_timesteps() {
            return Ok(values);
        }
        let weights = self.leaf(IMPORTANCE, &[self.feed.batch]);
        self.builder.graph.multiply(values, weights)
    }

    /// Whether the classifier's own images are mixtures of two.
    pub fn mixes(&self) -> bool {
        self.spec.augment.mixup.is_some()
    }

    /// The images noised; augmented first where the classifier is all that is trained.
    ///
    /// # Errors
    /// As [`crate::graph::Graph::q_sample`].
    pub fn noised(&mut self) -> Result<Noised> {
        if let Some(known) = self.shared().noised {
            return Ok(known);
        }
        let x_start = if self.spec.classifier_only { self.augmented()? } else { self.x_start() };
        let batch = self.feed.batch;
        let t = self.leaf("t", &[batch]);
        let coefficients = self.leaf("coefficients", &[2 * batch]);
        let shape = self.builder.graph.image_shape("train", x_start)?;
        let noise = if self.spec.given_noise {
            self.leaf("noise", &shape)
        } else {
            let run = self.builder.run();
            self.builder.graph.normal(run, shape, Stream::TrainNoise as u32)
        };
        let x_t = self.builder.graph.q_sample(x_start, noise, coefficients)?;
        let noised = Noised { x_start, noise, x_t, t, coefficients };
        self.shared().noised = Some(noised);
        Ok(noised)
    }

    /// The noised images encoded.
    ///
    /// # Errors
    /// As [`crate::model::UNet::encode`].
    pub fn noised_code(&mut self) -> Result<Encoded> {
        if let Some(known) = self.shared().noised_code.clone() {
            return Ok(known);
        }
        let Noised { x_t, t, .. } = self.noised()?;
        let model = self.model;
        let encoded = self.as_rated(Part::Encoder, |b| model.unet.encode(b, x_t, t))?;
        self.shared().noised_code = Some(encoded.clone());
        Ok(encoded)
    }

    /// The network's output \[N,H,W,C or 2C\] of the noised images; it stays in "model_out".
    ///
    /// # Errors
    /// As [`crate::model::UNet::decode`].
    pub fn model_out(&mut self) -> Result<NodeId> {
        if let Some(known) = self.shared().model_out {
            return Ok(known);
        }
        let encoded = self.noised_code()?;
        let model = self.model;
        let out = self.as_rated(Part::Decoder, |b| model.unet.decode(b, &encoded))?;
        self.shared().model_out = Some(out);
        self.result("model_out", out);
        Ok(out)
    }

    /// The classifier's own images encoded as they are, and their timesteps \[N\], zeros.
    ///
    /// # Errors
    /// As [`crate::model::UNet::encode`].
    pub fn clean_code(&mut self) -> Result<(Encoded, NodeId)> {
        if let Some(known) = self.shared().clean_code.clone() {
            return Ok(known);
        }
        let x_start = self.augmented()?;
        let zero = self.builder.graph.fill(self.feed.batch, 0.0);
        let model = self.model;
        let code = (self.as_rated(Part::Encoder, |b| model.unet.encode(b, x_start, zero))?, zero);
        self.shared().clean_code = Some(code.clone());
        Ok(code)
    }

    /// Logits \[N,K\] of encoded images; a frozen classifier answers as in inference. One that learns does so, running
    /// statistics included, at steps whose feed has labelled images.
    ///
    /// # Errors
    /// As [`crate::model::Classifier::logits`].
    pub fn logits(&mut self, encoded: &Encoded, t: NodeId) -> Result<NodeId> {
        let features = self.model.classifier.features(self.builder, encoded, t)?;
        let (model, learns) = (self.model, self.spec.groups.trains(Part::Classifier));
        let learn = learns.then(|| self.label_weight());
        let before = std::mem::replace(&mut self.builder.learn, learn);
        let logits = self.as_rated(Part::Classifier, |b| model.classifier.logits(b, features));
        self.builder.learn = before;
        logits
    }

    /// Builds operations of a part of the network, as in inference where it is frozen.
    fn as_rated<T>(&mut self, part: Part, build: impl FnOnce(&mut Builder<'b>) -> T) -> T {
        let train = std::mem::replace(&mut self.builder.train, self.spec.groups.trains(part));
        let built = build(self.builder);
        self.builder.train = train;
        built
    }
}
