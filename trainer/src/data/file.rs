//! Files of pictures: which of them are some, by their first bytes, before more is read.

use super::bad;
use super::foreign::foreign;
use duet::Result;
use image::ImageFormat;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// The longest file that is read: what the largest picture takes without any compression.
const LONGEST: u64 = 1 << 30;

/// First bytes that are looked at.
const START: u64 = 512;

/// Endings that pictures of these formats have, without the dot.
const ENDINGS: [&str; 14] =
    ["png", "apng", "jpg", "jpeg", "jpe", "jfif", "webp", "gif", "bmp", "dib", "tif", "tiff", "pjpeg", "pjp"];

/// Endings of pictures in formats that are not read. Raw files of cameras begin as TIFF does, and hold a thumbnail first.
const UNREAD_ENDINGS: [&str; 36] = [
    "heic", "heif", "avif", "jxl", "jp2", "j2k", "jxr", "svg", "svgz", "psd", "xcf", "ico", "icns", "tga",
    "pcx", "pbm", "pgm", "ppm", "pnm", "exr", "hdr", "dds", "fits", "dcm", "nii", "dng", "nef", "nrw", "cr2",
    "cr3", "arw", "orf", "raf", "rw2", "pef", "srw",
];

/// What a file is, as far as its ending and its first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A picture, or what pretends to be one.
    Picture,
    /// A picture in a format that is not read.
    Unread,
    /// Something else.
    Other,
    /// No file with contents of its own: a pipe, a device.
    Special,
}

/// A file's ending in small letters, without the dot; empty where there is none.
pub fn ending(path: &Path) -> String {
    path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default()
}

/// What a file in a data set's folder is. A file that cannot be opened counts as what its ending says.
pub fn kind(path: &Path) -> Kind {
    let ending = ending(path);
    if std::fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
        Kind::Special
    } else if UNREAD_ENDINGS.contains(&ending.as_str()) {
        Kind::Unread
    } else if ENDINGS.contains(&ending.as_str()) || start(path).is_ok_and(|bytes| format(&bytes).is_some()) {
        Kind::Picture
    } else {
        Kind::Other
    }
}

fn start(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(START).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The format of a picture by its first bytes.
pub fn format(bytes: &[u8]) -> Option<ImageFormat> {
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Some(ImageFormat::Png),
        [0xFF, 0xD8, 0xFF, ..] => Some(ImageFormat::Jpeg),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(ImageFormat::Gif),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(ImageFormat::WebP),
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Some(ImageFormat::Tiff),
        // Two letters are few: the length of the header that follows must be one that there is.
        [b'B', b'M', ..]
            if matches!(bytes.get(14..18)?, [12 | 16 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0]) =>
        {
            Some(ImageFormat::Bmp)
        }
        _ => None,
    }
}

/// What a file is that is no picture of these formats.
fn other(bytes: &[u8]) -> &'static str {
    let brand = bytes.get(4..12).unwrap_or_default();
    match bytes {
        _ if brand.starts_with(b"ftypavi") => "an AVIF picture",
        _ if [&b"ftyphe"[..], b"ftypmif1", b"ftypmsf1"].iter().any(|start| brand.starts_with(start)) => {
            "a HEIC picture"
        }
        _ if brand.starts_with(b"ftyp") => "a film",
        [0xFF, 0x0A, ..] | [0, 0, 0, 12, b'J', b'X', b'L', ..] => "a JPEG XL picture",
        [0, 0, 0, 12, b'j', b'P', ..] => "a JPEG 2000 picture",
        [b'8', b'B', b'P', b'S', ..] => "a Photoshop file",
        [b'%', b'P', b'D', b'F', ..] => "a PDF",
        [b'P', b'K', 3, 4, ..] => "a ZIP archive",
        [0x1F, 0x8B, ..] => "a gzip archive",
        [0x89, b'P', b'N', b'G', ..] => "a PNG that a transfer as text has changed",
        _ if bytes.windows(4).any(|word| word.eq_ignore_ascii_case(b"<svg")) => "an SVG drawing",
        _ if bytes.iter().all(|byte| *byte == 0) => "zeros only",
        _ if bytes.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | 32..=126)) => "text",
        _ => "something else",
    }
}

