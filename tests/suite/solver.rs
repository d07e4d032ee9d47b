//! Denoising steps against an f64 twin that follows the equations with the schedule's own tables.

use super::harness::{Harness, assert_close, values, wide};
use duet::diffusion::{DiffusionConfig, Prediction, Schedule, Solver, StepAt};
use duet::ops::solver::{self, COEFFICIENTS, SolverStep, Sources};

/// Batch, pixels, channels.
const IMAGES: [[usize; 3]; 4] = [[1, 1, 1], [3, 49, 1], [4, 35, 3], [3, 196, 5]];

/// Step of each sample, repeating: the last step, which adds no noise, among them.
const TIMES: [usize; 4] = [0, 999, 1, 500];

/// What one step is made of.
struct Step<'a> {
    schedule: &'a Schedule,
    size: SolverStep,
    chain: Chain,
    prediction: Prediction,
    /// Scale of the guiding gradient, where there is one.
    guidance: Option<f32>,
}

#[derive(Clone, Copy, Debug)]
enum Chain {
    Ancestral,
    Ddim { eta: f64 },
    Reverse,
}

impl Chain {
    fn solver(self) -> Solver {
        match self {
            Chain::Ancestral => Solver::ancestral(),
            Chain::Ddim { eta } => Solver::ddim(eta),
            Chain::Reverse => Solver::ddim_reverse(),
        }
    }
}

/// What a step reads of one element.
struct Element {
    index: usize,
    x_t: f64,
    model: f64,
    variance: f64,
    z: f64,
    gradient: f64,
}

