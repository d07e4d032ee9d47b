//! Networks that features of images are measured with: generated and real images are compared by what these make of them.
//!
//! [`Network`] says which there are; [`FeatureNetwork`] runs one on a device, on images of 8 bits a value, a batch at a time.
//! Their weights are PyTorch's `state_dict`s ([`StateDict`](crate::checkpoint::StateDict)), which are not part of this library.

mod inception;
mod lenet;
mod net;
#[cfg(test)]
mod tests;

pub use inception::Inception;
pub use lenet::Lenet;

use crate::checkpoint::check_names;
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Device, Executable};
use crate::graph::{Place, Plan};
use crate::tensor::{Tensors, check_batch, pitch, unpad_rows};
use net::{Layer, Net};
use std::collections::BTreeMap;

/// A network that gives features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Inception-v3: pictures of any size, grey or of three colours, resized to 299×299.
    Inception(Inception),
    /// LeNet: grey images of 28×28 pixels.
    Lenet(Lenet),
}

/// Sides of the images that Inception sees.
const INCEPTION_SIDES: [usize; 2] = [299, 299];

impl Network {
    /// The network that tensors of these names and shapes belong to. Those that only training uses may be there.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] saying what is missing, unexpected or of another shape.
    pub fn of(tensors: &Tensors) -> Result<Network> {
        let rows = |name: &str| tensors.get(name).and_then(|tensor| tensor.shape.first().copied());
        let network = match (rows("conv1.weight"), rows("fc.weight")) {
            (Some(first), _) if first == Lenet::Omniglot.first() => Network::Lenet(Lenet::Omniglot),
            (Some(_), _) => Network::Lenet(Lenet::Mnist),
            (_, Some(classes)) if classes == Inception::Torchvision.classes() => {
                Network::Inception(Inception::Torchvision)
            }
            _ => Network::Inception(Inception::Fid),
        };
        network.check(tensors)?;
        Ok(network)
    }

    /// Checks that tensors are exactly this network's; those that only training uses may be there, all or none.
    ///
    /// # Errors
    /// As [`Network::of`].
    pub fn check(self, tensors: &Tensors) -> Result<()> {
        let mut expected = self.expected()?;
        let auxiliary = self.auxiliary();
        if auxiliary.iter().any(|(name, _)| tensors.contains_key(name)) {
            expected.extend(auxiliary);
        }
        check_names(tensors, &expected)
    }

    /// Names and shapes of the tensors that it needs, as in the `state_dict`.
    ///
    /// # Errors
    /// None in a build that passes its tests.
    pub fn expected(self) -> Result<Vec<(String, Vec<usize>)>> {
        Ok(self.build(1, self.smallest())?.layers().flat_map(Layer::state).collect())
    }

    /// Names and shapes of those that only its training uses.
    pub fn auxiliary(self) -> Vec<(String, Vec<usize>)> {
        match self {
            Network::Inception(which) => which.auxiliary(),
            Network::Lenet(_) => Vec::new(),
        }
    }

    /// What a kind of network is called: "inception-fid", "inception-torchvision", "lenet-mnist", "lenet-omniglot".
    pub fn name(self) -> &'static str {
        match self {
            Network::Inception(Inception::Fid) => "inception-fid",
            Network::Inception(Inception::Torchvision) => "inception-torchvision",
            Network::Lenet(Lenet::Mnist) => "lenet-mnist",
            Network::Lenet(Lenet::Omniglot) => "lenet-omniglot",
        }
    }

    /// What becomes of images before the network sees them, in words.
    pub fn reads(self) -> &'static str {
        match self {
            Network::Inception(_) => "299×299, bilinear without antialiasing, −1..1",
            Network::Lenet(_) => "28×28 as they are, 0..1",
        }
    }

    /// The number that stands for a level: as each network was trained.
    fn value(self, level: u8) -> f32 {
        let share = f32::from(level) / 255.0;
        match self {
            Network::Inception(_) => 2.0 * share - 1.0,
            Network::Lenet(_) => share,
        }
    }

    /// Images that it reads: \[height, width, channels\].
    fn smallest(self) -> [usize; 3] {
        match self {
            Network::Inception(_) => [1, 1, 3],
            Network::Lenet(_) => [28, 28, 1],
        }
    }

    /// # Errors
    /// [`Error::Config`] for images that it does not read.
    fn check_image(self, [height, width, channels]: [usize; 3]) -> Result<()> {
        let (reads, fits) = match self {
            Network::Inception(_) => {
                let sides = height.min(width) >= 1 && height.max(width) <= 1 << 14;
                (
                    "images of up to 16,384 pixels a side with 1 or 3 channels",
                    sides && [1, 3].contains(&channels),
                )
            }
            Network::Lenet(_) => ("images of 28×28 with 1 channel", [height, width, channels] == [28, 28, 1]),
        };
        if fits {
            return Ok(());
        }
        let detail = format!("{} reads {reads}, these are {height}×{width} with {channels}", self.name());
        Err(Error::config("features", detail))
    }

    /// The network over `batch` images \[height, width, channels\] in the buffer "x".
    fn build(self, batch: usize, [height, width, channels]: [usize; 3]) -> Result<Net> {
        let mut net = Net::default();
        match self {
            Network::Lenet(which) => {
                let x = net.graph.leaf(&[batch, height, width, channels], Place::whole("x"));
                which.build(&mut net, x)?;
            }
            Network::Inception(which) => {
                let mut x = net.graph.leaf(&[batch, height, width, 3], Place::whole("x"));
                if [height, width] != INCEPTION_SIDES {
                    x = net.graph.resize_bilinear(x, INCEPTION_SIDES)?;
                }
                which.build(&mut net, x)?;
            }
        }
        Ok(net)
    }
}

