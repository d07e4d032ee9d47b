//! What is measured of a run's steps, and which evaluation was the best.

use super::{Pace, Run, SECONDS};
use crate::training::end::Why;
use crate::training::evaluate::Part;
use crate::training::resume::no_better;
use crate::training::waiting::DATA_SHARE;
use crate::watch::View;
use duet::checkpoint::Figures;
use duet::train::Metrics;

impl Run {
    /// What was measured at the step that was just done; a checkpoint holds finite numbers alone.
    pub(super) fn figures(&self, metrics: &Metrics, pace: &Pace) -> Figures {
        let values = [
            (SECONDS, Some(self.seconds().as_secs_f64())),
            ("loss", Some(f64::from(metrics.loss))),
            ("mse", Some(f64::from(metrics.mse))),
            ("classifier_loss", Some(f64::from(metrics.classifier_loss))),
            ("vb", Some(f64::from(metrics.vb))),
            ("gradient_norm", metrics.gradient_norm.map(f64::from)),
            ("loss_scale", metrics.loss_scale.map(f64::from)),
            ("skipped", metrics.loss_scale.map(|_| metrics.skipped as f64)),
            ("learning_rate", Some(self.rate)),
            ("images_per_second", Some(pace.speed)),
            (DATA_SHARE, Some(pace.spent.data_share())),
        ];
        let alone = self.begin.recipe.train.classifier_only;
        let measured = |name: &str| !alone || !["mse", "vb"].contains(&name);
        let exchanged = self.efficiency.last().into_iter().flatten();
        let values = values.into_iter().filter_map(|(name, value)| Some((name, value?))).chain(exchanged);
        let finite = values.filter(|(name, value)| value.is_finite() && measured(name));
        let values = finite.map(|(name, value)| (name.to_owned(), value)).collect();
        Figures { step: self.begin.trainer.step(), values }
    }

    /// Whether these figures, of an evaluation, are the best so far.
    pub(super) fn is_better(&self, figures: &Figures) -> bool {
        let train = &self.begin.recipe.train;
        let Some(by) = train.keep_best else { return false };
        let name = Part::of(&self.begin.split, train).figure(by.name());
        let value = |figures: &Figures| figures.values.get(&name).copied();
        match (value(figures), self.best.as_ref().and_then(value)) {
            (Some(new), Some(old)) => by.better(new, old),
            (new, None) => new.is_some(),
            (None, _) => false,
        }
    }

    /// The losses there are, to read.
    pub(super) fn losses(&self, figures: &Figures, between: &str) -> String {
        let named = [("loss", "loss"), ("mse", "mse"), ("ce", "classifier_loss")];
        let shown = if self.begin.recipe.train.classifier_only { &named[..1] } else { &named[..] };
        let value = |name: &str| figures.values.get(name).copied().unwrap_or(0.0);
        let texts = shown.iter().map(|(short, name)| format!("{short} {:.4}", value(name)));
        texts.collect::<Vec<_>>().join(between)
    }

    /// The best figure so far: its step, its value and its name.
    pub(super) fn best(&self) -> Option<(u64, f64, String)> {
        let (best, train) = (self.best.as_ref()?, &self.begin.recipe.train);
        let figure = Part::of(&self.begin.split, train).figure(train.keep_best?.name());
        Some((best.step, best.values.get(&figure).copied()?, figure))
    }

    pub(super) fn show_best(&self, view: &View) {
        if let Some((step, value, _)) = self.best() {
            view.best(format!("{value:.4} at {step}"));
        }
    }

    pub(super) fn no_better(&self, step: u64) -> Option<Why> {
        let train = &self.begin.recipe.train;
        let (by, patience) = (train.keep_best?, train.early_stop?);
        no_better(train, self.best.as_ref()?, step).then_some(Why::NoBetter(by, patience))
    }
}
