//! Images in files of numbers, all of one size: as a model reads them, by the way that pictures go.

use super::idx::DIGITS;
use super::{DataSpec, Dataset, Summary, bad};
use duet::Result;
use duet::model::Labels;
use duet::picture::{Picture, PixelLayout, Preparation};
use std::path::Path;

/// Grey levels of images.
pub struct Levels {
    /// One image after the other.
    pub data: Vec<u8>,
    /// 1 grey, 3 colour.
    pub channels: usize,
    /// Height and width.
    pub sides: [usize; 2],
    /// Whether a pixel's channels lie together \[H,W,C\], as in `.npz`, instead of each channel's pixels \[C,H,W\].
    pub together: bool,
}

/// Images as a model reads them.
#[derive(Debug)]
pub struct Fitted {
    /// Grey levels \[N,C,H,W\].
    pub images: Vec<u8>,
    /// Pixels a side that they were resized to where the ground is around them.
    pub resize_to: Option<usize>,
    /// What was done to them, where anything was.
    pub note: Option<String>,
}

impl Levels {
    /// The images of `path` for a model of so many channels and pixels a side.
    ///
    /// # Errors
    /// A `pad_to` that they do not fit into, or that is not the model's size.
    pub fn fit(self, path: &Path, spec: &DataSpec, channels: usize, size: usize) -> Result<Fitted> {
        let [height, width] = self.sides;
        let mut preparation = spec.preparation(channels, size);
        if let Some(padded) = spec.pad_to {
            let side = height.max(width);
            if side > padded {
                return Err(bad(path, format!("images of {side} pixels cannot be padded to {padded}")));
            }
            if padded != size {
                let detail = format!(
                    "images are padded to {padded} pixels, the model's are {size}: `pad_to` must be that"
                );
                return Err(bad(path, detail));
            }
            preparation.resize_to = Some(side).filter(|side| *side < size);
        }
        let note = ([self.channels, height, width] != [channels, size, size]).then(|| {
            let how = match preparation.inside() {
                [inside, _] if [inside; 2] == [height, width] => "in the middle of the ground".to_owned(),
                _ => format!("resized: {}", preparation.resize.name()),
            };
            let from =
                format!("images of {}×{height}×{width} become {channels}×{size}×{size}", self.channels);
            if [height, width] == [size; 2] { from } else { format!("{from} ({how})") }
        });
        let resize_to = preparation.resize_to;
        if note.is_none() && (!self.together || channels == 1) {
            return Ok(Fitted { images: self.data, resize_to, note });
        }
        Ok(Fitted { images: self.prepared(path, &preparation)?, resize_to, note })
    }

    /// Digits as a data set, with the pixels a side that they were resized to; the summary is told what was done to them.
    ///
    /// # Errors
    /// As [`Levels::fit`].
    pub fn digits(
        self,
        path: &Path,
        spec: &DataSpec,
        [channels, size]: [usize; 2],
        classes: Vec<u32>,
        summary: &mut Summary,
    ) -> Result<(Dataset, Option<usize>)> {
        let Fitted { images, resize_to, note } = self.fit(path, spec, channels, size)?;
        summary.note_once(note);
        let class_names = DIGITS.map(str::to_owned).to_vec();
        let labels = Labels::Classes(classes);
        Ok((Dataset { images: images.into(), labels, channels, size, class_names }, resize_to))
    }

    /// Each image by itself, on all cores.
    fn prepared(&self, path: &Path, preparation: &Preparation) -> Result<Vec<u8>> {
        let len = self.channels * self.sides[0] * self.sides[1];
        let new = preparation.channels * preparation.size * preparation.size;
        let count = self.data.len() / len.max(1);
        let total = new.checked_mul(count).filter(|_| new > 0);
        let mut images =
            vec![0; total.ok_or_else(|| bad(path, "is more than memory can hold at this size"))?];
        let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
        let each = count.div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            let parts = images.chunks_mut(each * new).zip(self.data.chunks(each * len));
            let work: Vec<_> = parts
                .map(|(to, from)| {
                    scope.spawn(move || {
                        let mut pixels = Vec::with_capacity(len);
                        for (to, from) in to.chunks_exact_mut(new).zip(from.chunks_exact(len)) {
                            to.copy_from_slice(&preparation.levels(&self.picture(from, &mut pixels))?);
                        }
                        Ok(())
                    })
                })
                .collect();
            work.into_iter().try_for_each(|part| match part.join() {
                Ok(outcome) => outcome,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })
        .map_err(|error: duet::Error| bad(path, error.to_string()))?;
        Ok(images)
    }

