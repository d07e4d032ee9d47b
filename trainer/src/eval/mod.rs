//! What measures: each file takes a model on the device and data, and gives numbers. One more that `duet eval` prints is a
//! file here and a line in [`MEASURES`].

pub mod accuracy;
pub mod chains;
pub mod chosen;
pub mod comparison;
pub mod corrupted;
pub mod counterfactuals;
pub mod explanations;
pub mod features;
pub mod figures;
pub mod frontier;
pub mod generated;
pub mod judge;
pub mod likeness;
pub mod noise_error;
pub mod outcome;
pub mod place;
pub mod probes;
pub mod row;
pub mod solvers;
pub mod unlike;

use crate::cli::Eval;
use crate::data::Split;
use crate::io::session::Session;
use counterfactuals::Wanted;
use duet::Result;
use serde_json::{Map, Value};

/// What a metric found.
#[derive(Debug, Default)]
pub struct Measured {
    /// Its fields in the output of `--json`; `null` where nothing was to be measured.
    pub fields: Map<String, Value>,
    /// The same to read.
    pub lines: Vec<String>,
}

impl Measured {
    /// Of fields, a JSON object, and lines.
    fn new(fields: Value, lines: Vec<String>) -> Measured {
        let fields = if let Value::Object(fields) = fields { fields } else { Map::new() };
        Measured { fields, lines }
    }
}

/// What is to be measured.
pub struct Task<'a> {
    /// The model.
    pub session: &'a Session,
    /// What the command line says.
    pub options: &'a Eval,
    /// The data; figures are of the test images.
    pub split: &'a Split,
    /// Which counterfactuals, where any are asked for.
    pub wanted: Option<&'a Wanted>,
    /// Whether no progress is shown.
    pub quiet: bool,
}

/// Measures a model.
pub type Measure = fn(task: &Task<'_>) -> Result<Measured>;

/// Every metric of `duet eval`, in the order of its output.
pub static MEASURES: [Measure; 4] =
    [accuracy::measure, noise_error::measure, counterfactuals::measure, generated::measure];
