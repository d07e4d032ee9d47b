//! How a class steers a step: Algorithm 1, and the gradient on the noised image (Eq. 12).

use crate::error::Result;
use crate::graph::{NodeId, Place};
use crate::model::{AcrossLabels, Builder, Encoded, Head, JointModel};
use crate::tensor::Tensors;
use crate::weights::{Weights, timestep_variance};

/// How a class steers the chain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Guidance {
    /// Not at all.
    None,
    /// Algorithm 1: bottleneck and skips move by α along the gradient of the classifier's cross-entropy summed over the
    /// batch, then the decoder runs. A *positive* α steers away from the class in the network's eps, which is
    /// subtracted, and so towards it in the image (paper 5.3).
    Representation,
    /// Classifier guidance by the gradient of the log probability on x_t (paper Eq. 12) with the joint model's own
    /// classifier.
    Gradient,
}

/// How gradients are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Gradients {
    /// Each image's is divided by its root mean square; of Algorithm 1 each map's of each image.
    pub normalize: bool,
    /// Images have step sizes of their own: the buffer "alpha" is \[N\].
    pub each: bool,
    /// The losses of several labels are weighed by the buffer "label_weights" \[N,K\].
    pub weighed: bool,
}

impl Guidance {
    /// What the decoder reads and, of [`Guidance::Gradient`], the gradient on `x`. Reads the buffers "labels" and, of
    /// Algorithm 1, "alpha".
    pub(crate) fn steer(
        self,
        how: Gradients,
        b: &mut Builder<'_>,
        model: &JointModel,
        x: NodeId,
        logits: NodeId,
        encoded: Encoded,
    ) -> Result<(Encoded, Option<NodeId>)> {
        if self == Guidance::None {
            return Ok((encoded, None));
        }
        let batch = b.graph.shape(x).first().copied().unwrap_or(0);
        let mut logits = logits;
        if how.weighed && model.config.head == Head::MultiLabel {
            let weights = b.graph.leaf(&[batch, model.config.num_classes], Place::whole("label_weights"));
            logits = b.graph.weigh_gradient(logits, weights)?;
        }
        let loss = summed_loss(b, model, logits)?;
        if self == Guidance::Gradient {
            // The loss is minus the log probability.
            let ascent = b.graph.grad(loss, &[x])?.into_iter().next().map(|gradient| {
                let gradient = if how.normalize { b.graph.normalize(gradient) } else { gradient };
                b.graph.scale(gradient, -1.0)
            });
            return Ok((encoded, ascent));
        }
        let mut targets = vec![encoded.bottleneck];
        targets.extend(&encoded.skips);
        let gradients = b.graph.grad(loss, &targets)?;
        let alpha = b.graph.leaf(&[if how.each { batch } else { 1 }], Place::whole("alpha"));
        let mut moved = targets.into_iter().zip(gradients).map(|(target, gradient)| {
            let gradient = if how.normalize { b.graph.normalize(gradient) } else { gradient };
            b.graph.axpy(target, gradient, alpha)
        });
        let bottleneck = moved.next().transpose()?.unwrap_or(encoded.bottleneck);
        let skips = moved.collect::<Result<_>>()?;
        Ok((Encoded { bottleneck, skips, ..encoded }, None))
    }
}

/// Sum over the batch of the classifier's loss against the buffer "labels".
fn summed_loss(b: &mut Builder<'_>, model: &JointModel, logits: NodeId) -> Result<NodeId> {
    let (head, classes) = (model.config.head, model.config.num_classes);
    let batch = b.graph.shape(logits).first().copied().unwrap_or(0);
    let labels = head.labels(&mut b.graph, "labels", batch, classes);
    let values = head.loss(&mut b.graph, logits, labels, AcrossLabels::Sum)?;
    Ok(b.graph.weighted_sum(values, 1.0))
}

/// A classifier that saw noised images has a variance of its timestep feature near T²/12; one that saw t = 0 alone has
/// almost none left, and BatchNorm divides by it.
const LEAST_TIMESTEP_VARIANCE: f32 = 0.1;

/// Whether the classifier has seen noised images, so that its gradient means something at t > 0.
pub fn guidable(weights: &Weights) -> bool {
    weights.timestep_variance() >= LEAST_TIMESTEP_VARIANCE
}

/// As [`guidable`], of weights that are on no device: those of a checkpoint, say.
pub fn guidable_by(weights: &Tensors) -> bool {
    timestep_variance(weights) >= LEAST_TIMESTEP_VARIANCE
}
