//! Losses per sample and their gradients: `wgsl/loss.wgsl`; the gradient of a squared error is a mix of [`diffuse`]. What is
//! made of them is in [`super::total`].

use super::diffuse::{self, Factors, Mix};
use super::kernel::{WG, invocations, shader};
use super::total::{Dloss, Times};
use crate::error::{Error, Result};
use crate::gpu::{Launch, Slice, spread};
use crate::graph::{Context, Graph, NodeId, Operation, Upstream};
use crate::tensor::pitch;

shader!("loss");

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Images {
    batch: u32,
    pixels: u32,
    channels: u32,
    pitch: u32,
    other_pitch: u32,
    rows: u32,
    scale: f32,
    pad: u32,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Logits {
    batch: u32,
    classes: u32,
    pitch: u32,
    rows: u32,
    kind: u32,
    times: u32,
    scale: f32,
    pad: u32,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Parts {
    batch: u32,
    rows: u32,
    parts: u32,
    scale: f32,
}

/// Sizes of a squared error between images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mse {
    /// Samples.
    pub batch: usize,
    /// Height times width.
    pub pixels: usize,
    /// Channels of the target.
    pub channels: usize,
    /// Channels of the prediction, at least as many: the first ones count.
    pub prediction_channels: usize,
}

/// out \[N\] = scale · sums of the parts \[N, parts\].
pub(super) fn sum_parts(batch: usize, parts: usize, scale: f32, from: Slice, out: Slice) -> Launch {
    let rows = pitch(batch);
    let size = Parts { batch: batch as u32, rows: rows as u32, parts: parts as u32, scale };
    invocations(kernel("finish", &WG), vec![from], vec![out], bytemuck::bytes_of(&size), rows)
}

/// Mean squared error per sample \[N\].
pub fn mse(size: &Mse, prediction: Slice, target: Slice, out: Slice) -> Vec<Launch> {
    let rows = pitch(size.batch);
    let images = Images {
        batch: size.batch as u32,
        pixels: size.pixels as u32,
        channels: size.channels as u32,
        pitch: pitch(size.prediction_channels) as u32,
        other_pitch: pitch(size.channels) as u32,
        rows: rows as u32,
        scale: 1.0 / (size.pixels * size.channels) as f32,
        pad: 0,
    };
    vec![Launch {
        kernel: kernel("mse", &WG),
        reads: vec![prediction, target],
        writes: vec![out],
        uniform: bytemuck::bytes_of(&images).to_vec(),
        workgroups: spread(rows as u64),
        multiply_adds: 0,
        spare: 0,
    }]
}

/// Gradient of the prediction of a mean squared error; reads prediction, target and what `dloss` says.
pub fn mse_grad(size: &Mse, dloss: Dloss, reads: [Slice; 3], gradient: Slice) -> Vec<Launch> {
    let Mse { batch, pixels, channels, prediction_channels: columns } = *size;
    let scale = 2.0 / (pixels * channels) as f32 * dloss.factor;
    let size = Mix { batch, pixels, channels, columns, other_columns: channels };
    diffuse::mix(size, Factors::Difference { scale, times: dloss.times }, reads, gradient)
}

fn logits(batch: usize, classes: usize, scale: f32, kind: u32) -> Logits {
    Logits {
        batch: batch as u32,
        classes: classes as u32,
        pitch: pitch(classes) as u32,
        rows: pitch(batch) as u32,
        kind,
        times: Times::One as u32,
        scale,
        pad: 0,
    }
}

fn logits_loss(size: Logits, logits: Slice, labels: Slice, out: Slice) -> Vec<Launch> {
    let kernel = kernel("logits_loss", &WG);
    vec![invocations(kernel, vec![logits, labels], vec![out], bytemuck::bytes_of(&size), size.rows as usize)]
}

fn logits_grad(size: Logits, dloss: Dloss, reads: [Slice; 3], gradient: Slice) -> Vec<Launch> {
    let size = Logits { scale: size.scale * dloss.factor, times: dloss.times as u32, ..size };
    let kernel = kernel("logits_grad", &WG);
    vec![invocations(kernel, reads.to_vec(), vec![gradient], bytemuck::bytes_of(&size), size.batch as usize)]
}

/// Softmax cross-entropy per sample \[N\]; `labels` are N u32 words, `u32::MAX` for none.
pub fn cross_entropy(batch: usize, classes: usize, z: Slice, labels: Slice, out: Slice) -> Vec<Launch> {
    logits_loss(logits(batch, classes, 1.0, 0), z, labels, out)
}

/// Gradient of the logits; reads logits, labels and what `dloss` says.
pub fn cross_entropy_grad(
    batch: usize,
    classes: usize,
    dloss: Dloss,
    reads: [Slice; 3],
    gradient: Slice,
) -> Vec<Launch> {
    logits_grad(logits(batch, classes, 1.0, 0), dloss, reads, gradient)
}

/// Softmax cross-entropy per sample \[N\] against shares of the classes \[N,K\]; a row of zeros: none.
pub fn soft_cross_entropy(batch: usize, classes: usize, z: Slice, shares: Slice, out: Slice) -> Vec<Launch> {
    logits_loss(logits(batch, classes, 1.0, 2), z, shares, out)
}

/// Gradient of the logits; reads logits, shares and what `dloss` says.
pub fn soft_cross_entropy_grad(
    batch: usize,
    classes: usize,
    dloss: Dloss,
    reads: [Slice; 3],
    gradient: Slice,
) -> Vec<Launch> {
    logits_grad(logits(batch, classes, 1.0, 2), dloss, reads, gradient)
}

fn label_scale(classes: usize, mean: bool) -> f32 {
    if mean { 1.0 / classes as f32 } else { 1.0 }
}

/// Binary cross-entropy with logits per sample \[N\]: mean or sum over the labels.
pub fn bce(batch: usize, classes: usize, mean: bool, z: Slice, targets: Slice, out: Slice) -> Vec<Launch> {
    logits_loss(logits(batch, classes, label_scale(classes, mean), 1), z, targets, out)
}

/// Gradient of the logits; reads logits, targets and what `dloss` says.
pub fn bce_grad(
    batch: usize,
    classes: usize,
    mean: bool,
    dloss: Dloss,
    reads: [Slice; 3],
    gradient: Slice,
) -> Vec<Launch> {
    logits_grad(logits(batch, classes, label_scale(classes, mean), 1), dloss, reads, gradient)
}

/// Of prediction, target.
#[derive(Debug)]
struct SquaredError(Mse);

impl Operation for SquaredError {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let [prediction, target] = context.first();
        mse(&self.0, prediction, target, context.output)
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        if at.position > 0 {
            return self.no_gradient(at);
        }
        let [prediction, target] = [at.inputs[0], at.inputs[1]];
        let (dloss, read) = Dloss::of(graph, at.dy);
        let op = SquaredErrorGrad { size: self.0, dloss };
        Ok(Some(graph.push_like(prediction, op, vec![prediction, target, read.unwrap_or(target)])))
    }
}

