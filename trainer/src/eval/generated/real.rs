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

/// Sums of spatial features, in blocks of as many rows as are extracted at once, whatever came in which order.
#[derive(Default)]
pub struct Summed(Option<Moments>);

impl Summed {
    /// Adds a block \[N,columns\].
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NotFinite`].
    fn add(&mut self, rows: &[f32], columns: usize) -> Result<()> {
        self.0.get_or_insert_with(|| Moments::new(columns)).add(rows)
    }

    /// Mean and covariance. Of one image there is none; figures that need one say so.
    fn gaussian(self) -> Option<Gaussian> {
        self.0.and_then(|moments| moments.gaussian().ok())
    }

    /// Of rows that are all there, in the same blocks.
    ///
    /// # Errors
    /// As [`Summed::add`].
    pub fn of_rows(rows: &[f32], columns: usize) -> Result<Option<Gaussian>> {
        let mut sums = Summed::default();
        rows.chunks((PART * columns).max(1)).try_for_each(|block| sums.add(block, columns))?;
        Ok(sums.gaussian())
    }
}

/// Extracts the features of images, part by part, each of which is handed to `take`.
///
/// # Errors
/// As [`Features::extract`]; those of `take`; [`Error::Aborted`] after Ctrl-C.
pub fn extract_each(
    features: &mut dyn Features,
    images: &Pixels,
    what: &str,
    quiet: bool,
    mut take: impl FnMut(Extracted) -> Result<()>,
) -> Result<()> {
    let template = format!("features of {what} images {{wide_bar}} {{pos}}/{{len}} {{eta}}");
    let bar = progress(images.count as u64, 0, &template, quiet);
    for first in (0..images.count).step_by(PART) {
        let part = images.part(first..first + PART);
        take(features.extract(&part)?)?;
        bar.inc(part.count as u64);
        if go_on().is_break() {
            return Err(Error::Aborted);
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// Extracts the features of images: of spatial ones memory holds a part and the covariance.
///
/// # Errors
/// As [`extract_each`].
pub fn extract(features: &mut dyn Features, images: &Pixels, what: &str, quiet: bool) -> Result<Rows> {
    let mut rows = Rows { pooled: Vec::new(), len: 0, logits: None, spatial: None };
    let mut sums = Summed::default();
    extract_each(features, images, what, quiet, |found| {
        let Extracted { pooled, len, spatial, logits } = found;
        rows.len = len;
        rows.pooled.extend(pooled);
        if let Some((spatial, columns)) = spatial {
            sums.add(&spatial, columns)?;
        }
        if let Some((logits, classes)) = logits {
            rows.logits.get_or_insert((Vec::new(), classes)).0.extend(logits);
        }
        Ok(())
    })?;
    rows.spatial = sums.gaussian();
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
}

/// Where real images come from.
pub enum Source<'a> {
    /// As many images of the data as are asked for; 0: all.
    Data(&'a Dataset, usize),
    /// A file.
    File(&'a Path),
}

/// What real images are compared by, before any features are extracted.
pub enum Given {
    /// Images.
    Images {
        /// Their levels.
        pixels: Pixels,
        /// Which images, for protocols.
        source: String,
        /// Images of each class share of the test set, where these are the data's: their rows.
        of_test: Option<Vec<usize>>,
    },
    /// The moments that a file holds.
    Moments(Box<Real>),
}

impl Given {
    /// Of the data or of a file.
    ///
    /// # Errors
    /// A missing or damaged file; images that the features do not read; device errors.
    pub fn of(source: Source<'_>, features: &mut dyn Features) -> Result<Given> {
        let images = |pixels: Pixels, source: String, of_test| {
            let hash = blake3::hash(&pixels.bytes).to_hex();
            Ok(Given::Images { source: format!("{source} (blake3:{})", &hash[..12]), pixels, of_test })
        };
        match source {
            Source::Data(data, count) => {
                let rows = data.spread(if count == 0 { data.len() } else { count });
                let planes: Vec<u8> = rows.iter().flat_map(|row| data.image(*row)).copied().collect();
                let pixels = Pixels::from_planes(&planes, [data.channels, data.size, data.size])?;
                let source = format!("{} of {} test images", rows.len(), data.len());
                images(pixels, source, Some(rows))
            }
            Source::File(path) => {
                let mut arrays = Arrays::open(path)?;
                let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if arrays.has("arr_0") {
                    let pixels = samples::read_for(features, &mut arrays)?;
                    let source = format!("{} images of {file}", pixels.count);
                    return images(pixels, source, None);
                }
                let pooled = moments(&mut arrays, ["mu", "sigma"])?;
                let spatial = match arrays.has("mu_s") {
                    true => Some(moments(&mut arrays, ["mu_s", "sigma_s"])?),
                    false => None,
                };
                let source = format!("mean and covariance of {file}");
                let real = Real { rows: None, pooled: Some(pooled), spatial, source };
                Ok(Given::Moments(Box::new(real)))
            }
        }
    }
}

/// The features of all real images, from the cache where they are there.
///
/// # Errors
/// As [`extract`].
pub fn kept(
    pixels: &Pixels,
    features: &mut dyn Features,
    cache: Option<&Cache>,
    quiet: bool,
) -> Result<Rows> {
    let key = Cache::key(pixels, features);
    if let Some(rows) = cache.and_then(|cache| cache.find(&key)) {
        return Ok(rows);
    }
    let rows = extract(features, pixels, "real", quiet)?;
    if let Some(cache) = cache {
        cache.keep(&key, &rows);
    }
    Ok(rows)
}

impl Real {
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
