//! Pooled features for the classifier: `wgsl/features.wgsl`.

use super::kernel::{WG, invocations, shader};
use crate::error::{Error, Result};
use crate::gpu::{Launch, Slice};
use crate::graph::{Context, Graph, NodeId, Operation, Upstream};
use crate::tensor::pitch;
use serde::{Deserialize, Serialize};

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
    let kernel = kernel("pool_into", &WG);
    let made = invocations(kernel, vec![x], vec![features], bytemuck::bytes_of(&map.uniform()), count);
    vec![made.stored(&["X"])]
}

/// Writes the raw timestep `t` \[N\] into the last column, and zeros behind it.
pub fn timestep_into(batch: usize, columns: usize, t: Slice, features: Slice) -> Vec<Launch> {
    let map = FeatureMap { batch, pixels: 1, channels: 1, columns, offset: columns - 1, maximum: false };
    let uniform = Size { timestep: 1, ..map.uniform() };
    let kernel = kernel("pool_into", &WG);
    vec![invocations(kernel, vec![t], vec![features], bytemuck::bytes_of(&uniform), batch)]
}

/// The map's gradient \[N, pixels, channels\] of the features' gradient.
pub fn pool_grad(map: &FeatureMap, x: Slice, features: Slice, dfeatures: Slice, dx: Slice) -> Vec<Launch> {
    let count = map.batch * map.pixels * pitch(map.channels) / 4;
    let kernel = kernel("pool_grad", &WG);
    let reads = vec![x, features, dfeatures];
    let made = invocations(kernel, reads, vec![dx], bytemuck::bytes_of(&map.uniform()), count);
    vec![made.stored(&["X", "", "", "Dx"])]
}

/// How one number is made of each channel of a feature map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Spatial mean (the paper's choice).
    Average,
    /// Spatial maximum of the bottleneck; the skips are averaged all the same, as in the reference.
    Max,
}

impl Pooling {
    /// Whether the map at `position` (0: the bottleneck) is pooled by its maximum.
    fn takes_maximum(self, position: usize) -> bool {
        self == Pooling::Max && position == 0
    }
}

/// Of feature maps…, t: the classifier's input. Of each map pixels and channels.
#[derive(Debug)]
struct Features {
    batch: usize,
    maps: Vec<[usize; 2]>,
    pooling: Pooling,
}

impl Features {
    fn columns(&self) -> usize {
        self.maps.iter().map(|m| m[1]).sum::<usize>() + 1
    }

    /// The map at `position`; `None`: that is the timestep.
    fn map(&self, position: usize) -> Option<FeatureMap> {
        let &[pixels, channels] = self.maps.get(position)?;
        let offset = self.maps[..position].iter().map(|m| m[1]).sum();
        let maximum = self.pooling.takes_maximum(position);
        Some(FeatureMap { batch: self.batch, pixels, channels, columns: self.columns(), offset, maximum })
    }
}

impl Operation for Features {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let part = |(position, x): (usize, &Slice)| match self.map(position) {
            Some(map) => pool_into(&map, *x, context.output),
            None => timestep_into(self.batch, self.columns(), *x, context.output),
        };
        context.inputs.iter().enumerate().flat_map(part).collect()
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        let map = self.map(at.position).map(FeaturesGrad);
        Ok(map.map(|op| graph.push_like(at.target(), op, vec![at.target(), at.node, at.dy])))
    }

    fn reads_half(&self, position: usize) -> bool {
        self.map(position).is_some()
    }
}

/// Of map, features, dfeatures.
#[derive(Debug)]
struct FeaturesGrad(FeatureMap);

impl Operation for FeaturesGrad {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let [x, features, dfeatures] = context.first();
        pool_grad(&self.0, x, features, dfeatures, context.output)
    }

    fn reads_half(&self, position: usize) -> bool {
        position == 0
    }

    fn writes_half(&self) -> bool {
        true
    }
}

impl Graph {
    /// The classifier's input: each map of `maps` \[N,H,W,C\] pooled over its pixels, one after the other, then the raw
    /// timestep `t` \[N\] (f32) as last column.
    pub fn features(&mut self, maps: &[NodeId], t: NodeId, pooling: Pooling) -> Result<NodeId> {
        let batch = self.shape(t).first().copied().unwrap_or(0);
        let mut sizes = Vec::new();
        for map in maps {
            let [n, height, width, channels] = self.image_shape("features", *map)?;
            if n != batch {
                return Err(Error::shape("features", format!("a map has batch {n}, t has {batch}")));
            }
            sizes.push([height * width, channels]);
        }
        let op = Features { batch, maps: sizes, pooling };
        let shape = vec![batch, op.columns()];
        Ok(self.push(op, maps.iter().copied().chain([t]).collect(), shape))
    }
}
