//! The variational term of a learned sigma: an f64 twin against the reference's pieces, the kernel against the twin.

use crate::golden::Fixture;
use crate::harness::{Harness, assert_close, assert_gradient, dot, values, wide};
use duet::ops::total::Dloss;
use duet::ops::variational::{self, Variational};

/// Normal CDF by tanh, as the reference approximates it.
fn cdf(z: f64) -> f64 {
    0.5 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (z + 0.044715 * z.powi(3))).tanh())
}

/// Its lower tail without cancellation.
fn tail(z: f64) -> f64 {
    let a = 2.0 * (2.0 / std::f64::consts::PI).sqrt() * (z + 0.044715 * z.powi(3));
    1.0 / (1.0 + (-a).exp())
}

fn normal_kl(mean1: f64, logvar1: f64, mean2: f64, logvar2: f64) -> f64 {
    0.5 * (-1.0 + logvar2 - logvar1 + (logvar1 - logvar2).exp() + (mean1 - mean2).powi(2) * (-logvar2).exp())
}

/// Log of the mass of x's bin; differences of the smaller tails keep their digits.
fn discretised(x: f64, mean: f64, log_scale: f64) -> f64 {
    let inverse = (-log_scale).exp();
    let above = (x - mean + 1.0 / 255.0) * inverse;
    let below = (x - mean - 1.0 / 255.0) * inverse;
    let mass = if x < -0.999 {
        tail(above)
    } else if x > 0.999 {
        tail(-below)
    } else if below > 0.0 {
        tail(-below) - tail(-above)
    } else {
        tail(above) - tail(below)
    };
    mass.max(1e-12).ln()
}

/// The twin's pieces against the reference's.
pub fn compare_pieces(fixture: &mut Fixture, name: &str) {
    let at = |part: &str| format!("{name}/{part}");
    let mut read = |part: &str| fixture.take(&at(part));
    let (x, mean1, logvar1) = (read("in.x"), read("in.mean1"), read("in.logvar1"));
    let (mean2, logvar2) = (read("in.mean2"), read("in.logvar2"));
    let kl: Vec<f32> =
        (0..x.len()).map(|i| normal_kl(mean1[i], logvar1[i], mean2[i], logvar2[i]) as f32).collect();
    let likelihood: Vec<f32> =
        (0..x.len()).map(|i| discretised(x[i], mean2[i], 0.5 * logvar2[i]) as f32).collect();
    let mass: Vec<f32> = mean1.iter().map(|m| cdf(5.0 * m) as f32).collect();
    for (part, got) in [("out.normal_kl", kl), ("out.disc_loglik", likelihood), ("out.cdf", mass)] {
        agreeing(fixture, &at(part), &got, 1e-5);
    }
    let step = 1e-6;
    let slope = |f: &dyn Fn(f64) -> f64, at: f64| ((f(at + step) - f(at - step)) / (2.0 * step)) as f32;
    for (part, piece) in [("normal_kl", 0), ("disc_loglik", 1)] {
        for (variable, by_mean) in [("mean2", true), ("logvar2", false)] {
            let got: Vec<f32> = (0..x.len())
                .map(|i| {
                    let f = |v: f64| {
                        let (m, l) = if by_mean { (v, logvar2[i]) } else { (mean2[i], v) };
                        if piece == 0 {
                            normal_kl(mean1[i], logvar1[i], m, l)
                        } else {
                            discretised(x[i], m, 0.5 * l)
                        }
                    };
                    slope(&f, if by_mean { mean2[i] } else { logvar2[i] })
                })
                .collect();
            agreeing(fixture, &at(&format!("grad.{part}.{variable}")), &got, 1e-4);
        }
    }
}

/// Compares the elements in which the reference's two precisions agree: the log of a difference of CDFs cancels in f32,
/// and where it is clamped the slope is a matter of the last bit.
fn agreeing(fixture: &mut Fixture, name: &str, got: &[f32], bound: f64) {
    let single = fixture.take(name);
    let double = fixture.take(&format!("{name}_f64"));
    let scale = double.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let (mut picked, mut want) = (Vec::new(), Vec::new());
    for ((g, s), d) in got.iter().zip(&single).zip(&double) {
        if (s - d).abs() <= 1e-3 * d.abs() + 1e-6 * scale {
            picked.push(*g);
            want.push(*d);
        }
    }
    assert!(want.len() * 10 >= got.len(), "{name}: hardly any element is comparable");
    fixture.compare(name, &picked, &want, bound * scale);
}

