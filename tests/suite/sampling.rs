//! Chains on a device: they allocate and read nothing, stop soon when told to, remember what a multistep solver needs, and
//! give back an image whose noise was kept.

use super::harness::{assert_close, device, outspoken_weights, tiny_config, values, wide};
use duet::diffusion::{DiffusionConfig, Prediction, Solver};
use duet::error::Error;
use duet::explain::{ExplainOptions, Explainer, Explanation, Method, Paper, Request};
use duet::gpu::{Counters, Device, DeviceOptions};
use duet::infer::{DenoisingError, ImageClassifier, NoisePredictor};
use duet::model::{Labels, WeightSet};
use duet::rng::{Seed, Stream, normal_fill};
use duet::sampling::{ChainOptions, Finish, Guidance, Sampler, StepSpec, Watch};
use duet::weights::Weights;
use std::ops::ControlFlow;

const BATCH: usize = 2;
/// Values of one image of the tiny model.
const LEN: usize = 64;

fn weights(device: &Device) -> Weights {
    outspoken_weights(device, &tiny_config())
}

fn sampler(weights: &Weights, respacing: &str, spec: StepSpec) -> Sampler {
    let diffusion = DiffusionConfig::default();
    pollster::block_on(Sampler::new(weights, &diffusion, respacing, spec, WeightSet::Raw)).unwrap()
}

fn chain_options() -> ChainOptions {
    ChainOptions { seed: Seed(5), first_row: 3, labels: Labels::Classes(vec![1, 2]), alpha: 4.0 }
}

fn guided() -> StepSpec {
    StepSpec {
        guidance: Guidance::Representation,
        clip: true,
        solver: Solver::default(),
        ..StepSpec::new(BATCH)
    }
}

/// Buffers made, read-backs and pipelines between two counts.
fn made(before: Counters, after: Counters) -> [u64; 3] {
    [after.buffers - before.buffers, after.readbacks - before.readbacks, after.pipelines - before.pipelines]
}

#[test]
fn a_chain_allocates_and_reads_nothing_and_its_result_is_one_read_back() {
    // A device of its own: what other tests do does not count.
    let device = pollster::block_on(Device::open(&DeviceOptions::default())).unwrap();
    let weights = weights(&device);
    // More steps than one upload of numbers holds.
    let sampler = sampler(&weights, "70", StepSpec { trace: true, ..guided() });
    let classifier = pollster::block_on(ImageClassifier::new(&weights, BATCH, WeightSet::Raw)).unwrap();
    let finish = pollster::block_on(Finish::new(&weights, &sampler, classifier)).unwrap();
    let start = device.counters();
    sampler.start_from_noise(Seed(5), 3).unwrap();
    let mut heard = Vec::new();
    let mut hear = |progress: duet::sampling::Progress| {
        heard.push(progress.done);
        ControlFlow::Continue(())
    };
    pollster::block_on(sampler.run(70, &chain_options(), Watch::Progress(&mut hear))).unwrap();
    assert_eq!(heard, (1..=70).collect::<Vec<_>>());
    let chain = device.counters();
    assert_eq!(made(start, chain), [0, 0, 0], "the chain");
    let finished = pollster::block_on(finish.read()).unwrap();
    let end = device.counters();
    assert_eq!(made(chain, end), [0, 1, 0], "its result");
    // Submissions: the first noise, a step each, the clamp, the classifier, the copies that are read.
    assert_eq!(end.submits - start.submits, 70 + 4);
    let logits = pollster::block_on(finish.classifier().logits(&finished.images)).unwrap();
    assert_eq!(logits, finished.logits, "the classifier says the same of the images by way of the host");
    assert_eq!(pollster::block_on(sampler.trace(70)).unwrap().len(), 70);
    assert!(pollster::block_on(sampler.trace(71)).is_err());
}

