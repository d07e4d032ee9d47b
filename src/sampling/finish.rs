//! The end of a chain: its images held to −1..1 and classified where they are.

use super::chain::Sampler;
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Run, Staging};
use crate::graph::{Graph, Place, Plan};
use crate::infer::ImageClassifier;
use crate::model::ModelConfig;
use crate::tensor::{Images, device_bytes, unpad_rows};
use crate::weights::{Loaded, Weights};

/// Images made by a chain, and what the classifier says of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// The images \[N,C,H,W\] in −1..1; what is not finite stays so.
    pub images: Vec<f32>,
    /// Their logits \[N,K\].
    pub logits: Vec<f32>,
}

/// The plan that copies "x", held to −1..1, to "finished".
fn clamp_plan(config: &ModelConfig, batch: usize) -> Result<Plan> {
    let mut graph = Graph::new();
    let shape = config.image_shape(batch);
    let x = graph.leaf(&shape, Place::whole("x"));
    let finished = graph.clamp(x, 1.0);
    graph.place(finished, Place::whole("finished"));
    graph.compile()
}

/// Ends the chains of one sampler.
pub struct Finish {
    clamp: Loaded,
    classifier: ImageClassifier,
    staging: Staging,
    images: Images,
    classes: usize,
}

impl Finish {
    /// Loads what ends the chains of `sampler`; `classifier` must take as many images at once.
    ///
    /// # Errors
    /// [`Error::Shape`] where it does not; device errors.
    pub async fn new(weights: &Weights, sampler: &Sampler, classifier: ImageClassifier) -> Result<Finish> {
        Self::of(weights, sampler.loaded().require("x")?, sampler.images(), classifier).await
    }

    /// As [`Finish::new`], of a chain whose `images` are in the buffer `from`.
    pub(crate) async fn of(
        weights: &Weights,
        from: &Buffer,
        images: Images,
        classifier: ImageClassifier,
    ) -> Result<Finish> {
        let (config, to) = (&weights.model().config, classifier.loaded().require("x")?);
        if from.bytes() != to.bytes() {
            let detail = format!("the classifier takes another number of images than {}", images.batch);
            return Err(Error::shape("finish", detail));
        }
        let plan = clamp_plan(config, images.batch)?;
        let clamp = weights.load_beside(&plan, &[("x", from), ("finished", to)]).await?;
        let classes = config.num_classes;
        let bytes = to.bytes() + device_bytes(&[images.batch, classes]);
        let staging = weights.device().staging(bytes).await?;
        Ok(Finish { clamp, classifier, staging, images, classes })
    }

    /// The classifier, which keeps its own use.
    pub fn classifier(&self) -> &ImageClassifier {
        &self.classifier
    }

    /// Submits the end of a chain.
    pub fn run(&self) {
        self.clamp.run();
        self.classifier.loaded().run();
    }

    /// The runs that end a chain.
    pub(crate) fn runs(&self) -> [Run<'_>; 2] {
        [self.clamp.executable(), self.classifier.loaded().executable()].map(|executable| Run {
            executable,
            before: Vec::new(),
            after: Vec::new(),
        })
    }

    /// Where the finished images and their logits lie.
    pub(crate) fn finished(&self) -> Result<[&Buffer; 2]> {
        let loaded = self.classifier.loaded();
        Ok([loaded.require("x")?, loaded.require("logits")?])
    }

    /// Ends a chain and reads what came of it: one read-back.
    ///
    /// # Errors
    /// Device errors.
    pub async fn read(&self) -> Result<Finished> {
        self.run();
        let [images, logits] = self.finished()?;
        let parts = [images, logits].map(|buffer| (buffer, 0, buffer.bytes()));
        let [images, logits] = self.staging.read_parts(parts).await?;
        Ok(Finished { images: self.images.to_host(&images)?, logits: unpad_rows(&logits, self.classes) })
    }
}
