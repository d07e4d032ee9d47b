//! Losses, gradients of every parameter, AdamW, EMA: one step, and several.

use super::average::{Followed, check_movement};
use super::fixture::{Fixture, summary, weights as formula_weights};
use super::setup::{Probe, Setup, write_labels};
use duet::diffusion::Schedule;
use duet::model::ParamSet;
use duet::ops::optimizer::{AdamW, hyper};
use duet::tensor::{Tensors, unpad_rows};
use duet::train::{TrainOptions, TrainSpec, apply_plan, backward_plan};
use duet::weights::{Loaded, Weights};

/// Bar for gradients: relative error of norms.
const GRADIENT: f64 = 1e-3;
/// Learning rate of the model files' one step.
const LR: f64 = 1e-4;
/// Below this norm a gradient is an exact zero blurred by rounding ("null").
const NULL: f64 = 1e-9;
/// What rounding may leave of one: share of the norm of all gradients together. The reference's own leaves a twentieth of it.
const NULL_SHARE: f64 = 2e-7;
/// A training step on given inputs.
struct Step {
    setup: Setup,
    weights: Weights,
    plan: Loaded,
    apply: Loaded,
    batch: usize,
}

impl Step {
    fn new(fixture: &Fixture, batch: usize) -> Step {
        let setup = Setup::of(fixture);
        let spec = TrainSpec {
            batch,
            classifier_loss_scaling: setup.classifier_loss_scaling,
            classifier_input: setup.classifier_input,
            given_noise: true,
            ..TrainSpec::of(&TrainOptions::default())
        };
        let mut weights = setup.upload();
        for set in [ParamSet::FirstMoment, ParamSet::SecondMoment, ParamSet::Gradient] {
            pollster::block_on(weights.zero_set(set)).unwrap();
        }
        let load = |plan| pollster::block_on(weights.load(&plan)).unwrap();
        let plan = load(backward_plan(&setup.model, &setup.diffusion, &spec).unwrap());
        let apply = load(apply_plan(&setup.model, &spec).unwrap());
        Step { setup, weights, plan, apply, batch }
    }

    fn run(&self, fixture: &mut Fixture, prefix: &str, number: u64, lr: f64, weight_decay: f64, ema: f64) {
        let schedule = Schedule::new(&self.setup.diffusion).unwrap();
        let images = self.setup.images(self.batch);
        for (name, buffer) in [("x_start", "x_start"), ("noise", "noise")] {
            let data = fixture.take_f32(&format!("{prefix}{name}"));
            self.plan.write(buffer, bytemuck::cast_slice(&images.to_device(&data).unwrap())).unwrap();
        }
        let (mut t, mut q, mut vb) = (Vec::new(), Vec::new(), Vec::new());
        for index in fixture.take(&format!("{prefix}t")) {
            let index = index as usize;
            t.push(schedule.model_timestep(index).unwrap());
            q.push(schedule.sqrt_alphas_cumprod[index] as f32);
            q.push(schedule.sqrt_one_minus_alphas_cumprod[index] as f32);
            vb.extend(schedule.vb_coefficients(index).unwrap());
        }
        self.plan.write("t", bytemuck::cast_slice(&t)).unwrap();
        self.plan.write("coefficients", bytemuck::cast_slice(&q)).unwrap();
        self.plan.write("vb_coefficients", bytemuck::cast_slice(&vb)).unwrap();
        write_labels(&self.plan, &self.setup, &fixture.take(&format!("{prefix}y")));
        let optimizer =
            AdamW { learning_rate: lr, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay, ema_rate: ema };
        self.apply.write("hyper", bytemuck::cast_slice(&hyper(number, &optimizer, 1.0))).unwrap();
        self.plan.write("metrics_first", bytemuck::bytes_of(&[1u32, 0, 0, 0])).unwrap();
        self.plan.run();
        self.apply.run();
        self.plan.device().wait().unwrap();
    }

    fn metric(&self, number: usize) -> f32 {
        pollster::block_on(self.plan.read("metrics")).unwrap().get(number * 64).copied().unwrap_or(0.0)
    }

    fn set(&self, set: ParamSet) -> Tensors {
        pollster::block_on(self.weights.download(set, set == ParamSet::Weights)).unwrap()
    }
}

fn param_names(fixture: &Fixture) -> Vec<String> {
    let names = fixture.metadata["param_names"].as_array().expect("param_names");
    names.iter().map(|n| n.as_str().unwrap().to_owned()).collect()
}

