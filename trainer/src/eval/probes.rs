//! What representations hold by timestep (the paper's Fig. 2b): at each a logistic regression on the pooled features that the
//! classifier reads, of images noised to that timestep, tells the class, or each label by a probe of its own. The network is left
//! as it is.

use crate::data::{Dataset, Split};
use crate::io::output::progress;
use crate::metrics::logistic::{Points, Probe};
use crate::metrics::roc::auroc;
use crate::metrics::statistics::mean_of_known;
use duet::diffusion::{DiffusionConfig, Schedule};
use duet::infer::{ImageFeatures, NoisedFeatures};
use duet::model::{Labels, UNLABELLED, WeightSet, argmax};
use duet::rng::{Seed, shuffle};
use duet::weights::Weights;
use duet::{Error, Result};
use indicatif::ProgressBar;
use serde::Serialize;

/// Timesteps of a probe, beside t = 0.
const TIMESTEPS: usize = 10;

/// What is probed, and with how many images.
#[derive(Clone, Debug)]
pub struct Options {
    /// Steps of the whole chain; 0 is the clean image, as the classifier sees it.
    pub timesteps: Vec<usize>,
    /// Training images to fit on.
    pub train: usize,
    /// Images to choose the regularisation by: of the validation part, where there is one, else further training images.
    pub validation: usize,
    /// Test images, of [`Dataset::spread`].
    pub test: usize,
    /// Images at a time.
    pub batch: usize,
    /// Which training images are taken, and their noise.
    pub seed: Seed,
    /// Whether no progress is shown.
    pub quiet: bool,
}

impl Options {
    /// t = 0 and the ends of ten equal parts of the chain, 2,000 + 500 images to fit by and 1,000 to test on.
    pub fn new(diffusion: &DiffusionConfig) -> Options {
        let steps = diffusion.diffusion_steps;
        let at = |part: usize| (part * steps / TIMESTEPS).min(steps.saturating_sub(1));
        let mut timesteps: Vec<usize> = (0..=TIMESTEPS).map(at).collect();
        timesteps.dedup();
        Options {
            timesteps,
            train: 2000,
            validation: 500,
            test: 1000,
            batch: 16,
            seed: Seed(0),
            quiet: false,
        }
    }
}

/// How well one class or label is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Told {
    /// Share of right answers: of a class's test images, of a label among all test images. `None` where there are none.
    pub accuracy: Option<f64>,
    /// Of a label the mean of two shares of right answers, of the images that have it and of those that do not.
    pub balanced: Option<f64>,
    /// Of a label the area under the ROC of its logit.
    pub auroc: Option<f64>,
    /// λ of its probe (classes share one).
    pub strength: f64,
}

/// What the probes at one timestep tell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The timestep; 0 is the clean image.
    pub timestep: usize,
    /// Share of right answers of all test images; of labels the mean over labels.
    pub accuracy: f64,
    /// Mean of the classes' accuracies, or of the labels' balanced ones, which chance has at 1 / classes, or ½.
    pub balanced: Option<f64>,
    /// One for each of [`Table::names`].
    pub told: Vec<Told>,
}

/// How well classes or labels are told from representations, by timestep.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// Names of the classes or labels.
    pub names: Vec<String>,
    /// Whether those are labels, of which an image has any number.
    pub labels: bool,
    /// Training, validation and test images.
    pub images: [usize; 3],
    /// From the clean image on, as asked for.
    pub rows: Vec<Row>,
}

/// Features of the chosen images of a data set, as one part of a probe's points.
struct Part<'a> {
    data: &'a Dataset,
    rows: Vec<usize>,
    labels: Labels,
    /// Row of the first image's noise.
    first: u32,
}

