//! Pooled features for the classifier: `wgsl/features.wgsl`.

use super::{invocations, pitch, shader};
use crate::gpu::{Launch, Slice};

shader!("features");

/// One feature map and where its channels lie among the features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureMap {
    /// Samples.
    pub batch: usize,
    /// Height times width.
    pub pixels: usize,
    /// Channels.
    pub channels: usize,
    /// Columns of the features, the timestep's included.
    pub columns: usize,
    /// Column of the map's first channel.
    pub offset: usize,
    /// Maximum instead of mean.
    pub maximum: bool,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Size {
    batch: u32,
    pixels: u32,
    channels: u32,
    quads: u32,
    pitch: u32,
    offset: u32,
    maximum: u32,
    timestep: u32,
}

impl FeatureMap {
    fn uniform(&self) -> Size {
        Size {
            batch: self.batch as u32,
            pixels: self.pixels as u32,
            channels: self.channels as u32,
            quads: (pitch(self.channels) / 4) as u32,
            pitch: pitch(self.columns) as u32,
            offset: self.offset as u32,
            maximum: u32::from(self.maximum),
            timestep: 0,
        }
    }
}

/// Writes the map's columns of the features \[N, columns\].
pub fn pool_into(map: &FeatureMap, x: Slice, features: Slice) -> Vec<Launch> {
    let count = map.batch * pitch(map.channels) / 4;
    let kernel = kernel("pool_into", &super::WG);
    vec![invocations(kernel, vec![x], vec![features], bytemuck::bytes_of(&map.uniform()), count)]
}

/// Writes the raw timestep `t` \[N\] into the last column, and zeros behind it.
pub fn timestep_into(batch: usize, columns: usize, t: Slice, features: Slice) -> Vec<Launch> {
    let map = FeatureMap { batch, pixels: 1, channels: 1, columns, offset: columns - 1, maximum: false };
    let uniform = Size { timestep: 1, ..map.uniform() };
    let kernel = kernel("pool_into", &super::WG);
    vec![invocations(kernel, vec![t], vec![features], bytemuck::bytes_of(&uniform), batch)]
}

/// The map's gradient \[N, pixels, channels\] of the features' gradient.
pub fn pool_grad(map: &FeatureMap, x: Slice, features: Slice, dfeatures: Slice, dx: Slice) -> Vec<Launch> {
    let count = map.batch * map.pixels * pitch(map.channels) / 4;
    let kernel = kernel("pool_grad", &super::WG);
    let reads = vec![x, features, dfeatures];
    vec![invocations(kernel, reads, vec![dx], bytemuck::bytes_of(&map.uniform()), count)]
}
