//! Measures as numbers alone: slices in, numbers out, each by its source's definition. What takes a model on a device is in
//! `eval`.

pub mod calibration;
pub mod change;
pub mod cout;
pub mod frechet;
pub mod lbfgs;
pub mod logistic;
pub mod manifold;
pub mod placement;
pub mod roc;
pub mod statistics;
