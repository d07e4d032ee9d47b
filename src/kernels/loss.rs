//! Losses per sample and their gradients: `wgsl/loss.wgsl`.

use super::{invocations, pitch, shader};
use crate::gpu::{Launch, Slice};

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
    let kernel = kernel("finish", &super::WG);
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
        kernel("mse", &super::WG),
        vec![prediction, target],
        vec![scratch],
        bytemuck::bytes_of(&size.uniform()),
        size.batch * PARTS,
    );
    let mean = 1.0 / (size.pixels * size.channels) as f32;
    vec![parts, sum_parts(size.batch, PARTS, mean, scratch, out)]
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
    let kernel = kernel("logits_loss", &super::WG);
    vec![invocations(kernel, vec![logits, labels], vec![out], bytemuck::bytes_of(&size), size.parts as usize)]
}

fn logits_grad(size: Size, reads: [Slice; 3], gradient: Slice) -> Vec<Launch> {
    let kernel = kernel("logits_grad", &super::WG);
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

/// out \[N\] = weight · scalar\[0\] in each element.
pub fn scale_by(batch: usize, weight: f32, scalar: Slice, out: Slice) -> Vec<Launch> {
    vec![finish(batch, batch, 0, weight, 2, scalar, out)]
}

/// out \[count\] = value in each element. `other` is any readable memory: the kernel binds it without reading it.
pub fn fill(count: usize, value: f32, other: Slice, out: Slice) -> Vec<Launch> {
    vec![finish(count, count, 0, value, 3, other, out)]
}
