//! A denoising step as ONNX operators: Algorithm 1 with the gradient written out, then DDIM.

use super::graph::{BATCH, Graph, Value};
use super::network::{Encoded, Network};
use super::operator::Element;
use duet::Result;
use duet::diffusion::Prediction;
use duet::model::Head;

/// Probabilities \[N,K\] of logits.
pub fn probabilities(graph: &mut Graph, logits: Value, head: Head) -> Value {
    graph.scope = "probabilities".to_owned();
    match head {
        Head::Multiclass => graph.softmax(logits),
        Head::MultiLabel => graph.sigmoid(logits),
    }
}

/// Adds the network's output as outputs of their own: what it predicts and, where it learned it, what the variance is.
pub fn predicted(network: &mut Network<'_>, model_out: Value) -> (Value, Option<Value>) {
    if !network.config().learn_sigma {
        return (model_out, None);
    }
    let channels = network.config().in_channels;
    let parts = network.graph.split(model_out, 1, &[channels, channels]);
    (parts[0], Some(parts[1]))
}

/// The encoder's outputs moved by `alpha` \[N\] along the gradient of the classifier's cross-entropy with `labels` \[N,K\],
/// summed over the batch.
///
/// # Errors
/// An operator without a gradient.
pub fn guide(
    network: &mut Network<'_>,
    encoded: Encoded,
    logits: Value,
    labels: Value,
    alpha: Value,
) -> Result<Encoded> {
    let head = network.config().head;
    let g = &mut network.graph;
    g.scope = "gradient/cross_entropy".to_owned();
    // Of −Σ labels · log softmax: softmax · Σ labels − labels; of binary cross-entropies: sigmoid − labels.
    let upstream = match head {
        Head::Multiclass => {
            let (shares, whole) = (g.softmax(logits), g.sum(labels));
            let expected = g.mul(shares, whole);
            g.sub(expected, labels)
        }
        Head::MultiLabel => {
            let shares = g.sigmoid(logits);
            g.sub(shares, labels)
        }
    };
    let mut targets = vec![encoded.bottleneck];
    targets.extend(&encoded.skips);
    let gradients = g.gradients(logits, upstream, &targets)?;
    g.scope = "guided".to_owned();
    let alpha = g.reshape(alpha, &[BATCH, 1, 1, 1]);
    let mut moved = Vec::with_capacity(targets.len());
    for (target, gradient) in targets.into_iter().zip(gradients) {
        let step = g.mul(gradient, alpha);
        moved.push(g.add(target, step));
    }
    let skips = moved.split_off(1);
    Ok(Encoded { bottleneck: moved[0], skips, ..encoded })
}

/// A step of DDIM from x_t: which inputs say where it goes, and what comes of it.
pub struct Ddim {
    x: Value,
    alpha_bar: Value,
    alpha_bar_prev: Value,
    eta: Value,
    noise: Value,
}

impl Ddim {
    /// Adds the inputs of a step from `x` \[N,C,H,W\].
    pub fn new(graph: &mut Graph, x: Value) -> Ddim {
        let image = graph.shape(x).to_vec();
        let mut each = |name: &str, doc: &str| graph.input(name, Element::F32, &[BATCH], doc);
        let alpha_bar = each("alpha_bar", "alphas_cumprod of the timestep that x_t is at");
        let alpha_bar_prev =
            each("alpha_bar_prev", "alphas_cumprod of the timestep to go to; 1 for the last step of all");
        let eta =
            each("eta", "share of fresh noise: 0 is deterministic DDIM, 1 has as much as ancestral sampling");
        let noise = graph.input(
            "noise",
            Element::F32,
            &image,
            "standard normal noise; anything finite where eta is 0",
        );
        Ddim { x, alpha_bar, alpha_bar_prev, eta, noise }
    }

    /// Adds the step with what the network predicts, and its outputs.
    pub fn finish(self, g: &mut Graph, prediction: Prediction, out: Value, clip: bool) {
        g.scope = "step".to_owned();
        let [here, there, eta] =
            [self.alpha_bar, self.alpha_bar_prev, self.eta].map(|value| g.reshape(value, &[BATCH, 1, 1, 1]));
        let (left, left_there) = (g.one_minus(here), g.one_minus(there));
        let (signal, spread) = (g.sqrt(here), g.sqrt(left));
        // a·p + b·q, or with a minus.
        let mix = |g: &mut Graph, a: Value, p: Value, b: Value, q: Value, minus: bool| {
            let (first, second) = (g.mul(a, p), g.mul(b, q));
            if minus { g.sub(first, second) } else { g.add(first, second) }
        };
        let noise_of = |g: &mut Graph, x_start: Value| {
            let kept = g.mul(signal, x_start);
            let rest = g.sub(self.x, kept);
            g.div(rest, spread)
        };
        let (x_start, eps) = match prediction {
            Prediction::Eps => {
                let noise = g.mul(spread, out);
                let rest = g.sub(self.x, noise);
                (g.div(rest, signal), out)
            }
            Prediction::XStart => (out, noise_of(g, out)),
            Prediction::V => {
                (mix(g, signal, self.x, spread, out, true), mix(g, spread, self.x, signal, out, false))
            }
        };
        let (x_start, direction) = if clip {
            let clipped = g.clip(x_start, -1.0, 1.0);
            (clipped, noise_of(g, clipped))
        } else {
            (x_start, eps)
        };
        // σ = η · √((1 − ᾱ') / (1 − ᾱ)) · √(1 − ᾱ / ᾱ').
        let (share, step) = (g.div(left_there, left), g.div(here, there));
        let (share, step) = (g.sqrt(share), g.one_minus(step));
        let step = g.sqrt(step);
        let sigma = g.mul(share, step);
        let sigma = g.mul(eta, sigma);
        let variance = g.mul(sigma, sigma);
        let rest = g.sub(left_there, variance);
        let rest = g.clip(rest, 0.0, 1.0);
        let (toward, kept) = (g.sqrt(rest), g.sqrt(there));
        let mean = mix(g, kept, x_start, toward, direction, false);
        let fresh = g.mul(sigma, self.noise);
        let x_prev = g.add(mean, fresh);
        g.output(eps, "eps", "the noise that the guided network sees in x_t, before any clipping");
        g.output(
            x_start,
            "pred_xstart",
            if clip {
                "the image it sees behind that, clipped to -1..1"
            } else {
                "the image it sees behind that"
            },
        );
        g.output(x_prev, "x_prev", "x_t one step of the chain later");
    }
}
