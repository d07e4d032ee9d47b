//! Exact inversion: an image noised to every step of the chain by independent noise, and what the network takes each for. It
//! depends on the image and the seed alone, so one serves all targets and strengths; a pool keeps the last ones.

use crate::diffusion::{DiffusionConfig, Schedule, Solver, StepAt};
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Transfer};
use crate::graph::{Place, Plan};
use crate::model::{Builder, JointModel, WeightSet};
use crate::ops::counterfactual::COEFFICIENTS;
use crate::rng::{Seed, Stream, normal_fill};
use crate::sampling::{Pace, run_words};
use crate::tensor::{Images, check_batch, device_bytes};
use crate::weights::{Loaded, Weights};

/// Most rows that the inversion of few images computes at once: their steps do not know of each other.
const ROWS: usize = 16;

/// Rows that are computed at once where `batch` images are explained at once in `steps` steps: of few images such that the runs
/// of one image are full.
fn rows_at_once(batch: usize, steps: usize) -> usize {
    if batch >= ROWS {
        return batch;
    }
    steps.div_ceil(steps.div_ceil(ROWS).max(1)).max(1)
}

/// An image that is inverted, or to be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Origin {
    /// \[C,H,W\] in −1..1.
    pub image: Vec<f32>,
    /// Seed and row of its noise.
    pub seed: Seed,
    pub row: u32,
}

/// A place of the pool.
#[derive(Debug)]
struct Slot {
    origin: Option<Origin>,
    /// When it was asked for last.
    used: u64,
    /// Requests that still need it.
    wanted: usize,
}

/// The reference paths of images.
pub(super) struct Pool {
    /// Of each slot the image itself and its `steps` noised states, by step.
    pub states: Buffer,
    /// What the network takes each state for.
    pub x_starts: Buffer,
    slots: Vec<Slot>,
    /// Most steps that a slot has room for.
    capacity: usize,
    clock: u64,
    /// Bytes of a row.
    pub row_bytes: u64,
}

impl Pool {
    pub async fn new(weights: &Weights, slots: usize, steps: usize) -> Result<Pool> {
        let row_bytes = device_bytes(&weights.model().config.image_shape(1));
        let bytes = |rows: usize| row_bytes.saturating_mul(slots.saturating_mul(rows) as u64);
        let device = weights.device();
        let states = device.buffer("states", bytes(steps.saturating_add(1))).await?;
        let x_starts = device.buffer("x_starts", bytes(steps)).await?;
        let empty = || Slot { origin: None, used: 0, wanted: 0 };
        let slots = std::iter::repeat_with(empty).take(slots).collect();
        Ok(Pool { states, x_starts, slots, capacity: steps, clock: 0, row_bytes })
    }

    /// Rows of the two buffers.
    pub fn rows(&self) -> [usize; 2] {
        [self.slots.len() * (self.capacity + 1), self.slots.len() * self.capacity]
    }

