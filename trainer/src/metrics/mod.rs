//! Measures as numbers alone: slices in, numbers out, each by its source's definition. What takes a model on a device is in
//! `eval`.

pub mod change;
pub mod cout;
pub mod coverage;
pub mod distances;
mod draws;
pub mod frechet;
#[cfg(test)]
mod golden;
pub mod inception_score;
pub mod kid;
mod kmeans;
pub mod lbfgs;
pub mod logistic;
pub mod manifold;
pub mod placement;
pub mod prd;
pub mod roc;
pub mod statistics;
