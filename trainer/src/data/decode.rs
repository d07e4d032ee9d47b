//! The pictures of a data set: decoded once, on all cores, and held out by what is in them.

use super::spec::Damaged;
use super::{bad, file, picture};
use duet::picture::Preparation;
use duet::{Error, Result};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Broken pictures that an error names.
const MOST_NAMED: usize = 10;

/// A number in 0..1 that depends on a picture's contents and the seed.
pub fn share(bytes: &[u8], seed: u64) -> f64 {
    let mut word = [0u8; 8];
    blake3::Hasher::new().update(&seed.to_le_bytes()).update(bytes).finalize_xof().fill(&mut word);
    // The 53 bits that an f64 holds exactly.
    (u64::from_le_bytes(word) >> 11) as f64 / (1u64 << 53) as f64
}

/// Pictures that could be read.
pub struct Decoded {
    /// Grey levels \[N,C,H,W\].
    pub images: Vec<u8>,
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

/// Grey levels of all pictures in their order, and for each whether it is to test on. Each file is read and decoded once, a
/// thread per core; no more than one decoded picture a thread is kept in its own size.
///
/// `side` says it of a picture's place in the list and its file's contents.
///
/// # Errors
/// Pictures that cannot be read, all of them named up to a number, where they are not passed over or none is left.
pub fn decode(
    root: &Path,
    pictures: &[&Path],
    preparation: &Preparation,
    damaged: Damaged,
    side: impl Fn(usize, &[u8]) -> bool + Sync,
) -> Result<Decoded> {
    let len = preparation.channels * preparation.size * preparation.size;
    let total = len.checked_mul(pictures.len()).filter(|_| len > 0);
    let total = total.ok_or_else(|| bad(root, "is more than memory can hold at this size"))?;
    let (mut images, mut sides) = (vec![0u8; total], vec![false; pictures.len()]);
    let one = |row: usize, path: &Path, levels: &mut [u8], test: &mut bool| -> Result<()> {
        let (format, bytes) = file::read(path)?;
        levels.copy_from_slice(&picture::prepare(path, format, &bytes, preparation)?.levels);
        *test = side(row, &bytes);
        Ok(())
    };
    let work = Mutex::new(pictures.iter().zip(images.chunks_exact_mut(len)).zip(&mut sides).enumerate());
    let next = || work.lock().unwrap_or_else(PoisonError::into_inner).next();
    let broken = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get()).min(pictures.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((row, ((path, levels), test))) = next() {
                    if let Err(error) = one(row, path, levels, test) {
                        broken.lock().unwrap_or_else(PoisonError::into_inner).push((row, error));
                    }
                }
            });
        }
    });
    let mut broken = broken.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut read = vec![true; pictures.len()];
    if broken.is_empty() {
        return Ok(Decoded { images, held_out: sides, read, warning: None });
    }
    for (row, _) in &broken {
        read[*row] = false;
    }
    broken.sort_by_key(|(row, _)| *row);
    let count = broken.len();
    let mut words: Vec<String> = broken.into_iter().take(MOST_NAMED).map(|(_, e)| words(root, &e)).collect();
    if count > MOST_NAMED {
        words.push(format!("and {} more", count - MOST_NAMED));
    }
    let detail = format!("{count} of {} pictures cannot be read: {}", pictures.len(), words.join("; "));
    if damaged == Damaged::Refuse || count == pictures.len() {
        return Err(bad(root, detail));
    }
    let unread: Vec<bool> = read.iter().map(|read| !read).collect();
    take_out(&mut images, &unread);
    let held_out = sides.into_iter().zip(&read).filter(|(_, read)| **read).map(|(side, _)| side).collect();
    Ok(Decoded { images, held_out, read, warning: Some(format!("{detail}; they are passed over")) })
}

/// An error of a file with the file's place in the folder.
fn words(root: &Path, error: &Error) -> String {
    match error {
        Error::Data { path, detail } => {
            format!("{}: {detail}", path.strip_prefix(root).unwrap_or(path).display())
        }
        other => other.to_string(),
    }
}

/// Moves chosen images out of a list, keeping the order of both.
pub fn take_out(images: &mut Vec<u8>, chosen: &[bool]) -> Vec<u8> {
    let len = images.len() / chosen.len().max(1);
    let mut out = Vec::with_capacity(len * chosen.iter().filter(|chosen| **chosen).count());
    let mut kept = 0;
    for (row, chosen) in chosen.iter().enumerate() {
        let place = row * len..(row + 1) * len;
        if *chosen {
            out.extend_from_slice(&images[place]);
        } else {
            images.copy_within(place, kept);
            kept += len;
        }
    }
    images.truncate(kept);
    out
}
