//! What a model becomes as an ONNX file.

use clap::{Args, ValueEnum};

/// What an ONNX file computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnnxKind {
    /// Images to logits and probabilities.
    Classifier,
    /// Images to the encoder's pooled features.
    Features,
    /// Noised images and timesteps to the noise (or whatever the network was trained to predict).
    Eps,
    /// A step of DDIM guided by Algorithm 1, its gradient written out: noised images, timesteps, labels and step sizes to
    /// the noise, the predicted image and the next one.
    GuidedStep,
}

/// Options of ONNX files.
#[derive(Debug, Args)]
pub struct OnnxArgs {
    /// Write an ONNX file (opset 17) that computes this, for ONNX Runtime and others; --out must end in .onnx. Its floats are
    /// 32-bit, without --f16.
    #[arg(long = "onnx", value_enum, value_name = "WHAT", conflicts_with_all = ["recipe", "data", "typicality_images", "pt", "diffusers"])]
    pub kind: Option<OnnxKind>,
    /// Of --onnx classifier and features: the images are bytes, channels last, as pictures are decoded.
    #[arg(long, requires = "kind")]
    pub uint8: bool,
    /// Of --onnx classifier and features: images may be noised; their timestep is an input as well.
    #[arg(long, requires = "kind", conflicts_with = "uint8")]
    pub noised: bool,
    /// Of --onnx: store weights as 16-bit floats, half the bytes. What is computed is computed in 32 bits.
    #[arg(long, requires = "kind", conflicts_with = "f32")]
    pub f16: bool,
    /// Of --onnx guided-step: let the predicted image leave its range.
    #[arg(long, requires = "kind")]
    pub no_clip: bool,
    /// Of --onnx guided-step: guide even by a classifier that never saw noised images.
    #[arg(long, requires = "kind")]
    pub force: bool,
}
