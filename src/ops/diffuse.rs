//! Forward diffusion, and the gradient of a squared error: `wgsl/diffuse.wgsl`.

use super::kernel::{WG, invocations, shader};
use crate::error::Result;
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Graph, NodeId, Operation, Upstream};
use crate::tensor::pitch;

shader!("diffuse");

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    batch: u32,
    pixels: u32,
    channels: u32,
    pitch: u32,
    other_pitch: u32,
    pairs: u32,
    scale: f32,
    pad: u32,
}

/// Images \[N, pixels, channels\] and their result, whose rows are of `columns`, at least as many, zero behind the channels.
#[derive(Clone, Copy)]
pub(super) struct Mix {
    pub batch: usize,
    pub pixels: usize,
    pub channels: usize,
    pub columns: usize,
}

/// Mixes two images per sample; see the shader for `pairs` and `scale`.
pub(super) fn mix(size: Mix, pairs: bool, scale: f32, reads: [Slice; 3], out: Slice) -> Vec<Launch> {
    let row = pitch(size.columns);
    let uniform = Size {
        batch: size.batch as u32,
        pixels: size.pixels as u32,
        channels: size.channels as u32,
        pitch: row as u32,
        other_pitch: pitch(size.channels) as u32,
        pairs: u32::from(pairs),
        scale,
        pad: 0,
    };
    let count = size.batch * size.pixels * row;
    let kernel = kernel("mix_samples", &WG);
    vec![invocations(kernel, reads.to_vec(), vec![out], bytemuck::bytes_of(&uniform), count)]
}

/// x_t of x_start and noise, all \[N, pixels, channels\]; two coefficients per sample.
pub fn q_sample(batch: usize, pixels: usize, channels: usize, reads: [Slice; 3], x_t: Slice) -> Vec<Launch> {
    mix(Mix { batch, pixels, channels, columns: channels }, true, 0.0, reads, x_t)
}

/// Of x_start, noise, coefficients.
#[derive(Debug)]
struct QSample {
    batch: usize,
    pixels: usize,
    channels: usize,
}

impl Operation for QSample {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        q_sample(self.batch, self.pixels, self.channels, context.first(), context.output)
    }

    fn vjp(&self, _graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        // Noise and coefficients are constants; nothing asks for the gradient of an image before it is noised.
        if at.position > 0 { Ok(None) } else { self.no_gradient(at) }
    }
}

impl Graph {
    /// √ᾱ·x_start + √(1−ᾱ)·noise with `coefficients` \[2N\] per sample.
    pub fn q_sample(&mut self, x_start: NodeId, noise: NodeId, coefficients: NodeId) -> Result<NodeId> {
        let [batch, height, width, channels] = self.image_shape("q_sample", x_start)?;
        self.expect("q_sample", "noise", noise, self.shape(x_start))?;
        self.expect("q_sample", "coefficients", coefficients, &[2 * batch])?;
        let op = QSample { batch, pixels: height * width, channels };
        Ok(self.push_like(x_start, op, vec![x_start, noise, coefficients]))
    }
}