impl Step<'_> {
    /// The next x and the predicted x_start of one element.
    fn twin(&self, e: &Element) -> [f64; 2] {
        let (s, t) = (self.schedule, e.index);
        let (alpha, before) = (s.alphas_cumprod[t], s.alphas_cumprod_prev[t]);
        let x_start = |eps: f64| (e.x_t - (1.0 - alpha).sqrt() * eps) / alpha.sqrt();
        let mut x0 = match self.prediction {
            Prediction::Eps => x_start(e.model),
            Prediction::XStart => e.model,
            Prediction::V => alpha.sqrt() * e.x_t - (1.0 - alpha).sqrt() * e.model,
        };
        if self.size.clip {
            x0 = x0.clamp(-1.0, 1.0);
        }
        let z = if t == 0 { 0.0 } else { e.z };
        if let Chain::Ancestral = self.chain {
            let beta = s.betas[t];
            let mut log_var = s.fixed_large_variance[t].ln();
            if self.size.learned_variance {
                let f = (e.variance + 1.0) / 2.0;
                log_var = f * beta.ln() + (1.0 - f) * s.posterior_log_variance_clipped[t];
            }
            let mut mean =
                (beta * before.sqrt() * x0 + (1.0 - before) * (1.0 - beta).sqrt() * e.x_t) / (1.0 - alpha);
            mean += log_var.exp() * f64::from(self.guidance.unwrap_or(0.0)) * e.gradient;
            return [mean + (0.5 * log_var).exp() * z, x0];
        }
        let mut eps = (e.x_t - alpha.sqrt() * x0) / (1.0 - alpha).sqrt();
        if let Some(scale) = self.guidance {
            eps -= (1.0 - alpha).sqrt() * f64::from(scale) * e.gradient;
            x0 = x_start(eps);
        }
        match self.chain {
            Chain::Ddim { eta } => {
                let sigma = eta * ((1.0 - before) / (1.0 - alpha)).sqrt() * (1.0 - alpha / before).sqrt();
                [before.sqrt() * x0 + (1.0 - before - sigma * sigma).max(0.0).sqrt() * eps + sigma * z, x0]
            }
            _ => {
                let after = s.alphas_cumprod_next[t];
                [after.sqrt() * x0 + (1.0 - after).sqrt() * eps, x0]
            }
        }
    }

    fn coefficients(&self, index: usize) -> Vec<f32> {
        let at = StepAt {
            schedule: self.schedule,
            index,
            before: None,
            prediction: self.prediction,
            learned_variance: self.size.learned_variance,
            scale: f64::from(self.guidance.unwrap_or(0.0)),
        };
        self.chain.solver().coefficients(&at).unwrap().words().to_vec()
    }

    /// Runs the step on the device and compares it with the twin.
    fn check(&self) {
        let SolverStep { batch, pixels, channels, model_channels, .. } = self.size;
        let index = |n: usize| TIMES[(n + pixels) % TIMES.len()];
        let shape = [batch, pixels, channels];
        let count = batch * pixels * channels;
        let [x_t, z, gradient] = [1, 2, 3].map(|seed| values(seed, count));
        let model_out = values(4, batch * pixels * model_channels);
        let mut h = Harness::new();
        let model = h.input(&[batch, pixels, model_channels], &model_out).slice;
        let [x, noise, guide] = [&x_t, &z, &gradient].map(|data| h.input(&shape, data));
        let coefficients: Vec<f32> = (0..batch).flat_map(|n| self.coefficients(index(n))).collect();
        assert_eq!(coefficients.len(), COEFFICIENTS * batch);
        let coefficients = h.words(bytemuck::cast_slice(&coefficients));
        // Filled with NaN, which a step without a memory must not read.
        let pred_xstart = h.output(&shape);
        let gradient_slice = self.guidance.map(|_| guide.slice);
        let sources = Sources { noise: noise.slice, gradient: gradient_slice };
        let state = [x.slice, pred_xstart.slice];
        h.run(solver::step(&self.size, model, sources, coefficients, state));
        let [x_t, z, gradient, model_out] = [&x_t, &z, &gradient, &model_out].map(|data| wide(data));
        let [got_x, got_start] = [h.read(&x), h.read(&pred_xstart)];
        // Each sample by itself: those at large steps reach values a hundred times those of the others.
        let row = pixels * channels;
        for n in 0..batch {
            let elements = n * row..(n + 1) * row;
            let twin = |i: usize| {
                let at = i / channels * model_channels + i % channels;
                let variance = if self.size.learned_variance { model_out[at + channels] } else { 0.0 };
                let (x_t, z, gradient) = (x_t[i], z[i], gradient[i]);
                self.twin(&Element { index: index(n), x_t, model: model_out[at], variance, z, gradient })
            };
            let want: Vec<[f64; 2]> = elements.clone().map(twin).collect();
            let part = |k: usize| want.iter().map(|pair| pair[k]).collect::<Vec<f64>>();
            let what = format!(
                "{:?} {:?} {:?} {:?}, sample {n}",
                self.chain, self.prediction, self.size, self.guidance
            );
            // x_start is a difference of values 1 / sqrt(alphas_cumprod) times as large, and clipping removes the scale
            // that their rounding is relative to.
            let recip = 1.0 / self.schedule.alphas_cumprod[index(n)].sqrt();
            let bound = if self.size.clip { (3e-7 * recip).max(1e-5) } else { 1e-5 };
            assert_close(&format!("x of {what}"), &got_x[elements.clone()], &part(0), 1e-5);
            assert_close(&format!("x_start of {what}"), &got_start[elements], &part(1), bound);
        }
    }
}

/// Every combination of what a chain knows, for every image.
fn check_all(chains: &[Chain], learned: &[bool]) {
    let schedule = Schedule::new(&DiffusionConfig::default()).unwrap();
    for (&[batch, pixels, channels], &chain) in IMAGES.iter().flat_map(|i| chains.iter().map(move |c| (i, c)))
    {
        for prediction in [Prediction::Eps, Prediction::XStart, Prediction::V] {
            for flags in 0..4 {
                let [clip, guided] = [1, 2].map(|bit| flags & bit != 0);
                for &learned_variance in learned {
                    let model_channels = if learned_variance { 2 * channels } else { channels };
                    let size = SolverStep { batch, pixels, channels, model_channels, clip, learned_variance };
                    let guidance = guided.then_some(3.0);
                    Step { schedule: &schedule, size, chain, prediction, guidance }.check();
                }
            }
        }
    }
}

