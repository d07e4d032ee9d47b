//! A folder per class with PNG or JPEG images, and single images.

use super::{DataSpec, Dataset, Split, bad};
use duet::Result;
use duet::model::Labels;
use duet::picture::{Picture, PixelLayout, Preparation};
use image::{DynamicImage, ImageDecoder as _, ImageReader, Limits};
use std::path::{Path, PathBuf};

/// Largest side of an image that is decoded, and most memory for it.
const LARGEST_SIDE: u32 = 32_768;
const MOST_BYTES: u64 = 1 << 30;

/// Loads a folder: `train` and `test` inside it where both are there, else a split of its own.
///
/// # Errors
/// An empty folder, an unreadable image.
pub fn load(spec: &DataSpec, channels: usize, size: usize) -> Result<Split> {
    let preparation = spec.preparation(channels, size);
    let (train, test) = (spec.path.join("train"), spec.path.join("test"));
    if train.is_dir() && test.is_dir() {
        let classes = class_folders(&train)?;
        let others = class_folders(&test)?;
        if classes.iter().map(|c| &c.0).ne(others.iter().map(|c| &c.0)) {
            return Err(bad(&spec.path, "`train` and `test` have different class folders"));
        }
        let all = |_: &[u8]| true;
        return Ok(Split {
            train: read(&classes, &preparation, all)?,
            test: read(&others, &preparation, all)?,
        });
    }
    let classes = class_folders(&spec.path)?;
    // By contents, not by name: copies of one image land on one side.
    let held_out = |bytes: &[u8]| share(bytes, spec.split_seed) < spec.test_share;
    Ok(Split {
        train: read(&classes, &preparation, |bytes| !held_out(bytes))?,
        test: read(&classes, &preparation, held_out)?,
    })
}

/// A number in 0..1 that depends on a file's contents and the seed.
fn share(bytes: &[u8], seed: u64) -> f64 {
    let mut word = [0u8; 8];
    blake3::Hasher::new().update(&seed.to_le_bytes()).update(bytes).finalize_xof().fill(&mut word);
    // The 53 bits that an f64 holds exactly.
    (u64::from_le_bytes(word) >> 11) as f64 / (1u64 << 53) as f64
}

/// Sub-folders by name with their images by name.
fn class_folders(folder: &Path) -> Result<Vec<(String, Vec<PathBuf>)>> {
    let list = |path: &Path| -> Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(path).map_err(|e| bad(path, format!("cannot be listed: {e}")))?;
        let mut paths = Vec::new();
        for entry in entries {
            paths.push(entry.map_err(|e| bad(path, format!("cannot be listed: {e}")))?.path());
        }
        paths.sort();
        Ok(paths)
    };
    let is_image = |path: &PathBuf| {
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        path.is_file() && matches!(ending.as_deref(), Some("png" | "jpg" | "jpeg"))
    };
    let mut classes = Vec::new();
    for path in list(folder)?.into_iter().filter(|p| p.is_dir()) {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with('.') {
            continue;
        }
        let images: Vec<PathBuf> = list(&path)?.into_iter().filter(is_image).collect();
        if images.is_empty() {
            return Err(bad(&path, "holds no PNG or JPEG image"));
        }
        classes.push((name, images));
    }
    if classes.len() < 2 {
        return Err(bad(folder, format!("has {} class folders; at least 2 are needed", classes.len())));
    }
    Ok(classes)
}

fn read(
    classes: &[(String, Vec<PathBuf>)],
    preparation: &Preparation,
    wanted: impl Fn(&[u8]) -> bool,
) -> Result<Dataset> {
    let class_names = classes.iter().map(|c| c.0.clone()).collect();
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for (label, (_, paths)) in classes.iter().enumerate() {
        for path in paths {
            let bytes = std::fs::read(path).map_err(|e| bad(path, format!("cannot be read: {e}")))?;
            if wanted(&bytes) {
                images.extend(prepare(path, &bytes, preparation)?.levels);
                labels.push(label as u32);
            }
        }
    }
    let &Preparation { channels, size, .. } = preparation;
    Ok(Dataset { images, labels: Labels::Classes(labels), channels, size, class_names })
}

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

