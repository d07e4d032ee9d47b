//! DDIM, towards the image with a share of fresh noise, and backwards without any.

use crate::diffusion::solver::{Coefficients, Method, StepAt};

pub(in crate::diffusion) const METHOD: Method = Method {
    name: "ddim",
    title: "DDIM",
    description: "DDIM with a share of noise",
    takes_eta: true,
    coefficients: forward,
};

pub(in crate::diffusion) const REVERSE: Method = Method {
    name: "ddim-reverse",
    title: "DDIM backwards",
    description: "DDIM from image to noise",
    takes_eta: false,
    coefficients: backward,
};

#[expect(clippy::indexing_slicing, reason = "Solver::coefficients checks the index")]
fn forward(at: &StepAt<'_>, eta: f64) -> Coefficients {
    let (here, there) = (at.alpha_cumprod(), at.schedule.alphas_cumprod_prev[at.index]);
    let sigma = eta * ((1.0 - there) / (1.0 - here)).sqrt() * (1.0 - here / there).sqrt();
    toward(at, there, sigma)
}

#[expect(clippy::indexing_slicing, reason = "Solver::coefficients checks the index")]
fn backward(at: &StepAt<'_>, _eta: f64) -> Coefficients {
    toward(at, at.schedule.alphas_cumprod_next[at.index], 0.0)
}

/// x' = √ᾱ'·x0 + √(1 − ᾱ' − σ²)·ε + σ·z with ε = (x − √ᾱ·x0) / √(1 − ᾱ).
fn toward(at: &StepAt<'_>, there: f64, sigma: f64) -> Coefficients {
    let here = at.alpha_cumprod();
    let x = (1.0 - there - sigma * sigma).max(0.0).sqrt() / (1.0 - here).sqrt();
    Coefficients { x, x_start: there.sqrt() - x * here.sqrt(), noise: sigma, ..at.guided_x_start() }
}
