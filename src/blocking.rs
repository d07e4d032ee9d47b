//! [`Duet`](crate::Duet) for programs without async: each call waits for its answer.

use crate::error::Result;
use crate::evaluation::Evaluation;
use crate::explain::{ExplainOptions, Explanation, Variants};
use crate::facade::{self, Classification, LoadOptions, SampleOptions};
use crate::model::{Labels, Target};
use crate::sampling::Watch;
use crate::typicality::Typicality;
use pollster::block_on;
use std::ops::{Deref, DerefMut};
use std::path::Path;

/// A trained model on a device.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::blocking::Duet;
/// let mut duet = Duet::load("web/demo/public/model.safetensors")?;
/// let image = vec![-1.0; duet.image_len()];
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

    /// See [`Duet::classify`](crate::Duet::classify).
    ///
    /// # Errors
    /// As there.
    pub fn classify(&mut self, images: &[f32]) -> Result<Vec<Classification>> {
        block_on(self.0.classify(images))
    }

    /// See [`Duet::typicality`](crate::Duet::typicality).
    ///
    /// # Errors
    /// As there.
    pub fn typicality(&mut self, images: &[f32]) -> Result<Option<Vec<Typicality>>> {
        block_on(self.0.typicality(images))
    }

    /// See [`Duet::evaluate`](crate::Duet::evaluate).
    ///
    /// # Errors
    /// As there.
    pub fn evaluate(&mut self, evaluation: &mut Evaluation, images: &[f32], classes: &[u32]) -> Result<()> {
        block_on(self.0.evaluate(evaluation, images, classes))
    }

    /// See [`Duet::explain`](crate::Duet::explain).
    ///
    /// # Errors
    /// As there.
    pub fn explain(
        &mut self,
        image: &[f32],
        target: impl Into<Target>,
        options: &ExplainOptions,
    ) -> Result<Explanation> {
        block_on(self.0.explain(image, target, options))
    }

    /// See [`Duet::explain_variants`](crate::Duet::explain_variants).
    ///
    /// # Errors
    /// As there.
    pub fn explain_variants(
        &mut self,
        image: &[f32],
        target: impl Into<Target>,
        options: &ExplainOptions,
        variants: usize,
    ) -> Result<Variants> {
        block_on(self.0.explain_variants(image, target, options, variants, Watch::None))
    }

    /// See [`Duet::explain_all_targets`](crate::Duet::explain_all_targets).
    ///
    /// # Errors
    /// As there.
    pub fn explain_all_targets(
        &mut self,
        image: &[f32],
        options: &ExplainOptions,
    ) -> Result<Vec<Explanation>> {
        block_on(self.0.explain_all_targets(image, options, Watch::None))
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
}

/// What needs no waiting (configuration, pictures, labels, saving) and, for everything else, the model behind it.
impl Deref for Duet {
    type Target = facade::Duet;

    fn deref(&self) -> &facade::Duet {
        &self.0
    }
}

impl DerefMut for Duet {
    fn deref_mut(&mut self) -> &mut facade::Duet {
        &mut self.0
    }
}
