//! Options of every command that makes counterfactuals, and what they come to.

use super::{GuidanceKind, solvers};
use clap::{Args, ValueEnum};
use duet::diffusion::Solver;
use duet::explain::{ExplainOptions, Local, Method, Paper};
use duet::rng::Seed;
use duet::{Error, Result};
use serde::Serialize;

/// Which chain makes counterfactuals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MethodKind {
    /// What guidance alone changes, where it changes it: exact inversion, a mask at every step.
    Local,
    /// The paper's: fresh noise, then Algorithm 1 towards another class.
    Paper,
}

/// How counterfactuals are made.
#[derive(Clone, Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct How {
    /// Which chain: local, or where options of the paper's chain are given, paper.
    #[arg(long, value_enum)]
    pub method: Option<MethodKind>,
    /// Local: strength of the first try; images that it does not move are tried with √2 times as much, three times [default:
    /// 1.7, then 2.4, 3.4, 4.8]. 1.4 changes less and convinces less. 0 gives the image itself.
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub strength: Option<f32>,
    /// Local: how much the mean over a small box of pixels must differ from the original's path, in units of −1..1, to change
    /// the image there [default: 0.2]; 0: anywhere.
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub locality: Option<f32>,
    /// Local, of several labels: weight of keeping the others [default: 1].
    #[arg(long, value_name = "WEIGHT", allow_negative_numbers = true)]
    pub keep: Option<f32>,
    /// How the class steers [default: gradient; of the paper's chain representation].
    #[arg(long, value_enum)]
    pub guidance: Option<GuidanceKind>,
    /// Local: take gradients as long as they are, instead of dividing each image's (of Algorithm 1 each map's) by its root mean
    /// square. Strengths are then of another size.
    #[arg(long)]
    pub no_normalize: bool,
    /// Share of the chain the image is noised by.
    #[arg(long, default_value_t = 0.2, allow_negative_numbers = true)]
    pub noise: f64,
    /// Steps of the whole chain: "100", "10,10,5", "ddim25"; empty for all [default: 50; of the paper's chain 100].
    #[arg(long)]
    pub steps: Option<String>,
    /// Paper: step size of Algorithm 1, or scale of Eq. 12: −1,000,000 to 1,000,000 [default: 60].
    #[arg(long, allow_negative_numbers = true)]
    pub alpha: Option<f32>,
    /// Paper: which solver [default: ddim].
    #[arg(long, value_parser = solvers())]
    pub sampler: Option<String>,
    /// Paper: DDIM's share of noise, 0 to 1 [default: 1].
    #[arg(long, allow_negative_numbers = true)]
    pub eta: Option<f64>,
    /// Paper: let the predicted image leave its range, which a model trained briefly does not survive.
    #[arg(long)]
    pub no_clip: bool,
    /// Seed of the noise.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Guide even by a classifier that never saw noised images.
    #[arg(long)]
    pub force: bool,
}

