//! Devices whose largest binding is smaller than a batch: the batch is computed in parts, with the same results.

use super::harness::{as_trained_on_noise, device, tiny_config, values};
use duet::Error;
use duet::diffusion::DiffusionConfig;
use duet::explain::{ExplainOptions, Explainer, Request};
use duet::gpu::{Device, DeviceOptions};
use duet::infer::{DenoisingError, ImageClassifier, ImageFeatures, NoisePredictor};
use duet::model::{JointModel, Labels, WeightSet};
use duet::rng::Seed;
use duet::sampling::{ChainOptions, Sampler, StepSpec, Watch};
use duet::train::{ClassifierInput, TrainOptions, Trainer};
use duet::weights::Weights;
use pollster::block_on;
use std::sync::Arc;

/// Images of a batch that a small device cannot hold.
const BATCH: usize = 96;

fn open(max_binding: u64) -> duet::Result<Device> {
    block_on(Device::open(&DeviceOptions { max_binding, ..DeviceOptions::default() }))
}

/// The tiny model on a device that may bind as much, and on one that may bind its weights but not a batch.
fn two() -> [Weights; 2] {
    let model = Arc::new(JointModel::new(&tiny_config()).unwrap());
    let mut weights = model.params.initial(Seed(5));
    as_trained_on_noise(&mut weights);
    let largest = model.params.chunk_bytes().iter().max().unwrap();
    let small = open(largest + 1024).unwrap();
    assert_eq!(small.max_binding(), largest + 1024);
    [device().clone(), small]
        .map(|on| block_on(Weights::upload(&on, Arc::clone(&model), &weights, None)).unwrap())
}

#[test]
fn a_device_offers_what_its_adapter_has() {
    let most = device().max_binding();
    assert!(most >= 128 << 20, "{most}");
    match open(u64::MAX) {
        Err(Error::LimitTooSmall { need, have, .. }) => assert_eq!((need, have), (u64::MAX, most)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_batch_too_large_to_bind_is_computed_in_parts_to_the_same_bits() {
    let [large, small] = two();
    let set = WeightSet::Raw;
    let images = values(1, BATCH * 64);
    let diffusion = DiffusionConfig { diffusion_steps: 20, ..DiffusionConfig::default() };
    let both = |what: &str, of: &dyn Fn(&Weights) -> Vec<f32>| {
        let [whole, parts] = [&large, &small].map(of);
        assert!(!whole.is_empty() && whole == parts, "{what} differs");
    };
    both("logits", &|weights| {
        block_on(block_on(ImageClassifier::new(weights, BATCH, set)).unwrap().logits(&images)).unwrap()
    });
    both("features", &|weights| {
        block_on(block_on(ImageFeatures::new(weights, BATCH, set)).unwrap().get(&images)).unwrap()
    });
    let timesteps: Vec<usize> = (0..BATCH).map(|i| i % 20).collect();
    both("noise", &|weights| {
        let predictor = block_on(NoisePredictor::new(weights, &diffusion, BATCH, set)).unwrap();
        block_on(predictor.predict(&images, &timesteps)).unwrap()
    });
    both("noise error", &|weights| {
        let error = block_on(DenoisingError::new(weights, &diffusion, BATCH, set)).unwrap();
        block_on(error.measure(&images, &timesteps, Seed(3), 7)).unwrap()
    });
    both("samples", &|weights| {
        let spec = StepSpec { clip: true, ..StepSpec::new(BATCH) };
        let sampler = block_on(Sampler::fitting(weights, &diffusion, "4", spec, set)).unwrap();
        assert_eq!(sampler.batch() == BATCH, weights.device().max_binding() > 1 << 20);
        let mut made = Vec::new();
        while made.len() < BATCH * 64 {
            let first_row = (made.len() / 64) as u32;
            let labels = Labels::Classes(Vec::new());
            let chain = ChainOptions { seed: Seed(3), first_row, labels, alpha: 0.0 };
            sampler.start_from_noise(chain.seed, first_row).unwrap();
            block_on(sampler.run(4, &chain, Watch::None)).unwrap();
            made.extend(block_on(sampler.get_images()).unwrap());
        }
        made.truncate(BATCH * 64);
        made
    });
    both("counterfactuals", &|weights| {
        let mut made = Vec::new();
        for options in [ExplainOptions::paper(), ExplainOptions::default()] {
            let options = ExplainOptions { respacing: "10".into(), noise: 0.3, ..options };
            let new = Explainer::fitting(weights, &diffusion, BATCH, &options, set);
            let mut explainer = block_on(new).unwrap();
            let request = |image| Request { image, target: 1.into(), seed: Seed(0) };
            let requests: Vec<Request> = (0..BATCH).map(request).collect();
            let answers =
                block_on(explainer.explain(&images[..BATCH * 64], &requests, 0, Watch::None)).unwrap();
            made.extend(answers.into_iter().flat_map(|one| one.counterfactual));
        }
        made
    });
}

#[test]
fn what_cannot_be_split_says_what_it_needs() {
    let [_, small] = two();
    let have = small.device().max_binding();
    let spec = StepSpec::new(BATCH);
    let diffusion = DiffusionConfig::default();
    match block_on(Sampler::new(&small, &diffusion, "4", spec, WeightSet::Raw)).map(|_| ()) {
        Err(Error::LimitTooSmall { need, have: found, .. }) => assert!(found == have && need > have),
        other => panic!("{other:?}"),
    }
    // A training step that does not fit does in micro-batches.
    let device = open(600 << 10).unwrap();
    let model = Arc::new(JointModel::new(&tiny_config()).unwrap());
    let new = |micro_batches| {
        let options = TrainOptions {
            batch_size: 512,
            micro_batches,
            classifier_input: ClassifierInput::Both,
            ..TrainOptions::default()
        };
        block_on(Trainer::new(&device, Arc::clone(&model), &diffusion, &options)).map(|_| ())
    };
    let error = new(1).unwrap_err();
    let fits = error.smaller_batch(512).unwrap();
    assert!(matches!(error, Error::LimitTooSmall { .. }) && (2..512).contains(&fits), "{error} {fits}");
    new(16).unwrap();
}
