//! Features of real images kept between runs: a `.npz` for each set of images and network, which any NumPy reads. It holds `pooled`
//! \[N,D\], `mu` and `sigma` of these, and where there are `logits` \[N,K\] and `mu_s`, `sigma_s` of spatial features: another evaluator may
//! take it as its reference batch.
//!
//! The file's name is a hash of the images' levels and of all that decides their features, so that what has changed is another file.
//! All files together hold no more than [`MOST`] bytes: when one is kept, those go that were not used for longest.

use super::real::{Rows, moments};
use crate::data::kept::{Kept, Shelf, use_now};
use crate::data::{Array, Arrays, pack};
use crate::eval::features::{Features, Pixels};
use crate::io::files::Kind;
use crate::io::output::tell;
use crate::metrics::frechet::Gaussian;
use duet::Result;
use std::fs::File;
use std::io;
use std::path::Path;

/// Another number for another layout.
const FORMAT: &str = "duet features 1";
/// Bytes of all files together: of the 10,000 test images of a set, Inception's features and moments take 0.15 GB.
pub const MOST: u64 = 2 << 30;
/// What files' names end in, after the key.
const ENDING: &str = ".features.npz";

/// What a file is of.
pub struct Key(blake3::Hash);

/// A folder with features of real images.
pub struct Cache {
    shelf: Shelf,
    most: u64,
}

impl Cache {
    /// The cache of a folder, which is made when something is kept.
    pub fn new(folder: &Path) -> Cache {
        Cache { shelf: Shelf::new(folder, ENDING), most: MOST }
    }

    /// The key of these images' features.
    pub fn key(images: &Pixels, features: &dyn Features) -> Key {
        let Pixels { bytes, count, height, width, channels } = images;
        let (name, reads, identity) = (features.name(), features.reads(), features.identity());
        let what = format!("{FORMAT}\n{name}\n{reads}\n{identity}\n{count} {height} {width} {channels}\n");
        let mut hasher = blake3::Hasher::new();
        hasher.update(what.as_bytes()).update(bytes);
        Key(hasher.finalize())
    }

    /// What there is of a key. A file that is damaged is none, and that is told.
    pub fn find(&self, key: &Key) -> Option<Rows> {
        let path = self.shelf.place(&key.0);
        if !path.is_file() {
            return None;
        }
        match read(&path) {
            Ok(rows) => {
                if let Ok(file) = File::open(&path) {
                    use_now(&file);
                }
                Some(rows)
            }
            Err(error) => {
                tell!("duet: warning: features of real images are extracted anew: {error}");
                None
            }
        }
    }

    /// Keeps features, and removes those that have not been used for longest where all together become too many. What cannot be written is
    /// told and no more: the figures do not need it.
    pub fn keep(&self, key: &Key, rows: &Rows) {
        let place = self.shelf.place(&key.0);
        let write = || -> Result<()> {
            let folder = self.shelf.folder();
            self.shelf
                .make_folder()
                .map_err(|e| Kind::Table.refuse(folder, format!("cannot be made: {e}")))?;
            self.shelf.remove_old();
            Kind::Table.write(&place, &pack(&arrays(rows)?)?)
        };
        match write() {
            Ok(()) => self.shelf.remove_beyond(self.most, &place),
            Err(error) => tell!("duet: warning: features of real images are not kept: {error}"),
        }
    }

    /// All files, the last used first.
    ///
    /// # Errors
    /// A folder that cannot be read; none is one without files.
    pub fn kept(&self) -> io::Result<Vec<Kept>> {
        self.shelf.kept()
    }

    /// Of how many images a file holds how many numbers each; `None` of what is not whole.
    pub fn shape(kept: &Kept) -> Option<[usize; 2]> {
        let header = Arrays::open(&kept.path).ok()?.header("pooled").ok()?;
        <[usize; 2]>::try_from(header.shape).ok()
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn key(text: &str) -> Key {
        Key(blake3::hash(text.as_bytes()))
    }

    fn rows(first: f32) -> Rows {
        Rows { pooled: vec![first, 2.0, 3.0, 5.0], len: 2, logits: None, spatial: None }
    }

    #[test]
    fn what_is_not_used_for_longest_goes_when_there_is_too_much() {
        let home = tempfile::tempdir().unwrap();
        let mut cache = Cache::new(&home.path().join("kept"));
        assert!(cache.find(&key("a")).is_none() && cache.kept().unwrap().is_empty());
        let age = |name: &str, seconds: u64| {
            let used = SystemTime::now() - std::time::Duration::from_secs(seconds);
            File::open(cache.shelf.place(&key(name).0)).unwrap().set_modified(used).unwrap();
        };
        for (name, seconds) in [("a", 300), ("b", 200), ("c", 100)] {
            cache.keep(&key(name), &rows(1.0));
            age(name, seconds);
        }
        let mine = cache.shelf.folder().join("mine.features.npz");
        std::fs::write(&mine, vec![0; 100_000]).unwrap();
        let kept = cache.kept().unwrap();
        assert_eq!(kept.iter().map(Cache::shape).collect::<Vec<_>>(), [Some([2, 2]); 3]);
        // Found, so that it is the last used one now.
        assert_eq!(cache.find(&key("a")).unwrap().pooled, rows(1.0).pooled);
        assert_eq!(cache.kept().unwrap()[0].path, cache.shelf.place(&key("a").0));
        // Room for three of four: the one that was not used for longest goes.
        cache.most = kept.iter().map(|kept| kept.bytes).sum();
        cache.keep(&key("d"), &rows(4.0));
        let there = ["a", "b", "c", "d"].map(|name| cache.find(&key(name)).is_some());
        assert_eq!(there, [true, false, true, true]);
        // One that is too large alone is kept all the same, and alone.
        cache.most = 1;
        cache.keep(&key("e"), &rows(5.0));
        assert_eq!(cache.kept().unwrap().len(), 1);
        assert_eq!(cache.find(&key("e")).unwrap().pooled[0], 5.0);
        assert!(mine.exists());
    }
}
