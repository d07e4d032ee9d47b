//! Devices that have little, that fail, and that go away: the result is right, or an error says what is wrong, and nothing is lost.

use super::harness::{as_trained_on_noise, device, tiny_config, values};
use duet::autodiff::Precision;
use duet::diffusion::DiffusionConfig;
use duet::explain::{ExplainOptions, Explainer, Request};
use duet::families::{Choices, Family, Key, KeyKind};
use duet::gpu::{Device, DeviceOptions, Traits};
use duet::infer::{ImageClassifier, classify_plan};
use duet::model::{JointModel, Labels, WeightSet};
use duet::rng::Seed;
use duet::sampling::{ChainOptions, Guidance, Sampler, StepSpec, Watch};
use duet::train::{Batch, ClassifierInput, TrainOptions, Trainer};
use duet::weights::Weights;
use duet::{Error, Result};
use pollster::block_on;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Images of a batch, and pixels of one.
const BATCH: usize = 3;
const PIXELS: usize = 64;

/// Something that people do with a device; its numbers.
type Work = fn(&Device) -> Result<Vec<f32>>;

fn model() -> Arc<JointModel> {
    Arc::new(JointModel::new(&tiny_config()).unwrap())
}

fn diffusion() -> DiffusionConfig {
    DiffusionConfig { diffusion_steps: 20, ..DiffusionConfig::default() }
}

fn weights(device: &Device) -> Result<Weights> {
    let model = model();
    let mut tensors = model.params.initial(Seed(5));
    as_trained_on_noise(&mut tensors);
    block_on(Weights::upload(device, model, &tensors, None))
}

fn classified(device: &Device) -> Result<Vec<f32>> {
    let weights = weights(device)?;
    let classifier = block_on(ImageClassifier::new(&weights, BATCH, WeightSet::Raw))?;
    block_on(classifier.logits(&values(1, BATCH * PIXELS)))
}

fn chain() -> ChainOptions {
    ChainOptions { seed: Seed(3), first_row: 0, labels: Labels::Classes(vec![0, 1, 2]), alpha: 2.0 }
}

fn sampler(weights: &Weights) -> Result<Sampler> {
    let spec = StepSpec { guidance: Guidance::Representation, ..StepSpec::new(BATCH) };
    block_on(Sampler::new(weights, &diffusion(), "4", spec, WeightSet::Raw))
}

fn sampled(device: &Device) -> Result<Vec<f32>> {
    let sampler = sampler(&weights(device)?)?;
    sampler.start_from_noise(chain().seed, 0)?;
    block_on(sampler.run(4, &chain(), Watch::None))?;
    block_on(sampler.get_images())
}

fn explained(device: &Device) -> Result<Vec<f32>> {
    let options = ExplainOptions { respacing: "4".into(), ..ExplainOptions::default() };
    let weights = weights(device)?;
    let mut explainer = block_on(Explainer::new(&weights, &diffusion(), BATCH, &options, WeightSet::Raw))?;
    let request = |image| Request { image, target: 1.into(), seed: Seed(0) };
    let requests: Vec<Request> = (0..BATCH).map(request).collect();
    let answers = block_on(explainer.explain(&values(1, BATCH * PIXELS), &requests, 0, Watch::None))?;
    Ok(answers.into_iter().flat_map(|answer| answer.counterfactual).collect())
}

fn options() -> TrainOptions {
    TrainOptions {
        batch_size: BATCH,
        classifier_input: ClassifierInput::Both,
        clip_grad_norm: Some(1.0),
        ..TrainOptions::default()
    }
}

fn batch(number: u64) -> Batch {
    Batch { images: values(number, BATCH * PIXELS), labels: Labels::Classes(vec![0, 1, 2]) }
}

fn state(trainer: &Trainer) -> Result<Vec<f32>> {
    Ok(block_on(trainer.checkpoint())?.weights.into_values().flat_map(|tensor| tensor.data).collect())
}

fn trained(device: &Device) -> Result<Vec<f32>> {
    let mut trainer = block_on(Trainer::new(device, model(), &diffusion(), &options()))?;
    for step in 0..2 {
        trainer.train_step(&batch(step), 1e-3)?;
    }
    state(&trainer)
}

