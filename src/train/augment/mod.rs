//! Augmentation of what the classifier is shown: what may happen to an image; `draw.rs` what does at a step, `augmenter.rs` the
//! same outside of training.

mod augmenter;
mod draw;

pub use augmenter::Augmenter;
pub use draw::Augmentation;

use crate::error::{Error, Result};
use crate::model::ModelConfig;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;

/// Makes a kind of augmentation: its fields with their defaults, all of them readable from a recipe.
macro_rules! kind {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $value:expr),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            /// Share of the images that it happens to.
            pub probability: f64,
            $($(#[$field_doc])* pub $field: $type),+
        }
        impl Default for $name {
            fn default() -> Self {
                $name { probability: 0.25, $($field: $value),+ }
            }
        }
    };
}

kind! {
    /// Brightness, contrast, saturation and hue of a colour image, in random order.
    ColorJitter {
        /// Levels are multiplied by 1 ± this.
        brightness: f64 = 0.1,
        /// Distances from the image's mean grey level are multiplied by 1 ± this.
        contrast: f64 = 0.1,
        /// Distances of colours from their grey are multiplied by 1 ± this.
        saturation: f64 = 0.1,
        /// Hues are turned by ± this part of the circle.
        hue: f64 = 0.1,
    }
}
kind! {
    /// Part of an image, made as large as the whole.
    Crop {
        /// Its share of the image's area.
        scale: [f64; 2] = [0.5, 1.0],
        /// Its width by its height.
        ratio: [f64; 2] = [0.75, 4.0 / 3.0],
    }
}
kind! {
    /// Turned about the middle.
    Rotation {
        /// By at most this, to either side.
        degrees: f64 = 30.0,
    }
}
kind! {
    /// Levels multiplied by a factor.
    Contrast {
        /// Least and largest factor.
        factor: [f64; 2] = [0.6, 1.8],
    }
}
kind! {
    /// Distances from the mean of the pixels around multiplied by a factor: below 1 blurred, above 1 sharpened.
    Sharpness {
        /// Least and largest factor.
        factor: [f64; 2] = [0.4, 2.0],
    }
}
kind! {
    /// A factor less 1 added to levels from 0 to 1.
    Brightness {
        /// Least and largest factor.
        factor: [f64; 2] = [0.6, 1.8],
    }
}
kind! {
    /// Mixed with another image of the batch; the labels are mixed alike.
    MixUp {
        /// Least and largest share of the other one.
        share: [f64; 2] = [0.0, 1.0],
    }
}

/// Mirrored, left for right. Wrong for digits and letters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HorizontalFlip {
    /// Share of the images that it happens to.
    pub probability: f64,
}

impl Default for HorizontalFlip {
    fn default() -> Self {
        HorizontalFlip { probability: 0.5 }
    }
}

/// What may happen to images before the classifier sees them, in this order; by default nothing does. The noise error sees the
/// images as they are.
///
/// As text `true` stands for the defaults, which are the reference's ranges. Numbers are drawn for each image by seed, step and
/// row in the whole batch: neither micro-batches nor a run's beginning change them.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::rng::Seed;
/// use duet::train::{Augment, HorizontalFlip, Rotation};
///
/// let augment = Augment {
///     rotation: Some(Rotation { degrees: 10.0, ..Rotation::default() }),
///     horizontal_flip: Some(HorizontalFlip::default()),
///     ..Augment::default()
/// };
/// augment.validate()?;
/// // What happens to the image in row 3 at step 100.
/// let drawn = augment.draw(Seed(7), 100, 3, [28, 28]);
/// assert_eq!(drawn, augment.draw(Seed(7), 100, 3, [28, 28]));
/// assert!(drawn.contrast == 1.0 && drawn.jitter.is_none());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Only of images with three channels.
    #[serde(deserialize_with = "switch", skip_serializing_if = "Option::is_none")]
    pub color_jitter: Option<ColorJitter>,
    /// A part instead of the whole.
    #[serde(deserialize_with = "switch", skip_serializing_if = "Option::is_none")]
    pub crop: Option<Crop>,
    /// A turn.
    #[serde(deserialize_with = "switch", skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// A mirror.
    #[serde(deserialize_with = "switch", skip_serializing_if = "Option::is_none")]
    pub horizontal_flip: Option<HorizontalFlip>,
    /// Levels times a factor.
    #[serde(deserialize_with = "switch", skip_serializing_if = "Option::is_none")]
    pub contrast: Option<Contrast>,
    /// Blurred or sharpened.
    #[serde(deserialize_with = "switch", skip_serializing_if = "Option::is_none")]
    pub sharpness: Option<Sharpness>,
    /// Lighter or darker.
    #[serde(deserialize_with = "switch", skip_serializing_if = "Option::is_none")]
    pub brightness: Option<Brightness>,
    /// Two images in one.
    #[serde(deserialize_with = "switch", skip_serializing_if = "Option::is_none")]
    pub mixup: Option<MixUp>,
    /// What lies outside an image, from −1 to 1: a value for all channels, or one for each. Where there is none it is −1;
    /// `duet train` then takes the colour of the training images' borders.
    #[serde(deserialize_with = "border", skip_serializing_if = "Vec::is_empty")]
    pub border: Vec<f64>,
}

