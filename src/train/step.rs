//! The training step as plans: one that leaves gradients, one that applies them, and between the two whatever exchanges
//! them.

use super::augment::Augment;
use super::groups::{Groups, Rate};
use super::options::{ClassifierInput, TrainOptions};
use super::terms::{Loss, Pass, Term, Weight, feeds, joint};
use super::timesteps::TimestepSampler;
use crate::autodiff::{Activations, Precision};
use crate::diffusion::DiffusionConfig;
use crate::error::{Error, Result};
use crate::graph::{Graph, NodeId, Place, Plan};
use crate::model::{Builder, JointModel, ParamLayout, ParamSet, Part, WeightSet};
use crate::ops::loss_scale::STATE;
use crate::ops::optimizer::HYPERS;
use crate::ops::total::Summand;
use crate::tensor::check_batch;

/// Stride of the scalars in the buffer "metrics": WebGPU's alignment of bindings.
pub(super) const METRIC_STRIDE: u64 = 256;

/// In how many parts gradients are made that ranks exchange: more are more launches, fewer hide less of the exchange.
pub(super) const PARTS: u64 = 8;

/// The buffer of the loss's scale, where there is one; the plans of a step share it.
pub(super) const LOSS_SCALE: &str = "loss_scale";

/// What training plans are compiled for.
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
    /// Whether its loss is all there is.
    pub classifier_only: bool,
    /// Noise comes from the buffer "noise" instead of the generator.
    pub given_noise: bool,
    /// How activations wait for the backward pass.
    pub activations: Activations,
    /// How feature maps and their gradients are stored.
    pub precision: Precision,
    /// What is trained, and how fast. What no term reaches is to be frozen: AdamW's momentum and weight decay, and the average,
    /// would move it all the same.
    pub groups: Groups,
    /// Largest global norm of the gradients.
    pub clip_grad_norm: Option<f64>,
    /// What happens to images before the classifier sees them.
    pub augment: Augment,
    /// Whether the noise error is weighed by timestep, in the buffer "snr_weight" \[N\].
    pub weighs_noise: bool,
    /// How timesteps are drawn; where not uniformly, what becomes of it is weighed by "importance" \[N\].
    pub timestep_sampler: TimestepSampler,
}

impl TrainSpec {
    /// The specification that `options` asks for.
    pub fn of(options: &TrainOptions) -> TrainSpec {
        let mut groups = options.groups.clone();
        if options.classifier_input == ClassifierInput::None {
            groups.classifier = Rate::Frozen;
        }
        if options.classifier_only {
            groups.decoder = Rate::Frozen;
        }
        TrainSpec {
            groups,
            batch: options.batch_size / options.micro_batches.max(1),
            micro_batches: options.micro_batches,
            classifier_loss_scaling: options.classifier_loss_scaling,
            classifier_input: options.classifier_input,
            classifier_only: options.classifier_only,
            given_noise: false,
            activations: options.activations,
            precision: options.precision,
            clip_grad_norm: options.clip_grad_norm,
            augment: options.augment.clone(),
            weighs_noise: options.min_snr_gamma.is_some(),
            timestep_sampler: options.timestep_sampler,
        }
    }

    /// Where the whole step's gradients lie.
    pub fn gradients(&self) -> ParamSet {
        if self.micro_batches == 1 { ParamSet::Gradient } else { ParamSet::GradientSum }
    }
}

