//! Which gradients are final behind which launch of a backward pass, and which of them are exchanged together.

use super::Buckets;
use crate::gpu::{BufferSpec, Launch, Slice};
use crate::graph::{Plan, sum_results};
use crate::model::{ParamLayout, ParamRange, ParamSet};
use crate::ops::linear_group;

/// Bytes between parameters, which begin at multiples of this: pads, zero in all sets.
const ALIGNMENT: u64 = 256;

/// Gradients that are exchanged together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// Launches after which all of them are final.
    pub after: usize,
    /// Their memory.
    pub ranges: Vec<ParamRange>,
}

impl Bucket {
    /// Bytes of all of it.
    pub(crate) fn bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.bytes).sum()
    }
}

/// A use of a BatchNorm in training, which moves running statistics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moments {
    /// Launches after which they have moved.
    pub after: usize,
    /// Which of the running statistics: first byte and length.
    pub offset: u64,
    /// See `offset`.
    pub bytes: u64,
    /// The buffer that says whether it learns in a step; `None`: it always does.
    pub learn: Option<String>,
}

/// What a launch writes of `buffer`, as narrowly as is known.
fn written(launch: &Launch) -> Vec<Slice> {
    let known = sum_results(launch).or_else(|| linear_group::gradients(launch));
    known.unwrap_or_else(|| launch.writes.clone())
}

/// Names of a plan's buffers.
fn name(plan: &Plan, slice: &Slice) -> Option<String> {
    match plan.program().buffers.get(slice.buffer.0 as usize)? {
        BufferSpec::External { name, .. } => Some(name.clone()),
        BufferSpec::Slot { .. } => None,
    }
}

/// The buckets of a backward pass in the order in which they are full. Parameters that it leaves alone are in none.
pub(crate) fn buckets(plan: &Plan, layout: &ParamLayout, sizes: Buckets) -> Vec<Bucket> {
    let chunks: Vec<String> =
        (0..layout.chunk_bytes().len()).map(|chunk| ParamSet::Gradient.buffer(chunk)).collect();
    let mut writes: Vec<(usize, usize, Slice)> = Vec::new();
    for (number, launch) in plan.program().launches.iter().enumerate() {
        for slice in written(launch) {
            let chunk = name(plan, &slice).and_then(|name| chunks.iter().position(|known| *known == name));
            writes.extend(chunk.map(|chunk| (number, chunk, slice)));
        }
    }
    let trained = layout.specs().iter().filter(|spec| spec.trainable());
    let mut finals: Vec<(usize, ParamRange)> = Vec::new();
    for spec in trained {
        let range = ParamRange { chunk: spec.chunk, offset: spec.offset, bytes: spec.bytes() };
        let meets = |(_, chunk, slice): &&(usize, usize, Slice)| {
            let apart =
                slice.offset + slice.bytes <= range.offset || range.offset + range.bytes <= slice.offset;
            *chunk == range.chunk && !apart
        };
        let last = writes.iter().filter(meets).map(|(number, ..)| number + 1).max();
        finals.extend(last.map(|after| (after, range)));
    }
    // The backward pass makes the last parameters' gradients first.
    finals.reverse();
    finals.sort_by_key(|(after, _)| *after);
    let mut list: Vec<Bucket> = Vec::new();
    for (after, range) in finals {
        let full = if list.len() <= 1 { sizes.first } else { sizes.others };
        match list.last_mut().filter(|last| last.bytes() + range.bytes <= full) {
            Some(last) => {
                last.ranges.push(range);
                last.after = after;
            }
            None => list.push(Bucket { after, ranges: vec![range] }),
        }
    }
    list.iter_mut().for_each(join);
    list
}

/// Makes neighbours one range.
fn join(bucket: &mut Bucket) {
    bucket.ranges.sort_by_key(|range| (range.chunk, range.offset));
    let mut joined: Vec<ParamRange> = Vec::new();
    for range in bucket.ranges.drain(..) {
        let near = |last: &&mut ParamRange| {
            let end = (last.offset + last.bytes).next_multiple_of(ALIGNMENT);
            last.chunk == range.chunk && end == range.offset
        };
        match joined.last_mut().filter(near) {
            Some(last) => last.bytes = range.offset + range.bytes - last.offset,
            None => joined.push(range),
        }
    }
    bucket.ranges = joined;
}

/// The uses of BatchNorms in training, in their order.
pub(crate) fn moments(plan: &Plan) -> Vec<Moments> {
    let mut list = Vec::new();
    for (number, launch) in plan.program().launches.iter().enumerate() {
        for slice in launch.writes.iter().filter(|slice| name(plan, slice).as_deref() == Some("running")) {
            // What it reads third says whether it learns (`ops::batchnorm::train`).
            let learn = launch.reads.get(2).and_then(|slice| name(plan, slice));
            list.push(Moments { after: number + 1, offset: slice.offset, bytes: slice.bytes, learn });
        }
    }
    list
}
