//! Solvers compared by their numbers of steps: how good the images are that each makes of the same noise, and how long it takes.

use super::chains::{Chains, recognised};
use super::judge::Judge;
use super::likeness::{Qualities, Real};
use crate::cli::ChainArgs;
use crate::io::session::Session;
use crate::metrics::statistics::Mean;
use duet::diffusion::{DiffusionConfig, Schedule, Solver};
use duet::rng::Seed;
use duet::{Error, Result};
use serde::Serialize;
use std::ops::ControlFlow;

/// What the command line calls the list.
const OPTION: &str = "solvers";

/// A solver with a number of steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What the command line calls it.
    pub name: String,
    /// The solver, with its share of noise.
    pub solver: Solver,
    /// That share; `None` of one that takes none.
    pub eta: Option<f64>,
    /// Steps of the whole chain.
    pub steps: usize,
}

impl Entry {
    /// Of SOLVER:STEPS or SOLVER:STEPS:ETA; `eta` is the share of noise where the entry says none.
    fn parse(text: &str, eta: f64) -> Result<Entry> {
        let refuse = |detail: String| Error::config(OPTION, format!("{text:?}: {detail}"));
        let parts: Vec<&str> = text.split(':').map(str::trim).collect();
        let (name, steps, share) = match parts.as_slice() {
            [name, steps] => (*name, *steps, None),
            [name, steps, share] => (*name, *steps, Some(*share)),
            _ => return Err(refuse("must be SOLVER:STEPS or SOLVER:STEPS:ETA, as in ddim:25".into())),
        };
        let known: Vec<&str> = Solver::methods().iter().map(|method| method.name).collect();
        let Some(method) = Solver::methods().iter().find(|method| method.name == name) else {
            return Err(refuse(format!("the solver {name:?} is none of {}", known.join(", "))));
        };
        let Some(steps) = steps.parse().ok().filter(|steps| *steps > 0) else {
            return Err(refuse(format!("steps must be a whole number from 1, are {steps:?}")));
        };
        if share.is_some() && !method.takes_eta {
            return Err(refuse(format!("{name} takes no share of noise; leave out the last part")));
        }
        let eta = match share {
            None => eta,
            Some(share) => share
                .parse()
                .ok()
                .filter(|eta| (0.0..=1.0).contains(eta))
                .ok_or_else(|| refuse(format!("the share of noise must be from 0 to 1, is {share:?}")))?,
        };
        let solver = Solver::named(name, eta)?;
        Ok(Entry { name: name.to_owned(), solver, eta: method.takes_eta.then_some(eta), steps })
    }

    /// For people: "DDIM, η = 1, 25 steps".
    pub fn words(&self) -> String {
        format!("{}, {} step{}", self.solver, self.steps, if self.steps == 1 { "" } else { "s" })
    }

    /// The options of its chain, beside those that all have.
    fn chain(&self, all: &ChainArgs) -> ChainArgs {
        let (sampler, steps) = (self.name.clone(), self.steps.to_string());
        ChainArgs { sampler, steps, eta: self.eta.unwrap_or(all.eta), ..all.clone() }
    }
}

/// The entries of a list, in its order; `eta` is the share of noise of those that say none.
///
/// # Errors
/// [`Error::Config`] naming an entry that is none, or that is there twice.
pub fn entries(list: &[String], eta: f64) -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    for text in list {
        let entry = Entry::parse(text, eta)?;
        if entries.contains(&entry) {
            return Err(Error::config(OPTION, format!("{text:?} is there twice")));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// Checks that a model's process has chains of all these steps.
///
/// # Errors
/// [`Error::Config`] naming the entry that it has none of, and why.
pub fn check_steps(entries: &[Entry], diffusion: &DiffusionConfig) -> Result<()> {
    entries.iter().try_for_each(|entry| match Schedule::respaced(diffusion, &entry.steps.to_string()) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::config(OPTION, format!("\"{}:{}\": {error}", entry.name, entry.steps))),
    })
}

/// What is found of a set of images.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Found {
    /// Images there are.
    pub images: usize,
    /// Compared with the real images.
    pub quality: Qualities,
    /// How many the model takes for their class.
    pub recognised: usize,
    /// How many the judge does, where there is one.
    pub judged: Option<usize>,
}

/// A figure of a set of images.
pub struct Figure {
    /// In tables for machines.
    pub key: &'static str,
    /// In those for people.
    pub title: &'static str,
    /// Its value in one set.
    pub of: fn(&Found) -> Option<f64>,
    /// Of a share of images, how many they are: its standard error is over images, others' over seeds.
    counted: Option<fn(&Found) -> Option<usize>>,
    /// Digits behind the point.
    pub digits: usize,
}

