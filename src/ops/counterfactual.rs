//! One denoising step relative to a reference path: `wgsl/counterfactual.wgsl`.

use super::kernel::{WG, invocations, shader};
use crate::error::{Error, Result};
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Graph, NodeId, Operation};
use crate::tensor::pitch;

shader!("counterfactual");

/// Coefficients of a sample, in the order that the shader gives.
pub const COEFFICIENTS: usize = 8;

/// Images of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepSize {
    /// Samples, height, width, channels.
    pub shape: [usize; 4],
    /// Channels of the network's output, at least as many: the first ones count.
    pub model_channels: usize,
    /// Clip the predicted x_start.
    pub clip: bool,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    batch: u32,
    height: u32,
    width: u32,
    quads: u32,
    channels: u32,
    out_quads: u32,
    clip: u32,
    given: u32,
}

impl StepSize {
    fn uniform(&self, given: bool) -> Size {
        let [batch, height, width, channels] = self.shape.map(|size| size as u32);
        Size {
            batch,
            height,
            width,
            quads: (pitch(self.shape[3]) / 4) as u32,
            channels,
            out_quads: (pitch(self.model_channels) / 4) as u32,
            clip: u32::from(self.clip),
            given: u32::from(given),
        }
    }
}

/// The predicted x_start of x and the network's output, both [N, pixels, channels], moved along `gradient`; [`COEFFICIENTS`] a
/// sample.
pub fn x_start(
    size: &StepSize,
    [x, model_out, coefficients]: [Slice; 3],
    gradient: Option<Slice>,
    out: Slice,
) -> Vec<Launch> {
    let uniform = size.uniform(gradient.is_some());
    let reads = vec![x, model_out, gradient.unwrap_or(x), coefficients];
    let [batch, height, width, channels] = size.shape;
    let count = batch * height * width * pitch(channels) / 4;
    vec![invocations(kernel("x_start", &WG), reads, vec![out], bytemuck::bytes_of(&uniform), count)]
}

/// Where the reference's states and predicted x_starts lie, rows of images \[rows, pixels, channels\].
#[derive(Clone, Copy, Debug)]
pub struct Reference<S> {
    /// The states x_t; the row before that of a step is its next one towards the image.
    pub states: S,
    /// What the network takes each for.
    pub x_starts: S,
}

/// Changes x to the step's result. `radius` is that of the box of pixels whose change decides; `mask` is \[pixels\].
pub fn advance(
    size: &StepSize,
    radius: usize,
    x_start: Slice,
    reference: Reference<Slice>,
    coefficients: Slice,
    mask: Option<Slice>,
    x: Slice,
) -> Vec<Launch> {
    let uniform = size.uniform(mask.is_some());
    // What there is none of is not read, but every binding must be something.
    let reads =
        vec![x_start, reference.states, reference.x_starts, coefficients, mask.unwrap_or(coefficients)];
    let [batch, height, width, _] = size.shape;
    let constants = [WG[0], ("RADIUS", radius as f64)];
    let kernel = kernel("advance", &constants);
    vec![invocations(kernel, reads, vec![x], bytemuck::bytes_of(&uniform), batch * height * width)]
}

/// Of x, model_out, coefficients, \[gradient\].
#[derive(Debug)]
struct XStart {
    size: StepSize,
    guided: bool,
}

impl Operation for XStart {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let gradient = context.optional(self.guided, 3);
        x_start(&self.size, context.first(), gradient, context.output)
    }
}

/// Of x_start, states, x_starts, coefficients, \[mask\]; updates x.
#[derive(Debug)]
struct Advance {
    size: StepSize,
    radius: usize,
    masked: bool,
}

impl Operation for Advance {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let [x_start, states, x_starts, coefficients] = context.first();
        let mask = context.optional(self.masked, 4);
        let reference = Reference { states, x_starts };
        advance(&self.size, self.radius, x_start, reference, coefficients, mask, context.updates[0])
    }
}

impl Graph {
    /// The predicted x_start of `x` \[N,H,W,C\] and the network's output \[N,H,W,C or 2C\], moved along `gradient` before it is
    /// clipped; `coefficients` \[8 N\] in the shader's order.
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes do not fit.
    pub fn guided_x_start(
        &mut self,
        x: NodeId,
        model_out: NodeId,
        coefficients: NodeId,
        gradient: Option<NodeId>,
        clip: bool,
    ) -> Result<NodeId> {
        let shape = self.image_shape("x_start", x)?;
        let [batch, height, width, channels] = shape;
        let model_channels = self.image_shape("x_start", model_out)?[3];
        self.expect("x_start", "model_out", model_out, &[batch, height, width, model_channels])?;
        self.expect("x_start", "coefficients", coefficients, &[COEFFICIENTS * batch])?;
        if model_channels < channels {
            let detail = format!("{model_channels} channels of an output for {channels} of an image");
            return Err(Error::shape("x_start", detail));
        }
        let mut inputs = vec![x, model_out, coefficients];
        if let Some(gradient) = gradient {
            self.expect("x_start", "gradient", gradient, &shape)?;
            inputs.push(gradient);
        }
        let size = StepSize { shape, model_channels, clip };
        Ok(self.push_like(x, XStart { size, guided: gradient.is_some() }, inputs))
    }

    /// Takes `x` \[N,H,W,C\] one step towards the image, relative to a reference path: rows \[R,H,W,C\] of which `coefficients`
    /// \[8 N\] say each sample's. `mask` \[H·W\], 0 to 1, allows changes; `radius` is that of the box of pixels whose mean change
    /// decides.
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes do not fit.
    pub fn advance(
        &mut self,
        x: NodeId,
        x_start: NodeId,
        reference: Reference<NodeId>,
        coefficients: NodeId,
        mask: Option<NodeId>,
        radius: usize,
    ) -> Result<()> {
        let shape = self.image_shape("advance", x)?;
        let [batch, height, width, channels] = shape;
        self.expect("advance", "x_start", x_start, &shape)?;
        self.expect("advance", "coefficients", coefficients, &[COEFFICIENTS * batch])?;
        for (what, node) in [("states", reference.states), ("x_starts", reference.x_starts)] {
            let rows = self.image_shape("advance", node)?[0];
            self.expect("advance", what, node, &[rows, height, width, channels])?;
        }
        let mut inputs = vec![x_start, reference.states, reference.x_starts, coefficients];
        if let Some(mask) = mask {
            self.expect("advance", "mask", mask, &[height * width])?;
            inputs.push(mask);
        }
        let size = StepSize { shape, model_channels: channels, clip: false };
        let op = Advance { size, radius, masked: mask.is_some() };
        self.push_updating(op, inputs, vec![x], Vec::new());
        Ok(())
    }
}
