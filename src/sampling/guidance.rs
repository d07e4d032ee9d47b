//! How objectives steer a step: Algorithm 1, and the gradient on the noised image (Eq. 12).

use super::objective::{Input, Objective, Of, Parts, check_inputs};
use crate::error::{Error, Result};
use crate::graph::{NodeId, Place};
use crate::model::{Builder, Encoded, Head, JointModel};
use crate::tensor::Tensors;
use crate::weights::{Weights, timestep_variance};

/// How a class steers the chain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Guidance {
    /// Not at all.
    None,
    /// Algorithm 1: bottleneck and skips move by α along the gradient of the classifier's cross-entropy (or of another
    /// [`Objective`]) summed over the batch, then the decoder runs. A *positive* α steers away from the class in the network's eps, which is
    /// subtracted, and so towards it in the image (paper 5.3).
    Representation,
    /// Classifier guidance by the gradient of the log probability on x_t (paper Eq. 12) with the joint model's own
    /// classifier; of another [`Objective`], minus its gradient on x_t.
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

/// What a step has before it is guided.
#[derive(Clone)]
pub(crate) struct Unguided {
    pub x: NodeId,
    pub logits: NodeId,
    pub encoded: Encoded,
    /// The solver's, where an objective may read the predicted image.
    pub coefficients: Option<NodeId>,
}

/// What a step goes on with.
pub(crate) struct Guided {
    /// What the decoder reads.
    pub encoded: Encoded,
    /// What it put out, where that is known already.
    pub model_out: Option<NodeId>,
    /// Of [`Guidance::Gradient`], minus the gradient on x.
    pub ascent: Option<NodeId>,
}

impl Guidance {
    /// Steers a step by objectives, whose inputs are added to `inputs`. Reads the objectives' buffers and, of Algorithm 1, "alpha".
    pub(crate) fn steer(
        self,
        how: Gradients,
        b: &mut Builder<'_>,
        model: &JointModel,
        step: Unguided,
        objectives: &[&dyn Objective],
        inputs: &mut Vec<Input>,
    ) -> Result<Guided> {
        let Unguided { x, mut logits, encoded, coefficients } = step;
        if self == Guidance::None {
            return Ok(Guided { encoded, model_out: None, ascent: None });
        }
        let config = &model.config;
        let batch = b.graph.shape(x).first().copied().unwrap_or(0);
        if how.weighed && config.head == Head::MultiLabel {
            let weights = b.graph.leaf(&[batch, config.num_classes], Place::whole("label_weights"));
            logits = b.graph.weigh_gradient(logits, weights)?;
        }
        // The image is predicted only where an objective reads it.
        let decoded = match coefficients {
            Some(coefficients) if objectives.iter().any(|o| o.of() == Of::XStart) => {
                let model_out = model.unet.decode(b, &encoded)?;
                Some((model_out, b.graph.predicted_x_start(x, model_out, coefficients)?))
            }
            _ => None,
        };
        let mut sum = |of: Of, b: &mut Builder<'_>| -> Result<Option<NodeId>> {
            let seen = match of {
                Of::Logits => Some(logits),
                Of::XStart => decoded.map(|(_, x_start)| x_start),
            };
            let mut sum = None;
            for objective in objectives.iter().filter(|objective| objective.of() == of) {
                let Some(seen) = seen else {
                    return Err(Error::config("objective", "the predicted image is not at hand here"));
                };
                let values = objective.loss(&mut Parts::new(&mut b.graph, config, batch, inputs), seen)?;
                let loss = b.graph.weighted_sum(values, 1.0);
                sum = Some(match sum {
                    None => loss,
                    Some(before) => b.graph.add(before, loss)?,
                });
            }
            Ok(sum)
        };
        let (of_logits, of_image) = (sum(Of::Logits, b)?, sum(Of::XStart, b)?);
        check_inputs(inputs)?;
        let normalized = |b: &mut Builder<'_>, gradient: NodeId| {
            if how.normalize { b.graph.normalize(gradient) } else { gradient }
        };
        if self == Guidance::Gradient {
            let loss = match (of_logits, of_image) {
                (Some(a), Some(c)) => Some(b.graph.add(a, c)?),
                (a, c) => a.or(c),
            };
            let gradient = loss.map(|loss| b.graph.grad(loss, &[x])).transpose()?;
            // The loss is minus the log probability.
            let ascent = gradient.and_then(|list| list.into_iter().next()).map(|gradient| {
                let gradient = normalized(b, gradient);
                b.graph.scale(gradient, -1.0)
            });
            return Ok(Guided { encoded, model_out: decoded.map(|(out, _)| out), ascent });
        }
        let mut targets = vec![encoded.bottleneck];
        targets.extend(&encoded.skips);
        let along = of_logits.map(|loss| b.graph.grad(loss, &targets)).transpose()?;
        let against = of_image.map(|loss| b.graph.grad(loss, &targets)).transpose()?;
        let alpha = b.graph.leaf(&[if how.each { batch } else { 1 }], Place::whole("alpha"));
        let mut moved = Vec::with_capacity(targets.len());
        for (number, target) in targets.into_iter().enumerate() {
            let mut at = target;
            for (gradients, sign) in [(&along, 1.0f32), (&against, -1.0)] {
                let Some(gradient) = gradients.as_ref().and_then(|list| list.get(number)) else { continue };
                let mut gradient = normalized(b, *gradient);
                if sign < 0.0 {
                    gradient = b.graph.scale(gradient, sign);
                }
                at = b.graph.axpy(at, gradient, alpha)?;
            }
            moved.push(at);
        }
        let mut moved = moved.into_iter();
        let bottleneck = moved.next().unwrap_or(encoded.bottleneck);
        let encoded = Encoded { bottleneck, skips: moved.collect(), ..encoded };
        Ok(Guided { encoded, model_out: None, ascent: None })
    }
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