/// Tables of averages and their rates.
fn averages(fixture: &Fixture) -> Vec<(String, f64)> {
    let rate = |name: &String| name.strip_prefix("ema_")?.parse().ok();
    fixture.tensors.keys().filter_map(|name| Some((name.clone(), rate(name)?))).collect()
}

/// The variational term of each image of a network that learns its variances.
fn variational(fixture: &mut Fixture, step: &Step) -> Vec<f32> {
    let Step { setup, weights, batch, .. } = step;
    let schedule = Schedule::new(&setup.diffusion).unwrap();
    let config = &setup.model.config;
    let mut probe = Probe::new(setup, false);
    let shape = config.image_shape(*batch);
    let [start, noise] = ["x_start", "noise"].map(|name| probe.leaf(name, &shape));
    let time = probe.leaf("t", &[*batch]);
    let [mix, terms] =
        [("coefficients", 2), ("vb_coefficients", 8)].map(|(name, n)| probe.leaf(name, &[n * batch]));
    let x_t = probe.builder.graph.q_sample(start, noise, mix).unwrap();
    let encoded = setup.model.unet.encode(&mut probe.builder, x_t, time).unwrap();
    let out = setup.model.unet.decode(&mut probe.builder, &encoded).unwrap();
    let values = probe.builder.graph.vb(out, start, x_t, terms).unwrap();
    probe.result("vb", values);
    let running = probe.load(weights);
    let images = setup.images(*batch);
    running.write_images("x_start", &images, &fixture.take_f32("input.x_start"));
    running.write_images("noise", &images, &fixture.take_f32("input.noise"));
    let indices: Vec<usize> = fixture.take("input.t").iter().map(|t| *t as usize).collect();
    let times: Vec<f32> = indices.iter().map(|i| schedule.model_timestep(*i).unwrap()).collect();
    running.write("t", *batch, &times);
    let roots = [&schedule.sqrt_alphas_cumprod, &schedule.sqrt_one_minus_alphas_cumprod];
    let mix: Vec<f32> = indices.iter().flat_map(|i| roots.map(|table| table[*i] as f32)).collect();
    running.write("coefficients", 2 * batch, &mix);
    let terms: Vec<f32> = indices.iter().flat_map(|i| schedule.vb_coefficients(*i).unwrap()).collect();
    running.write("vb_coefficients", 8 * batch, &terms);
    running.run();
    let diffusion = &setup.diffusion;
    let scale =
        if diffusion.rescale_learned_sigmas { diffusion.diffusion_steps as f32 / 1000.0 } else { 1.0 };
    running.read("vb").iter().map(|value| value * scale).collect()
}

/// Losses of one step, of each image and together.
fn check_losses(fixture: &mut Fixture, step: &Step, vb: Option<&[f32]>) {
    let mut mse = unpad_rows(&pollster::block_on(step.plan.read("mse")).unwrap(), step.batch);
    mse.truncate(step.batch);
    fixture.check_if_there("mse", &mse, 1e-5);
    let classifier = step.metric(2);
    fixture.check_if_there("loss_classifier", &[classifier], 1e-4);
    // The mass of a bin, of which the term is the logarithm, is a difference of nearly equal numbers.
    let bound = if vb.is_some() { 1e-4 } else { 1e-5 };
    fixture.check_if_there("loss", &[step.metric(0)], bound);
    let each: Vec<f32> = match vb {
        None => mse,
        Some(vb) => {
            fixture.check_if_there("vb", vb, bound);
            let mean = vb.iter().map(|v| f64::from(*v)).sum::<f64>() / vb.len() as f64;
            fixture.compare("mean of vb", &[step.metric(3)], &[mean], bound * mean.abs());
            mse.iter().zip(vb).map(|(mse, vb)| mse + vb).collect()
        }
    };
    fixture.check_if_there("diffusion_loss", &each, bound);
    let scaled = classifier * step.setup.classifier_loss_scaling;
    let total: Vec<f32> = each.iter().map(|loss| loss + scaled).collect();
    fixture.check_if_there("loss_per_sample", &total, bound);
}

