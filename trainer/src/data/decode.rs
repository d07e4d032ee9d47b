//! The pictures of a data set: decoded once, on all cores, and held out by what is in them. With a cache, once for all runs.

use super::cache::{Cache, Entry, Key};
use super::images::Images;
use super::spec::Damaged;
use super::threads::{each, lock};
use super::{bad, file, picture};
use duet::picture::Preparation;
use duet::{Error, Result};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Mutex;

/// Broken pictures that an error names.
const MOST_NAMED: usize = 10;
/// Tells hashes of why a file cannot be read from those of contents.
const UNREADABLE: &str = "duet 2026 a picture that cannot be read";

/// A number in 0..1 that depends on a picture's contents and the seed.
pub fn share(bytes: &[u8], seed: u64) -> f64 {
    let mut word = [0u8; 8];
    blake3::Hasher::new().update(&seed.to_le_bytes()).update(bytes).finalize_xof().fill(&mut word);
    // The 53 bits that an f64 holds exactly.
    (u64::from_le_bytes(word) >> 11) as f64 / (1u64 << 53) as f64
}

/// What is heard while pictures are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told<'a> {
    /// So many pictures are looked at, to see whether they are in the cache.
    Reading(usize),
    /// So many pictures are decoded, the first time or because they are kept nowhere.
    Decoding(usize),
    /// One of them is done.
    One,
    /// What is wrong with the cache; the data come all the same.
    Warning(&'a str),
}

/// Hears what is told, and says whether to go on.
pub type Listener<'a> = &'a (dyn Fn(Told<'_>) -> ControlFlow<()> + Sync);

/// How pictures are read.
#[derive(Clone, Copy, Default)]
pub struct Reading<'a> {
    /// Where they are kept decoded; `None`: nowhere, they are in memory.
    pub cache: Option<&'a Cache>,
    /// Who hears how far it is.
    pub listener: Option<Listener<'a>>,
}

impl Reading<'_> {
    fn tell(&self, told: Told<'_>) -> ControlFlow<()> {
        self.listener.map_or(ControlFlow::Continue(()), |listener| listener(told))
    }

    /// Does something with each item of a list, a thread a core.
    fn each<T: Send>(
        &self,
        begins: Told<'_>,
        items: impl Iterator<Item = T> + Send,
        one: impl Fn(T) + Sync,
    ) -> Result<()> {
        let told = |item: T| {
            one(item);
            self.tell(Told::One)
        };
        if self.tell(begins).is_break() || each(items, told).is_break() {
            return Err(Error::Aborted);
        }
        Ok(())
    }
}

/// Pictures that could be read.
pub struct Decoded {
    /// Grey levels \[N,C,H,W\].
    pub images: Images,
    /// Of each of these whether it is to test on.
    pub held_out: Vec<bool>,
    /// Of each picture asked for whether it was read.
    read: Vec<bool>,
    /// Those that were not, in words.
    pub warning: Option<String>,
}

impl Decoded {
    /// Of a list with something for each picture asked for, what belongs to those that were read.
    pub fn kept<T>(&self, list: Vec<T>) -> Vec<T> {
        list.into_iter().zip(&self.read).filter(|(_, read)| **read).map(|(one, _)| one).collect()
    }
}

/// A picture that cannot be read, by its place in the list, and why.
pub type Broken = (usize, String);

/// Which pictures of a folder are read, and what becomes of them.
pub struct Asked<'a> {
    /// The folder, for words.
    pub root: &'a Path,
    /// The files.
    pub pictures: &'a [&'a Path],
    /// What each of them becomes.
    pub preparation: &'a Preparation,
    /// What becomes of all where some cannot be read.
    pub damaged: Damaged,
}

