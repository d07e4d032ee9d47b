//! Fuzz targets' common part: what each does with the bytes it is given, and what that may cost.

pub mod budget;
pub mod readers;

/// Counts what readers allocate.
#[global_allocator]
static ALLOCATOR: budget::Counting = budget::Counting;
