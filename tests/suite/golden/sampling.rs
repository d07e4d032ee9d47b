//! Single steps of the reference's solvers, guided and unguided, and a guided chain.

use super::fixture::Fixture;
use super::setup::{Probe, Setup, write_labels};
use duet::diffusion::{Schedule, Solver};
use duet::model::WeightSet;
use duet::sampling::{Guidance, NoiseSource, Sampler, StepSpec};
use duet::weights::Weights;

const NETWORK: f64 = 2e-4;

fn sampler(setup: &Setup, weights: &Weights, respacing: &str, spec: StepSpec) -> Sampler {
    let spec = StepSpec { noise: NoiseSource::Given, ..spec };
    pollster::block_on(Sampler::new(weights, &setup.diffusion, respacing, spec, WeightSet::Raw)).unwrap()
}

/// Runs one step on `x` with noise `z` and returns the next image.
fn step(sampler: &Sampler, setup: &Setup, indices: &[usize], x: &[f32], z: &[f32], scale: f32) -> Vec<f32> {
    let images = setup.images(indices.len());
    sampler.set_images(x).unwrap();
    sampler.loaded().write("z", bytemuck::cast_slice(&images.to_device(z).unwrap())).unwrap();
    sampler.prepare(indices, scale).unwrap();
    sampler.loaded().write("alpha", bytemuck::bytes_of(&[scale, 0.0, 0.0, 0.0])).unwrap();
    sampler.loaded().run();
    pollster::block_on(sampler.get_images()).unwrap()
}

fn read_images(sampler: &Sampler, setup: &Setup, name: &str, batch: usize) -> Vec<f32> {
    let data = pollster::block_on(sampler.loaded().read(name)).unwrap();
    let mut images = setup.images(batch);
    if name == "model_out" {
        images.channels = setup.model.config.out_channels();
    }
    images.to_host(&data).unwrap()
}

/// The half of a network's output that is eps, and the one that says the variance; the second is empty where none is learned.
fn halves(out: &[f32], setup: &Setup) -> [Vec<f32>; 2] {
    let whole = setup.images(1).len();
    if !setup.model.config.learn_sigma {
        return [out.to_vec(), Vec::new()];
    }
    let half = |second: usize| {
        out.chunks(2 * whole).flat_map(|image| &image[second * whole..][..whole]).copied().collect()
    };
    [half(0), half(1)]
}

/// Compares a network's output with all of the reference's, or with its half that is eps.
fn check_output(fixture: &mut Fixture, name: &str, out: &[f32], setup: &Setup) {
    if fixture.has(name) {
        let [eps, _] = halves(out, setup);
        let whole = fixture.tensors[name].1.len() == out.len();
        fixture.check(name, if whole { out } else { &eps }, NETWORK);
    }
}

/// Compares variances at the timesteps of the rows: one number a row, or, where the network's output says them between two
/// bounds, one a value.
fn check_variances(fixture: &mut Fixture, prefix: &str, t: &[usize], out: &[f32], setup: &Setup) {
    let schedule = Schedule::new(&setup.diffusion).unwrap();
    let [eps, v] = halves(out, setup);
    let each = eps.len() / t.len();
    let logs: Vec<f64> = if setup.model.config.learn_sigma {
        let bounds =
            |row: usize| (schedule.log_betas[t[row]], schedule.posterior_log_variance_clipped[t[row]]);
        let log = |(i, v): (usize, &f32)| {
            let ((largest, least), share) = (bounds(i / each), 0.5 * (f64::from(*v) + 1.0));
            share * largest + (1.0 - share) * least
        };
        v.iter().enumerate().map(log).collect()
    } else {
        t.iter().map(|t| schedule.fixed_large_log_variance[*t]).collect()
    };
    let bound = if setup.model.config.learn_sigma { NETWORK } else { 1e-6 };
    for name in ["log_variance", "variance"] {
        let file = format!("{prefix}{name}");
        if !fixture.has(&file) {
            continue;
        }
        let values = logs.iter().map(|log| if name == "variance" { log.exp() } else { *log } as f32);
        // A file may repeat a row's one number for every value.
        let repeated = (fixture.tensors[&file].1.len() / logs.len()).max(1);
        let values: Vec<f32> = values.flat_map(|value| std::iter::repeat_n(value, repeated)).collect();
        fixture.check(&file, &values, bound);
    }
}

