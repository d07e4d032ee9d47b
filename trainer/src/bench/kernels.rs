//! Measures the cases one by one.

use super::case::Case;
use super::results::{Kind, Line};
use super::timing;
use duet::Result;
use duet::gpu::Device;

/// The line of a case, measured for at least `seconds`; a naive twin is called once after a warm-up.
///
/// # Errors
/// Device errors.
pub fn line(device: &Device, case: Case, seconds: f64) -> Result<Line> {
    let time = timing::launches(device, &case.sizes, case.launches.clone(), seconds, 3)?;
    let mut line = Line::new(Kind::Kernel, &case.name, time, &case.launches);
    line.variant = case.variant.into();
    if let Some(naive) = case.naive {
        line.times_naive = Some(timing::launches(device, &case.sizes, naive, 0.0, 1)? / time);
    }
    Ok(line)
}
