//! Which checkpoints of a run stay, and when it ends because nothing gets better.

use super::TrainRecipe;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// The figure by which one checkpoint is better than another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BestBy {
    /// Right answers: more is better.
    Accuracy,
    /// What training minimises, on images it does not see: less is better.
    Loss,
}

impl BestBy {
    /// Its name in a recipe.
    pub fn name(self) -> &'static str {
        match self {
            BestBy::Accuracy => "accuracy",
            BestBy::Loss => "loss",
        }
    }

    /// Whether `new` is better than `old`; of equals the first is kept.
    pub fn better(self, new: f64, old: f64) -> bool {
        match self {
            BestBy::Accuracy => new > old,
            BestBy::Loss => new < old,
        }
    }
}

impl TrainRecipe {
    /// Checks what is kept and when the run ends.
    pub(super) fn validate_keeping(&self) -> Result<()> {
        if self.keep_last == 0 {
            return Err(Error::config("train.keep_last", "must be at least 1: the checkpoint to go on from"));
        }
        if self.keep_best.is_some() && self.eval_every == 0 {
            let detail = "needs evaluations on the way to choose among: set eval_every";
            return Err(Error::config("train.keep_best", detail));
        }
        match self.early_stop {
            Some(0) => Err(Error::config("train.early_stop", "must be at least 1 evaluation")),
            Some(_) if self.keep_best.is_none() => {
                let detail = "needs keep_best: it ends a run when that figure gets no better";
                Err(Error::config("train.early_stop", detail))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_accuracy_and_less_loss_are_better() {
        assert!(BestBy::Accuracy.better(0.9, 0.8) && !BestBy::Accuracy.better(0.8, 0.8));
        assert!(BestBy::Loss.better(0.1, 0.2) && !BestBy::Loss.better(0.2, 0.2));
        for by in [BestBy::Accuracy, BestBy::Loss] {
            assert_eq!(serde_json::to_value(by).unwrap(), by.name());
        }
    }

    #[test]
    fn what_cannot_be_kept_is_refused_by_name() {
        let good =
            TrainRecipe { keep_best: Some(BestBy::Loss), early_stop: Some(3), ..TrainRecipe::default() };
        good.validate_keeping().unwrap();
        for (bad, field) in [
            (TrainRecipe { keep_last: 0, ..good.clone() }, "keep_last"),
            (TrainRecipe { eval_every: 0, ..good.clone() }, "keep_best"),
            (TrainRecipe { early_stop: Some(0), ..good.clone() }, "early_stop"),
            (TrainRecipe { keep_best: None, ..good }, "early_stop"),
        ] {
            let error = bad.validate_keeping().unwrap_err().to_string();
            assert!(error.starts_with(&format!("train.{field}: ")), "{error}");
        }
    }
}