impl<'a> Part<'a> {
    fn new(data: &'a Dataset, rows: Vec<usize>, first: usize, what: &str) -> Result<Part<'a>> {
        if rows.is_empty() {
            return Err(Error::config("images", format!("there are no {what} images with a label to probe")));
        }
        let labels = data.labels.pick(&rows, data.class_names.len())?;
        Ok(Part { data, rows, labels, first: first as u32 })
    }
}

/// Whether an image has a label, by row.
fn labelled(data: &Dataset) -> impl Fn(&usize) -> bool {
    |row| match &data.labels {
        Labels::Classes(classes) => classes.get(*row).is_some_and(|class| *class != UNLABELLED),
        Labels::MultiLabel(_) => true,
    }
}

/// `count` of the images that have a label, or all, in an order by `seed`.
fn drawn(data: &Dataset, count: usize, seed: Seed) -> Vec<usize> {
    let mut rows: Vec<u32> = (0..data.len()).filter(labelled(data)).map(|row| row as u32).collect();
    shuffle(seed, 0, &mut rows);
    rows.into_iter().take(count).map(|row| row as usize).collect()
}

/// The parts of a probe: to fit on, to choose by, to test on.
fn parts<'a>(split: &'a Split, options: &Options) -> Result<[Part<'a>; 3]> {
    let Options { train, validation, seed, .. } = *options;
    if train == 0 || validation == 0 || options.test == 0 {
        return Err(Error::config("images", "training, validation and test images must be one at least"));
    }
    let (train, held) = match &split.validation {
        Some(part) => (drawn(&split.train, train, seed), drawn(part, validation, seed)),
        None => {
            let mut rows = drawn(&split.train, train.saturating_add(validation), seed);
            // Of too few images each part has its share.
            let share = rows.len() as f64 * validation as f64 / (train as f64 + validation as f64);
            let held = rows.split_off(rows.len() - (share.round() as usize).min(rows.len()));
            (rows, held)
        }
    };
    let test: Vec<usize> =
        split.test.spread(options.test).into_iter().filter(labelled(&split.test)).collect();
    let (second, third) = (train.len(), train.len() + held.len());
    let of_held = split.validation.as_ref().unwrap_or(&split.train);
    Ok([
        Part::new(&split.train, train, 0, "training")?,
        Part::new(of_held, held, second, "validation")?,
        Part::new(&split.test, test, third, "test")?,
    ])
}

/// Both kinds of representations of one model.
struct Features {
    clean: ImageFeatures,
    noised: NoisedFeatures,
    batch: usize,
    seed: Seed,
}

impl Features {
    /// Rows \[N,F\] of a part's images at a timestep. An image's noise is the same at all timesteps.
    fn of(&self, part: &Part<'_>, timestep: usize, bar: &ProgressBar) -> Result<Vec<f32>> {
        let mut all = Vec::with_capacity(part.rows.len() * self.clean.columns());
        let mut first = part.first;
        for rows in part.rows.chunks(self.batch) {
            let images = part.data.images_f32(rows);
            let found = match timestep {
                0 => pollster::block_on(self.clean.get(&images)),
                _ => {
                    let steps = vec![timestep; rows.len()];
                    pollster::block_on(self.noised.get(&images, &steps, self.seed, first))
                }
            };
            all.extend(found?);
            first = first.wrapping_add(rows.len() as u32);
            bar.inc(rows.len() as u64);
        }
        Ok(all)
    }
}

/// How well each class or label is told by test images' logits \[N,K\], and all of them.
fn told(labels: &Labels, logits: &[f32], strengths: &[f64]) -> Result<(f64, Vec<Told>)> {
    let outputs = strengths.len();
    let share = |right: usize, seen: usize| (seen > 0).then(|| right as f64 / seen as f64);
    let mut found: Vec<Told> = strengths.iter().map(|s| Told { strength: *s, ..Told::default() }).collect();
    match labels {
        Labels::Classes(classes) => {
            let (mut right, mut seen) = (vec![0; outputs], vec![0; outputs]);
            for (class, answer) in classes.iter().zip(argmax(logits, outputs)?) {
                let class = *class as usize;
                if class >= outputs {
                    let detail = format!("class {class} is none of the training data's {outputs}");
                    return Err(Error::config("num_classes", detail));
                }
                seen[class] += 1;
                right[class] += usize::from(answer == class);
            }
            for (told, (right, seen)) in found.iter_mut().zip(right.iter().zip(&seen)) {
                told.accuracy = share(*right, *seen);
            }
            let all = share(right.iter().sum(), seen.iter().sum());
            Ok((all.unwrap_or(f64::NAN), found))
        }
        Labels::MultiLabel(targets) => {
            for (k, told) in found.iter_mut().enumerate() {
                let column =
                    |values: &[f32]| values.iter().skip(k).step_by(outputs).copied().collect::<Vec<_>>();
                let (targets, logits) = (column(targets), column(logits));
                let those = |holds: bool| {
                    let pairs = targets.iter().zip(&logits).filter(|(target, _)| (**target > 0.5) == holds);
                    pairs.map(|(_, logit)| f64::from(*logit)).collect::<Vec<f64>>()
                };
                let (with, without) = (those(true), those(false));
                let right = [
                    with.iter().filter(|logit| **logit > 0.0).count(),
                    without.iter().filter(|logit| **logit <= 0.0).count(),
                ];
                told.accuracy = share(right[0] + right[1], targets.len());
                let halves = share(right[0], with.len()).zip(share(right[1], without.len()));
                told.balanced = halves.map(|(with, without)| 0.5 * (with + without));
                told.auroc = halves.map(|_| auroc(&with, &without)).transpose()?;
            }
            let all = mean_of_known(found.iter().map(|told| told.accuracy));
            Ok((all.unwrap_or(f64::NAN), found))
        }
    }
}

