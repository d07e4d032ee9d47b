//! Which timesteps training sees: all equally often, or those more often whose losses are large.

use crate::error::{Error, Result};
use crate::rng::{Seed, Stream, block, uniform_u32_below};
use crate::tensor::{HostTensor, Tensors};
use serde::{Deserialize, Serialize};

/// Losses that are kept of each timestep.
const KEPT: usize = 10;
/// Share of the draws that stays uniform, so that no timestep is forgotten.
const UNIFORM: f64 = 0.001;
/// Names of the table's tensors: losses \[T, 10\] from the oldest to the newest, and how many there are of each \[T\].
const NAMES: [&str; 2] = ["losses", "counts"];

/// How the timesteps of training are drawn. Losses are weighed so that their means stay those over uniform timesteps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestepSampler {
    /// All equally often.
    #[default]
    Uniform,
    /// In proportion to the root mean square of the last ten losses of each (Nichol & Dhariwal 2021, section 4), as soon as
    /// every timestep has had ten; until then uniformly. The losses are those of the noise, without the classifier's.
    LossSecondMoment,
}

/// The last losses of each timestep.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TimestepLosses {
    losses: Vec<Vec<f32>>,
}

/// How probable each timestep is.
#[derive(Clone, Debug)]
pub(super) struct Chances {
    each: Vec<f64>,
    /// Sums of those up to each timestep.
    upto: Vec<f64>,
}

impl TimestepLosses {
    /// None so far, of a chain of `steps`.
    pub fn new(steps: usize) -> TimestepLosses {
        TimestepLosses { losses: vec![Vec::new(); steps] }
    }

    /// As a checkpoint has them; none where it has nothing.
    ///
    /// # Errors
    /// [`Error::Config`] where they are not of a chain of `steps`.
    pub fn of(tensors: &Tensors, steps: usize) -> Result<TimestepLosses> {
        if tensors.is_empty() {
            return Ok(Self::new(steps));
        }
        let [losses, counts] = NAMES.map(|name| tensors.get(name));
        let fits = losses.is_some_and(|t| t.shape == [steps, KEPT] && t.data.len() == steps * KEPT)
            && counts.is_some_and(|t| t.shape == [steps] && t.data.len() == steps);
        let (Some(losses), Some(counts), true, 2) = (losses, counts, fits, tensors.len()) else {
            let detail = format!("the table of losses is not one of {KEPT} for each of {steps} timesteps");
            return Err(Error::config("timestep_sampler", detail));
        };
        let row = |(row, count): (&[f32], &f32)| row.iter().take(*count as usize).copied().collect();
        Ok(TimestepLosses { losses: losses.data.chunks_exact(KEPT).zip(&counts.data).map(row).collect() })
    }

    /// As a checkpoint has them.
    pub fn tensors(&self) -> Tensors {
        let steps = self.losses.len();
        let padded = |row: &Vec<f32>| {
            let mut row = row.clone();
            row.resize(KEPT, 0.0);
            row
        };
        let losses =
            HostTensor { shape: vec![steps, KEPT], data: self.losses.iter().flat_map(padded).collect() };
        let counts = self.losses.iter().map(|row| row.len() as f32).collect();
        let counts = HostTensor { shape: vec![steps], data: counts };
        NAMES.map(str::to_owned).into_iter().zip([losses, counts]).collect()
    }

    /// Adds a loss of timestep `index`; the oldest goes where there are ten.
    pub fn add(&mut self, index: usize, loss: f32) {
        if let Some(row) = self.losses.get_mut(index) {
            if row.len() == KEPT {
                row.remove(0);
            }
            row.push(loss);
        }
    }

    /// How probable each timestep is; `None`: all are equally so, for not all have ten losses yet, or all losses are zero.
    pub fn chances(&self) -> Option<Chances> {
        if self.losses.iter().any(|row| row.len() < KEPT) {
            return None;
        }
        let square = |loss: &f32| f64::from(*loss) * f64::from(*loss);
        let roots: Vec<f64> = self
            .losses
            .iter()
            .map(|row| (row.iter().map(square).sum::<f64>() / KEPT as f64).sqrt())
            .collect();
        let sum: f64 = roots.iter().sum();
        if !(sum > 0.0 && sum.is_finite()) {
            return None;
        }
        let even = UNIFORM / roots.len() as f64;
        let each: Vec<f64> = roots.iter().map(|root| root / sum * (1.0 - UNIFORM) + even).collect();
        let mut total = 0.0;
        let upto = each.iter().map(|chance| {
            total += chance;
            total
        });
        Some(Chances { upto: upto.collect(), each })
    }
}

