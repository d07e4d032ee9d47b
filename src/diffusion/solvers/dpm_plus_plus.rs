//! DPM-Solver++(2M): multistep data prediction of second order (Lu et al. 2022, arXiv 2211.01095, algorithm 2).

use crate::diffusion::solver::{Coefficients, Method, StepAt};

pub(in crate::diffusion) const METHOD: Method = Method {
    name: "dpm++",
    title: "DPM-Solver++(2M)",
    description: "DPM-Solver++(2M): deterministic, second order, for chains of few steps",
    takes_eta: false,
    coefficients,
};

/// λ = ln(√ᾱ / √(1 − ᾱ)).
fn log_snr(alpha_cumprod: f64) -> f64 {
    0.5 * (alpha_cumprod / (1.0 - alpha_cumprod)).ln()
}

/// With h = λ' − λ and r = (λ − λ_before) / h: x' = σ'/σ·x + √ᾱ'·(1 − e^−h)·(x0 + (x0 − x0_before) / 2r). Without a step
/// before, and at the last one, whose h is infinite, the order is 1, which is DDIM.
#[expect(clippy::indexing_slicing, reason = "Solver::coefficients checks the index")]
fn coefficients(at: &StepAt<'_>, _eta: f64) -> Coefficients {
    let (here, there) = (at.alpha_cumprod(), at.schedule.alphas_cumprod_prev[at.index]);
    let ratio = ((1.0 - there) / (1.0 - here)).sqrt();
    // e^−h = (√ᾱ / √ᾱ')·(σ' / σ), which stays finite at σ' = 0.
    let gain = there.sqrt() - here.sqrt() * ratio;
    let slope = match at.before {
        Some(before) if at.index > 0 => {
            let h = log_snr(there) - log_snr(here);
            let before = log_snr(here) - log_snr(at.schedule.alphas_cumprod[before]);
            gain * h / (2.0 * before)
        }
        _ => 0.0,
    };
    Coefficients { x: ratio, x_start: gain + slope, previous: -slope, ..at.guided_x_start() }
}
