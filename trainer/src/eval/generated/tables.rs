//! Features and moments as tables of a part. A part of the images has their spatial features row by row, all of them at once have the
//! moments alone, which are what memory can hold: they are the same sums, made here or where the parts are put together.

use super::real::{Rows, Summed, extract_each};
use crate::cli::Shard;
use crate::eval::features::{Extracted, Features, Pixels};
use crate::metrics::frechet::Gaussian;
use crate::shard::{Part, Table};
use duet::Result;
use std::ops::Range;

const POOLED: &str = "pooled";
const SPATIAL: &str = "spatial";
const LOGITS: &str = "logits";

/// The table of the moments of a side's spatial features.
fn spatial(side: &str) -> String {
    format!("{side}-{SPATIAL}")
}

/// Puts the features of all images of a side in.
///
/// # Errors
/// None that rows have.
pub fn put_all(part: &mut Part, side: &str, rows: Rows) -> Result<()> {
    let count = rows.count();
    let mut table = Table::new(count, 0..count).with_f32(POOLED, rows.pooled)?;
    if let Some((logits, _)) = rows.logits {
        table = table.with_f32(LOGITS, logits)?;
    }
    part.put(side, table);
    match rows.spatial {
        Some(moments) => put_moments(part, &spatial(side), &moments, Shard::WHOLE),
        None => Ok(()),
    }
}

/// Which images of a side are a part's, and what is kept of them.
pub struct Slice<'a> {
    /// The images of the part.
    pub images: &'a Pixels,
    /// Which of how many these are.
    pub range: Range<usize>,
    /// See `range`.
    pub total: usize,
    /// Whether their spatial features are asked for.
    pub spatial: bool,
    /// Whether no progress is shown.
    pub quiet: bool,
}

/// Puts the features of a part of a side's images in; their logits \[N,K\], where the features come with some.
///
/// # Errors
/// As [`Features::extract`]; [`duet::Error::Aborted`] after Ctrl-C.
pub fn put_some(
    part: &mut Part,
    side: &str,
    features: &mut dyn Features,
    some: Slice<'_>,
) -> Result<Vec<f32>> {
    let Slice { images, range, total, spatial, quiet } = some;
    let (mut pooled, mut places, mut logits) = (Vec::new(), Vec::new(), Vec::new());
    extract_each(features, images, side, quiet, |found: Extracted| {
        pooled.extend(found.pooled);
        if let (true, Some((values, _))) = (spatial, found.spatial) {
            places.extend(values);
        }
        if let Some((values, _)) = found.logits {
            logits.extend(values);
        }
        Ok(())
    })?;
    let mut table = Table::new(total, range);
    if !table.is_empty() {
        table = table.with_f32(POOLED, pooled)?;
        for (name, values) in [(SPATIAL, places), (LOGITS, logits.clone())] {
            if !values.is_empty() {
                table = table.with_f32(name, values)?;
            }
        }
    }
    part.put(side, table);
    Ok(logits)
}

/// The features of all images of a side.
///
/// # Errors
/// A part without them.
pub fn take(part: &mut Part, side: &str) -> Result<Rows> {
    let mut table = part.take(side)?;
    let (pooled, len) = table.f32s(POOLED)?;
    let logits = if table.has(LOGITS) { Some(table.f32s(LOGITS)?) } else { None };
    let moments = match table.has(SPATIAL) {
        true => {
            let (places, columns) = table.f32s(SPATIAL)?;
            Summed::of_rows(&places, columns)?
        }
        false => take_moments(part, &spatial(side))?,
    };
    Ok(Rows { pooled, len, logits, spatial: moments })
}

/// Puts a mean and its covariance in, a row for each number: a part has some.
///
/// # Errors
/// None that moments have.
pub fn put_moments(part: &mut Part, name: &str, of: &Gaussian, shard: Shard) -> Result<()> {
    let columns = of.mean().len();
    let range = shard.range(columns, 1);
    let mean = of.mean()[range.clone()].to_vec();
    let covariance = of.covariance()[range.start * columns..range.end * columns].to_vec();
    let table = Table::new(columns, range).with_f64("mean", mean)?.with_f64("covariance", covariance)?;
    part.put(name, table);
    Ok(())
}

/// A mean with its covariance; `None` where there is none.
///
/// # Errors
/// Numbers that are none.
pub fn take_moments(part: &mut Part, name: &str) -> Result<Option<Gaussian>> {
    if !part.has(name) {
        return Ok(None);
    }
    let mut table = part.take(name)?;
    let (mean, _) = table.f64s("mean")?;
    Gaussian::from_parts(mean, &table.f64s("covariance")?.0).map(Some)
}
