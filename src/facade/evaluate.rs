//! How good the model is on labelled images, a batch at a time.

use super::{BATCH, Duet};
use crate::error::{Error, Result};
use crate::evaluation::{Evaluation, EvaluationOptions};
use crate::infer::DenoisingError;
use std::ops::ControlFlow;

impl Duet {
    /// An evaluation of `images` labelled images, for [`Duet::evaluate`] to add them to.
    ///
    /// # Errors
    /// As [`Evaluation::new`]; as [`Checkpoint::require_denoising`](crate::checkpoint::Checkpoint::require_denoising) where the
    /// options ask for a noise error.
    pub fn evaluation(&self, images: usize, options: &EvaluationOptions) -> Result<Evaluation> {
        if options.timesteps > 0 {
            self.checkpoint.require_denoising()?;
        }
        Evaluation::new(self.config(), &self.checkpoint.diffusion, images, options)
    }

    /// Adds images \[N,C,H,W\] whose classes are `classes` \[N\] to an evaluation; where that fails it is as it was before, and may go on.
    /// What comes of all images does not depend on how they are cut into batches.
    ///
    /// ```
    /// # fn main() -> duet::Result<()> {
    /// # pollster::block_on(async {
    /// use duet::Duet;
    /// use duet::evaluation::EvaluationOptions;
    ///
    /// let mut duet = Duet::load("web/demo/public/model.safetensors").await?;
    /// let options = EvaluationOptions { timesteps: 2, ..EvaluationOptions::default() };
    /// let mut evaluation = duet.evaluation(3, &options)?;
    /// // Three black images that are said to be bags: two, and then one.
    /// let images = vec![-1.0; 2 * duet.image_len()];
    /// duet.evaluate(&mut evaluation, &images, &[8, 8]).await?;
    /// duet.evaluate(&mut evaluation, &images[..duet.image_len()], &[8]).await?;
    /// let report = evaluation.report()?;
    /// assert_eq!((report.calibration.images, report.per_class[8].images), (3, 3));
    /// // Little noise is harder to tell than much.
    /// assert!(report.noise_error[0].error > report.noise_error[1].error);
    /// # Ok(()) }) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] where those are not one for each; [`Error::Config`] for a class that the model does not have;
    /// [`Error::NotFinite`]; device errors.
    pub async fn evaluate(
        &mut self,
        evaluation: &mut Evaluation,
        images: &[f32],
        classes: &[u32],
    ) -> Result<()> {
        self.evaluate_watched(evaluation, images, classes, &mut || ControlFlow::Continue(())).await
    }

    /// As [`Duet::evaluate`]; `go_on` is asked between parts of the work, and may stop it: nothing is added then.
    ///
    /// # Errors
    /// As [`Duet::evaluate`]; [`Error::Aborted`].
    pub async fn evaluate_watched(
        &mut self,
        evaluation: &mut Evaluation,
        images: &[f32],
        classes: &[u32],
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<()> {
        let len = self.image_len();
        if Some(images.len()) != classes.len().checked_mul(len) {
            let detail = format!("{} values for {} images of {len}", images.len(), classes.len());
            return Err(Error::shape("evaluate", detail));
        }
        let probabilities = self.probabilities(images).await?;
        let (mut noised, mut timesteps) = (Vec::new(), Vec::new());
        for place in evaluation.noised(classes.len()) {
            let image = images.get(place * len..(place + 1) * len).unwrap_or_default();
            for timestep in evaluation.timesteps() {
                noised.extend_from_slice(image);
                timesteps.push(*timestep);
            }
        }
        let mut errors = Vec::new();
        if !timesteps.is_empty() {
            let denoising = match self.denoising.take() {
                Some(known) => known,
                None => {
                    let diffusion = &self.checkpoint.diffusion;
                    DenoisingError::new(&self.weights, diffusion, BATCH, self.set).await?
                }
            };
            let denoising = self.denoising.insert(denoising);
            let mut row = evaluation.first_row();
            for (part, steps) in noised.chunks(BATCH * len).zip(timesteps.chunks(BATCH)) {
                if go_on().is_break() {
                    return Err(Error::Aborted);
                }
                errors.extend(denoising.measure(part, steps, evaluation.seed(), row).await?);
                row = row.wrapping_add(steps.len() as u32);
            }
        }
        evaluation.add(&probabilities, classes, &errors)
    }
}
