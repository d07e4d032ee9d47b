//! BatchNorm1d and its gradients: `wgsl/batchnorm.wgsl`. The gradient of the bias is a column sum.

use super::{invocations, pitch, shader};
use crate::gpu::{Launch, Slice};

shader!("batchnorm");

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    batch: u32,
    quads: u32,
    train: u32,
    pad: u32,
}

fn launch(
    entry: &'static str,
    batch: usize,
    features: usize,
    train: bool,
    (reads, writes): (Vec<Slice>, Vec<Slice>),
    count: usize,
) -> Vec<Launch> {
    let quads = pitch(features) / 4;
    let size = Size { batch: batch as u32, quads: quads as u32, train: u32::from(train), pad: 0 };
    vec![invocations(kernel(entry, &super::WG), reads, writes, bytemuck::bytes_of(&size), count)]
}

/// stats \[3, features\] = mean, biased variance and rounding rest of the mean of x \[batch, features\];
/// the running statistics \[2, features\] move towards them.
pub fn stats(batch: usize, features: usize, x: Slice, stats: Slice, running: Slice) -> Vec<Launch> {
    launch("stats", batch, features, true, (vec![x], vec![stats, running]), pitch(features) / 4)
}

/// y of x with the statistics of the batch (`train`, \[3, features\]) or the running ones \[2, features\].
pub fn forward(
    batch: usize,
    features: usize,
    train: bool,
    [x, stats, weight, bias]: [Slice; 4],
    y: Slice,
) -> Vec<Launch> {
    let count = batch * pitch(features) / 4;
    launch("forward", batch, features, train, (vec![x, stats, weight, bias], vec![y]), count)
}

/// dx of dy; `train`: the statistics are the batch's and depend on x.
pub fn grad_input(
    batch: usize,
    features: usize,
    train: bool,
    [x, dy, stats, weight]: [Slice; 4],
    dx: Slice,
) -> Vec<Launch> {
    let reads = vec![x, dy, stats, weight];
    launch("grad_input", batch, features, train, (reads, vec![dx]), pitch(features) / 4)
}

/// Gradient of the weight.
pub fn grad_weight(
    batch: usize,
    features: usize,
    train: bool,
    [x, dy, stats]: [Slice; 3],
    dweight: Slice,
) -> Vec<Launch> {
    launch("grad_weight", batch, features, train, (vec![x, dy, stats], vec![dweight]), pitch(features) / 4)
}
