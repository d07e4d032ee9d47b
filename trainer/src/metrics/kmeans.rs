//! k-means by small batches (Sculley 2010), begun by k-means++ (Arthur and Vassilvitskii 2007), as scikit-learn's
//! `MiniBatchKMeans` does it: of ten beginnings on a sample the best goes on; each centre moves to the mean of all rows that were
//! ever given to it; the end is where the batches' distances have not fallen for ten batches.

use super::distances::apart;
use super::draws::Draws;

/// Rows of a batch.
const BATCH: usize = 1024;
/// Beginnings that are tried.
const BEGINNINGS: usize = 10;
/// Batches without gain after which nothing more is hoped for.
const PATIENCE: usize = 10;
/// Most times that all rows are gone through.
const EPOCHS: usize = 100;

/// Rows, of so many columns.
#[derive(Clone, Copy)]
struct Rows<'a> {
    values: &'a [f32],
    columns: usize,
}

impl<'a> Rows<'a> {
    fn row(&self, row: usize) -> &'a [f32] {
        &self.values[row * self.columns..(row + 1) * self.columns]
    }

    fn len(&self) -> usize {
        self.values.len() / self.columns
    }

    /// The nearest of these rows to a point, the first of equals, and its squared distance.
    fn nearest(&self, point: &[f32]) -> (usize, f32) {
        let mut best = (0, f32::INFINITY);
        for (number, centre) in self.values.chunks_exact(self.columns).enumerate() {
            let far = apart(point, centre);
            if far < best.1 {
                best = (number, far);
            }
        }
        best
    }
}

/// Centres \[clusters,columns\] among the sampled rows: each next one is drawn with probability in proportion to the squared
/// distance from those there are, the best of some draws by what it leaves; and the sum of squared distances that is left.
fn begin(rows: Rows<'_>, sample: &[usize], clusters: usize, draws: &mut Draws) -> (Vec<f32>, f64) {
    let mut centres = rows.row(sample[draws.below(sample.len())]).to_vec();
    let mut left: Vec<f32> = sample.iter().map(|row| apart(rows.row(*row), &centres)).collect();
    let sum = |distances: &[f32]| distances.iter().map(|far| f64::from(*far)).sum::<f64>();
    let tries = 2 + (clusters as f64).ln() as usize;
    for _ in 1..clusters {
        let total = sum(&left);
        let mut best: Option<(f64, usize, Vec<f32>)> = None;
        for _ in 0..tries {
            let mut mark = draws.unit() * total;
            let place = left.iter().position(|far| {
                mark -= f64::from(*far);
                mark < 0.0
            });
            // All rows are centres already, or rounding ran past the end.
            let place = place.unwrap_or(sample.len() - 1);
            let centre = rows.row(sample[place]);
            let then: Vec<f32> =
                sample.iter().zip(&left).map(|(row, far)| far.min(apart(rows.row(*row), centre))).collect();
            let remains = sum(&then);
            if best.as_ref().is_none_or(|(least, ..)| remains < *least) {
                best = Some((remains, place, then));
            }
        }
        if let Some((_, place, then)) = best {
            centres.extend_from_slice(rows.row(sample[place]));
            left = then;
        }
    }
    (centres, sum(&left))
}

/// The cluster of each of `values` \[N,columns\], below `clusters`, of which there are rows at least. What is drawn is the seed's.
pub(super) fn clusters(values: &[f32], columns: usize, clusters: usize, mut draws: Draws) -> Vec<usize> {
    let rows = Rows { values, columns };
    let count = rows.len();
    let sample = draws.choose((3 * BATCH).max(3 * clusters), count);
    let mut centres = Vec::new();
    let mut least = f64::INFINITY;
    for _ in 0..BEGINNINGS {
        let (found, left) = begin(rows, &sample, clusters, &mut draws);
        if left < least {
            (centres, least) = (found, left);
        }
    }
    let mut given = vec![0.0f64; clusters];
    let mut smooth: Option<f64> = None;
    let (mut lowest, mut waited) = (f64::INFINITY, 0);
    let weight = (2.0 * BATCH as f64 / (count as f64 + 1.0)).min(1.0);
    for _ in 0..(EPOCHS * count).div_ceil(BATCH) {
        let mut sums = vec![0.0f64; clusters * columns];
        let mut counts = vec![0.0f64; clusters];
        let mut far = 0.0;
        let of = Rows { values: &centres, columns };
        for _ in 0..BATCH {
            let row = rows.row(draws.below(count));
            let (cluster, distance) = of.nearest(row);
            far += f64::from(distance);
            counts[cluster] += 1.0;
            let sum = &mut sums[cluster * columns..(cluster + 1) * columns];
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        for (cluster, centre) in centres.chunks_exact_mut(columns).enumerate() {
            if counts[cluster] > 0.0 {
                let before = given[cluster];
                given[cluster] += counts[cluster];
                for (value, sum) in centre.iter_mut().zip(&sums[cluster * columns..]) {
                    *value = ((f64::from(*value) * before + sum) / given[cluster]) as f32;
                }
            }
        }
        let now = smooth.map_or(far, |smooth| smooth * (1.0 - weight) + far * weight);
        smooth = Some(now);
        waited = if now < lowest { 0 } else { waited + 1 };
        lowest = lowest.min(now);
        if waited >= PATIENCE {
            break;
        }
    }
    let of = Rows { values: &centres, columns };
    values.chunks_exact(columns).map(|row| of.nearest(row).0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use duet::rng::{Seed, Stream, normal_fill};

    #[test]
    fn clouds_that_are_apart_are_clusters() {
        // Five clouds of 40 points each, 100 apart, of which each row names its own.
        let mut values = vec![0.0; 200 * 3];
        normal_fill(Seed(1), Stream::Init, 0, 0, &mut values);
        for (row, point) in values.chunks_exact_mut(3).enumerate() {
            point[0] += 100.0 * (row % 5) as f32;
        }
        let found = clusters(&values, 3, 5, Draws::new(Seed(2), 0, 0));
        for (row, cluster) in found.iter().enumerate() {
            assert_eq!(*cluster, found[row % 5], "row {row}");
        }
        let mut first = found[..5].to_vec();
        first.sort_unstable();
        assert_eq!(first, [0, 1, 2, 3, 4]);
        assert_eq!(found, clusters(&values, 3, 5, Draws::new(Seed(2), 0, 0)));
    }

    #[test]
    fn equal_points_are_one_cluster() {
        let found = clusters(&[1.0; 8], 2, 3, Draws::new(Seed(0), 0, 0));
        assert_eq!(found, [0; 4]);
    }
}