    /// Most steps of a chain.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets everything: the chain is another one.
    pub fn clear(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.origin = None);
    }

    /// The row of the state after `step` steps of noise in slot `slot`; 0 is the image itself.
    pub fn state(&self, slot: usize, step: usize) -> usize {
        slot * (self.capacity + 1) + step
    }

    /// The row of what the network takes the state of step `index` for.
    pub fn x_start(&self, slot: usize, index: usize) -> usize {
        slot * self.capacity + index
    }

    /// The slot of an image, wanted once more, and whether it is still to be inverted; `None` where all are wanted.
    pub fn want(&mut self, origin: Origin) -> Option<(usize, bool)> {
        match self.find(&origin) {
            Some(slot) => Some((slot, false)),
            None => Some((self.take(origin)?, true)),
        }
    }

    /// The slot of an image that is inverted already; it is wanted once more.
    fn find(&mut self, origin: &Origin) -> Option<usize> {
        self.clock += 1;
        let clock = self.clock;
        let (place, slot) =
            self.slots.iter_mut().enumerate().find(|(_, slot)| slot.origin.as_ref() == Some(origin))?;
        (slot.used, slot.wanted) = (clock, slot.wanted + 1);
        Some(place)
    }

    /// Takes the slot that nobody wants and that was not asked for the longest; `None` where all are wanted.
    fn take(&mut self, origin: Origin) -> Option<usize> {
        self.clock += 1;
        let clock = self.clock;
        let free = self.slots.iter_mut().enumerate().filter(|(_, slot)| slot.wanted == 0);
        let (place, slot) = free.min_by_key(|(_, slot)| (slot.origin.is_some(), slot.used))?;
        *slot = Slot { origin: Some(origin), used: clock, wanted: 1 };
        Some(place)
    }

    /// One request needs the slot no longer.
    pub fn release(&mut self, slot: usize) {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.wanted = slot.wanted.saturating_sub(1);
        }
    }

    /// Before a call: where one before it failed or was dropped on its way, slots are wanted that nobody waits for, and what was
    /// not inverted to its end is not there.
    pub fn begin(&mut self) {
        if self.slots.iter().any(|slot| slot.wanted > 0) {
            self.slots.iter_mut().for_each(|slot| slot.wanted = 0);
            self.clear();
        }
    }

    fn origin(&self, slot: usize) -> Result<&Origin> {
        self.slots
            .get(slot)
            .and_then(|slot| slot.origin.as_ref())
            .ok_or_else(|| Error::shape("inversion", format!("slot {slot} holds no image")))
    }
}

/// The coefficients of a step in the order of `wgsl/counterfactual.wgsl`, but for its rows.
pub(super) fn step_words(
    schedule: &Schedule,
    diffusion: &DiffusionConfig,
    index: usize,
    strength: f32,
    locality: f32,
) -> Result<[f32; COEFFICIENTS - 2]> {
    let numbers = Solver::ddim(1.0).coefficients(&StepAt {
        schedule,
        index,
        before: None,
        prediction: diffusion.prediction,
        learned_variance: false,
        scale: f64::from(strength),
    })?;
    let [from_x, from_out] = [numbers.from_x, numbers.from_out];
    let words = [from_x, from_out, numbers.guide_x_start, numbers.x, numbers.x_start, f64::from(locality)];
    Ok(words.map(|word| word as f32))
}

/// The plan that noises `rows` images, each by a seed, step and row of its own, and says what the network takes them for.
///
/// Its buffers: "original" \[N,H,W,C\]; "runs" \[N,4\] (u32 words: seed low, seed high, step, row); "mix" \[2N\] of
/// [`Graph::q_sample`](crate::graph::Graph::q_sample); "t"; "coefficients" \[8N\] in the order of `wgsl/counterfactual.wgsl`; results "noised",
/// "x_start".
///
/// # Errors
/// As [`JointModel`]'s builders.
pub fn inversion_plan(model: &JointModel, rows: usize, set: WeightSet) -> Result<Plan> {
    check_batch(rows)?;
    let shape = model.config.image_shape(rows);
    let mut b = Builder::new(&model.params, set, false);
    let original = b.graph.leaf(&shape, Place::whole("original"));
    let runs = b.graph.leaf(&[rows, 4], Place::whole("runs"));
    let mix = b.graph.leaf(&[2 * rows], Place::whole("mix"));
    let t = b.graph.leaf(&[rows], Place::whole("t"));
    let coefficients = b.graph.leaf(&[COEFFICIENTS * rows], Place::whole("coefficients"));
    let noise = b.graph.normal_rows(runs, shape, Stream::Inversion as u32)?;
    let noised = b.graph.q_sample(original, noise, mix)?;
    b.graph.place(noised, Place::whole("noised"));
    let encoded = model.unet.encode(&mut b, noised, t)?;
    let model_out = model.unet.decode(&mut b, &encoded)?;
    let x_start = b.graph.guided_x_start(noised, model_out, coefficients, None, true)?;
    b.graph.place(x_start, Place::whole("x_start"));
    b.graph.compile()
}

/// Inverts images into a pool.
pub(super) struct Inversion {
    loaded: Loaded,
    images: Images,
}