/// Grey levels of all pictures in their order, and for each whether it is to test on. Each file is decoded once, a thread per
/// core, or not at all where the cache has it; no more than one decoded picture a thread is kept in its own size.
///
/// `side` says it of a picture's place in the list and its file's contents.
///
/// # Errors
/// Pictures that cannot be read, all of them named up to a number, where they are not passed over or none is left;
/// [`Error::Aborted`] where the listener ends it. What is wrong with the cache is told, and no error.
pub fn decode(
    asked: &Asked<'_>,
    side: impl Fn(usize, &[u8]) -> bool + Sync,
    reading: Reading<'_>,
) -> Result<Decoded> {
    if let Some(cache) = reading.cache.filter(|_| !asked.pictures.is_empty() && asked.image_len() > 0) {
        let (key, sides) = asked.contents(&side, reading)?;
        if let Some(entry) = asked.kept_by(cache, &key, reading)? {
            return asked.outcome(entry.broken, sides, |read| {
                let rows = read.iter().enumerate().filter(|(_, read)| **read).map(|(row, _)| row);
                Images::of_file(entry.levels, rows.collect())
            });
        }
    }
    asked.in_memory(side, reading)
}

impl Asked<'_> {
    fn image_len(&self) -> usize {
        self.preparation.channels * self.preparation.size * self.preparation.size
    }

    /// The files' contents and how they are prepared, as a key; and for each whether it is to test on.
    fn contents(
        &self,
        side: impl Fn(usize, &[u8]) -> bool + Sync,
        reading: Reading<'_>,
    ) -> Result<(Key, Vec<bool>)> {
        let (mut contents, mut sides) =
            (vec![[0u8; 32]; self.pictures.len()], vec![false; self.pictures.len()]);
        let all = self.pictures.iter().zip(&mut contents).zip(&mut sides).enumerate();
        let one = |(row, ((path, content), test)): (usize, ((&&Path, &mut [u8; 32]), &mut bool))| {
            let read = file::read(path);
            *content = content_of(&read);
            *test = read.is_ok_and(|(_, bytes)| side(row, &bytes));
        };
        reading.each(Told::Reading(self.pictures.len()), all, one)?;
        Ok((Key::new(self.preparation, contents), sides))
    }

    /// What the cache has of a key, made where it has nothing; `None` where it can keep nothing, which is told.
    fn kept_by(&self, cache: &Cache, key: &Key, reading: Reading<'_>) -> Result<Option<Entry>> {
        let warn = |text: String| reading.tell(Told::Warning(&text));
        match cache.find(key) {
            Ok(Some(entry)) => return Ok(Some(entry)),
            Ok(None) => {}
            Err(damaged) if warn(format!("{damaged}; the pictures are decoded anew")).is_break() => {
                return Err(Error::Aborted);
            }
            Err(_) => {}
        }
        let made = cache.begin(key).and_then(|writer| {
            let failed = Mutex::new(None);
            let broken = Mutex::new(Vec::new());
            let one = |(row, path): (usize, &&Path)| {
                let read = file::read(path);
                if content_of(&read) != key.contents[row] {
                    *lock(&failed) = Some(format!("{} changed while it was read", path.display()));
                    return;
                }
                match self.levels(path, read).map(|(levels, _)| writer.put(row, &levels)) {
                    Ok(Ok(())) => {}
                    Ok(Err(why)) => *lock(&failed) = Some(why),
                    Err(why) => lock(&broken).push((row, why)),
                }
            };
            // The first failure is enough: all that follows would be for nothing.
            let all = self.pictures.iter().enumerate().take_while(|_| lock(&failed).is_none());
            if reading.each(Told::Decoding(self.pictures.len()), all, one).is_err() {
                return Ok(None);
            }
            if let Some(why) = lock(&failed).take() {
                return Err(why);
            }
            let mut broken = std::mem::take(&mut *lock(&broken));
            broken.sort_unstable();
            writer.end(broken).map(Some)
        });
        match made {
            Ok(Some(entry)) => Ok(Some(entry)),
            Ok(None) => Err(Error::Aborted),
            Err(why) if warn(format!("decoded pictures are not kept: {why}")).is_break() => {
                Err(Error::Aborted)
            }
            Err(_) => Ok(None),
        }
    }

    /// All pictures decoded into memory.
    fn in_memory(&self, side: impl Fn(usize, &[u8]) -> bool + Sync, reading: Reading<'_>) -> Result<Decoded> {
        let (len, count) = (self.image_len(), self.pictures.len());
        let total = len.checked_mul(count).filter(|_| len > 0);
        let total = total.ok_or_else(|| bad(self.root, "is more than memory can hold at this size"))?;
        let mut images = Vec::new();
        images.try_reserve_exact(total).map_err(|_| {
            let most = total >> 20;
            bad(
                self.root,
                format!(
                    "is {most} MiB at this size, more than memory has: keep decoded pictures (no --no-cache)"
                ),
            )
        })?;
        images.resize(total, 0);
        let mut sides = vec![false; count];
        let broken = Mutex::new(Vec::new());
        let all = self.pictures.iter().zip(images.chunks_exact_mut(len)).zip(&mut sides).enumerate();
        let one = |(row, ((path, to), test)): (usize, ((&&Path, &mut [u8]), &mut bool))| match self
            .levels(path, file::read(path))
        {
            Ok((levels, bytes)) => {
                to.copy_from_slice(&levels);
                *test = side(row, &bytes);
            }
            Err(why) => lock(&broken).push((row, why)),
        };
        reading.each(Told::Decoding(count), all, one)?;
        let mut broken = std::mem::take(&mut *lock(&broken));
        broken.sort_unstable();
        self.outcome(broken, sides, |read| {
            let unread: Vec<bool> = read.iter().map(|read| !read).collect();
            let mut images = Images::from(images);
            images.take_out(&unread);
            images
        })
    }

    /// A file's levels and contents, or why there are none, in words without its name.
    fn levels(
        &self,
        path: &Path,
        read: Result<(image::ImageFormat, Vec<u8>)>,
    ) -> std::result::Result<(Vec<u8>, Vec<u8>), String> {
        let made = read.and_then(|(format, bytes)| {
            Ok((picture::prepare(path, format, &bytes, self.preparation)?.levels, bytes))
        });
        made.map_err(|error| why(&error))
    }

    /// What comes of all pictures, where some may be broken: `images` makes it of which were read.
    fn outcome(
        &self,
        broken: Vec<Broken>,
        sides: Vec<bool>,
        images: impl FnOnce(&[bool]) -> Images,
    ) -> Result<Decoded> {
        let mut read = vec![true; self.pictures.len()];
        if broken.is_empty() {
            return Ok(Decoded { images: images(&read), held_out: sides, read, warning: None });
        }
        let count = broken.len();
        let mut words = Vec::new();
        for (row, why) in broken {
            if let (Some(path), Some(read)) = (self.pictures.get(row), read.get_mut(row)) {
                *read = false;
                if words.len() < MOST_NAMED {
                    words.push(format!("{}: {why}", path.strip_prefix(self.root).unwrap_or(path).display()));
                }
            }
        }
        if count > MOST_NAMED {
            words.push(format!("and {} more", count - MOST_NAMED));
        }
        let detail =
            format!("{count} of {} pictures cannot be read: {}", self.pictures.len(), words.join("; "));
        if self.damaged == Damaged::Refuse || count == self.pictures.len() {
            return Err(bad(self.root, detail));
        }
        let held_out =
            sides.into_iter().zip(&read).filter(|(_, read)| **read).map(|(side, _)| side).collect();
        let warning = Some(format!("{detail}; they are passed over"));
        Ok(Decoded { images: images(&read), held_out, read, warning })
    }
}

/// What a file holds, or that it cannot be read and why, as a hash.
fn content_of(read: &Result<(image::ImageFormat, Vec<u8>)>) -> [u8; 32] {
    match read {
        Ok((_, bytes)) => *blake3::hash(bytes).as_bytes(),
        Err(error) => {
            *blake3::Hasher::new_derive_key(UNREADABLE).update(why(error).as_bytes()).finalize().as_bytes()
        }
    }
}

/// An error of a file, without the file's name.
fn why(error: &Error) -> String {
    match error {
        Error::Data { detail, .. } => detail.clone(),
        other => other.to_string(),
    }
}