/// Of prediction, target, what `dloss` reads.
#[derive(Debug)]
struct SquaredErrorGrad {
    size: Mse,
    dloss: Dloss,
}

impl Operation for SquaredErrorGrad {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        mse_grad(&self.size, self.dloss, context.first(), context.output)
    }
}

/// Which loss of logits.
#[derive(Clone, Copy, Debug)]
enum Labels {
    /// Softmax cross-entropy against class numbers.
    Classes,
    /// Softmax cross-entropy against shares of the classes.
    Shares,
    /// Binary cross-entropy against targets: mean, or sum, over them.
    Binary { mean: bool },
}

/// Of logits, labels.
#[derive(Clone, Copy, Debug)]
struct CrossEntropy {
    batch: usize,
    classes: usize,
    labels: Labels,
}

impl Operation for CrossEntropy {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let CrossEntropy { batch, classes, labels } = *self;
        let [z, y] = context.first();
        match labels {
            Labels::Classes => cross_entropy(batch, classes, z, y, context.output),
            Labels::Shares => soft_cross_entropy(batch, classes, z, y, context.output),
            Labels::Binary { mean } => bce(batch, classes, mean, z, y, context.output),
        }
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        if at.position > 0 {
            return Ok(None);
        }
        let [logits, labels] = [at.inputs[0], at.inputs[1]];
        let (dloss, read) = Dloss::of(graph, at.dy);
        let op = CrossEntropyGrad { of: *self, dloss };
        Ok(Some(graph.push_like(logits, op, vec![logits, labels, read.unwrap_or(labels)])))
    }
}

