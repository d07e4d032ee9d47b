//! Training runs: what they begin with and how they go on.

mod changes;
mod fit;
mod grid;
mod lock;
mod log;
mod resume;
mod run;

pub use resume::labels_fit;
pub use run::{CHECKPOINT, train};

use crate::io::output::tell;

/// Tells on standard error what does not end a run.
fn warn(json: bool, text: &str) {
    if json {
        tell!("{}", serde_json::json!({ "warning": text }));
    } else {
        tell!("duet: {text}");
    }
}
