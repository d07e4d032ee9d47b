//! How fast a device trains a network: some steps of it.

use super::choose::{BATCH, Speed, cost, rates};
use crate::data::Dataset;
use duet::Result;
use duet::diffusion::DiffusionConfig;
use duet::gpu::Device;
use duet::model::{JointModel, ModelConfig};
use duet::train::{BatchOrder, Trainer};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Steps before the clock runs: the first ones compile and warm up.
const BEFORE: u64 = 2;
/// Steps that are timed, unless they take too long.
const TIMED: u64 = 20;
/// After this no further step is begun.
const LONG_ENOUGH: Duration = Duration::from_secs(15);

/// Trains `model` for a few steps on images of its size; what it learnt is dropped.
///
/// # Errors
/// Data that do not fit the model; device errors.
pub fn measure(device: &Device, model: &ModelConfig, train: &Dataset) -> Result<Speed> {
    let recipe = rates(model, BATCH.min(train.len()).max(2));
    let options = recipe.options();
    let made = Arc::new(JointModel::new(model)?);
    let diffusion = DiffusionConfig::default();
    let mut trainer = pollster::block_on(Trainer::new(device, made, &diffusion, &options))?;
    let examples = train.examples(model)?;
    let mut order = BatchOrder::new(train.len(), options.seed);
    let (mut timed, mut begin) = (0, Instant::now());
    for step in 0..BEFORE + TIMED {
        let batch = examples.next(&mut order, step, recipe.batch_size, false)?;
        trainer.train_step(&batch, recipe.learning_rate)?;
        device.wait()?;
        if step + 1 == BEFORE {
            begin = Instant::now();
        }
        timed = (step + 1).saturating_sub(BEFORE);
        if timed > 0 && begin.elapsed() > LONG_ENOUGH {
            break;
        }
    }
    let images = (timed as usize * recipe.batch_size) as f64;
    let work = cost(model, &recipe)?.multiply_adds as f64 / recipe.batch_size as f64;
    Ok(Speed { images_per_second: images / begin.elapsed().as_secs_f64().max(1e-9), work })
}
