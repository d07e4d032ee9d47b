//! Times of single launches: one for each, and the run they belong to computes as always.

use crate::harness::{device, tiny_config};
use duet::gpu::{BufferId, BufferSpec, Program, Slice};
use duet::infer::classify_plan;
use duet::model::{JointModel, WeightSet};
use duet::ops::linear_group::{self, LinearGroup};
use duet::ops::pointwise;
use duet::rng::Seed;
use duet::weights::Weights;
use std::sync::Arc;

#[test]
fn a_profile_has_one_duration_for_each_launch() {
    let model = Arc::new(JointModel::new(&tiny_config()).unwrap());
    let tensors = model.params.initial(Seed(1));
    let upload = Weights::upload(device(), Arc::clone(&model), &tensors, None);
    let weights = pollster::block_on(upload).unwrap();
    let plan = classify_plan(&model, 2, WeightSet::Raw).unwrap();
    let loaded = pollster::block_on(weights.load(&plan)).unwrap();
    let logits = || pollster::block_on(loaded.read("logits")).unwrap();
    let profile = pollster::block_on(loaded.executable().profile());
    if !device().can_profile() {
        let error = profile.unwrap_err().to_string();
        assert!(error.contains("timestamp"), "{error}");
        return;
    }
    let times = profile.unwrap();
    let launches = &plan.program().launches;
    assert_eq!((times.len(), plan.shapes().len()), (launches.len(), launches.len()));
    assert!(times.iter().sum::<u64>() > 0);
    let profiled = logits();
    assert!(profiled.iter().any(|v| *v != 0.0), "a profiled run computes");
    loaded.run();
    assert_eq!(logits(), profiled);
}

#[test]
fn more_launches_than_one_query_set_holds_are_profiled_in_parts() {
    if !device().can_profile() {
        println!("skipped: this device has no timestamps");
        return;
    }
    let slice = |buffer| Slice { buffer: BufferId(buffer), offset: 0, bytes: 64, half: false };
    let launch = pointwise::scale(2.0, 4, slice(0), slice(1));
    assert_eq!(launch[0].bytes(), 128, "the range bound twice counts once");
    let count = 2500;
    let program = Program {
        buffers: vec![BufferSpec::Slot { bytes: 64 }, BufferSpec::Slot { bytes: 64 }],
        launches: launch.into_iter().cycle().take(count).collect(),
    };
    assert_eq!(program.bytes_moved(), 128 * count as u64);
    let executable = pollster::block_on(device().load(&program, |_| None)).unwrap();
    let times = pollster::block_on(executable.profile()).unwrap();
    assert_eq!(times.len(), count);
    assert!(times.iter().sum::<u64>() > 0);
}

#[test]
fn a_launch_whose_bindings_span_tensors_moves_those_that_it_reads() {
    let slice = |buffer, offset, bytes| Slice { buffer: BufferId(buffer), offset, bytes, half: false };
    // Two layers of 4 to 4 features among other parameters: weights of 64 bytes, biases of 16, a kilobyte apart.
    let size = LinearGroup { rows: 2, in_features: 4, out_features: vec![4, 4], silu: false };
    let layers = [0, 2048].map(|from| [slice(1, from, 64), slice(1, from + 1024, 16)]);
    let y = slice(2, 0, *size.offsets().last().unwrap());
    let launches = linear_group::forward(&size, slice(0, 0, 32), &layers, y);
    assert_eq!(launches.len(), 1);
    assert!(
        launches[0].reads.contains(&slice(1, 0, 2048 + 64)),
        "one range holds both weights: {launches:?}"
    );
    assert_eq!(launches[0].bytes(), 32 + 2 * (64 + 16) + y.bytes);
}
