//! DPM-Solver++(2M): multistep data prediction of second order (Lu et al. 2022, arXiv 2211.01095, algorithm 2), and its SDE form
//! (section 5 there), with a share of its noise.

use crate::diffusion::solver::{Coefficients, Method, StepAt};

pub(in crate::diffusion) const METHOD: Method = Method {
    name: "dpm++",
    title: "DPM-Solver++(2M)",
    description: "DPM-Solver++(2M): deterministic, second order, for chains of few steps",
    takes_eta: false,
    coefficients: |at, _| coefficients(at, 0.0),
};

pub(in crate::diffusion) const SDE: Method = Method {
    name: "dpm++sde",
    title: "SDE-DPM-Solver++(2M)",
    description: "the same with a share of fresh noise: with η = 0 it is dpm++",
    takes_eta: true,
    coefficients,
};

/// λ = ln(√ᾱ / √(1 − ᾱ)).
fn log_snr(alpha_cumprod: f64) -> f64 {
    0.5 * (alpha_cumprod / (1.0 - alpha_cumprod)).ln()
}

/// With h = λ' − λ, r = (λ − λ_before) / h and a share η of the noise:
/// x' = σ'/σ·e^(−ηh)·x + √ᾱ'·(1 − e^(−(1+η)h))·(x0 + (x0 − x0_before) / 2r) + σ'·√(1 − e^(−2ηh))·z. Without a step before, and at the
/// last one, whose h is infinite, the order is 1.
#[expect(clippy::indexing_slicing, reason = "Solver::coefficients checks the index")]
fn coefficients(at: &StepAt<'_>, eta: f64) -> Coefficients {
    let (here, there) = (at.alpha_cumprod(), at.schedule.alphas_cumprod_prev[at.index]);
    let ratio = ((1.0 - there) / (1.0 - here)).sqrt();
    // e^−h = (√ᾱ / √ᾱ')·(σ' / σ), which stays finite at σ' = 0.
    let decay = (here / there).sqrt() * ratio;
    let kept = decay.powf(eta);
    let gain = there.sqrt() * (1.0 - decay * kept);
    let slope = match at.before {
        Some(before) if at.index > 0 => {
            let h = log_snr(there) - log_snr(here);
            let before = log_snr(here) - log_snr(at.schedule.alphas_cumprod[before]);
            gain * h / (2.0 * before)
        }
        _ => 0.0,
    };
    let noise = (1.0 - there).sqrt() * (1.0 - kept * kept).max(0.0).sqrt();
    Coefficients { x: ratio * kept, x_start: gain + slope, previous: -slope, noise, ..at.guided_x_start() }
}
