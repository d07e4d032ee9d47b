//! Steps of other images than a run's own: without those of a feed, or with another number of them.

use super::Trainer;
use crate::error::{Error, Result};
#[cfg(not(target_arch = "wasm32"))]
use crate::graph::Plan;
use crate::train::batch::Batch;
use crate::train::step::{TrainSpec, backward_plan_of, of_terms};
use crate::train::terms::{Feed, Terms, feeds};
use crate::weights::Loaded;

/// A backward pass beside a run's own.
pub(super) struct Alternative {
    feeds: Vec<Feed>,
    loaded: Loaded,
    /// What it was loaded from.
    #[cfg(not(target_arch = "wasm32"))]
    plan: Plan,
}

impl Trainer {
    /// From now on a step may also be one of `terms`: whose batches have as many images as their feeds, and none for a feed of the
    /// run that `terms` do not read. Only their passes are computed; what is minimised else, the optimizer and the random
    /// numbers of rows are the run's. A classifier that `terms` do not have stays as it is.
    ///
    /// ```
    /// # fn main() -> duet::Result<()> {
    /// # pollster::block_on(async {
    /// use duet::diffusion::DiffusionConfig;
    /// use duet::gpu::{Device, DeviceOptions};
    /// use duet::model::{JointModel, Labels, ModelConfig};
    /// use duet::train::terms::{Feed, joint, semi_supervised};
    /// use duet::train::{Batch, ClassifierInput, TrainOptions, TrainSpec, Trainer};
    /// use std::sync::Arc;
    ///
    /// # let config = ModelConfig {
    /// #     image_size: 8,
    /// #     num_channels: 8,
    /// #     num_res_blocks: 1,
    /// #     channel_mult: vec![1, 2],
    /// #     attention_resolutions: vec![],
    /// #     num_groups: 4,
    /// #     num_classes: 2,
    /// #     ..ModelConfig::default()
    /// # };
    /// # let (device, diffusion) = (Device::open(&DeviceOptions::default()).await?, DiffusionConfig::default());
    /// # let model = Arc::new(JointModel::new(&config)?);
    /// // Noise is learnt from four images, the classifier from two others, where there are two.
    /// let options = TrainOptions { batch_size: 4, ..TrainOptions::default() };
    /// let labelled = Feed { prefix: "labelled.".into(), batch: 2 };
    /// let terms = semi_supervised(&model, &diffusion, &TrainSpec::of(&options), &labelled)?;
    /// let mut trainer = Trainer::new_of(&device, Arc::clone(&model), &diffusion, &options, &terms).await?;
    /// let quiet = TrainOptions { classifier_input: ClassifierInput::None, ..options };
    /// trainer.allow_steps_of(&joint(&model, &diffusion, &TrainSpec::of(&quiet))?).await?;
    /// let all = Batch { images: vec![0.0; 4 * 64], labels: Labels::Classes(vec![0; 4]) };
    /// let none = Batch { images: vec![], labels: Labels::Classes(vec![]) };
    /// trainer.train_step_of(&[&all, &none], 1e-4)?;
    /// # Ok(()) }) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] for terms with feeds that the run does not have, another first feed than its own, or its own numbers of
    /// images; device errors.
    pub async fn allow_steps_of(&mut self, terms: &Terms) -> Result<()> {
        let others = feeds(terms)?;
        let known = others.iter().all(|feed| self.feeds.iter().any(|own| own.prefix == feed.prefix));
        if !known || others.first() != self.feeds.first() || others == self.feeds {
            let detail = format!(
                "steps of {others:?} are none beside those of {:?}: the first feed is the same, of the others there are fewer, or \
                 other numbers of images",
                self.feeds
            );
            return Err(Error::config("terms", detail));
        }
        let spec = TrainSpec { groups: self.options.groups.clone(), ..TrainSpec::of(&self.options) };
        let spec = of_terms(self.weights.model(), spec, terms)?;
        let plan = backward_plan_of(self.weights.model(), &spec, terms)?.on(self.weights.device())?;
        // The same images, numbers and sums, in the same memory.
        let shared = plan.externals().filter_map(|(name, bytes)| {
            let buffer = self.backward.buffer(name).filter(|buffer| buffer.bytes() >= bytes)?;
            Some((name, buffer))
        });
        let shared: Vec<_> = shared.collect();
        let loaded = self.weights.load_beside(&plan, &shared).await?;
        self.alternatives.push(Alternative {
            feeds: others,
            loaded,
            #[cfg(not(target_arch = "wasm32"))]
            plan,
        });
        Ok(())
    }

    /// Whether a step may have these numbers of images for the run's feeds, in all micro-batches.
    pub fn allows(&self, counts: &[usize]) -> bool {
        let micro = self.options.micro_batches;
        let own =
            |feeds: &[Feed]| self.counts(feeds).iter().map(|count| count * micro).eq(counts.iter().copied());
        own(&self.feeds) || self.alternatives.iter().any(|other| own(&other.feeds))
    }

    /// Images per micro-batch that `feeds` have of each of the run's feeds.
    fn counts(&self, feeds: &[Feed]) -> Vec<usize> {
        let of =
            |own: &Feed| feeds.iter().find(|feed| feed.prefix == own.prefix).map_or(0, |feed| feed.batch);
        self.feeds.iter().map(of).collect()
    }

    /// The number of the alternative whose feeds have as many images as `batches`; `None`: the run's own step, whose checks then
    /// say what does not fit.
    pub(super) fn alternative(&self, batches: &[&Batch]) -> Option<usize> {
        let (classes, micro) = (self.weights.model().config.num_classes, self.options.micro_batches);
        let given = || batches.iter().map(|batch| batch.labels.len(classes));
        let fits =
            |other: &Alternative| self.counts(&other.feeds).iter().map(|count| count * micro).eq(given());
        self.alternatives.iter().position(fits)
    }

    /// The backward pass of a step, and for each of the run's feeds that of the step, where it has one.
    pub(super) fn pass(&self, alternative: Option<usize>) -> (&Loaded, Vec<Option<Feed>>) {
        match alternative.and_then(|number| self.alternatives.get(number)) {
            Some(Alternative { feeds, loaded, .. }) => {
                let of = |own: &Feed| feeds.iter().find(|feed| feed.prefix == own.prefix).cloned();
                (loaded, self.feeds.iter().map(of).collect())
            }
            None => (&self.backward, self.feeds.iter().cloned().map(Some).collect()),
        }
    }

    /// What the backward pass of a step was loaded from.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn plan(&self, alternative: Option<usize>) -> &Plan {
        let other = alternative.and_then(|number| self.alternatives.get(number));
        other.map_or(&self.plan, |other| &other.plan)
    }
}
