//! Decoded pictures kept between runs: a file for each list of pictures as a model reads them, named by what they hold.
//!
//! ```text
//! "duet pictures 1\n"              16 bytes
//! the key                          32 bytes, in hexadecimal the file's name
//! pictures, channels, size         u64, u32, u32, little-endian
//! length of the list               u64
//! checksum                         32 bytes: BLAKE3 of all above, of the list and of the hash of each picture's levels
//! zeros                            up to byte 128
//! levels                           [N,C,H,W]; zeros of what could not be read
//! list                             JSON: [[row, "why it cannot be read"], …]
//! ```
//!
//! The key is of the pictures' contents, so that what has changed is another file and what is there is never stale. A file
//! is made whole under another name and never changed after it has its own; its checksum is looked at before it is believed.

use super::decode::Broken;
use super::images::Mapped;
use super::kept::{Kept, PARTIAL, Shelf, remove, use_now};
use super::threads::{each, lock};
use duet::picture::Preparation;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// How a file begins. Another number for other levels of the same pictures, too, not only for another layout.
const MAGIC: &[u8; 16] = b"duet pictures 1\n";
/// Where the levels begin.
const LEVELS: usize = 128;
/// Where the checksum lies.
const CHECKSUM: std::ops::Range<usize> = 72..104;
/// What files' names end in, after the key.
const ENDING: &str = ".pictures";

type Outcome<T> = Result<T, String>;

/// What a file of the cache is of: pictures by their contents, and how they are prepared.
pub struct Key {
    hash: blake3::Hash,
    /// The hash of each picture's contents.
    pub contents: Vec<[u8; 32]>,
    channels: usize,
    size: usize,
}

impl Key {
    /// Of pictures with these contents, in this order.
    pub fn new(preparation: &Preparation, contents: Vec<[u8; 32]>) -> Key {
        // All fields, so that a new one is not forgotten.
        let &Preparation { channels, size, ground, fit, resize, resize_to, invert } = preparation;
        let (fit, resize) = (fit.name(), resize.name());
        let how = format!("{channels} {size} {ground} {fit} {resize} {resize_to:?} {invert}\n");
        let mut hasher = blake3::Hasher::new();
        hasher.update(MAGIC).update(how.as_bytes());
        hasher.update(contents.as_flattened());
        Key { hash: hasher.finalize(), contents, channels, size }
    }

    fn header(&self) -> Header {
        let &Key { hash, channels, size, .. } = self;
        Header { key: *hash.as_bytes(), pictures: self.contents.len(), channels, size, list: 0 }
    }
}

/// The numbers that a file begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    key: [u8; 32],
    pictures: usize,
    channels: usize,
    size: usize,
    /// Bytes of the list of broken pictures.
    list: usize,
}

impl Header {
    fn bytes(&self) -> [u8; CHECKSUM.start] {
        let mut bytes = [0; CHECKSUM.start];
        let fields: [&[u8]; 6] = [
            MAGIC,
            &self.key,
            &(self.pictures as u64).to_le_bytes(),
            &(self.channels as u32).to_le_bytes(),
            &(self.size as u32).to_le_bytes(),
            &(self.list as u64).to_le_bytes(),
        ];
        bytes.iter_mut().zip(fields.into_iter().flatten()).for_each(|(to, from)| *to = *from);
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Header> {
        let (magic, rest) = bytes.split_first_chunk()?;
        let (key, rest) = rest.split_first_chunk()?;
        let (pictures, rest) = rest.split_first_chunk()?;
        let (channels, rest) = rest.split_first_chunk()?;
        let (size, rest) = rest.split_first_chunk()?;
        let (list, _) = rest.split_first_chunk()?;
        let long = |bytes: &[u8; 8]| usize::try_from(u64::from_le_bytes(*bytes)).ok();
        let short = |bytes: &[u8; 4]| usize::try_from(u32::from_le_bytes(*bytes)).ok();
        let [pictures, list] = [long(pictures)?, long(list)?];
        let header = Header { key: *key, pictures, channels: short(channels)?, size: short(size)?, list };
        (magic == MAGIC && header.image_len().is_some_and(|len| len > 0)).then_some(header)
    }

    /// Bytes of a picture.
    fn image_len(&self) -> Option<usize> {
        self.channels.checked_mul(self.size)?.checked_mul(self.size)
    }

    /// Where the levels end.
    fn end(&self) -> Option<usize> {
        self.image_len()?.checked_mul(self.pictures)?.checked_add(LEVELS)
    }

    /// The checksum of a file with this list and pictures of these hashes.
    fn checksum(&self, list: &[u8], pictures: &[[u8; 32]]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.bytes()).update(list).update(pictures.as_flattened());
        *hasher.finalize().as_bytes()
    }
}