/// The timestep of a row of a batch, out of `steps`, and the weight of its loss: 1 where all are equally probable, else
/// 1 / (steps · its probability).
pub(super) fn draw(chances: Option<&Chances>, steps: usize, seed: Seed, step: u32, row: u32) -> (usize, f32) {
    let Some(chances) = chances else {
        return (uniform_u32_below(steps as u32, seed, Stream::Timestep, step, row) as usize, 1.0);
    };
    let [high, low, ..] = block(seed, Stream::Timestep as u32, step, row, 0);
    let at = (f64::from(high) + f64::from(low) / 4_294_967_296.0) / 4_294_967_296.0;
    let at = at * chances.upto.last().copied().unwrap_or(1.0);
    let index = chances.upto.partition_point(|upto| *upto <= at).min(steps.saturating_sub(1));
    let chance = chances.each.get(index).copied().unwrap_or(1.0);
    (index, (1.0 / (steps as f64 * chance)) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the reference's sampler computes of such a history.
    fn reference(history: &[[f64; 10]]) -> Vec<f64> {
        let weights: Vec<f64> =
            history.iter().map(|h| (h.iter().map(|l| l.powi(2)).sum::<f64>() / 10.0).sqrt()).collect();
        let sum: f64 = weights.iter().sum();
        weights.iter().map(|w| w / sum * (1.0 - 0.001) + 0.001 / history.len() as f64).collect()
    }

    fn full() -> (TimestepLosses, Vec<[f64; 10]>) {
        let mut table = TimestepLosses::new(4);
        let loss = |t: usize, k: usize| ((t + 1) * (k + 3)) as f32 / 16.0;
        for k in 0..13 {
            assert!(table.chances().is_none() || k > 9, "{k} losses are not enough");
            (0..4).for_each(|t| table.add(t, loss(t, k)));
        }
        let history = |t: usize| std::array::from_fn(|i| f64::from(loss(t, i + 3)));
        (table, (0..4).map(history).collect())
    }

    #[test]
    fn chances_are_the_reference_s_once_every_timestep_has_ten() {
        let (table, history) = full();
        let chances = table.chances().unwrap();
        for (got, want) in chances.each.iter().zip(reference(&history)) {
            assert!((got - want).abs() < 1e-15, "{got} instead of {want}");
        }
        let mut one_short = TimestepLosses::new(2);
        (0..10).for_each(|_| one_short.add(0, 1.0));
        (0..9).for_each(|_| one_short.add(1, 1.0));
        assert!(one_short.chances().is_none());
        one_short.add(1, 3.0);
        assert!(one_short.chances().is_some());
    }

    #[test]
    fn draws_follow_the_chances_and_weights_undo_them() {
        const ROWS: u32 = 40_000;
        let (table, history) = full();
        let (chances, want) = (table.chances().unwrap(), reference(&history));
        let (mut counts, mut total) = ([0u32; 4], 0.0);
        for row in 0..ROWS {
            let (t, weight) = draw(Some(&chances), 4, Seed(5), 7, row);
            assert!((f64::from(weight) - 1.0 / (4.0 * want[t])).abs() < 1e-6);
            counts[t] += 1;
            total += f64::from(weight);
        }
        for (count, want) in counts.iter().zip(&want) {
            let chance = 5.0 * (want * (1.0 - want) / f64::from(ROWS)).sqrt();
            assert!((f64::from(*count) / f64::from(ROWS) - want).abs() < chance, "{counts:?}");
        }
        assert!((total / f64::from(ROWS) - 1.0).abs() < 0.02, "the mean weight is 1");
        let uniform = draw(None, 1000, Seed(5), 7, 3);
        assert_eq!(uniform, (uniform_u32_below(1000, Seed(5), Stream::Timestep, 7, 3) as usize, 1.0));
    }

    #[test]
    fn a_table_comes_back_as_it_was() {
        let (mut table, _) = full();
        assert_eq!(TimestepLosses::of(&table.tensors(), 4).unwrap(), table);
        table = TimestepLosses::new(3);
        table.add(1, 0.5);
        assert_eq!(TimestepLosses::of(&table.tensors(), 3).unwrap(), table);
        assert_eq!(TimestepLosses::of(&Tensors::new(), 3).unwrap(), TimestepLosses::new(3));
        let error = TimestepLosses::of(&table.tensors(), 4).unwrap_err().to_string();
        assert!(error.contains("each of 4 timesteps"), "{error}");
        // All losses zero: nothing to prefer.
        let mut zeros = TimestepLosses::new(1);
        (0..10).for_each(|_| zeros.add(0, 0.0));
        assert!(zeros.chances().is_none());
    }
}