/// Per-sample term in bits of the twin.
pub fn twin(
    size: &Variational,
    out: &[f64],
    start: &[f64],
    noised: &[f64],
    coefficients: &[f64],
) -> Vec<f64> {
    let (pixels, channels) = (size.pixels, size.channels);
    (0..size.batch)
        .map(|n| {
            let k = &coefficients[8 * n..8 * n + 8];
            let mut sum = 0.0;
            for p in 0..pixels {
                for c in 0..channels {
                    let pixel = n * pixels + p;
                    let (eps, v) = (out[pixel * 2 * channels + c], out[pixel * 2 * channels + channels + c]);
                    let (x, x_t) = (start[pixel * channels + c], noised[pixel * channels + c]);
                    let f = 0.5 * (v + 1.0);
                    let log_var = f * k[5] + (1.0 - f) * k[4];
                    let mean = k[0] * (k[2] * x_t - k[3] * eps) + k[1] * x_t;
                    sum += if k[6] != 0.0 {
                        -discretised(x, mean, 0.5 * log_var)
                    } else {
                        normal_kl(k[0] * x + k[1] * x_t, k[4], mean, log_var)
                    };
                }
            }
            sum / ((pixels * channels) as f64 * std::f64::consts::LN_2)
        })
        .collect()
}

#[test]
fn the_term_and_its_gradient_match_the_twin() {
    use duet::diffusion::{DiffusionConfig, Schedule};
    let schedule = Schedule::new(&DiffusionConfig::default()).unwrap();
    for (batch, pixels, channels) in [(1, 1, 1), (3, 49, 1), (2, 35, 3), (4, 9, 5)] {
        let size = Variational { batch, pixels, channels };
        let mut start = values(1, batch * pixels * channels);
        // Open outermost bins too.
        start.iter_mut().step_by(5).for_each(|v| *v = v.signum());
        let times = [0usize, 1, 37, 999];
        let coefficients: Vec<f32> =
            (0..batch).flat_map(|n| schedule.vb_coefficients(times[(n + pixels) % 4]).unwrap()).collect();
        let noise = values(2, start.len());
        // Near enough to the truth that no mass is lost in rounding.
        let noised: Vec<f32> = start.iter().zip(&noise).map(|(x, z)| x + 0.02 * z).collect();
        let out = values(3, batch * pixels * 2 * channels);
        let weights = values(4, batch);
        let mut h = Harness::new();
        let o = h.input(&[batch, pixels, 2 * channels], &out);
        let s = h.input(&[batch, pixels, channels], &start);
        let t = h.input(&[batch, pixels, channels], &noised);
        let k = h.words(bytemuck::cast_slice(&coefficients));
        let dl = h.input(&[batch], &weights);
        let y = h.output(&[batch]);
        let d = h.output(&[batch, pixels, 2 * channels]);
        let reads = [o.slice, s.slice, t.slice, k];
        let mut launches = variational::forward(&size, reads, y.slice);
        let reads = [o.slice, s.slice, t.slice, k, dl.slice];
        launches.extend(variational::grad(&size, Dloss::EACH, reads, d.slice));
        h.run(launches);
        let k64 = wide(&coefficients);
        let (start, noised) = (wide(&start), wide(&noised));
        let run = |out: &[f64]| twin(&size, out, &start, &noised, &k64);
        // The mass of a bin is a difference of nearly equal CDFs.
        assert_close("vb", &h.read(&y), &run(&wide(&out)), 1e-4);
        let gradient = h.read(&d);
        // Only v has a gradient: eps is cut off, so the twin's differences are taken along v alone.
        let (mut v, mut got) = (Vec::new(), Vec::new());
        for (pixel, row) in out.chunks(2 * channels).enumerate() {
            v.extend(wide(&row[channels..]));
            let g = &gradient[pixel * 2 * channels..(pixel + 1) * 2 * channels];
            assert!(g[..channels].iter().all(|e| *e == 0.0), "eps must receive no gradient");
            got.extend_from_slice(&g[channels..]);
        }
        let base = wide(&out);
        assert_gradient("vb", &got, &v, |v| {
            let mut out = base.clone();
            for (row, v) in out.chunks_mut(2 * channels).zip(v.chunks(channels)) {
                row[channels..].copy_from_slice(v);
            }
            dot(&run(&out), &wide(&weights))
        });
    }
}

