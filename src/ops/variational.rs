//! The variational term of a learned sigma and its gradient: `wgsl/variational.wgsl`.

use super::kernel::{WG, invocations, shader};
use super::total::{Dloss, Times};
use crate::error::Result;
use crate::gpu::{Launch, Slice, spread};
use crate::graph::{Context, Graph, NodeId, Operation, Upstream};
use crate::tensor::pitch;

shader!("variational");

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    batch: u32,
    pixels: u32,
    channels: u32,
    pitch: u32,
    out_pitch: u32,
    rows: u32,
    scale: f32,
    times: u32,
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

    fn uniform(&self, dloss: Dloss) -> Size {
        Size {
            batch: self.batch as u32,
            pixels: self.pixels as u32,
            channels: self.channels as u32,
            pitch: pitch(self.channels) as u32,
            out_pitch: pitch(2 * self.channels) as u32,
            rows: pitch(self.batch) as u32,
            scale: self.mean() * dloss.factor,
            times: dloss.times as u32,
        }
    }
}

/// The term per sample \[N\]; reads model_out, x_start, x_t, coefficients \[N, 8\].
pub fn forward(size: &Variational, reads: [Slice; 4], out: Slice) -> Vec<Launch> {
    let uniform = size.uniform(Dloss { factor: 1.0, times: Times::One });
    vec![Launch {
        kernel: kernel("forward", &WG),
        reads: reads.to_vec(),
        writes: vec![out],
        uniform: bytemuck::bytes_of(&uniform).to_vec(),
        workgroups: spread(u64::from(uniform.rows)),
        multiply_adds: 0,
        spare: 0,
    }]
}

/// Gradient of model_out \[N, pixels, 2·channels\]; reads as [`forward`], then what `dloss` says.
pub fn grad(size: &Variational, dloss: Dloss, reads: [Slice; 5], gradient: Slice) -> Vec<Launch> {
    let count = size.batch * size.pixels * pitch(2 * size.channels);
    let uniform = size.uniform(dloss);
    let kernel = kernel("grad", &WG);
    vec![invocations(kernel, reads.to_vec(), vec![gradient], bytemuck::bytes_of(&uniform), count)]
}

/// Of model_out, x_start, x_t, coefficients.
#[derive(Debug)]
struct Vb(Variational);

impl Operation for Vb {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        forward(&self.0, context.first(), context.output)
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        if at.position > 0 {
            return Ok(None);
        }
        let (dloss, read) = Dloss::of(graph, at.dy);
        let reads = at.inputs.iter().copied().chain([read.unwrap_or(at.inputs[3])]).collect();
        Ok(Some(graph.push_like(at.target(), VbGrad { size: self.0, dloss }, reads)))
    }
}

/// Of model_out, x_start, x_t, coefficients, what `dloss` reads.
#[derive(Debug)]
struct VbGrad {
    size: Variational,
    dloss: Dloss,
}

impl Operation for VbGrad {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        grad(&self.size, self.dloss, context.first(), context.output)
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