const WORK: [(&str, Work); 4] =
    [("classify", classified), ("sample", sampled), ("explain", explained), ("train", trained)];

fn open(options: &DeviceOptions) -> Device {
    let adapter = std::env::var("DUET_ADAPTER").ok();
    block_on(Device::open(&DeviceOptions { adapter, ..options.clone() })).unwrap()
}

/// A device as WebGPU promises it to everybody, and no more: 65,535 workgroups, bindings of 128 MiB, no optional feature.
fn bare() -> Device {
    let instance = duet::wgpu::Instance::new(duet::wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = block_on(instance.enumerate_adapters(duet::wgpu::Backends::PRIMARY));
    let adapter = adapters.into_iter().find(|one| one.get_info().name == device().info().name).unwrap();
    let (bare, queue) = block_on(adapter.request_device(&duet::wgpu::DeviceDescriptor::default())).unwrap();
    Device::adopt(bare, queue)
}

#[test]
fn a_device_with_nothing_optional_computes_the_same() {
    let bare = bare();
    assert!(!bare.has_f16() && !bare.can_profile() && bare.max_binding() == 128 << 20);
    assert_eq!(bare.traits().lanes, 0, "no subgroups");
    for (what, work) in WORK {
        let (got, want) = (work(&bare).unwrap(), work(device()).unwrap());
        let largest = want.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let off = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{what}: {off:e} of {largest:e}");
        // AdamW's first steps divide what rounding left of a gradient by itself.
        let bound = if what == "train" { 5e-3 } else { 1e-4 };
        assert!(got.len() == want.len() && off <= bound * largest, "{what} is off by {off:e}");
    }
    let weights = weights(&bare).unwrap();
    let plan = classify_plan(weights.model(), 1, WeightSet::Raw).unwrap();
    let loaded = block_on(weights.load(&plan)).unwrap();
    let error = block_on(loaded.executable().profile()).unwrap_err().to_string();
    assert!(error.contains("timestamp queries"), "{error}");
    let f16 = TrainOptions { precision: Precision::F16, ..options() };
    let error = block_on(Trainer::new(&bare, model(), &diffusion(), &f16)).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("shader-f16"), "{error}");
}

#[test]
fn kernels_for_subgroups_of_eight_run_there_alone() {
    let key = Key { operation: KeyKind::MatmulForward, shape: vec![512, 64, 64] };
    for software in [false, true] {
        for lanes in [0, 4, 8, 16, 32, 64, 128] {
            let traits =
                Traits { software, invocations: 256, workgroup_bytes: 16384, lanes, matrices: false };
            let family = Choices::of("an adapter without a table", traits, &[]).family(&key);
            let want = match (software, lanes) {
                (false, _) => Family::Tiled,
                (true, 8) => Family::Subgroup,
                (true, _) => Family::Direct,
            };
            assert_eq!(family, want, "software {software}, {lanes} lanes");
        }
    }
    // A GPU whose workgroups are too small for tiles.
    let small =
        Traits { software: false, invocations: 32, workgroup_bytes: 16384, lanes: 32, matrices: false };
    assert_eq!(Choices::of("small", small, &[]).family(&key), Family::Direct);
}

#[test]
fn submissions_of_a_dispatch_each_give_the_same_bits() {
    let parts = open(&DeviceOptions { dispatches_per_submit: 1, ..DeviceOptions::default() });
    for (what, work) in WORK {
        assert!(work(&parts).unwrap() == work(device()).unwrap(), "{what}");
    }
}

#[test]
fn submissions_that_would_take_too_long_are_cut() {
    // Whatever a dispatch takes here, a microsecond is over after it.
    let slow = open(&DeviceOptions { seconds_per_submit: 1e-6, ..DeviceOptions::default() });
    let quick = open(&DeviceOptions::default());
    for (what, work) in WORK {
        let want = work(&quick).unwrap();
        // The first time nothing is known of the device.
        assert!(work(&slow).unwrap() == want, "{what}");
        let before = slow.counters().submits;
        assert!(work(&slow).unwrap() == want, "{what}");
        let cut = slow.counters().submits - before;
        let before = quick.counters().submits;
        work(&quick).unwrap();
        let whole = quick.counters().submits - before;
        assert!(cut > 2 * whole, "{what}: {cut} submissions, {whole} where they may take long");
    }
}