#[test]
fn an_explanation_allocates_nothing_and_reads_once() {
    let device = pollster::block_on(Device::open(&DeviceOptions::default())).unwrap();
    let weights = weights(&device);
    let images = values(8, BATCH * LEN);
    for mask in [None, Some(vec![0.5; LEN])] {
        let options = ExplainOptions {
            respacing: "20".into(),
            noise: 0.3,
            method: Method::Paper(Paper { alpha: 5.0, ..Paper::default() }),
            mask,
            ..ExplainOptions::paper()
        };
        let diffusion = DiffusionConfig::default();
        let new = Explainer::new(&weights, &diffusion, BATCH, &options, WeightSet::Raw);
        let mut explainer = pollster::block_on(new).unwrap();
        let requests = [1, 2].map(|class| Request { image: class - 1, target: class.into(), seed: Seed(0) });
        let start = device.counters();
        let quiet = pollster::block_on(explainer.explain(&images, &requests, 0, Watch::None)).unwrap();
        let end = device.counters();
        // The originals' classes, and the results.
        assert_eq!(made(start, end), [0, 2, 0]);
        // Who watches the curve reads each step, through the same memory, and sees what is read at the end.
        let mut seen = Vec::new();
        let mut hear = |_, curve: &[Vec<f32>]| {
            seen = curve.to_vec();
            ControlFlow::Continue(())
        };
        let watch = Watch::Curve(&mut hear);
        let watched = pollster::block_on(explainer.explain(&images, &requests, 0, watch)).unwrap();
        assert_eq!(made(end, device.counters()), [0, 8, 0]);
        assert_eq!(watched, quiet);
        let by_step: Vec<Vec<f32>> =
            (0..6).map(|step| quiet.iter().map(|one| one.curve[step]).collect()).collect();
        assert_eq!(seen, by_step);
        let all =
            |of: fn(&Explanation) -> &Vec<f32>| quiet.iter().flat_map(of).copied().collect::<Vec<f32>>();
        // What the host would have made of the same images.
        let before = pollster::block_on(explainer.probabilities(&images)).unwrap();
        let after = pollster::block_on(explainer.probabilities(&all(|one| &one.counterfactual))).unwrap();
        assert_eq!((before, after), (all(|one| &one.before), all(|one| &one.after)));
        let [kept, spread] = duet::diffusion::Schedule::respaced(&DiffusionConfig::default(), "20")
            .unwrap()
            .q_sample_coefficients(5)
            .unwrap();
        let mut noised = vec![0.0; BATCH * LEN];
        for (row, part) in noised.chunks_mut(LEN).enumerate() {
            normal_fill(Seed(0), Stream::InitialNoise, 0, row as u32, part);
        }
        noised.iter_mut().zip(&images).for_each(|(z, x)| *z = kept * x + spread * *z);
        assert_close("noised", &all(|one| &one.noised), &wide(&noised), 1e-6);
    }
}

