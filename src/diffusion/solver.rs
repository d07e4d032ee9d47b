//! What one denoising step is, as plain numbers: every solver gives [`Coefficients`] of the same formula, which one kernel
//! (`wgsl/solver.wgsl`) computes.

use super::schedule::{Schedule, past_the_end};
use super::solvers::METHODS;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// What the network predicts of a noised image x = √ᾱ·x0 + √(1 − ᾱ)·ε.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prediction {
    /// The noise ε (Ho et al. 2020).
    #[default]
    Eps,
    /// The image x0.
    XStart,
    /// v = √ᾱ·ε − √(1 − ᾱ)·x0 (Salimans and Ho 2022).
    V,
}

impl Prediction {
    /// p and q of x0 = p·x + q·out.
    pub fn x_start(self, alpha_cumprod: f64) -> [f64; 2] {
        match self {
            Prediction::Eps => [(1.0 / alpha_cumprod).sqrt(), -(1.0 / alpha_cumprod - 1.0).sqrt()],
            Prediction::XStart => [0.0, 1.0],
            Prediction::V => [alpha_cumprod.sqrt(), -(1.0 - alpha_cumprod).sqrt()],
        }
    }

    /// Weight of the squared error of an image noised to this ᾱ by Min-SNR-γ (Hang et al. 2023): of an image's error
    /// min(SNR, γ) with SNR = ᾱ / (1 − ᾱ); of the noise's, which is SNR times as large, min(SNR, γ) / SNR; of v's, SNR + 1
    /// times as large, min(SNR, γ) / (SNR + 1).
    ///
    /// ```
    /// use duet::diffusion::Prediction;
    ///
    /// // At ᾱ = 0.9 there is nine times as much image as noise.
    /// let weights = [Prediction::Eps, Prediction::XStart, Prediction::V].map(|p| p.min_snr_weight(0.9, 5.0));
    /// for (got, want) in weights.into_iter().zip([5.0 / 9.0, 5.0, 0.5]) {
    ///     assert!((got - want).abs() < 1e-9);
    /// }
    /// ```
    pub fn min_snr_weight(self, alpha_cumprod: f64, gamma: f64) -> f64 {
        let snr = alpha_cumprod / (1.0 - alpha_cumprod);
        match self {
            Prediction::Eps => (gamma / snr).min(1.0),
            Prediction::XStart => snr.min(gamma),
            Prediction::V => snr.min(gamma) / (snr + 1.0),
        }
    }

    /// The noise ε in `x` of a network that put out `out`, where `kept` is √ᾱ and `noised` √(1 − ᾱ).
    pub fn eps(self, x: f32, out: f32, [kept, noised]: [f32; 2]) -> f32 {
        match self {
            Prediction::Eps => out,
            Prediction::XStart => (x - kept * out) / noised,
            Prediction::V => noised * x + kept * out,
        }
    }
}

/// Numbers of one step of one sample. With the network's output, standard normal noise z, the gradient g of the classifier's log probability on x, and σ² = 1 or, of a learned variance, what the network chose
/// between the two log variances:
///
/// x0 = `from_x`·x + `from_out`·out, clipped where asked for, + `guide_x_start`·g;
/// x' = `x`·x + `x_start`·x0 + `previous`·(x0 of the step before) + `noise`·σ·z + `guide_x`·σ²·g.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the formula above says what each one is")]
pub struct Coefficients {
    pub from_x: f64,
    pub from_out: f64,
    pub x: f64,
    pub x_start: f64,
    pub previous: f64,
    pub noise: f64,
    pub guide_x_start: f64,
    pub guide_x: f64,
    /// Least and largest log variance that a learned sigma can reach; both 0: σ² is 1.
    pub log_variances: [f64; 2],
}

impl Coefficients {
    /// Numbers of a sample in the kernel's buffer.
    pub const WORDS: usize = 10;

    /// As the kernel reads them.
    pub fn words(&self) -> [f32; Self::WORDS] {
        [
            self.from_x,
            self.from_out,
            self.x,
            self.x_start,
            self.previous,
            self.noise,
            self.guide_x_start,
            self.guide_x,
            self.log_variances[0],
            self.log_variances[1],
        ]
        .map(|value| value as f32)
    }
}

/// Where in a chain a step is, and what it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct StepAt<'a> {
    /// The chain's tables.
    pub schedule: &'a Schedule,
    /// Index of the step in them, below their length.
    pub index: usize,
    /// Index of the step that was made just before, where its x0 may be used.
    pub before: Option<usize>,
    /// What the network predicts.
    pub prediction: Prediction,
    /// Whether the network chooses the variance.
    pub learned_variance: bool,
    /// Scale of a guiding gradient.
    pub scale: f64,
}

impl StepAt<'_> {
    /// ᾱ of this step.
    #[expect(clippy::indexing_slicing, reason = "Solver::coefficients checks the index")]
    pub(super) fn alpha_cumprod(&self) -> f64 {
        self.schedule.alphas_cumprod[self.index]
    }

    /// A step that has its x0, guided as DDIM is: ε − scale·√(1 − ᾱ)·g moves x0 by scale·(1 − ᾱ)/√ᾱ·g.
    pub(super) fn guided_x_start(&self) -> Coefficients {
        let alpha = self.alpha_cumprod();
        Coefficients { guide_x_start: self.scale * (1.0 - alpha) / alpha.sqrt(), ..self.plain_x_start() }
    }

    /// A step that has its x0, not guided yet.
    pub(super) fn plain_x_start(&self) -> Coefficients {
        let [from_x, from_out] = self.prediction.x_start(self.alpha_cumprod());
        Coefficients { from_x, from_out, ..Coefficients::default() }
    }
}