/// One step of the model files.
pub fn one_step(fixture: &mut Fixture) {
    let batch = fixture.shape("input.t")[0];
    let tables = averages(fixture);
    let rate = tables.first().map_or(0.9999, |(_, rate)| *rate);
    let step = Step::new(fixture, batch);
    // Before the step changes the weights.
    let vb = step.setup.model.config.learn_sigma.then(|| variational(fixture, &step));
    let before = formula_weights(&step.setup.model, &step.setup.prefix);
    step.run(fixture, "input.", 1, LR, 0.0, rate);
    check_losses(fixture, &step, vb.as_deref());
    if !fixture.has("grads") {
        return;
    }
    let names = param_names(fixture);
    if fixture.has("params_before") {
        check_rows(fixture, "params_before", &names, &before, &[], [1e-6, 0.0]);
    }

    // BatchNorm over two samples is ill-conditioned: the reference's own gradients agree to about 1e-3 there.
    let bound = if batch == 2 { 3.0 * GRADIENT } else { GRADIENT };
    let gradients = step.set(ParamSet::Gradient);
    let nulls = check_gradients(fixture, &names, &gradients, bound);
    let full: Vec<String> = fixture.tensors.keys().filter(|k| k.starts_with("grad.")).cloned().collect();
    for name in full {
        fixture.check(&name, &gradients[&name["grad.".len()..]].data, bound);
    }
    let total: f64 = gradients.values().flat_map(|t| &t.data).map(|g| f64::from(*g).powi(2)).sum();
    fixture.check_if_there("grad_norm_total", &[total.sqrt() as f32], bound);

    let after = step.set(ParamSet::Weights);
    if fixture.has("params_after") {
        check_rows(fixture, "params_after", &names, &after, &nulls, [2e-5, LR]);
    }
    if fixture.has("params_delta") {
        check_delta(fixture, &names, [&before, &after], &gradients, &nulls, LR);
    }
    for (number, (table, rate)) in tables.iter().enumerate() {
        let average = if number == 0 {
            step.set(ParamSet::Average)
        } else {
            let again = Step::new(fixture, batch);
            again.run(fixture, "input.", 1, LR, 0.0, *rate);
            again.set(ParamSet::Average)
        };
        check_rows(fixture, table, &names, &average, &nulls, [2e-5, LR]);
        let mut followed = Followed::new(*rate, &before);
        followed.step(&after);
        check_movement(fixture, table, &names, &followed, [&before, &average]);
    }
}

/// Compares summaries of gradients; returns which of them are null.
fn check_gradients(fixture: &mut Fixture, names: &[String], gradients: &Tensors, bound: f64) -> Vec<bool> {
    let single = fixture.take("grads");
    let table = fixture.take_wide("grads");
    let all = table.chunks(11).map(|row| row[0].powi(2)).sum::<f64>().sqrt();
    let mut nulls = Vec::new();
    for ((name, want), single) in names.iter().zip(table.chunks(11)).zip(single.chunks(11)) {
        let data = &gradients[name].data;
        let got = summary(name, data);
        let null = want[0] < NULL;
        nulls.push(null);
        if null {
            let detail = format!("null gradient of {name} is {:e}, all together are {all:e}", got[0]);
            fixture.ratio(name, got[0] / (NULL_SHARE * all), &detail);
            continue;
        }
        // Sums and dot products may cancel: their error is bounded by the norms' (Cauchy and Schwarz).
        let root = (data.len() as f64).sqrt();
        let scales = [want[0], want[0] * root, want[0] * root];
        let rms = want[0] / root;
        // The reference's own rounding in this parameter's gradient.
        let noise = single.iter().zip(want).skip(3).fold(0.0f64, |m, (s, d)| m.max((s - d).abs()));
        for column in 0..11 {
            let scale = scales.get(column).copied().unwrap_or(2.0 * want[column].abs() + 2.0 * rms);
            let spread = if column < 3 { root } else { 1.0 };
            let slack = (bound * scale).max(20.0 * noise * spread);
            let ratio = (got[column] - want[column]).abs() / slack;
            let detail = format!(
                "gradient of {name}, column {column}: {:e} instead of {:e}",
                got[column], want[column]
            );
            fixture.ratio(name, ratio, &detail);
        }
    }
    nulls
}

/// Compares summaries of parameters, relative to their norms.
fn check_rows(
    fixture: &mut Fixture,
    table: &str,
    names: &[String],
    tensors: &Tensors,
    nulls: &[bool],
    [bound, step]: [f64; 2],
) {
    let single = fixture.take(table);
    let rows = fixture.take_wide(table);
    for (row, (name, want)) in names.iter().zip(rows.chunks(11)).enumerate() {
        let single = &single[11 * row..11 * row + 11];
        let data = &tensors[name].data;
        let got = summary(name, data);
        // One AdamW step moves an element by at most the learning rate, whatever its gradient's rounding.
        let root = (data.len() as f64).sqrt();
        for column in 0..11 {
            let noise = 20.0 * (single[column] - want[column]).abs();
            let slack = match column {
                // Where the gradient is null each element steps by the sign of a rounding error, so that two runs are apart
                // by nothing or two steps in each, and their lengths by √2 steps in the standard deviation: five of those.
                0 if nulls.get(row) == Some(&true) => want[0] * bound + 7.1 * step,
                0 => want[0] * bound + step,
                1 | 2 => want[0] * root * bound + 2.02 * step * data.len() as f64,
                _ => want[column].abs() * bound + 2.02 * step,
            };
            let slack = slack.max(noise) + 1e-12;
            let ratio = (got[column] - want[column]).abs() / slack;
            let detail = format!(
                "{table} of {name}, column {column}: {:e} instead of {:e}",
                got[column], want[column]
            );
            fixture.ratio(name, ratio, &detail);
        }
    }
}