/// Pictures of the cache.
pub struct Entry {
    /// The levels of all.
    pub levels: Mapped,
    /// Those that could not be read, in order.
    pub broken: Vec<Broken>,
}

/// A folder with decoded pictures.
#[derive(Clone, Debug)]
pub struct Cache {
    shelf: Shelf,
}

impl Cache {
    /// The cache of a folder, which is made when something is kept.
    pub fn new(folder: &Path) -> Cache {
        Cache { shelf: Shelf::new(folder, ENDING) }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.shelf.folder()
    }

    /// What there is of a key. What is damaged is none.
    ///
    /// # Errors
    /// In words with its path: a file that is damaged or cannot be read.
    pub fn find(&self, key: &Key) -> Outcome<Option<Entry>> {
        let path = self.shelf.place(&key.hash);
        let failed = |why: String| format!("{} {why}", path.display());
        match fs::metadata(&path) {
            // A file in the folder's place is told when something is to be written.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(failed(format!("cannot be read: {error}"))),
            Ok(_) => {}
        }
        let (entry, file) = open(&path, key).map_err(failed)?;
        use_now(&file);
        Ok(Some(entry))
    }

    /// Begins a file for a key.
    ///
    /// # Errors
    /// In words: a folder or a file that cannot be made.
    pub fn begin(&self, key: &Key) -> Outcome<Writer> {
        static WRITERS: AtomicU64 = AtomicU64::new(0);
        self.shelf
            .make_folder()
            .map_err(|e| format!("the folder {} cannot be made: {e}", self.folder().display()))?;
        self.shelf.remove_old();
        let header = key.header();
        let number = WRITERS.fetch_add(1, Ordering::Relaxed);
        let place = self.shelf.place(&key.hash);
        // Numbers of processes are not enough: machines that share a folder have the same ones.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let unique = format!("{}-{number}-{now}", std::process::id());
        let mut partial = place.clone().into_os_string();
        partial.push(format!(".{unique}{PARTIAL}"));
        let partial = PathBuf::from(partial);
        let failed = |e: io::Error| format!("{} cannot be written: {e}", partial.display());
        let (Some(len), Some(end)) = (header.image_len(), header.end()) else {
            return Err(format!("{} would be too long", partial.display()));
        };
        let file = create(&partial).map_err(failed)?;
        let nothing = *blake3::hash(&vec![0; len]).as_bytes();
        let writer = Writer {
            header,
            len,
            place,
            hashes: Mutex::new(vec![nothing; header.pictures]),
            file: Mutex::new(file),
            partial,
        };
        // What is not written is zeros, and takes no room on most disks.
        lock(&writer.file).set_len(end as u64).map_err(|e| writer.failed(&e))?;
        Ok(writer)
    }

    /// All files of the cache, what is being written among them, the last used first.
    ///
    /// # Errors
    /// A folder that cannot be read; none is one without files.
    pub fn kept(&self) -> io::Result<Vec<Kept>> {
        self.shelf.kept()
    }

    /// How many pictures, of how many channels and pixels a side, a file of the cache says that it holds; `None` of what is not whole.
    pub fn pictures(kept: &Kept) -> Option<[usize; 3]> {
        shape(&kept.path, kept.bytes)
    }

    /// Removes all files of the cache, and nothing else; those that were removed.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn clear(&self) -> io::Result<Vec<Kept>> {
        let kept = self.kept()?;
        remove(&kept)?;
        Ok(kept)
    }
}

/// A file of the cache that is being made; dropped before its end it is removed.
pub struct Writer {
    header: Header,
    /// Bytes of a picture.
    len: usize,
    /// Hashes of the pictures.
    hashes: Mutex<Vec<[u8; 32]>>,
    file: Mutex<File>,
    partial: PathBuf,
    place: PathBuf,
}