/// The files of single steps. What a file does not hold, such as guided steps or labels, is not asked for.
pub fn steps(fixture: &mut Fixture) {
    let setup = Setup::of(fixture);
    let weights = setup.upload();
    let (x, z) = (fixture.take_f32("x"), fixture.take_f32("z"));
    let y = fixture.has("y").then(|| fixture.take("y"));
    let batch = fixture.shape("x")[0];
    let numbers = |key: &str| -> Vec<f64> {
        let list = fixture.config.get(key).and_then(|list| list.as_array());
        list.into_iter().flatten().filter_map(|v| v.as_f64()).collect()
    };
    let (times, rates) = (numbers("timesteps"), numbers("sampling_lr"));
    for t in times.iter().map(|t| *t as usize) {
        let at = format!("t{t}.");
        if !fixture.any(|name| name.starts_with(&at)) {
            continue;
        }
        match &y {
            Some(y) => {
                representation(fixture, &setup, &weights, [&x, &z], y, t, &rates);
                gradients(fixture, &setup, &weights, &x, y, t);
            }
            None => fixture.fail(format!("steps at {t} are guided, but there are no labels y")),
        }
    }
    let groups: Vec<String> = fixture
        .tensors
        .keys()
        .filter_map(|k| k.strip_suffix(".t").filter(|g| g.starts_with("plain")).map(str::to_owned))
        .collect();
    for group in groups {
        plain(fixture, &setup, &weights, [&x, &z], y.as_deref(), &group, batch);
    }
}

/// Algorithm 1 at a timestep.
fn representation(
    fixture: &mut Fixture,
    setup: &Setup,
    weights: &Weights,
    [x, z]: [&[f32]; 2],
    y: &[f64],
    t: usize,
    rates: &[f64],
) {
    let batch = setup_batch(setup, x);
    let spec = StepSpec { guidance: Guidance::Representation, ..StepSpec::new(batch) };
    let sampler = sampler(setup, weights, "", spec);
    write_labels(sampler.loaded(), setup, y);
    let zeros = vec![0.0; z.len()];
    let mut out = Vec::new();
    for rate in rates.iter().map(|rate| *rate as f32) {
        let at = format!("t{t}.lr{rate}");
        let mean = step(&sampler, setup, &vec![t; batch], x, &zeros, rate);
        fixture.check_if_there(&format!("{at}.model_mean"), &mean, NETWORK);
        out = read_images(&sampler, setup, "model_out", batch);
        check_output(fixture, &format!("{at}.model_output"), &out, setup);
        let start = read_images(&sampler, setup, "pred_xstart", batch);
        fixture.check_if_there(&format!("{at}.pred_xstart"), &start, NETWORK);
        let next = step(&sampler, setup, &vec![t; batch], x, z, rate);
        fixture.check_if_there(&format!("{at}.img"), &next, NETWORK);
        let logits = pollster::block_on(sampler.logits()).unwrap();
        let logits = &logits[..batch * setup.model.config.num_classes];
        fixture.check_if_there(&format!("t{t}.logits"), logits, NETWORK);
    }
    // Variances are of the last rate's output.
    if !out.is_empty() {
        check_variances(fixture, &format!("t{t}."), &vec![t; batch], &out, setup);
    }
}

fn setup_batch(setup: &Setup, x: &[f32]) -> usize {
    x.len() / setup.images(1).len()
}

/// The gradients that Algorithm 1 follows: total derivatives for the bottleneck and every skip.
fn gradients(fixture: &mut Fixture, setup: &Setup, weights: &Weights, x: &[f32], y: &[f64], t: usize) {
    use duet::model::Head;
    let batch = setup_batch(setup, x);
    let config = &setup.model.config;
    let mut probe = Probe::new(setup, false);
    let image = probe.leaf("x", &[batch, config.image_size, config.image_size, config.in_channels]);
    let time = probe.leaf("t", &[batch]);
    let encoded = setup.model.unet.encode(&mut probe.builder, image, time).unwrap();
    let features = setup.model.classifier.features(&mut probe.builder, &encoded, time).unwrap();
    let logits = setup.model.classifier.logits(&mut probe.builder, features).unwrap();
    let values = if config.head == Head::Multiclass {
        let labels = probe.leaf("labels", &[batch]);
        probe.builder.graph.cross_entropy(logits, labels).unwrap()
    } else {
        let labels = probe.leaf("labels", &[batch, config.num_classes]);
        probe.builder.graph.bce(logits, labels, false).unwrap()
    };
    let loss = probe.builder.graph.weighted_sum(values, 1.0);
    let mut targets = encoded.skips.clone();
    targets.push(encoded.bottleneck);
    let list = probe.builder.graph.grad(loss, &targets).unwrap();
    for (i, gradient) in list.iter().enumerate() {
        probe.result(&format!("g{i}"), *gradient);
    }
    probe.result("loss", loss);
    let running = probe.load(weights);
    write_labels(&running.loaded, setup, y);
    running.write_images("x", &setup.images(batch), x);
    let schedule = Schedule::new(&setup.diffusion).unwrap();
    running.write("t", batch, &vec![schedule.model_timestep(t).unwrap(); batch]);
    running.run();
    fixture.check_if_there(&format!("t{t}.loss_sum"), &running.read("loss"), NETWORK);
    let last = targets.len() - 1;
    fixture.check_if_there(&format!("t{t}.h_grad"), &running.read(&format!("g{last}")), 1e-3);
    let name = format!("t{t}.grad_l2_sum");
    let rows = if fixture.has(&name) { fixture.take(&name) } else { Vec::new() };
    for (i, want) in rows.chunks(2).enumerate() {
        let data = running.read(&format!("g{i}"));
        let norm = data.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        let sum = data.iter().map(|v| f64::from(*v)).sum::<f64>();
        let noise = 20.0 * fixture.noise(&name);
        let slack = (1e-3 * want[0]).max(noise);
        let root = (data.len() as f64).sqrt();
        let what = format!("{name}[{i}]: norm {norm:e} instead of {:e}", want[0]);
        fixture.ratio(&name, (norm - want[0]).abs() / slack, &what);
        let slack = (1e-3 * want[0] * root).max(noise);
        let what = format!("{name}[{i}]: sum {sum:e} instead of {:e}", want[1]);
        fixture.ratio(&name, (sum - want[1]).abs() / slack, &what);
    }
}

