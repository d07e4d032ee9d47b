//! Local counterfactuals: without strength they are the image, their chain is that of an f64 twin, only the unreached climb, and
//! an answer does not depend on what else is asked.

use super::harness::{as_trained_on_noise, assert_close, device, tiny_config, values, wide};
use duet::diffusion::{DiffusionConfig, Prediction, Schedule};
use duet::explain::{ExplainOptions, Explainer, Explanation, Local, Method, Request};
use duet::gpu::{Device, DeviceOptions};
use duet::graph::Place;
use duet::infer::NoisePredictor;
use duet::model::{Builder, Head, JointModel, ModelConfig, WeightSet};
use duet::rng::{Seed, Stream, normal_fill};
use duet::sampling::{Guidance, Progress, Watch};
use duet::tensor::Images;
use duet::weights::{Loaded, Weights};
use std::ops::ControlFlow;
use std::sync::Arc;

fn weights(device: &Device, config: &ModelConfig) -> Weights {
    let model = Arc::new(JointModel::new(config).unwrap());
    let mut tensors = model.params.initial(Seed(2));
    as_trained_on_noise(&mut tensors);
    // Features of a fresh network hardly differ between images: what differs is to count.
    let features = &mut tensors.get_mut("clasifier.bn_1.running_var").unwrap().data;
    let last = features.len() - 1;
    features[..last].fill(1e-3);
    pollster::block_on(Weights::upload(device, model, &tensors, None)).unwrap()
}

fn options(local: Local) -> ExplainOptions {
    let method = Method::Local(local);
    ExplainOptions { respacing: "20".into(), noise: 0.3, method, ..ExplainOptions::default() }
}

fn explainer(weights: &Weights, diffusion: &DiffusionConfig, batch: usize, local: Local) -> Explainer {
    let options = options(local);
    let new = Explainer::new(weights, diffusion, batch, &options, WeightSet::Raw);
    pollster::block_on(new).unwrap()
}

fn request(image: usize, class: usize, seed: u64) -> Request {
    Request { image, target: class.into(), seed: Seed(seed) }
}

fn explain(explainer: &mut Explainer, images: &[f32], requests: &[Request]) -> Vec<Explanation> {
    pollster::block_on(explainer.explain(images, requests, 0, Watch::None)).unwrap()
}

#[test]
fn without_strength_it_is_the_image() {
    // Odd sizes, colour, both heads, everything that a network may predict, a learned variance.
    let cases = [
        (7, 1, Head::Multiclass, Prediction::Eps, false, "20"),
        (9, 3, Head::MultiLabel, Prediction::Eps, false, "ddim25"),
        (8, 3, Head::Multiclass, Prediction::V, false, "10,10,5"),
        (5, 1, Head::MultiLabel, Prediction::XStart, false, "50"),
        (14, 2, Head::Multiclass, Prediction::Eps, true, "20"),
    ];
    for (image_size, in_channels, head, prediction, learn_sigma, respacing) in cases {
        let base = ModelConfig { image_size, in_channels, head, learn_sigma, ..tiny_config() };
        // Only an even side can be halved.
        let channel_mult = if image_size % 2 == 0 { vec![1, 2] } else { vec![1] };
        let config = ModelConfig { attention_resolutions: vec![], channel_mult, ..base };
        let weights = weights(device(), &config);
        let diffusion = DiffusionConfig { prediction, ..DiffusionConfig::default() };
        let len = config.images(1).image_len();
        let images: Vec<f32> = values(3, 3 * len).iter().map(|v| v.clamp(-1.0, 1.0)).collect();
        for guidance in [Guidance::Gradient, Guidance::Representation, Guidance::None] {
            for (locality, normalize) in [(0.2, true), (0.0, guidance != Guidance::Gradient)] {
                let local = Local { guidance, normalize, locality, ladder: vec![0.0], ..Local::default() };
                let options = ExplainOptions { respacing: respacing.into(), ..options(local) };
                let new = Explainer::new(&weights, &diffusion, 2, &options, WeightSet::Raw);
                let mut explainer = pollster::block_on(new).unwrap();
                let requests = [request(0, 1, 0), request(1, 0, 5), request(2, 2, 5)];
                for (made, image) in
                    explain(&mut explainer, &images, &requests).iter().zip(images.chunks_exact(len))
                {
                    let largest = made.difference.iter().fold(0.0f32, |m, d| m.max(d.abs()));
                    assert!(largest <= 1e-6, "{image_size} {guidance:?} {locality}: {largest}");
                    if locality > 0.0 {
                        assert_eq!(made.counterfactual, image, "kept bit for bit");
                    }
                    assert_eq!((made.chains, made.strength), (1, 0.0));
                }
            }
        }
    }
}

