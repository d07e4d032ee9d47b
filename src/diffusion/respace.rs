//! Which steps of the chain a shorter one keeps.

use super::config::check_steps;
use crate::error::{Error, Result};

/// The steps of 0..`steps` that `spec` keeps, ascending.
///
/// - "" keeps all;
/// - "ddim25" takes the smallest whole stride that gives exactly 25;
/// - "10,10,5" cuts the chain into equal sections (the first ones a step longer where it does not divide) and takes so
///   many of each, evenly, first and last included; "100" is one section.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::diffusion::respaced_steps;
/// assert_eq!(respaced_steps(10, "4")?, [0, 3, 6, 9]);
/// assert_eq!(respaced_steps(10, "ddim5")?, [0, 2, 4, 6, 8]);
/// assert_eq!(respaced_steps(10, "3,1")?, [0, 2, 4, 5]); // dense near the image, sparse near the noise
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Error::Config`] for anything else, where a section has too few steps, and for a chain of none or above a million.
pub fn respaced_steps(steps: usize, spec: &str) -> Result<Vec<usize>> {
    check_steps(steps)?;
    let bad = |detail: String| Error::config("respacing", format!("{spec:?}: {detail}"));
    let count = |text: &str| match text.trim().parse::<usize>() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(bad(format!("{text:?} is no number of steps; write \"100\", \"10,10,5\" or \"ddim25\""))),
    };
    let spec_text = spec.trim();
    if spec_text.is_empty() {
        return Ok((0..steps).collect());
    }
    if let Some(rest) = spec_text.strip_prefix("ddim") {
        // The reference tries no stride as long as the chain, and so refuses "ddim1".
        let wanted = count(rest)?;
        let stride = (1..=steps).find(|stride| steps.div_ceil(*stride) == wanted);
        return match stride {
            Some(stride) => Ok((0..steps).step_by(stride).collect()),
            None => Err(bad(format!("no whole stride over {steps} steps gives exactly {wanted}"))),
        };
    }
    let sections = spec_text.split(',').map(count).collect::<Result<Vec<usize>>>()?;
    if sections.len() > steps {
        return Err(bad(format!("{} sections of {steps} steps", sections.len())));
    }
    let (size, extra) = (steps / sections.len(), steps % sections.len());
    let mut kept = Vec::new();
    let mut start = 0;
    for (number, wanted) in sections.iter().enumerate() {
        let length = size + usize::from(number < extra);
        if length < *wanted {
            return Err(bad(format!("a section of {length} steps cannot keep {wanted}")));
        }
        let stride = if *wanted == 1 { 1.0 } else { (length - 1) as f64 / (wanted - 1) as f64 };
        // Accumulated, not multiplied, as the reference does: its rounding decides which step is kept.
        let mut place = 0.0f64;
        for _ in 0..*wanted {
            kept.push(start + place.round_ties_even() as usize);
            place += stride;
        }
        start += length;
    }
    Ok(kept)
}