/// All of a file. A pipe would be waited for without end, and a device may have none.
///
/// # Errors
/// What cannot be read, or is no regular file.
pub fn whole(path: &Path) -> std::io::Result<Vec<u8>> {
    let meta = std::fs::metadata(path)?;
    if !meta.is_file() {
        let what = if meta.is_dir() { "a folder" } else { "a pipe or a device" };
        return Err(std::io::Error::other(format!("is {what}, not a file")));
    }
    std::fs::read(path)
}

/// A picture's file and its format. What is no picture is refused by its first bytes, whatever its length.
///
/// # Errors
/// [`duet::Error::Data`] for a file that cannot be read, is none of these formats, or too long.
pub fn read(path: &Path) -> Result<(ImageFormat, Vec<u8>)> {
    let failed = |e: std::io::Error| bad(path, format!("cannot be read: {e}"));
    let meta = std::fs::metadata(path).map_err(failed)?;
    if meta.is_dir() {
        return Err(bad(path, "is a folder, not a picture"));
    }
    // Opening a pipe would wait for who writes into it.
    if !meta.is_file() {
        return Err(bad(path, "is a pipe or a device; a picture must be a file"));
    }
    let mut file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    (&mut file).take(START).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.is_empty() {
        return Err(bad(path, "is empty"));
    }
    let Some(format) = format(&bytes) else {
        let detail = match foreign(&bytes) {
            Some(word) => word.to_owned(),
            None => format!(
                "is no PNG, JPEG, WebP, GIF, BMP or TIFF picture: its first bytes are {}",
                other(&bytes)
            ),
        };
        return Err(bad(path, detail));
    };
    if UNREAD_ENDINGS.contains(&ending(path).as_str()) && format == ImageFormat::Tiff {
        return Err(bad(path, "is a camera's raw file: develop it into a JPEG, PNG or TIFF picture"));
    }
    if meta.len() > LONGEST {
        let detail = format!("has {} bytes; pictures of up to {LONGEST} bytes are read", meta.len());
        return Err(bad(path, detail));
    }
    // A file may grow meanwhile.
    file.take(LONGEST).read_to_end(&mut bytes).map_err(failed)?;
    Ok((format, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_picture_is_named_by_its_first_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let cases: [(&[u8], &str); 10] = [
            (b"", "is empty"),
            (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
            (b"\n<!doctype html>", "HTML page"),
            (b"\0\0\0\x20ftypheic\0\0\0\0mif1", "a HEIC picture"),
            (b"\0\0\0\x20ftypavif", "an AVIF picture"),
            (b"%PDF-1.7", "a PDF"),
            (b"<?xml version=\"1.0\"?><svg xmlns=\"\">", "an SVG drawing"),
            (b"\0\0\0\0\0\0\0\0", "zeros only"),
            (b"BMW, Audi", "text"),
            (b"\x89PNG\n\x1a\n", "transfer as text"),
        ];
        for (bytes, word) in cases {
            let path = folder.path().join("some.png");
            std::fs::write(&path, bytes).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("some.png") && error.contains(word), "{word}: {error}");
            assert_eq!(kind(&path), Kind::Picture, "it pretends to be one");
        }
        assert!(read(folder.path()).unwrap_err().to_string().contains("is a folder"));
        assert!(read(&folder.path().join("none.png")).unwrap_err().to_string().contains("none.png"));
        let raw = folder.path().join("photo.NEF");
        std::fs::write(&raw, b"MM\0*\0\0\0\x08").unwrap();
        assert!(read(&raw).unwrap_err().to_string().contains("raw file"));
        assert_eq!(kind(&raw), Kind::Unread);
    }

    #[cfg(unix)]
    #[test]
    fn what_has_no_end_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "all of it").unwrap();
        assert_eq!(whole(&path).unwrap(), b"all of it");
        let device = folder.path().join("device");
        std::os::unix::fs::symlink("/dev/zero", &device).unwrap();
        for (path, word) in [(&device, "a device"), (&folder.path().to_owned(), "a folder")] {
            assert!(whole(path).unwrap_err().to_string().contains(word));
        }
        let missing = whole(&folder.path().join("none")).unwrap_err();
        assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
    }

    #[test]
    fn a_long_file_is_not_read_to_be_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (name, start, word) in
            [("a.png", &b"text"[..], "no PNG"), ("b.png", b"\x89PNG\r\n\x1a\n", "bytes")]
        {
            let path = folder.path().join(name);
            std::fs::write(&path, start).unwrap();
            // Without its blocks on the disk.
            File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
