//! One picture: decoded whole or not at all, within bounds that its header is asked for first.

use super::{bad, file, jpeg};
use duet::Result;
use duet::picture::{Picture, PixelLayout, Preparation};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::io::Cursor;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

/// Most pixels of a picture, in millions: the largest cameras have as many.
const MOST_MEGAPIXELS: u64 = 200;

/// Most memory for decoding a picture, and for all that are decoded at a time.
const MOST_BYTES: u64 = 1 << 30;

/// A picture as a model sees it.
pub struct Prepared {
    /// Grey levels \[C,H,W\].
    pub levels: Vec<u8>,
    /// Share of the picture that was cut off, 0 to 1.
    pub cut_off: f64,
}

impl Prepared {
    /// The levels in −1..1.
    pub fn values(&self) -> impl Iterator<Item = f32> {
        self.levels.iter().copied().map(duet::picture::value)
    }
}

/// One image for a model.
///
/// # Errors
/// As [`prepare`].
pub fn load_image(path: &Path, preparation: &Preparation) -> Result<Prepared> {
    let (format, bytes) = file::read(path)?;
    prepare(path, format, &bytes, preparation)
}

/// What a picture's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Pixels from left to right, turned upright.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
    /// Whether the file holds colours.
    pub colour: bool,
}

/// What a picture's header says; the picture itself is not decoded.
///
/// # Errors
/// As [`prepare`], as far as headers tell.
pub fn header(path: &Path) -> Result<Header> {
    let (format, bytes) = file::read(path)?;
    let mut decoder = open(path, format, &bytes)?;
    let (width, height) = decoder.dimensions();
    let colour = decoder.color_type().has_color();
    // From 5 on it lies on its side.
    let [width, height] = if orientation(&mut decoder) < 5 { [width, height] } else { [height, width] };
    Ok(Header { width, height, colour })
}

/// A file's contents as a preparation makes them, turned upright as its EXIF says. Of several pictures
/// in a file it is the first.
///
/// # Errors
/// [`duet::Error::Data`] naming the file: a picture too large, broken, or with data that end early.
pub fn prepare(
    path: &Path,
    format: ImageFormat,
    bytes: &[u8],
    preparation: &Preparation,
) -> Result<Prepared> {
    let failed = |error: image::ImageError| bad(path, fault(format, &error));
    let mut decoder = open(path, format, bytes)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    let memory = memory(format, bytes, pixels, &decoder);
    if memory > MOST_BYTES {
        let detail = format!(
            "has {width}×{height} pixels, which take {} MiB to decode; up to {} MiB are allowed",
            memory >> 20,
            MOST_BYTES >> 20
        );
        return Err(bad(path, detail));
    }
    let _room = Room::take(memory);
    if format == ImageFormat::Gif {
        // A frame may be larger than the picture that it lies in, whose size alone was looked at.
        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(4 * pixels);
        decoder.set_limits(limits).map_err(failed)?;
    }
    if format == ImageFormat::Jpeg {
        jpeg::check(bytes).map_err(|fault| {
            bad(
                path,
                match fault {
                    jpeg::Fault::EndsEarly(place) => format!("its data end early: {place}"),
                    jpeg::Fault::Damaged(what) => format!("is a damaged JPEG: {what}"),
                },
            )
        })?;
    }
    let orientation = orientation(&mut decoder);
    let picture = DynamicImage::from_decoder(decoder).map_err(failed)?;
    let (width, height) = (width as usize, height as usize);
    let (layout, data) = match picture {
        DynamicImage::ImageLuma8(grey) => (PixelLayout::Grey, grey.into_raw()),
        DynamicImage::ImageLumaA8(grey) => (PixelLayout::GreyAlpha, grey.into_raw()),
        DynamicImage::ImageRgb8(colour) => (PixelLayout::Rgb, colour.into_raw()),
        DynamicImage::ImageLuma16(_) => (PixelLayout::Grey, picture.into_luma8().into_raw()),
        other => (PixelLayout::Rgba, other.into_rgba8().into_raw()),
    };
    let picture = Picture { width, height, layout, data: &data, orientation };
    let levels = preparation.levels(&picture).map_err(|e| bad(path, e.to_string()))?;
    Ok(Prepared { levels, cut_off: preparation.cut_off(&picture) })
}

