//! Real images as figures of generated ones need them: their features, extracted once and kept for later runs.

use super::cache::Cache;
use super::samples;
use crate::data::{Array, Arrays, Dataset};
use crate::eval::features::{Extracted, Features, Pixels};
use crate::io::output::progress;
use crate::io::session::go_on;
use crate::metrics::frechet::{Gaussian, Moments};
use duet::{Error, Result};
use std::path::Path;

/// Images whose features are extracted before the listener hears of it: some batches.
const PART: usize = 256;

/// Features of a set.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Pooled features \[N,len\].
    pub pooled: Vec<f32>,
    /// Numbers of a row.
    pub len: usize,
    /// Logits \[N,K\] and K.
    pub logits: Option<(Vec<f32>, usize)>,
    /// Mean and covariance of the spatial features.
    pub spatial: Option<Gaussian>,
}

impl Rows {
    /// Rows there are.
    pub fn count(&self) -> usize {
        self.pooled.len() / self.len.max(1)
    }

    /// `count` rows, the middle of each of as many equal stretches: sorted data give all their classes. All where there are not more.
    pub fn spread(&self, count: usize) -> Vec<f32> {
        let all = self.count();
        if count >= all {
            return self.pooled.clone();
        }
        let row = |i: usize| (2 * i + 1) * all / (2 * count) * self.len;
        (0..count).flat_map(|i| &self.pooled[row(i)..row(i) + self.len]).copied().collect()
    }
}

/// Extracts the features of images, part by part: of spatial ones memory holds a part and the covariance.
///
/// # Errors
/// As [`Features::extract`]; [`Error::Aborted`] after Ctrl-C.
pub fn extract(features: &mut dyn Features, images: &Pixels, what: &str, quiet: bool) -> Result<Rows> {
    let template = format!("features of {what} images {{wide_bar}} {{pos}}/{{len}} {{eta}}");
    let bar = progress(images.count as u64, 0, &template, quiet);
    let mut rows = Rows { pooled: Vec::new(), len: 0, logits: None, spatial: None };
    let mut moments: Option<Moments> = None;
    for first in (0..images.count).step_by(PART) {
        let part = images.part(first..first + PART);
        let count = part.count;
        let Extracted { pooled, len, spatial, logits } = features.extract(&part)?;
        rows.len = len;
        rows.pooled.extend(pooled);
        if let Some((spatial, columns)) = spatial {
            moments.get_or_insert_with(|| Moments::new(columns)).add(&spatial)?;
        }
        if let Some((logits, classes)) = logits {
            rows.logits.get_or_insert((Vec::new(), classes)).0.extend(logits);
        }
        bar.inc(count as u64);
        if go_on().is_break() {
            return Err(Error::Aborted);
        }
    }
    bar.finish_and_clear();
    // Of one image there is no covariance; figures that need one say so.
    rows.spatial = moments.and_then(|moments| moments.gaussian().ok());
    Ok(rows)
}

/// The real side.
pub struct Real {
    /// Features of its images; `None` of a file that holds their moments alone.
    pub rows: Option<Rows>,
    /// Moments of the pooled features, where a file holds no images.
    pub pooled: Option<Gaussian>,
    /// Moments of the spatial features, likewise.
    pub spatial: Option<Gaussian>,
    /// Which images, for protocols.
    pub source: String,
    /// Images of each class share of the test set, where these are the data's: their rows.
    pub of_test: Option<Vec<usize>>,
}

