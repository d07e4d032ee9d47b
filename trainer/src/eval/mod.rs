//! What measures: each file takes a model on the device and data, and gives numbers. One more that `duet eval` prints is a
//! file here and a line in [`MEASURES`].

pub mod accuracy;
pub mod chains;
pub mod counterfactuals;
pub mod explanations;
pub mod judge;
pub mod likeness;
pub mod manifold;
pub mod noise_error;
pub mod row;

use crate::cli::Eval;
use crate::data::Dataset;
use crate::io::session::Session;
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

/// Measures a model on test images, as the options say; `quiet` shows no progress.
pub type Measure = fn(session: &Session, options: &Eval, test: &Dataset, quiet: bool) -> Result<Measured>;

/// Every metric of `duet eval`, in the order of its output.
pub static MEASURES: [Measure; 3] = [accuracy::measure, noise_error::measure, counterfactuals::measure];
