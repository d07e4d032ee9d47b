//! Sums on the host that have the bits of the device's.

use crate::error::{Error, Result};
use crate::gpu::Device;
use crate::graph::{Graph, Place};

/// How a device computes with numbers below the least normal one: WGSL lets it take them for zeros, or make zeros of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arithmetic {
    /// Operands below it are zeros.
    takes_for_zero: bool,
    /// Results below it are zeros.
    makes_zero: bool,
}

impl Arithmetic {
    /// What `device` does in the sum of two micro-batches' gradients.
    ///
    /// # Errors
    /// [`Error::Gpu`] for one that adds otherwise than IEEE 754 in normal numbers; device errors.
    pub(crate) async fn of(device: &Device) -> Result<Arithmetic> {
        let least = f32::MIN_POSITIVE;
        let (x, sum) = ([1.5 * least, 0.75 * least, 0.1, 1.5], [-least, 0.75 * least, 0.2, 2.5]);
        let mut graph = Graph::new();
        let [given, first, kept] = [("x", 4), ("first", 1), ("sum", 4)]
            .map(|(name, count)| graph.leaf(&[count], Place::whole(name)));
        graph.accumulate(given, first, kept)?;
        let names = ["x", "first", "sum"];
        let mut buffers = Vec::with_capacity(names.len());
        for name in names {
            buffers.push((name, device.buffer(name, 16).await?));
        }
        let buffer =
            |name: &str| buffers.iter().find(|(known, _)| *known == name).map(|(_, made)| made.clone());
        let missing = || Error::shape("ranks", "a buffer is missing");
        let run = graph.compile()?.load(device, buffer).await?;
        let [to_x, to_sum] = ["x", "sum"].map(|name| buffer(name).ok_or_else(missing));
        let to_sum = to_sum?;
        device.write(&to_x?, 0, bytemuck::cast_slice(&x))?;
        device.write(&to_sum, 0, bytemuck::cast_slice(&sum))?;
        run.run();
        let got = device.read_f32(&to_sum, 4).await?;
        let &[made, taken, ..] = got.as_slice() else { return Err(missing()) };
        let found = Arithmetic { takes_for_zero: taken == 0.0, makes_zero: made == 0.0 };
        let want: Vec<f32> = x.iter().zip(&sum).map(|(x, sum)| found.add(*x, *sum)).collect();
        if got.iter().zip(&want).any(|(got, want)| got.to_bits() != want.to_bits()) {
            let detail = format!("sums of {x:?} and {sum:?} are {got:?} instead of {want:?}");
            return Err(Error::Gpu { detail });
        }
        Ok(found)
    }

    fn operand(self, value: f32) -> f32 {
        if self.takes_for_zero && value.is_subnormal() { 0f32.copysign(value) } else { value }
    }

    fn result(self, value: f32) -> f32 {
        if self.makes_zero && value.is_subnormal() { 0f32.copysign(value) } else { value }
    }

    fn add(self, a: f32, b: f32) -> f32 {
        self.result(self.operand(a) + self.operand(b))
    }

    fn multiply(self, a: f32, b: f32) -> f32 {
        self.result(self.operand(a) * self.operand(b))
    }

    /// Adds `values` to `sum`, one by one.
    pub(crate) fn accumulate(self, sum: &mut [f32], values: &[f32]) {
        let pairs = sum.iter_mut().zip(values);
        if self == Arithmetic::default() {
            pairs.for_each(|(sum, value)| *sum += value);
        } else {
            pairs.for_each(|(sum, value)| *sum = self.add(*sum, *value));
        }
    }

    /// `kept` moves to `keep` times itself and `values`.
    pub(crate) fn decay(self, kept: &mut [f32], keep: f32, values: &[f32]) {
        for (kept, value) in kept.iter_mut().zip(values) {
            *kept = self.add(self.multiply(keep, *kept), *value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::DeviceOptions;

    #[test]
    fn small_numbers_are_what_the_device_makes_of_them() {
        let device = pollster::block_on(Device::open(&DeviceOptions::default())).unwrap();
        let of = pollster::block_on(Arithmetic::of(&device)).unwrap();
        println!("{}: {of:?}", device.info().name);
        let (tiny, least) = (1e-40f32, f32::MIN_POSITIVE);
        let both = Arithmetic { takes_for_zero: true, makes_zero: true };
        assert_eq!(both.add(tiny, least).to_bits(), least.to_bits());
        assert_eq!(both.add(-1.5 * least, least).to_bits(), (-0.0f32).to_bits());
        assert_eq!(Arithmetic::default().add(tiny, tiny), 2.0 * tiny);
        let mut sum = [1.0, 2.0];
        both.accumulate(&mut sum, &[0.5, tiny]);
        assert_eq!(sum, [1.5, 2.0]);
        both.decay(&mut sum, 0.5, &[1.0, -1.0]);
        assert_eq!(sum, [1.75, 0.0]);
    }
}
