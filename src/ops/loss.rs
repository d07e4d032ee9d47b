//! Losses per sample and their gradients: `wgsl/loss.wgsl`; the gradient of a squared error is a mix of [`diffuse`].

use super::diffuse::{self, Factors, Mix};
use super::kernel::{WG, invocations, shader};
use crate::error::{Error, Result};
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Graph, NodeId, Operation, Upstream};
use crate::tensor::pitch;

shader!("loss");

/// Parts that one sample's squared error is summed in.
const PARTS: usize = 32;

#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    batch: u32,
    pixels: u32,
    channels: u32,
    pitch: u32,
    other_pitch: u32,
    parts: u32,
    scale: f32,
    kind: u32,
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

impl Mse {
    fn uniform(&self) -> Size {
        Size {
            batch: self.batch as u32,
            pixels: self.pixels as u32,
            channels: self.channels as u32,
            pitch: pitch(self.prediction_channels) as u32,
            other_pitch: pitch(self.channels) as u32,
            parts: PARTS as u32,
            ..Size::default()
        }
    }
}

fn finish(batch: usize, count: usize, parts: usize, scale: f32, kind: u32, from: Slice, to: Slice) -> Launch {
    let size = Size {
        batch: batch as u32,
        pitch: pitch(count) as u32,
        parts: parts as u32,
        scale,
        kind,
        ..Size::default()
    };
    let kernel = kernel("finish", &WG);
    invocations(kernel, vec![from], vec![to], bytemuck::bytes_of(&size), pitch(count))
}

/// out \[N\] = scale · sums of the parts \[N, parts\].
pub(super) fn sum_parts(batch: usize, parts: usize, scale: f32, from: Slice, out: Slice) -> Launch {
    finish(batch, batch, parts, scale, 0, from, out)
}

/// Bytes of scratch that [`mse`] needs.
pub fn mse_scratch(size: &Mse) -> u64 {
    (size.batch * PARTS * 4) as u64
}

/// Mean squared error per sample \[N\].
pub fn mse(size: &Mse, prediction: Slice, target: Slice, scratch: Slice, out: Slice) -> Vec<Launch> {
    let parts = invocations(
        kernel("mse", &WG),
        vec![prediction, target],
        vec![scratch],
        bytemuck::bytes_of(&size.uniform()),
        size.batch * PARTS,
    );
    let mean = 1.0 / (size.pixels * size.channels) as f32;
    vec![parts, sum_parts(size.batch, PARTS, mean, scratch, out)]
}

/// Gradient of the prediction of a mean squared error; reads prediction, target, dloss \[N\].
pub fn mse_grad(size: &Mse, reads: [Slice; 3], gradient: Slice) -> Vec<Launch> {
    let Mse { batch, pixels, channels, prediction_channels: columns } = *size;
    let scale = 2.0 / (pixels * channels) as f32;
    let size = Mix { batch, pixels, channels, columns, other_columns: channels };
    diffuse::mix(size, Factors::Difference { scale }, reads, gradient)
}

fn logits(batch: usize, classes: usize, scale: f32, kind: u32) -> Size {
    Size {
        batch: batch as u32,
        channels: classes as u32,
        pitch: pitch(classes) as u32,
        parts: pitch(batch) as u32,
        scale,
        kind,
        ..Size::default()
    }
}

fn logits_loss(size: Size, logits: Slice, labels: Slice, out: Slice) -> Vec<Launch> {
    let kernel = kernel("logits_loss", &WG);
    vec![invocations(kernel, vec![logits, labels], vec![out], bytemuck::bytes_of(&size), size.parts as usize)]
}

fn logits_grad(size: Size, reads: [Slice; 3], gradient: Slice) -> Vec<Launch> {
    let kernel = kernel("logits_grad", &WG);
    vec![invocations(kernel, reads.to_vec(), vec![gradient], bytemuck::bytes_of(&size), size.batch as usize)]
}

/// Softmax cross-entropy per sample \[N\]; `labels` are N u32 words, `u32::MAX` for none.
pub fn cross_entropy(batch: usize, classes: usize, z: Slice, labels: Slice, out: Slice) -> Vec<Launch> {
    logits_loss(logits(batch, classes, 1.0, 0), z, labels, out)
}

