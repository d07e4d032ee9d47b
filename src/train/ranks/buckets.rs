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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::DiffusionConfig;
    use crate::families::Choices;
    use crate::gpu::Traits;
    use crate::model::{JointModel, ModelConfig};
    use crate::train::options::TrainOptions;
    use crate::train::step::{TrainSpec, backward_plan};

    /// In the direct families of kernels, as on a CPU.
    fn plan() -> (Plan, JointModel) {
        let model = JointModel::new(&ModelConfig { num_channels: 32, ..ModelConfig::default() }).unwrap();
        let options = TrainOptions { batch_size: 8, ..TrainOptions::default() };
        let made = backward_plan(&model, &DiffusionConfig::default(), &TrainSpec::of(&options)).unwrap();
        (made, model)
    }

    #[test]
    fn each_gradient_is_in_one_bucket_and_the_first_is_full_long_before_the_end() {
        let (plan, model) = plan();
        let (layout, launches) = (&model.params, plan.program().launches.len());
        let sizes = Buckets { first: 256 << 10, others: 1 << 20 };
        let list = buckets(&plan, layout, sizes);
        let mut covered = 0;
        for spec in layout.specs().iter().filter(|spec| spec.trainable()) {
            let holds = |range: &&ParamRange| {
                let within =
                    range.offset <= spec.offset && spec.offset + spec.bytes() <= range.offset + range.bytes;
                range.chunk == spec.chunk && within
            };
            let count = list.iter().flat_map(|bucket| &bucket.ranges).filter(holds).count();
            assert_eq!(count, 1, "{}", spec.name);
            covered += spec.bytes();
        }
        let bytes: u64 = list.iter().map(Bucket::bytes).sum();
        assert!((covered..covered * 101 / 100).contains(&bytes), "{bytes} of {covered}");
        let places: Vec<usize> = list.iter().map(|bucket| bucket.after).collect();
        println!("{bytes} bytes in {} buckets, full after {places:?} of {launches} launches", list.len());
        assert!(places.is_sorted() && places.last().is_some_and(|last| *last <= launches));
        // The forward pass is a third of it.
        assert!(list[0].bytes() <= sizes.first && places[0] < launches * 6 / 10, "{places:?}");
        let early: u64 = list.iter().filter(|one| one.after < launches * 9 / 10).map(Bucket::bytes).sum();
        assert!(early > bytes / 2, "{early} of {bytes} before the end");
    }

    #[test]
    fn gradients_of_a_small_network_leave_a_gpu_before_the_end() {
        let config = ModelConfig {
            num_channels: 32,
            num_res_blocks: 1,
            channel_mult: vec![1, 2, 2],
            attention_resolutions: vec![],
            ..ModelConfig::default()
        };
        let model = JointModel::new(&config).unwrap();
        let traits =
            Traits { software: false, invocations: 256, workgroup_bytes: 16384, lanes: 32, matrices: false };
        let gpu = Choices::of("a GPU without a table", traits, &[]);
        let early = |micro_batches| {
            let options =
                TrainOptions { batch_size: 8 * micro_batches, micro_batches, ..TrainOptions::default() };
            let plan = backward_plan(&model, &DiffusionConfig::default(), &TrainSpec::of(&options)).unwrap();
            let plan = plan.chosen(&gpu).unwrap();
            let launches = plan.program().launches.len();
            let bytes = model.params.bytes();
            let list = buckets(&plan, &model.params, Buckets::of(bytes, 2));
            let early =
                list.iter().filter(|one| one.after < launches * 8 / 10).map(Bucket::bytes).sum::<u64>();
            println!(
                "{early} of {bytes} bytes before the last fifth of {launches} launches, {} buckets",
                list.len()
            );
            (early as f64 / bytes as f64, launches)
        };
        let (alone, ranks) = (early(1), early(2));
        // One process waits for full arenas: fewer launches.
        assert!(alone.0 == 0.0 && ranks.0 > 0.4, "{alone:?} {ranks:?}");
        assert!(ranks.1 < alone.1 + 40, "{ranks:?} {alone:?}");
    }

    #[test]
    fn a_classifier_that_sees_both_kinds_of_images_moves_its_statistics_twice() {
        let model = JointModel::new(&ModelConfig { num_channels: 32, ..ModelConfig::default() }).unwrap();
        let classifier_input = crate::train::ClassifierInput::Both;
        let options = TrainOptions { batch_size: 8, classifier_input, ..TrainOptions::default() };
        let plan = backward_plan(&model, &DiffusionConfig::default(), &TrainSpec::of(&options)).unwrap();
        let list = moments(&plan);
        assert!(list.iter().all(|one| one.learn.as_deref() == Some("label_weight")), "{list:?}");
        assert!(list.is_sorted_by_key(|one| one.after) && !list.is_empty());
        for one in &list {
            let uses = list.iter().filter(|other| (other.offset, other.bytes) == (one.offset, one.bytes));
            assert_eq!(uses.count(), 2, "{list:?}");
        }
    }
}
