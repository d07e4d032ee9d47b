//! How like its training data an image is for a model, as numbers alone.
//!
//! A model that denoises knows what its data look like: what it has never seen it denoises worse, and what is emptier than
//! its data better. An image is noised to a little and to a middle noise ([`Protocol`]). Of the network's error in the noise
//! there, three numbers are the image's profile: the logarithm of the mean squared error, that at the image's border, and
//! the mean error (a brightness that the network did not expect) as a share of the root mean square. A [`Reference`] holds
//! mean and covariance of the profiles of training images; the score of an image is its profile's Mahalanobis distance from
//! them, so that errors too small count as those too large do, and so does a relation between them that the data do not
//! show. The percentile is the share of the training images whose score is lower.
//!
//! Chosen by measuring: the squared error alone, at eight timesteps, knew half of what these know at two. They tell pictures
//! of another ground, contrast, size or texture; of other things drawn as the data are (digits for garments) only some.
//! This tells what looks unlike the data. It does not tell which answers are right.

mod protocol;
mod reference;

pub use protocol::Protocol;
pub use reference::{LEAST_IMAGES, Reference};

pub(crate) use reference::parse;

use serde::{Deserialize, Serialize};

/// Percentile beyond which an image counts as unlike the training data: of images like them one in a hundred does.
pub const UNLIKE: f64 = 99.0;

/// What a model makes of an image's likeness to its training data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Typicality {
    /// Per cent of the training images that look more like the others than it does: 0 to 100.
    pub percentile: f64,
    /// Whether it lies beyond [`UNLIKE`].
    pub unlike: bool,
}

impl std::fmt::Display for Typicality {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.unlike, self.percentile) {
            (false, _) => f.write_str("like the training data"),
            (true, 100.0) => f.write_str("unlike the training data (beyond all of it)"),
            // Never rounded up.
            (true, p) => {
                write!(f, "unlike the training data (beyond {:.1} % of it)", (10.0 * p).floor() / 10.0)
            }
        }
    }
}

#[cfg(test)]
mod tests;