/// The gradient of the cross-entropy against one class on a noised image.
struct LossGradient {
    loaded: Loaded,
    images: Images,
}

impl LossGradient {
    fn new(weights: &Weights, class: u32) -> LossGradient {
        let model = weights.model();
        let shape = model.config.image_shape(1);
        let mut b = Builder::new(&model.params, WeightSet::Raw, false);
        let x = b.graph.leaf(&shape, Place::whole("x"));
        let t = b.graph.leaf(&[1], Place::whole("t"));
        let labels = b.graph.leaf(&[1], Place::whole("labels"));
        let encoded = model.unet.encode(&mut b, x, t).unwrap();
        let features = model.classifier.features(&mut b, &encoded, t).unwrap();
        let logits = model.classifier.logits(&mut b, features).unwrap();
        let loss = b.graph.cross_entropy(logits, labels).unwrap();
        let loss = b.graph.weighted_sum(loss, 1.0);
        let gradient = b.graph.grad(loss, &[x]).unwrap()[0];
        b.graph.place(gradient, Place::whole("gradient"));
        let loaded = pollster::block_on(weights.load(&b.graph.compile().unwrap())).unwrap();
        loaded.write("labels", bytemuck::bytes_of(&class)).unwrap();
        LossGradient { loaded, images: model.config.images(1) }
    }

    fn at(&self, x: &[f64], t: f32) -> Vec<f64> {
        let x: Vec<f32> = x.iter().map(|v| *v as f32).collect();
        let x = self.images.to_device(&x).unwrap();
        self.loaded.write("x", bytemuck::cast_slice(&x)).unwrap();
        self.loaded.write("t", bytemuck::bytes_of(&t)).unwrap();
        self.loaded.run();
        let read = pollster::block_on(self.loaded.read("gradient")).unwrap();
        wide(&self.images.to_host(&read).unwrap())
    }
}

/// Mean over a box of the largest change over channels, divided by all of the box's pixels.
fn boxed(change: &[f64], size: usize, channels: usize, radius: isize) -> Vec<f64> {
    let pixels = size * size;
    let at = |p: usize| (0..channels).map(|c| change[c * pixels + p].abs()).fold(0.0, f64::max);
    let side = size as isize;
    let mean = |p: usize| {
        let (y, x) = ((p / size) as isize, (p % size) as isize);
        let mut sum = 0.0;
        for (dy, dx) in (-radius..=radius).flat_map(|dy| (-radius..=radius).map(move |dx| (dy, dx))) {
            let (oy, ox) = (y + dy, x + dx);
            if (0..side).contains(&oy) && (0..side).contains(&ox) {
                sum += at((oy * side + ox) as usize);
            }
        }
        sum / ((2 * radius + 1) * (2 * radius + 1)) as f64
    };
    (0..pixels).map(mean).collect()
}