impl Row {
    /// Of a probe fitted on the first of three parts, chosen by the second and tested on the third, each features and labels.
    fn of(timestep: usize, parts: [(&[f32], &Labels); 3], columns: usize, outputs: usize) -> Result<Row> {
        let [train, held, test] = parts;
        let points = |(rows, labels)| Points { rows, columns, labels, outputs };
        let probe = Probe::fit(points(train), points(held))?;
        let (accuracy, told) = told(test.1, &probe.logits(test.0)?, &probe.strengths)?;
        let each = |told: &Told| match test.1 {
            Labels::Classes(_) => told.accuracy,
            Labels::MultiLabel(_) => told.balanced,
        };
        Ok(Row { timestep, accuracy, balanced: mean_of_known(told.iter().map(each)), told })
    }
}

/// Probes a model's representations at the timesteps of `options`.
///
/// # Errors
/// No images with labels; labels or images that do not fit each other or the model; a timestep past the chain's end; device errors.
pub fn by_timestep(
    weights: &Weights,
    diffusion: &DiffusionConfig,
    set: WeightSet,
    split: &Split,
    options: &Options,
) -> Result<Table> {
    let steps = Schedule::new(diffusion)?.len();
    if let Some(bad) = options.timesteps.iter().find(|t| **t >= steps) {
        return Err(Error::config("timesteps", format!("must be below {steps}, is {bad}")));
    }
    let batch = options.batch.max(1);
    let parts = parts(split, options)?;
    let names = split.train.class_names.clone();
    let features = Features {
        clean: pollster::block_on(ImageFeatures::new(weights, batch, set))?,
        noised: pollster::block_on(NoisedFeatures::new(weights, diffusion, batch, set))?,
        batch,
        seed: options.seed,
    };
    let images = parts.each_ref().map(|part| part.rows.len());
    let all = (images.iter().sum::<usize>() * options.timesteps.len()) as u64;
    let bar = progress(all, 0, "probing {wide_bar} {pos}/{len} {eta}", options.quiet);
    let mut rows = Vec::with_capacity(options.timesteps.len());
    for timestep in &options.timesteps {
        let [train, held, test] = parts.each_ref();
        let found = [train, held, test].map(|part| features.of(part, *timestep, &bar));
        let [a, b, c] = found;
        let (a, b, c) = (a?, b?, c?);
        let points = [(&a[..], &train.labels), (&b[..], &held.labels), (&c[..], &test.labels)];
        rows.push(Row::of(*timestep, points, features.clean.columns(), names.len())?);
    }
    bar.finish_and_clear();
    let labels = matches!(split.train.labels, Labels::MultiLabel(_));
    Ok(Table { names, labels, images, rows })
}

#[cfg(test)]
mod tests {
    use super::*;
    use duet::rng::{Stream, normal_fill};

    const FEATURES: usize = 6;

    /// Normal features, those of feature 2 moved by `gap` times the class.
    fn points(count: usize, gap: f32, seed: u64) -> (Vec<f32>, Vec<u32>) {
        let mut rows = vec![0.0; count * FEATURES];
        normal_fill(Seed(seed), Stream::Init, 0, 0, &mut rows);
        let classes: Vec<u32> = (0..count as u32).map(|i| i % 3).collect();
        for (row, class) in rows.chunks_exact_mut(FEATURES).zip(&classes) {
            row[2] = 0.3 * row[2] + gap * *class as f32;
        }
        (rows, classes)
    }