/// Where real images come from.
pub enum Source<'a> {
    /// As many images of the data as are asked for; 0: all.
    Data(&'a Dataset, usize),
    /// A file.
    File(&'a Path),
}

impl Real {
    /// The real side of figures in these features, from the cache where it is there.
    ///
    /// # Errors
    /// A missing or damaged file; images that the features do not read; [`Error::Aborted`]; device errors.
    pub fn of(
        source: Source<'_>,
        features: &mut dyn Features,
        cache: Option<&Cache>,
        quiet: bool,
    ) -> Result<Real> {
        match source {
            Source::Data(data, count) => {
                let rows = data.spread(if count == 0 { data.len() } else { count });
                let planes: Vec<u8> = rows.iter().flat_map(|row| data.image(*row)).copied().collect();
                let pixels = Pixels::from_planes(&planes, [data.channels, data.size, data.size])?;
                let source = format!("{} of {} test images", rows.len(), data.len());
                Self::of_images(&pixels, source, Some(rows), features, cache, quiet)
            }
            Source::File(path) => {
                let mut arrays = Arrays::open(path)?;
                let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if arrays.has("arr_0") {
                    let pixels = samples::read_for(features, &mut arrays)?;
                    let source = format!("{} images of {file}", pixels.count);
                    return Self::of_images(&pixels, source, None, features, cache, quiet);
                }
                let pooled = moments(&mut arrays, ["mu", "sigma"])?;
                let spatial = match arrays.has("mu_s") {
                    true => Some(moments(&mut arrays, ["mu_s", "sigma_s"])?),
                    false => None,
                };
                let source = format!("mean and covariance of {file}");
                Ok(Real { rows: None, pooled: Some(pooled), spatial, source, of_test: None })
            }
        }
    }

    fn of_images(
        pixels: &Pixels,
        source: String,
        of_test: Option<Vec<usize>>,
        features: &mut dyn Features,
        cache: Option<&Cache>,
        quiet: bool,
    ) -> Result<Real> {
        let key = Cache::key(pixels, features);
        let kept = cache.and_then(|cache| cache.find(&key));
        let rows = match kept {
            Some(rows) => rows,
            None => {
                let rows = extract(features, pixels, "real", quiet)?;
                if let Some(cache) = cache {
                    cache.keep(&key, &rows);
                }
                rows
            }
        };
        let hash = blake3::hash(&pixels.bytes).to_hex();
        let source = format!("{source} (blake3:{})", &hash[..12]);
        Ok(Real { rows: Some(rows), pooled: None, spatial: None, source, of_test })
    }

    /// Checks that the moments of the file at `path` are of features as an image's `of` are.
    ///
    /// # Errors
    /// Moments of other numbers of features, by their names in the file.
    pub fn check(&self, of: &Extracted, path: &Path) -> Result<()> {
        let spatial = of.spatial.as_ref().map(|(_, columns)| *columns);
        for (name, moments, has) in [("mu", &self.pooled, Some(of.len)), ("mu_s", &self.spatial, spatial)] {
            if let (Some(moments), Some(has)) = (moments, has)
                && moments.mean().len() != has
            {
                let detail =
                    format!("{name}: of {} numbers; these features have {has}", moments.mean().len());
                return Err(Error::Data { path: path.to_owned(), detail });
            }
        }
        Ok(())
    }

    /// Moments of the pooled features.
    ///
    /// # Errors
    /// Fewer than two images.
    pub fn pooled(&self) -> Result<Gaussian> {
        match (&self.rows, &self.pooled) {
            (Some(rows), _) => Gaussian::of(&rows.pooled, rows.len),
            (None, Some(gaussian)) => Ok(gaussian.clone()),
            (None, None) => Err(Error::config("reference", "holds neither images nor their moments")),
        }
    }

    /// Moments of the spatial features; `None` where there are none.
    pub fn spatial(&self) -> Option<&Gaussian> {
        self.rows.as_ref().map_or(self.spatial.as_ref(), |rows| rows.spatial.as_ref())
    }
}

/// A mean and a covariance of a file.
pub(super) fn moments(arrays: &mut Arrays, [mean, covariance]: [&str; 2]) -> Result<Gaussian> {
    let mut numbers = |name: &str| -> Result<Vec<f64>> {
        let array: Array = arrays.get(name)?;
        array.numbers().map_err(|detail| arrays.wrong(name, detail))
    };
    let (values, matrix) = (numbers(mean)?, numbers(covariance)?);
    Gaussian::from_parts(values, &matrix).map_err(|error| arrays.wrong(covariance, error))
}
