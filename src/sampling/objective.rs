//! What guidance descends: losses of each image, written as operations of the step's graph.

use crate::error::{Error, Result};
use crate::graph::{Graph, NodeId, Place};
use crate::model::{AcrossLabels, Head, ModelConfig};

/// What an objective reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// The classifier's logits \[N,K\] of the noised image.
    Logits,
    /// The image \[N,H,W,C\] that the network predicts, not clipped.
    XStart,
}

/// A loss of each image that guidance makes smaller. Several add up.
///
/// Of [`Of::Logits`] Algorithm 1 needs no decoder for it: bottleneck and skips move *along* its gradient, as the paper has it, for
/// the noise that the decoder makes of them is subtracted. Of [`Of::XStart`] it runs the decoder twice, and they move *against* the
/// gradient: what is read is the image itself.
///
/// Any function of the graph will do:
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::Duet;
/// use duet::graph::NodeId;
/// use duet::model::{Labels, WeightSet};
/// use duet::rng::Seed;
/// use duet::sampling::{ChainOptions, Guidance, Objective, Of, Parts, Sampler, StepSpec, Watch};
///
/// /// Mean squared distance from a grey level.
/// struct Grey;
///
/// impl Objective for Grey {
///     fn of(&self) -> Of {
///         Of::XStart
///     }
///
///     fn loss(&self, parts: &mut Parts<'_>, x_start: NodeId) -> duet::Result<NodeId> {
///         let level = parts.image_input("level");
///         parts.graph.mse(x_start, level)
///     }
/// }
///
/// let duet = Duet::load("web/demo/public/model.safetensors").await?;
/// let spec = StepSpec { guidance: Guidance::Gradient, clip: true, ..StepSpec::new(1) };
/// let diffusion = &duet.checkpoint().diffusion;
/// let mut means = Vec::new();
/// for level in [-0.8, 0.8] {
///     let sampler =
///         Sampler::toward(duet.weights(), diffusion, "10", spec, WeightSet::Raw, &[&Grey]).await?;
///     sampler.set_input("level", &vec![level; duet.image_len()])?;
///     let chain = ChainOptions { seed: Seed(1), first_row: 0, labels: Labels::Classes(vec![]), alpha: 200.0 };
///     sampler.start_from_noise(chain.seed, chain.first_row)?;
///     sampler.run(10, &chain, Watch::None).await?;
///     means.push(sampler.get_images().await?.iter().sum::<f32>() / duet.image_len() as f32);
/// }
/// assert!(means[0] + 0.1 < means[1], "{means:?}");
/// # Ok(()) }) }
/// ```
pub trait Objective {
    /// What it reads.
    fn of(&self) -> Of;

    /// Adds the loss \[N\] of `seen`, which is what [`Objective::of`] says, to the graph.
    ///
    /// # Errors
    /// [`Error::Shape`] where operations do not fit.
    fn loss(&self, parts: &mut Parts<'_>, seen: NodeId) -> Result<NodeId>;
}

/// An input of objectives.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Input {
    pub name: String,
    pub shape: Vec<usize>,
}

/// What an objective is made of.
pub struct Parts<'a> {
    /// The step's graph.
    pub graph: &'a mut Graph,
    config: &'a ModelConfig,
    batch: usize,
    inputs: &'a mut Vec<Input>,
}

impl<'a> Parts<'a> {
    pub(super) fn new(
        graph: &'a mut Graph,
        config: &'a ModelConfig,
        batch: usize,
        inputs: &'a mut Vec<Input>,
    ) -> Parts<'a> {
        Parts { graph, config, batch, inputs }
    }

    /// The model.
    pub fn config(&self) -> &ModelConfig {
        self.config
    }

    /// Images of the step, N.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Numbers \[N\] that [`super::Sampler::set_input`] sets before a chain, zeros until then. What two objectives call by one name is
    /// one.
    pub fn input(&mut self, name: &str) -> NodeId {
        self.leaf(name, vec![self.batch])
    }

    /// As [`Parts::input`], a row of each image \[N,columns\].
    pub fn row_input(&mut self, name: &str, columns: usize) -> NodeId {
        self.leaf(name, vec![self.batch, columns])
    }

    /// As [`Parts::input`], an image each; \[N,C,H,W\] where it is set, \[N,H,W,C\] in the graph.
    pub fn image_input(&mut self, name: &str) -> NodeId {
        self.leaf(name, self.config.image_shape(self.batch).to_vec())
    }

    fn leaf(&mut self, name: &str, shape: Vec<usize>) -> NodeId {
        let leaf = self.graph.leaf(&shape, Place::whole(buffer(name)));
        let input = Input { name: name.to_owned(), shape };
        if !self.inputs.contains(&input) {
            self.inputs.push(input);
        }
        leaf
    }
}