/// Gradient of the logits; reads logits, labels, dloss.
pub fn cross_entropy_grad(batch: usize, classes: usize, reads: [Slice; 3], gradient: Slice) -> Vec<Launch> {
    logits_grad(logits(batch, classes, 1.0, 0), reads, gradient)
}

/// Softmax cross-entropy per sample \[N\] against shares of the classes \[N,K\]; a row of zeros: none.
pub fn soft_cross_entropy(batch: usize, classes: usize, z: Slice, shares: Slice, out: Slice) -> Vec<Launch> {
    logits_loss(logits(batch, classes, 1.0, 2), z, shares, out)
}

/// Gradient of the logits; reads logits, shares, dloss.
pub fn soft_cross_entropy_grad(
    batch: usize,
    classes: usize,
    reads: [Slice; 3],
    gradient: Slice,
) -> Vec<Launch> {
    logits_grad(logits(batch, classes, 1.0, 2), reads, gradient)
}

fn label_scale(classes: usize, mean: bool) -> f32 {
    if mean { 1.0 / classes as f32 } else { 1.0 }
}

/// Binary cross-entropy with logits per sample \[N\]: mean or sum over the labels.
pub fn bce(batch: usize, classes: usize, mean: bool, z: Slice, targets: Slice, out: Slice) -> Vec<Launch> {
    logits_loss(logits(batch, classes, label_scale(classes, mean), 1), z, targets, out)
}

/// Gradient of the logits; reads logits, targets, dloss.
pub fn bce_grad(batch: usize, classes: usize, mean: bool, reads: [Slice; 3], gradient: Slice) -> Vec<Launch> {
    logits_grad(logits(batch, classes, label_scale(classes, mean), 1), reads, gradient)
}

/// out \[1\] = weight · sum of `values` \[N\].
pub fn weighted_sum(batch: usize, weight: f32, values: Slice, out: Slice) -> Vec<Launch> {
    vec![finish(1, 1, batch, weight, 1, values, out)]
}

/// out \[1\] = weight\[0\] · sum of `values` \[N\].
pub fn weighted_sum_by(batch: usize, values: Slice, weight: Slice, out: Slice) -> Vec<Launch> {
    vec![weigh(1, 1, batch, 1, [values, weight], out)]
}

/// out \[N\] = weight\[0\] · scalar\[0\] in each element.
pub fn scale_by_weight(batch: usize, scalar: Slice, weight: Slice, out: Slice) -> Vec<Launch> {
    vec![weigh(batch, batch, 0, 2, [scalar, weight], out)]
}

fn weigh(batch: usize, count: usize, parts: usize, kind: u32, reads: [Slice; 2], to: Slice) -> Launch {
    let size = Size {
        batch: batch as u32,
        pitch: pitch(count) as u32,
        parts: parts as u32,
        kind,
        ..Size::default()
    };
    invocations(kernel("weigh", &WG), reads.to_vec(), vec![to], bytemuck::bytes_of(&size), pitch(count))
}

/// out \[N\] = weight · scalar\[0\] in each element.
pub fn scale_by(batch: usize, weight: f32, scalar: Slice, out: Slice) -> Vec<Launch> {
    vec![finish(batch, batch, 0, weight, 2, scalar, out)]
}

/// out \[count\] = value in each element. `other` is any readable memory: the kernel binds it without reading it.
pub fn fill(count: usize, value: f32, other: Slice, out: Slice) -> Vec<Launch> {
    vec![finish(count, count, 0, value, 3, other, out)]
}

/// Every one of `count` elements equals `value`.
#[derive(Debug)]
struct Fill {
    count: usize,
    value: f32,
}

impl Operation for Fill {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        // The kernel binds a second buffer that a fill does not read.
        let other = context.scratch(16);
        fill(self.count, self.value, other, context.output)
    }

    fn storable(&self) -> bool {
        false
    }
}

/// Of prediction, target.
#[derive(Debug)]
struct SquaredError(Mse);

