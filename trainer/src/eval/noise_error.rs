//! How well the network predicts noise, by quarter of the chain.

use super::{Measured, Task};
use crate::cli::Eval;
use crate::data::Dataset;
use crate::io::session::Session;
use duet::Result;
use duet::infer::DenoisingError;
use duet::rng::{Seed, Stream, uniform_u32_below};

/// Test images that the noise error is measured on.
fn images(session: &Session, options: &Eval, test: &Dataset) -> usize {
    if session.checkpoint.classifier_only { 0 } else { options.loss_images.min(test.len()) }
}

/// Mean noise error in each quarter of the chain, of `count` images of [`Dataset::spread`], `batch` at a time, with timesteps and
/// noise by the seed.
///
/// # Errors
/// An error that is not finite; device errors.
pub fn by_quarter(
    session: &Session,
    test: &Dataset,
    count: usize,
    batch: usize,
    seed: u64,
) -> Result<[f64; 4]> {
    let diffusion = &session.checkpoint.diffusion;
    let new = DenoisingError::new(&session.weights, diffusion, batch, session.set);
    let error = pollster::block_on(new)?;
    let (steps, seed) = (diffusion.diffusion_steps, Seed(seed));
    let mut sums = [0.0f64; 4];
    let all = test.spread(count);
    for (quarter, sum) in sums.iter_mut().enumerate() {
        let (from, to) = (quarter * steps / 4, ((quarter + 1) * steps / 4).max(quarter * steps / 4 + 1));
        for (number, part) in all.chunks(batch).enumerate() {
            let width = (to.min(steps) - from.min(steps - 1)).max(1) as u32;
            // The last batch is filled up with its own images, which do not count again.
            let rows: Vec<usize> = (0..batch).map(|i| part[i % part.len()]).collect();
            let times: Vec<usize> = rows
                .iter()
                .map(|i| {
                    let offset = uniform_u32_below(width, seed, Stream::Timestep, quarter as u32, *i as u32);
                    (from.min(steps - 1)) + offset as usize
                })
                .collect();
            let images = test.images_f32(&rows);
            let first = (number * batch) as u32;
            let values = pollster::block_on(error.measure(&images, &times, seed, first))?;
            *sum += values[..part.len()].iter().map(|v| f64::from(*v)).sum::<f64>();
        }
        *sum /= all.len().max(1) as f64;
    }
    Ok(sums)
}

/// The noise error by quarter of the chain.
pub(super) fn measure(task: &Task<'_>) -> Result<Measured> {
    let (session, options, test) = (task.session, task.options, &task.split.test);
    let quarters = match images(session, options, test) {
        0 => None,
        count => Some(by_quarter(session, test, count, options.batch, options.how.seed)?),
    };
    let mut lines = Vec::new();
    if session.checkpoint.classifier_only {
        lines.push("no noise error: the model is a classifier alone".into());
    }
    if let Some(quarters) = quarters {
        lines.push("noise error (MSE of eps) by quarter of the chain, from image to noise:".into());
        lines.extend(quarters.iter().enumerate().map(|(i, value)| format!("  {}/4  {value:.5}", i + 1)));
    }
    let images = images(session, options, test);
    Ok(Measured::new(serde_json::json!({ "mse_by_quarter": quarters, "mse_images": images }), lines))
}