impl How {
    /// Which method is asked for, by name or by its options.
    ///
    /// # Errors
    /// [`Error::Config`] naming an option of the other method.
    fn kind(&self) -> Result<MethodKind> {
        let local = [
            ("strength", self.strength.is_some()),
            ("locality", self.locality.is_some()),
            ("keep", self.keep.is_some()),
            ("no-normalize", self.no_normalize),
        ];
        let paper = [
            ("alpha", self.alpha.is_some()),
            ("sampler", self.sampler.is_some()),
            ("eta", self.eta.is_some()),
            ("no-clip", self.no_clip),
        ];
        let given = |options: [(&'static str, bool); 4]| options.into_iter().find(|(_, given)| *given);
        let method = self.method.unwrap_or(match given(paper) {
            Some(_) => MethodKind::Paper,
            None => MethodKind::Local,
        });
        let (stranger, other) = match method {
            MethodKind::Local => (given(paper), "paper"),
            MethodKind::Paper => (given(local), "local"),
        };
        match stranger {
            Some((name, _)) => {
                let words =
                    format!("is an option of --method {other}; leave it out, or give --method {other}");
                Err(Error::config(name, words))
            }
            None => Ok(method),
        }
    }

    /// What the library is told; `mask` is \[H,W\].
    ///
    /// # Errors
    /// [`Error::Config`] naming an option of the other method, or a bad solver.
    pub fn options(&self, mask: Option<Vec<f32>>) -> Result<ExplainOptions> {
        let guidance = self.guidance.map(GuidanceKind::guidance);
        let (defaults, method) = match self.kind()? {
            MethodKind::Local => {
                let defaults = Local::default();
                let local = Local {
                    guidance: guidance.unwrap_or(defaults.guidance),
                    normalize: !self.no_normalize,
                    ladder: self.strength.map_or(defaults.ladder, Local::ladder_from),
                    locality: self.locality.unwrap_or(defaults.locality),
                    keep: self.keep.unwrap_or(defaults.keep),
                };
                (ExplainOptions::default(), Method::Local(local))
            }
            MethodKind::Paper => {
                let defaults = Paper::default();
                let paper = Paper {
                    guidance: guidance.unwrap_or(defaults.guidance),
                    alpha: self.alpha.unwrap_or(defaults.alpha),
                    solver: Solver::named(
                        self.sampler.as_deref().unwrap_or("ddim"),
                        self.eta.unwrap_or(1.0),
                    )?,
                    clip: !self.no_clip,
                };
                (ExplainOptions::paper(), Method::Paper(paper))
            }
        };
        Ok(ExplainOptions {
            noise: self.noise,
            respacing: self.steps.clone().unwrap_or(defaults.respacing),
            method,
            seed: Seed(self.seed),
            force: self.force,
            mask,
        })
    }
}

/// A method in few words: "local: gradient on x_t, strength 1.7 to 4.8, locality 0.2".
pub fn words(options: &ExplainOptions) -> String {
    use duet::sampling::Guidance;
    let guidance = |guidance| match guidance {
        Guidance::Representation => "Algorithm 1",
        Guidance::Gradient => "gradient on the image",
        Guidance::None => "no guidance",
    };
    match &options.method {
        Method::Local(local) => {
            let [first, last] =
                [local.ladder.first(), local.ladder.last()].map(|s| s.copied().unwrap_or(0.0));
            let ladder =
                if local.ladder.len() > 1 { format!("{first:.1} to {last:.1}") } else { first.to_string() };
            let length = if local.normalize { "" } else { ", not normalised" };
            let name = guidance(local.guidance);
            format!("local: {name}{length}, strength {ladder}, locality {}", local.locality)
        }
        Method::Paper(paper) => {
            format!("paper: {}, α {}, {}", guidance(paper.guidance), paper.alpha, paper.solver)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        how: How,
    }

    fn options(line: &[&str]) -> Result<ExplainOptions> {
        Line::parse_from(std::iter::once(&"line").chain(line)).how.options(None)
    }

    #[test]
    fn options_choose_their_method_and_strangers_are_named() {
        assert_eq!(options(&[]).unwrap(), ExplainOptions::default());
        assert_eq!(options(&["--method", "paper"]).unwrap(), ExplainOptions::paper());
        let alpha = options(&["--alpha", "30"]).unwrap();
        assert!(matches!(&alpha.method, Method::Paper(paper) if paper.alpha == 30.0));
        assert_eq!(alpha.respacing, "100");
        let strength = options(&["--strength", "1"]).unwrap();
        let Method::Local(local) = &strength.method else { panic!("{strength:?}") };
        assert!(local.ladder.len() == 4 && (local.ladder[2] - 2.0).abs() < 1e-6, "{:?}", local.ladder);
        assert!(words(&strength).contains("strength 1.0 to 2.8"), "{}", words(&strength));
        for (line, name) in [
            (&["--method", "paper", "--strength", "1"][..], "strength"),
            (&["--method", "local", "--alpha", "1"], "alpha"),
            (&["--eta", "0", "--locality", "0"], "locality"),
        ] {
            let error = options(line).unwrap_err().to_string();
            assert!(error.starts_with(name) && error.contains("--method"), "{error}");
        }
    }
}