/// A decoder that has read a picture's header, of a size that is read.
fn open<'a>(path: &Path, format: ImageFormat, bytes: &'a [u8]) -> Result<impl ImageDecoder + 'a> {
    let failed = |error: image::ImageError| bad(path, fault(format, &error));
    // A WebP says in its header how long it is; the decoder calls one cut short corrupt.
    if let (ImageFormat::WebP, Some(&[a, b, c, d])) = (format, bytes.get(4..8)) {
        let whole = u64::from(u32::from_le_bytes([a, b, c, d])) + 8;
        if (bytes.len() as u64) < whole {
            return Err(bad(path, format!("its data end early: {} of {whole} bytes are there", bytes.len())));
        }
    }
    if format == ImageFormat::WebP && !webp_chunks_fit(bytes) {
        return Err(bad(path, "is a damaged WebP: one of its parts is said to be longer than the file"));
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MOST_BYTES);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > MOST_MEGAPIXELS * 1_000_000 {
        let detail = format!(
            "has {width}×{height} pixels, {} megapixels; pictures of up to {MOST_MEGAPIXELS} megapixels are read",
            pixels / 1_000_000
        );
        return Err(bad(path, detail));
    }
    Ok(decoder)
}

/// Whether every chunk of a WebP lies within the file. The decoder believes their lengths, and makes room for an EXIF of 4 GiB
/// in a file of a hundred bytes.
fn webp_chunks_fit(bytes: &[u8]) -> bool {
    // After "RIFF", the length of all and "WEBP".
    let mut rest = bytes.get(12..).unwrap_or_default();
    while let Some((length, after)) = rest.get(4..).and_then(|from_length| from_length.split_first_chunk()) {
        let length = u32::from_le_bytes(*length) as usize;
        if length > after.len() {
            return false;
        }
        // Chunks of odd length are padded; the last one's pad may be missing.
        rest = after.get(length.saturating_add(length % 2)..).unwrap_or_default();
    }
    true
}

/// EXIF's orientation; a picture whose EXIF cannot be read is upright.
fn orientation(decoder: &mut impl ImageDecoder) -> u8 {
    let exif = decoder.exif_metadata().ok().flatten();
    // WebP files are found with and without the prefix that JPEG needs.
    let found = match exif.as_deref() {
        Some(exif) => Orientation::from_exif_chunk(exif.strip_prefix(b"Exif\0\0").unwrap_or(exif)),
        None => decoder.orientation().ok(),
    };
    found.map_or(1, Orientation::to_exif)
}

/// Bytes that decoding takes at most, above the file's own.
fn memory(format: ImageFormat, bytes: &[u8], pixels: u64, decoder: &impl ImageDecoder) -> u64 {
    let waiting = match format {
        // A progressive JPEG's coefficients wait for the last scan, two bytes each.
        ImageFormat::Jpeg => match jpeg::kind(bytes) {
            Some((true, components)) => 2 * components as u64 * pixels,
            _ => 0,
        },
        // A frame that is not the whole picture is put into it when it is there.
        ImageFormat::Gif => 4 * pixels,
        _ => 0,
    };
    decoder.total_bytes().saturating_add(waiting)
}

/// What is wrong with a picture, in words.
fn fault(format: ImageFormat, error: &image::ImageError) -> String {
    let text = error.to_string();
    let text = text.trim_end();
    let text = text.strip_prefix(&format!("Format error decoding {format:?}: ")).unwrap_or(text);
    let mut causes = std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |e| e.source());
    let of_reading = |cause: &(dyn std::error::Error + 'static)| {
        let cause = cause.downcast_ref::<std::io::Error>();
        cause.is_some_and(|e| e.kind() == std::io::ErrorKind::UnexpectedEof)
    };
    // Not every decoder passes its cause on.
    let words = text.to_lowercase();
    let said = ["end of file", "unexpected eof", "fill whole buffer", "not enough bytes"]
        .iter()
        .any(|word| words.contains(word));
    if said || causes.any(of_reading) {
        return format!("its data end early ({text})");
    }
    let name = format.to_mime_type().trim_start_matches("image/").to_uppercase();
    format!("is no readable {name}: {text}")
}

/// Memory that pictures being decoded take, of all threads.
static TAKEN: Mutex<u64> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// Memory for a picture, taken when it is there: threads that decode large pictures wait for each other.
struct Room(u64);