    fn row(sets: [&(Vec<f32>, Labels); 3], outputs: usize) -> Row {
        Row::of(5, sets.map(|(rows, labels)| (&rows[..], labels)), FEATURES, outputs).unwrap()
    }

    /// Three sets of points, their classes as labels by `label`.
    fn sets(gap: f32, label: impl Fn(&[u32]) -> Labels) -> [(Vec<f32>, Labels); 3] {
        [(240, 1), (90, 2), (150, 3)].map(|(count, seed)| {
            let (rows, classes) = points(count, gap, seed);
            (rows, label(&classes))
        })
    }

    #[test]
    fn a_probe_finds_the_direction_that_tells_classes() {
        let sets = sets(3.0, |classes| Labels::Classes(classes.to_vec()));
        let found = row(sets.each_ref(), 3);
        assert!(found.accuracy > 0.97 && found.balanced > Some(0.97), "{found:?}");
        assert!(found.told.iter().all(|told| told.accuracy > Some(0.94) && told.auroc.is_none()));
        assert_eq!(row(sets.each_ref(), 3), found, "the same twice");
    }

    #[test]
    fn labels_that_have_nothing_to_do_with_features_are_told_by_chance() {
        let shuffled = |classes: &[u32]| {
            let mut classes = classes.to_vec();
            shuffle(Seed(8), 0, &mut classes);
            Labels::Classes(classes)
        };
        let found = row(sets(3.0, shuffled).each_ref(), 3);
        // Five standard errors of a third, of 150.
        assert!((found.accuracy - 1.0 / 3.0).abs() < 5.0 * (2.0 / 9.0 / 150f64).sqrt(), "{found:?}");
        assert!(found.told[0].strength >= 0.1, "nothing to learn wants a strong λ: {found:?}");
    }

    #[test]
    fn constant_features_are_chance_and_no_nan() {
        let mut sets = sets(3.0, |classes| Labels::Classes(classes.to_vec()));
        sets.iter_mut().for_each(|(rows, _)| rows.fill(0.1));
        let found = row(sets.each_ref(), 3);
        assert!((found.balanced.unwrap() - 1.0 / 3.0).abs() < 1e-9, "{found:?}");
        let mut labels = sets.map(|(rows, _)| {
            let targets = (0..rows.len() / FEATURES).flat_map(|i| [f32::from(u8::from(i % 4 == 0)), 1.0]);
            let labels = Labels::MultiLabel(targets.collect());
            (rows, labels)
        });
        labels[0].0[3] = 0.1;
        let found = row(labels.each_ref(), 2);
        // The rare label is never said; the other one all have: there is nothing to weigh it against.
        assert_eq!((found.told[0].balanced, found.told[0].auroc), (Some(0.5), Some(0.5)));
        assert_eq!(
            (found.told[1].accuracy, found.told[1].balanced, found.told[1].auroc),
            (Some(1.0), None, None)
        );
    }

    #[test]
    fn each_label_has_a_probe_of_its_own() {
        // The first label is a class, the second one has nothing to do with the features.
        let label = |classes: &[u32]| {
            let rare = |i: usize| f32::from(u8::from(i * 7919 % 13 < 4));
            let is = |class: &u32| f32::from(u8::from(*class == 2));
            let targets = classes.iter().enumerate().flat_map(|(i, class)| [is(class), rare(i)]);
            Labels::MultiLabel(targets.collect())
        };
        let sets = sets(3.0, label);
        let found = row(sets.each_ref(), 2);
        assert!(found.told[0].auroc > Some(0.98) && found.told[0].balanced > Some(0.95), "{found:?}");
        assert!((found.told[1].auroc.unwrap() - 0.5).abs() < 0.2, "{found:?}");
        assert!(found.told[0].strength < found.told[1].strength, "λ by label: {found:?}");
        // The probe of a label alone is the same.
        let alone = sets.map(|(rows, labels)| {
            let Labels::MultiLabel(targets) = labels else { unreachable!() };
            (rows, Labels::MultiLabel(targets.into_iter().step_by(2).collect()))
        });
        let [one] = row(alone.each_ref(), 1).told[..] else { unreachable!() };
        assert!((one.auroc.unwrap() - found.told[0].auroc.unwrap()).abs() < 0.01);
        assert_eq!(one.accuracy, found.told[0].accuracy);
    }
}