impl Operation for SquaredError {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let partial = context.scratch(mse_scratch(&self.0));
        let [prediction, target] = context.first();
        mse(&self.0, prediction, target, partial, context.output)
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        if at.position > 0 {
            return self.no_gradient(at);
        }
        let op = SquaredErrorGrad(self.0);
        Ok(Some(graph.push_like(at.target(), op, vec![at.inputs[0], at.inputs[1], at.dy])))
    }
}

/// Of prediction, target, dloss.
#[derive(Debug)]
struct SquaredErrorGrad(Mse);

impl Operation for SquaredErrorGrad {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        mse_grad(&self.0, context.first(), context.output)
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
        let op = CrossEntropyGrad(*self);
        Ok(Some(graph.push_like(at.target(), op, vec![at.inputs[0], at.inputs[1], at.dy])))
    }
}

/// Of logits, labels, dloss.
#[derive(Debug)]
struct CrossEntropyGrad(CrossEntropy);

impl Operation for CrossEntropyGrad {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let CrossEntropy { batch, classes, labels } = self.0;
        match labels {
            Labels::Classes => cross_entropy_grad(batch, classes, context.first(), context.output),
            Labels::Shares => soft_cross_entropy_grad(batch, classes, context.first(), context.output),
            Labels::Binary { mean } => bce_grad(batch, classes, mean, context.first(), context.output),
        }
    }
}

/// Of values \[N\]: weight · sum \[1\].
#[derive(Clone, Copy, Debug)]
struct WeightedSum {
    batch: usize,
    weight: f32,
}

impl Operation for WeightedSum {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        weighted_sum(self.batch, self.weight, context.inputs[0], context.output)
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        Ok(Some(match graph.operation::<Fill>(at.dy) {
            Some(&Fill { value, .. }) => graph.fill(self.batch, value * self.weight),
            None => graph.push_like(at.target(), WeightedSumGrad(*self), vec![at.target(), at.dy]),
        }))
    }
}

/// Of values \[N\] (for their size), scalar \[1\]: weight · scalar in each element.
#[derive(Debug)]
struct WeightedSumGrad(WeightedSum);

impl Operation for WeightedSumGrad {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        scale_by(self.0.batch, self.0.weight, context.inputs[1], context.output)
    }
}

/// Of values \[N\], weight \[1\]: weight · sum \[1\].
#[derive(Clone, Copy, Debug)]
struct WeightedSumBy {
    batch: usize,
}

impl Operation for WeightedSumBy {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let [values, weight] = context.first();
        weighted_sum_by(self.batch, values, weight, context.output)
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        if at.position > 0 {
            return Ok(None);
        }
        Ok(Some(graph.push_like(at.target(), WeightedSumByGrad(*self), vec![at.dy, at.inputs[1]])))
    }
}

/// Of scalar \[1\], weight \[1\]: weight · scalar in each element \[N\].
#[derive(Debug)]
struct WeightedSumByGrad(WeightedSumBy);

impl Operation for WeightedSumByGrad {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let [scalar, weight] = context.first();
        scale_by_weight(self.0.batch, scalar, weight, context.output)
    }
}

impl Graph {
    /// A vector \[count\] with every element `value`.
    pub fn fill(&mut self, count: usize, value: f32) -> NodeId {
        self.push(Fill { count, value }, Vec::new(), vec![count])
    }

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

    /// As [`Graph::weighted_sum`], with a weight \[1\] that is given for each run.
    ///
    /// # Errors
    /// [`Error::Shape`] where the weight is not one number.
    pub fn weighted_sum_by(&mut self, values: NodeId, weight: NodeId) -> Result<NodeId> {
        self.expect("weighted_sum", "weight", weight, &[1])?;
        let batch = self.shape(values).first().copied().unwrap_or(0);
        Ok(self.push(WeightedSumBy { batch }, vec![values, weight], vec![1]))
    }

    /// weight · sum of `values` \[N\], a scalar \[1\].
    pub fn weighted_sum(&mut self, values: NodeId, weight: f32) -> NodeId {
        let batch = self.shape(values).first().copied().unwrap_or(0);
        self.push(WeightedSum { batch, weight }, vec![values], vec![1])
    }
}