/// Compares what one AdamW step changed. The first step moves each element by about the learning rate times the sign
/// of its gradient, so an element whose gradient is lost in rounding may go either way.
fn check_delta(
    fixture: &mut Fixture,
    names: &[String],
    [before, after]: [&Tensors; 2],
    gradients: &Tensors,
    nulls: &[bool],
    lr: f64,
) {
    let single = fixture.take("params_delta");
    let table = fixture.take_wide("params_delta");
    for (row, (name, null)) in names.iter().zip(nulls).enumerate() {
        let (want, single) = (&table[11 * row..11 * row + 11], &single[11 * row..11 * row + 11]);
        let data = &gradients[name].data;
        let delta: Vec<f32> = after[name].data.iter().zip(&before[name].data).map(|(a, b)| a - b).collect();
        let largest = delta.iter().fold(0.0f32, |m, d| m.max(d.abs()));
        let limit =
            1.01 * lr + 1.2e-7 * f64::from(before[name].data.iter().fold(0.0f32, |m, v| m.max(v.abs())));
        let detail = format!("step of {name} is {largest:e}, above the learning rate");
        fixture.ratio(name, f64::from(largest) / limit, &detail);
        if *null {
            continue;
        }
        let rms = (data.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>() / data.len() as f64).sqrt();
        for i in 0..data.len().min(8) {
            let lost = f64::from(data[i].abs()) < 0.01 * rms;
            let unit = 1.2e-7 * f64::from(before[name].data[i].abs());
            let slack = if lost { 2.02 * lr } else { 0.02 * lr } + unit;
            let ratio = (f64::from(delta[i]) - want[3 + i]).abs() / slack;
            let detail = format!("step of {name}[{i}]: {:e} instead of {:e}", delta[i], want[3 + i]);
            fixture.ratio(name, ratio, &detail);
        }
        let norm = delta.iter().map(|d| f64::from(*d).powi(2)).sum::<f64>().sqrt();
        let noise = 20.0 * (single[0] - want[0]).abs();
        let slack = noise.max(0.02 * want[0]) + 1.2e-7 * summary(name, &before[name].data)[0];
        let detail = format!("norm of the step of {name}: {norm:e} instead of {:e}", want[0]);
        fixture.ratio(name, (norm - want[0]).abs() / slack, &detail);
    }
}

/// Several AdamW steps on given batches.
pub fn several_steps(fixture: &mut Fixture) {
    let number = |key: &str| fixture.config[key].as_f64().unwrap();
    let (steps, lr, weight_decay) = (number("steps") as usize, number("lr"), number("weight_decay"));
    let batch = fixture.shape("step0.t")[0];
    let names = param_names(fixture);
    let tables = averages(fixture);
    let step = Step::new(fixture, batch);
    let before = formula_weights(&step.setup.model, &step.setup.prefix);
    fixture.take("losses");
    let losses = fixture.take_wide("losses");
    let norms = fixture.take("grad_norms");
    let mut followed: Vec<Followed> = tables.iter().map(|(_, rate)| Followed::new(*rate, &before)).collect();
    let first = tables.first().map_or(0.9999, |(_, rate)| *rate);
    for k in 0..steps {
        step.run(fixture, &format!("step{k}."), k as u64 + 1, lr, weight_decay, first);
        let weights = step.set(ParamSet::Weights);
        followed.iter_mut().for_each(|average| average.step(&weights));
        let got = [step.metric(0), step.metric(2), step.metric(1)];
        let want = &losses[3 * k..3 * k + 3];
        for (column, (got, want)) in got.iter().zip(want).enumerate() {
            // The classifier's loss follows from batch statistics of four samples.
            fixture.compare(&format!("losses[{k}][{column}]"), &[*got], &[*want], 1e-3 * want.abs());
        }
        let gradients = step.set(ParamSet::Gradient);
        let total: f64 = gradients.values().flat_map(|t| &t.data).map(|g| f64::from(*g).powi(2)).sum();
        fixture.compare(&format!("grad_norms[{k}]"), &[total.sqrt() as f32], &[norms[k]], 2e-3 * norms[k]);
    }
    let after = step.set(ParamSet::Weights);
    let moved: Tensors = after
        .iter()
        .filter(|(name, _)| before.contains_key(*name))
        .map(|(name, tensor)| {
            let mut tensor = tensor.clone();
            tensor.data.iter_mut().zip(&before[name].data).for_each(|(a, b)| *a -= b);
            (name.clone(), tensor)
        })
        .collect();
    check_rows(fixture, "params_after", &names, &after, &[], [2e-5, LR]);
    check_moved(fixture, &names, &moved);
    for (number, ((table, rate), followed)) in tables.iter().zip(&followed).enumerate() {
        let average = if number == 0 {
            step.set(ParamSet::Average)
        } else {
            let again = Step::new(fixture, batch);
            for k in 0..steps {
                again.run(fixture, &format!("step{k}."), k as u64 + 1, lr, weight_decay, *rate);
            }
            again.set(ParamSet::Average)
        };
        check_rows(fixture, table, &names, &average, &[], [2e-5, LR]);
        check_movement(fixture, table, &names, followed, [&before, &average]);
    }
    for norm in ["bn_1", "bn_2"] {
        for part in ["running_mean", "running_var"] {
            let name = format!("clasifier.{norm}.{part}");
            fixture.check(&format!("final.{name}"), &after[&name].data, 2e-4);
        }
    }
    final_outputs(fixture, &step);
}

