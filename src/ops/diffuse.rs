//! Forward diffusion, the x_start that a prediction means, and the gradient of a squared error: `wgsl/diffuse.wgsl`.

use super::kernel::{WG, invocations, shader};
use super::solver::COEFFICIENTS;
use super::total::Times;
use crate::error::{Error, Result};
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
    mode: u32,
    scale: f32,
    stride: u32,
}

/// Images \[N, pixels, channels\] and their result, whose rows are of `columns`, at least as many, zero behind the channels.
/// Rows of the second image are of `other_columns`.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Images.
    pub batch: usize,
    /// Pixels of an image.
    pub pixels: usize,
    /// Channels that are mixed.
    pub channels: usize,
    /// Channels of the result and the first image.
    pub columns: usize,
    /// Channels of the second image.
    pub other_columns: usize,
}

/// What two images are multiplied by before they are added; n is the sample.
#[derive(Clone, Copy, Debug)]
pub enum Factors {
    /// scale, as the rest says times factors\[n\] or factors\[0\], and minus that.
    Difference {
        /// The scale.
        scale: f32,
        /// What it is multiplied by.
        times: Times,
    },
    /// factors\[stride · n\], and the one after it.
    Pair {
        /// Factors of a sample.
        stride: usize,
    },
    /// Nothing of the first image, and of the second what [`Factors::Pair`] multiplies the image `which` by, 0 or 1.
    One {
        /// Factors of a sample.
        stride: usize,
        /// Which image's.
        which: u32,
    },
}

/// Mixes two images, reads of them and the factors.
pub fn mix(size: Mix, factors: Factors, reads: [Slice; 3], out: Slice) -> Vec<Launch> {
    let row = pitch(size.columns);
    let (mode, scale, stride) = match factors {
        Factors::Difference { scale, times: Times::One } => (4, scale, 0),
        Factors::Difference { scale, times: Times::First } => (0, scale, 0),
        Factors::Difference { scale, times: Times::Each } => (0, scale, 1),
        Factors::Pair { stride } => (1, 0.0, stride),
        Factors::One { stride, which } => (2 + which, 0.0, stride),
    };
    let uniform = Size {
        batch: size.batch as u32,
        pixels: size.pixels as u32,
        channels: size.channels as u32,
        pitch: row as u32,
        other_pitch: pitch(size.other_columns) as u32,
        mode,
        scale,
        stride: stride as u32,
    };
    let count = size.batch * size.pixels * row;
    let kernel = kernel("mix_samples", &WG);
    vec![invocations(kernel, reads.to_vec(), vec![out], bytemuck::bytes_of(&uniform), count)]
}

/// x_t of x_start and noise, all \[N, pixels, channels\]; two coefficients per sample.
pub fn q_sample(batch: usize, pixels: usize, channels: usize, reads: [Slice; 3], x_t: Slice) -> Vec<Launch> {
    let size = Mix { batch, pixels, channels, columns: channels, other_columns: channels };
    mix(size, Factors::Pair { stride: 2 }, reads, x_t)
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

/// Of x, the network's output, coefficients.
#[derive(Debug)]
struct XStart {
    size: Mix,
    stride: usize,
}

impl Operation for XStart {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        mix(self.size, Factors::Pair { stride: self.stride }, context.first(), context.output)
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        let Some((which, &input)) = at.inputs.iter().enumerate().nth(at.position).filter(|(n, _)| *n < 2)
        else {
            return Ok(None);
        };
        let Some(&coefficients) = at.inputs.get(2) else { return self.no_gradient(at) };
        // The gradient has the input's channels: of a learned variance's half it is zero.
        let columns = graph.image_shape("x_start", input)?[3];
        let size = Mix { columns, other_columns: self.size.channels, ..self.size };
        let op = XStartPart { size, stride: self.stride, which: which as u32 };
        Ok(Some(graph.push_like(input, op, vec![at.dy, coefficients])))
    }
}

/// Of a gradient and coefficients.
#[derive(Debug)]
struct XStartPart {
    size: Mix,
    stride: usize,
    which: u32,
}

impl Operation for XStartPart {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let [gradient, coefficients] = context.first();
        let factors = Factors::One { stride: self.stride, which: self.which };
        mix(self.size, factors, [gradient, gradient, coefficients], context.output)
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

    /// The x_start that a network's output \[N,H,W,C or 2C\] for `x` \[N,H,W,C\] means, not clipped: p·x + q·out, where p and q are
    /// the first two of a solver step's coefficients \[10 N\] of each sample. It has gradients on both.
    ///
    /// # Errors
    /// [`Error::Shape`] where they do not fit.
    pub fn predicted_x_start(
        &mut self,
        x: NodeId,
        model_out: NodeId,
        coefficients: NodeId,
    ) -> Result<NodeId> {
        let [batch, height, width, channels] = self.image_shape("x_start", x)?;
        let [n, h, w, other_columns] = self.image_shape("x_start", model_out)?;
        if [n, h, w] != [batch, height, width] || other_columns < channels {
            let detail = format!("{:?} of {:?}", self.shape(model_out), self.shape(x));
            return Err(Error::shape("x_start", detail));
        }
        self.expect("x_start", "coefficients", coefficients, &[COEFFICIENTS * batch])?;
        let size = Mix { batch, pixels: height * width, channels, columns: channels, other_columns };
        Ok(self.push_like(x, XStart { size, stride: COEFFICIENTS }, vec![x, model_out, coefficients]))
    }
}