/// Of logits, labels, what `dloss` reads.
#[derive(Debug)]
struct CrossEntropyGrad {
    of: CrossEntropy,
    dloss: Dloss,
}

impl Operation for CrossEntropyGrad {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let CrossEntropyGrad { of: CrossEntropy { batch, classes, labels }, dloss } = *self;
        let (reads, gradient) = (context.first(), context.output);
        match labels {
            Labels::Classes => cross_entropy_grad(batch, classes, dloss, reads, gradient),
            Labels::Shares => soft_cross_entropy_grad(batch, classes, dloss, reads, gradient),
            Labels::Binary { mean } => bce_grad(batch, classes, mean, dloss, reads, gradient),
        }
    }
}

impl Graph {
    /// Mean over C,H,W of (prediction − target)², per sample \[N\]; of a prediction with more channels the first count.
    pub fn mse(&mut self, prediction: NodeId, target: NodeId) -> Result<NodeId> {
        let [batch, height, width, channels] = self.image_shape("mse", target)?;
        let [n, h, w, prediction_channels] = self.image_shape("mse", prediction)?;
        if [n, h, w] != [batch, height, width] || prediction_channels < channels {
            let detail = format!("{:?} against {:?}", self.shape(prediction), self.shape(target));
            return Err(Error::shape("mse", detail));
        }
        let size = Mse { batch, pixels: height * width, channels, prediction_channels };
        Ok(self.push(SquaredError(size), vec![prediction, target], vec![batch]))
    }

    /// Softmax cross-entropy of `logits` \[N,K\] against `labels` (N u32 words; `u32::MAX`: unlabelled, loss 0), \[N\].
    pub fn cross_entropy(&mut self, logits: NodeId, labels: NodeId) -> Result<NodeId> {
        let &[batch, classes] = self.shape(logits) else {
            return Err(Error::shape("cross_entropy", format!("logits are {:?}", self.shape(logits))));
        };
        self.expect("cross_entropy", "labels", labels, &[batch])?;
        let op = CrossEntropy { batch, classes, labels: Labels::Classes };
        Ok(self.push(op, vec![logits, labels], vec![batch]))
    }

    /// Softmax cross-entropy of `logits` against `shares` of the classes \[N,K\], which may be mixed, \[N\]; a row of zeros has
    /// loss 0.
    ///
    /// # Errors
    /// [`Error::Shape`] where the two do not fit.
    pub fn soft_cross_entropy(&mut self, logits: NodeId, shares: NodeId) -> Result<NodeId> {
        let &[batch, classes] = self.shape(logits) else {
            return Err(Error::shape("soft_cross_entropy", format!("logits are {:?}", self.shape(logits))));
        };
        self.expect("soft_cross_entropy", "shares", shares, &[batch, classes])?;
        let op = CrossEntropy { batch, classes, labels: Labels::Shares };
        Ok(self.push(op, vec![logits, shares], vec![batch]))
    }

    /// Binary cross-entropy with logits against `targets` \[N,K\], per sample \[N\]: mean, or sum, over the labels.
    pub fn bce(&mut self, logits: NodeId, targets: NodeId, mean: bool) -> Result<NodeId> {
        let &[batch, classes] = self.shape(logits) else {
            return Err(Error::shape("bce", format!("logits are {:?}", self.shape(logits))));
        };
        self.expect("bce", "targets", targets, &[batch, classes])?;
        let op = CrossEntropy { batch, classes, labels: Labels::Binary { mean } };
        Ok(self.push(op, vec![logits, targets], vec![batch]))
    }
}
