//! Explanations of one image: one answer, several, or one for each class.

use super::{BATCH, Duet};
use crate::error::{Error, Result};
use crate::explain::{ExplainOptions, Explainer, Explanation, Method, Request, Variants};
use crate::model::{Head, Target, argmax};
use crate::sampling::Watch;

impl Duet {
    /// A counterfactual of one image: what would have to change for it to be of the class `target`, or to have that label or
    /// have it no longer? The inversions of the last images are kept: another target or strength costs a chain alone.
    ///
    /// # Errors
    /// As [`Explainer::new`], [`Explainer::explain`] and
    /// [`Checkpoint::require_denoising`](crate::checkpoint::Checkpoint::require_denoising).
    pub async fn explain(
        &mut self,
        image: &[f32],
        target: impl Into<Target>,
        options: &ExplainOptions,
    ) -> Result<Explanation> {
        self.explain_watched(image, target, options, Watch::None).await
    }

    /// As [`Duet::explain`]; `watch` hears of each step, or also of the target's probabilities so far, and may stop it.
    ///
    /// # Errors
    /// As [`Duet::explain`]; [`Error::Aborted`].
    pub async fn explain_watched(
        &mut self,
        image: &[f32],
        target: impl Into<Target>,
        options: &ExplainOptions,
        watch: Watch<'_, [Vec<f32>]>,
    ) -> Result<Explanation> {
        let request = Request { image: 0, target: target.into(), seed: options.seed };
        let mut made = self.explainer(options).await?.explain(image, &[request], 0, watch).await?;
        made.pop().ok_or_else(|| Error::shape("explain", "there is no image"))
    }

    /// Several answers to the same question, by noise of `variants` seeds from the options' on: the one that changes least
    /// first.
    ///
    /// # Errors
    /// As [`Explainer::variants`].
    pub async fn explain_variants(
        &mut self,
        image: &[f32],
        target: impl Into<Target>,
        options: &ExplainOptions,
        variants: usize,
        watch: Watch<'_, [Vec<f32>]>,
    ) -> Result<Variants> {
        self.explainer(options).await?.variants(image, target.into(), variants, watch).await
    }

    /// Counterfactuals of one image towards every other class, by number; of a multi-label model one for each label, flipped.
    /// The image is inverted once.
    ///
    /// ```
    /// # fn main() -> duet::Result<()> {
    /// # pollster::block_on(async {
    /// use duet::Duet;
    /// use duet::explain::ExplainOptions;
    /// use duet::sampling::Watch;
    ///
    /// let mut duet = Duet::load("web/demo/public/model.safetensors").await?;
    /// let image = vec![-1.0; duet.image_len()];
    /// let options = ExplainOptions { respacing: "10".into(), ..ExplainOptions::default() };
    /// for made in duet.explain_all_targets(&image, &options, Watch::None).await? {
    ///     println!("{}: changes {:.1} %", made.target.class, 100.0 * made.mean_change());
    /// }
    /// # Ok(()) }) }
    /// ```
    ///
    /// # Errors
    /// As [`Duet::explain`].
    pub async fn explain_all_targets(
        &mut self,
        image: &[f32],
        options: &ExplainOptions,
        watch: Watch<'_, [Vec<f32>]>,
    ) -> Result<Vec<Explanation>> {
        let (head, seed) = (self.config().head, options.seed);
        let row = self.probabilities(image).await?;
        let decided = argmax(&row, row.len())?.first().copied();
        let targets = row.iter().enumerate().filter_map(|(class, p)| match head {
            Head::Multiclass => (decided != Some(class)).then_some(Target::from(class)),
            Head::MultiLabel => Some(Target { class, present: *p <= 0.5 }),
        });
        let requests: Vec<Request> = targets.map(|target| Request { image: 0, target, seed }).collect();
        self.explainer(options).await?.explain(image, &requests, 0, watch).await
    }

    /// Does what questions about an image share, before one is asked ([`Explainer::invert`]): the first one then costs a chain
    /// alone too, where it has the same noise, steps and seed.
    ///
    /// # Errors
    /// As [`Explainer::new`] and [`Explainer::invert`].
    pub async fn invert(
        &mut self,
        image: &[f32],
        options: &ExplainOptions,
        watch: Watch<'_, [Vec<f32>]>,
    ) -> Result<()> {
        self.explainer(options).await?.invert(image, 0, watch).await
    }

    /// The explainer of the options: the one that is kept, where they allow it.
    async fn explainer(&mut self, options: &ExplainOptions) -> Result<&mut Explainer> {
        self.checkpoint.require_denoising()?;
        let (weights, diffusion) = (&self.weights, &self.checkpoint.diffusion);
        // A local explainer loads chains of fewer images as they are needed, the paper's runs all it is made for.
        let batch = if matches!(options.method, Method::Local(_)) { BATCH } else { 1 };
        Explainer::reuse(&mut self.explainer, weights, diffusion, batch, options, self.set).await
    }
}