impl Room {
    fn take(bytes: u64) -> Room {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        // One picture is always allowed.
        while *taken > 0 && *taken + bytes > MOST_BYTES {
            taken = FREED.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken += bytes;
        Room(bytes)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        FREED.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_values(path: &Path, preparation: &Preparation) -> Vec<f32> {
        load_image(path, preparation).unwrap().values().collect()
    }

    #[test]
    fn pictures_are_turned_upright_and_laid_over_black() {
        use image::ImageEncoder as _;
        let folder = tempfile::tempdir().unwrap();
        // EXIF with one entry: orientation 6, the stored picture's first row is the upright one's right side.
        let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
        exif.extend([6, 0, 0, 0, 0, 0, 0, 0]);
        let stored = image::GrayImage::from_fn(16, 16, |_, y| image::Luma([if y < 8 { 255 } else { 0 }]));
        let path = folder.path().join("turned.jpg");
        let mut encoder =
            image::codecs::jpeg::JpegEncoder::new_with_quality(std::fs::File::create(&path).unwrap(), 100);
        encoder.set_exif_metadata(exif).unwrap();
        encoder.write_image(stored.as_raw(), 16, 16, image::ExtendedColorType::L8).unwrap();
        let values = read_values(&path, &Preparation::new(1, 16));
        let bright = |value: &f32| *value > 0.9;
        assert!(values.chunks(16).all(|row| row[8..].iter().all(bright) && !row[..8].iter().any(bright)));

        let path = folder.path().join("half.png");
        image::RgbaImage::from_fn(4, 4, |x, _| image::Rgba([255, 255, 255, if x < 2 { 255 } else { 0 }]))
            .save(&path)
            .unwrap();
        let values = read_values(&path, &Preparation::new(1, 4));
        assert!(
            values.chunks(4).all(|row| row == [1.0, 1.0, -1.0, -1.0]),
            "hidden white is black: {values:?}"
        );
    }

    #[test]
    fn images_are_cropped_resized_and_scaled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wide.png");
        image::GrayImage::from_fn(20, 10, |x, _| image::Luma([if (5..15).contains(&x) { 255 } else { 0 }]))
            .save(&path)
            .unwrap();
        let grey = load_image(&path, &Preparation::new(1, 5)).unwrap();
        assert!(grey.values().all(|v| v > 0.99), "{:?}", grey.levels);
        assert_eq!(grey.cut_off, 0.5);
        assert_eq!(read_values(&path, &Preparation::new(3, 5)).len(), 75);
    }

    fn fixture(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures").join(name)
    }

    /// Grey or colour levels of bytes at their own size.
    fn read(bytes: &[u8], channels: usize, size: usize) -> Result<Vec<u8>> {
        let format = file::format(bytes).unwrap();
        prepare(Path::new("some.picture"), format, bytes, &Preparation::new(channels, size))
            .map(|made| made.levels)
    }

    fn written(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        picture.write_to(&mut file, format).unwrap();
        file.into_inner()
    }

    fn noise(size: u32) -> image::RgbImage {
        let mut state = 1u32;
        image::RgbImage::from_fn(size, size, |_, _| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            image::Rgb([state >> 24, state >> 16 & 255, state >> 8 & 255].map(|v| v as u8))
        })
    }

