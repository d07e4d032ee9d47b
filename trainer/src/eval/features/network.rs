//! Networks that were trained apart: Inception-v3 and LeNet, of weights in files that users have.

use super::{Extracted, Features, Pixels};
use crate::data::whole;
use duet::checkpoint::StateDict;
use duet::features::{FeatureNetwork, Inception, Lenet, Network, Rows};
use duet::gpu::Device;
use duet::tensor::Tensors;
use duet::torch::TorchFile;
use duet::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::path::Path;

/// SHA-256 of the file that published FIDs are measured with: `pt_inception-2015-12-05-6726825d.pth` of pytorch-fid, which
/// torch-fidelity has too.
const FID_WEIGHTS: &str = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2";
/// [`contents`] of the reference's `lenet_MNIST` and `lenet_Omniglot`.
const LENET_MNIST: &str = "62bba4b70cd313f43c0a7fdbf3b4b1ae7afd1abee9664643928be87f8bf2c55e";
const LENET_OMNIGLOT: &str = "f366f48c86251886296473d8aec837b12669a5afcaccc66728fef09eda37bea3";
/// Most images of Inception at a time: it takes a dozen megabytes for each, and no time is won by more.
const INCEPTION_BATCH: usize = 8;
/// Key of [`Origin`] in a file's header.
const KEY: &str = "duet_features";

/// What `duet import` notes of weights that it read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The network, as [`Network::name`].
    pub network: String,
    /// Name of the file they were read from.
    pub source: String,
    /// Its SHA-256.
    pub sha256: String,
    /// [`contents`] of the tensors.
    pub contents: String,
}

/// Weights of a network of features, and whose they are.
pub struct Weights {
    /// The network.
    pub network: Network,
    /// Its tensors, with those that only training uses.
    pub tensors: Tensors,
    /// Where they came from; where nothing says more, the file itself.
    pub origin: Origin,
}

/// A hash of names, shapes and values, in hexadecimal digits: of the same weights the same in whichever file.
fn contents(tensors: &Tensors) -> String {
    let mut hasher = blake3::Hasher::new();
    for (name, tensor) in tensors {
        hasher.update(format!("{name} {:?}\n", tensor.shape).as_bytes());
        hasher.update(bytemuck::cast_slice(&tensor.data));
    }
    hasher.finalize().to_hex().to_string()
}

impl Weights {
    /// Reads a PyTorch file (`.pt`, `.pth`), a safetensors file of the same names, or one that `duet import` made.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a file that cannot be read, is damaged or of neither format, and as [`Network::of`].
    pub fn read(path: &Path) -> Result<Weights> {
        let bad = |detail: String| Error::Checkpoint { path: path.to_owned(), detail };
        let bytes = whole(path).map_err(|error| bad(format!("cannot be read: {error}")))?;
        let StateDict { tensors, texts } = match TorchFile::recognise(&bytes) {
            true => StateDict {
                tensors: TorchFile::read(&bytes, path)?.state_dict(None)?,
                texts: Default::default(),
            },
            false => StateDict::from_bytes(&bytes, path)?,
        };
        let network = Network::of(&tensors).map_err(|error| match error {
            Error::Checkpoint { detail, .. } => bad(detail),
            other => other,
        })?;
        let contents = contents(&tensors);
        let noted = texts.get(KEY).and_then(|text| serde_json::from_str::<Origin>(text).ok());
        // What was changed since is somebody else's.
        let origin = match noted.filter(|origin| origin.contents == contents) {
            Some(origin) => origin,
            None => Origin {
                network: network.name().to_owned(),
                source: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                sha256: Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
                contents,
            },
        };
        Ok(Weights { network, tensors, origin })
    }

    /// The bytes of a safetensors file that holds all of it.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for values that are not finite.
    pub fn to_bytes(&self, path: &Path) -> Result<Vec<u8>> {
        let text = serde_json::to_string(&self.origin).map_err(|e| Error::config("json", e.to_string()))?;
        let texts = [(KEY.to_owned(), text)].into();
        StateDict { tensors: self.tensors.clone(), texts }.to_bytes(path)
    }

    /// Whether they are those that published FIDs are measured with.
    pub fn standard(&self) -> bool {
        self.network == Network::Inception(Inception::Fid) && self.origin.sha256 == FID_WEIGHTS
    }

    /// What figures are named after.
    pub fn name(&self) -> String {
        let known = |contents: &str| self.origin.contents == contents;
        match self.network {
            Network::Inception(Inception::Fid) if self.standard() => "inception-2015-12-05",
            Network::Inception(Inception::Fid) => "unverified-inception",
            Network::Inception(Inception::Torchvision) => "torchvision-inception",
            Network::Lenet(Lenet::Mnist) if known(LENET_MNIST) => "lenet-mnist",
            Network::Lenet(Lenet::Omniglot) if known(LENET_OMNIGLOT) => "lenet-omniglot",
            Network::Lenet(_) => "other-lenet",
        }
        .to_owned()
    }
}

/// Features of a network that was trained apart.
pub struct NetworkFeatures {
    network: FeatureNetwork,
    name: String,
    standard: bool,
    identity: String,
}

impl NetworkFeatures {
    /// Uploads a network's weights; `batch` images are computed at a time, or as many as the device can hold.
    ///
    /// # Errors
    /// Device errors.
    pub fn new(device: &Device, weights: &Weights, batch: usize) -> Result<NetworkFeatures> {
        let batch = match weights.network {
            Network::Inception(_) => batch.min(INCEPTION_BATCH),
            Network::Lenet(_) => batch,
        };
        let network = pollster::block_on(FeatureNetwork::new(device, &weights.tensors, batch))?;
        let identity = weights.origin.contents.chars().take(16).collect();
        Ok(NetworkFeatures { network, name: weights.name(), standard: weights.standard(), identity })
    }
}

impl Features for NetworkFeatures {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn standard(&self) -> bool {
        self.standard
    }

    fn reads(&self) -> String {
        self.network.network().reads().to_owned()
    }

    fn identity(&self) -> String {
        self.identity.clone()
    }

    fn extract(&mut self, images: &Pixels) -> Result<Extracted> {
        let size = [images.height, images.width, images.channels];
        let made = pollster::block_on(self.network.extract(&images.bytes, size))?;
        let pair = |rows: Rows| (rows.values, rows.len);
        let (pooled, len) = pair(made.pooled);
        Ok(Extracted { pooled, len, spatial: made.spatial.map(pair), logits: Some(pair(made.logits)) })
    }
}
