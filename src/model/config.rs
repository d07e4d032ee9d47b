//! Model and diffusion configuration, field for field the reference's, with its derived quantities.

use super::head::Head;
use crate::error::{Error, Result};
use crate::ops::Pooling;
use crate::tensor::Images;
use serde::{Deserialize, Serialize};

/// Most residual blocks of a level; the deepest published networks of this kind have three.
const MOST_BLOCKS: usize = 64;

/// The UNet and the classifier (paper section 5.1; defaults are the reference's).
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::model::ModelConfig;
///
/// let config = ModelConfig {
///     image_size: 32,
///     in_channels: 3,
///     num_classes: 2,
///     class_names: vec!["cat".into(), "dog".into()],
///     ..ModelConfig::default()
/// };
/// config.validate()?;
/// assert_eq!(config.levels()?, [1, 2, 2, 2]); // widths 128, 256, 256, 256 at 32, 16, 8 and 4 pixels
/// assert_eq!(config.find_class("Dog")?, 1);
/// assert_eq!(config.images(8).len(), 8 * 3 * 32 * 32);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// Height and width of the square images in pixels.
    pub image_size: usize,
    /// Channels of the images: 1 grey, 3 RGB.
    pub in_channels: usize,
    /// Base width C of the network.
    pub num_channels: usize,
    /// Residual blocks per resolution level.
    pub num_res_blocks: usize,
    /// Width multiplier of each level; empty: by image size (28: 1,2,2; 32: 1,2,2,2; 64: 1,2,3,4).
    pub channel_mult: Vec<usize>,
    /// Resolutions with attention; a level of down-sampling factor `image_size / r` (integer division) has it.
    pub attention_resolutions: Vec<usize>,
    /// Attention heads, unless `num_head_channels` is given.
    pub num_heads: usize,
    /// Attention heads of the decoder; `None`: as `num_heads`.
    pub num_heads_upsample: Option<usize>,
    /// Channels per attention head; overrides the number of heads.
    pub num_head_channels: Option<usize>,
    /// Head order of the QKV projection: all q, all k, all v (`true`), or q, k, v head by head (`false`, "legacy").
    pub use_new_attention_order: bool,
    /// GroupNorm's output is scaled and shifted by the timestep embedding (`true`) or the embedding is added before it.
    pub use_scale_shift_norm: bool,
    /// Resample inside residual blocks instead of by strided convolution.
    pub resblock_updown: bool,
    /// The network also predicts the variance (2 × `in_channels` outputs: eps | v).
    pub learn_sigma: bool,
    /// Dropout in residual blocks.
    pub dropout: f32,
    /// GroupNorm's groups at most; fewer channels: one group a channel.
    pub num_groups: usize,
    /// Classes or labels.
    pub num_classes: usize,
    /// What the head answers.
    pub head: Head,
    /// Pooling of the feature maps.
    pub pooling: Pooling,
    /// Dropout in the classifier, before each of its BatchNorms.
    pub classifier_dropout: f32,
    /// Names of the classes, in label order, each another one; may be empty. Data and people are understood by them, see
    /// [`ModelConfig::match_classes`] and [`ModelConfig::find_class`].
    pub class_names: Vec<String>,
}

impl Default for ModelConfig {
    fn default() -> Self {
        ModelConfig {
            image_size: 28,
            in_channels: 1,
            num_channels: 128,
            num_res_blocks: 3,
            channel_mult: Vec::new(),
            attention_resolutions: vec![16, 8],
            num_heads: 4,
            num_heads_upsample: None,
            num_head_channels: None,
            use_new_attention_order: false,
            use_scale_shift_norm: true,
            resblock_updown: false,
            learn_sigma: false,
            dropout: 0.0,
            num_groups: 32,
            num_classes: 10,
            head: Head::Multiclass,
            pooling: Pooling::Average,
            classifier_dropout: 0.7,
            class_names: Vec::new(),
        }
    }
}

impl ModelConfig {
    /// Width multiplier of each level, the default for the image size filled in.
    pub fn levels(&self) -> Result<Vec<usize>> {
        if !self.channel_mult.is_empty() {
            return Ok(self.channel_mult.clone());
        }
        match self.image_size {
            28 => Ok(vec![1, 2, 2]),
            32 => Ok(vec![1, 2, 2, 2]),
            64 => Ok(vec![1, 2, 3, 4]),
            other => Err(Error::config(
                "channel_mult",
                format!("there is no default for image_size {other}: give one multiplier per level"),
            )),
        }
    }

