//! The training step as a plan (paper Eq. 5 to 10).

use super::options::{ClassifierInput, TrainOptions};
use crate::autodiff::Activations;
use crate::diffusion::{DiffusionConfig, Prediction};
use crate::error::{Error, Result};
use crate::graph::{Graph, NodeId, Place, Plan};
use crate::infer::target;
use crate::model::{AcrossLabels, Builder, Encoded, JointModel, ParamLayout, ParamSet, WeightSet};
use crate::rng::Stream;

/// Stride of the scalars in the buffer "metrics": WebGPU's alignment of bindings.
pub(super) const METRIC_STRIDE: u64 = 256;

/// What a training plan is compiled for.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainSpec {
    /// Images per micro-batch.
    pub batch: usize,
    /// Micro-batches per step.
    pub micro_batches: usize,
    /// Weight of the classifier's loss.
    pub classifier_loss_scaling: f32,
    /// What the classifier sees.
    pub classifier_input: ClassifierInput,
    /// Noise comes from the buffer "noise" instead of the generator.
    pub given_noise: bool,
    /// How activations wait for the backward pass.
    pub activations: Activations,
}

impl TrainSpec {
    /// The specification that `options` asks for.
    pub fn of(options: &TrainOptions) -> TrainSpec {
        TrainSpec {
            batch: options.batch_size / options.micro_batches,
            micro_batches: options.micro_batches,
            classifier_loss_scaling: options.classifier_loss_scaling,
            classifier_input: options.classifier_input,
            given_noise: false,
            activations: options.activations,
        }
    }
}

/// Per-sample losses \[N\] of one forward pass in training.
struct Losses {
    mse: NodeId,
    vb: Option<NodeId>,
    classifier: Vec<NodeId>,
}

/// The plan of one micro-batch: forward, backward, and with a single micro-batch AdamW and EMA too.
///
/// Its buffers: "x_start" \[N,H,W,C\], "t" \[N\] (f32), "labels" (N u32 words, or the targets \[N,K\] of a multi-label
/// model), "coefficients" \[2N\] of `q_sample`, "vb_coefficients" \[8N\] (learned sigma), "run", "hyper" \[12\], "first"
/// and "metrics_first" \[1\]; it adds to "metrics" (loss, noise error, classifier loss, variational term; one value per
/// 256 bytes) and leaves "mse", "classifier_loss", "logits" and "model_out" of the last micro-batch.
///
/// # Errors
/// As [`JointModel`]'s builders.
pub fn train_plan(model: &JointModel, diffusion: &DiffusionConfig, spec: &TrainSpec) -> Result<Plan> {
    let mut b = Builder::new(&model.params, WeightSet::Raw, true);
    let losses = forward(&mut b, model, diffusion, spec)?;
    let weight = 1.0 / (spec.batch * spec.micro_batches) as f32;
    let mse = b.graph.weighted_sum(losses.mse, weight);
    let mut total = mse;
    let mut metrics = vec![(1, mse)];
    if let Some(vb) = losses.vb {
        let vb = b.graph.weighted_sum(
            vb,
            if diffusion.rescale_learned_sigmas {
                weight * diffusion.diffusion_steps as f32 / 1000.0
            } else {
                weight
            },
        );
        metrics.push((3, vb));
        total = b.graph.add(total, vb)?;
    }
    for values in losses.classifier {
        let ce = b.graph.weighted_sum(values, weight);
        metrics.push((2, ce));
        let weighted = b.graph.scale(ce, spec.classifier_loss_scaling);
        total = b.graph.add(total, weighted)?;
    }
    metrics.push((0, total));
    let trained = b.trained();
    // With skipped parts of the network some parameters have no gradient: they keep zeros.
    let nodes: Vec<NodeId> = trained.iter().map(|(_, node)| *node).collect();
    let gradients = b.graph.grad(total, &nodes)?;
    for ((id, _), gradient) in trained.iter().zip(gradients) {
        b.graph.place(gradient, model.params.place(*id, ParamSet::Gradient));
    }
    let mut sums: Vec<(u64, NodeId)> = Vec::new();
    for (number, value) in metrics {
        match sums.iter_mut().find(|(known, _)| *known == number) {
            Some((_, sum)) => *sum = b.graph.add(*sum, value)?,
            None => sums.push((number, value)),
        }
    }
    let first = b.graph.leaf(&[1], Place::whole("metrics_first"));
    for (number, value) in sums {
        let place = Place { buffer: "metrics".into(), offset: number * METRIC_STRIDE };
        let sum = b.graph.leaf(&[1], place);
        b.graph.accumulate(value, first, sum)?;
    }
    if spec.micro_batches == 1 {
        update(&mut b.graph, &model.params, ParamSet::Gradient)?;
    } else {
        accumulate_gradients(&mut b.graph, &model.params)?;
    }
    b.graph.spare_activations(spec.activations).compile()
}

