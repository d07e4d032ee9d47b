//! One forward pass: time embedding, every level's features, the network's output, logits in both modes.

use super::fixture::Fixture;
use super::setup::{Probe, Setup};
use duet::diffusion::{Prediction, Schedule};
use duet::graph::NodeId;
use duet::infer::NoisePredictor;
use duet::model::{ParamSet, WeightSet};

/// Bound relative to the largest value for whole networks.
const NETWORK: f64 = 2e-4;

/// Compares everything but losses, gradients and updates.
pub fn forward(fixture: &mut Fixture) {
    let setup = Setup::of(fixture);
    let schedule = Schedule::new(&setup.diffusion).unwrap();
    let t = fixture.take("input.t");
    let batch = t.len();
    let images = setup.images(batch);
    let (x_start, noise) = (fixture.take_f32("input.x_start"), fixture.take_f32("input.noise"));
    let times: Vec<f32> = t.iter().map(|t| schedule.model_timestep(*t as usize).unwrap()).collect();
    let mix: Vec<f32> = t
        .iter()
        .flat_map(|t| {
            let t = *t as usize;
            [schedule.sqrt_alphas_cumprod[t] as f32, schedule.sqrt_one_minus_alphas_cumprod[t] as f32]
        })
        .collect();
    let config = &setup.model.config;
    let shape = [batch, config.image_size, config.image_size, config.in_channels];

    let mut probe = Probe::new(&setup, false);
    let start = probe.leaf("x_start", &shape);
    let eps = probe.leaf("noise", &shape);
    let time = probe.leaf("t", &[batch]);
    let zero = probe.builder.graph.fill(batch, 0.0);
    let coefficients = probe.leaf("coefficients", &[2 * batch]);
    let frequencies = probe.leaf("frequencies", &[config.num_channels / 2]);
    let x_t = probe.builder.graph.q_sample(start, eps, coefficients).unwrap();
    probe.result("x_t", x_t);
    let sincos = probe.builder.graph.timestep_embedding(time, frequencies, config.num_channels);
    probe.result("sincos", sincos);
    let encoded = setup.model.unet.encode(&mut probe.builder, x_t, time).unwrap();
    probe.result("temb", encoded.temb);
    probe.result("h_mid", encoded.bottleneck);
    for (i, skip) in encoded.skips.iter().enumerate() {
        probe.result(&format!("hs.{i}"), *skip);
    }
    let out = setup.model.unet.decode(&mut probe.builder, &encoded).unwrap();
    probe.result("model_out", out);
    let classify = |probe: &mut Probe<'_>, encoded, time: NodeId, kind: &str| {
        let features = setup.model.classifier.features(&mut probe.builder, encoded, time).unwrap();
        probe.result(&format!("pooled_{kind}"), features);
        let logits = setup.model.classifier.logits(&mut probe.builder, features).unwrap();
        probe.result(&format!("logits_eval_{kind}"), logits);
    };
    classify(&mut probe, &encoded, time, "noised");
    let clean = setup.model.unet.encode(&mut probe.builder, start, zero).unwrap();
    classify(&mut probe, &clean, zero, "clean");

    let running = probe.load(&setup.upload());
    running.write_images("x_start", &images, &x_start);
    running.write_images("noise", &images, &noise);
    running.write("t", batch, &times);
    running.write("coefficients", 2 * batch, &mix);
    running.run();

    fixture.check_if_there("x_t", &running.read("x_t"), 1e-6);
    if fixture.has("model_out") && !config.learn_sigma && setup.diffusion.prediction == Prediction::Eps {
        // At a batch size that splits the images and fills up the last batch.
        let weights = setup.upload();
        let predictor =
            NoisePredictor::new(&weights, &setup.diffusion, batch.div_ceil(2) + 1, WeightSet::Raw);
        let steps: Vec<usize> = t.iter().map(|t| *t as usize).collect();
        let predictor = pollster::block_on(predictor).unwrap();
        let noise = pollster::block_on(predictor.predict(&running.read("x_t"), &steps)).unwrap();
        fixture.check("model_out", &noise, NETWORK);
    }
    for name in ["sincos", "temb", "h_mid", "model_out", "pooled_noised", "logits_eval_noised"] {
        fixture.check_if_there(name, &running.read(name), NETWORK);
    }
    for name in ["finalise_out", "pooled_clean", "logits_eval_clean"] {
        let ours = if name == "finalise_out" { "model_out" } else { name };
        fixture.check_if_there(name, &running.read(ours), NETWORK);
    }
    for (i, _) in encoded.skips.iter().enumerate() {
        check_level(fixture, &format!("hs.{i}"), &running.read(&format!("hs.{i}")), batch);
    }
    for kind in ["clean", "noised"] {
        if fixture.has(&format!("logits_train_{kind}")) {
            let image = if kind == "clean" { x_start.clone() } else { running.read("x_t") };
            train_mode(fixture, &setup, kind, &times, &image);
        }
    }
}

/// Per-sample norms and channel means of one encoder level.
fn check_level(fixture: &mut Fixture, name: &str, data: &[f32], batch: usize) {
    let (mean, l2) = (format!("{name}.mean"), format!("{name}.l2"));
    if fixture.has(&mean) {
        let channels = fixture.shape(&mean)[1];
        let pixels = data.len() / batch / channels;
        let means: Vec<f32> = data
            .chunks(pixels)
            .map(|plane| (plane.iter().map(|v| f64::from(*v)).sum::<f64>() / pixels as f64) as f32)
            .collect();
        fixture.check(&mean, &means, NETWORK);
    }
    if fixture.has(&l2) {
        let norm = |image: &[f32]| image.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt() as f32;
        let norms: Vec<f32> = data.chunks(data.len() / batch).map(norm).collect();
        fixture.check(&l2, &norms, NETWORK);
    }
}

/// Logits with batch statistics, and the running statistics after that one pass.
fn train_mode(fixture: &mut Fixture, setup: &Setup, kind: &str, times: &[f32], images: &[f32]) {
    let batch = times.len();
    let config = &setup.model.config;
    let mut probe = Probe::new(setup, true);
    let image = probe.leaf("image", &[batch, config.image_size, config.image_size, config.in_channels]);
    let time = probe.leaf("t", &[batch]);
    let encoded = setup.model.unet.encode(&mut probe.builder, image, time).unwrap();
    let features = setup.model.classifier.features(&mut probe.builder, &encoded, time).unwrap();
    let logits = setup.model.classifier.logits(&mut probe.builder, features).unwrap();
    probe.result("logits", logits);
    let weights = setup.upload();
    let running = probe.load(&weights);
    running.write_images("image", &setup.images(batch), images);
    let zeros = vec![0.0; batch];
    running.write("t", batch, if kind == "clean" { &zeros } else { times });
    running.run();
    // With a batch of two, BatchNorm amplifies rounding: it divides by the difference of two nearly equal numbers.
    let bound = if batch == 2 { 1e-3 } else { NETWORK };
    fixture.check(&format!("logits_train_{kind}"), &running.read("logits"), bound);
    let after = pollster::block_on(weights.download(ParamSet::Weights, true)).unwrap();
    for norm in ["bn_1", "bn_2"] {
        for part in ["running_mean", "running_var"] {
            let name = format!("clasifier.{norm}.{part}");
            fixture.check_if_there(&format!("after_train_{kind}.{name}"), &after[&name].data, NETWORK);
        }
    }
}