/// One way to denoise: an entry of the list of methods.
///
/// ```
/// use duet::diffusion::Solver;
///
/// for method in Solver::methods() {
///     println!("{}: {}", method.name, method.description);
///     assert!(Solver::named(method.name, 1.0).is_ok());
/// }
/// ```
#[derive(Debug)]
pub struct Method {
    /// Its name on the command line.
    pub name: &'static str,
    /// The same for people.
    pub title: &'static str,
    /// What it is, in a sentence.
    pub description: &'static str,
    /// Whether the share of noise η means something to it.
    pub takes_eta: bool,
    /// The numbers of a step, at a share of noise η.
    pub coefficients: fn(&StepAt<'_>, f64) -> Coefficients,
}

/// Which chain denoises: a method and, where it takes one, its share of noise η.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::diffusion::{DiffusionConfig, Prediction, Schedule, Solver, StepAt};
///
/// // DDIM adds as much noise as η says; its last step of all, index 0, adds none.
/// let schedule = Schedule::respaced(&DiffusionConfig::default(), "25")?;
/// let step = |index| StepAt {
///     schedule: &schedule,
///     index,
///     before: None,
///     prediction: Prediction::Eps,
///     learned_variance: false,
///     scale: 0.0,
/// };
/// assert_eq!(Solver::ddim(0.0).coefficients(&step(10))?.noise, 0.0);
/// assert!(Solver::ddim(1.0).coefficients(&step(10))?.noise > 0.0);
/// assert_eq!(Solver::ddim(1.0).coefficients(&step(0))?.noise, 0.0);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy)]
pub struct Solver {
    method: &'static Method,
    eta: f64,
}

impl PartialEq for Solver {
    fn eq(&self, other: &Solver) -> bool {
        self.method.name == other.method.name && self.eta == other.eta
    }
}

impl Default for Solver {
    /// DDIM with η = 1: ancestral sampling with the posterior's variance. "Fixed large" variance, which the reference
    /// uses on the whole chain, leaves a respaced one with more noise before its last step than the network expects there.
    fn default() -> Solver {
        Solver::ddim(1.0)
    }
}

impl Solver {
    /// DDPM's ancestral sampling, variance "fixed large" or learned (Ho et al. 2020).
    pub const fn ancestral() -> Solver {
        Solver { method: &super::solvers::ancestral::METHOD, eta: 0.0 }
    }

    /// DDIM with noise share η: 0 is deterministic, 1 has as much noise as ancestral sampling (Song et al. 2021).
    pub const fn ddim(eta: f64) -> Solver {
        Solver { method: &super::solvers::ddim::METHOD, eta }
    }

    /// DDIM backwards, from image to noise; its chain ascends.
    pub const fn ddim_reverse() -> Solver {
        Solver { method: &super::solvers::ddim::REVERSE, eta: 0.0 }
    }

    /// DPM-Solver++(2M) (Lu et al. 2022).
    pub const fn dpm_plus_plus() -> Solver {
        Solver { method: &super::solvers::dpm_plus_plus::METHOD, eta: 0.0 }
    }

    /// DPM-Solver++(2M) with the share η of its SDE's noise: 0 is [`Solver::dpm_plus_plus`], 1 the SDE (Lu et al. 2022).
    pub const fn dpm_plus_plus_sde(eta: f64) -> Solver {
        Solver { method: &super::solvers::dpm_plus_plus::SDE, eta }
    }

    /// The solver of a method's name; `eta` is the share of noise of one that takes it.
    ///
    /// # Errors
    /// [`Error::Config`] for a name that is not in [`Solver::methods`], or as [`Solver::check`].
    pub fn named(name: &str, eta: f64) -> Result<Solver> {
        let method = METHODS.iter().find(|method| method.name == name);
        let Some(&method) = method else {
            let known: Vec<&str> = METHODS.iter().map(|method| method.name).collect();
            return Err(Error::config("sampler", format!("{name:?} is none of {}", known.join(", "))));
        };
        let solver = Solver { method, eta: if method.takes_eta { eta } else { 0.0 } };
        solver.check()?;
        Ok(solver)
    }

    /// All methods that denoise.
    pub fn methods() -> &'static [&'static Method] {
        METHODS
    }

    /// Its method.
    pub fn method(&self) -> &'static Method {
        self.method
    }

    /// Checks η.
    ///
    /// # Errors
    /// [`Error::Config`] where it is outside 0..=1.
    pub fn check(&self) -> Result<()> {
        if (0.0..=1.0).contains(&self.eta) {
            return Ok(());
        }
        Err(Error::config("eta", format!("must be from 0 to 1, is {}", self.eta)))
    }

    /// The numbers of a step.
    ///
    /// # Errors
    /// [`Error::Config`] for an index past the chain's end.
    pub fn coefficients(&self, at: &StepAt<'_>) -> Result<Coefficients> {
        let steps = at.schedule.len();
        if let Some(bad) = [Some(at.index), at.before].into_iter().flatten().find(|index| *index >= steps) {
            return Err(past_the_end(bad, steps));
        }
        Ok((self.method.coefficients)(at, self.eta))
    }
}

impl std::fmt::Debug for Solver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for Solver {
    /// As people say it: "DDIM, η = 1".
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.method.title)?;
        if self.method.takes_eta { write!(f, ", η = {}", self.eta) } else { Ok(()) }
    }
}