/// `true` (the defaults), `false`, or a table.
fn switch<'de, D, T>(deserializer: D) -> std::result::Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    struct Switch<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for Switch<T> {
        type Value = Option<T>;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("true, false or a table of its values")
        }

        fn visit_bool<E>(self, on: bool) -> std::result::Result<Option<T>, E> {
            Ok(on.then(T::default))
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<Option<T>, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }
    }
    deserializer.deserialize_any(Switch(PhantomData))
}

/// A number, or a list of them.
fn border<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<f64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a border is a number from -1 to 1, or a list of one for each channel")]
    enum Border {
        All(f64),
        Channels(Vec<f64>),
    }
    Ok(match Border::deserialize(deserializer)? {
        Border::All(value) => vec![value],
        Border::Channels(values) => values,
    })
}

impl Augment {
    /// Whether anything may happen.
    pub fn is_on(&self) -> bool {
        *self != Augment { border: self.border.clone(), ..Augment::default() }
    }

    /// What lies outside an image, by channel modulo 4.
    pub(crate) fn border_lanes(&self) -> [f32; 4] {
        let all = self.border.first().copied().unwrap_or(-1.0);
        std::array::from_fn(|lane| {
            if self.border.len() > 1 {
                self.border.get(lane).copied().unwrap_or(all) as f32
            } else {
                all as f32
            }
        })
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Config`] naming the key.
    pub fn validate(&self) -> Result<()> {
        let (unit, any) = ([0.0, 1.0], [0.0, 100.0]);
        let fields = [
            self.color_jitter.map(|j| ("color_jitter.probability", vec![j.probability], unit)),
            self.color_jitter.map(|j| ("color_jitter.brightness", vec![j.brightness], unit)),
            self.color_jitter.map(|j| ("color_jitter.contrast", vec![j.contrast], unit)),
            self.color_jitter.map(|j| ("color_jitter.saturation", vec![j.saturation], unit)),
            self.color_jitter.map(|j| ("color_jitter.hue", vec![j.hue], [0.0, 0.5])),
            self.crop.map(|c| ("crop.probability", vec![c.probability], unit)),
            self.crop.map(|c| ("crop.scale", c.scale.to_vec(), [0.001, 1.0])),
            self.crop.map(|c| ("crop.ratio", c.ratio.to_vec(), [0.01, 100.0])),
            self.rotation.map(|r| ("rotation.probability", vec![r.probability], unit)),
            self.rotation.map(|r| ("rotation.degrees", vec![r.degrees], [0.0, 180.0])),
            self.horizontal_flip.map(|f| ("horizontal_flip.probability", vec![f.probability], unit)),
            self.contrast.map(|c| ("contrast.probability", vec![c.probability], unit)),
            self.contrast.map(|c| ("contrast.factor", c.factor.to_vec(), any)),
            self.sharpness.map(|s| ("sharpness.probability", vec![s.probability], unit)),
            self.sharpness.map(|s| ("sharpness.factor", s.factor.to_vec(), any)),
            self.brightness.map(|b| ("brightness.probability", vec![b.probability], unit)),
            self.brightness.map(|b| ("brightness.factor", b.factor.to_vec(), [0.0, 2.0])),
            self.mixup.map(|m| ("mixup.probability", vec![m.probability], unit)),
            self.mixup.map(|m| ("mixup.share", m.share.to_vec(), unit)),
        ];
        for (key, values, [least, most]) in fields.into_iter().flatten() {
            let bad = |value: &&f64| !(least..=most).contains(*value);
            if let Some(value) = values.iter().find(bad) {
                let detail = format!("must be from {least} to {most}, is {value}");
                return Err(Error::config(format!("augment.{key}"), detail));
            }
            if !values.is_sorted() {
                let detail = format!("must be the least and the largest, is {values:?}");
                return Err(Error::config(format!("augment.{key}"), detail));
            }
        }
        match self.border.iter().find(|value| !(-1.0..=1.0).contains(*value)) {
            Some(value) => Err(Error::config("augment.border", format!("must be from -1 to 1, is {value}"))),
            None => Ok(()),
        }
    }

    /// Whether images of `config` can be augmented so.
    ///
    /// # Errors
    /// [`Error::Config`] naming the key.
    pub fn validate_for(&self, config: &ModelConfig) -> Result<()> {
        self.validate()?;
        let channels = config.in_channels;
        if self.color_jitter.is_some() && channels != 3 {
            let detail = format!("is for colour images, which have 3 channels; these have {channels}");
            return Err(Error::config("augment.color_jitter", detail));
        }
        let values = self.border.len();
        if values > 1 && (values != channels || channels > 4) {
            let detail = format!("has {values} values for {channels} channels: give one for all of them");
            return Err(Error::config("augment.border", detail));
        }
        Ok(())
    }
}