/// The first part of a step, for one micro-batch: losses, and the gradients of what is trained in
/// [`TrainSpec::gradients`], there summed over the micro-batches so far.
///
/// Its buffers, of other feeds than the first with a prefix: "x_start" \[N,H,W,C\], "t" \[N\] (f32), "labels" (N u32 words, or
/// the targets \[N,K\] of a multi-label model), "coefficients" \[2N\] of `q_sample`, "vb_coefficients" \[8N\] (learned sigma),
/// "run", and where a classifier learns "label_weight" \[1\], one divided by the number of labelled images in all micro-batches
/// (0 where there are none); where images are augmented, "augment" (see [`crate::ops::augment::NUMBERS`]), and where they are
/// mixed "mixed_labels" \[N,K\]. Without a prefix: "first" and "metrics_first" \[1\]; it adds to "metrics" (loss, noise error, classifier loss,
/// variational term; one value per 256 bytes). It leaves "mse", "classifier_loss", "logits" and "model_out" of the last
/// micro-batch.
///
/// # Errors
/// As [`JointModel`]'s builders; [`Error::Config`] where nothing is trained.
pub fn backward_plan(model: &JointModel, diffusion: &DiffusionConfig, spec: &TrainSpec) -> Result<Plan> {
    backward_plan_of(model, spec, &joint(model, diffusion, spec)?)
}

/// As [`backward_plan`], of the given terms.
///
/// # Errors
/// As [`backward_plan`].
pub fn backward_plan_of(model: &JointModel, spec: &TrainSpec, terms: &[Box<dyn Term>]) -> Result<Plan> {
    let mut graph = backward(model, spec, terms)?;
    if spec.micro_batches > 1 {
        // Ranks may share them, and exchange gradients while others are computed.
        graph = graph.hand_out_early(model.params.bytes().div_ceil(PARTS));
    }
    graph.spare_activations(spec.activations).store_as(spec.precision).compile()
}

/// The last part of a step: AdamW and EMA of each group on [`TrainSpec::gradients`], clipped where the specification says so.
///
/// Its buffers: "hyper" \[12\] of the first of [`Groups::factors`], "hyper.1" of the second and so on; where it clips, it adds
/// the global norm to "gradient_norm" \[1\], or puts it there where "metrics_first" \[1\] is 1. Where the precision is f16,
/// the gradients are scaled by the first number of "loss_scale" \[4\] ([`crate::ops::loss_scale`]), which the backward plan reads
/// and this one moves; a step whose gradients are not finite leaves all parameters as they are.
///
/// # Errors
/// As [`Graph::compile`].
pub fn apply_plan(model: &JointModel, spec: &TrainSpec) -> Result<Plan> {
    let mut graph = Graph::new();
    apply(&mut graph, &model.params, spec)?;
    graph.compile()
}

/// A whole step in one plan, to measure and to estimate: [`backward_plan`], then [`apply_plan`] where there is one
/// micro-batch.
///
/// # Errors
/// As both.
pub fn train_plan(model: &JointModel, diffusion: &DiffusionConfig, spec: &TrainSpec) -> Result<Plan> {
    let terms = joint(model, diffusion, spec)?;
    let spec = &of_terms(model, spec.clone(), &terms)?;
    let mut graph = backward(model, spec, &terms)?;
    if spec.micro_batches == 1 {
        apply(&mut graph, &model.params, spec)?;
    }
    graph.spare_activations(spec.activations).store_as(spec.precision).compile()
}

/// Name of the buffer of the optimizer's numbers for the factor `number` of [`Groups::factors`].
pub(super) fn hyper_buffer(number: usize) -> String {
    if number == 0 { "hyper".to_owned() } else { format!("hyper.{number}") }
}

/// The terms' forward passes.
fn forward<'m>(
    model: &'m JointModel,
    spec: &TrainSpec,
    terms: &[Box<dyn Term>],
) -> Result<(Builder<'m>, Vec<Loss>)> {
    feeds(terms)?.iter().try_for_each(|feed| check_batch(feed.batch))?;
    check_batch(spec.batch.saturating_mul(spec.micro_batches))?;
    let mut b = Builder::new(&model.params, WeightSet::Raw, true);
    let mut pass = Pass::new(&mut b, model, spec);
    let losses = terms.iter().map(|term| pass.add(term.as_ref())).collect::<Result<Vec<_>>>()?;
    pass.place_results();
    Ok((b, losses))
}

