//! What is made of results to be read: the HTML report and line charts; trees of counterfactuals for other people's programs.

pub mod card;
mod controls;
pub mod explained;
pub mod frontier;
mod outline;
pub mod page;
pub mod plot;
pub mod probes;
pub mod records;
pub mod solvers;
pub mod study;
pub mod summary;
pub mod training;
pub mod tree;
