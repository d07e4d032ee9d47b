//! Sums that tell whether a file is the published one.

use duet::{Error, Result};
use md5::Md5;
use sha2::{Digest as _, Sha256};
use std::io::Read as _;
use std::path::Path;

/// What is known of a file, in hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// SHA-256.
    Sha256(&'static str),
    /// MD5, where nothing better was published: it tells damage, not malice.
    Md5(&'static str),
}

/// A file's length and sums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    /// Its bytes.
    pub bytes: u64,
    /// SHA-256 in hexadecimal digits.
    pub sha256: String,
    /// MD5 in hexadecimal digits; empty of what is no longer there.
    pub md5: String,
}

impl Checksum {
    fn parts(self) -> (&'static str, &'static str) {
        match self {
            Checksum::Sha256(digits) => ("SHA-256", digits),
            Checksum::Md5(digits) => ("MD5", digits),
        }
    }

    fn same_of(self, sums: &Sums) -> &str {
        match self {
            Checksum::Sha256(_) => &sums.sha256,
            Checksum::Md5(_) => &sums.md5,
        }
    }

    /// Whether a file of these sums is the one that is meant.
    pub fn is_of(self, sums: &Sums) -> bool {
        self.same_of(sums) == self.parts().1
    }

    /// "MD5 …".
    pub fn text(self) -> String {
        let (name, digits) = self.parts();
        format!("{name} {digits}")
    }

    /// How another file's sum differs.
    pub fn difference(self, sums: &Sums) -> String {
        let (name, digits) = self.parts();
        format!("{name} {} instead of {digits}", self.same_of(sums))
    }
}

/// The sums of a file.
///
/// # Errors
/// A file that cannot be read.
pub fn of_file(path: &Path) -> Result<Sums> {
    let failed =
        |e: std::io::Error| Error::Data { path: path.to_owned(), detail: format!("cannot be read: {e}") };
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let (mut sha256, mut md5, mut bytes) = (Sha256::new(), Md5::new(), 0);
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        let count = file.read(&mut buffer).map_err(failed)?;
        let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else {
            break;
        };
        sha256.update(read);
        md5.update(read);
        bytes += count as u64;
    }
    Ok(Sums { bytes, sha256: digits(&sha256.finalize()), md5: digits(&md5.finalize()) })
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_standards() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a");
        std::fs::write(&path, "abc").unwrap();
        // FIPS 180-2, B.1, and RFC 1321, A.5.
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let md5 = "900150983cd24fb0d6963f7d28e17f72";
        let sums = of_file(&path).unwrap();
        assert_eq!(sums, Sums { bytes: 3, sha256: sha256.into(), md5: md5.into() });
        assert!(Checksum::Sha256(sha256).is_of(&sums) && Checksum::Md5(md5).is_of(&sums));
        let other = Checksum::Md5("00");
        assert!(!other.is_of(&sums));
        assert_eq!(other.difference(&sums), format!("MD5 {md5} instead of 00"));
        assert!(of_file(&home.path().join("none")).is_err());
    }
}
