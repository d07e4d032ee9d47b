//! Files that the reference did not write: a learned sigma's term, 40 labels, steps without guidance. Their losses and steps
//! are computed here in f64 from the network's output; the harness must compare all of them, and notice any that is changed.

use super::compare_loaded;
use super::fixture::{Fixture, Report, probe};
use super::setup::{Probe, Setup};
use crate::variational::twin;
use duet::diffusion::Schedule;
use duet::ops::variational::Variational;
use serde_json::json;
use std::collections::BTreeMap;

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f64>)>;

/// A network of 8 × 8 grey pixels with 40 labels that learns its variances.
fn config(more: serde_json::Value) -> serde_json::Value {
    let mut config = json!({
        "image_size": 8, "in_channels": 1, "num_channels": 8, "num_res_blocks": 1, "channel_mult": "1,2",
        "attention_resolutions": "4", "num_heads": 2, "num_classes": 40, "multi_label_classifier": true,
        "learn_sigma": true, "diffusion_steps": 100, "noise_schedule": "linear", "timestep_respacing": "",
        "classifier_loss_scaling": 0.01, "name_prefix": "synthetic/",
    });
    let more = more.as_object().cloned().unwrap_or_default();
    config.as_object_mut().unwrap().extend(more);
    config
}

const SHAPE: [usize; 4] = [3, 1, 8, 8];
const PIXELS: usize = 64;

fn fixture(name: &str, config: &serde_json::Value, tensors: &Tensors) -> Fixture {
    let (name, config, tensors) = (name.to_owned(), config.clone(), tensors.clone());
    Fixture { name, config, metadata: BTreeMap::new(), tensors, report: Report::default() }
}

/// Values that f32 holds exactly.
fn exact(name: &str, count: usize, scale: f64) -> Vec<f64> {
    probe(name, count).iter().map(|v| f64::from((v * scale) as f32)).collect()
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|v| *v as f32).collect()
}

/// The network's output [N,2,8,8] for images at the model's timesteps, and its logits, of the batch's statistics in training.
fn network(setup: &Setup, x: &[f64], times: &[f32], train: bool) -> (Vec<f64>, Vec<f64>) {
    let batch = times.len();
    let mut probe = Probe::new(setup, train);
    let image = probe.leaf("x", &setup.model.config.image_shape(batch));
    let time = probe.leaf("t", &[batch]);
    let encoded = setup.model.unet.encode(&mut probe.builder, image, time).unwrap();
    let out = setup.model.unet.decode(&mut probe.builder, &encoded).unwrap();
    probe.result("out", out);
    let features = setup.model.classifier.features(&mut probe.builder, &encoded, time).unwrap();
    let logits = setup.model.classifier.logits(&mut probe.builder, features).unwrap();
    probe.result("logits", logits);
    let running = probe.load(&setup.upload());
    running.write_images("x", &setup.images(batch), &narrow(x));
    running.write("t", batch, times);
    running.run();
    (crate::harness::wide(&running.read("out")), crate::harness::wide(&running.read("logits")))
}

/// Binary cross-entropy, the mean over all labels of all images.
fn entropy(logits: &[f64], targets: &[f64]) -> f64 {
    let term = |(z, t): (&f64, &f64)| z.max(0.0) - z * t + (-z.abs()).exp().ln_1p();
    logits.iter().zip(targets).map(term).sum::<f64>() / logits.len() as f64
}

/// The file passes; with every expectation changed in one value each is named as wrong, and so is one that nobody knows. What
/// `given` names is input.
fn accepts_and_notices(name: &str, config: &serde_json::Value, tensors: &Tensors, given: &[&str]) {
    compare_loaded(fixture(name, config, tensors)).unwrap();
    let mut other = tensors.clone();
    let mut changed = Vec::new();
    for (tensor, (_, values)) in other.iter_mut().filter(|(tensor, _)| !given.contains(&tensor.as_str())) {
        let largest = values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        *values.last_mut().unwrap() += 0.02 * largest;
        changed.push(tensor.clone());
    }
    other.insert("something".into(), (vec![1], vec![0.0]));
    let error = compare_loaded(fixture(name, config, &other)).unwrap_err();
    for changed in changed {
        // As "loss[0]: 1 instead of 2", not as the beginning of another name.
        assert!(error.contains(&format!(" {changed}[")), "{changed} is not compared: {error}");
    }
    assert!(error.contains("unknown content") && error.contains("something"), "{error}");
}