/// Unguided and x_t-guided steps, each row at a timestep of its own.
fn plain(
    fixture: &mut Fixture,
    setup: &Setup,
    weights: &Weights,
    [x, z]: [&[f32]; 2],
    y: Option<&[f64]>,
    group: &str,
    batch: usize,
) {
    let t: Vec<usize> = fixture.take(&format!("{group}.t")).iter().map(|t| *t as usize).collect();
    let zeros = vec![0.0; z.len()];
    let base = StepSpec::new(batch);
    for clip in [true, false] {
        let kind = if clip { "clip" } else { "noclip" };
        let ancestral = sampler(setup, weights, "", StepSpec { clip, ..base });
        if clip {
            let mean = step(&ancestral, setup, &t, x, &zeros, 0.0);
            fixture.check_if_there(&format!("{group}.pmv.mean"), &mean, NETWORK);
            let out = read_images(&ancestral, setup, "model_out", batch);
            check_output(fixture, &format!("{group}.pmv.raw_out"), &out, setup);
            check_variances(fixture, &format!("{group}.pmv."), &t, &out, setup);
            let start = read_images(&ancestral, setup, "pred_xstart", batch);
            fixture.check_if_there(&format!("{group}.pmv.pred_xstart"), &start, NETWORK);
        }
        let next = step(&ancestral, setup, &t, x, z, 0.0);
        fixture.check_if_there(&format!("{group}.p_sample.{kind}"), &next, NETWORK);
        for eta in [0.0, 1.0] {
            let spec = StepSpec { clip, solver: Solver::ddim(eta), ..base };
            let name = format!("{group}.ddim.eta{eta}.{kind}");
            if fixture.has(&name) {
                let next = step(&sampler(setup, weights, "", spec), setup, &t, x, z, 0.0);
                fixture.check(&name, &next, NETWORK);
            }
        }
    }
    let ddim = StepSpec { clip: true, solver: Solver::ddim(0.0), ..base };
    let back = format!("{group}.ddim_reverse.clip");
    if fixture.has(&back) {
        let sampler = sampler(setup, weights, "", StepSpec { solver: Solver::ddim_reverse(), ..ddim });
        let previous = step(&sampler, setup, &t, x, &zeros, 0.0);
        fixture.check(&back, &previous, NETWORK);
    }

    for (name, spec) in [("guided_p_sample", StepSpec { clip: true, ..base }), ("guided_ddim_eta0", ddim)] {
        if !fixture.any(|tensor| tensor.starts_with(&format!("{group}.{name}."))) {
            continue;
        }
        let Some(y) = y else {
            fixture.fail(format!("{group}.{name} is guided, but there are no labels y"));
            continue;
        };
        let guided = sampler(setup, weights, "", StepSpec { guidance: Guidance::Gradient, ..spec });
        write_labels(guided.loaded(), setup, y);
        for scale in [1.0f32, 50.0] {
            let name = format!("{group}.{name}.scale{scale}");
            if fixture.has(&name) {
                let next = step(&guided, setup, &t, x, z, scale);
                fixture.check(&name, &next, NETWORK);
            }
        }
    }
    match y {
        Some(y) if fixture.has(&format!("{group}.cond_grad")) => {
            image_gradient(fixture, setup, weights, x, y, &t, group);
        }
        _ => {}
    }
}

