//! Timestep embedding and forward diffusion against their twins.

use super::harness::{Harness, assert_close, values, wide};
use duet::ops::{diffuse, timestep_embedding};

#[test]
fn embeddings_match_at_every_timestep() {
    // Odd dimensions end in a zero column; fractional timesteps come from rescaled chains.
    for dim in [2usize, 7, 32, 128, 129] {
        let t: Vec<f32> =
            (0..1000).step_by(9).map(|t| t as f32).chain([0.5, 333.25, 999.0, 3999.0]).collect();
        let table = timestep_embedding::frequencies(dim);
        let mut h = Harness::new();
        let (tt, tf) = (h.input(&[t.len()], &t), h.input(&[table.len()], &table));
        let y = h.output(&[t.len(), dim]);
        h.run(timestep_embedding::forward(t.len(), dim, tt.slice, tf.slice, y.slice));
        let half = dim / 2;
        let want: Vec<f64> = t
            .iter()
            .flat_map(|t| {
                let table = &table;
                (0..dim).map(move |k| match k {
                    // The product is rounded to f32, as in the reference.
                    k if k < half => f64::from(t * table[k]).cos(),
                    k if k < 2 * half => f64::from(t * table[k - half]).sin(),
                    _ => 0.0,
                })
            })
            .collect();
        assert_close(&format!("dimension {dim}"), &h.read(&y), &want, 3e-7);
    }
}

#[test]
fn frequencies_fall_from_one_to_a_ten_thousandth() {
    let table = timestep_embedding::frequencies(128);
    let want: Vec<f64> = (0..64).map(|k| (-(10_000f64.ln()) * f64::from(k) / 64.0).exp()).collect();
    assert_close("frequencies", &table, &want, 1e-6);
}

#[test]
fn forward_diffusion_mixes_image_and_noise() {
    for (batch, pixels, channels) in [(1, 1, 1), (3, 49, 3), (2, 784, 1), (5, 7, 6)] {
        let shape = [batch, pixels, channels];
        let (x_start, noise) = (values(1, batch * pixels * channels), values(2, batch * pixels * channels));
        let factors: Vec<f32> = values(3, 2 * batch);
        let mut h = Harness::new();
        let (tx, tn) = (h.input(&shape, &x_start), h.input(&shape, &noise));
        let tf = h.input(&[2 * batch], &factors);
        let y = h.output(&shape);
        h.run(diffuse::q_sample(batch, pixels, channels, [tx.slice, tn.slice, tf.slice], y.slice));
        let (x_start, noise, factors) = (wide(&x_start), wide(&noise), wide(&factors));
        let want: Vec<f64> = (0..x_start.len())
            .map(|i| {
                let n = i / (pixels * channels);
                factors[2 * n] * x_start[i] + factors[2 * n + 1] * noise[i]
            })
            .collect();
        assert_close("x_t", &h.read(&y), &want, 1e-6);
    }
}
