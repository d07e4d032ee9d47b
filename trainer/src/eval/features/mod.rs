//! Features of images, by which generated ones are compared with real ones. Each network that gives some is an implementation of
//! [`Features`] in a file of its own; a figure is named after the network that it was measured with.

mod network;
mod own;

pub use network::{NetworkFeatures, Origin, Weights};
pub use own::OwnFeatures;

use crate::cli::FeatureChoice;
use crate::io::session::Session;
use duet::features::Network;
use duet::{Error, Result};
use std::borrow::Cow;

/// Images of 8 bits a value, as files and screens hold them: what is generated is compared in the levels that people see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pixels {
    /// Levels \[N,H,W,C\].
    pub bytes: Vec<u8>,
    /// Images.
    pub count: usize,
    /// Rows of an image.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Values of a pixel: 1 of grey, 3 of colour.
    pub channels: usize,
}

impl Pixels {
    /// Of levels \[N,H,W,C\].
    ///
    /// # Errors
    /// [`Error::Shape`] where they are no whole number of images of these sides.
    pub fn new(bytes: Vec<u8>, [height, width, channels]: [usize; 3]) -> Result<Pixels> {
        let len = height.checked_mul(width).and_then(|pixels| pixels.checked_mul(channels));
        match len.filter(|len| *len > 0 && bytes.len().is_multiple_of(*len)) {
            Some(len) => Ok(Pixels { count: bytes.len() / len, bytes, height, width, channels }),
            None => {
                let detail = format!("{} bytes are no images of {height}×{width}×{channels}", bytes.len());
                Err(Error::shape("pixels", detail))
            }
        }
    }

    /// Of levels \[N,C,H,W\].
    ///
    /// # Errors
    /// As [`Pixels::new`].
    pub fn from_planes(planes: &[u8], [channels, height, width]: [usize; 3]) -> Result<Pixels> {
        let mut pixels = Pixels::new(planes.to_vec(), [height, width, channels])?;
        if channels > 1 {
            let area = height * width;
            let turned = planes
                .chunks_exact(area * channels)
                .flat_map(|image| (0..area).flat_map(move |at| image.iter().skip(at).step_by(area).copied()));
            pixels.bytes = turned.collect();
        }
        Ok(pixels)
    }

    /// Bytes of an image.
    pub fn image_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Some of the images, in order; those past the end are not there.
    pub fn part(&self, rows: std::ops::Range<usize>) -> Pixels {
        let end = rows.end.min(self.count);
        let start = rows.start.min(end);
        let len = self.image_len();
        let &Pixels { height, width, channels, .. } = self;
        Pixels {
            bytes: self.bytes[start * len..end * len].to_vec(),
            count: end - start,
            height,
            width,
            channels,
        }
    }

    /// All levels in planes, \[N,C,H,W\].
    pub fn planes(&self) -> Cow<'_, [u8]> {
        if self.channels <= 1 {
            return Cow::Borrowed(&self.bytes);
        }
        let images = self.bytes.chunks_exact(self.image_len().max(1));
        let turned = images.flat_map(|image| {
            (0..self.channels).flat_map(move |channel| image.iter().skip(channel).step_by(self.channels))
        });
        Cow::Owned(turned.copied().collect())
    }

    /// Adds the images of others.
    ///
    /// # Errors
    /// [`Error::Shape`] where those are of another size.
    pub fn append(&mut self, others: Pixels) -> Result<()> {
        let sides = |of: &Pixels| [of.height, of.width, of.channels];
        if sides(self) != sides(&others) {
            let detail = format!("images of {:?} and of {:?}", sides(self), sides(&others));
            return Err(Error::shape("pixels", detail));
        }
        self.count += others.count;
        self.bytes.extend(others.bytes);
        Ok(())
    }
}

/// What a network makes of images, one row each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extracted {
    /// Features \[N,len\], averaged over all places of an image.
    pub pooled: Vec<f32>,
    /// Numbers of a row.
    pub len: usize,
    /// Features that keep the places, flattened, and how many there are of each image: what spatial FID reads. `None` where the
    /// network has none.
    pub spatial: Option<(Vec<f32>, usize)>,
    /// Logits \[N,K\] of classes that exclude each other, and their number: what the Inception score reads. `None` where the network
    /// does not classify.
    pub logits: Option<(Vec<f32>, usize)>,
}

/// A network that gives features of images.
pub trait Features {
    /// What figures are named after: "own", "lenet-mnist", "inception-2015-12-05". Two that give other numbers have other names or
    /// another [`Features::identity`].
    fn name(&self) -> String;

    /// Whether figures measured with these features go by their plain names, "FID" among them: those that the published figures are of.
    fn standard(&self) -> bool {
        false
    }

    /// What becomes of the images before the network sees them, for the protocol beside each figure: their size and its filter, the
    /// range of values.
    fn reads(&self) -> String;

    /// What decides the numbers beside the images themselves, weights among it, as a short text: statistics that are kept under
    /// another one are of something else.
    fn identity(&self) -> String;

    /// Features of any number of images, a batch at a time; an image's do not depend on the others beyond rounding.
    ///
    /// # Errors
    /// Images of a size that the network does not read; a feature that is not finite; device errors.
    fn extract(&mut self, images: &Pixels) -> Result<Extracted>;
}

/// The features that are asked for, of `batch` images at a time.
///
/// # Errors
/// A file of weights that cannot be read or is of another network; device errors.
pub fn open(session: &Session, choice: &FeatureChoice, batch: usize) -> Result<Box<dyn Features>> {
    let (file, inception) = match choice {
        FeatureChoice::Own => return Ok(Box::new(OwnFeatures::new(session, batch)?)),
        FeatureChoice::Inception(file) => (file, true),
        FeatureChoice::Lenet(file) => (file, false),
    };
    let weights = Weights::read(file)?;
    if matches!(weights.network, Network::Inception(_)) != inception {
        let detail = format!("{} holds {}", file.display(), weights.network.name());
        return Err(Error::config("features", detail));
    }
    Ok(Box::new(NetworkFeatures::new(session.weights.device(), &weights, batch)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_and_pixels_are_the_same_images() {
        // Two images of 1×2 pixels in three colours.
        let planes = [1, 2, 11, 12, 21, 22, 3, 4, 13, 14, 23, 24];
        let pixels = Pixels::from_planes(&planes, [3, 1, 2]).unwrap();
        assert_eq!(pixels.bytes, [1, 11, 21, 2, 12, 22, 3, 13, 23, 4, 14, 24]);
        assert_eq!((pixels.count, pixels.image_len()), (2, 6));
        assert_eq!(pixels.planes()[..], planes);
        assert_eq!(pixels.part(1..9).bytes, [3, 13, 23, 4, 14, 24]);
        assert_eq!(pixels.part(2..3).count, 0);
        let mut all = pixels.part(0..1);
        all.append(pixels.part(1..2)).unwrap();
        assert_eq!(all, pixels);
        let grey = Pixels::from_planes(&[1, 2, 3, 4], [1, 2, 2]).unwrap();
        assert_eq!((grey.planes()[..].to_vec(), grey.count), (vec![1, 2, 3, 4], 1));
        assert!(all.append(grey).is_err());
        assert!(Pixels::new(vec![0; 5], [1, 2, 3]).is_err() && Pixels::new(vec![], [0, 2, 3]).is_err());
    }
}
