//! Tensors on the host, and how they lie in device memory.
//!
//! On the host a tensor is row-major and nothing is padded; images are \[N,C,H,W\]. On a device tensors are channels-last
//! and their last dimension is padded with zeros to a multiple of four (the "pitch"), so that every load is a whole `vec4`.

use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// A tensor on the host: the reference's shape and row-major order, nothing padded.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::checkpoint::Checkpoint;
///
/// // The first convolution of the shipped model: 24 channels of one, 3 × 3 pixels each.
/// let mut weights = Checkpoint::load("web/demo/public/model.safetensors".as_ref())?.weights;
/// let first = weights.get_mut("input_blocks.0.0.weight").expect("every network has one");
/// assert_eq!(first.shape, [24, 1, 3, 3]);
/// assert_eq!(first.data.len(), 24 * 9);
/// first.data.iter_mut().for_each(|value| *value *= 0.5);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// Length of each dimension; empty for a scalar.
    pub shape: Vec<usize>,
    /// The values; as many as the product of `shape`.
    pub data: Vec<f32>,
}

/// Tensors by their name in the reference's `state_dict`.
pub type Tensors = BTreeMap<String, HostTensor>;

/// Length of a row of `columns` values in device memory: rounded up to whole `vec4`s.
pub const fn pitch(columns: usize) -> usize {
    columns.div_ceil(4).saturating_mul(4)
}

/// Bytes of a tensor of logical shape `shape` in device memory.
pub fn device_bytes(shape: &[usize]) -> u64 {
    match shape.split_last() {
        None => 0,
        Some((columns, rows)) => {
            let lengths = rows.iter().copied().chain([pitch(*columns), 4]);
            lengths.fold(1u64, |bytes, length| bytes.saturating_mul(length as u64))
        }
    }
}

/// Checks the number of images that a plan is to run on at once.
///
/// # Errors
/// [`Error::Config`] for none, and for more than a million.
pub(crate) fn check_batch(batch: usize) -> Result<()> {
    if (1..=1 << 20).contains(&batch) {
        return Ok(());
    }
    Err(Error::config("batch_size", format!("must be from 1 to {}, is {batch}", 1 << 20)))
}

/// Rows of `columns` values, padded to the device's pitch.
pub fn pad_rows(data: &[f32], columns: usize) -> Vec<f32> {
    // A row longer than the data is as long as they are.
    let columns = columns.min(data.len()).max(1);
    let mut padded = Vec::with_capacity(data.len() / columns * pitch(columns));
    for row in data.chunks(columns) {
        padded.extend_from_slice(row);
        padded.resize(padded.len() + pitch(columns) - row.len(), 0.0);
    }
    padded
}

/// The opposite of [`pad_rows`].
pub fn unpad_rows(data: &[f32], columns: usize) -> Vec<f32> {
    data.chunks_exact(pitch(columns).max(4)).flat_map(|row| row.iter().take(columns)).copied().collect()
}

/// Size of a batch of images and its layouts: \[N,C,H,W\] on the host, \[N,H,W,pitch(C)\] on the device.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::tensor::Images;
///
/// // One image of three channels and two pixels: red 1, 2; green 3, 4; blue 5, 6.
/// let images = Images { batch: 1, channels: 3, pixels: 2 };
/// let host = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
/// let device = images.to_device(&host)?;
/// assert_eq!(device, [1.0, 3.0, 5.0, 0.0, 2.0, 4.0, 6.0, 0.0]);
/// assert_eq!(images.to_host(&device)?, host);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Images {
    /// Images.
    pub batch: usize,
    /// Channels.
    pub channels: usize,
    /// Height times width.
    pub pixels: usize,
}

impl Images {
    /// Values of one image.
    pub fn image_len(&self) -> usize {
        self.channels.saturating_mul(self.pixels)
    }

    /// Values of the batch.
    pub fn len(&self) -> usize {
        self.batch.saturating_mul(self.image_len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Into the device's layout.
    ///
    /// # Errors
    /// [`Error::Shape`] where the number of values is wrong.
    pub fn to_device(&self, images: &[f32]) -> Result<Vec<f32>> {
        if images.len() != self.len() {
            let detail = format!("{} values for {self:?}", images.len());
            return Err(Error::shape("images", detail));
        }
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let row = pitch(self.channels);
        let mut data = vec![0.0; self.batch * self.pixels * row];
        for (n, image) in images.chunks_exact(self.image_len()).enumerate() {
            for (c, plane) in image.chunks_exact(self.pixels).enumerate() {
                for (p, value) in plane.iter().enumerate() {
                    data[(n * self.pixels + p) * row + c] = *value;
                }
            }
        }
        Ok(data)
    }

    /// Back into the host's layout; what lies behind the batch is not looked at.
    ///
    /// # Errors
    /// [`Error::Shape`] where the number of values is wrong.
    pub fn to_host(&self, data: &[f32]) -> Result<Vec<f32>> {
        let row = pitch(self.channels);
        let need = self.batch.checked_mul(self.pixels).and_then(|pixels| pixels.checked_mul(row));
        if need.is_none_or(|need| data.len() < need) {
            let detail = format!("{} values in the device's layout for {self:?}", data.len());
            return Err(Error::shape("images", detail));
        }
        let mut images = vec![0.0; self.len()];
        if images.is_empty() {
            return Ok(images);
        }
        for (n, image) in images.chunks_exact_mut(self.image_len()).enumerate() {
            for (c, plane) in image.chunks_exact_mut(self.pixels).enumerate() {
                for (p, value) in plane.iter_mut().enumerate() {
                    *value = data[(n * self.pixels + p) * row + c];
                }
            }
        }
        Ok(images)
    }
}
