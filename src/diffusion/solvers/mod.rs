//! The solvers, a file each. One more is a file here and a line in [`METHODS`].

pub(super) mod ancestral;
pub(super) mod ddim;
pub(super) mod dpm_plus_plus;

use super::solver::Method;

/// Every method that denoises, by what the command line calls it.
pub(super) const METHODS: &[&Method] =
    &[&ddim::METHOD, &ancestral::METHOD, &dpm_plus_plus::METHOD, &dpm_plus_plus::SDE];
