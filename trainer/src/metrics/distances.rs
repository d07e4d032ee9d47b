//! Sets of points as rows of numbers, and squared distances between them: a few rows at a time, on all cores.

use duet::{Error, Result};
use rayon::prelude::*;
use std::ops::ControlFlow;

/// Rows that share a walk through the other set.
const TILE: usize = 8;

/// Hears of so many more rows that are done, and may stop what runs.
pub type Listener<'a> = &'a mut dyn FnMut(usize) -> ControlFlow<()>;

/// Listens to nothing.
pub fn nobody(_rows: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// How many rows there are.
///
/// # Errors
/// [`Error::Shape`] for no whole number of rows, [`Error::NotFinite`] naming the first row with a number that is none; both name the
/// measure.
pub(super) fn rows_of(measure: &'static str, points: &[f32], columns: usize) -> Result<usize> {
    if columns == 0 || !points.len().is_multiple_of(columns) {
        let detail = format!("{} values are no rows of {columns}", points.len());
        return Err(Error::shape(measure, detail));
    }
    match points.iter().position(|value| !value.is_finite()) {
        None => Ok(points.len() / columns),
        Some(place) => {
            let row = place / columns;
            let detail =
                format!("{measure}: the features of image {row} (counted from 0) are NaN or infinite");
            Err(Error::NotFinite { detail })
        }
    }
}

/// Squared distance, in eight sums that run side by side.
pub(super) fn apart(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(x, y)| (x - y) * (x - y)).sum();
    for (x, y) in a.zip(b) {
        for i in 0..8 {
            sums[i] += (x[i] - y[i]) * (x[i] - y[i]);
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// What `of` makes of each row of `a` \[N,columns\], by its number and its squared distances to all rows of `b` \[M,columns\], in order.
/// Memory is that of a few rows of distances for each core.
///
/// # Errors
/// [`Error::Aborted`] where the listener stops it.
pub(super) fn by_row<T: Send>(
    [a, b]: [&[f32]; 2],
    columns: usize,
    hear: Listener<'_>,
    of: impl Fn(usize, &mut [f32]) -> T + Sync,
) -> Result<Vec<T>> {
    let columns = columns.max(1);
    let others = b.len() / columns;
    let round = TILE * 4 * rayon::current_num_threads();
    let mut made = Vec::with_capacity(a.len() / columns);
    for (number, part) in a.chunks(round * columns).enumerate() {
        let tiles = part.par_chunks(TILE * columns).enumerate().flat_map_iter(|(tile, rows)| {
            let first = number * round + tile * TILE;
            let mut distances = vec![0.0f32; rows.len() / columns * others];
            for (j, other) in b.chunks_exact(columns).enumerate() {
                for (i, row) in rows.chunks_exact(columns).enumerate() {
                    distances[i * others + j] = apart(row, other);
                }
            }
            let of = &of;
            let rows = distances.chunks_exact_mut(others.max(1)).enumerate();
            rows.map(|(i, distances)| of(first + i, distances)).collect::<Vec<T>>()
        });
        made.par_extend(tiles);
        if hear(part.len() / columns).is_break() {
            return Err(Error::Aborted);
        }
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_once_and_in_order() {
        // Points on a line: more rows than several rounds of tiles, in two columns.
        let line = |count: usize| (0..count).flat_map(|i| [i as f32, 1.0]).collect::<Vec<f32>>();
        let (a, b) = (line(1000), line(5));
        let mut heard = 0;
        let mut hear = |rows| {
            heard += rows;
            ControlFlow::Continue(())
        };
        let rows = by_row([&a, &b], 2, &mut hear, |i, distances| (i, distances.to_vec())).unwrap();
        assert_eq!((rows.len(), heard), (1000, 1000));
        for (i, (number, distances)) in rows.iter().enumerate() {
            let want: Vec<f32> = (0..5).map(|j| (i as f32 - j as f32).powi(2)).collect();
            assert!(*number == i && *distances == want, "row {i}");
        }
        let stopped = by_row([&a, &b], 2, &mut |_| ControlFlow::Break(()), |_, _| ());
        assert!(matches!(stopped, Err(Error::Aborted)));
    }

    #[test]
    fn rows_that_are_none_are_named() {
        let fails = |points: &[f32], columns| rows_of("KID", points, columns).unwrap_err().to_string();
        assert!(fails(&[0.0; 5], 2).contains("5 values") && fails(&[], 0).contains("KID"));
        let error = fails(&[0.0, 1.0, 2.0, f32::NAN], 2);
        assert!(error.contains("KID") && error.contains("image 1"), "{error}");
        assert_eq!(rows_of("KID", &[0.0; 6], 2).unwrap(), 3);
    }
}