    #[test]
    fn lossless_formats_keep_every_level_and_none_is_read_in_part() {
        let picture = noise(16);
        let planes: Vec<u8> = (0..3)
            .flat_map(|c| picture.as_raw().iter().skip(c).step_by(3).copied().collect::<Vec<_>>())
            .collect();
        let picture = DynamicImage::from(picture);
        for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP] {
            assert_eq!(read(&written(&picture, format), 3, 16).unwrap(), planes, "{format:?}");
        }
        for format in [
            ImageFormat::Png,
            ImageFormat::Bmp,
            ImageFormat::Tiff,
            ImageFormat::WebP,
            ImageFormat::Gif,
            ImageFormat::Jpeg,
        ] {
            let whole = written(&picture, format);
            for length in
                (0..99).map(|share| 4 + (whole.len() - 4) * share / 100).filter(|length| *length >= 18)
            {
                let error = read(&whole[..length], 3, 16).unwrap_err().to_string();
                assert!(error.contains("some.picture"), "{error}");
                // Of a header cut in two a decoder may say something else.
                assert!(
                    length < 100 || error.contains("data end early"),
                    "{format:?} cut to {length}: {error}"
                );
            }
        }
        for name in ["lossy.webp", "lossy-alpha.webp"] {
            let whole = std::fs::read(fixture(name)).unwrap();
            assert!(read(&whole, 3, 16).is_ok());
            for length in 18..whole.len() {
                let error = read(&whole[..length], 3, 16).unwrap_err().to_string();
                assert!(error.contains("data end early"), "{name} cut to {length}: {error}");
            }
        }
    }

    #[test]
    fn sixteen_bits_palettes_and_four_channels_have_the_levels_that_viewers_show() {
        // rgb(191, 64, 96), by its file's two ways to say so.
        for name in ["cmyk.jpg", "ycck.jpg"] {
            let got = read(&std::fs::read(fixture(name)).unwrap(), 3, 1).unwrap();
            let near = got.iter().zip([191, 64, 96]).all(|(got, want)| got.abs_diff(want) <= 2);
            assert!(near, "{name}: {got:?}");
        }
        let wide =
            image::ImageBuffer::<image::Rgba<u16>, _>::from_pixel(2, 2, image::Rgba([65535, 257, 0, 32896]));
        assert_eq!(read(&written(&wide.into(), ImageFormat::Png), 3, 1).unwrap(), [128, 1, 0]);
        let grey = image::ImageBuffer::<image::LumaA<u16>, _>::from_pixel(2, 2, image::LumaA([51400, 65535]));
        assert_eq!(read(&written(&grey.into(), ImageFormat::Png), 1, 1).unwrap(), [200]);
        let ramp: Vec<u8> = (0..64).map(|i| 4 * i).collect();
        assert_eq!(read(&std::fs::read(fixture("adam7.png")).unwrap(), 1, 8).unwrap(), ramp);
        // White that is transparent shows the ground.
        let halves = |left: u8| [[left; 4], [0; 4]].concat().repeat(8);
        for name in ["palette-transparent.png", "colour-transparent.png"] {
            let got = read(&std::fs::read(fixture(name)).unwrap(), 3, 8).unwrap();
            assert_eq!(got, [halves(200), halves(100), halves(50)].concat(), "{name}");
        }
        let grey = std::fs::read(fixture("grey16-transparent.png")).unwrap();
        assert_eq!(read(&grey, 1, 8).unwrap(), halves(200));
        // Of several frames the first.
        let first = read(&std::fs::read(fixture("two.gif")).unwrap(), 1, 4).unwrap();
        assert_eq!(first, [0; 16]);
        // Orientation 6: the stored upper half is the right one.
        let turned = read(&std::fs::read(fixture("turned.webp")).unwrap(), 1, 16).unwrap();
        assert!(turned.chunks(16).all(|row| row[..8] == [0; 8] && row[8..] == [255; 8]), "{turned:?}");
        let turned = read(&std::fs::read(fixture("turned.png")).unwrap(), 1, 8).unwrap();
        assert!(turned.chunks(8).all(|row| row[..4] == [0; 4] && row[4..] == [255; 4]), "{turned:?}");
    }

    #[test]
    fn sizes_are_refused_by_the_header() {
        // Screens of GIFs, whose header is short, and a JPEG's frame.
        let gif = |width: u16, height: u16| -> Vec<u8> {
            let [w, h] = [width, height].map(u16::to_le_bytes);
            [b"GIF89a".as_slice(), &w, &h, &[0, 0, 0], b",\0\0\0\0", &w, &h, &[0, 2]].concat()
        };
        let large = read(&gif(30_000, 30_000), 1, 8).unwrap_err().to_string();
        for word in ["some.picture", "30000×30000", "900 megapixels", "200 megapixels"] {
            assert!(large.contains(word), "{word}: {large}");
        }
        // The largest cameras' pictures pass this check.
        let fits = read(&gif(16_320, 12_240), 1, 8).unwrap_err().to_string();
        assert!(!fits.contains("megapixels"), "{fits}");
        let mut jpeg = std::fs::read(fixture("jpeg/colour-444-progressive.jpg")).unwrap();
        let frame = jpeg.windows(2).position(|pair| pair == [0xFF, 0xC2]).unwrap();
        jpeg[frame + 5..frame + 9].copy_from_slice(&[0xFF; 4]);
        assert!(read(&jpeg, 1, 8).unwrap_err().to_string().contains("65535×65535"));
        // 14,000² pixels of which all coefficients wait in memory.
        jpeg[frame + 5..frame + 9].copy_from_slice(&[0x36, 0xB0, 0x36, 0xB0]);
        let error = read(&jpeg, 1, 8).unwrap_err().to_string();
        assert!(error.contains("1024 MiB are allowed"), "{error}");
    }
}
