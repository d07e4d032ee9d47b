//! Every operation, forward and backward, in every family of kernels that a device can run, against stored numbers.

use super::operations::{CASES, Case, Maker};
use crate::error::{Error, Result};
use crate::families::{Choices, Family};
use crate::gpu::{Buffer, Device};
use crate::graph::Plan;
use crate::rng::{Seed, Stream, uniform};
use crate::tensor::unpad_rows;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is stored of each case: its results' prints. They were computed by kernels that the reference's golden data and plain loops confirm.
const NUMBERS: &str = include_str!("numbers.json");
/// Difference allowed, as a share of a result's length. Devices differ by 1e-6 of it; what is wrong by a thousandth anywhere shows.
pub(super) const TOLERANCE: f64 = 5e-5;
/// The same of the family whose factors are rounded to f16, a part in 2,048 each.
pub(super) const ROUNDED: f64 = 2e-3;
/// Projections of a result.
const PROJECTIONS: usize = 3;

/// What is kept of a result: its length (the root of its sum of squares) and its projections on fixed directions of chance, in which an
/// error of any element shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Print {
    /// Root of the sum of squares.
    pub length: f64,
    /// Sums of the values times numbers from −1 to 1.
    pub projections: [f64; PROJECTIONS],
}

impl Print {
    fn of(values: &[f32]) -> Print {
        let projection = |number: u32| {
            let mut weights = vec![0.0; values.len()];
            uniform(Seed(23), Stream::Init, 4, number, &mut weights);
            values.iter().zip(weights).map(|(v, w)| f64::from(*v) * f64::from(2.0 * w - 1.0)).sum()
        };
        let squares: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum();
        Print { length: squares.sqrt(), projections: std::array::from_fn(|number| projection(number as u32)) }
    }

    /// How far it is from what it must be, in shares of the length.
    fn off(&self, want: &Print) -> f64 {
        let pairs = self.projections.iter().zip(&want.projections).chain([(&self.length, &want.length)]);
        let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, |worst: f64, off| {
            // NaN must not pass: it compares false with everything.
            if off.is_nan() { f64::INFINITY } else { worst.max(off) }
        });
        worst / want.length.max(1e-6)
    }
}

/// What came of a case in one family.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Checked {
    /// The case.
    pub name: &'static str,
    /// The family of its kernels.
    pub family: Family,
    /// Largest difference of its results, as a share of their length; infinite where one is no number.
    pub off: f64,
    /// What went wrong: numbers that differ, or an error of the device.
    pub wrong: Option<String>,
}

/// The prints of a plan's results on a device.
async fn prints(device: &Device, plan: &Plan, inputs: &[Vec<u8>], rows: &[usize]) -> Result<Vec<Print>> {
    let mut buffers: BTreeMap<&str, Buffer> = BTreeMap::new();
    for (name, bytes) in plan.externals() {
        buffers.insert(name, device.buffer(name, bytes.next_multiple_of(256)).await?);
    }
    let executable = device.load(plan.program(), |name| buffers.get(name).cloned()).await?;
    for (number, bytes) in inputs.iter().enumerate() {
        if let Some(buffer) = buffers.get(Case::input_name(number).as_str()) {
            device.write(buffer, 0, bytes)?;
        }
    }
    executable.run();
    let mut prints = Vec::new();
    for (number, columns) in rows.iter().enumerate() {
        let name = Case::result_name(number);
        let missing = || Error::Gpu { detail: format!("self-test: no buffer {name:?}") };
        let buffer = buffers.get(name.as_str()).ok_or_else(missing)?;
        let bytes = plan.externals().find(|(other, _)| *other == name).map_or(0, |(_, bytes)| bytes);
        let values = device.read_f32(buffer, bytes as usize / 4).await?;
        prints.push(Print::of(&unpad_rows(&values, *columns)));
    }
    device.check()?;
    Ok(prints)
}

