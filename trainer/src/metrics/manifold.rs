//! Improved precision and recall (Kynkäänniemi et al. 2019): how many generated images look like real ones, and how many
//! real ones the generated ones cover.
//!
//! Each set's manifold is the union of balls around its points, each as wide as the distance to the point's k-th nearest
//! neighbour in the same set. Precision is the share of generated points inside of the real manifold, recall the share of
//! real points inside of the generated one.

use super::distances::{Listener, apart, by_row, nobody, rows_of};
use duet::{Error, Result};
use serde::Serialize;

/// Precision and recall of generated points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quality {
    /// Share of generated points on the real manifold.
    pub precision: f64,
    /// Share of real points on the generated manifold.
    pub recall: f64,
}

/// Points of one set and how near their neighbours are.
pub struct Manifold {
    points: Vec<f32>,
    columns: usize,
    neighbours: usize,
    /// Squared distances of each point's nearest neighbours, ascending \[N,neighbours\].
    nearest: Vec<f32>,
}

impl Manifold {
    /// The manifold of `points` \[N,columns\] with `k` neighbours.
    ///
    /// # Errors
    /// [`Error::Config`] where there are not more than `k` points; [`Error::Shape`] for no whole number of them; [`Error::NotFinite`].
    pub fn new(points: Vec<f32>, columns: usize, k: usize) -> Result<Manifold> {
        Self::watched(points, columns, k, &mut nobody)
    }

    /// As [`Manifold::new`]; the listener hears of each point.
    ///
    /// # Errors
    /// As there; [`Error::Aborted`].
    pub fn watched(points: Vec<f32>, columns: usize, k: usize, hear: Listener<'_>) -> Result<Manifold> {
        let count = rows_of("manifold", &points, columns)?;
        if k == 0 || count <= k {
            let detail = format!("must be at least 1 and less than the {count} images of a set, is {k}");
            return Err(Error::config("neighbours", detail));
        }
        let nearest = |row: usize, distances: &mut [f32]| {
            // The point itself is none of its neighbours.
            distances[row] = f32::INFINITY;
            distances.select_nth_unstable_by(k - 1, f32::total_cmp);
            let nearest = &mut distances[..k];
            nearest.sort_unstable_by(f32::total_cmp);
            nearest.to_vec()
        };
        let nearest = by_row([&points, &points], columns, hear, nearest)?.concat();
        Ok(Manifold { points, columns, neighbours: k, nearest })
    }

    /// The points \[N,columns\].
    pub fn points(&self) -> &[f32] {
        &self.points
    }

    /// Numbers of a point.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The squared width of each point's ball, by its `k`-th neighbour.
    ///
    /// # Errors
    /// [`Error::Config`] for more neighbours than the manifold was made with, or none.
    pub fn radii(&self, k: usize) -> Result<Vec<f32>> {
        let Some(at) = k.checked_sub(1).filter(|at| *at < self.neighbours) else {
            return Err(Error::config(
                "neighbours",
                format!("must be from 1 to {}, is {k}", self.neighbours),
            ));
        };
        Ok(self.distances(at))
    }

    /// The squared distance of each point's neighbour at a place of [`Manifold::nearest`].
    fn distances(&self, at: usize) -> Vec<f32> {
        self.nearest.iter().skip(at).step_by(self.neighbours).copied().collect()
    }

    /// Share of the other set's points that lie inside of a ball.
    fn share_of(&self, other: &Manifold) -> f64 {
        let radii = self.distances(self.neighbours - 1);
        let inside = |point: &[f32]| {
            let centres = self.points.chunks_exact(self.columns);
            centres.zip(&radii).any(|(centre, radius)| apart(point, centre) <= *radius)
        };
        let points = other.points.chunks_exact(other.columns);
        let all = points.len();
        points.filter(|point| inside(point)).count() as f64 / all as f64
    }

    /// Precision and recall of `generated`, this being the real set.
    pub fn quality_of(&self, generated: &Manifold) -> Quality {
        Quality { precision: self.share_of(generated), recall: generated.share_of(self) }
    }
}

/// Brings columns of unlike ranges to one scale: each is divided by its spread over the real points.
pub struct Scale(Vec<f32>);

