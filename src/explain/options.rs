//! How counterfactuals are made, and the checks of what is asked for.

use crate::diffusion::{DiffusionConfig, Schedule, Solver};
use crate::error::{Error, Result};
use crate::model::Target;
use crate::rng::Seed;
use crate::sampling::Guidance;

/// How a counterfactual is made.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// # pollster::block_on(async {
/// use duet::Duet;
/// use duet::explain::ExplainOptions;
///
/// let mut duet = Duet::load("web/demo/public/model.safetensors").await?;
/// let image = vec![-1.0; duet.image_len()];
/// // Only the upper half of 28 × 28 pixels may change.
/// let mask: Vec<f32> = (0..28 * 28).map(|pixel| if pixel < 14 * 28 { 1.0 } else { 0.0 }).collect();
/// let options = ExplainOptions { respacing: "25".into(), mask: Some(mask), ..ExplainOptions::default() };
/// let made = duet.explain(&image, 8, &options).await?;
/// let (upper, lower) = made.difference.split_at(14 * 28);
/// assert!(upper.iter().any(|d| *d != 0.0) && lower.iter().all(|d| *d == 0.0));
/// # Ok(()) }) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ExplainOptions {
    /// Share of the chain the image is noised by, above 0 to 1 (paper: 0.2).
    pub noise: f64,
    /// Steps of the whole chain: "" for all, "100", "ddim25" and so on.
    pub respacing: String,
    /// Which chain, and what steers it.
    pub method: Method,
    /// Seed of the noise.
    pub seed: Seed,
    /// Guide even where the classifier has never seen noised images.
    pub force: bool,
    /// Where the images may change: 1 free, 0 kept, \[H,W\] for every image and channel. The kept part of a local
    /// counterfactual is the original's, bit for bit; of the paper's chain it follows the original, noised to each step (as
    /// Lugmayr et al. 2022 inpaint).
    pub mask: Option<Vec<f32>>,
}

impl Default for ExplainOptions {
    /// Local counterfactuals in 10 of 50 steps.
    fn default() -> Self {
        ExplainOptions {
            noise: 0.2,
            respacing: "50".into(),
            method: Method::Local(Local::default()),
            seed: Seed(0),
            force: false,
            mask: None,
        }
    }
}

impl ExplainOptions {
    /// The paper's chain (section 6.4): 20 of 100 steps of Algorithm 1.
    pub fn paper() -> Self {
        let method = Method::Paper(Paper::default());
        ExplainOptions { respacing: "100".into(), method, ..ExplainOptions::default() }
    }

    /// Checks what does not depend on a model.
    pub(super) fn check(&self) -> Result<()> {
        if !(self.noise > 0.0 && self.noise <= 1.0) {
            return Err(Error::config("noise", format!("must be above 0 and at most 1, is {}", self.noise)));
        }
        match &self.method {
            Method::Local(local) => local.check(),
            Method::Paper(paper) if paper.alpha.is_finite() => Ok(()),
            Method::Paper(paper) => {
                Err(Error::config("alpha", format!("must be a finite number, is {}", paper.alpha)))
            }
        }
    }

    /// The chain's tables, and steps of one explanation.
    pub(super) fn chain(&self, diffusion: &DiffusionConfig) -> Result<(Schedule, usize)> {
        let schedule = Schedule::respaced(diffusion, &self.respacing)?;
        let steps = schedule.len();
        let from = ((self.noise * steps as f64).round() as usize).clamp(1, steps);
        Ok((schedule, from))
    }

    /// The mask of images of `pixels`, where there is one.
    pub(super) fn mask_of(&self, pixels: usize) -> Result<Option<&[f32]>> {
        match &self.mask {
            Some(mask) if mask.len() != pixels || mask.iter().any(|m| !(0.0..=1.0).contains(m)) => {
                let detail = format!("must be {pixels} numbers from 0 to 1, is {}", mask.len());
                Err(Error::config("mask", detail))
            }
            mask => Ok(mask.as_deref()),
        }
    }
}

/// Which chain makes counterfactuals.
#[derive(Clone, Debug, PartialEq)]
pub enum Method {
    /// What guidance alone changes, where it changes it: an exact inversion, and a mask at every step.
    Local(Local),
    /// The paper's: fresh noise, then denoising towards another class.
    Paper(Paper),
}

impl Method {
    /// Its name: "local" or "paper".
    pub fn name(&self) -> &'static str {
        match self {
            Method::Local(_) => "local",
            Method::Paper(_) => "paper",
        }
    }
}