/// The prints of all cases in the direct family, by name: what [`super::Report`] compares with.
///
/// # Errors
/// Device errors.
pub async fn operation_prints(device: &Device) -> Result<BTreeMap<String, Vec<Print>>> {
    let mut all = BTreeMap::new();
    for &(name, make) in CASES {
        let (plan, inputs, rows) = Case::compiled(make)?;
        let plan = plan.chosen(&Choices::all(Family::Direct))?;
        all.insert(name.to_owned(), prints(device, &plan, &inputs, &rows).await?);
    }
    Ok(all)
}

/// The stored prints of all cases, by name.
pub(super) fn stored() -> Result<BTreeMap<String, Vec<Print>>> {
    serde_json::from_str(NUMBERS)
        .map_err(|e| Error::Gpu { detail: format!("self-test: stored numbers: {e}") })
}

/// Checks a case in each of `families` that has kernels of its own for it and adds what came of it to `found`. What is wrong is told there,
/// not as an error: others are still checked.
///
/// # Errors
/// A lost device.
pub(super) async fn check_case(
    device: &Device,
    &(name, make): &Maker,
    families: &[Family],
    want: &[Print],
    found: &mut Vec<Checked>,
) -> Result<()> {
    let (plan, inputs, rows) = Case::compiled(make)?;
    let mut programs = Vec::new();
    for &family in families {
        let plan = plan.chosen(&Choices::all(family))?;
        // A family without a kernel for the operation is the direct one once more.
        if programs.contains(plan.program()) {
            continue;
        }
        programs.push(plan.program().clone());
        let checked = match prints(device, &plan, &inputs, &rows).await {
            Err(lost @ Error::DeviceLost { .. }) => return Err(lost),
            Err(error) => Checked { name, family, off: f64::INFINITY, wrong: Some(error.to_string()) },
            Ok(got) => compared(name, family, &got, want),
        };
        // Whatever is wrong on a lost device is wrong because it is lost, and that some browsers tell late.
        if checked.wrong.is_some()
            && let Err(lost @ Error::DeviceLost { .. }) = device.idle().await
        {
            return Err(lost);
        }
        found.push(checked);
    }
    Ok(())
}

fn compared(name: &'static str, family: Family, got: &[Print], want: &[Print]) -> Checked {
    if got.len() != want.len() {
        let wrong = format!("{} results, {} are stored", got.len(), want.len());
        return Checked { name, family, off: f64::INFINITY, wrong: Some(wrong) };
    }
    let offs = got.iter().zip(want).map(|(got, want)| got.off(want)).enumerate();
    let (worst, off) = offs.fold((0, 0.0), |worst, one| if one.1 > worst.1 { one } else { worst });
    let what = if worst == 0 { "the result".to_owned() } else { format!("gradient {worst}") };
    let tolerance = if family == Family::Cooperative { ROUNDED } else { TOLERANCE };
    let wrong = (off > tolerance).then(|| format!("{what} is off by {off:.1e} of its length"));
    Checked { name, family, off, wrong }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_any_element_shows() {
        let values: Vec<f32> = (0..500).map(|i| (i as f32 * 0.7).sin()).collect();
        let want = Print::of(&values);
        assert_eq!(want.off(&want), 0.0);
        for place in [0, 77, 499] {
            let mut wrong = values.clone();
            wrong[place] += 0.02;
            assert!(Print::of(&wrong).off(&want) > TOLERANCE, "{place}");
            wrong[place] = f32::NAN;
            assert_eq!(Print::of(&wrong).off(&want), f64::INFINITY, "NaN is wrong");
        }
        let one = |print: &Print| {
            compared("x", Family::Direct, std::slice::from_ref(print), std::slice::from_ref(&want))
        };
        assert_eq!(one(&want).wrong, None);
        let mut turned = values.clone();
        turned.reverse();
        assert!(one(&Print::of(&turned)).wrong.unwrap().contains("the result is off"));
        assert!(compared("x", Family::Direct, &[], &[want]).wrong.unwrap().contains("1 are stored"));
    }
}
