//! The joint model: configuration, UNet, classifier, parameter names.

mod classifier;
mod config;
mod head;
mod layers;
mod mixture;
mod names;
mod params;
mod sets;
mod unet;

pub use crate::ops::Pooling;
pub use classifier::Classifier;
pub use config::ModelConfig;
pub use head::{AcrossLabels, Head, Labels, Target, UNLABELLED, argmax};
pub use layers::{Affine, AttentionBlock, BatchNorm, Builder, Norm, ResBlock, Resample};
pub use names::class_list;
pub use params::{Init, Layout, ParamId, ParamLayout, ParamRange, ParamSpec, Part};
pub use sets::{ParamSet, WeightSet};
pub use unet::{Encoded, UNet};

use crate::error::Result;

/// The joint model: one encoder shared by the denoising decoder and the classifier.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::infer::classify_plan;
/// use duet::model::{JointModel, ModelConfig, WeightSet};
///
/// // What a network will cost is known before there is a device.
/// let config = ModelConfig { num_channels: 32, num_res_blocks: 1, num_classes: 2, ..ModelConfig::default() };
/// let model = JointModel::new(&config)?;
/// println!("{} parameters", model.params.parameter_count());
/// let cost = classify_plan(&model, 1, WeightSet::Raw)?.stats();
/// assert!(cost.multiply_adds > 1_000_000 && cost.slot_bytes >= cost.lower_bound);
/// # Ok(()) }
/// ```
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