#[test]
fn a_listener_stops_a_chain_within_a_few_steps() {
    let device = pollster::block_on(Device::open(&DeviceOptions::default())).unwrap();
    let sampler = sampler(&weights(&device), "100", guided());
    sampler.start_from_noise(Seed(5), 0).unwrap();
    let (start, options) = (device.counters().submits, chain_options());
    let mut stop = |progress: duet::sampling::Progress| match progress.done {
        5 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let run = sampler.run(100, &options, Watch::Progress(&mut stop));
    assert!(matches!(pollster::block_on(run), Err(Error::Aborted)));
    let steps = device.counters().submits - start;
    assert_eq!(steps, 5 + device.runs_ahead() as u64, "a few steps were on their way");
    let run = sampler.run(101, &options, Watch::None);
    assert!(pollster::block_on(run).unwrap_err().to_string().contains("101 of 100"));
}

#[test]
fn a_multistep_chain_equals_its_steps_on_the_host() {
    let weights = weights(device());
    let spec = StepSpec { solver: Solver::dpm_plus_plus(), ..StepSpec::new(BATCH) };
    let sampler = sampler(&weights, "10", spec);
    let diffusion = DiffusionConfig::default();
    let new = NoisePredictor::new(&weights, &diffusion, BATCH, WeightSet::Raw);
    let predictor = pollster::block_on(new).unwrap();
    let mut x = values(3, BATCH * LEN);
    // Twice: what the first chain left in memory means nothing to the second one.
    for _ in 0..2 {
        x = values(3, BATCH * LEN);
        sampler.set_images(&x).unwrap();
        pollster::block_on(sampler.run(10, &chain_options(), Watch::None)).unwrap();
        let mut memory = vec![f32::NAN; x.len()];
        for index in (0..10).rev() {
            let c = sampler.coefficients(index, (index < 9).then_some(index + 1), 0.0).unwrap();
            let step = sampler.schedule().timestep_map[index];
            let out = pollster::block_on(predictor.predict(&x, &[step; BATCH])).unwrap();
            let x_start: Vec<f32> =
                x.iter().zip(&out).map(|(x, out)| c.from_x as f32 * x + c.from_out as f32 * out).collect();
            for (i, value) in x.iter_mut().enumerate() {
                *value = c.x as f32 * *value + c.x_start as f32 * x_start[i];
                if c.previous != 0.0 {
                    *value += c.previous as f32 * memory[i];
                }
            }
            memory = x_start;
        }
        let got = pollster::block_on(sampler.get_images()).unwrap();
        assert_close("the chain", &got, &wide(&x), 1e-4);
    }
    assert!(x.iter().all(|v| v.is_finite()));
}

#[test]
fn a_network_of_v_is_measured_and_asked_for_noise() {
    let weights = weights(device());
    let (images, steps) = (values(8, BATCH * LEN), [30, 700]);
    let diffusion = DiffusionConfig { prediction: Prediction::V, ..DiffusionConfig::default() };
    let new = DenoisingError::new(&weights, &diffusion, BATCH, WeightSet::Raw);
    let measured =
        pollster::block_on(pollster::block_on(new).unwrap().measure(&images, &steps, Seed(4), 7)).unwrap();
    let predictor = |diffusion: &DiffusionConfig| {
        pollster::block_on(NoisePredictor::new(&weights, diffusion, BATCH, WeightSet::Raw)).unwrap()
    };
    let schedule = duet::diffusion::Schedule::new(&diffusion).unwrap();
    let mut eps = vec![0.0; images.len()];
    for (row, part) in eps.chunks_mut(LEN).enumerate() {
        normal_fill(Seed(4), Stream::TrainNoise, 0, 7 + row as u32, part);
    }
    let levels = |i: usize| schedule.q_sample_coefficients(steps[i / LEN]).unwrap();
    let mix =
        |f: &dyn Fn(usize, [f32; 2]) -> f32| (0..images.len()).map(|i| f(i, levels(i))).collect::<Vec<f32>>();
    let x_t = mix(&|i, [kept, noised]| kept * images[i] + noised * eps[i]);
    // What the network puts out, as if it were noise.
    let out = pollster::block_on(predictor(&DiffusionConfig::default()).predict(&x_t, &steps)).unwrap();
    let want: Vec<f64> = (0..BATCH)
        .map(|n| {
            let error = |i: usize| {
                let [kept, noised] = levels(i).map(f64::from);
                let v = kept * f64::from(eps[i]) - noised * f64::from(images[i]);
                (f64::from(out[i]) - v).powi(2)
            };
            (n * LEN..(n + 1) * LEN).map(error).sum::<f64>() / LEN as f64
        })
        .collect();
    assert_close("the error of v", &measured, &want, 1e-5);
    let noise = pollster::block_on(predictor(&diffusion).predict(&x_t, &steps)).unwrap();
    // x0 and the noise that follow from v are those that the image consists of.
    let again = mix(&|i, [kept, noised]| kept * (kept * x_t[i] - noised * out[i]) + noised * noise[i]);
    assert_close("x_t", &again, &wide(&x_t), 1e-5);
}