/// An image as [`Preparation`] makes it, turned upright as its EXIF says.
fn prepare(path: &Path, bytes: &[u8], preparation: &Preparation) -> Result<Prepared> {
    let unreadable = |e: image::ImageError| bad(path, format!("is no readable PNG or JPEG: {e}"));
    let mut reader = ImageReader::new(std::io::Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|e| bad(path, format!("cannot be read: {e}")))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(LARGEST_SIDE);
    limits.max_image_height = Some(LARGEST_SIDE);
    limits.max_alloc = Some(MOST_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(unreadable)?;
    if decoder.total_bytes() > MOST_BYTES {
        return Err(bad(path, format!("unpacks to {} bytes, more than {MOST_BYTES}", decoder.total_bytes())));
    }
    // A picture whose EXIF cannot be read is upright.
    let orientation = decoder.orientation().map_or(1, image::metadata::Orientation::to_exif);
    let picture = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let (layout, data) = match picture {
        DynamicImage::ImageLuma8(grey) => (PixelLayout::Grey, grey.into_raw()),
        DynamicImage::ImageRgb8(colour) => (PixelLayout::Rgb, colour.into_raw()),
        DynamicImage::ImageLuma16(_) => (PixelLayout::Grey, picture.into_luma8().into_raw()),
        other => (PixelLayout::Rgba, other.into_rgba8().into_raw()),
    };
    let picture = Picture { width, height, layout, data: &data, orientation };
    let levels = preparation.levels(&picture).map_err(|e| bad(path, e.to_string()))?;
    Ok(Prepared { levels, cut_off: preparation.cut_off(&picture) })
}

/// One image for a model.
///
/// # Errors
/// An unreadable image.
pub fn load_image(path: &Path, preparation: &Preparation) -> Result<Prepared> {
    let bytes = std::fs::read(path).map_err(|e| bad(path, format!("cannot be read: {e}")))?;
    prepare(path, &bytes, preparation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DataKind;
    use duet::picture::Fit;
    use std::collections::HashSet;

    fn spec(path: &Path) -> DataSpec {
        let kind = DataKind::named("folder").unwrap();
        DataSpec {
            kind,
            path: path.into(),
            pad_to: None,
            test_share: 0.3,
            split_seed: 1,
            ground: 0,
            fit: Fit::Crop,
        }
    }

    fn picture(level: u8) -> image::RgbImage {
        image::RgbImage::from_fn(10, 8, |x, y| image::Rgb([level, x as u8, y as u8]))
    }

    #[test]
    fn a_folder_is_split_without_overlap() {
        let folder = tempfile::tempdir().unwrap();
        for class in ["cat", "dog"] {
            std::fs::create_dir(folder.path().join(class)).unwrap();
            for i in 0..40u8 {
                let path = folder.path().join(class).join(format!("{i}.png"));
                // Each picture twice under different names.
                picture(i / 2 + if class == "cat" { 0 } else { 100 }).save(&path).unwrap();
            }
        }
        let split = load(&spec(folder.path()), 3, 8).unwrap();
        assert_eq!(split.train.len() + split.test.len(), 80);
        assert!(split.test.len() >= 8 && split.train.len() >= 30, "{}", split.test.len());
        assert_eq!(split.train.class_names, ["cat", "dog"]);
        let images = |set: &Dataset| -> HashSet<Vec<u8>> {
            set.images.chunks(set.image_len()).map(<[u8]>::to_vec).collect()
        };
        assert!(images(&split.train).is_disjoint(&images(&split.test)));
        assert_eq!(split, load(&spec(folder.path()), 3, 8).unwrap());
    }

    #[test]
    fn bad_folders_and_images_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = load(&spec(folder.path()), 1, 8).unwrap_err().to_string();
        assert!(error.contains("0 class folders"), "{error}");
        for class in ["a", "b"] {
            std::fs::create_dir(folder.path().join(class)).unwrap();
        }
        assert!(load(&spec(folder.path()), 1, 8).unwrap_err().to_string().contains("no PNG or JPEG"));
        picture(1).save(folder.path().join("a/1.png")).unwrap();
        std::fs::write(folder.path().join("b/broken.png"), b"\x89PNG\r\n\x1a\nnonsense").unwrap();
        let error = load(&spec(folder.path()), 1, 8).unwrap_err().to_string();
        assert!(error.contains("broken.png") && error.contains("no readable"), "{error}");
        let missing =
            load_image(&folder.path().join("none.png"), &Preparation::new(1, 8)).err().unwrap().to_string();
        assert!(missing.contains("none.png"), "{missing}");
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
    fn a_recipe_says_on_what_ground_pictures_lie_and_how_they_fit() {
        let folder = tempfile::tempdir().unwrap();
        for class in ["a", "b"] {
            std::fs::create_dir(folder.path().join(class)).unwrap();
            for i in 0..8u8 {
                // Six by two pixels: grey, transparent, grey; all different.
                let pixel =
                    |x: u32, _| image::Rgba([40 + i, 0, 0, if (2..4).contains(&x) { 0 } else { 255 }]);
                let path = folder.path().join(class).join(format!("{i}.png"));
                image::RgbaImage::from_fn(6, 2, pixel).save(path).unwrap();
            }
        }
        let first = |ground, fit| {
            let spec = DataSpec { ground, fit, test_share: 0.0, ..spec(folder.path()) };
            load(&spec, 3, 6).unwrap().train.images[..36].to_vec()
        };
        let white = first(255, Fit::Pad);
        let [a, g] = [40, 255];
        assert_eq!(white[12..18], [a, a, g, g, a, a]);
        assert!(white[..12].iter().chain(&white[24..]).all(|v| *v == g), "{white:?}");
        assert_eq!(first(0, Fit::Stretch)[30..], [a, a, 0, 0, a, a]);
        assert!(first(0, Fit::Crop).iter().all(|v| *v == 0), "the middle is transparent");
    }

    fn read_values(path: &Path, preparation: &Preparation) -> Vec<f32> {
        load_image(path, preparation).unwrap().values().collect()
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
}
