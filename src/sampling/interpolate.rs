//! Noise between two noises.

use crate::error::{Error, Result};

/// The point at `share`, from 0 to 1, of the great circle from `a` to `b` (spherical interpolation, Shoemake 1985): of standard
/// normal noise it has the length of noise, which a straight line loses. Where the two are parallel the line is taken.
///
/// # Errors
/// [`Error::Shape`] where they are not equally long.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::sampling::slerp;
///
/// let half = slerp(&[1.0, 0.0], &[0.0, 1.0], 0.5)?;
/// assert!((half[0] - 0.5f32.sqrt()).abs() < 1e-6 && (half[1] - 0.5f32.sqrt()).abs() < 1e-6);
/// assert_eq!(slerp(&[1.0, 0.0], &[0.0, 1.0], 1.0)?, [0.0, 1.0]);
/// # Ok(()) }
/// ```
pub fn slerp(a: &[f32], b: &[f32], share: f32) -> Result<Vec<f32>> {
    if a.len() != b.len() {
        return Err(Error::shape("slerp", format!("{} and {} numbers", a.len(), b.len())));
    }
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    let (share, angle) = (f64::from(share), cosine.clamp(-1.0, 1.0).acos());
    let sine = angle.sin();
    let [of_a, of_b] = match share {
        // Exactly the ends, whatever the rounding.
        0.0 => [1.0, 0.0],
        1.0 => [0.0, 1.0],
        _ if !sine.is_finite() || sine < 1e-6 => [1.0 - share, share],
        _ => [((1.0 - share) * angle).sin() / sine, (share * angle).sin() / sine],
    };
    Ok(a.iter().zip(b).map(|(a, b)| (of_a * f64::from(*a) + of_b * f64::from(*b)) as f32).collect())
}
