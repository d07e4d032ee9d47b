//! Ancestral sampling: the posterior's mean, with the "fixed large" variance or the one that the network chooses.

use crate::diffusion::solver::{Coefficients, Method, StepAt};

pub(in crate::diffusion) const METHOD: Method = Method {
    name: "ancestral",
    title: "DDPM",
    description: "DDPM's ancestral sampling, variance fixed large or learned; made for the whole chain",
    takes_eta: false,
    coefficients,
};

#[expect(clippy::indexing_slicing, reason = "Solver::coefficients checks the index")]
fn coefficients(at: &StepAt<'_>, _eta: f64) -> Coefficients {
    let (s, i) = (at.schedule, at.index);
    let learned = at.learned_variance;
    let variance = if learned { 1.0 } else { s.fixed_large_variance[i] };
    Coefficients {
        x: s.posterior_mean_coef2[i],
        x_start: s.posterior_mean_coef1[i],
        // The last step adds no noise.
        noise: if i == 0 { 0.0 } else { variance.sqrt() },
        guide_x: at.scale * variance,
        log_variances: if learned { [s.posterior_log_variance_clipped[i], s.log_betas[i]] } else { [0.0; 2] },
        ..at.plain_x_start()
    }
}
