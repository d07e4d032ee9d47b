//! `duet eval`: accuracy on the test set, and the noise error by quarter of the chain.

use super::counterfactuals;
use crate::cli::{Cli, Eval};
use crate::data::Dataset;
use crate::output::progress;
use crate::session::Session;
use duet::infer::{DenoisingError, ImageClassifier};
use duet::model::{Head, WeightSet, argmax};
use duet::rng::{Seed, Stream, uniform_u32_below};
use duet::weights::Weights;
use duet::{Error, Result};

/// Runs the command.
///
/// # Errors
/// A bad checkpoint or data; device errors.
pub fn run(arguments: &Cli, options: &Eval) -> Result<()> {
    if options.batch == 0 {
        return Err(Error::config("batch", "must be at least 1"));
    }
    let session = Session::open(arguments, &options.model)?;
    let config = session.config();
    let split = session.data(&options.data)?;
    let test = &split.test;
    let count = if options.images == 0 { test.len() } else { options.images.min(test.len()) };
    let accuracy = accuracy(&session.weights, session.set, test, count, options.batch, arguments.json)?;
    let quarters = noise_error(&session, options, test)?;
    let flips = counterfactuals::measure(&session, options, test)?;
    session.close();
    if arguments.json {
        let report = serde_json::json!({
            "images": count, "accuracy": accuracy.share, "per_class": accuracy.per_class,
            "mse_by_quarter": quarters, "mse_images": options.loss_images.min(test.len()),
            "counterfactuals": flips,
        });
        println!("{report}");
        return Ok(());
    }
    println!("accuracy {:.2} % of {count} test images", 100.0 * accuracy.share);
    for (class, share) in accuracy.per_class.iter().enumerate() {
        println!("  {:<12} {:.1} %", crate::session::class_name(config, class), 100.0 * share);
    }
    if let Some(quarters) = quarters {
        println!("noise error (MSE of eps) by quarter of the chain, from image to noise:");
        for (quarter, value) in quarters.iter().enumerate() {
            println!("  {}/4  {value:.5}", quarter + 1);
        }
    }
    if let Some(flips) = flips {
        println!(
            "{} counterfactuals (noise {}, alpha {}, steps {}): {:.1} % change the decision, {:.1} % to the target",
            flips.images,
            options.way.noise,
            options.way.alpha,
            options.steps,
            100.0 * flips.changed,
            100.0 * flips.reached
        );
        println!("  mean change of a pixel {:.1} % of the range", 100.0 * flips.mean_change);
    }
    Ok(())
}

/// Shares of correct answers.
pub struct Accuracy {
    /// Of all images (multi-label: of all labels).
    pub share: f64,
    /// Of each class's images.
    pub per_class: Vec<f64>,
}

/// Measures accuracy on the first `count` images.
///
/// # Errors
/// Device errors.
pub fn accuracy(
    weights: &Weights,
    set: WeightSet,
    test: &Dataset,
    count: usize,
    batch: usize,
    quiet: bool,
) -> Result<Accuracy> {
    let config = &weights.model().config;
    if config.head == Head::MultiLabel {
        return Err(Error::config("head", "the data sets here have one class per image"));
    }
    let classes = config.num_classes;
    let classifier = pollster::block_on(ImageClassifier::new(weights, batch, set))?;
    let (mut right, mut seen) = (vec![0usize; classes], vec![0usize; classes]);
    let bar = progress(count as u64, 0, "classifying {wide_bar} {pos}/{len} {eta}", quiet);
    let all: Vec<usize> = (0..count).collect();
    for part in all.chunks(batch) {
        let images = test.images_f32(part);
        let answers = argmax(&pollster::block_on(classifier.logits(&images))?, classes);
        for (image, answer) in part.iter().zip(answers) {
            let label = test.labels[*image] as usize;
            if label >= classes {
                let detail = format!("label {label} in the data, {classes} classes in the model");
                return Err(Error::config("num_classes", detail));
            }
            seen[label] += 1;
            right[label] += usize::from(answer == label);
        }
        bar.inc(part.len() as u64);
    }
    bar.finish_and_clear();
    let share = |right: usize, seen: usize| if seen == 0 { 0.0 } else { right as f64 / seen as f64 };
    Ok(Accuracy {
        share: share(right.iter().sum(), seen.iter().sum()),
        per_class: right.iter().zip(&seen).map(|(r, s)| share(*r, *s)).collect(),
    })
}

/// Mean noise error in each quarter of the chain; `None` where no images are asked for.
fn noise_error(session: &Session, options: &Eval, test: &Dataset) -> Result<Option<[f64; 4]>> {
    let count = options.loss_images.min(test.len());
    if count == 0 {
        return Ok(None);
    }
    let diffusion = &session.checkpoint.diffusion;
    let new = DenoisingError::new(&session.weights, diffusion, options.batch, session.set);
    let measure = pollster::block_on(new)?;
    let steps = diffusion.diffusion_steps;
    let seed = Seed(options.seed);
    let mut sums = [0.0f64; 4];
    let all: Vec<usize> = (0..count).collect();
    for (quarter, sum) in sums.iter_mut().enumerate() {
        let (from, to) = (quarter * steps / 4, ((quarter + 1) * steps / 4).max(quarter * steps / 4 + 1));
        for part in all.chunks(options.batch) {
            let width = (to.min(steps) - from.min(steps - 1)).max(1) as u32;
            // The last batch is filled up with its own images, which do not count again.
            let rows: Vec<usize> = (0..options.batch).map(|i| part[i % part.len()]).collect();
            let times: Vec<usize> = rows
                .iter()
                .map(|i| {
                    let offset = uniform_u32_below(width, seed, Stream::Timestep, quarter as u32, *i as u32);
                    (from.min(steps - 1)) + offset as usize
                })
                .collect();
            let images = test.images_f32(&rows);
            let values = pollster::block_on(measure.measure(&images, &times, seed, part[0] as u32))?;
            *sum += values[..part.len()].iter().map(|v| f64::from(*v)).sum::<f64>();
        }
        *sum /= count as f64;
    }
    Ok(Some(sums))
}