#[test]
fn the_term_is_the_same_whatever_the_network_predicts() {
    use duet::diffusion::{DiffusionConfig, Prediction, Schedule};
    let schedule = Schedule::new(&DiffusionConfig::default()).unwrap();
    let size = Variational { batch: 4, pixels: 35, channels: 3 };
    let len = size.pixels * size.channels;
    let (start, noise, v) = (values(1, 4 * len), values(2, 4 * len), values(3, 4 * len));
    let times = [0, 3, 200, 900];
    let kept = |n: usize| schedule.alphas_cumprod[times[n]];
    let mixed = |n: usize, a: f64, b: f64| kept(n).sqrt() * a + (1.0 - kept(n)).sqrt() * b;
    // The noise is told to 5 %, and what else is predicted follows from it: x0 and v of the same x_t.
    let each = |i: usize| {
        let (n, x0, eps) = (i / len, f64::from(start[i]), f64::from(noise[i]));
        let (x_t, told) = (mixed(n, x0, eps), 0.95 * eps);
        let told_x0 = (x_t - (1.0 - kept(n)).sqrt() * told) / kept(n).sqrt();
        (n, x_t, told, told_x0)
    };
    let x_t: Vec<f32> = (0..4 * len).map(|i| each(i).1 as f32).collect();
    let term = |prediction: Prediction| {
        let out: Vec<f32> = (0..4 * len)
            .map(|i| {
                let (n, _, eps, x0) = each(i);
                let out = match prediction {
                    Prediction::Eps => eps,
                    Prediction::XStart => x0,
                    Prediction::V => mixed(n, eps, -x0),
                };
                out as f32
            })
            .collect();
        let out: Vec<f32> = out.chunks(3).zip(v.chunks(3)).flat_map(|(p, v)| [p, v].concat()).collect();
        let coefficients: Vec<f32> =
            times.iter().flat_map(|t| schedule.vb_coefficients_of(*t, prediction).unwrap()).collect();
        let want = twin(&size, &wide(&out), &wide(&start), &wide(&x_t), &wide(&coefficients));
        let mut h = Harness::new();
        let o = h.input(&[4, 35, 6], &out).slice;
        let [s, x] = [&start, &x_t].map(|data| h.input(&[4, 35, 3], data).slice);
        let k = h.words(bytemuck::cast_slice(&coefficients));
        let y = h.output(&[4]);
        h.run(variational::forward(&size, [o, s, x, k], y.slice));
        assert_close(&format!("{prediction:?}"), &h.read(&y), &want, 1e-3);
        want
    };
    let eps = term(Prediction::Eps);
    for prediction in [Prediction::XStart, Prediction::V] {
        for (got, want) in term(prediction).iter().zip(&eps) {
            assert!((got - want).abs() <= 1e-3 * want.abs(), "{prediction:?}: {got} instead of {want}");
        }
    }
}

#[test]
fn a_vanishing_divergence_keeps_its_digits() {
    use duet::diffusion::{DiffusionConfig, Schedule};
    // At large steps both variances are nearly the same, and the divergence is what is left of terms near 1.
    let schedule = Schedule::new(&DiffusionConfig::default()).unwrap();
    let size = Variational { batch: 1, pixels: 49, channels: 3 };
    let (start, noise, v) = (values(1, 147), values(2, 147), values(3, 147));
    for t in [900, 500, 100] {
        let coefficients = schedule.vb_coefficients(t).unwrap();
        let mix = [schedule.sqrt_alphas_cumprod[t] as f32, schedule.sqrt_one_minus_alphas_cumprod[t] as f32];
        let noised: Vec<f32> = start.iter().zip(&noise).map(|(x, z)| mix[0] * x + mix[1] * z).collect();
        // The network predicts the noise.
        let out: Vec<f32> = noise.chunks(3).zip(v.chunks(3)).flat_map(|(eps, v)| [eps, v].concat()).collect();
        let mut h = Harness::new();
        let o = h.input(&[1, 49, 6], &out).slice;
        let [s, x_t] = [&start, &noised].map(|data| h.input(&[1, 49, 3], data).slice);
        let k = h.words(bytemuck::cast_slice(&coefficients));
        let dl = h.input(&[1], &[1.0]).slice;
        let (y, gradient) = (h.output(&[1]), h.output(&[1, 49, 6]));
        let mut launches = variational::forward(&size, [o, s, x_t, k], y.slice);
        launches.extend(variational::grad(&size, Dloss::EACH, [o, s, x_t, k, dl], gradient.slice));
        h.run(launches);
        let k = wide(&coefficients);
        let (mut divergence, mut slopes) = (0.0, Vec::new());
        for i in 0..147 {
            let difference =
                k[0] * (f64::from(start[i]) - (k[2] * f64::from(noised[i]) - k[3] * f64::from(noise[i])));
            let wider = 0.5 * (f64::from(v[i]) + 1.0) * (k[5] - k[4]);
            let square = difference.powi(2) * (-(k[4] + wider)).exp();
            let fall = -(-wider).exp_m1();
            divergence += 0.5 * (wider - fall + square);
            slopes.push(0.25 * (k[5] - k[4]) * (fall - square));
        }
        let scale = 1.0 / (147.0 * std::f64::consts::LN_2);
        let got = h.read(&gradient);
        let got: Vec<f32> = got.chunks(6).flat_map(|row| row[3..].to_vec()).collect();
        let want: Vec<f64> = slopes.iter().map(|s| s * scale).collect();
        assert_close(&format!("slope at {t}"), &got, &want, 1e-4);
        assert_close(&format!("divergence at {t}"), &h.read(&y), &[divergence * scale], 1e-4);
    }
}