/// Rows of numbers, one for each image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// The numbers \[N,len\].
    pub values: Vec<f32>,
    /// Numbers of a row.
    pub len: usize,
}

/// What a network makes of images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Activations {
    /// The features: of Inception the mean of each of the last block's 2,048 channels; of LeNet its second linear layer.
    pub pooled: Rows,
    /// Of Inception, seven channels of `Mixed_6d.branch1x1` at their 17×17 places, \[17,17,7\]: what spatial FID (sFID) reads.
    pub spatial: Option<Rows>,
    /// Logits of the network's own classes. Of Inception without the bias, as the evaluators that Inception scores are
    /// published from have it.
    pub logits: Rows,
}

/// A network on a device.
///
/// Memory on the device is bounded by its weights and a batch; images of another size than those before compile it anew.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::features::{FeatureNetwork, Lenet, Network};
/// use duet::gpu::{Device, DeviceOptions};
/// use duet::tensor::{HostTensor, Tensors};
///
/// // Weights as PyTorch's state_dict names and shapes them; here all are 0.01.
/// let network = Network::Lenet(Lenet::Mnist);
/// let tensor = |shape: Vec<usize>| HostTensor { data: vec![0.01; shape.iter().product()], shape };
/// let weights: Tensors =
///     network.expected()?.into_iter().map(|(name, shape)| (name, tensor(shape))).collect();
/// let device = Device::open(&DeviceOptions::default()).await?;
/// let mut lenet = FeatureNetwork::new(&device, &weights, 16).await?;
/// // Two images, black and white.
/// let images = [[0u8; 28 * 28], [255u8; 28 * 28]].concat();
/// let made = lenet.extract(&images, [28, 28, 1]).await?;
/// assert_eq!((made.pooled.len, made.pooled.values.len(), made.logits.len), (84, 2 * 84, 10));
/// # Ok(()) }) }
/// ```
pub struct FeatureNetwork {
    device: Device,
    network: Network,
    weights: BTreeMap<String, Buffer>,
    batch: usize,
    loaded: Option<Loaded>,
}

/// A plan for images of one size, and its own buffers.
struct Loaded {
    image: [usize; 3],
    batch: usize,
    executable: Executable,
    buffers: BTreeMap<String, Buffer>,
    /// Names of its results and numbers of an image in each.
    results: Vec<(&'static str, usize, usize)>,
}

/// Results of a plan.
const RESULTS: [&str; 3] = ["pooled", "spatial", "logits"];

impl FeatureNetwork {
    /// Uploads the weights of whichever network they are of; `batch` images are computed at a time, or as many as the device
    /// can hold.
    ///
    /// # Errors
    /// As [`Network::of`]; [`Error::Config`] for a batch out of range; device errors.
    pub async fn new(device: &Device, weights: &Tensors, batch: usize) -> Result<FeatureNetwork> {
        check_batch(batch)?;
        let network = Network::of(weights)?;
        let mut buffers = BTreeMap::new();
        for (name, data) in network.build(1, network.smallest())?.pack(weights)? {
            let buffer = device.buffer(&name, data.len() as u64 * 4).await?;
            device.write(&buffer, 0, bytemuck::cast_slice(&data))?;
            buffers.insert(name, buffer);
        }
        Ok(FeatureNetwork { device: device.clone(), network, weights: buffers, batch, loaded: None })
    }

    /// Which network it is.
    pub fn network(&self) -> Network {
        self.network
    }

