//! The variational term of a learned sigma and its gradient: `wgsl/variational.wgsl`.

use super::kernel::{WG, invocations, shader};
use super::loss;
use crate::error::Result;
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Graph, NodeId, Operation, Upstream};
use crate::tensor::pitch;

shader!("variational");

/// Parts that one sample is summed in.
const PARTS: usize = 32;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    batch: u32,
    pixels: u32,
    channels: u32,
    pitch: u32,
    out_pitch: u32,
    parts: u32,
    scale: f32,
    pad: u32,
}

/// Sizes of the term: images of `channels`, network output of twice as many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variational {
    /// Samples.
    pub batch: usize,
    /// Height times width.
    pub pixels: usize,
    /// Channels of the images.
    pub channels: usize,
}

impl Variational {
    /// Mean over pixels and channels, in bits.
    fn mean(&self) -> f32 {
        (1.0 / (std::f64::consts::LN_2 * (self.pixels * self.channels) as f64)) as f32
    }

    fn uniform(&self) -> Size {
        Size {
            batch: self.batch as u32,
            pixels: self.pixels as u32,
            channels: self.channels as u32,
            pitch: pitch(self.channels) as u32,
            out_pitch: pitch(2 * self.channels) as u32,
            parts: PARTS as u32,
            scale: self.mean(),
            pad: 0,
        }
    }
}

/// Bytes of scratch that [`forward`] needs.
pub fn scratch(size: &Variational) -> u64 {
    (size.batch * PARTS * 4) as u64
}

/// The term per sample \[N\]; reads model_out, x_start, x_t, coefficients \[N, 8\].
pub fn forward(size: &Variational, reads: [Slice; 4], scratch: Slice, out: Slice) -> Vec<Launch> {
    let count = size.batch * PARTS;
    let kernel = kernel("forward", &WG);
    let parts =
        invocations(kernel, reads.to_vec(), vec![scratch], bytemuck::bytes_of(&size.uniform()), count);
    vec![parts, loss::sum_parts(size.batch, PARTS, size.mean(), scratch, out)]
}

/// Gradient of model_out \[N, pixels, 2·channels\]; reads as [`forward`], then dloss \[N\].
pub fn grad(size: &Variational, reads: [Slice; 5], gradient: Slice) -> Vec<Launch> {
    let count = size.batch * size.pixels * pitch(2 * size.channels);
    let kernel = kernel("grad", &WG);
    vec![invocations(kernel, reads.to_vec(), vec![gradient], bytemuck::bytes_of(&size.uniform()), count)]
}

/// Of model_out, x_start, x_t, coefficients.
#[derive(Debug)]
struct Vb(Variational);

impl Operation for Vb {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let partial = context.scratch(scratch(&self.0));
        forward(&self.0, context.first(), partial, context.output)
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        if at.position > 0 {
            return Ok(None);
        }
        let reads = at.inputs.iter().copied().chain([at.dy]).collect();
        Ok(Some(graph.push_like(at.target(), VbGrad(self.0), reads)))
    }
}

/// Of model_out, x_start, x_t, coefficients, dloss.
#[derive(Debug)]
struct VbGrad(Variational);

impl Operation for VbGrad {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        grad(&self.0, context.first(), context.output)
    }
}

impl Graph {
    /// The variational term of a learned sigma in bits per dimension, per sample \[N\] (Nichol & Dhariwal 2021, eq. 16);
    /// only the variance half of `model_out` \[N,H,W,2C\] receives a gradient.
    pub fn vb(
        &mut self,
        model_out: NodeId,
        x_start: NodeId,
        x_t: NodeId,
        coefficients: NodeId,
    ) -> Result<NodeId> {
        let [batch, height, width, channels] = self.image_shape("vb", x_start)?;
        self.expect("vb", "model_out", model_out, &[batch, height, width, 2 * channels])?;
        self.expect("vb", "x_t", x_t, self.shape(x_start))?;
        self.expect("vb", "coefficients", coefficients, &[8 * batch])?;
        let size = Variational { batch, pixels: height * width, channels };
        Ok(self.push(Vb(size), vec![model_out, x_start, x_t, coefficients], vec![batch]))
    }
}
