//! The classifier's loss on clean images (paper Eq. 5 to 8) or on noised ones (Eq. 9 and 10).

use super::{Feed, Loss, MIXED_LABELS, Metric, Pass, Term, Terms, Weight};
use crate::diffusion::DiffusionConfig;
use crate::error::Result;
use crate::model::{AcrossLabels, JointModel};
use crate::train::{ClassifierInput, TrainSpec};

/// What the classifier is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// x_start at t = 0.
    Clean,
    /// x_t at t.
    Noised,
}

/// Cross-entropy of the classifier's answers, its mean over those images of the whole batch that have a label: over all of
/// them, however many micro-batches they are spread over. BatchNorm's statistics are those of all images of the micro-batch,
/// with and without a label, as they are of the reference, whose batches have labels throughout; where no image of the whole
/// batch has one, the classifier does not move. Of mixed images the labels are mixed alike. Of the last term of a feed "classifier_loss" \[N\] and "logits" \[N,K\] stay.
#[derive(Clone, Debug)]
pub struct ClassifierLoss {
    /// The batch it reads.
    pub feed: Feed,
    /// What the classifier is shown.
    pub seen: Seen,
    /// Weight beside the noise error, 1 where there is none.
    pub scaling: f32,
}

impl Term for ClassifierLoss {
    fn feed(&self) -> &Feed {
        &self.feed
    }

    fn forward(&self, pass: &mut Pass<'_, '_>) -> Result<Loss> {
        let (encoded, t) = match self.seen {
            Seen::Clean => pass.clean_code()?,
            Seen::Noised => (pass.noised_code()?, pass.noised()?.t),
        };
        let logits = pass.logits(&encoded, t)?;
        let (head, classes) = (pass.model.config.head, pass.model.config.num_classes);
        // Noised images are mixed where they are the classifier's own.
        let mixed = pass.mixes() && (self.seen == Seen::Clean || pass.spec.classifier_only);
        let (name, batch) = (pass.buffer(if mixed { MIXED_LABELS } else { "labels" }), pass.batch());
        let graph = &mut pass.builder.graph;
        let values = if mixed {
            let shares = head.mixed_labels(graph, &name, batch, classes);
            head.mixed_loss(graph, logits, shares, AcrossLabels::Mean)?
        } else {
            let labels = head.labels(graph, &name, batch, classes);
            head.loss(graph, logits, labels, AcrossLabels::Mean)?
        };
        pass.result("classifier_loss", values);
        pass.result("logits", logits);
        let values = if self.seen == Seen::Noised { pass.over_timesteps(values)? } else { values };
        let weight = Weight::Given(pass.label_weight());
        Ok(Loss { values, reported: None, weight, scale: Some(self.scaling), metric: Metric::Classifier })
    }
}

pub(super) fn of(_diffusion: &DiffusionConfig, _model: &JointModel, spec: &TrainSpec) -> Result<Terms> {
    Ok(on(&Feed::first(spec.batch), spec))
}

/// The terms that a specification asks for, of the images of `feed`.
pub(super) fn on(feed: &Feed, spec: &TrainSpec) -> Terms {
    let seen: &[Seen] = match spec.classifier_input {
        ClassifierInput::None => &[],
        ClassifierInput::Clean => &[Seen::Clean],
        ClassifierInput::Noised => &[Seen::Noised],
        ClassifierInput::Both => &[Seen::Noised, Seen::Clean],
    };
    let scaling = if spec.classifier_only { 1.0 } else { spec.classifier_loss_scaling };
    let term = |seen: &Seen| -> Box<dyn Term> {
        Box::new(ClassifierLoss { feed: feed.clone(), seen: *seen, scaling })
    };
    seen.iter().map(term).collect()
}
