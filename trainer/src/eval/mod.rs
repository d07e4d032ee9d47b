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

use crate::cli::{Eval, Shard};
use crate::data::Split;
use crate::io::session::Session;
use crate::shard::Part;
use counterfactuals::Wanted;
use duet::Result;
use duet::model::ModelConfig;
use serde::{Deserialize, Serialize};
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
    /// Which part of the images.
    pub shard: Shard,
}

impl Task<'_> {
    /// Whether it is of all images.
    pub fn whole(&self) -> bool {
        self.shard == Shard::WHOLE
    }
}

/// Something to measure, in two steps: rows of images, of which others may have a part, then figures of all rows.
pub struct Measure {
    /// Computes the rows of the task's images and notes what their figures need beside them.
    pub rows: fn(&Task<'_>, &mut Part) -> Result<()>,
    /// Figures of what [`Measure::rows`] noted, of all images, and whether no progress is shown. They need no device, model or data.
    pub figures: fn(&mut Part, bool) -> Result<Measured>,
}

/// What all figures of `duet eval` need to know of the model and the data.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ground {
    /// The model.
    pub config: ModelConfig,
    /// Images of the test set.
    pub test_images: usize,
}

impl Ground {
    const NAME: &str = "ground";

    /// Notes it.
    ///
    /// # Errors
    /// None that a model has.
    pub fn note(task: &Task<'_>, part: &mut Part) -> Result<()> {
        let ground = Ground { config: task.session.config().clone(), test_images: task.split.test.len() };
        part.state(Self::NAME, ground)
    }

    /// As it was noted.
    ///
    /// # Errors
    /// A part without it.
    pub fn of(part: &Part) -> Result<Ground> {
        part.fact(Self::NAME)
    }

    /// Names of all classes.
    pub fn names(&self) -> Vec<String> {
        (0..self.config.num_classes).map(|class| self.config.class_name(class)).collect()
    }
}

/// Every metric of `duet eval`, in the order of its output.
pub static MEASURES: [Measure; 4] = [
    Measure { rows: accuracy::rows, figures: accuracy::figures },
    Measure { rows: noise_error::rows, figures: noise_error::figures },
    Measure { rows: counterfactuals::rows, figures: counterfactuals::figures },
    Measure { rows: generated::rows, figures: generated::figures },
];
