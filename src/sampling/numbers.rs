//! The numbers that each step of a chain is told, uploaded for many steps at once: on the device every step copies its own
//! from the table.

use crate::diffusion::Coefficients;
use crate::error::Result;
use crate::gpu::{Buffer, Device, Transfer};
use crate::ops::solver::COEFFICIENTS;
use crate::weights::Loaded;

const _: () = assert!(COEFFICIENTS == Coefficients::WORDS, "the kernel reads what a solver gives");

/// Steps of one upload.
pub(super) const STEPS: usize = 64;

/// What a step is told that is the same for all of its images.
pub(super) struct Row {
    pub coefficients: Coefficients,
    /// What the network sees as the time.
    pub timestep: f32,
    /// √ᾱ and √(1 − ᾱ) of what a mask keeps.
    pub kept: [f32; 2],
    /// Seed low, seed high, step, first row.
    pub run: [u32; 4],
}

/// Rows of 32-bit words: the coefficients of each image, its timestep, its levels of what is kept, and the run's four.
pub(super) struct Numbers {
    table: Buffer,
    batch: usize,
}

impl Numbers {
    pub async fn new(device: &Device, batch: usize) -> Result<Numbers> {
        let bytes = (STEPS * Self::words(batch)) as u64 * 4;
        Ok(Numbers { table: device.buffer("numbers", bytes).await?, batch })
    }

    fn words(batch: usize) -> usize {
        batch * (COEFFICIENTS + 3) + 4
    }

    /// Writes the first rows of the table, at most [`STEPS`].
    pub fn upload(&self, device: &Device, rows: &[Row]) -> Result<()> {
        let mut words: Vec<u32> = Vec::with_capacity(rows.len() * Self::words(self.batch));
        for Row { coefficients, timestep, kept, run } in rows {
            let coefficients = coefficients.words().map(f32::to_bits);
            words.extend(coefficients.iter().cycle().take(COEFFICIENTS * self.batch));
            words.extend(std::iter::repeat_n(timestep.to_bits(), self.batch));
            words.extend(kept.map(f32::to_bits).iter().cycle().take(2 * self.batch));
            words.extend(run);
        }
        device.write(&self.table, 0, bytemuck::cast_slice(&words))
    }

    /// What a run of `step` with the numbers of row `number` copies before it begins.
    pub fn transfers<'a>(&'a self, step: &'a Loaded, number: usize) -> Vec<Transfer<'a>> {
        let mut place = (number * Self::words(self.batch)) as u64 * 4;
        let mut transfers = Vec::with_capacity(4);
        for (name, words) in [("coefficients", COEFFICIENTS), ("t", 1), ("kept", 2), ("run", 0)] {
            let bytes = if words == 0 { 16 } else { (words * self.batch) as u64 * 4 };
            if let Some(buffer) = step.buffer(name) {
                transfers.push(Transfer { from: (&self.table, place), to: (buffer, 0), bytes });
            }
            place += bytes;
        }
        transfers
    }
}