/// The buffer of an input.
pub(super) fn buffer(name: &str) -> String {
    format!("objective/{name}")
}

/// Names of one input that objectives want in two shapes.
pub(super) fn check_inputs(inputs: &[Input]) -> Result<()> {
    let twice =
        inputs.iter().enumerate().find(|(n, input)| inputs.iter().take(*n).any(|i| i.name == input.name));
    match twice {
        Some((_, Input { name, shape })) => {
            let detail = format!("{name:?} is also asked for as {shape:?}");
            Err(Error::shape("objective", detail))
        }
        None => Ok(()),
    }
}

/// Each image's label: its class, or a vector of labels from 0 to 1. What [`super::ChainOptions::labels`] says.
#[derive(Clone, Copy, Debug)]
pub struct Class;

impl Objective for Class {
    fn of(&self) -> Of {
        Of::Logits
    }

    fn loss(&self, parts: &mut Parts<'_>, logits: NodeId) -> Result<NodeId> {
        let (head, classes) = (parts.config.head, parts.config.num_classes);
        let labels = head.labels(parts.graph, "labels", parts.batch, classes);
        head.loss(parts.graph, logits, labels, AcrossLabels::Sum)
    }
}

/// A mixture of classes: cross-entropy against shares of the classes. Input "shares" \[N,K\], which should sum to one; a row of zeros:
/// that image is not guided. Of a model of several labels [`Class`] takes any vector of labels already.
#[derive(Clone, Copy, Debug)]
pub struct Mixture;

impl Objective for Mixture {
    fn of(&self) -> Of {
        Of::Logits
    }

    fn loss(&self, parts: &mut Parts<'_>, logits: NodeId) -> Result<NodeId> {
        if parts.config.head != Head::Multiclass {
            return Err(Error::config(
                "mixture",
                "this model has any number of labels per image: give their vector",
            ));
        }
        let shares = parts.row_input("shares", parts.config.num_classes);
        parts.graph.soft_cross_entropy(logits, shares)
    }
}

/// A vector of labels of a model that has any number per image, of which some may be left to the model: binary cross-entropies against
/// "attributes" \[N,K\], 0 to 1, each times its weight in "attribute_weights" \[N,K\]; 0: that label is not guided.
#[derive(Clone, Copy, Debug)]
pub struct Attributes;

impl Objective for Attributes {
    fn of(&self) -> Of {
        Of::Logits
    }

    fn loss(&self, parts: &mut Parts<'_>, logits: NodeId) -> Result<NodeId> {
        if parts.config.head != Head::MultiLabel {
            let detail = "this model has one class per image: give shares of its classes";
            return Err(Error::config("attributes", detail));
        }
        let wanted = parts.row_input("attributes", parts.config.num_classes);
        let weights = parts.row_input("attribute_weights", parts.config.num_classes);
        let weighed = parts.graph.weigh_gradient(logits, weights)?;
        Head::MultiLabel.loss(parts.graph, weighed, wanted, AcrossLabels::Sum)
    }
}

/// An image to stay near: the predicted image's mean squared distance from it, times a weight. Inputs "near" (images) and
/// "nearness" \[N\], the weights.
#[derive(Clone, Copy, Debug)]
pub struct Near;

impl Objective for Near {
    fn of(&self) -> Of {
        Of::XStart
    }

    fn loss(&self, parts: &mut Parts<'_>, x_start: NodeId) -> Result<NodeId> {
        let near = parts.image_input("near");
        let distance = parts.graph.mse(x_start, near)?;
        let weights = parts.input("nearness");
        parts.graph.multiply(distance, weights)
    }
}
