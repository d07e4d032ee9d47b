//! One denoising step of an image in place: `wgsl/solver.wgsl`.

use super::kernel::{WG, invocations, shader};
use crate::error::Result;
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Graph, NodeId, Operation};
use crate::tensor::pitch;

shader!("solver");

/// Coefficients of a sample, in the order that the shader gives.
pub const COEFFICIENTS: usize = 10;

/// Sizes and variants of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SolverStep {
    /// Samples.
    pub batch: usize,
    /// Height times width.
    pub pixels: usize,
    /// Channels of the image.
    pub channels: usize,
    /// Channels of the network's output.
    pub model_channels: usize,
    /// Clip the predicted x_start.
    pub clip: bool,
    /// The second half of the network's output chooses the variance.
    pub learned_variance: bool,
}

/// What a step reads beside the network's output and the coefficients.
#[derive(Clone, Copy, Debug)]
pub struct Sources<S> {
    /// Standard normal noise \[N, pixels, channels\].
    pub noise: S,
    /// Gradient of the classifier's log probability on x_t.
    pub gradient: Option<S>,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    batch: u32,
    pixels: u32,
    channels: u32,
    pitch: u32,
    model_pitch: u32,
    clip: u32,
    learned_variance: u32,
    guided: u32,
}

/// Changes x \[N, pixels, channels\] and the predicted x_start, `state`; [`COEFFICIENTS`] a
/// sample.
pub fn step(
    size: &SolverStep,
    model_out: Slice,
    sources: Sources<Slice>,
    coefficients: Slice,
    state: [Slice; 2],
) -> Vec<Launch> {
    let uniform = Size {
        batch: size.batch as u32,
        pixels: size.pixels as u32,
        channels: size.channels as u32,
        pitch: pitch(size.channels) as u32,
        model_pitch: pitch(size.model_channels) as u32,
        clip: u32::from(size.clip),
        learned_variance: u32::from(size.learned_variance),
        guided: u32::from(sources.gradient.is_some()),
    };
    // What there is none of is not read, but every binding must be something.
    let gradient = sources.gradient.unwrap_or(sources.noise);
    let reads = vec![model_out, sources.noise, gradient, coefficients];
    let count = size.batch * size.pixels * pitch(size.channels);
    vec![invocations(kernel("forward", &WG), reads, state.to_vec(), bytemuck::bytes_of(&uniform), count)]
}

/// What a denoising step reads beside the image it changes.
#[derive(Clone, Copy, Debug)]
pub struct SolverInputs {
    /// The network's output \[N,H,W,C or 2C\].
    pub model_out: NodeId,
    /// Per-sample coefficients \[10 N\].
    pub coefficients: NodeId,
    /// Noise, a guiding gradient.
    pub sources: Sources<NodeId>,
    /// Clip the predicted x_start to −1..1.
    pub clip: bool,
    /// The second half of the network's channels chooses the variance.
    pub learned_variance: bool,
}

/// Of model_out, coefficients, noise, \[gradient\]; updates x and pred_xstart.
#[derive(Debug)]
struct Step {
    size: SolverStep,
    guided: bool,
}

impl Operation for Step {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let [model_out, coefficients, noise] = context.first();
        let gradient = context.optional(self.guided, 3);
        let state = [context.updates[0], context.updates[1]];
        step(&self.size, model_out, Sources { noise, gradient }, coefficients, state)
    }
}

impl Graph {
    /// One denoising step of `x` \[N,H,W,C\] in place; `coefficients` \[10 N\] in the shader's order. Returns the predicted
    /// x_start, which a multistep solver reads before it is written.
    pub fn solver_step(&mut self, x: NodeId, step: SolverInputs) -> Result<NodeId> {
        let shape = self.image_shape("solver", x)?;
        let [batch, height, width, channels] = shape;
        let model_channels = self.image_shape("solver", step.model_out)?[3];
        let wanted = if step.learned_variance { 2 * channels } else { channels };
        self.expect("solver", "model_out", step.model_out, &[batch, height, width, wanted])?;
        self.expect("solver", "coefficients", step.coefficients, &[COEFFICIENTS * batch])?;
        let Sources { noise, gradient } = step.sources;
        self.expect("solver", "noise", noise, &shape)?;
        let mut inputs = vec![step.model_out, step.coefficients, noise];
        if let Some(gradient) = gradient {
            self.expect("solver", "gradient", gradient, &shape)?;
            inputs.push(gradient);
        }
        let pred_xstart = self.reserve(&shape);
        let (clip, learned_variance) = (step.clip, step.learned_variance);
        let pixels = height * width;
        let size = SolverStep { batch, pixels, channels, model_channels, clip, learned_variance };
        let op = Step { size, guided: gradient.is_some() };
        self.push_updating(op, inputs, vec![x, pred_xstart], Vec::new());
        Ok(pred_xstart)
    }
}