/// The specification with those parts frozen that no term reaches.
pub(super) fn of_terms(model: &JointModel, spec: TrainSpec, terms: &[Box<dyn Term>]) -> Result<TrainSpec> {
    let (b, _) = forward(model, &spec, terms)?;
    let reached: Vec<Part> = b.trained().iter().map(|(id, _)| model.params.spec(*id).part).collect();
    let rate = |part, rate| if reached.contains(&part) { rate } else { Rate::Frozen };
    let Groups { encoder, decoder, classifier } = spec.groups;
    let groups = Groups {
        encoder: rate(Part::Encoder, encoder),
        decoder: rate(Part::Decoder, decoder),
        classifier: rate(Part::Classifier, classifier),
    };
    Ok(TrainSpec { groups, ..spec })
}

fn backward(model: &JointModel, spec: &TrainSpec, terms: &[Box<dyn Term>]) -> Result<Graph> {
    let (mut b, losses) = forward(model, spec, terms)?;
    let mut total = None;
    for loss in &losses {
        let sum = match loss.weight {
            Weight::Fixed(weight) => b.graph.weighted_sum(loss.values, weight),
            Weight::Given(weight) => b.graph.weighted_sum_by(loss.values, weight)?,
        };
        let part = loss.scale.map_or(sum, |scale| b.graph.scale(sum, scale));
        total = Some(match total {
            Some(total) => b.graph.add(total, part)?,
            None => part,
        });
    }
    let nothing =
        || Error::config("groups", "nothing is trained: no term's loss reaches a part that is not frozen");
    let total = total.ok_or_else(nothing)?;
    report_losses(&mut b.graph, &losses)?;
    let mut trained = b.trained();
    trained.retain(|(id, _)| spec.groups.trains(model.params.spec(*id).part));
    // With skipped parts of the network some parameters have no gradient: they keep zeros.
    let nodes: Vec<NodeId> = trained.iter().map(|(_, node)| *node).collect();
    if nodes.is_empty() {
        return Err(nothing());
    }
    let gradients = match spec.precision {
        Precision::F32 => b.graph.grad(total, &nodes)?,
        Precision::F16 => {
            let state = b.graph.leaf(&[STATE], Place::whole(LOSS_SCALE));
            b.graph.grad_scaled(total, state, &nodes)?
        }
    };
    for ((id, _), gradient) in trained.iter().zip(gradients) {
        b.graph.place(gradient, model.params.place(*id, ParamSet::Gradient));
    }
    if spec.micro_batches > 1 {
        let first = b.graph.leaf(&[1], Place::whole("first"));
        for (range, _) in spec.groups.ranges(&model.params) {
            let [gradient, sum] = [ParamSet::Gradient, ParamSet::GradientSum]
                .map(|set| b.graph.leaf(&[range.bytes as usize / 4], range.place(set)));
            b.graph.accumulate(gradient, first, sum)?;
        }
    }
    Ok(b.graph)
}

/// Adds the losses' sums to "metrics". The total that is differentiated runs nowhere: no gradient reads it.
fn report_losses(graph: &mut Graph, losses: &[Loss]) -> Result<()> {
    let mut summands = Vec::new();
    for loss in losses {
        let (weight, given) = match loss.weight {
            Weight::Fixed(weight) => (weight, None),
            Weight::Given(given) => (1.0, Some(given)),
        };
        let mut summand = |values, metric, total| {
            let count = graph.shape(values).first().copied().unwrap_or(0);
            summands.push(Summand { values, count, weight, given, metric, total });
        };
        let (metric, total) = (Some(loss.metric as usize), Some(loss.scale.unwrap_or(1.0)));
        match loss.reported {
            Some(reported) => {
                summand(loss.values, None, total);
                summand(reported, metric, None);
            }
            None => summand(loss.values, metric, total),
        }
    }
    let stride = METRIC_STRIDE as usize / 4;
    let last = losses.iter().map(|loss| loss.metric as usize).max().unwrap_or(0);
    let metrics = graph.leaf(&[last * stride + 1], Place::whole("metrics"));
    let first = graph.leaf(&[1], Place::whole("metrics_first"));
    graph.report(&summands, stride, first, metrics)
}

