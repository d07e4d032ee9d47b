//! How a run ends, in words: in order, or because the loss is no number any more.

use crate::recipe::{BestBy, Recipe, TimeSpan};
use duet::Error;
use duet::autodiff::{Activations, Precision};
use duet::checkpoint::Figures;
use std::path::Path;

/// Why a run ends in order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Why {
    /// All steps are done.
    Steps,
    /// It was asked to.
    Interrupted,
    /// `--minutes` are over: it is to be gone on with.
    Minutes,
    /// `max_time` is used up.
    Time(TimeSpan),
    /// The figure got no better for so many evaluations.
    NoBetter(BestBy, u64),
}

impl Why {
    /// For machines.
    pub fn name(self) -> &'static str {
        match self {
            Why::Steps => "steps",
            Why::Interrupted => "interrupted",
            Why::Minutes => "minutes",
            Why::Time(_) => "max_time",
            Why::NoBetter(..) => "early_stop",
        }
    }

    /// In brackets behind what was done; nothing where that says it all.
    pub fn text(self) -> String {
        match self {
            Why::Steps => String::new(),
            Why::Interrupted => " (interrupted)".into(),
            Why::Minutes => " (its minutes are over)".into(),
            Why::Time(span) => format!(" (its {span} are over)"),
            Why::NoBetter(by, patience) => {
                format!(
                    " (no better {} in {patience} evaluation{})",
                    by.name(),
                    if patience == 1 { "" } else { "s" }
                )
            }
        }
    }
}

/// A run that cannot go on.
pub struct Lost<'a> {
    /// What is not finite, and when.
    pub detail: &'a str,
    /// The last figures that were.
    pub last: Option<&'a Figures>,
    /// The step that was done last, and its learning rate.
    pub step: u64,
    /// See `step`.
    pub rate: f64,
    /// Of which step the newest checkpoint is.
    pub saved: Option<u64>,
    /// Where it lies.
    pub file: &'a Path,
    /// How it was trained.
    pub recipe: &'a Recipe,
}

impl Lost<'_> {
    /// What was seen, what is left, and what to try.
    pub fn error(&self) -> Error {
        let mut lines = vec![self.detail.to_owned()];
        lines.push(format!("learning rate of step {}: {}", self.step, number(self.rate)));
        lines.push(match self.last {
            Some(last) => {
                let names = ["loss", "mse", "classifier_loss", "vb", "gradient_norm", "learning_rate"];
                let values = names
                    .iter()
                    .filter_map(|name| Some(format!("{name} {}", number(*last.values.get(*name)?))));
                format!(
                    "last finite values, at step {}: {}",
                    last.step,
                    values.collect::<Vec<_>>().join(", ")
                )
            }
            None => "there were no finite values before".into(),
        });
        let file = self.file.display();
        lines.push(match self.saved {
            Some(step) => format!("{file} is still that of step {step}"),
            None => "no checkpoint was saved".into(),
        });
        let how = if self.saved.is_some() { "; go on with --resume --override" } else { "" };
        lines.push(format!("what to try: {}{how}", self.advice().join(", or ")));
        Error::NotFinite { detail: lines.join("\n  ") }
    }

    fn advice(&self) -> Vec<String> {
        let train = &self.recipe.train;
        let mut advice = vec![format!("a lower learning rate (--lr {})", number(train.learning_rate / 3.0))];
        if train.clip_grad_norm.is_none() {
            advice.push("clip_grad_norm = 1.0".into());
        }
        if train.warmup_steps == 0 {
            advice.push("warmup_steps = 500".into());
        }
        if train.activations == Activations::F16 {
            advice.push("activations = \"recompute\" instead of \"f16\"".into());
        }
        if train.precision == Precision::F16 {
            advice.push("precision = \"f32\"".into());
        }
        advice
    }
}

/// Four digits, with an exponent where they would stand far from the point.
fn number(value: f64) -> String {
    if value != 0.0 && !(1e-3..1e5).contains(&value.abs()) {
        format!("{value:.3e}")
    } else {
        format!("{value:.4}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_and_what_to_try_is_told() {
        let text = "[data]\nkind = \"mnist\"\npath = \"x\"\n[model]\nnum_channels = 32\n[train]\nlearning_rate = 0.3\nactivations = \"f16\"\n";
        let recipe = Recipe::parse(text, Path::new("recipe.toml")).unwrap();
        let values = [("loss", 0.25), ("mse", 0.125), ("learning_rate", 3e-5)];
        let last = Figures { step: 40, values: values.map(|(name, value)| (name.to_owned(), value)).into() };
        let lost = Lost {
            detail: "the noise error became NaN within 10 steps before step 50",
            last: Some(&last),
            step: 50,
            rate: 0.3,
            saved: Some(40),
            file: Path::new("run/checkpoint.safetensors"),
            recipe: &recipe,
        };
        let want = "not finite: the noise error became NaN within 10 steps before step 50\n  \
                    learning rate of step 50: 0.3000\n  \
                    last finite values, at step 40: loss 0.2500, mse 0.1250, learning_rate 3.000e-5\n  \
                    run/checkpoint.safetensors is still that of step 40\n  \
                    what to try: a lower learning rate (--lr 0.1000), or clip_grad_norm = 1.0, or warmup_steps = 500, \
                    or activations = \"recompute\" instead of \"f16\"; go on with --resume --override";
        assert_eq!(lost.error().to_string(), want);
        let first = Lost { last: None, saved: None, ..lost }.error().to_string();
        assert!(
            first.contains("no finite values before") && first.contains("no checkpoint was saved"),
            "{first}"
        );
        assert!(!first.contains("--resume"), "{first}");
    }

    #[test]
    fn ends_are_told_in_words() {
        let two: TimeSpan = "2h".parse().unwrap();
        assert_eq!(Why::Time(two).text(), " (its 2h are over)");
        assert_eq!(Why::NoBetter(BestBy::Loss, 3).text(), " (no better loss in 3 evaluations)");
        assert_eq!((Why::Steps.text(), Why::Steps.name()), (String::new(), "steps"));
    }
}