#[test]
fn the_chain_is_the_recipe_s() {
    let config = ModelConfig { in_channels: 2, attention_resolutions: vec![], ..tiny_config() };
    let weights = weights(device(), &config);
    let diffusion = DiffusionConfig::default();
    let (len, size) = (config.images(1).image_len(), config.image_size);
    let image: Vec<f32> = values(4, len).iter().map(|v| v.clamp(-1.0, 1.0)).collect();
    let strength = 3.0f32;
    let local = Local { ladder: vec![strength], locality: 0.05, ..Local::default() };
    let mut explainer = explainer(&weights, &diffusion, 1, local);
    let made = explain(&mut explainer, &image, &[request(0, 1, 9)]).remove(0);

    let schedule = Schedule::respaced(&diffusion, "20").unwrap();
    let predictor = NoisePredictor::new(&weights, &diffusion, 1, WeightSet::Raw);
    let predictor = pollster::block_on(predictor).unwrap();
    let gradient = LossGradient::new(&weights, 1);
    let eps = |x: &[f64], index: usize| {
        let x: Vec<f32> = x.iter().map(|v| *v as f32).collect();
        let t = schedule.timestep_map[index];
        wide(&pollster::block_on(predictor.predict(&x, &[t])).unwrap())
    };
    let steps = 6;
    let level = |index: usize| schedule.alphas_cumprod[index];
    let before = |index: usize| schedule.alphas_cumprod_prev[index];
    let x0_of = |x: &[f64], eps: &[f64], index: usize| -> Vec<f64> {
        let a = level(index);
        x.iter().zip(eps).map(|(x, e)| ((x - (1.0 - a).sqrt() * e) / a.sqrt()).clamp(-1.0, 1.0)).collect()
    };
    let mean = |x: &[f64], x0: &[f64], index: usize| -> Vec<f64> {
        let (a, p) = (level(index), before(index));
        let sigma = ((1.0 - p) / (1.0 - a)).sqrt() * (1.0 - a / p).sqrt();
        let factor = (1.0 - p - sigma * sigma).max(0.0).sqrt() / (1.0 - a).sqrt();
        x.iter().zip(x0).map(|(x, x0)| p.sqrt() * x0 + factor * (x - a.sqrt() * x0)).collect()
    };
    let states: Vec<Vec<f64>> = (0..steps)
        .map(|index| {
            let mut noise = vec![0.0; len];
            normal_fill(Seed(9), Stream::Inversion, index as u32, 0, &mut noise);
            let a = level(index);
            let noised = image.iter().zip(&noise);
            noised.map(|(x, z)| a.sqrt() * f64::from(*x) + (1.0 - a).sqrt() * f64::from(*z)).collect()
        })
        .collect();
    assert_close("noised", &made.noised, &states[steps - 1], 1e-5);
    let x0s: Vec<Vec<f64>> =
        states.iter().enumerate().map(|(index, x)| x0_of(x, &eps(x, index), index)).collect();
    let mut y = states[steps - 1].clone();
    for index in (0..steps).rev() {
        let t = schedule.model_timestep(index).unwrap();
        let g = gradient.at(&y, t);
        let rms = (g.iter().map(|g| g * g).sum::<f64>() / len as f64).sqrt() + 1e-12;
        let s = f64::from(strength * Local::unit(len)) * (1.0 - level(index)).sqrt() / rms;
        let guided: Vec<f64> = eps(&y, index).iter().zip(&g).map(|(e, g)| e + s * g).collect();
        let x0 = x0_of(&y, &guided, index);
        let change: Vec<f64> = x0.iter().zip(&x0s[index]).map(|(a, b)| a - b).collect();
        let mask = boxed(&change, size, 2, 1);
        let target = if index > 0 { states[index - 1].clone() } else { wide(&image) };
        // w, or the remainder of the last step: what the reference's step leaves out.
        let reference = mean(&states[index], &x0s[index], index);
        let moved = mean(&y, &x0, index);
        y = (0..len)
            .map(|i| {
                let w = target[i] - reference[i];
                if mask[i % (size * size)] > 0.05 { moved[i] + w } else { target[i] }
            })
            .collect();
    }
    let want: Vec<f64> = y.iter().map(|v| v.clamp(-1.0, 1.0)).collect();
    let moved = want.iter().zip(&image).filter(|(a, b)| (**a - f64::from(**b)).abs() > 0.01).count();
    assert!(moved > len / 20 && moved < len, "{moved} of {len} values changed");
    assert_close("counterfactual", &made.counterfactual, &want, 2e-3);
}

#[test]
fn only_the_unreached_climb_and_answers_do_not_depend_on_each_other() {
    let config = ModelConfig { in_channels: 1, attention_resolutions: vec![], ..tiny_config() };
    let weights = weights(device(), &config);
    let diffusion = DiffusionConfig::default();
    let len = config.images(1).image_len();
    let images: Vec<f32> = values(5, 7 * len).iter().map(|v| v.clamp(-1.0, 1.0)).collect();
    let ladder: Vec<f32> = [0.5, 4.0, 16.0].map(|strength| strength / Local::unit(len)).to_vec();
    let local = Local { ladder: ladder.clone(), locality: 0.0, ..Local::default() };
    let mut many = explainer(&weights, &diffusion, 3, local.clone());
    // Each image towards each class, two with another seed.
    let mut requests: Vec<Request> =
        (0..7).flat_map(|image| (0..3).map(move |class| request(image, class, 0))).collect();
    requests.extend([request(3, 1, 1), request(0, 2, 7)]);
    let made = explain(&mut many, &images, &requests);
    assert_eq!(made.len(), requests.len());
    let (mut first, mut later, mut never) = (0, 0, 0);
    for (one, asked) in made.iter().zip(&requests) {
        assert_eq!((one.target, one.seed), (asked.target, asked.seed));
        assert_eq!(one.strength, ladder[one.rung]);
        if one.reached {
            assert_eq!(one.chains, one.rung + 1, "it stops at the first rung that reaches the target");
        } else {
            assert_eq!(one.chains, ladder.len(), "every rung is tried");
        }
        match (one.reached, one.rung) {
            (true, 0) => first += 1,
            (true, _) => later += 1,
            (false, _) => never += 1,
        }
        assert_eq!(one.passes.backward, 6 * one.chains);
        assert!(one.passes.decoder == 6 * one.chains || one.passes.decoder == 6 * (one.chains + 1));
    }
    // Otherwise this tests little.
    assert!(first > 0 && later > 0 && never > 0, "{first}, {later}, {never}");
    // One by one, of a pool that begins empty: the same bits, up to the family of kernels that another batch may choose.
    let mut alone = explainer(&weights, &diffusion, 1, local);
    for (one, asked) in made.iter().zip(&requests).step_by(4) {
        let again = explain(&mut alone, &images, std::slice::from_ref(asked)).remove(0);
        assert_eq!((again.reached, again.rung), (one.reached, one.rung));
        assert_close("alone", &again.counterfactual, &wide(&one.counterfactual), 1e-4);
    }
}

