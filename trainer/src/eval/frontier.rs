//! Every way to explain at several strengths: what a judge makes of it for how much change. A way is better than another where
//! its curve lies above. There is no ladder: one strength serves all images, so that no way may pick what suits each.

use super::chosen::Chosen;
use super::figures;
use super::outcome::{Examiner, Run};
use crate::io::session::Session;
use crate::metrics::statistics::Mean;
use duet::explain::{ExplainOptions, Explainer, Local, Method, Paper};
use duet::rng::Seed;
use duet::sampling::Guidance;
use duet::{Error, Result};
use serde_json::{Value, json};

/// A way to explain.
pub struct Way {
    /// Its name on the command line and in tables.
    pub name: &'static str,
    /// What it is, for legends.
    pub words: &'static str,
    /// Strengths that reach from little change to much with the shipped model.
    strengths: &'static [f32],
    /// The method at a strength.
    method: fn(f32) -> Method,
}

fn local(strength: f32) -> Local {
    Local { ladder: vec![strength], ..Local::default() }
}

/// All there are.
pub static WAYS: [Way; 6] = [
    Way {
        name: "local",
        words: "local",
        strengths: &[1.0, 1.4, 1.7, 2.4, 3.4],
        method: |strength| Method::Local(local(strength)),
    },
    Way {
        name: "unmasked",
        words: "local without its mask",
        strengths: &[0.5, 1.0, 1.4, 2.0],
        method: |strength| Method::Local(Local { locality: 0.0, ..local(strength) }),
    },
    Way {
        name: "algorithm1",
        words: "local, Algorithm 1 normalised per map",
        strengths: &[0.3, 0.5, 0.7, 1.0, 1.6],
        method: |strength| Method::Local(Local { guidance: Guidance::Representation, ..local(strength) }),
    },
    Way {
        name: "algorithm1-plain",
        words: "local, Algorithm 1 as it is",
        strengths: &[60.0, 120.0, 200.0, 400.0],
        method: |strength| {
            let guidance = Guidance::Representation;
            Method::Local(Local { guidance, normalize: false, ..local(strength) })
        },
    },
    Way {
        name: "paper",
        words: "paper: Algorithm 1",
        strengths: &[5.0, 15.0, 30.0, 60.0, 120.0],
        method: |alpha| Method::Paper(Paper { alpha, ..Paper::default() }),
    },
    Way {
        name: "paper-gradient",
        words: "paper's chain, gradient on the image",
        strengths: &[10.0, 25.0, 50.0, 100.0, 200.0],
        method: |alpha| Method::Paper(Paper { guidance: Guidance::Gradient, alpha, ..Paper::default() }),
    },
];

/// The ways that a command line names, each with its strengths from small to large; all where it names none.
///
/// # Errors
/// [`Error::Config`] for a way that there is not, one named twice, and strengths that are none.
pub fn ways(named: &[String]) -> Result<Vec<(&'static Way, Vec<f32>)>> {
    if named.is_empty() {
        return Ok(WAYS.iter().map(|way| (way, way.strengths.to_vec())).collect());
    }
    let mut chosen: Vec<(&'static Way, Vec<f32>)> = Vec::new();
    for text in named {
        let (name, strengths) = text.split_once('=').map_or((text.as_str(), None), |(a, b)| (a, Some(b)));
        let refuse = |detail: String| Error::config("way", detail);
        let way = WAYS.iter().find(|way| way.name == name.trim()).ok_or_else(|| {
            let names: Vec<&str> = WAYS.iter().map(|way| way.name).collect();
            refuse(format!("there is no {name:?}; there are: {}", names.join(", ")))
        })?;
        if chosen.iter().any(|(other, _)| other.name == way.name) {
            return Err(refuse(format!("{:?} is named twice; give all its strengths at once", way.name)));
        }
        let number = |text: &str| -> Result<f32> {
            match text.trim().parse::<f32>() {
                Ok(strength) if (0.0..=1e6).contains(&strength) => Ok(strength),
                _ => Err(refuse(format!("{text:?} in {name:?} is no strength from 0 to 1000000"))),
            }
        };
        let mut strengths: Vec<f32> = match strengths {
            Some(list) => list.split(',').map(number).collect::<Result<_>>()?,
            None => way.strengths.to_vec(),
        };
        strengths.sort_by(f32::total_cmp);
        strengths.dedup();
        chosen.push((way, strengths));
    }
    Ok(chosen)
}

impl Way {
    /// The options of an explanation at a strength.
    pub fn options(&self, strength: f32, noise: f64, seed: Seed, force: bool) -> ExplainOptions {
        let method = (self.method)(strength);
        let defaults = match &method {
            Method::Local(_) => ExplainOptions::default(),
            Method::Paper(_) => ExplainOptions::paper(),
        };
        ExplainOptions { method, noise, seed, force, ..defaults }
    }
}

/// A way at a strength, measured.
pub struct Point {
    /// Which way.
    pub way: &'static Way,
    /// How strong.
    pub strength: f32,
    /// Of all figures.
    pub means: Vec<Option<Mean>>,
    /// Seconds of an image.
    pub seconds: f64,
}

impl Point {
    /// A figure's mean by its key.
    pub fn mean(&self, key: &str) -> Option<&Mean> {
        figures::mean_of(&self.means, key)
    }

    /// All numbers.
    pub fn json(&self) -> Value {
        json!({
            "way": self.way.name, "strength": self.strength, "figures": figures::by_key(&self.means),
            "seconds_per_image": self.seconds,
        })
    }
}

/// Explains the chosen images by ways at strengths, one compiled explainer at a time.
pub struct Runner<'a> {
    /// The model.
    pub session: &'a Session,
    /// What measures.
    pub examiner: Examiner<'a>,
    /// The images.
    pub chosen: &'a Chosen,
    /// Images at a time.
    pub batch: usize,
    /// Whether no progress is shown.
    pub quiet: bool,
    /// What was compiled last.
    pub explainer: Option<Explainer>,
}