fn apply(graph: &mut Graph, layout: &ParamLayout, spec: &TrainSpec) -> Result<()> {
    let factors = 0..spec.groups.factors().len();
    let mut hypers: Vec<NodeId> =
        factors.map(|number| graph.leaf(&[HYPERS], Place::whole(hyper_buffer(number)))).collect();
    let sets = [
        spec.gradients(),
        ParamSet::Weights,
        ParamSet::FirstMoment,
        ParamSet::SecondMoment,
        ParamSet::Average,
    ];
    let mut parts = Vec::new();
    for (range, number) in spec.groups.ranges(layout) {
        let [gradient, state @ ..] =
            sets.map(|set| graph.leaf(&[range.bytes as usize / 4], range.place(set)));
        parts.push((gradient, state, number));
    }
    let gradients: Vec<NodeId> = parts.iter().map(|part| part.0).collect();
    let scaled = spec.precision == Precision::F16;
    if scaled {
        unscale(graph, &gradients, &mut hypers, spec.clip_grad_norm)?;
    } else if let Some(max_norm) = spec.clip_grad_norm {
        clip(graph, &gradients, &mut hypers, max_norm as f32)?;
    }
    for (gradient, state, number) in parts {
        let hyper =
            hypers.get(number).copied().ok_or_else(|| Error::config("groups", "a rate has no number"))?;
        match scaled {
            true => graph.adamw_unless_skipped(gradient, hyper, state)?,
            false => graph.adamw(gradient, hyper, state)?,
        }
    }
    Ok(())
}

/// Sum of squares \[1\] of all gradients; `None`: there are none.
fn sum_squares(graph: &mut Graph, gradients: &[NodeId]) -> Result<Option<NodeId>> {
    let mut squares = None;
    for gradient in gradients {
        let part = graph.sum_squares(*gradient);
        squares = Some(match squares {
            Some(sum) => graph.add(sum, part)?,
            None => part,
        });
    }
    Ok(squares)
}

/// Adds the norm of a step to the sum that is reported.
fn report_norm(graph: &mut Graph, norm: NodeId) -> Result<()> {
    let first = graph.leaf(&[1], Place::whole("metrics_first"));
    let sum = graph.leaf(&[1], Place::whole("gradient_norm"));
    graph.accumulate(norm, first, sum)
}

/// Replaces the optimizer's numbers, of all groups, by those that unscale `gradients` and clip their global norm, or skip the
/// step; reports that norm where it is clipped, and moves the scale.
fn unscale(
    graph: &mut Graph,
    gradients: &[NodeId],
    hypers: &mut [NodeId],
    max_norm: Option<f64>,
) -> Result<()> {
    let Some(squares) = sum_squares(graph, gradients)? else { return Ok(()) };
    let state = graph.leaf(&[STATE], Place::whole(LOSS_SCALE));
    let mut norm = None;
    for hyper in hypers {
        let [length, unscaled] =
            graph.unscale(squares, *hyper, state, max_norm.map_or(f32::MAX, |norm| norm as f32))?;
        *hyper = unscaled;
        norm = Some(length);
    }
    if let Some(norm) = norm.filter(|_| max_norm.is_some()) {
        report_norm(graph, norm)?;
    }
    graph.update_loss_scale(squares, state)
}

/// Replaces the optimizer's numbers by those that clip the global norm of `gradients`, and reports that norm.
fn clip(graph: &mut Graph, gradients: &[NodeId], hypers: &mut [NodeId], max_norm: f32) -> Result<()> {
    let Some(squares) = sum_squares(graph, gradients)? else { return Ok(()) };
    let mut norm = None;
    for hyper in hypers {
        let [length, clipped] = graph.clip_norm(squares, *hyper, max_norm)?;
        *hyper = clipped;
        norm = Some(length);
    }
    norm.map_or(Ok(()), |norm| report_norm(graph, norm))
}