#[test]
fn an_inversion_serves_further_targets_and_strengths() {
    let config = ModelConfig { in_channels: 1, attention_resolutions: vec![], ..tiny_config() };
    let weights = weights(device(), &config);
    let diffusion = DiffusionConfig::default();
    let len = config.images(1).image_len();
    let images = values(5, 2 * len);
    let local = Local { ladder: vec![1.0], ..Local::default() };
    let mut explainer = explainer(&weights, &diffusion, 1, local.clone());
    let decoder = |made: &[Explanation]| made.iter().map(|one| one.passes.decoder).collect::<Vec<_>>();
    let first = explain(&mut explainer, &images, &[request(0, 1, 0), request(0, 2, 0)]);
    assert_eq!(decoder(&first), [12, 6], "the second one needs its chain alone");
    let again = explain(&mut explainer, &images, &[request(0, 1, 0)]);
    assert_eq!(decoder(&again), [6]);
    assert_eq!(again[0].counterfactual, first[0].counterfactual);
    let stronger = options(Local { ladder: vec![2.0], ..local.clone() });
    assert!(pollster::block_on(explainer.change(&stronger)).unwrap());
    assert_eq!(decoder(&explain(&mut explainer, &images, &[request(0, 1, 0)])), [6]);
    // Another image, seed, row or chain is another inversion.
    assert_eq!(decoder(&explain(&mut explainer, &images[len..], &[request(0, 1, 0)])), [12]);
    assert_eq!(decoder(&explain(&mut explainer, &images, &[request(0, 1, 1)])), [12]);
    let asked = [request(0, 1, 0)];
    let other_row = explainer.explain(&images, &asked, 3, Watch::None);
    assert_eq!(decoder(&pollster::block_on(other_row).unwrap()), [12]);
    let longer = ExplainOptions { respacing: "30".into(), noise: 0.2, ..options(local) };
    assert!(pollster::block_on(explainer.change(&longer)).unwrap());
    assert_eq!(decoder(&explain(&mut explainer, &images, &[request(0, 1, 0)])), [12]);
}

#[test]
fn images_are_inverted_before_anybody_asks() {
    let config = ModelConfig { in_channels: 1, attention_resolutions: vec![], ..tiny_config() };
    // A device of its own: what other tests compile does not count.
    let device = pollster::block_on(Device::open(&DeviceOptions::default())).unwrap();
    let weights = weights(&device, &config);
    let len = config.images(1).image_len();
    let images = values(5, 3 * len);
    let local = Local { ladder: vec![1.0], ..Local::default() };
    let asked = [request(0, 1, 0), request(1, 1, 0), request(2, 1, 0)];
    let new = || explainer(&weights, &DiffusionConfig::default(), 1, local.clone());
    let plain = explain(&mut new(), &images, &asked);
    let mut ahead = new();
    // Who stops it, or asks meanwhile for something that cannot be, leaves nothing half done.
    let mut stop = |_: Progress| ControlFlow::Break(());
    let stopped = pollster::block_on(ahead.invert(&images, 0, Watch::Progress(&mut stop)));
    assert!(matches!(stopped, Err(duet::Error::Aborted)));
    let part = pollster::block_on(ahead.invert(&images[1..], 0, Watch::None));
    assert!(matches!(part, Err(duet::Error::Shape { .. })));
    for _ in 0..2 {
        pollster::block_on(ahead.invert(&images, 0, Watch::None)).unwrap();
    }
    let start = device.counters().pipelines;
    let made = explain(&mut ahead, &images[..len], &asked[..1]);
    assert_eq!(device.counters().pipelines, start, "the chain is loaded too");
    assert_eq!(made[0].passes.decoder, 6, "a chain alone");
    // There is room for two.
    let made = explain(&mut ahead, &images, &asked);
    let decoder: Vec<usize> = made.iter().map(|one| one.passes.decoder).collect();
    assert_eq!(decoder, [6, 6, 12]);
    for (one, other) in made.iter().zip(&plain) {
        assert_eq!(one.counterfactual, other.counterfactual);
    }
}

