//! How a class steers a step: Algorithm 1, and the gradient on the noised image (Eq. 12).

use crate::error::Result;
use crate::graph::{NodeId, Place};
use crate::model::{AcrossLabels, Builder, Encoded, JointModel};
use crate::weights::Weights;

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

impl Guidance {
    /// What the decoder reads and, of [`Guidance::Gradient`], the gradient on `x`. Reads the buffers "labels" and, of
    /// Algorithm 1, "alpha".
    pub(super) fn steer(
        self,
        b: &mut Builder<'_>,
        model: &JointModel,
        x: NodeId,
        logits: NodeId,
        encoded: Encoded,
    ) -> Result<(Encoded, Option<NodeId>)> {
        if self == Guidance::None {
            return Ok((encoded, None));
        }
        let loss = summed_loss(b, model, logits)?;
        if self == Guidance::Gradient {
            let ascent = b.graph.grad(loss, &[x])?.into_iter().next();
            // The loss is minus the log probability.
            return Ok((encoded, ascent.map(|gradient| b.graph.scale(gradient, -1.0))));
        }
        let mut targets = vec![encoded.bottleneck];
        targets.extend(&encoded.skips);
        let gradients = b.graph.grad(loss, &targets)?;
        let alpha = b.graph.leaf(&[1], Place::whole("alpha"));
        let mut moved = targets
            .into_iter()
            .zip(gradients)
            .map(|(target, gradient)| b.graph.axpy(target, gradient, alpha));
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