/// The gradient of the log probability on x_t.
fn image_gradient(
    fixture: &mut Fixture,
    setup: &Setup,
    weights: &Weights,
    x: &[f32],
    y: &[f64],
    t: &[usize],
    group: &str,
) {
    use duet::model::Head;
    let batch = t.len();
    let config = &setup.model.config;
    let schedule = Schedule::new(&setup.diffusion).unwrap();
    let mut probe = Probe::new(setup, false);
    let image = probe.leaf("x", &[batch, config.image_size, config.image_size, config.in_channels]);
    let time = probe.leaf("t", &[batch]);
    let encoded = setup.model.unet.encode(&mut probe.builder, image, time).unwrap();
    let features = setup.model.classifier.features(&mut probe.builder, &encoded, time).unwrap();
    let logits = setup.model.classifier.logits(&mut probe.builder, features).unwrap();
    let values = if config.head == Head::Multiclass {
        let labels = probe.leaf("labels", &[batch]);
        probe.builder.graph.cross_entropy(logits, labels).unwrap()
    } else {
        let labels = probe.leaf("labels", &[batch, config.num_classes]);
        probe.builder.graph.bce(logits, labels, false).unwrap()
    };
    let loss = probe.builder.graph.weighted_sum(values, -1.0);
    let gradient = probe.builder.graph.grad(loss, &[image]).unwrap()[0];
    probe.result("gradient", gradient);
    let running = probe.load(weights);
    write_labels(&running.loaded, setup, y);
    running.write_images("x", &setup.images(batch), x);
    let times: Vec<f32> = t.iter().map(|t| schedule.model_timestep(*t).unwrap()).collect();
    running.write("t", batch, &times);
    running.run();
    fixture.check(&format!("{group}.cond_grad"), &running.read("gradient"), 1e-3);
}

/// A whole respaced chain of Algorithm 1 with given noise.
pub fn chain(fixture: &mut Fixture) {
    /// Bar for a chain: share of full scale.
    const CHAIN: f64 = 2e-3;
    let setup = Setup::of(fixture);
    let weights = setup.upload();
    let batch = fixture.shape("x_T")[0];
    if !fixture.has("y") {
        return fixture.fail("a chain is guided, but there are no labels y".into());
    }
    let y = fixture.take("y");
    let alpha = fixture.config["sampling_lr"].as_f64().expect("sampling_lr") as f32;
    let spec = StepSpec { guidance: Guidance::Representation, ..StepSpec::new(batch) };
    let sampler = sampler(&setup, &weights, &setup.respacing, spec);
    write_labels(sampler.loaded(), &setup, &y);
    let map = fixture.take("timestep_map");
    assert!(sampler.schedule().timestep_map.iter().zip(&map).all(|(a, b)| *a as f64 == *b));
    assert_eq!(sampler.schedule().len(), map.len());
    let z = fixture.take_f32("z");
    let mut x = fixture.take_f32("x_T");
    let mut rows = |name: &str| if fixture.has(name) { fixture.take(name) } else { Vec::new() };
    let per_step = rows("img_l2_sum_per_step");
    let logits_per_step = rows("logits_per_step");
    let classes = batch * setup.model.config.num_classes;
    let steps = map.len();
    for (done, index) in (0..steps).rev().enumerate() {
        let noise = &z[index * x.len()..(index + 1) * x.len()];
        x = step(&sampler, &setup, &vec![index; batch], &x, noise, alpha);
        let logits = pollster::block_on(sampler.logits()).unwrap();
        if let Some(want) = logits_per_step.get(done * classes..(done + 1) * classes) {
            let scale = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            fixture.compare("logits_per_step", &logits[..classes], want, CHAIN * scale);
        }
        let norm = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        let sum = x.iter().map(|v| f64::from(*v)).sum::<f64>();
        if let Some(want) = per_step.get(2 * done..2 * done + 2) {
            let root = (x.len() as f64).sqrt();
            fixture.ratio("img_l2_sum_per_step", (norm - want[0]).abs() / (CHAIN * want[0]), "image norm");
            fixture.ratio(
                "img_l2_sum_per_step",
                (sum - want[1]).abs() / (CHAIN * want[0] * root),
                "image sum",
            );
        }
        if done == 4 {
            fixture.check_if_there("img_after_5_steps", &x, CHAIN);
        }
    }
    fixture.check_if_there("img_final", &x, CHAIN);
    if fixture.has("img_uint8") {
        let bytes: Vec<f32> =
            x.iter().map(|v| ((f64::from(*v) + 1.0) * 127.5).clamp(0.0, 255.0).trunc() as f32).collect();
        let want = fixture.take("img_uint8");
        // Truncation turns the smallest difference into a whole grey level.
        fixture.compare("img_uint8", &bytes, &want, 1.0);
    }
}
