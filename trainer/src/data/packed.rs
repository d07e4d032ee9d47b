//! Files that may be packed, by gzip or bzip2, as a stream of what is in them.

use super::bad;
use super::foreign::foreign;
use bzip2::read::MultiBzDecoder;
use duet::Result;
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};

/// Endings that a file may have beside its name: packed or not.
const PACKED: [&str; 3] = [".gz", ".bz2", ""];

/// The file of a name in a folder, packed or not.
pub fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    PACKED.iter().map(|ending| folder.join(format!("{name}{ending}"))).find(|path| path.is_file())
}

/// Opens a file, unpacking it where it begins like gzip or bzip2.
///
/// # Errors
/// A file that cannot be read, or that a Git LFS pointer or a page stands in the place of.
pub fn open(path: &Path) -> Result<Box<dyn Read>> {
    let failed = |e: std::io::Error| bad(path, format!("cannot be read: {e}"));
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let start = file.fill_buf().map_err(failed)?;
    if let Some(word) = foreign(start) {
        return Err(bad(path, word));
    }
    Ok(match start {
        [0x1F, 0x8B, ..] => Box::new(MultiGzDecoder::new(file)),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Box::new(MultiBzDecoder::new(file)),
        _ => Box::new(file),
    })
}

/// Longest line that is read, and most bytes of a file of lines once it is unpacked: the published ones have 5,000 and 14 million.
const LONGEST_LINE: u64 = 1 << 15;
const LONGEST_FILE: u64 = 1 << 28;

/// Gives every line that is not blank of a file to `take`; how many there are.
///
/// # Errors
/// As [`open`]; a line or a file that is too long; what `take` says is wrong, with the line's number.
pub fn lines(path: &Path, mut take: impl FnMut(&str) -> std::result::Result<(), String>) -> Result<usize> {
    let unreadable = |e: std::io::Error| bad(path, format!("cannot be read: {e}"));
    let mut file = BufReader::new(open(path)?.take(LONGEST_FILE));
    let (mut count, mut line) = (0, String::new());
    for number in 1.. {
        line.clear();
        if (&mut file).take(LONGEST_LINE).read_line(&mut line).map_err(unreadable)? == 0 {
            break;
        }
        let damaged = |detail: String| bad(path, format!("line {number}: {detail}"));
        if line.len() as u64 >= LONGEST_LINE {
            return Err(damaged(format!("has more than {LONGEST_LINE} bytes")));
        }
        if !line.trim().is_empty() {
            take(&line).map_err(damaged)?;
            count += 1;
        }
    }
    if file.into_inner().limit() == 0 {
        return Err(bad(path, format!("unpacks to more than {} MiB", LONGEST_FILE >> 20)));
    }
    Ok(count)
}

/// Exactly `count` bytes and the end of the file. Memory grows with what is read, not with what is announced.
///
/// # Errors
/// A file that ends before or goes on after them.
pub fn body(path: &Path, file: &mut dyn Read, count: u64) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    file.take(count + 1).read_to_end(&mut data).map_err(|e| bad(path, format!("cannot be unpacked: {e}")))?;
    match (data.len() as u64).cmp(&count) {
        std::cmp::Ordering::Equal => Ok(data),
        std::cmp::Ordering::Less => {
            Err(bad(path, format!("holds {} of the {count} bytes its header announces", data.len())))
        }
        std::cmp::Ordering::Greater => {
            Err(bad(path, format!("goes on after the {count} bytes its header announces")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn both_packers_and_none_give_the_same() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(find(folder.path(), "a"), None);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"levels").unwrap();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(b"levels").unwrap();
        for (name, bytes) in
            [("a", b"levels".to_vec()), ("a.bz2", bzip2.finish().unwrap()), ("a.gz", gzip.finish().unwrap())]
        {
            let path = folder.path().join(name);
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(find(folder.path(), "a").as_ref(), Some(&path), "the packed one is the published one");
            assert_eq!(body(&path, &mut open(&path).unwrap(), 6).unwrap(), b"levels");
            for (count, word) in [(5, "goes on after"), (7, "6 of the 7 bytes")] {
                let error = body(&path, &mut open(&path).unwrap(), count).unwrap_err().to_string();
                assert!(error.contains(word) && error.contains(name), "{error}");
            }
            if name != "a" {
                std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
                let error = body(&path, &mut open(&path).unwrap(), 6).unwrap_err().to_string();
                assert!(error.contains("cannot be unpacked"), "{error}");
                std::fs::write(&path, &bytes).unwrap();
            }
        }
    }
}
