//! Work in parts: what a command measures of each image, as rows that wait in a file, and all parts put together again.
//!
//! A command that can be computed in parts is three steps: what is to be done is decided over all images, as if there were no parts;
//! rows are computed, of all images or of a part's; figures and pictures are made of all rows. One process does all three, a part
//! writes the [`Part`] between the second and the third, and `duet merge` does the third with the parts of all files. Rows, not sums:
//! what is added up is added in the order of one process, so that its figures are the same bits.
//!
//! For the rows to be the same bits, too, nothing may depend on how many images a part has: plans are as wide as one process makes
//! them, random numbers belong to an image's place among all, and parts are cut where one process begins a batch or, where the width
//! of plans depends on what is left to do, a group of batches ([`crate::cli::Shard::range`]).

mod file;
mod gather;
mod part;
mod table;

pub use file::{Header, Identity, Target, name};
pub use gather::{Gathered, gather};
pub use part::Part;
pub use table::Table;
