//! How well the network predicts noise, by quarter of the chain.

use super::{Measured, Task};
use crate::cli::Eval;
use crate::data::Dataset;
use crate::io::session::Session;
use crate::shard::{Part, Table};
use duet::Result;
use duet::infer::DenoisingError;
use duet::rng::{Seed, Stream, uniform_u32_below};
use std::ops::Range;

/// Test images that the noise error is measured on.
fn images(session: &Session, options: &Eval, test: &Dataset) -> usize {
    if session.checkpoint.classifier_only { 0 } else { options.loss_images.min(test.len()) }
}

/// The noise error of images `range` of `all`, rows of `test`, `batch` at a time, in each quarter of the chain, with timesteps and noise
/// by the seed: of a quarter one of each image.
///
/// # Errors
/// An error that is not finite; device errors.
fn of_images(
    session: &Session,
    test: &Dataset,
    (all, range): (&[usize], Range<usize>),
    batch: usize,
    seed: u64,
) -> Result<[Vec<f32>; 4]> {
    let diffusion = &session.checkpoint.diffusion;
    let new = DenoisingError::new(&session.weights, diffusion, batch, session.set);
    let error = pollster::block_on(new)?;
    let (steps, seed) = (diffusion.diffusion_steps, Seed(seed));
    let mut found = [const { Vec::new() }; 4];
    for (quarter, found) in found.iter_mut().enumerate() {
        let (from, to) = (quarter * steps / 4, ((quarter + 1) * steps / 4).max(quarter * steps / 4 + 1));
        for first in range.clone().step_by(batch) {
            let part = &all[first..range.end.min(first + batch)];
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
            let mut values = pollster::block_on(error.measure(&images, &times, seed, first as u32))?;
            values.truncate(part.len());
            found.append(&mut values);
        }
    }
    Ok(found)
}

/// Means of what was measured `batch` at a time.
fn means(found: &[Vec<f32>; 4], batch: usize) -> [f64; 4] {
    let of_batch = |values: &[f32]| values.iter().map(|value| f64::from(*value)).sum::<f64>();
    found.each_ref().map(|values| {
        let mut sum = 0.0;
        values.chunks(batch.max(1)).for_each(|part| sum += of_batch(part));
        sum / values.len().max(1) as f64
    })
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
    let all = test.spread(count);
    Ok(means(&of_images(session, test, (&all, 0..all.len()), batch, seed)?, batch))
}

/// Noise errors of images, as a table.
const TABLE: &str = "noise_error";
/// What their means need beside them.
const BATCH: &str = "noise_error_batch";
/// Whether there are none for want of a network that denoises.
const CLASSIFIER: &str = "classifier_only";

fn column(quarter: usize) -> String {
    format!("quarter{}", quarter + 1)
}

/// The noise error of images in each quarter of the chain.
pub(super) fn rows(task: &Task<'_>, part: &mut Part) -> Result<()> {
    let (session, options, test) = (task.session, task.options, &task.split.test);
    part.state(CLASSIFIER, session.checkpoint.classifier_only)?;
    part.state(BATCH, options.batch)?;
    let count = images(session, options, test);
    let all = if count == 0 { Vec::new() } else { test.spread(count) };
    let range = task.shard.range(all.len(), options.batch);
    let mut table = Table::new(all.len(), range.clone());
    if !range.is_empty() {
        let found = of_images(session, test, (&all, range), options.batch, options.how.seed)?;
        for (quarter, values) in found.into_iter().enumerate() {
            table = table.with_f32(&column(quarter), values)?;
        }
    }
    part.put(TABLE, table);
    Ok(())
}

/// The noise error by quarter of the chain.
pub(super) fn figures(part: &mut Part, _quiet: bool) -> Result<Measured> {
    let mut table = part.take(TABLE)?;
    let (images, batch) = (table.total(), part.fact(BATCH)?);
    let mut found = [const { Vec::new() }; 4];
    for (quarter, values) in found.iter_mut().enumerate() {
        *values = table.f32s(&column(quarter))?.0;
    }
    let quarters = (images > 0).then(|| means(&found, batch));
    let mut lines = Vec::new();
    if part.fact(CLASSIFIER)? {
        lines.push("no noise error: the model is a classifier alone".into());
    }
    if let Some(quarters) = quarters {
        lines.push("noise error (MSE of eps) by quarter of the chain, from image to noise:".into());
        lines.extend(quarters.iter().enumerate().map(|(i, value)| format!("  {}/4  {value:.5}", i + 1)));
    }
    Ok(Measured::new(serde_json::json!({ "mse_by_quarter": quarters, "mse_images": images }), lines))
}