impl Writer {
    /// Writes a picture's levels to its place.
    ///
    /// # Errors
    /// In words: a disk that is full, and the like.
    pub fn put(&self, row: usize, levels: &[u8]) -> Outcome<()> {
        let hash = *blake3::hash(levels).as_bytes();
        self.write(LEVELS + row * self.len, levels)?;
        if let Some(to) = lock(&self.hashes).get_mut(row) {
            *to = hash;
        }
        Ok(())
    }

    /// Gives the file its name. `broken` are those pictures whose levels were not written, in order.
    ///
    /// # Errors
    /// As [`Writer::put`].
    pub fn end(mut self, broken: Vec<Broken>) -> Outcome<Entry> {
        let list = serde_json::to_vec(&broken).map_err(|e| e.to_string())?;
        self.header.list = list.len();
        let checksum = self.header.checksum(&list, &lock(&self.hashes));
        self.write(self.header.end().unwrap_or(LEVELS), &list)?;
        self.write(0, &[&self.header.bytes()[..], &checksum].concat())?;
        fs::rename(&self.partial, &self.place).map_err(|e| self.failed(&e))?;
        let levels = Mapped::new(&lock(&self.file), LEVELS, self.header.pictures, self.len);
        let levels = levels.map_err(|e| self.failed(&e))?;
        Ok(Entry { levels, broken })
    }

    fn write(&self, at: usize, bytes: &[u8]) -> Outcome<()> {
        let mut file = lock(&self.file);
        file.seek(SeekFrom::Start(at as u64)).and_then(|_| file.write_all(bytes)).map_err(|e| self.failed(&e))
    }

    fn failed(&self, error: &io::Error) -> String {
        format!("{} cannot be written: {error}", self.place.display())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Of one that has its name nothing is there any more.
        let _ = fs::remove_file(&self.partial);
    }
}

/// Reads the file of a key, all of it, and checks it.
///
/// # Errors
/// In words: what is damaged.
fn open(path: &Path, key: &Key) -> Outcome<(Entry, File)> {
    let unreadable = |e: io::Error| format!("cannot be read: {e}");
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err("is no file".into());
    }
    let mut file = File::open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    let mut start = [0; LEVELS];
    file.read_exact(&mut start).map_err(|_| "is damaged: it ends in its header")?;
    let header = Header::parse(&start).ok_or("is no file of decoded pictures, or of another version")?;
    if (Header { list: header.list, ..key.header() }) != header {
        return Err("is of other pictures".into());
    }
    let (Some(len), Some(end)) = (header.image_len(), header.end()) else {
        return Err("is damaged: its header tells more than there can be".into());
    };
    let whole = end.checked_add(header.list).and_then(|whole| u64::try_from(whole).ok());
    if whole != Some(length) {
        return Err("is damaged: it is not as long as its header tells".into());
    }
    let levels = Mapped::new(&file, LEVELS, header.pictures, len).map_err(unreadable)?;
    let mut list = vec![0; header.list];
    file.seek(SeekFrom::Start(end as u64)).and_then(|_| file.read_exact(&mut list)).map_err(unreadable)?;
    let mut hashes = vec![[0; 32]; header.pictures];
    let hash = |(to, image): (&mut [u8; 32], &[u8])| {
        *to = *blake3::hash(image).as_bytes();
        ControlFlow::Continue(())
    };
    // Nobody breaks it.
    let _ = each(hashes.iter_mut().zip(levels.levels().chunks_exact(len)), hash);
    if start.get(CHECKSUM) != Some(&header.checksum(&list, &hashes)[..]) {
        return Err("is damaged: its checksum is another one".into());
    }
    let broken: Vec<Broken> = serde_json::from_slice(&list).map_err(|e| format!("is damaged: {e}"))?;
    let rising = broken.windows(2).all(|pair| matches!(pair, [(a, _), (b, _)] if a < b));
    if !rising || broken.last().is_some_and(|(row, _)| *row >= header.pictures) {
        return Err("is damaged: it tells of pictures that it does not have".into());
    }
    Ok((Entry { levels, broken }, file))
}

/// What a file's header says, where its length fits.
fn shape(path: &Path, length: u64) -> Option<[usize; 3]> {
    let mut start = [0; CHECKSUM.start];
    File::open(path).ok()?.read_exact(&mut start).ok()?;
    let header = Header::parse(&start)?;
    let whole = u64::try_from(header.end()?.checked_add(header.list)?).ok()?;
    (whole == length).then_some([header.pictures, header.channels, header.size])
}

/// Makes a file for the user alone, to be written and mapped.
fn create(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
