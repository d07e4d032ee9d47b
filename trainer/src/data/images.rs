//! The images of a data set: levels in memory, or in a file of the cache, which the system reads when they are needed and
//! forgets when memory is short.

use duet::train::Pixels;
use memmap2::Mmap;
use std::borrow::Cow;
use std::fs::File;
use std::sync::Arc;

/// Grey levels \[N,C,H,W\].
#[derive(Clone)]
pub struct Images(Place);

#[derive(Clone)]
enum Place {
    /// One image after the other.
    Memory(Vec<u8>),
    /// Those images of a file, by their places in it.
    File { file: Mapped, rows: Vec<usize> },
}

/// Levels in a file, images of so many bytes.
#[derive(Clone)]
pub struct Mapped {
    map: Arc<Mmap>,
    /// Where the levels lie in it.
    range: (usize, usize),
    len: usize,
}

impl Mapped {
    /// `count` images of `len` bytes from byte `first` of a file on.
    ///
    /// # Errors
    /// A file that is shorter, or that the system does not map.
    pub fn new(file: &File, first: usize, count: usize, len: usize) -> std::io::Result<Mapped> {
        // SAFETY: the memory is what the file holds, so the file must neither be cut nor changed while it is mapped. It is the
        // cache's: made whole under another name, then renamed, and never opened for writing again; who removes it takes its
        // name away, and what is mapped stays until the last map is gone. A program that is not this one could still cut it,
        // as it could cut this program's own file, of which the system maps the code in the same way.
        let map = unsafe { Mmap::map(file)? };
        let end = count.checked_mul(len).and_then(|levels| levels.checked_add(first));
        let end = end.filter(|end| *end <= map.len());
        let end = end.ok_or_else(|| std::io::Error::other("is shorter than its images"))?;
        Ok(Mapped { map: Arc::new(map), range: (first, end), len })
    }

    /// All levels.
    pub fn levels(&self) -> &[u8] {
        self.map.get(self.range.0..self.range.1).unwrap_or_default()
    }
}

impl Images {
    /// Some images of a file, by their places in it.
    pub fn of_file(file: Mapped, rows: Vec<usize>) -> Images {
        Images(Place::File { file, rows })
    }

    /// As training reads them.
    pub fn pixels(&self) -> Pixels<'_> {
        match &self.0 {
            Place::Memory(levels) => Pixels::Levels(levels),
            Place::File { file, rows } => Pixels::Rows { levels: file.levels(), rows },
        }
    }

    /// The levels of an image, of `len` bytes; none where it is not there.
    pub fn image(&self, row: usize, len: usize) -> &[u8] {
        let (levels, row) = match &self.0 {
            Place::Memory(levels) => (levels.as_slice(), Some(row)),
            Place::File { file, rows } => (file.levels(), rows.get(row).copied()),
        };
        let first = row.and_then(|row| row.checked_mul(len));
        first.and_then(|first| levels.get(first..first.checked_add(len)?)).unwrap_or_default()
    }

    /// Bytes of all images.
    pub fn len(&self) -> usize {
        match &self.0 {
            Place::Memory(levels) => levels.len(),
            Place::File { file, rows } => rows.len() * file.len,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether they lie in a file.
    pub fn in_file(&self) -> bool {
        matches!(self.0, Place::File { .. })
    }

    /// All levels, one image after the other; those of a file are copied.
    pub fn levels(&self) -> Cow<'_, [u8]> {
        match &self.0 {
            Place::Memory(levels) => Cow::Borrowed(levels),
            Place::File { file, rows } => {
                Cow::Owned((0..rows.len()).flat_map(|row| self.image(row, file.len)).copied().collect())
            }
        }
    }

    /// Moves chosen images out of a list, keeping the order of both.
    pub fn take_out(&mut self, chosen: &[bool]) -> Images {
        match &mut self.0 {
            Place::Memory(levels) => take_out(levels, chosen).into(),
            Place::File { file, rows } => {
                let mut sides = chosen.iter().copied();
                let (out, kept) = rows.iter().partition(|_| sides.next().unwrap_or(false));
                *rows = kept;
                Images::of_file(file.clone(), out)
            }
        }
    }
}

fn take_out(images: &mut Vec<u8>, chosen: &[bool]) -> Vec<u8> {
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

impl Default for Images {
    fn default() -> Images {
        Vec::new().into()
    }
}

impl From<Vec<u8>> for Images {
    fn from(levels: Vec<u8>) -> Images {
        Images(Place::Memory(levels))
    }
}

impl FromIterator<u8> for Images {
    fn from_iter<T: IntoIterator<Item = u8>>(levels: T) -> Images {
        Vec::from_iter(levels).into()
    }
}

impl PartialEq for Images {
    fn eq(&self, other: &Images) -> bool {
        self.levels() == other.levels()
    }
}

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.levels().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn images_of_a_file_are_those_in_memory() {
        let levels: Vec<u8> = (0..40).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[&[9; 8], levels.as_slice(), b"more"].concat()).unwrap();
        let mapped = Mapped::new(&file, 8, 10, 4).unwrap();
        assert!(Mapped::new(&file, 8, 12, 4).is_err() && Mapped::new(&file, 8, usize::MAX, 4).is_err());
        let mut of_file = Images::of_file(mapped, (0..10).collect());
        let mut in_memory = Images::from(levels);
        assert!(of_file == in_memory && of_file.in_file() && !in_memory.in_file());
        let chosen: Vec<bool> = (0..10).map(|row| row % 3 == 0).collect();
        let taken = [of_file.take_out(&chosen), in_memory.take_out(&chosen)];
        assert_eq!(taken[0], taken[1]);
        assert_eq!((of_file.len(), taken[0].len()), (24, 16));
        assert_eq!(of_file, in_memory);
        assert_eq!(taken[0].levels()[4..8], [12, 13, 14, 15]);
        // Again out of what is left.
        let chosen = [true, false, false, false, true, false];
        assert_eq!(of_file.take_out(&chosen), in_memory.take_out(&chosen));
        for row in 0..5 {
            assert_eq!(of_file.image(row, 4), in_memory.image(row, 4), "row {row}");
        }
        assert_eq!(of_file.image(3, 4).len(), 4);
        assert!(of_file.image(4, 4).is_empty() && of_file.image(usize::MAX, 4).is_empty());
    }
}