/// Where the chain begins on the host: the image noised as its inversion was.
pub(super) fn noised(schedule: &Schedule, steps: usize, origin: &Origin) -> Result<Vec<f32>> {
    let index = steps.saturating_sub(1);
    let [kept, level] = schedule.q_sample_coefficients(index)?;
    let mut noise = vec![0.0; origin.image.len()];
    normal_fill(origin.seed, Stream::Inversion, index as u32, origin.row, &mut noise);
    Ok(origin.image.iter().zip(noise).map(|(x, z)| kept * x + level * z).collect())
}

impl Inversion {
    /// Loads what inverts images of which `batch` are explained at once, in up to `steps` steps.
    pub async fn new(weights: &Weights, batch: usize, steps: usize, set: WeightSet) -> Result<Inversion> {
        let plan = |rows| inversion_plan(weights.model(), rows, set);
        let (rows, loaded) = weights.load_fitting(rows_at_once(batch, steps), plan).await?;
        Ok(Inversion { loaded, images: weights.model().config.images(rows) })
    }

    /// Runs that inverting `count` images takes.
    pub fn runs(&self, count: usize, steps: usize) -> usize {
        (count * steps).div_ceil(self.images.batch)
    }

    /// Inverts the images of `slots`; `ran` hears of each run. Nothing is read back.
    pub async fn run(
        &self,
        pool: &Pool,
        slots: &[usize],
        schedule: &Schedule,
        diffusion: &DiffusionConfig,
        steps: usize,
        ran: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let one = Images { batch: 1, ..self.images };
        let device = self.loaded.device();
        let mut pace = Pace::new(device);
        let bytes = pool.row_bytes;
        let mut images = Vec::with_capacity(slots.len());
        for slot in slots {
            let image = one.to_device(&pool.origin(*slot)?.image)?;
            device.write(&pool.states, pool.state(*slot, 0) as u64 * bytes, bytemuck::cast_slice(&image))?;
            images.push(image);
        }
        let rows: Vec<(usize, usize)> =
            (0..slots.len()).flat_map(|image| (0..steps).map(move |index| (image, index))).collect();
        let [noised, x_start] = [self.loaded.require("noised")?, self.loaded.require("x_start")?];
        for part in rows.chunks(self.images.batch) {
            let (mut originals, mut runs, mut mix, mut t, mut words) =
                (vec![], vec![], vec![], vec![], vec![]);
            let mut copies = Vec::with_capacity(2 * part.len());
            for (at, (image, index)) in part.iter().enumerate() {
                let (Some(slot), Some(pixels)) = (slots.get(*image), images.get(*image)) else { continue };
                let origin = pool.origin(*slot)?;
                originals.extend_from_slice(pixels);
                runs.extend(run_words(origin.seed, *index as u32, origin.row));
                mix.extend(schedule.q_sample_coefficients(*index)?);
                t.push(schedule.model_timestep(*index)?);
                words.extend(step_words(schedule, diffusion, *index, 0.0, 0.0)?);
                words.extend([0.0; 2]);
                let from = at as u64 * bytes;
                let [state, kept] = [pool.state(*slot, index + 1), pool.x_start(*slot, *index)];
                let [state, kept] = [state, kept].map(|row| row as u64 * bytes);
                copies.push(Transfer { from: (noised, from), to: (&pool.states, state), bytes });
                copies.push(Transfer { from: (x_start, from), to: (&pool.x_starts, kept), bytes });
            }
            // Rows past the end keep what an earlier run left; nobody reads what comes of them.
            self.loaded.write("original", bytemuck::cast_slice(&originals))?;
            self.loaded.write("runs", bytemuck::cast_slice(&runs))?;
            self.loaded.write("mix", bytemuck::cast_slice(&mix))?;
            self.loaded.write("t", bytemuck::cast_slice(&t))?;
            self.loaded.write("coefficients", bytemuck::cast_slice(&words))?;
            let mark = self.loaded.executable().run_between(&[], &copies)?;
            if pace.submitted(mark).await? {
                ran()?;
            }
        }
        while pace.next().await? {
            ran()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_image_fills_its_runs() {
        for (batch, steps, rows) in
            [(8, 10, 10), (1, 1, 1), (8, 16, 16), (1, 20, 10), (8, 25, 13), (32, 10, 32)]
        {
            assert_eq!(rows_at_once(batch, steps), rows, "{batch} images of {steps} steps");
        }
    }
}
