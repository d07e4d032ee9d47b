//! How often counterfactuals change the classifier's decision, over many test images.

use super::Measured;
use crate::cli::Eval;
use crate::data::Dataset;
use crate::io::output::progress;
use crate::io::session::Session;
use duet::explain::{ExplainOptions, Explainer};
use duet::model::argmax;
use duet::model::{Head, Labels};
use duet::rng::Seed;
use duet::sampling::Watch;
use duet::{Error, Result};
use serde::Serialize;

/// What came of the counterfactuals.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Flips {
    /// Images explained.
    images: usize,
    /// Share whose decision after is another one than before.
    changed: f64,
    /// Share whose decision after is the target.
    reached: f64,
    /// Share whose decision was the target before: theirs need not change.
    already: f64,
    /// Mean absolute difference of a pixel, as a share of the range.
    mean_change: f64,
}

/// Explains the first `options.counterfactuals` test images of each class towards the class that comes next in the model (after
/// the last the first); `None` where none are asked for.
///
/// # Errors
/// Options out of range; a counterfactual that is not finite; device errors.
fn flips(session: &Session, options: &Eval, test: &Dataset, quiet: bool) -> Result<Option<Flips>> {
    if options.counterfactuals == 0 {
        return Ok(None);
    }
    session.checkpoint.require_denoising()?;
    let config = session.config();
    if config.head != Head::Multiclass {
        return Err(Error::config("counterfactuals", "need a model with one class per image"));
    }
    let classes = config.num_classes;
    let chosen = test.of_each_class(0..options.counterfactuals)?;
    let truths = test.classes()?;
    let explain = ExplainOptions {
        noise: options.way.noise,
        respacing: options.steps.clone(),
        alpha: options.way.alpha,
        seed: Seed(options.seed),
        ..ExplainOptions::default()
    };
    let batch = options.batch.min(chosen.len()).max(1);
    let diffusion = &session.checkpoint.diffusion;
    let new = Explainer::fitting(&session.weights, diffusion, batch, &explain, session.set);
    let explainer = pollster::block_on(new)?;
    let batch = explainer.batch();
    let bar = progress(chosen.len() as u64, 0, "explaining {wide_bar} {pos}/{len} {eta}", quiet);
    let mut sums = Flips::default();
    for (number, part) in chosen.chunks(batch).enumerate() {
        // The last batch is filled up with its own images, which do not count again.
        let rows: Vec<usize> = (0..batch).map(|i| part[i % part.len()]).collect();
        let targets: Vec<u32> = rows.iter().map(|row| (truths[*row] + 1) % classes as u32).collect();
        let images = test.images_f32(&rows);
        let first = (number * batch) as u32;
        let made = pollster::block_on(explainer.explain(
            &images,
            &Labels::Classes(targets.clone()),
            first,
            Watch::None,
        ))?;
        let (was, is) = (argmax(&made.before, classes)?, argmax(&made.after, classes)?);
        for i in 0..part.len() {
            sums.images += 1;
            sums.already += f64::from(u8::from(was[i] == targets[i] as usize));
            sums.changed += f64::from(u8::from(was[i] != is[i]));
            sums.reached += f64::from(u8::from(is[i] == targets[i] as usize));
        }
        let len = test.image_len();
        let changes = made.difference[..part.len() * len].iter().map(|d| f64::from(d.abs()) / 2.0);
        sums.mean_change += changes.sum::<f64>() / len as f64;
        bar.inc(part.len() as u64);
    }
    bar.finish_and_clear();
    let count = sums.images.max(1) as f64;
    for share in [&mut sums.changed, &mut sums.reached, &mut sums.already, &mut sums.mean_change] {
        *share /= count;
    }
    Ok(Some(sums))
}

/// What counterfactuals change.
pub(super) fn measure(session: &Session, options: &Eval, test: &Dataset, quiet: bool) -> Result<Measured> {
    let flips = flips(session, options, test, quiet)?;
    let mut lines = Vec::new();
    if let Some(flips) = flips {
        let (noise, alpha, steps) = (options.way.noise, options.way.alpha, &options.steps);
        let [changed, reached, already] =
            [flips.changed, flips.reached, flips.already].map(|share| 100.0 * share);
        lines.push(format!(
            "{} counterfactuals (noise {noise}, alpha {alpha}, steps {steps}): {changed:.1} % change the decision, \
             {reached:.1} % are the target after ({already:.1} % before)",
            flips.images
        ));
        lines.push(format!("  mean change of a pixel {:.1} % of the range", 100.0 * flips.mean_change));
    }
    Ok(Measured::new(serde_json::json!({ "counterfactuals": flips }), lines))
}