/// AdamW and EMA on the gradients summed over micro-batches.
///
/// # Errors
/// As [`Graph::compile`].
pub fn update_plan(model: &JointModel) -> Result<Plan> {
    let mut graph = Graph::new();
    update(&mut graph, &model.params, ParamSet::GradientSum)?;
    graph.compile()
}

fn forward(
    b: &mut Builder<'_>,
    model: &JointModel,
    diffusion: &DiffusionConfig,
    spec: &TrainSpec,
) -> Result<Losses> {
    let config = &model.config;
    let shape = [spec.batch, config.image_size, config.image_size, config.in_channels];
    let x_start = b.graph.leaf(&shape, Place::whole("x_start"));
    let t = b.graph.leaf(&[spec.batch], Place::whole("t"));
    let coefficients = b.graph.leaf(&[2 * spec.batch], Place::whole("coefficients"));
    let noise = if spec.given_noise {
        b.graph.leaf(&shape, Place::whole("noise"))
    } else {
        let run = b.run();
        b.graph.normal(run, shape, Stream::TrainNoise as u32)
    };
    let x_t = b.graph.q_sample(x_start, noise, coefficients)?;
    let encoded = model.unet.encode(b, x_t, t)?;
    let model_out = model.unet.decode(b, &encoded)?;
    let target = target(&mut b.graph, diffusion.prediction, [x_start, noise], coefficients)?;
    let mse = b.graph.mse(model_out, target)?;
    b.graph.place(mse, Place::whole("mse"));
    let mut vb = None;
    if config.learn_sigma {
        if diffusion.prediction != Prediction::Eps {
            let detail = "a learned sigma needs a network that predicts eps";
            return Err(Error::config("prediction", detail));
        }
        let coefficients = b.graph.leaf(&[8 * spec.batch], Place::whole("vb_coefficients"));
        vb = Some(b.graph.vb(model_out, x_start, x_t, coefficients)?);
    }
    let mut classifier = Vec::new();
    let input = spec.classifier_input;
    if matches!(input, ClassifierInput::Noised | ClassifierInput::Both) {
        classifier.push(classify(b, model, &encoded, t, spec)?);
    }
    if matches!(input, ClassifierInput::Clean | ClassifierInput::Both) {
        let zero = b.graph.fill(spec.batch, 0.0);
        let clean = model.unet.encode(b, x_start, zero)?;
        classifier.push(classify(b, model, &clean, zero, spec)?);
    }
    if let Some([loss, logits]) = classifier.last() {
        b.graph.place(*loss, Place::whole("classifier_loss"));
        b.graph.place(*logits, Place::whole("logits"));
    }
    b.graph.place(model_out, Place::whole("model_out"));
    let classifier = classifier.into_iter().map(|[loss, _]| loss).collect();
    Ok(Losses { mse, vb, classifier })
}

/// Per-sample classifier loss of encoded images, and the logits.
fn classify(
    b: &mut Builder<'_>,
    model: &JointModel,
    encoded: &Encoded,
    t: NodeId,
    spec: &TrainSpec,
) -> Result<[NodeId; 2]> {
    let features = model.classifier.features(b, encoded, t)?;
    let logits = model.classifier.logits(b, features)?;
    let (head, classes) = (model.config.head, model.config.num_classes);
    let labels = head.labels(&mut b.graph, "labels", spec.batch, classes);
    let loss = head.loss(&mut b.graph, logits, labels, AcrossLabels::Mean)?;
    Ok([loss, logits])
}

/// One leaf a chunk of the buffers `set`, as flat memory.
fn flat(graph: &mut Graph, layout: &ParamLayout, set: ParamSet) -> Vec<NodeId> {
    let chunks = layout.chunk_bytes().to_vec();
    let leaf =
        |(chunk, bytes): (usize, u64)| graph.leaf(&[bytes as usize / 4], Place::whole(set.buffer(chunk)));
    chunks.into_iter().enumerate().map(leaf).collect()
}

fn update(graph: &mut Graph, layout: &ParamLayout, gradients: ParamSet) -> Result<()> {
    let hyper = graph.leaf(&[12], Place::whole("hyper"));
    let gradients = flat(graph, layout, gradients);
    let state = [ParamSet::Weights, ParamSet::FirstMoment, ParamSet::SecondMoment, ParamSet::Average]
        .map(|set| flat(graph, layout, set));
    for (chunk, gradient) in gradients.into_iter().enumerate() {
        graph.adamw(gradient, hyper, [state[0][chunk], state[1][chunk], state[2][chunk], state[3][chunk]])?;
    }
    Ok(())
}

fn accumulate_gradients(graph: &mut Graph, layout: &ParamLayout) -> Result<()> {
    let first = graph.leaf(&[1], Place::whole("first"));
    let gradients = flat(graph, layout, ParamSet::Gradient);
    let sums = flat(graph, layout, ParamSet::GradientSum);
    for (gradient, sum) in gradients.into_iter().zip(sums) {
        graph.accumulate(gradient, first, sum)?;
    }
    Ok(())
}
