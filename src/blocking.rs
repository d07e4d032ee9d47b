//! [`Duet`](crate::Duet) for programs without async: each call waits for its answer.

use crate::checkpoint::Dtype;
use crate::error::Result;
use crate::explain::{ExplainOptions, Explanation};
use crate::facade::{self, Classification, LoadOptions, SampleOptions};
use crate::model::{Labels, ModelConfig};
use crate::picture::Picture;
use pollster::block_on;
use std::path::Path;

/// A trained model on a device.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::blocking::Duet;
/// let mut duet = Duet::load("web/demo/public/model.safetensors")?;
/// let image = vec![-1.0; duet.inner().image_len()];
/// println!("{}", duet.classify(&image)?[0].name);
/// # Ok(()) }
/// ```
pub struct Duet(facade::Duet);

impl Duet {
    /// See [`Duet::load`](crate::Duet::load).
    ///
    /// # Errors
    /// As there.
    pub fn load(path: impl AsRef<Path>) -> Result<Duet> {
        block_on(facade::Duet::load(path)).map(Duet)
    }

    /// See [`Duet::load_with`](crate::Duet::load_with).
    ///
    /// # Errors
    /// As there.
    pub fn load_with(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Duet> {
        block_on(facade::Duet::load_with(path, options)).map(Duet)
    }

    /// The model's configuration: sizes, classes and their names.
    pub fn config(&self) -> &ModelConfig {
        self.0.config()
    }

    /// See [`Duet::image`](crate::Duet::image).
    ///
    /// # Errors
    /// As there.
    pub fn image(&self, picture: &Picture<'_>) -> Result<Vec<f32>> {
        self.0.image(picture)
    }

    /// See [`Duet::classify`](crate::Duet::classify).
    ///
    /// # Errors
    /// As there.
    pub fn classify(&mut self, images: &[f32]) -> Result<Vec<Classification>> {
        block_on(self.0.classify(images))
    }

    /// See [`Duet::explain`](crate::Duet::explain).
    ///
    /// # Errors
    /// As there.
    pub fn explain(&mut self, image: &[f32], target: usize, options: &ExplainOptions) -> Result<Explanation> {
        block_on(self.0.explain(image, target, options))
    }

    /// See [`Duet::sample`](crate::Duet::sample).
    ///
    /// # Errors
    /// As there.
    pub fn sample(
        &mut self,
        wanted: Option<&Labels>,
        count: usize,
        options: &SampleOptions,
    ) -> Result<Vec<f32>> {
        block_on(self.0.sample(wanted, count, options))
    }

    /// See [`Duet::save`](crate::Duet::save).
    ///
    /// # Errors
    /// As there.
    pub fn save(&self, path: impl AsRef<Path>, dtype: Dtype) -> Result<()> {
        self.0.save(path, dtype)
    }

    /// The model behind it, for everything else.
    pub fn inner(&mut self) -> &mut facade::Duet {
        &mut self.0
    }
}
