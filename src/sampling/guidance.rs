//! How objectives steer a step: Algorithm 1, and the gradient on the noised image (Eq. 12).

use super::objective::{Input, Objective, Of, Parts, check_inputs};
use crate::error::{Error, Result};
use crate::graph::{NodeId, Place};
use crate::model::{Builder, Encoded, Head, JointModel, ModelConfig};
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

/// The sum over the batch of the losses of `seen`, by those objectives that read it, times `sign`.
fn summed_loss(
    b: &mut Builder<'_>,
    config: &ModelConfig,
    objectives: &[&dyn Objective],
    (of, seen, sign): (Of, NodeId, f32),
    inputs: &mut Vec<Input>,
) -> Result<Option<NodeId>> {
    let batch = b.graph.shape(seen).first().copied().unwrap_or(0);
    let mut sum = None;
    for objective in objectives.iter().filter(|objective| objective.of() == of) {
        let values = objective.loss(&mut Parts::new(&mut b.graph, config, batch, inputs), seen)?;
        let loss = b.graph.weighted_sum(values, sign);
        sum = Some(match sum {
            None => loss,
            Some(before) => b.graph.add(before, loss)?,
        });
    }
    Ok(sum)
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
        // The loss is minus the log probability, which ascends on the image; see [`Objective`] for representations.
        let sign = if self == Guidance::Gradient { -1.0 } else { 1.0 };
        let of_logits = summed_loss(b, config, objectives, (Of::Logits, logits, sign), inputs)?;
        // The image is predicted only where an objective reads it.
        let (mut of_image, mut model_out) = (None, None);
        if objectives.iter().any(|objective| objective.of() == Of::XStart) {
            let coefficients = coefficients
                .ok_or_else(|| Error::config("objective", "the predicted image is not at hand here"))?;
            let out = model.unet.decode(b, &encoded)?;
            let x_start = b.graph.predicted_x_start(x, out, coefficients)?;
            of_image = summed_loss(b, config, objectives, (Of::XStart, x_start, -1.0), inputs)?;
            model_out = Some(out);
        }
        check_inputs(inputs)?;
        match self {
            Guidance::None | Guidance::Representation => {
                let encoded = how.moved(b, encoded, [of_logits, of_image])?;
                Ok(Guided { encoded, model_out: None, ascent: None })
            }
            Guidance::Gradient => {
                let loss = match (of_logits, of_image) {
                    (Some(a), Some(c)) => Some(b.graph.add(a, c)?),
                    (a, c) => a.or(c),
                };
                let ascent = match loss {
                    Some(loss) => b.graph.grad(loss, &[x])?.first().copied(),
                    None => None,
                };
                let ascent = match ascent {
                    Some(gradient) if how.normalize => Some(b.graph.normalize(gradient)),
                    ascent => ascent,
                };
                Ok(Guided { encoded, model_out, ascent })
            }
        }
    }
}

impl Gradients {
    /// Bottleneck and skips moved by "alpha" along the gradients of both losses.
    fn moved(self, b: &mut Builder<'_>, encoded: Encoded, losses: [Option<NodeId>; 2]) -> Result<Encoded> {
        let batch = b.graph.shape(encoded.bottleneck).first().copied().unwrap_or(0);
        let mut maps = vec![encoded.bottleneck];
        maps.extend(&encoded.skips);
        let targets = maps.clone();
        let gradients: Vec<Vec<NodeId>> =
            losses.into_iter().flatten().map(|loss| b.graph.grad(loss, &targets)).collect::<Result<_>>()?;
        let alpha = b.graph.leaf(&[if self.each { batch } else { 1 }], Place::whole("alpha"));
        for gradients in gradients {
            maps = b.graph.move_along(&maps, &gradients, alpha, self.normalize)?;
        }
        let mut maps = maps.into_iter();
        let bottleneck = maps.next().unwrap_or(encoded.bottleneck);
        Ok(Encoded { bottleneck, skips: maps.collect(), ..encoded })
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