/// Counterfactuals that change little and only somewhere.
///
/// The image is noised to each of the chain's steps by independent noise (edit-friendly inversion, Huberman-Spiegelglas et al.
/// 2024), and what the network takes each for is kept: that is the reference path. The chain then follows it but for what
/// guidance changes: x' = reference' + m · (a · (x − reference) + b · (x0 − x0 of the reference)), where m is 1 where x0, guided
/// before its clip, differs from the reference's by more than `locality` in the mean over a small box of pixels. Unguided it
/// ends in the image itself, bit for bit; outside the mask it always does.
#[derive(Clone, Debug, PartialEq)]
pub struct Local {
    /// What steers: the gradient on the noised image, or Algorithm 1.
    pub guidance: Guidance,
    /// Gradients are divided by their root mean square: of each image, of Algorithm 1 of each map of each image. One strength
    /// then serves all images.
    pub normalize: bool,
    /// Strengths, from small to large: an image that one does not move to its target is tried with the next, from the beginning.
    /// On x_t: the predicted noise becomes ε + strength · √(1 − ᾱ) · g (paper Eq. 12), with a normalised g times
    /// [`Local::unit`]. Of Algorithm 1 its α.
    pub ladder: Vec<f32>,
    /// How much x0 must differ in the mean over the box, in units of −1..1, to change the image there; 0: wherever it differs.
    pub locality: f32,
    /// Of a multi-label model: weight of the other labels' losses beside that of the label that is to change.
    pub keep: f32,
}

impl Default for Local {
    fn default() -> Self {
        Local {
            guidance: Guidance::Gradient,
            normalize: true,
            ladder: vec![1.7, 2.4, 3.4, 4.8],
            locality: 0.2,
            keep: 1.0,
        }
    }
}

impl Local {
    /// A ladder that begins at `strength`: three more rungs, each √2 times the one before. At 0, that one alone: it ends in the
    /// image itself.
    pub fn ladder_from(strength: f32) -> Vec<f32> {
        if strength == 0.0 {
            return vec![0.0];
        }
        (0..4).map(|rung| strength * 2.0f32.powf(0.5 * rung as f32)).collect()
    }

    fn check(&self) -> Result<()> {
        if self.ladder.is_empty() || self.ladder.iter().any(|strength| !strength.is_finite()) {
            let detail = format!("must be one or more finite numbers, is {:?}", self.ladder);
            return Err(Error::config("strength", detail));
        }
        if !(self.locality >= 0.0 && self.locality.is_finite()) {
            let detail = format!("must be a number of at least 0, is {}", self.locality);
            return Err(Error::config("locality", detail));
        }
        if !(self.keep >= 0.0 && self.keep.is_finite()) {
            return Err(Error::config("keep", format!("must be a number of at least 0, is {}", self.keep)));
        }
        Ok(())
    }

    /// By what strengths are multiplied for images of `values` values, where the gradient is normalised: with it the push as a
    /// whole, its Euclidean norm, is that of a grey image of 28×28 pixels, by which the ladder was found. Images of three times
    /// as many values would be pushed as hard at every one of them, and become something else as a whole.
    pub fn unit(values: usize) -> f32 {
        (784.0 / values.max(1) as f64).sqrt() as f32
    }

    /// Radius in pixels of the box over which changes are averaged: 1 (3 × 3) at 28 or 32 pixels, 2 at 64, and so on, so that
    /// the box is the same part of a picture.
    pub fn radius(image_size: usize) -> usize {
        ((image_size as f64 / 28.0).round() as usize).max(1)
    }
}

/// The paper's chain; the defaults are the paper's where it gives any.
#[derive(Clone, Debug, PartialEq)]
pub struct Paper {
    /// Which guidance.
    pub guidance: Guidance,
    /// Step size α of Algorithm 1, or scale of Eq. 12.
    pub alpha: f32,
    /// Which solver.
    pub solver: Solver,
    /// Clip the predicted x_start. The reference does not; a briefly trained network's errors then add up.
    pub clip: bool,
}

impl Default for Paper {
    fn default() -> Self {
        Paper { guidance: Guidance::Representation, alpha: 60.0, solver: Solver::default(), clip: true }
    }
}

/// One counterfactual that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which of the images.
    pub image: usize,
    /// What it is to become.
    pub target: Target,
    /// Seed of its noise: another one is another answer.
    pub seed: Seed,
}
