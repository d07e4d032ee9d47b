//! Features of real images kept between runs: a `.npz` for each set of images and network, which any NumPy reads. It holds `pooled`
//! \[N,D\], `mu` and `sigma` of these, and where there are `logits` \[N,K\] and `mu_s`, `sigma_s` of spatial features: another evaluator may
//! take it as its reference batch.
//!
//! The file's name is a hash of the images' levels and of all that decides their features, so that what has changed is another file.

use super::real::{Rows, moments};
use crate::data::{Array, Arrays, pack};
use crate::eval::features::{Features, Pixels};
use crate::io::files::Kind;
use crate::io::output::tell;
use crate::metrics::frechet::Gaussian;
use duet::Result;
use std::path::{Path, PathBuf};

/// Another number for another layout.
const FORMAT: &str = "duet features 1";
/// What files' names end in, after the key.
const ENDING: &str = ".features.npz";

/// What a file is of.
pub struct Key(String);

/// A folder with features of real images.
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The cache of a folder, which is made when something is kept.
    pub fn new(folder: &Path) -> Cache {
        Cache { folder: folder.to_owned() }
    }

    /// The key of these images' features.
    pub fn key(images: &Pixels, features: &dyn Features) -> Key {
        let Pixels { bytes, count, height, width, channels } = images;
        let (name, reads, identity) = (features.name(), features.reads(), features.identity());
        let what = format!("{FORMAT}\n{name}\n{reads}\n{identity}\n{count} {height} {width} {channels}\n");
        let mut hasher = blake3::Hasher::new();
        hasher.update(what.as_bytes()).update(bytes);
        Key(hasher.finalize().to_hex().to_string())
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.folder.join(format!("{}{ENDING}", key.0))
    }

    /// What there is of a key. A file that is damaged is none, and that is told.
    pub fn find(&self, key: &Key) -> Option<Rows> {
        let path = self.path(key);
        if !path.is_file() {
            return None;
        }
        match read(&path) {
            Ok(rows) => Some(rows),
            Err(error) => {
                tell!("duet: warning: features of real images are extracted anew: {error}");
                None
            }
        }
    }

    /// Keeps features. What cannot be written is told and no more: the figures do not need it.
    pub fn keep(&self, key: &Key, rows: &Rows) {
        let write = || -> Result<()> {
            std::fs::create_dir_all(&self.folder)
                .map_err(|e| Kind::Table.refuse(&self.folder, format!("cannot be made: {e}")))?;
            Kind::Table.write(&self.path(key), &pack(&arrays(rows)?)?)
        };
        if let Err(error) = write() {
            tell!("duet: warning: features of real images are not kept: {error}");
        }
    }
}

/// What a file holds.
fn arrays(rows: &Rows) -> Result<Vec<(&'static str, Array)>> {
    let mut arrays = vec![("pooled", Array::of_f32(&[rows.count(), rows.len], &rows.pooled))];
    let mut moments = |[mean, covariance]: [&'static str; 2], of: &Gaussian| {
        let columns = of.mean().len();
        arrays.push((mean, Array::of_f64(&[columns], of.mean())));
        arrays.push((covariance, Array::of_f64(&[columns, columns], &of.covariance())));
    };
    // Of a single image there are no moments, and others may still use its features.
    if let Ok(pooled) = Gaussian::of(&rows.pooled, rows.len) {
        moments(["mu", "sigma"], &pooled);
    }
    if let Some(spatial) = &rows.spatial {
        moments(["mu_s", "sigma_s"], spatial);
    }
    if let Some((logits, classes)) = &rows.logits {
        arrays.push(("logits", Array::of_f32(&[logits.len() / classes.max(&1), *classes], logits)));
    }
    Ok(arrays)
}

/// Reads a file that was kept.
fn read(path: &Path) -> Result<Rows> {
    let mut arrays = Arrays::open(path)?;
    let has_logits = arrays.has("logits");
    let mut table = |name: &str| -> Result<(Vec<f32>, usize)> {
        let array = arrays.get(name)?;
        let &[count, columns] = array.header.shape.as_slice() else {
            return Err(arrays.wrong(name, "is no table"));
        };
        let values = array.numbers().map_err(|detail| arrays.wrong(name, detail))?;
        if count == 0 || columns == 0 {
            return Err(arrays.wrong(name, "is empty"));
        }
        Ok((values.into_iter().map(|value| value as f32).collect(), columns))
    };
    let (pooled, len) = table("pooled")?;
    let logits = if has_logits { Some(table("logits")?) } else { None };
    let spatial = match arrays.has("mu_s") {
        false => None,
        true => Some(moments(&mut arrays, ["mu_s", "sigma_s"])?),
    };
    Ok(Rows { pooled, len, logits, spatial })
}