    /// An image as a picture, whose pixels' channels lie together; where they do not, they are put into `pixels`.
    fn picture<'a>(&self, image: &'a [u8], pixels: &'a mut Vec<u8>) -> Picture<'a> {
        let [height, width] = self.sides;
        let layout = if self.channels == 1 { PixelLayout::Grey } else { PixelLayout::Rgb };
        let data = if self.together || self.channels == 1 {
            image
        } else {
            let plane = height * width;
            pixels.clear();
            pixels.extend((0..image.len()).map(|i| image[i % self.channels * plane + i / self.channels]));
            pixels
        };
        Picture { width, height, layout, data, orientation: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use duet::picture::Resize;

    fn spec() -> DataSpec {
        DataSpec::of("idx", Path::new("data"))
    }

    fn fit(levels: Levels, spec: &DataSpec, channels: usize, size: usize) -> Result<Fitted> {
        levels.fit(Path::new("some.file"), spec, channels, size)
    }

    #[test]
    fn levels_of_the_model_s_size_stay_however_they_lie() {
        let planes: Vec<u8> = (0..24).collect();
        let together: Vec<u8> = (0..24).map(|i| i / 12 * 12 + i % 3 * 4 + i % 12 / 3).collect();
        for (data, together) in [(planes.clone(), false), (together, true)] {
            let fitted = fit(Levels { data, channels: 3, sides: [2; 2], together }, &spec(), 3, 2).unwrap();
            assert_eq!((fitted.images, fitted.note, fitted.resize_to), (planes.clone(), None, None));
        }
    }

    #[test]
    fn other_sizes_and_colours_go_the_way_of_pictures() {
        let data: Vec<u8> = (0..150).map(|i| (i * 37 % 256) as u8).collect();
        let levels = || Levels { data: data.clone(), channels: 3, sides: [5; 2], together: false };
        let bilinear = DataSpec { resize: Resize::Bilinear, ..spec() };
        let fitted = fit(levels(), &bilinear, 1, 8).unwrap();
        assert_eq!(fitted.note.as_deref(), Some("images of 3×5×5 become 1×8×8 (resized: bilinear)"));
        let second: Vec<u8> = (0..75).map(|i| data[75 + i % 3 * 25 + i / 3]).collect();
        let picture =
            Picture { width: 5, height: 5, layout: PixelLayout::Rgb, data: &second, orientation: 1 };
        assert_eq!(fitted.images[64..], bilinear.preparation(1, 8).levels(&picture).unwrap());
        // A grey image is the same in each channel of a colour model.
        let grey = Levels { data: vec![1, 2, 3, 4], channels: 1, sides: [2; 2], together: false };
        let fitted = fit(grey, &spec(), 3, 2).unwrap();
        assert_eq!(fitted.images, [1, 2, 3, 4].repeat(3));
        assert_eq!(fitted.note.as_deref(), Some("images of 1×2×2 become 3×2×2"));
    }

    #[test]
    fn padding_keeps_every_level_and_is_told_to_the_model() {
        let levels = || Levels { data: vec![7; 8], channels: 1, sides: [2; 2], together: false };
        let padded = DataSpec { pad_to: Some(4), ground: 9, ..spec() };
        let fitted = fit(levels(), &padded, 1, 4).unwrap();
        let image = [[9; 4], [9, 7, 7, 9], [9, 7, 7, 9], [9; 4]].concat();
        assert_eq!(fitted.images, image.repeat(2));
        assert_eq!(fitted.resize_to, Some(2));
        assert!(fitted.note.is_some_and(|note| note.contains("in the middle of the ground")));
        let own = DataSpec { pad_to: Some(2), ..spec() };
        assert_eq!(fit(levels(), &own, 1, 2).unwrap().resize_to, None);
        for (pad_to, size, words) in [(1, 4, "cannot be padded to 1"), (3, 4, "`pad_to` must be that")] {
            let error = fit(levels(), &DataSpec { pad_to: Some(pad_to), ..spec() }, 1, size).unwrap_err();
            let error = error.to_string();
            assert!(error.contains(words) && error.contains("some.file"), "{error}");
        }
    }
}