    /// What it makes of any number of images, levels \[N,H,W,C\] of such a size \[H,W,C\]. An image's numbers do not depend on
    /// the others.
    ///
    /// # Errors
    /// [`Error::Config`] for images that the network does not read; [`Error::Shape`] for part of an image;
    /// [`Error::NotFinite`] naming the image whose features are no numbers; device errors.
    pub async fn extract(&mut self, images: &[u8], size: [usize; 3]) -> Result<Activations> {
        self.network.check_image(size)?;
        let len: usize = size.iter().product();
        if !images.len().is_multiple_of(len) {
            let detail = format!("{} levels are no whole number of images of {len}", images.len());
            return Err(Error::shape("features", detail));
        }
        let loaded = match self.loaded.take().filter(|loaded| loaded.image == size) {
            Some(loaded) => loaded,
            None => self.load(size).await?,
        };
        let mut rows: BTreeMap<&str, Rows> = BTreeMap::new();
        for (part, levels) in images.chunks(len * loaded.batch).enumerate() {
            let (values, count) = (self.values(levels, size, loaded.batch), levels.len() / len);
            if let Some(x) = loaded.buffers.get("x") {
                self.device.write(x, 0, bytemuck::cast_slice(&values))?;
            }
            loaded.executable.run();
            for (name, pixels, columns) in &loaded.results {
                let Some(buffer) = loaded.buffers.get(*name) else { continue };
                let read = self.device.read_f32(buffer, count * pixels * pitch(*columns)).await?;
                let made = rows.entry(name).or_insert(Rows { values: Vec::new(), len: pixels * columns });
                made.values.extend(unpad_rows(&read, *columns));
            }
            finite(rows.get("pooled"), part * loaded.batch)?;
        }
        let mut take = |name| {
            let known = loaded.results.iter().find(|(known, ..)| *known == name);
            known.map(|(_, pixels, columns)| {
                rows.remove(name).unwrap_or(Rows { values: Vec::new(), len: pixels * columns })
            })
        };
        let made = Activations {
            pooled: take("pooled").unwrap_or_default(),
            spatial: take("spatial"),
            logits: take("logits").unwrap_or_default(),
        };
        self.loaded = Some(loaded);
        Ok(made)
    }

    /// Compiles and loads the plan for images of a size, of as many at a time as the device can hold.
    async fn load(&self, image: [usize; 3]) -> Result<Loaded> {
        let mut batch = self.batch;
        loop {
            match self.load_batch(image, batch).await {
                Ok(loaded) => return Ok(loaded),
                Err(error) => batch = error.smaller_batch(batch).ok_or(error)?,
            }
        }
    }

    async fn load_batch(&self, image: [usize; 3], batch: usize) -> Result<Loaded> {
        let mut net = self.network.build(batch, image)?;
        let mut results = Vec::new();
        for name in RESULTS {
            if let Some(node) = net.marked(name) {
                let [_, height, width, channels] = net.graph.image_shape("features", node)?;
                net.graph.place(node, Place::whole(name));
                results.push((name, height * width, channels));
            }
        }
        let plan: Plan = net.graph.compile()?;
        let mut buffers = BTreeMap::new();
        for (name, bytes) in plan.externals().filter(|(name, _)| !self.weights.contains_key(*name)) {
            buffers.insert(name.to_owned(), self.device.buffer(name, bytes).await?);
        }
        let find = |name: &str| self.weights.get(name).or_else(|| buffers.get(name)).cloned();
        let executable = plan.load(&self.device, find).await?;
        Ok(Loaded { image, batch, executable, buffers, results })
    }

    /// Levels as a full batch in the device's layout; grey becomes three equal colours where the network reads those.
    fn values(&self, levels: &[u8], [height, width, channels]: [usize; 3], batch: usize) -> Vec<f32> {
        let reads = match self.network {
            Network::Inception(_) => 3,
            Network::Lenet(_) => channels,
        };
        let row = pitch(reads);
        let mut values = vec![0.0; batch * height * width * row];
        for (pixel, levels) in values.chunks_exact_mut(row.max(1)).zip(levels.chunks_exact(channels.max(1))) {
            let repeated = levels.iter().cycle().take(reads);
            pixel.iter_mut().zip(repeated).for_each(|(value, level)| *value = self.network.value(*level));
        }
        values
    }
}

/// Refuses features that are no numbers; `first` is the number of the batch's first image.
fn finite(rows: Option<&Rows>, first: usize) -> Result<()> {
    let Some(rows) = rows else { return Ok(()) };
    let new = rows.values.get(first * rows.len..).unwrap_or_default();
    let Some(place) = new.iter().position(|value| !value.is_finite()) else { return Ok(()) };
    let image = first + place / rows.len.max(1);
    let detail = format!("the features of image {image} (counted from 0) became NaN or infinite");
    Err(Error::NotFinite { detail })
}
