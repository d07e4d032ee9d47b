//! What a step is given: images, noise levels, labels, and what happens to the images; and what it says of timesteps.

use super::Trainer;
use crate::error::{Error, Result};
use crate::model::Labels;
use crate::rng::Seed;
use crate::train::batch::Batch;
use crate::train::terms::{AUGMENT, Feed, IMPORTANCE, MIXED_LABELS, SNR_WEIGHT};
use crate::train::timesteps::{Chances, TimestepLosses, draw};
use crate::weights::Loaded;

/// Buffers of each image's losses of the noise.
pub(super) const LOSSES: [&str; 2] = ["mse", "vb"];

/// Whether a step says what its noise errors are.
pub(super) fn check_losses(backward: &Loaded) -> Result<()> {
    if cfg!(target_arch = "wasm32") {
        let detail =
            "\"loss_second_moment\" waits for each step's losses, which a browser cannot: use \"uniform\"";
        return Err(Error::config("timestep_sampler", detail));
    }
    if backward.buffer(LOSSES[0]).is_none() {
        let detail = "\"loss_second_moment\" goes by the noise error of the first feed, of which no term is: use \"uniform\"";
        return Err(Error::config("timestep_sampler", detail));
    }
    Ok(())
}

/// Where a micro-batch lies.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Its first row in the feed's batch.
    pub from: usize,
    /// The first of its images among those that the batch has.
    pub image: usize,
    /// The row from which on random numbers are drawn, so that feeds have different ones.
    pub first_row: usize,
}

impl Trainer {
    /// Uploads a micro-batch of a feed for a backward pass, with timesteps and coefficients, and gives the timesteps.
    pub(super) fn write_batch(
        &self,
        backward: &Loaded,
        feed: &Feed,
        batch: &Batch,
        Place { from, image, first_row }: Place,
        chances: Option<&Chances>,
    ) -> Result<Vec<usize>> {
        let config = &self.weights.model().config;
        let rows = feed.batch;
        let images = config.images(rows);
        let len = images.image_len();
        let write = |name: &str, data: &[u8]| backward.write(&feed.buffer(name), data);
        let part = batch.images.get(image * len..(image + rows) * len).unwrap_or_default();
        write("x_start", bytemuck::cast_slice(&images.to_device(part)?))?;
        let seed = Seed(self.options.seed);
        let (mut timesteps, mut importance, mut snr) = (Vec::new(), Vec::new(), Vec::new());
        let (mut t, mut q, mut vb) = (Vec::new(), Vec::new(), Vec::new());
        let first = first_row + from;
        let chances = chances.filter(|_| feed.prefix.is_empty());
        for row in first..first + rows {
            let (index, weight) = draw(chances, self.schedule.len(), seed, self.step as u32, row as u32);
            timesteps.push(index);
            importance.push(weight);
            snr.push(self.snr_weight(index));
            t.push(self.schedule.model_timestep(index)?);
            q.extend(self.schedule.q_sample_coefficients(index)?);
            if config.learn_sigma {
                vb.extend(self.schedule.vb_coefficients_of(index, self.diffusion.prediction)?);
            }
        }
        write("t", bytemuck::cast_slice(&t))?;
        write("coefficients", bytemuck::cast_slice(&q))?;
        write("vb_coefficients", bytemuck::cast_slice(&vb))?;
        write(IMPORTANCE, bytemuck::cast_slice(&importance))?;
        write(SNR_WEIGHT, bytemuck::cast_slice(&snr))?;
        let run = [seed.0 as u32, (seed.0 >> 32) as u32, self.step as u32, first as u32];
        write("run", bytemuck::cast_slice(&run))?;
        let labels = batch.labels.rows(from..from + rows, config.num_classes)?;
        write("labels", &config.head.pack(&labels, rows, config.num_classes)?)?;
        if backward.buffer(&feed.buffer(AUGMENT)).is_some() {
            self.write_augment(backward, feed, &labels, first)?;
        }
        Ok(timesteps)
    }

    /// Weight of a noise error at timestep `index`.
    fn snr_weight(&self, index: usize) -> f32 {
        let level = self.schedule.alphas_cumprod.get(index).zip(self.options.min_snr_gamma);
        level.map_or(1.0, |(level, gamma)| self.diffusion.prediction.min_snr_weight(*level, gamma) as f32)
    }

    /// Draws what happens to the classifier's images of a micro-batch, whose rows count from `first`. An image is mixed with
    /// its neighbour only where both have labels.
    fn write_augment(&self, backward: &Loaded, feed: &Feed, labels: &Labels, first: usize) -> Result<()> {
        let config = &self.weights.model().config;
        let size = [config.image_size; 2];
        let (mut numbers, mut mixed) = (Vec::new(), Vec::new());
        for row in 0..feed.batch {
            let (seed, step) = (Seed(self.options.seed), self.step as u32);
            let mut drawn = self.options.augment.draw(seed, step, (first + row) as u32, size);
            if !(labels.is_labelled(row) && labels.is_labelled(row ^ 1)) {
                drawn.mixed = 0.0;
            }
            numbers.push(drawn.numbers());
            mixed.push(drawn.mixed as f32);
        }
        backward.write(&feed.buffer(AUGMENT), bytemuck::cast_slice(numbers.as_flattened()))?;
        let shares = config.head.pack_mixed(labels, &mixed, config.num_classes);
        backward.write(&feed.buffer(MIXED_LABELS), &shares)
    }

    /// Waits for the losses of the last micro-batch and adds them to the table by which timesteps are drawn.
    ///
    /// # Errors
    /// [`Error::NotFinite`]; device errors.
    pub(super) fn hear(&mut self) -> Result<()> {
        #[cfg(not(target_arch = "wasm32"))]
        if !self.unheard.is_empty() {
            self.losses = pollster::block_on(self.known_losses())?;
            self.unheard.clear();
        }
        Ok(())
    }

    /// The table by which timesteps are drawn, with the losses that are still on the device.
    ///
    /// # Errors
    /// As [`Trainer::hear`].
    pub(super) async fn known_losses(&self) -> Result<Option<TimestepLosses>> {
        let Some(mut table) = self.losses.clone() else { return Ok(None) };
        if self.unheard.is_empty() {
            return Ok(Some(table));
        }
        let [mse, vb] = LOSSES;
        let errors = self.backward.read(mse).await?;
        let bits =
            if self.backward.buffer(vb).is_some() { self.backward.read(vb).await? } else { Vec::new() };
        self.add_losses(&mut table, &self.unheard, &errors, &bits)?;
        Ok(Some(table))
    }

    /// Adds losses at `timesteps` to the table: noise errors, and variational terms where there are any.
    pub(super) fn add_losses(
        &self,
        table: &mut TimestepLosses,
        timesteps: &[usize],
        errors: &[f32],
        bits: &[f32],
    ) -> Result<()> {
        let share =
            if self.diffusion.rescale_learned_sigmas { self.schedule.len() as f32 / 1000.0 } else { 1.0 };
        for (row, (index, error)) in timesteps.iter().zip(errors).enumerate() {
            let loss = self.snr_weight(*index) * error + share * bits.get(row).copied().unwrap_or(0.0);
            if !loss.is_finite() {
                let detail =
                    format!("the noise error became {loss} at timestep {index} before step {}", self.step);
                return Err(Error::NotFinite { detail });
            }
            table.add(*index, loss);
        }
        Ok(())
    }
}
