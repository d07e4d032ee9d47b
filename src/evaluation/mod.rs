//! How good a model is on labelled images, as numbers alone: what a classifier answers against what is true, and how far the
//! network is off when it tells noise. The command and pages compute their figures here, so that they are the same.
//!
//! - [`Confusion`]: what images of each class are taken for; recall and precision of each class.
//! - [`Calibration`]: how far probabilities can be taken at their word. The expected calibration error is that of Guo, Pleiss, Sun
//!   and Weinberger ("On calibration of modern neural networks", 2017): [`BINS`] bins of one width.
//! - [`Evaluation`]: both, and the noise error by timestep, of images that come batch after batch
//!   ([`Duet::evaluate`](crate::Duet::evaluate) runs the model on them).

mod calibration;
mod confusion;
#[cfg(test)]
mod golden;
mod report;

pub use calibration::{BINS, Bin, Calibration};
pub use confusion::{Confusion, OfClass};
pub use report::{Evaluation, EvaluationOptions, NoiseError, Report, evenly_spaced};
