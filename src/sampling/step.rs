//! One denoising step as a plan.

use super::guidance::{Gradients, Guidance, Unguided};
use super::objective::{Class, Input, Objective};
use crate::diffusion::Solver;
use crate::error::Result;
use crate::graph::{Place, Plan};
use crate::model::{Builder, JointModel, WeightSet};
use crate::ops::SolverInputs;
use crate::ops::solver::{COEFFICIENTS, Sources};
use crate::rng::Stream;
use crate::tensor::check_batch;

/// Where the noise of a step comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoiseSource {
    /// The generator on the device, by seed, step and row.
    Generator,
    /// The buffer "z" \[N,H,W,C\], whatever the step.
    Given,
}

/// What one step's plan is compiled for, and the solver whose numbers it is given.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::model::{JointModel, ModelConfig, WeightSet};
/// use duet::sampling::{Guidance, StepSpec, step_plan};
///
/// // What guidance costs a step: the classifier, and the way back to what it read.
/// let config = ModelConfig { num_channels: 32, num_res_blocks: 1, ..ModelConfig::default() };
/// let model = JointModel::new(&config)?;
/// let plain = StepSpec::new(8);
/// let guided = StepSpec { guidance: Guidance::Representation, ..plain };
/// let cost = |spec| step_plan(&model, &spec, WeightSet::Raw).map(|plan| plan.stats().multiply_adds);
/// assert!(cost(guided)? > cost(plain)?);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepSpec {
    /// Images denoised together.
    pub batch: usize,
    /// Which solver. All run the same plan.
    pub solver: Solver,
    /// Which guidance.
    pub guidance: Guidance,
    /// Clip the predicted x_start to −1..1.
    pub clip: bool,
    /// Where noise comes from.
    pub noise: NoiseSource,
    /// After the step the image becomes the original, noised to where the chain then is, where the buffer "mask" is 0.
    pub masked: bool,
    /// Guide even where the classifier has never seen noised images.
    pub force: bool,
    /// Keep the logits of every step of a chain.
    pub trace: bool,
}

impl StepSpec {
    /// An unguided, unclipped ancestral step.
    pub fn new(batch: usize) -> StepSpec {
        StepSpec {
            batch,
            solver: Solver::ancestral(),
            guidance: Guidance::None,
            clip: false,
            noise: NoiseSource::Generator,
            masked: false,
            force: false,
            trace: false,
        }
    }

    /// Whether two steps are the same plan, in need of the same memory.
    pub(super) fn same_plan(&self, other: &StepSpec) -> bool {
        StepSpec { solver: other.solver, force: other.force, ..*self } == *other
    }
}

/// The plan of one denoising step of `spec`, reading the weights of `set`.
///
/// Its buffers: "x" the image, changed in place; "t" the network's timestep; "coefficients"
/// ([`crate::diffusion::Coefficients::words`] of each image); "run"; with guidance "labels", and "alpha" (Algorithm 1);
/// with a mask "mask", "original" and "kept" \[2N\], the levels the original is noised to; with given noise "z"; results "logits" \[N,K\], "model_out", "pred_xstart".
///
/// # Errors
/// As [`JointModel`]'s builders.
pub fn step_plan(model: &JointModel, spec: &StepSpec, set: WeightSet) -> Result<Plan> {
    Ok(plan_toward(model, spec, set, &[&Class])?.0)
}

/// As [`step_plan`], guided by objectives, and their inputs.
pub(super) fn plan_toward(
    model: &JointModel,
    spec: &StepSpec,
    set: WeightSet,
    objectives: &[&dyn Objective],
) -> Result<(Plan, Vec<Input>)> {
    check_batch(spec.batch)?;
    let config = &model.config;
    let shape = config.image_shape(spec.batch);
    let mut b = Builder::new(&model.params, set, false);
    let x = b.graph.leaf(&shape, Place::whole("x"));
    let t = b.graph.leaf(&[spec.batch], Place::whole("t"));
    let coefficients = b.graph.leaf(&[COEFFICIENTS * spec.batch], Place::whole("coefficients"));
    let encoded = model.unet.encode(&mut b, x, t)?;
    let features = model.classifier.features(&mut b, &encoded, t)?;
    let logits = model.classifier.logits(&mut b, features)?;
    b.graph.place(logits, Place::whole("logits"));
    let mut inputs = Vec::new();
    let unguided = Unguided { x, logits, encoded, coefficients: Some(coefficients) };
    let how = Gradients::default();
    let guided = spec.guidance.steer(how, &mut b, model, unguided, objectives, &mut inputs)?;
    let gradient = guided.ascent;
    let model_out = match guided.model_out {
        Some(model_out) => model_out,
        None => model.unet.decode(&mut b, &guided.encoded)?,
    };
    b.graph.place(model_out, Place::whole("model_out"));
    let noise = match spec.noise {
        NoiseSource::Generator => {
            let run = b.run();
            b.graph.normal(run, shape, Stream::SamplerNoise as u32)
        }
        NoiseSource::Given => b.graph.leaf(&shape, Place::whole("z")),
    };
    let sources = Sources { noise, gradient };
    let (clip, learned_variance) = (spec.clip, config.learn_sigma);
    let step = SolverInputs { model_out, coefficients, sources, clip, learned_variance };
    let pred_xstart = b.graph.solver_step(x, step)?;
    b.graph.place(pred_xstart, Place::whole("pred_xstart"));
    if spec.masked {
        let mask = b.graph.leaf(&shape, Place::whole("mask"));
        let original = b.graph.leaf(&shape, Place::whole("original"));
        let kept = b.graph.leaf(&[2 * spec.batch], Place::whole("kept"));
        let run = b.run();
        let noise = b.graph.normal(run, shape, Stream::KeptNoise as u32);
        let known = b.graph.q_sample(original, noise, kept)?;
        b.graph.blend(mask, known, x)?;
    }
    Ok((b.graph.compile()?, inputs))
}
