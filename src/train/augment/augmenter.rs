//! Augmentation by itself: the kernels of training, to look at what they do.

use super::{Augment, Augmentation};
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Device, Executable};
use crate::graph::{Graph, Place, Plan};
use crate::model::ModelConfig;
use crate::ops::augment::NUMBERS;
use crate::tensor::Images;

/// Augments batches of images on a device, as a training step does.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::gpu::{Device, DeviceOptions};
/// use duet::model::ModelConfig;
/// use duet::rng::Seed;
/// use duet::train::{Augment, Augmenter, HorizontalFlip};
///
/// let config = ModelConfig { image_size: 2, ..ModelConfig::default() };
/// let flip = HorizontalFlip { probability: 1.0 };
/// let augment = Augment { horizontal_flip: Some(flip), ..Augment::default() };
/// let device = Device::open(&DeviceOptions::default()).await?;
/// let augmenter = Augmenter::new(&device, &config, &augment, 1).await?;
/// let drawn = augment.draw(Seed(0), 0, 0, [2, 2]);
/// assert_eq!(augmenter.apply(&[-1.0, 1.0, 0.5, 0.0], &[drawn]).await?, [1.0, -1.0, 0.0, 0.5]);
/// # Ok(()) }) }
/// ```
pub struct Augmenter {
    executable: Executable,
    images: Images,
    buffers: [Buffer; 3],
}

/// Names of the buffers of [`plan`].
const NAMES: [&str; 3] = ["x_start", "augment", "augmented"];

/// The plan of augmentation alone, for `batch` images: buffers "x_start", "augment" \[N, [`NUMBERS`]\], "augmented".
fn plan(config: &ModelConfig, augment: &Augment, batch: usize) -> Result<Plan> {
    let mut graph = Graph::new();
    let [images, numbers, result] = NAMES.map(Place::whole);
    let x = graph.leaf(&config.image_shape(batch), images);
    let numbers = graph.leaf(&[batch, NUMBERS], numbers);
    let y = graph.augment(x, numbers, augment.border_lanes(), augment.color_jitter.is_some())?;
    graph.place(y, result);
    graph.compile()
}

impl Augmenter {
    /// For `batch` images of a model at a time.
    ///
    /// # Errors
    /// As [`Augment::validate_for`]; device errors.
    pub async fn new(
        device: &Device,
        config: &ModelConfig,
        augment: &Augment,
        batch: usize,
    ) -> Result<Augmenter> {
        augment.validate_for(config)?;
        crate::tensor::check_batch(batch)?;
        let plan = plan(config, augment, batch)?;
        let mut buffers = Vec::new();
        for name in NAMES {
            let bytes = plan.externals().find(|(known, _)| *known == name).map_or(16, |(_, bytes)| bytes);
            buffers.push(device.buffer(name, bytes).await?);
        }
        let buffers: [Buffer; 3] = buffers
            .try_into()
            .map_err(|_| Error::shape("augment", "the plan's buffers are others than its names"))?;
        let find = |name: &str| {
            NAMES.iter().zip(&buffers).find(|(known, _)| **known == name).map(|(_, buffer)| buffer.clone())
        };
        let executable = plan.load(device, find).await?;
        Ok(Augmenter { executable, images: config.images(batch), buffers })
    }

    /// Images \[N,C,H,W\] in −1..1 with what was drawn for each.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of them; device errors.
    pub async fn apply(&self, images: &[f32], drawn: &[Augmentation]) -> Result<Vec<f32>> {
        if images.len() != self.images.len() || drawn.len() != self.images.batch {
            let detail = format!("{} values and {} draws", images.len(), drawn.len());
            let need = format!("need {} and {}", self.images.len(), self.images.batch);
            return Err(Error::shape("augment", format!("{detail}, {need}")));
        }
        let [x, numbers, y] = &self.buffers;
        let device = self.executable.device();
        device.write(x, 0, bytemuck::cast_slice(&self.images.to_device(images)?))?;
        let words: Vec<[f32; NUMBERS]> = drawn.iter().map(Augmentation::numbers).collect();
        device.write(numbers, 0, bytemuck::cast_slice(words.as_flattened()))?;
        self.executable.run();
        self.images.to_host(&device.read_f32(y, y.bytes() as usize / 4).await?)
    }
}