impl Figure {
    const fn number(key: &'static str, title: &'static str, of: fn(&Found) -> Option<f64>) -> Figure {
        Figure { key, title, of, counted: None, digits: 3 }
    }

    /// Over sets; `None` where a set has none.
    fn mean(&self, sets: &[Found]) -> Option<Mean> {
        let Some(counted) = self.counted else {
            return Mean::of(sets.iter().map(self.of).collect::<Option<Vec<f64>>>()?);
        };
        let images: usize = sets.iter().map(|found| found.images).sum();
        let yes: usize = sets.iter().map(counted).sum::<Option<usize>>()?;
        Mean::share((0..images).map(|image| image < yes))
    }
}

fn share(count: usize, found: &Found) -> f64 {
    count as f64 / found.images.max(1) as f64
}

/// Every figure, in the order of tables.
pub static FIGURES: [Figure; 7] = [
    Figure::number("model_precision", "precision, model's features", |f| Some(f.quality.model.precision)),
    Figure::number("model_recall", "recall, model's features", |f| Some(f.quality.model.recall)),
    Figure::number("pixels_precision", "precision, pixels", |f| Some(f.quality.pixels.precision)),
    Figure::number("pixels_recall", "recall, pixels", |f| Some(f.quality.pixels.recall)),
    Figure {
        digits: 1,
        ..Figure::number("frechet", "Fréchet distance, model's features", |f| Some(f.quality.frechet))
    },
    Figure {
        counted: Some(|f| Some(f.recognised)),
        ..Figure::number("recognised", "recognised by the model", |f| Some(share(f.recognised, f)))
    },
    Figure {
        counted: Some(|f| f.judged),
        ..Figure::number("judged", "recognised by the judge", |f| Some(share(f.judged?, f)))
    },
];

/// What came of an entry.
pub struct Row {
    /// Which.
    pub entry: Entry,
    /// The images of each seed.
    pub seeds: Vec<Found>,
    /// Mean probability of its class over all images, before each step and of the finished image.
    pub curve: Vec<f64>,
    /// The network's timestep at each of these.
    pub timesteps: Vec<f32>,
    /// Seconds of an image's chain, as one of a batch: of the fastest batch.
    pub seconds: f64,
    /// The images \[N,C,H,W\] of the first seed.
    pub images: Vec<f32>,
}

impl Row {
    /// A figure over all seeds; `None` without a judge, of a judge's.
    pub fn mean(&self, figure: &Figure) -> Option<Mean> {
        figure.mean(&self.seeds)
    }

    /// How much larger a figure is than another row's, seed by seed of the same noise.
    pub fn over(&self, other: &Row, figure: &Figure) -> Option<Mean> {
        let pairs = self.seeds.iter().zip(&other.seeds);
        Mean::of(pairs.map(|(a, b)| Some((figure.of)(a)? - (figure.of)(b)?)).collect::<Option<Vec<f64>>>()?)
    }
}

/// Who looks at images, and what they are compared with.
pub struct Viewer<'a> {
    /// Real images.
    pub real: &'a Real,
    /// Values of an image.
    pub len: usize,
    /// A model that guided nothing.
    pub judge: Option<&'a Judge>,
    /// Classes of the model.
    pub classes: usize,
}

impl Viewer<'_> {
    /// What is found of `images` \[N,C,H,W\], of which the model takes `known` for their labels.
    fn found(&self, chains: &Chains, images: &[f32], labels: &[usize], known: usize) -> Result<Found> {
        let judged = self.judge.map(|judge| recognised(&judge.probabilities(images)?, self.classes, labels));
        Ok(Found {
            images: labels.len(),
            quality: self.real.compare(images.to_vec(), self.len, chains)?,
            recognised: known,
            judged: judged.transpose()?,
        })
    }

    /// What is found of real images.
    ///
    /// # Errors
    /// Too few images; device errors.
    pub fn of_real(&self, chains: &Chains, images: &[f32], labels: &[usize]) -> Result<Found> {
        self.found(chains, images, labels, chains.recognised(images, labels)?)
    }
}

/// The chains of an entry, compiled; the others' options are as in `all`.
///
/// # Errors
/// Guidance that the model has none of; device errors.
pub fn chains(
    session: &Session,
    entry: &Entry,
    all: &ChainArgs,
    classes: &[usize],
    [per_class, batch]: [usize; 2],
) -> Result<Chains> {
    Chains::new(session, &entry.chain(all), classes, per_class, batch)
}