/// Norms of what three steps changed, for parameters with a real gradient: null ones move by noise.
fn check_moved(fixture: &mut Fixture, names: &[String], moved: &Tensors) {
    let table = fixture.take_wide("params_delta");
    let f32_table = fixture.take("params_delta");
    for (row, (name, want)) in names.iter().zip(table.chunks(11)).enumerate() {
        let norm = summary(name, &moved[name].data)[0];
        // Where the reference's own two precisions part, its rounding decided the direction.
        let own = (f32_table[11 * row] - want[0]).abs();
        let slack = 0.05 * want[0] + 20.0 * own + 3.0e-6;
        let detail = format!("three steps of {name}: norm {norm:e} instead of {:e}", want[0]);
        fixture.ratio(name, (norm - want[0]).abs() / slack, &detail);
    }
}

fn final_outputs(fixture: &mut Fixture, step: &Step) {
    let batch = step.batch;
    let config = &step.setup.model.config;
    let schedule = Schedule::new(&step.setup.diffusion).unwrap();
    let shape = [batch, config.image_size, config.image_size, config.in_channels];
    let mut probe = Probe::new(&step.setup, false);
    let start = probe.leaf("x_start", &shape);
    let noise = probe.leaf("noise", &shape);
    let time = probe.leaf("t", &[batch]);
    let coefficients = probe.leaf("coefficients", &[2 * batch]);
    let x_t = probe.builder.graph.q_sample(start, noise, coefficients).unwrap();
    let encoded = step.setup.model.unet.encode(&mut probe.builder, x_t, time).unwrap();
    let out = step.setup.model.unet.decode(&mut probe.builder, &encoded).unwrap();
    probe.result("out", out);
    let zero = probe.builder.graph.fill(batch, 0.0);
    let clean = step.setup.model.unet.encode(&mut probe.builder, start, zero).unwrap();
    let features = step.setup.model.classifier.features(&mut probe.builder, &clean, zero).unwrap();
    let logits = step.setup.model.classifier.logits(&mut probe.builder, features).unwrap();
    probe.result("logits", logits);
    let running = probe.load(&step.weights);
    let images = step.setup.images(batch);
    running.write_images("x_start", &images, &fixture.take_f32("step0.x_start"));
    running.write_images("noise", &images, &fixture.take_f32("step0.noise"));
    let indices: Vec<usize> = fixture.take("step0.t").iter().map(|t| *t as usize).collect();
    let times: Vec<f32> = indices.iter().map(|i| schedule.model_timestep(*i).unwrap()).collect();
    running.write("t", batch, &times);
    let mix: Vec<f32> = indices
        .iter()
        .flat_map(|i| {
            [schedule.sqrt_alphas_cumprod[*i] as f32, schedule.sqrt_one_minus_alphas_cumprod[*i] as f32]
        })
        .collect();
    running.write("coefficients", 2 * batch, &mix);
    running.run();
    // After three steps whose null gradients moved parameters by noise.
    fixture.check("final.model_out_on_step0", &running.read("out"), 1e-3);
    fixture.check("final.logits_eval_on_step0_clean", &running.read("logits"), 1e-3);
}