#[test]
fn ancestral_steps_equal_the_twin() {
    check_all(&[Chain::Ancestral], &[false, true]);
}

#[test]
fn ddim_steps_equal_the_twin() {
    // With a learned variance the output is wider; DDIM uses its first half alone.
    check_all(&[Chain::Ddim { eta: 0.0 }, Chain::Ddim { eta: 1.0 }], &[false, true]);
}

#[test]
fn reverse_ddim_steps_equal_the_twin() {
    check_all(&[Chain::Reverse], &[false]);
}

#[test]
fn a_clip_keeps_what_is_not_finite() {
    let (batch, pixels, channels) = (1, 3, 2);
    let shape = [batch, pixels, channels];
    let mut h = Harness::new();
    let x = h.input(&shape, &[0.5; 6]);
    let model = h.input(&shape, &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e38, -7.0, 0.25]);
    // x0 = 2 · out, which takes the fourth element beyond the range; x' = x0.
    let mut coefficients = [0.0f32; COEFFICIENTS];
    (coefficients[1], coefficients[3]) = (2.0, 1.0);
    let words = h.words(bytemuck::cast_slice(&coefficients));
    let (noise, pred_xstart) = (h.input(&shape, &[0.0; 6]), h.output(&shape));
    let size =
        SolverStep { batch, pixels, channels, model_channels: channels, clip: true, learned_variance: false };
    let sources = Sources { noise: noise.slice, gradient: None };
    h.run(solver::step(&size, model.slice, sources, words, [x.slice, pred_xstart.slice]));
    for got in [h.read(&x), h.read(&pred_xstart)] {
        assert!(got[..4].iter().all(|v| !v.is_finite()), "{got:?}");
        assert_eq!(got[4..], [-1.0, 0.5]);
    }
}

#[test]
fn memory_is_read_where_the_coefficients_say() {
    let (batch, pixels, channels) = (2, 9, 3);
    let (shape, count) = ([batch, pixels, channels], batch * pixels * channels);
    let [x_t, model_out, memory, z] = [1, 2, 3, 4].map(|seed| values(seed, count));
    let coefficients: [[f32; COEFFICIENTS]; 2] = [
        [0.5, 0.25, 0.75, -0.5, 0.3, 0.9, 0.0, 0.0, 0.0, 0.0],
        [0.0, 1.0, 0.0, 1.0, -0.6, 0.0, 0.0, 0.0, 0.0, 0.0],
    ];
    let mut h = Harness::new();
    let [x, model, pred_xstart, noise] = [&x_t, &model_out, &memory, &z].map(|data| h.input(&shape, data));
    let words = h.words(bytemuck::cast_slice(coefficients.as_flattened()));
    let size = SolverStep {
        batch,
        pixels,
        channels,
        model_channels: channels,
        clip: false,
        learned_variance: false,
    };
    let sources = Sources { noise: noise.slice, gradient: None };
    h.run(solver::step(&size, model.slice, sources, words, [x.slice, pred_xstart.slice]));
    let want: Vec<[f64; 2]> = (0..count)
        .map(|i| {
            let k = coefficients[i / (pixels * channels)].map(f64::from);
            let of = |data: &[f32]| f64::from(data[i]);
            let x0 = k[0] * of(&x_t) + k[1] * of(&model_out);
            [k[2] * of(&x_t) + k[3] * x0 + k[4] * of(&memory) + k[5] * of(&z), x0]
        })
        .collect();
    let part = |k: usize| want.iter().map(|pair| pair[k]).collect::<Vec<f64>>();
    assert_close("x", &h.read(&x), &part(0), 1e-6);
    assert_close("x_start", &h.read(&pred_xstart), &part(1), 1e-6);
}
