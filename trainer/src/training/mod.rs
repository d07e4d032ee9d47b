//! Training runs: what they begin with, how they go on and how they end.

mod changes;
mod end;
mod evaluate;
mod fit;
mod grid;
mod keep;
mod labelled;
mod lock;
mod probe;
mod resume;
mod run;
mod seen;
mod start;
mod together;
mod waiting;

pub use keep::CHECKPOINT;
pub use resume::labels_fit;
pub use run::{METRICS, SAMPLES};
pub use start::{goes_on, train};

use crate::io::output::tell;

/// Tells on standard error what does not end a run.
fn warn(json: bool, text: &str) {
    if json {
        tell!("{}", serde_json::json!({ "warning": text }));
    } else {
        tell!("duet: {text}");
    }
}
