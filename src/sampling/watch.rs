//! What a chain is run with, and who hears of its steps.

use crate::model::Labels;
use crate::rng::Seed;
use std::ops::ControlFlow;

/// What a chain is run with.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// # use duet::Duet;
/// # use duet::model::{Labels, WeightSet};
/// # use duet::rng::Seed;
/// # use duet::sampling::{ChainOptions, Sampler, StepSpec, Watch};
/// # let duet = Duet::load("web/demo/public/model.safetensors").await?;
/// # let diffusion = &duet.checkpoint().diffusion;
/// // The second of two images made together is the one made alone from row 1.
/// let mut made = Vec::new();
/// for (batch, first_row) in [(2, 0), (1, 1)] {
///     let spec = StepSpec::new(batch);
///     let sampler = Sampler::new(duet.weights(), diffusion, "3", spec, WeightSet::Raw).await?;
///     // Nothing guides: no labels.
///     let chain = ChainOptions { seed: Seed(3), first_row, labels: Labels::Classes(vec![]), alpha: 0.0 };
///     sampler.start_from_noise(chain.seed, chain.first_row)?;
///     sampler.run(3, &chain, Watch::None).await?;
///     made.push(sampler.get_images().await?);
/// }
/// let second = &made[0][duet.image_len()..];
/// assert!(second.iter().zip(&made[1]).all(|(a, b)| (a - b).abs() < 1e-4));
/// # Ok(()) }) }
/// ```
#[derive(Clone, Debug)]
pub struct ChainOptions {
    /// Seed of all noise; image `i` of a batch gets row `first_row + i` of its streams.
    pub seed: Seed,
    /// See `seed`.
    pub first_row: u32,
    /// What each image is to become; a class of none: that image is not guided. Not looked at where nothing guides.
    pub labels: Labels,
    /// Step size α of Algorithm 1, or the scale of Eq. 12; as `labels`.
    pub alpha: f32,
}

/// How far a chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Steps that have run.
    pub done: usize,
    /// Steps in all.
    pub total: usize,
}

/// Who hears of a chain's steps, and may stop it. A device is never kept waiting for a listener of progress: it has a few
/// steps to go on with ([`Device::runs_ahead`]). Numbers of each step are read back when it ends, and it waits for that.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::explain::ExplainOptions;
/// use duet::sampling::{Progress, Watch};
/// use duet::{Duet, Error};
/// use std::ops::ControlFlow;
///
/// let mut duet = Duet::load("web/demo/public/model.safetensors").await?;
/// let image = vec![-1.0; duet.image_len()];
/// // Enough after the second step.
/// let mut hear = |p: Progress| match p.done {
///     2 => ControlFlow::Break(()),
///     _ => ControlFlow::Continue(()),
/// };
/// let options = ExplainOptions { respacing: "25".into(), ..ExplainOptions::default() };
/// let stopped = duet.explain_watched(&image, 7, &options, Watch::Progress(&mut hear)).await;
/// assert!(matches!(stopped, Err(Error::Aborted)));
/// # Ok(()) }) }
/// ```
pub enum Watch<'a, T: ?Sized> {
    /// Nobody.
    None,
    /// Hears of each step that has run.
    Progress(&'a mut dyn FnMut(Progress) -> ControlFlow<()>),
    /// Hears of each step, and what the classifier says.
    Curve(&'a mut dyn FnMut(Progress, &T) -> ControlFlow<()>),
}
