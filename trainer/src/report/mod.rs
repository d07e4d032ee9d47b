//! What is made of results to be read: the HTML report and line charts.

pub mod frontier;
pub mod page;
pub mod plot;
pub mod study;