#[test]
fn a_learned_sigma_and_forty_labels_are_compared() {
    let config = config(json!({}));
    let (batch, steps) = (SHAPE[0], [0usize, 1, 57]);
    let setup = Setup::of(&fixture("setup", &config, &Tensors::new()));
    let schedule = Schedule::new(&setup.diffusion).unwrap();
    let mut x_start = exact("x_start", batch * PIXELS, 1.0);
    // Both open ends of the likelihood at step 0.
    x_start[..8].fill(-1.0);
    x_start[8..16].fill(1.0);
    let noise = exact("noise", batch * PIXELS, 1.7);
    let y: Vec<f64> = probe("y", batch * 40).iter().map(|v| f64::from(u8::from(*v > 0.0))).collect();
    let roots =
        |i: usize| [schedule.sqrt_alphas_cumprod[steps[i]], schedule.sqrt_one_minus_alphas_cumprod[steps[i]]];
    let x_t: Vec<f64> = (0..batch * PIXELS)
        .map(|i| roots(i / PIXELS)[0] * x_start[i] + roots(i / PIXELS)[1] * noise[i])
        .collect();
    let times: Vec<f32> = steps.iter().map(|t| schedule.model_timestep(*t).unwrap()).collect();
    let (out, logits_noised) = network(&setup, &x_t, &times, false);
    let (_, logits_clean) = network(&setup, &x_start, &[0.0; 3], false);
    let (_, logits) = network(&setup, &x_start, &[0.0; 3], true);

    // Planes of eps and v side by side, as the twin reads them.
    let pairs: Vec<f64> =
        out.chunks(2 * PIXELS).flat_map(|o| (0..PIXELS).flat_map(|p| [o[p], o[PIXELS + p]])).collect();
    let terms: Vec<f64> =
        steps.iter().flat_map(|t| schedule.vb_coefficients(*t).unwrap()).map(f64::from).collect();
    let vb = twin(&Variational { batch, pixels: PIXELS, channels: 1 }, &pairs, &x_start, &x_t, &terms);
    let error = |n: usize| {
        (0..PIXELS).map(|p| (noise[n * PIXELS + p] - out[2 * n * PIXELS + p]).powi(2)).sum::<f64>()
    };
    let mse: Vec<f64> = (0..batch).map(|n| error(n) / PIXELS as f64).collect();
    let classifier = entropy(&logits, &y);
    let diffusion: Vec<f64> = mse.iter().zip(&vb).map(|(mse, vb)| mse + vb).collect();
    let each: Vec<f64> = diffusion.iter().map(|loss| loss + 0.01 * classifier).collect();
    let loss = each.iter().sum::<f64>() / batch as f64;

    let images = SHAPE.to_vec();
    let tensors: Tensors = [
        ("input.x_start", images.clone(), x_start),
        ("input.noise", images.clone(), noise),
        ("input.t", vec![batch], steps.map(|t| t as f64).to_vec()),
        ("input.y", vec![batch, 40], y),
        ("x_t", images.clone(), x_t),
        ("model_out", vec![batch, 2, 8, 8], out),
        ("logits_eval_noised", vec![batch, 40], logits_noised),
        ("logits_eval_clean", vec![batch, 40], logits_clean),
        ("mse", vec![batch], mse),
        ("vb", vec![batch], vb),
        ("diffusion_loss", vec![batch], diffusion),
        ("loss_classifier", vec![1], vec![classifier]),
        ("loss_per_sample", vec![batch], each),
        ("loss", vec![1], vec![loss]),
    ]
    .into_iter()
    .map(|(name, shape, values)| (name.to_owned(), (shape, values)))
    .collect();
    accepts_and_notices(
        "learned sigma",
        &config,
        &tensors,
        &["input.x_start", "input.noise", "input.t", "input.y"],
    );
}

/// One ancestral step in f64: x0, mean, log variance and next image.
fn ancestral(schedule: &Schedule, t: usize, [x, z, out]: [&[f64]; 3], clip: bool) -> [Vec<f64>; 4] {
    let at = |table: &[f64]| table[t];
    let mut made = [const { Vec::new() }; 4];
    for i in 0..PIXELS {
        let mut x0 = at(&schedule.sqrt_recip_alphas_cumprod) * x[i]
            - at(&schedule.sqrt_recipm1_alphas_cumprod) * out[i];
        if clip {
            x0 = x0.clamp(-1.0, 1.0);
        }
        let mean = at(&schedule.posterior_mean_coef1) * x0 + at(&schedule.posterior_mean_coef2) * x[i];
        let share = 0.5 * (out[PIXELS + i] + 1.0);
        let log =
            share * at(&schedule.log_betas) + (1.0 - share) * at(&schedule.posterior_log_variance_clipped);
        let next = mean + if t > 0 { (0.5 * log).exp() * z[i] } else { 0.0 };
        for (list, value) in made.iter_mut().zip([x0, mean, log, next]) {
            list.push(value);
        }
    }
    made
}

