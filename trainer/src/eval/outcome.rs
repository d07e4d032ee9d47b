//! What came of each counterfactual, measured.

use super::chosen::Chosen;
use super::explanations::{explain_each, group};
use super::judge::Judge;
use crate::io::session::{Session, interrupted};
use crate::metrics::change::{Change, Pair};
use crate::metrics::cout::Insertion;
use duet::explain::{Explainer, Explanation, Passes};
use duet::infer::ImageClassifier;
use duet::model::{Target, argmax};
use duet::picture::value;
use duet::rng::Seed;
use duet::{Error, Result};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Images whose ways to their counterfactuals are classified together.
const TOGETHER: usize = 16;
/// Pictures classified at a time.
const BATCH: usize = 32;

/// What a judge makes of an image and its counterfactual.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opinion {
    /// Its decision about the image.
    pub before: usize,
    /// And about the counterfactual.
    pub after: usize,
    /// Its probability of the target, of the image.
    pub probability_before: f64,
    /// And of the counterfactual.
    pub probability: f64,
}

/// One image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Row of the test set.
    pub image: usize,
    /// Class.
    pub truth: usize,
    /// The model's decision about the image.
    pub before: usize,
    /// What it was to become.
    pub target: usize,
    /// The decision about the counterfactual.
    pub after: usize,
    /// The model's probability of the target, of the counterfactual.
    pub probability: f64,
    /// Rung of the ladder, from 0.
    pub rung: usize,
    /// That rung's strength.
    pub strength: f32,
    /// Chains that were run.
    pub chains: usize,
    /// What they took.
    pub passes: Passes,
    /// How much changed, and where.
    pub change: Change,
    /// COUT, of the model's own classifier; `None` where it was not asked for.
    pub cout: Option<f64>,
    /// The judge's; `None` without one.
    pub judge: Option<Opinion>,
}

/// All of one way to explain.
pub struct Outcomes {
    /// Image after image.
    pub rows: Vec<Outcome>,
    /// The counterfactuals \[N,C,H,W\].
    pub counterfactuals: Vec<f32>,
    /// Seconds of an image: its share of the whole, measuring left out.
    pub seconds: f64,
}

/// How chosen images are explained.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Seed of the noise.
    pub seed: Seed,
    /// The first image's place among all: the noise of an image is that of its place.
    pub first: usize,
    /// Images at a time.
    pub batch: usize,
    /// Whether no progress is shown.
    pub quiet: bool,
}

/// What measures counterfactuals.
pub struct Examiner<'a> {
    session: &'a Session,
    classifier: ImageClassifier,
    judge: Option<&'a Judge>,
    /// Whether COUT is measured, which takes most of the time of all measures.
    cout: bool,
}

impl<'a> Examiner<'a> {
    /// With or without a judge and COUT.
    ///
    /// # Errors
    /// Device errors.
    pub fn new(session: &'a Session, judge: Option<&'a Judge>, cout: bool) -> Result<Examiner<'a>> {
        let classifier = pollster::block_on(ImageClassifier::new(&session.weights, BATCH, session.set))?;
        Ok(Examiner { session, classifier, judge, cout })
    }

    /// Explains the chosen images and measures what comes of them.
    ///
    /// # Errors
    /// [`Error::Aborted`] after Ctrl-C; a counterfactual that is not finite; device errors.
    pub fn run(&self, explainer: &mut Explainer, chosen: &Chosen, run: Run) -> Result<Outcomes> {
        if chosen.is_empty() {
            return Ok(Outcomes { rows: Vec::new(), counterfactuals: Vec::new(), seconds: 0.0 });
        }
        let Run { seed, first, batch, quiet } = run;
        let targets: Vec<Target> = chosen.targets.iter().map(|class| (*class).into()).collect();
        let begin = Instant::now();
        let all = explain_each(explainer, &chosen.images, &targets, (seed, first), group(batch, 1), quiet)?;
        let seconds = begin.elapsed().as_secs_f64() / chosen.len().max(1) as f64;
        let counterfactuals: Vec<f32> = all.iter().flat_map(|made| &made.counterfactual).copied().collect();
        let opinions = self.judge.map(|judge| opinions(judge, chosen, &counterfactuals)).transpose()?;
        let couts = if self.cout { Some(self.couts(chosen, &all)?) } else { None };
        let len = chosen.images.len() / chosen.len();
        let (classes, size) = (self.session.config().num_classes, self.session.config().image_size);
        let ground = value(self.session.checkpoint.pictures.ground);
        let row = |(i, made): (usize, &Explanation)| {
            let original = &chosen.images[i * len..][..len];
            let pair = Pair { original, counterfactual: &made.counterfactual, size };
            Ok(Outcome {
                image: chosen.rows[i],
                truth: chosen.truths[i],
                before: chosen.decisions[i],
                target: chosen.targets[i],
                after: argmax(&made.after, classes)?[0],
                probability: f64::from(made.after[chosen.targets[i]]),
                rung: made.rung,
                strength: made.strength,
                chains: made.chains,
                passes: made.passes,
                change: pair.change(ground),
                cout: couts.as_ref().map(|couts| couts[i]),
                judge: opinions.as_ref().map(|opinions| opinions[i]),
            })
        };
        let rows = all.iter().enumerate().map(row).collect::<Result<_>>()?;
        Ok(Outcomes { rows, counterfactuals, seconds })
    }

    /// COUT of each image, between the model's decision about it and the target.
    fn couts(&self, chosen: &Chosen, all: &[Explanation]) -> Result<Vec<f64>> {
        let len = chosen.images.len() / chosen.len();
        let config = self.session.config();
        let mut scores = Vec::with_capacity(all.len());
        for (number, part) in all.chunks(TOGETHER).enumerate() {
            if interrupted() {
                return Err(Error::Aborted);
            }
            let first = number * TOGETHER;
            let insertions: Vec<Insertion<'_>> = part
                .iter()
                .zip(chosen.images[first * len..].chunks_exact(len))
                .map(|(made, original)| Insertion::new(original, &made.counterfactual, config.in_channels))
                .collect();
            let pictures: Vec<f32> = insertions.iter().flat_map(Insertion::pictures).collect();
            let answers = pollster::block_on(self.classifier.probabilities(&pictures))?;
            let mut rows = answers.chunks_exact(config.num_classes);
            for (i, insertion) in insertions.iter().enumerate() {
                let [target, source] = [&chosen.targets, &chosen.decisions].map(|classes| classes[first + i]);
                let (on_target, on_source): (Vec<f32>, Vec<f32>) =
                    rows.by_ref().take(insertion.count()).map(|row| (row[target], row[source])).unzip();
                scores.push(insertion.score(&on_target, &on_source));
            }
        }
        Ok(scores)
    }
}

/// What a judge makes of each image and its counterfactual.
fn opinions(judge: &Judge, chosen: &Chosen, counterfactuals: &[f32]) -> Result<Vec<Opinion>> {
    let [before, after] = [judge.probabilities(&chosen.images)?, judge.probabilities(counterfactuals)?];
    let classes = before.len() / chosen.len();
    let (was, is) = (argmax(&before, classes)?, argmax(&after, classes)?);
    let of = |(i, target): (usize, &usize)| {
        let [probability_before, probability] =
            [&before, &after].map(|rows| f64::from(rows[i * classes + target]));
        Opinion { before: was[i], after: is[i], probability_before, probability }
    };
    Ok(chosen.targets.iter().enumerate().map(of).collect())
}