/// Every allocation that needs more than all before it fails once: each time what is asked for is refused by name, all memory is
/// free again, and with as much as was asked for the work goes on to the next.
#[test]
fn memory_runs_out_at_each_allocation() {
    let device = open(&DeviceOptions::default());
    for (what, work) in WORK {
        device.bound_memory(u64::MAX);
        let want = work(&device).unwrap();
        assert_eq!(device.counters().live_bytes, 0, "{what}: memory is left behind");
        let (mut bound, mut refused) = (0, 0);
        let got = loop {
            device.bound_memory(bound);
            match work(&device) {
                Ok(got) => break got,
                Err(Error::OutOfMemory { need }) => {
                    assert!(need > bound, "{what}: {need} bytes are refused where {bound} may be used");
                    (bound, refused) = (need, refused + 1);
                }
                Err(other) => panic!("{what} with {bound} bytes: {other}"),
            }
            assert_eq!(device.counters().live_bytes, 0, "{what}: memory is left behind");
        };
        assert!(got == want && refused > 5, "{what}: {refused} refusals");
    }
}

fn is_lost<T>(what: &str, result: Result<T>) {
    match result {
        Err(Error::DeviceLost { .. }) => {}
        Err(other) => panic!("{what}: {other}"),
        Ok(_) => panic!("{what} went well on a device that is lost"),
    }
}

#[test]
fn a_lost_device_is_said_whatever_is_under_way() {
    for (what, work) in WORK {
        let device = open(&DeviceOptions::default());
        device.destroy();
        is_lost(what, work(&device));
        is_lost(what, work(&device));
    }
    // Between loading and use.
    let device = open(&DeviceOptions::default());
    let on = weights(&device).unwrap();
    let classifier = block_on(ImageClassifier::new(&on, BATCH, WeightSet::Raw)).unwrap();
    let sampler = sampler(&on).unwrap();
    device.destroy();
    is_lost("logits", block_on(classifier.logits(&values(1, BATCH * PIXELS))));
    is_lost("images", block_on(sampler.get_images()));
}

#[test]
fn a_device_lost_within_a_chain_ends_it() {
    for lost_after in 1..4 {
        let device = open(&DeviceOptions::default());
        let sampler = sampler(&weights(&device).unwrap()).unwrap();
        sampler.start_from_noise(chain().seed, 0).unwrap();
        let mut hear = |progress: duet::sampling::Progress| {
            if progress.done == lost_after {
                device.destroy();
            }
            ControlFlow::Continue(())
        };
        let run = block_on(sampler.run(4, &chain(), Watch::Progress(&mut hear)));
        is_lost("a chain", run.and_then(|()| block_on(sampler.get_images())));
    }
}

#[test]
fn a_run_goes_on_from_its_checkpoint_where_a_device_is_lost() {
    let want = {
        let mut trainer = block_on(Trainer::new(device(), model(), &diffusion(), &options())).unwrap();
        (0..4).for_each(|step| trainer.train_step(&batch(step), 1e-3).unwrap());
        state(&trainer).unwrap()
    };
    let lost = open(&DeviceOptions::default());
    let mut trainer = block_on(Trainer::new(&lost, model(), &diffusion(), &options())).unwrap();
    (0..2).for_each(|step| trainer.train_step(&batch(step), 1e-3).unwrap());
    let kept = block_on(trainer.checkpoint()).unwrap();
    trainer.train_step(&batch(2), 1e-3).unwrap();
    lost.destroy();
    // A step may be handed over before anybody knows; whoever reads anything is told.
    let _ = trainer.train_step(&batch(3), 1e-3);
    is_lost("metrics", block_on(trainer.metrics()));
    is_lost("a checkpoint", block_on(trainer.checkpoint()));
    let mut trainer = block_on(Trainer::resume(device(), &kept, &options())).unwrap();
    assert_eq!(trainer.step(), 2);
    (2..4).for_each(|step| trainer.train_step(&batch(step), 1e-3).unwrap());
    assert!(state(&trainer).unwrap() == want, "the bits of a run that nothing stopped");
}