impl Runner<'_> {
    /// One point.
    ///
    /// # Errors
    /// [`Error::Aborted`] after Ctrl-C; [`Error::NotFinite`] where the strength is too large; device errors.
    pub fn run(&mut self, way: &'static Way, options: &ExplainOptions, strength: f32) -> Result<Point> {
        let (weights, diffusion) = (&self.session.weights, &self.session.checkpoint.diffusion);
        let batch = self.batch.min(self.chosen.len()).max(1);
        let reused =
            Explainer::reuse(&mut self.explainer, weights, diffusion, batch, options, self.session.set);
        let explainer = pollster::block_on(reused)?;
        let run = Run { seed: options.seed, first: 0, batch, quiet: self.quiet };
        let outcomes = self.examiner.run(explainer, self.chosen, run)?;
        let means = figures::means(outcomes.rows.iter());
        Ok(Point { way, strength, means, seconds: outcomes.seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(texts: &[&str]) -> Result<Vec<(&'static str, Vec<f32>)>> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        Ok(ways(&texts)?.into_iter().map(|(way, strengths)| (way.name, strengths)).collect())
    }

    #[test]
    fn ways_are_named_with_their_strengths() {
        assert_eq!(ways(&[]).unwrap().len(), WAYS.len());
        let chosen = named(&["paper=60,15, 60", "local"]).unwrap();
        assert_eq!(chosen[0], ("paper", vec![15.0, 60.0]));
        assert_eq!(chosen[1], ("local", WAYS[0].strengths.to_vec()));
        for (texts, words) in [
            (&["lokal"][..], "there is no \"lokal\"; there are: local, unmasked"),
            (&["local", "local=1"], "named twice"),
            (&["local=one"], "\"one\" in \"local\""),
            (&["local="], "no strength"),
            (&["local=nan"], "no strength"),
            (&["paper=-1"], "no strength"),
        ] {
            let error = named(texts).unwrap_err().to_string();
            assert!(error.starts_with("way: ") && error.contains(words), "{texts:?}: {error}");
        }
    }

    #[test]
    fn a_point_is_one_rung_of_its_method() {
        for way in &WAYS {
            let options = way.options(0.7, 0.3, Seed(4), true);
            let strength = match &options.method {
                Method::Local(local) => {
                    assert_eq!(local.ladder.len(), 1, "{}", way.name);
                    local.ladder[0]
                }
                Method::Paper(paper) => paper.alpha,
            };
            assert_eq!((strength, options.noise, options.seed, options.force), (0.7, 0.3, Seed(4), true));
            assert!(way.strengths.is_sorted() && way.strengths.len() > 2, "{}", way.name);
        }
    }
}
