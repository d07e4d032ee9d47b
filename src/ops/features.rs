//! Pooled features for the classifier: `wgsl/features.wgsl`.

use super::kernel::{WG, invocations, shader};
use super::total::Fill;
use crate::error::{Error, Result};
use crate::gpu::{Launch, Slice, spread};
use crate::graph::{Context, Graph, NodeId, Operation, Upstream};
use crate::tensor::pitch;
use serde::{Deserialize, Serialize};

shader!("features");

/// Maps of one launch, as many as there are bindings.
const MAPS: usize = 7;
/// Lanes of a workgroup that pools.
const LANES: [(&str, f64); 1] = [("WG", 32.0)];
/// Vec4s that an invocation makes of the gradient of a mean.
const BLOCK: usize = 8;
/// Bytes of what is bound where a launch has fewer gradients to write: places of their own.
const PLACE: u64 = 256;
/// Names of the maps' elements and of their gradients', by binding.
const NAMES: [&str; MAPS] = ["X0", "X1", "X2", "X3", "X4", "X5", "X6"];
const GRADIENT_NAMES: [&str; MAPS + 1] = ["", "Dx0", "Dx1", "Dx2", "Dx3", "Dx4", "Dx5", "Dx6"];

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
    column: u32,
    pad: [u32; 2],
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Maps {
    batch: u32,
    pitch: u32,
    quads: u32,
    maxima: u32,
    times: u32,
    timestep_at: u32,
    timestep: f32,
    last: u32,
    maps: [[u32; 4]; MAPS],
}

impl FeatureMap {
    fn quads(&self) -> usize {
        pitch(self.channels) / 4
    }
}

/// The timesteps of the features' last column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Timestep {
    /// Those of a tensor \[N\].
    Given(Slice),
    /// The same of all samples.
    Constant(f32),
}

/// The table of a launch on `maps`, each with the number that `first` gives it.
fn table<'a>(
    [batch, columns]: [usize; 2],
    maps: impl Iterator<Item = &'a FeatureMap>,
    mut first: impl FnMut(&FeatureMap) -> usize,
) -> Maps {
    let mut table = Maps {
        batch: batch as u32,
        pitch: pitch(columns) as u32,
        quads: 0,
        maxima: 0,
        times: 0,
        timestep_at: 0,
        timestep: 0.0,
        last: columns as u32 - 1,
        maps: [[0, 0, 0, u32::MAX]; MAPS],
    };
    for (number, (row, map)) in table.maps.iter_mut().zip(maps).enumerate() {
        *row = [map.pixels, map.channels, map.offset, first(map)].map(|value| value as u32);
        table.maxima |= u32::from(map.maximum) << number;
        table.quads += map.quads() as u32;
    }
    table
}

/// Writes the columns of all maps of the features \[N, columns\], and the timesteps into the last one with zeros behind it. As few
/// launches as their bindings allow.
pub fn pool(
    [batch, columns]: [usize; 2],
    maps: &[(FeatureMap, Slice)],
    t: Timestep,
    features: Slice,
) -> Vec<Launch> {
    let given = match t {
        Timestep::Given(slice) => Some(slice),
        Timestep::Constant(_) => None,
    };
    let bindings = maps.len() + usize::from(given.is_some());
    let count = bindings.div_ceil(MAPS).max(1);
    let each = bindings.div_ceil(count).max(1);
    let part = |number: usize| {
        let own = maps.iter().skip(number * each).take(each);
        let mut place = 0;
        let next = |map: &FeatureMap| {
            place += map.quads();
            place - map.quads()
        };
        let mut table = table([batch, columns], own.clone().map(|(map, _)| map), next);
        let mut reads: Vec<Slice> = own.map(|(_, x)| *x).collect();
        let mut workgroups = batch * table.quads as usize;
        if number + 1 == count {
            workgroups += batch.div_ceil(LANES[0].1 as usize);
            table.timestep_at = reads.len() as u32;
            reads.extend(given);
            (table.times, table.timestep) = match t {
                Timestep::Given(_) => (2, 0.0),
                Timestep::Constant(t) => (1, t),
            };
        }
        if let Some(any) = reads.first().copied() {
            reads.resize(MAPS, any);
        }
        Launch {
            kernel: kernel("pool", &LANES),
            reads,
            writes: vec![features],
            uniform: bytemuck::bytes_of(&table).to_vec(),
            workgroups: spread(workgroups as u64),
            multiply_adds: 0,
            spare: 0,
        }
        .stored(&NAMES)
    };
    (0..count).map(part).collect()
}

/// Bytes that [`mean_grad`] of so many maps needs beside them.
pub fn mean_grad_scratch(maps: usize) -> u64 {
    (maps.next_multiple_of(MAPS) - maps) as u64 * PLACE
}

