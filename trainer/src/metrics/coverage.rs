//! Density and coverage (Naeem et al. 2020), beside improved precision and recall, of the same distances: how many real balls a
//! generated point lies in on average, and the share of real balls that hold a generated point.
//!
//! Within a ball is nearer than its radius, as the authors' code `prdc` has it: of a set compared with itself, without copies, the density
//! is 1. Precision and recall count the edge as inside, as theirs do.

use super::distances::{Listener, by_row};
use super::manifold::{Manifold, Quality};
use duet::{Error, Result};
use serde::Serialize;

/// Density and coverage of generated points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Coverage {
    /// Real balls that hold a generated point, over k, on average: about 1 where generated points lie as real ones do; may be above.
    pub density: f64,
    /// Share of real balls that hold a generated point.
    pub coverage: f64,
}

/// Neighbours that decide how wide balls are: of precision and recall, and of density and coverage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbours {
    /// Of precision and recall.
    pub quality: usize,
    /// Of density and coverage.
    pub coverage: usize,
}

impl Default for Neighbours {
    /// As the papers have them: 3 and 5.
    fn default() -> Neighbours {
        Neighbours { quality: 3, coverage: 5 }
    }
}

impl Neighbours {
    /// As many as manifolds must know of.
    pub fn most(self) -> usize {
        self.quality.max(self.coverage)
    }
}

/// What is asked of a generated point: whether it lies on the real manifold, and in how many real balls.
type Placed = (bool, usize);

/// All four of generated points against real ones, of whose manifolds each knows of [`Neighbours::most`] neighbours. The listener hears of
/// each generated and each real point.
///
/// # Errors
/// [`Error::Shape`] for points of different spaces; [`Error::Config`] for more neighbours than the manifolds know of; [`Error::Aborted`].
pub fn compare(
    real: &Manifold,
    generated: &Manifold,
    neighbours: Neighbours,
    hear: Listener<'_>,
) -> Result<(Quality, Coverage)> {
    let columns = real.columns();
    if columns != generated.columns() {
        let detail = format!("points of {columns} numbers and of {}", generated.columns());
        return Err(Error::shape("density and coverage", detail));
    }
    let wide = real.radii(neighbours.quality)?;
    let near = real.radii(neighbours.coverage)?;
    let of_generated = generated.radii(neighbours.quality)?;
    let placed = |_: usize, distances: &mut [f32]| -> Placed {
        let on = distances.iter().zip(&wide).any(|(far, radius)| far <= radius);
        (on, distances.iter().zip(&near).filter(|(far, radius)| far < radius).count())
    };
    let placed = by_row([generated.points(), real.points()], columns, hear, placed)?;
    let covered = |row: usize, distances: &mut [f32]| -> (bool, bool) {
        let on = distances.iter().zip(&of_generated).any(|(far, radius)| far <= radius);
        (on, distances.iter().any(|far| *far < near[row]))
    };
    let covered = by_row([real.points(), generated.points()], columns, hear, covered)?;
    let share = |count: usize, of: usize| count as f64 / of as f64;
    let balls: usize = placed.iter().map(|(_, balls)| balls).sum();
    Ok((
        Quality {
            precision: share(placed.iter().filter(|(on, _)| *on).count(), placed.len()),
            recall: share(covered.iter().filter(|(on, _)| *on).count(), covered.len()),
        },
        Coverage {
            density: share(balls, placed.len() * neighbours.coverage),
            coverage: share(covered.iter().filter(|(_, held)| *held).count(), covered.len()),
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::distances::nobody;
    use crate::metrics::golden::{close, figures, numbers};

    fn all(real: &[f32], generated: &[f32], columns: usize, k: usize) -> (Quality, Coverage) {
        let of = |points: &[f32]| Manifold::new(points.to_vec(), columns, k).unwrap();
        let neighbours = Neighbours { quality: k, coverage: k };
        compare(&of(real), &of(generated), neighbours, &mut nobody).unwrap()
    }

    #[test]
    fn small_sets_by_hand() {
        // Real 0, 1, 2, 3 with k = 1: balls of width 1. Generated 0.5 lies in two of them, 10 in none; 0 and 1 are covered.
        let (quality, coverage) = all(&[0.0, 1.0, 2.0, 3.0], &[0.5, 10.0], 1, 1);
        assert_eq!(coverage, Coverage { density: 1.0, coverage: 0.5 });
        assert_eq!(quality, Quality { precision: 0.5, recall: 1.0 });
        // On the edge is inside for precision, outside for density; a ball without width holds nothing.
        let (quality, coverage) = all(&[0.0, 1.0], &[2.0, 3.0], 1, 1);
        assert_eq!((quality.precision, coverage.density), (0.5, 0.0));
        assert_eq!(
            all(&[0.0, 0.0, 5.0], &[0.0, 5.0], 1, 1).1,
            Coverage { density: 0.5, coverage: 1.0 / 3.0 }
        );
    }

    #[test]
    fn random_sets_as_numpy_has_them() {
        let want = figures();
        let set = |name: &str| numbers(&want[name]);
        for (case, generated, k) in [
            ("prdc_k3", "generated", 3),
            ("prdc_k5", "generated", 5),
            ("prdc_ties_k3", "ties", 3),
            ("prdc_same_k5", "real", 5),
        ] {
            let (quality, coverage) = all(&set("real"), &set(generated), 7, k);
            let want = &want[case];
            close(quality.precision, &want["precision"], 1e-12);
            close(quality.recall, &want["recall"], 1e-12);
            close(coverage.density, &want["density"], 1e-12);
            close(coverage.coverage, &want["coverage"], 1e-12);
        }
    }

    #[test]
    fn neighbours_that_are_not_known_and_other_spaces_are_refused() {
        let of = |points: &[f32], columns| Manifold::new(points.to_vec(), columns, 2).unwrap();
        let fails = |generated: &Manifold, neighbours| {
            compare(&of(&[0.0, 1.0, 2.0], 1), generated, neighbours, &mut nobody).unwrap_err().to_string()
        };
        let two = Neighbours { quality: 2, coverage: 2 };
        assert!(fails(&of(&[0.0; 6], 2), two).contains("1 numbers and of 2"));
        assert!(fails(&of(&[0.0; 3], 1), Neighbours { quality: 3, ..two }).contains("from 1 to 2, is 3"));
        assert!(fails(&of(&[0.0; 3], 1), Neighbours { coverage: 0, ..two }).contains("is 0"));
    }
}
