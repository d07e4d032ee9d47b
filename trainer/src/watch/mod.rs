//! What is seen of a run while it goes on: figures in files, lines and bars, a dashboard.

pub mod board;
pub mod events;
pub mod metrics;
mod view;

pub use view::View;