impl Scale {
    /// From the real points \[N,columns\].
    pub fn of(points: &[f32], columns: usize) -> Scale {
        let count = (points.len() / columns.max(1)).max(1) as f64;
        let spread = |c: usize| {
            let column = || points.iter().skip(c).step_by(columns).map(|v| f64::from(*v));
            let mean = column().sum::<f64>() / count;
            (column().map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt()
        };
        // A column that never changes tells nothing.
        let factor = |s: f64| if s > 1e-12 { (1.0 / s) as f32 } else { 0.0 };
        Scale((0..columns).map(|c| factor(spread(c))).collect())
    }

    /// The points on this scale.
    pub fn apply(&self, mut points: Vec<f32>) -> Vec<f32> {
        for row in points.chunks_mut(self.0.len().max(1)) {
            row.iter_mut().zip(&self.0).for_each(|(value, factor)| *value *= factor);
        }
        points
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::golden::golden;
    use duet::rng::{Seed, Stream, normal_fill};

    fn quality(real: &[f32], generated: &[f32], columns: usize, k: usize) -> Quality {
        let new = |points: &[f32]| Manifold::new(points.to_vec(), columns, k).unwrap();
        new(real).quality_of(&new(generated))
    }

    /// The definition in words: sort all distances, take the k-th of the others, look for a ball.
    fn by_definition(real: &[f32], generated: &[f32], columns: usize, k: usize) -> Quality {
        let rows = |set: &[f32]| set.chunks(columns).map(<[f32]>::to_vec).collect::<Vec<_>>();
        let far = |a: &[f32], b: &[f32]| {
            a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum::<f64>().sqrt()
        };
        let share = |of: &[Vec<f32>], on: &[Vec<f32>]| {
            let inside = of.iter().filter(|point| {
                on.iter().enumerate().any(|(i, centre)| {
                    let mut all: Vec<f64> = Vec::new();
                    for (j, other) in on.iter().enumerate() {
                        if i != j {
                            all.push(far(centre, other));
                        }
                    }
                    all.sort_by(f64::total_cmp);
                    far(point, centre) <= all[k - 1]
                })
            });
            inside.count() as f64 / of.len() as f64
        };
        let (real, generated) = (rows(real), rows(generated));
        Quality { precision: share(&generated, &real), recall: share(&real, &generated) }
    }

    /// Radii, precision and recall of the reference's code, which measures with exact distances there.
    #[test]
    fn sets_as_the_reference_has_them() {
        for (case, columns, sizes) in [("ipr_k3", 12, &[3][..]), ("ipr_k5", 6, &[5, 10])] {
            let [real, made] = ["in.ref", "in.gen"].map(|name| golden::<f32>(&format!("{case}/{name}")));
            for (number, k) in sizes.iter().enumerate() {
                let new = |points: &[f32]| Manifold::new(points.to_vec(), columns, *k).unwrap();
                let (reference, generated) = (new(&real), new(&made));
                for (set, name) in [(&reference, "out.radii_ref_sq"), (&generated, "out.radii_gen_sq")] {
                    let want = golden::<f32>(&format!("{case}/{name}"));
                    let want = want.iter().skip(number).step_by(sizes.len());
                    let radii = set.radii(*k).unwrap();
                    assert!(radii.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-5 * want));
                }
                let want = |name: &str| golden::<f64>(&format!("{case}/{name}"))[number];
                let want = Quality { precision: want("out.precision"), recall: want("out.recall") };
                let got = reference.quality_of(&generated);
                let near = |got: f64, want: f64| (got - want).abs() < 1e-6;
                assert!(
                    near(got.precision, want.precision) && near(got.recall, want.recall),
                    "{case}, {k}: {got:?}"
                );
            }
        }
    }

    #[test]
    fn small_sets_by_hand() {
        // Real points 0, 1, 2, 3 with k = 1: balls of width 1 cover −1 to 4. Generated 0 and 10: balls of width 10.
        let got = quality(&[0.0, 1.0, 2.0, 3.0], &[0.0, 10.0], 1, 1);
        assert_eq!(got, Quality { precision: 0.5, recall: 1.0 });
        // Generated ones close together at 0: precise, but they cover one real point of four.
        let got = quality(&[0.0, 1.0, 2.0, 3.0], &[0.0, 0.1], 1, 1);
        assert_eq!(got, Quality { precision: 1.0, recall: 0.25 });
        // On the edge of a ball is inside.
        assert_eq!(quality(&[0.0, 1.0], &[2.0, 3.0], 1, 1), Quality { precision: 0.5, recall: 0.5 });
    }

    #[test]
    fn random_sets_by_the_definition() {
        for (number, (columns, count, k)) in [(2, 30, 3), (11, 24, 1), (19, 17, 5)].into_iter().enumerate() {
            let mut real = vec![0.0; columns * count];
            let mut generated = vec![0.0; columns * (count - 4)];
            normal_fill(Seed(5), Stream::InitialNoise, number as u32, 0, &mut real);
            normal_fill(Seed(6), Stream::InitialNoise, number as u32, 1, &mut generated);
            generated.iter_mut().for_each(|v| *v = 0.8 * *v + 0.3);
            let want = by_definition(&real, &generated, columns, k);
            assert_eq!(quality(&real, &generated, columns, k), want);
            assert!(
                want.precision > 0.0 && want.recall > 0.0 && want.recall < 1.0,
                "a set that tells: {want:?}"
            );
        }
    }

    #[test]
    fn too_few_points_are_refused_and_constant_columns_ignored() {
        for (points, k) in [(vec![0.0; 3], 3), (vec![0.0; 3], 0), (vec![], 1)] {
            let error = Manifold::new(points, 1, k).err().unwrap();
            assert!(error.to_string().contains("neighbours"), "{error}");
        }
        let real = [1.0, 7.0, -1.0, 7.0, 1.0, 7.0, -1.0, 7.0];
        assert_eq!(Scale::of(&real, 2).apply(vec![3.0, 9.0]), [3.0, 0.0]);
    }
}
