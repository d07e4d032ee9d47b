//! The joint model: configuration, UNet, classifier, parameter names.

mod classifier;
mod config;
mod head;
mod layers;
mod params;
mod sets;
mod unet;

pub use crate::ops::Pooling;
pub use classifier::Classifier;
pub use config::ModelConfig;
pub use head::{AcrossLabels, Head, Labels, UNLABELLED, argmax};
pub use layers::{Affine, AttentionBlock, BatchNorm, Builder, Norm, ResBlock, Resample};
pub use params::{Init, Layout, ParamId, ParamLayout, ParamRange, ParamSpec, Part};
pub use sets::{ParamSet, WeightSet};
pub use unet::{Encoded, UNet};

use crate::error::Result;

/// The joint model: one encoder shared by the denoising decoder and the classifier.
#[derive(Clone, Debug)]
pub struct JointModel {
    /// The configuration.
    pub config: ModelConfig,
    /// Parameters and where they lie.
    pub params: ParamLayout,
    /// The diffusion network.
    pub unet: UNet,
    /// The classifier.
    pub classifier: Classifier,
}

impl JointModel {
    /// The model of a configuration; nothing is allocated on a device.
    ///
    /// # Errors
    /// [`crate::Error::Config`] as [`ModelConfig::validate`].
    pub fn new(config: &ModelConfig) -> Result<JointModel> {
        config.validate()?;
        let mut params = ParamLayout::default();
        let unet = UNet::new(&mut params, config)?;
        params.begin(Part::Classifier);
        let classifier = Classifier::new(&mut params, config, &unet.feature_channels, "clasifier.");
        Ok(JointModel { config: config.clone(), params, unet, classifier })
    }
}