    /// Down-sampling factors whose levels have attention.
    pub fn attention_factors(&self) -> Vec<usize> {
        self.attention_resolutions.iter().filter(|r| **r > 0).map(|r| self.image_size / r).collect()
    }

    /// Channels the network puts out: eps, and v where sigma is learned.
    pub fn out_channels(&self) -> usize {
        if self.learn_sigma { self.in_channels.saturating_mul(2) } else { self.in_channels }
    }

    /// Groups of a GroupNorm over `channels`.
    pub fn groups(&self, channels: usize) -> usize {
        self.num_groups.min(channels)
    }

    /// Heads of an attention block over `channels`.
    pub fn heads(&self, channels: usize, decoder: bool) -> usize {
        match self.num_head_channels {
            Some(width) => channels / width.max(1),
            None if decoder => self.num_heads_upsample.unwrap_or(self.num_heads),
            None => self.num_heads,
        }
    }

    /// Batches of its images.
    pub fn images(&self, batch: usize) -> Images {
        Images { batch, channels: self.in_channels, pixels: self.image_size.saturating_mul(self.image_size) }
    }

    /// Shape \[N,H,W,C\] of a batch of its images in a graph.
    pub fn image_shape(&self, batch: usize) -> [usize; 4] {
        [batch, self.image_size, self.image_size, self.in_channels]
    }

    /// Checks every field against every other.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field, what it is and what it must be.
    pub fn validate(&self) -> Result<()> {
        let positive = [
            ("image_size", self.image_size),
            ("in_channels", self.in_channels),
            ("num_channels", self.num_channels),
            ("num_res_blocks", self.num_res_blocks),
            ("num_heads", self.num_heads),
            ("num_groups", self.num_groups),
            ("num_classes", self.num_classes),
        ];
        for (field, value) in positive {
            if value == 0 || value > 65_536 {
                return Err(Error::config(field, format!("must be between 1 and 65536, is {value}")));
            }
        }
        // Each block is a dozen tensors: without a bound a file of a kilobyte would name a million of them.
        if self.num_res_blocks > MOST_BLOCKS {
            let detail = format!("must be at most {MOST_BLOCKS}, is {}", self.num_res_blocks);
            return Err(Error::config("num_res_blocks", detail));
        }
        if self.num_head_channels == Some(0) {
            return Err(Error::config("num_head_channels", "must be at least 1"));
        }
        for (field, p) in [("dropout", self.dropout), ("classifier_dropout", self.classifier_dropout)] {
            if !(0.0..1.0).contains(&p) {
                return Err(Error::config(field, format!("must be at least 0 and below 1, is {p}")));
            }
        }
        let levels = self.levels()?;
        if levels.len() > 8 || levels.iter().any(|m| *m == 0 || *m > 64) {
            return Err(Error::config("channel_mult", "needs 1 to 8 multipliers, each from 1 to 64"));
        }
        let factor = 1usize << (levels.len() - 1);
        if !self.image_size.is_multiple_of(factor) {
            return Err(Error::config(
                "image_size",
                format!("must be a multiple of {factor} for {} levels, is {}", levels.len(), self.image_size),
            ));
        }
        let attention = self.attention_factors();
        for (level, mult) in levels.iter().enumerate() {
            let channels = mult * self.num_channels;
            let groups = self.groups(channels);
            if !channels.is_multiple_of(groups) {
                return Err(Error::config(
                    "num_groups",
                    format!("{channels} channels at level {level} do not divide into {groups} groups"),
                ));
            }
            let attends = attention.contains(&(1 << level)) || level + 1 == levels.len();
            for decoder in [false, true] {
                let heads = self.heads(channels, decoder);
                if attends && (heads == 0 || !channels.is_multiple_of(heads)) {
                    return Err(Error::config(
                        "num_heads",
                        format!("{channels} channels at level {level} do not divide into {heads} heads"),
                    ));
                }
            }
        }
        self.check_names()
    }
}
