//! Networks that features are measured with: `duet import inception`, `duet import lenet`, `--features`.

use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::str::FromStr;

/// Which network's weights `duet import` reads.
#[derive(Clone, Debug, Subcommand)]
pub enum ImportNetwork {
    /// Weights of Inception-v3 for `--features`: those that published FIDs are measured with
    /// (pt_inception-2015-12-05-6726825d.pth of pytorch-fid, recognised by their hash), or torchvision's.
    Inception(NetworkFile),
    /// Weights of the reference's LeNets for 28×28 images: lenet_MNIST, lenet_Omniglot, or one of the same shapes.
    Lenet(NetworkFile),
}

/// A network's weights, read and written.
#[derive(Clone, Debug, Args)]
pub struct NetworkFile {
    /// The state_dict: a PyTorch file (.pt, .pth), which is read without executing anything, or a safetensors file.
    pub file: PathBuf,
    /// File to write (.safetensors).
    #[arg(long, short, value_name = "FILE")]
    pub out: PathBuf,
}

/// Which network gives features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeatureChoice {
    /// The model itself.
    Own,
    /// Inception-v3 with weights of a file.
    Inception(PathBuf),
    /// A LeNet with weights of a file.
    Lenet(PathBuf),
}

impl FromStr for FeatureChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<FeatureChoice, String> {
        match text.split_once(':') {
            None if text == "own" => Ok(FeatureChoice::Own),
            Some(("inception", file)) if !file.is_empty() => Ok(FeatureChoice::Inception(file.into())),
            Some(("lenet", file)) if !file.is_empty() => Ok(FeatureChoice::Lenet(file.into())),
            _ => Err("must be own, inception:FILE or lenet:FILE".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_chosen_by_its_kind_and_file() {
        assert_eq!("own".parse(), Ok(FeatureChoice::Own));
        assert_eq!("inception:a:b.pth".parse(), Ok(FeatureChoice::Inception("a:b.pth".into())));
        assert_eq!("lenet:x".parse(), Ok(FeatureChoice::Lenet("x".into())));
        for bad in ["", "Own", "own:x", "lenet", "lenet:", "inception", "vgg:x", "C:\\inception.pth"] {
            assert!(bad.parse::<FeatureChoice>().unwrap_err().contains("inception:FILE"), "{bad}");
        }
    }
}
