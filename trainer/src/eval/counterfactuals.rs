//! Counterfactuals of many test images, measured: whether they reach their target, how much they change and where, how soon
//! that decides (COUT), what they cost, and whether a judge that never guides believes them.

use super::chosen::{Chosen, Towards};
use super::comparison::{Comparison, Earlier, Side};
use super::figures::{self, FIGURES};
use super::judge::{Judge, Likeness, NEIGHBOURS};
use super::outcome::{Examiner, Outcome, Outcomes};
use super::{Measured, Task};
use crate::cli::how::{self, MethodKind};
use crate::metrics::statistics::Mean;
use duet::explain::{ExplainOptions, Explainer};
use duet::model::ModelConfig;
use duet::{Error, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// What counterfactuals are compared with.
pub enum Against {
    /// The same images by a method's defaults.
    Method(ExplainOptions),
    /// An earlier run.
    Earlier(Earlier),
}

impl Against {
    /// Of what the command line says: "paper", "local", or a file. The method's noise is of the seed of `options`.
    ///
    /// # Errors
    /// As [`Earlier::read`].
    pub fn named(text: &str, options: &ExplainOptions, judge: &Judge) -> Result<Against> {
        let defaults = match MethodKind::named(text) {
            Some(MethodKind::Local) => ExplainOptions::default(),
            Some(MethodKind::Paper) => ExplainOptions::paper(),
            None => return Earlier::read(Path::new(text), &judge.identity).map(Against::Earlier),
        };
        let ExplainOptions { seed, force, .. } = *options;
        Ok(Against::Method(ExplainOptions { seed, force, ..defaults }))
    }
}

/// One way to explain, measured.
struct Side1;

/// One way to explain and all its figures.
struct Way {
    method: Value,
    outcomes: Outcomes,
    means: Vec<Option<Mean>>,
    /// In the judge's features.
    frechet: Option<f64>,
}

impl Way {
    fn json(&self) -> Value {
        json!({
            "method": self.method, "figures": figures::by_key(&self.means), "seconds_per_image": self.outcomes.seconds,
            "frechet": self.frechet, "rows": self.outcomes.rows,
        })
    }
}