#[test]
fn a_rung_is_one_submission_and_one_read_back() {
    // A device of its own: what other tests do does not count.
    let device = pollster::block_on(Device::open(&DeviceOptions::default())).unwrap();
    let config = ModelConfig { in_channels: 1, attention_resolutions: vec![], ..tiny_config() };
    let weights = weights(&device, &config);
    let images = values(5, 2 * config.images(1).image_len());
    // An image cannot be moved to another class without strength: both climb to the end.
    let local = Local { ladder: vec![0.0; 3], ..Local::default() };
    let mut explainer = explainer(&weights, &DiffusionConfig::default(), 2, local);
    let before = pollster::block_on(explainer.probabilities(&images)).unwrap();
    let worst = |row: &[f32]| (0..3).min_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
    let requests = [request(0, worst(&before[..3]), 0), request(1, worst(&before[3..]), 0)];
    // Chains are loaded, and the images inverted.
    explain(&mut explainer, &images, &requests);
    let start = device.counters();
    let quiet = explain(&mut explainer, &images, &requests);
    let end = device.counters();
    assert!(quiet.iter().all(|one| one.chains == 3));
    assert_eq!(end.buffers - start.buffers, 0, "nothing is allocated");
    assert_eq!(end.pipelines - start.pipelines, 0, "nor compiled");
    // One of the originals' classes, one of each rung; each reading is a submission, and so is each chain.
    assert_eq!(end.readbacks - start.readbacks, 1 + 3);
    assert_eq!(end.submits - start.submits, 2 + 3 * 2);

    // Who listens hears of every step, and may stop.
    let mut steps = Vec::new();
    let mut hear = |progress: Progress| {
        steps.push(progress);
        ControlFlow::Continue(())
    };
    let run = explainer.explain(&images, &requests, 0, Watch::Progress(&mut hear));
    assert_eq!(pollster::block_on(run).unwrap(), quiet);
    assert_eq!(steps.len(), 18);
    assert!(steps.iter().enumerate().all(|(i, p)| p.done == i + 1 && p.done <= p.total));
    let mut curves = Vec::new();
    let mut hear = |_: Progress, curve: &[Vec<f32>]| {
        curves = curve.to_vec();
        ControlFlow::Continue(())
    };
    let run = explainer.explain(&images, &requests, 0, Watch::Curve(&mut hear));
    let made = pollster::block_on(run).unwrap();
    let last: Vec<Vec<f32>> = (0..6).map(|step| made.iter().map(|one| one.curve[step]).collect()).collect();
    assert_eq!(curves, last);
    let mut hear = |progress: Progress| {
        if progress.done == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let run = explainer.explain(&images, &requests, 0, Watch::Progress(&mut hear));
    assert!(matches!(pollster::block_on(run), Err(duet::Error::Aborted)));
    // Nor is what a call that is dropped on its way left taken for an inversion.
    let mut steps = 0;
    let mut hear = |_: Progress| {
        steps += 1;
        if steps == 2 { std::panic::resume_unwind(Box::new("dropped")) } else { ControlFlow::Continue(()) }
    };
    let run = explainer.explain(&images, &requests, 7, Watch::Progress(&mut hear));
    let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pollster::block_on(run)));
    assert!(dropped.is_err() && steps == 2);
    assert_eq!(explain(&mut explainer, &images, &requests)[0].counterfactual, quiet[0].counterfactual);
    let made = pollster::block_on(explainer.explain(&images, &requests, 7, Watch::None)).unwrap();
    assert!(made.iter().all(|one| one.passes.decoder == 4 * 6), "the others' inversions are made anew");
    assert_eq!(explain(&mut explainer, &images, &requests)[0].counterfactual, quiet[0].counterfactual);
}