#[test]
fn steps_without_guidance_or_labels_are_compared() {
    let config = config(json!({}));
    let (batch, t) = (SHAPE[0], [0usize, 1, 57]);
    let setup = Setup::of(&fixture("setup", &config, &Tensors::new()));
    let schedule = Schedule::new(&setup.diffusion).unwrap();
    let (x, z) = (exact("x", batch * PIXELS, 1.0), exact("z", batch * PIXELS, 1.7));
    let times: Vec<f32> = t.iter().map(|t| schedule.model_timestep(*t).unwrap()).collect();
    let (out, _) = network(&setup, &x, &times, false);
    let image =
        |list: &[f64], n: usize, planes: usize| list[n * planes * PIXELS..][..planes * PIXELS].to_vec();
    let steps = |clip: bool| -> [Vec<f64>; 4] {
        let rows = (0..batch).map(|n| {
            let [x, z, out] = [image(&x, n, 1), image(&z, n, 1), image(&out, n, 2)];
            ancestral(&schedule, t[n], [&x, &z, &out], clip)
        });
        rows.reduce(|mut all, row| {
            all.iter_mut().zip(row).for_each(|(all, row)| all.extend(row));
            all
        })
        .unwrap()
    };
    let ([start, mean, log, clipped], [.., free]) = (steps(true), steps(false));
    let images = SHAPE.to_vec();
    let tensors: Tensors = [
        ("x", images.clone(), x),
        ("z", images.clone(), z),
        ("plain_a.t", vec![batch], t.map(|t| t as f64).to_vec()),
        ("plain_a.pmv.raw_out", vec![batch, 2, 8, 8], out),
        ("plain_a.pmv.pred_xstart", images.clone(), start),
        ("plain_a.pmv.mean", images.clone(), mean),
        ("plain_a.pmv.variance", images.clone(), log.iter().map(|l| l.exp()).collect()),
        ("plain_a.pmv.log_variance", images.clone(), log),
        ("plain_a.p_sample.clip", images.clone(), clipped),
        ("plain_a.p_sample.noclip", images.clone(), free),
    ]
    .into_iter()
    .map(|(name, shape, values)| (name.to_owned(), (shape, values)))
    .collect();
    accepts_and_notices("steps without guidance", &config, &tensors, &["x", "z", "plain_a.t"]);
    // Guided steps need labels, and say so.
    let mut guided = tensors.clone();
    guided.insert("plain_a.guided_p_sample.scale1".into(), (images, vec![0.0; batch * PIXELS]));
    let error = compare_loaded(fixture("no labels", &config, &guided)).unwrap_err();
    assert!(error.contains("no labels y"), "{error}");
}

#[test]
fn a_chain_of_forty_labels_is_compared() {
    // A guided chain whose step size is 0 is one that can be followed by hand.
    let config = config(json!({"timestep_respacing": "3", "sampling_lr": 0.0}));
    let batch = SHAPE[0];
    let setup = Setup::of(&fixture("setup", &config, &Tensors::new()));
    let schedule = Schedule::respaced(&setup.diffusion, "3").unwrap();
    let first = exact("x_T", batch * PIXELS, 1.0);
    let z = exact("chain", 3 * batch * PIXELS, 1.7);
    let y: Vec<f64> = probe("y", batch * 40).iter().map(|v| f64::from(u8::from(*v > 0.0))).collect();
    let mut x = first.clone();
    let (mut logits_per_step, mut norms) = (Vec::new(), Vec::new());
    for index in (0..3).rev() {
        let (out, logits) = network(&setup, &x, &vec![schedule.model_timestep(index).unwrap(); batch], false);
        logits_per_step.extend(logits);
        let noise = &z[index * batch * PIXELS..];
        x = (0..batch)
            .flat_map(|n| {
                let part =
                    |list: &[f64], planes: usize| list[n * planes * PIXELS..][..planes * PIXELS].to_vec();
                let [x, z, out] = [part(&x, 1), part(noise, 1), part(&out, 2)];
                let [.., next] = ancestral(&schedule, index, [&x, &z, &out], false);
                next
            })
            .collect();
        norms.push(x.iter().map(|v| v * v).sum::<f64>().sqrt());
        norms.push(x.iter().sum());
    }
    let images = SHAPE.to_vec();
    let map = schedule.timestep_map.iter().map(|t| *t as f64).collect();
    let tensors: Tensors = [
        ("x_T", images.clone(), first),
        ("z", [&[3], &SHAPE[..]].concat(), z),
        ("y", vec![batch, 40], y),
        ("timestep_map", vec![3], map),
        ("logits_per_step", vec![3, batch, 40], logits_per_step),
        ("img_l2_sum_per_step", vec![3, 2], norms),
        ("img_final", images, x),
    ]
    .into_iter()
    .map(|(name, shape, values)| (name.to_owned(), (shape, values)))
    .collect();
    let given = ["x_T", "z", "y", "timestep_map", "img_l2_sum_per_step"];
    accepts_and_notices("chain", &config, &tensors, &given);
}