/// The gradients \[N, pixels, channels\] of maps that are pooled by their mean, of the features' gradient. The scratch is of
/// [`mean_grad_scratch`] bytes.
pub fn mean_grad(maps: &[(FeatureMap, Slice)], dfeatures: Slice, scratch: Slice) -> Vec<Launch> {
    let part = |own: &[(FeatureMap, Slice)]| {
        let (batch, columns) = own.first().map_or((0, 1), |(map, _)| (map.batch, map.columns));
        let mut group = 0;
        let next = |map: &FeatureMap| {
            let count = (batch * map.pixels.div_ceil(BLOCK) * map.quads()).div_ceil(WG[0].1 as usize);
            group += count;
            group - count
        };
        let table = table([batch, columns], own.iter().map(|(map, _)| map), next);
        let mut writes: Vec<Slice> = own.iter().map(|(_, dx)| *dx).collect();
        let place = |number| Slice { offset: scratch.offset + number * PLACE, bytes: 16, ..scratch };
        writes.extend((0..(MAPS - own.len()) as u64).map(place));
        Launch {
            kernel: kernel("mean_grad", &WG),
            reads: vec![dfeatures],
            writes,
            uniform: bytemuck::bytes_of(&table).to_vec(),
            workgroups: spread(group as u64),
            multiply_adds: 0,
            spare: 0,
        }
        .stored(&GRADIENT_NAMES)
    };
    maps.chunks(MAPS).map(part).collect()
}

/// The gradient \[N, pixels, channels\] of a map that is pooled by its maximum, of the features' gradient.
pub fn max_grad(map: &FeatureMap, x: Slice, features: Slice, dfeatures: Slice, dx: Slice) -> Vec<Launch> {
    let size = Size {
        batch: map.batch as u32,
        pixels: map.pixels as u32,
        channels: map.channels as u32,
        quads: map.quads() as u32,
        pitch: pitch(map.columns) as u32,
        column: map.offset as u32,
        pad: [0; 2],
    };
    let count = map.batch * map.pixels * map.quads();
    let reads = vec![x, features, dfeatures];
    let made = invocations(kernel("max_grad", &WG), reads, vec![dx], bytemuck::bytes_of(&size), count);
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

/// Of feature maps…, t where it is no constant: the classifier's input. Of each map pixels and channels.
#[derive(Debug)]
struct Features {
    batch: usize,
    maps: Vec<[usize; 2]>,
    pooling: Pooling,
    t: Option<f32>,
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
        let inputs = context.inputs.iter().enumerate();
        let maps: Vec<(FeatureMap, Slice)> =
            inputs.filter_map(|(position, x)| Some((self.map(position)?, *x))).collect();
        let t = match self.t {
            Some(t) => Timestep::Constant(t),
            None => Timestep::Given(context.inputs[maps.len()]),
        };
        pool([self.batch, self.columns()], &maps, t, context.output)
    }

    fn vjp(&self, graph: &mut Graph, at: &Upstream) -> Result<Option<NodeId>> {
        let Some(map) = self.map(at.position) else { return Ok(None) };
        if map.maximum {
            let inputs = vec![at.target(), at.node, at.dy];
            return Ok(Some(graph.push_like(at.target(), MaxGrad(map), inputs)));
        }
        // One operation makes the gradients of all the maps that want one.
        let wanted = |position: &usize| at.wanted.get(*position) == Some(&true);
        let averaged = |position: usize| {
            let map = self.map(position).filter(|map| !map.maximum)?;
            Some((map, position))
        };
        let (maps, positions): (Vec<FeatureMap>, Vec<usize>) =
            (0..at.inputs.len()).filter(wanted).filter_map(averaged).unzip();
        let op = MeanGrad(maps);
        let known = graph.find(&op, &[at.dy]);
        let node = known.unwrap_or_else(|| {
            let shape = |position: &usize| graph.shape(at.inputs[*position]).to_vec();
            let shapes: Vec<Vec<usize>> = positions.iter().map(shape).collect();
            let gradients = shapes.iter().map(|shape| graph.reserve(shape)).collect();
            graph.push_updating(op, vec![at.dy], gradients, Vec::new())
        });
        let number = positions.iter().position(|position| *position == at.position);
        Ok(number.and_then(|number| graph.node(node).updates.get(number).copied()))
    }

    fn reads_half(&self, position: usize) -> bool {
        self.map(position).is_some()
    }
}

/// Of dfeatures; updates the gradients of maps that are pooled by their mean.
#[derive(Debug, PartialEq)]
struct MeanGrad(Vec<FeatureMap>);

impl Operation for MeanGrad {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let scratch = context.scratch(mean_grad_scratch(self.0.len()));
        let maps: Vec<(FeatureMap, Slice)> =
            self.0.iter().copied().zip(context.updates.iter().copied()).collect();
        mean_grad(&maps, context.inputs[0], scratch)
    }

    fn updates_half(&self) -> bool {
        true
    }
}

/// Of map, features, dfeatures.
#[derive(Debug)]
struct MaxGrad(FeatureMap);

impl Operation for MaxGrad {
    fn lower(&self, context: &mut Context<'_>) -> Vec<Launch> {
        let [x, features, dfeatures] = context.first();
        max_grad(&self.0, x, features, dfeatures, context.output)
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
        // A timestep that all images share needs no binding.
        let constant = match self.operation(t) {
            Some(&Fill { value, .. }) if !maps.is_empty() => Some(value),
            _ => None,
        };
        let op = Features { batch, maps: sizes, pooling, t: constant };
        let shape = vec![batch, op.columns()];
        let t = Some(t).filter(|_| constant.is_none());
        Ok(self.push(op, maps.iter().copied().chain(t).collect(), shape))
    }
}