/// Generates an entry's images from the noise of each seed and looks at them. `on_step` hears of each step of a batch and may stop it.
///
/// # Errors
/// As [`Chains::generate`].
pub fn measure(
    (entry, chains): (&Entry, &Chains),
    viewer: &Viewer<'_>,
    seeds: impl Iterator<Item = Seed>,
    alpha: f32,
    mut on_step: impl FnMut() -> ControlFlow<()>,
) -> Result<Row> {
    let timesteps = chains.timesteps();
    let mut row = Row {
        entry: entry.clone(),
        seeds: Vec::new(),
        curve: vec![0.0; timesteps.len()],
        timesteps,
        seconds: f64::INFINITY,
        images: Vec::new(),
    };
    for seed in seeds {
        let made = chains.generate(seed, alpha, &mut on_step)?;
        row.seeds.push(viewer.found(chains, &made.images, chains.labels(), made.recognised)?);
        for (sum, step) in row.curve.iter_mut().zip(&made.curve) {
            *sum += step.iter().map(|p| f64::from(*p)).sum::<f64>() / step.len().max(1) as f64;
        }
        row.seconds = row.seconds.min(made.seconds_per_image);
        if row.images.is_empty() {
            row.images = made.images;
        }
    }
    let seeds = row.seeds.len().max(1) as f64;
    row.curve.iter_mut().for_each(|sum| *sum /= seeds);
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::manifold::Quality;

    fn list(text: &str, eta: f64) -> Result<Vec<Entry>> {
        entries(&text.split(',').map(str::to_owned).collect::<Vec<_>>(), eta)
    }

    #[test]
    fn entries_are_read_and_what_is_none_is_named() {
        let found = list("ddim:25,ddim:25:0,dpm++:10, dpm++sde:5", 0.5).unwrap();
        let words: Vec<String> = found.iter().map(Entry::words).collect();
        let want = [
            "DDIM, η = 0.5, 25 steps",
            "DDIM, η = 0, 25 steps",
            "DPM-Solver++(2M), 10 steps",
            "SDE-DPM-Solver++(2M), η = 0.5, 5 steps",
        ];
        assert_eq!(words, want);
        assert_eq!(
            found.iter().map(|entry| entry.eta).collect::<Vec<_>>(),
            [Some(0.5), Some(0.0), None, Some(0.5)]
        );
        for (text, words) in [
            ("euler:10", &["\"euler:10\"", "none of ddim", "dpm++"][..]),
            ("ddim", &["SOLVER:STEPS", "ddim:25"]),
            ("ddim:1:1:1", &["SOLVER:STEPS"]),
            ("ddim:0", &["whole number from 1", "\"0\""]),
            ("ddim:ten", &["\"ten\""]),
            ("ddim:", &["whole number"]),
            ("ddim:5:2", &["from 0 to 1", "\"2\""]),
            ("ddim:5:nan", &["from 0 to 1"]),
            ("dpm++:5:1", &["dpm++ takes no share"]),
            ("ddim:5,dpm++:5,ddim:5", &["\"ddim:5\" is there twice"]),
        ] {
            let error = list(text, 1.0).unwrap_err().to_string();
            assert!(
                error.starts_with("solvers: ") && words.iter().all(|word| error.contains(word)),
                "{error}"
            );
        }
        let few = check_steps(&list("dpm++:10,ddim:5000", 1.0).unwrap(), &DiffusionConfig::default());
        let error = few.unwrap_err().to_string();
        assert!(error.contains("ddim:5000") && error.contains("1000"), "{error}");
    }

    fn found(precision: f64, recognised: usize) -> Found {
        let quality = Quality { precision, recall: 0.5 };
        let quality = Qualities { model: quality, pixels: quality, frechet: 2.0 };
        Found { images: 10, quality, recognised, judged: None }
    }

    fn row(seeds: Vec<Found>) -> Row {
        let entry = Entry::parse("ddim:2", 1.0).unwrap();
        Row { entry, seeds, curve: vec![], timesteps: vec![], seconds: 1.0, images: vec![] }
    }

    #[test]
    fn shares_are_over_images_and_differences_seed_by_seed() {
        let (first, other) =
            (row(vec![found(0.5, 5), found(0.9, 7)]), row(vec![found(0.6, 9), found(1.0, 9)]));
        let figure = |key: &str| FIGURES.iter().find(|figure| figure.key == key).unwrap();
        let precision = first.mean(figure("model_precision")).unwrap();
        assert!((precision.mean - 0.7).abs() < 1e-12 && precision.count == 2);
        let recognised = first.mean(figure("recognised")).unwrap();
        assert_eq!((recognised.mean, recognised.count), (0.6, 20));
        assert!((recognised.standard_error.unwrap() - (0.24 / 19f64).sqrt()).abs() < 1e-12);
        // The seeds differ by far more than the solvers do on each.
        let gain = other.over(&first, figure("model_precision")).unwrap();
        assert!((gain.mean - 0.1).abs() < 1e-12 && gain.standard_error.unwrap() < 1e-12, "{gain:?}");
        assert_eq!(first.mean(figure("judged")), None);
        assert_eq!(other.over(&first, figure("judged")), None);
    }
}
