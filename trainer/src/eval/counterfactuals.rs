//! How often counterfactuals change the classifier's decision, over many test images.

use super::Measured;
use super::explanations::explain_all;
use crate::cli::Eval;
use crate::cli::how::words;
use crate::data::Dataset;
use crate::io::session::Session;
use duet::explain::Explainer;
use duet::model::{Head, Target, argmax};
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
    let explain = options.how.options(None)?;
    let batch = options.batch.min(chosen.len()).max(1);
    let diffusion = &session.checkpoint.diffusion;
    let new = Explainer::fitting(&session.weights, diffusion, batch, &explain, session.set);
    let mut explainer = pollster::block_on(new)?;
    let wanted: Vec<Option<Target>> =
        chosen.iter().map(|row| Some(Target::from((truths[*row] as usize + 1) % classes))).collect();
    let made = explain_all(&mut explainer, &test.images_f32(&chosen), &wanted, explain.seed, quiet)?;
    let mut sums = Flips::default();
    for one in &made.all {
        let [was, is] = [argmax(&one.before, classes)?, argmax(&one.after, classes)?];
        sums.images += 1;
        sums.already += f64::from(u8::from(was == [one.target.class]));
        sums.changed += f64::from(u8::from(was != is));
        sums.reached += f64::from(u8::from(one.reached));
        sums.mean_change += one.mean_change();
    }
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
        let how = words(&options.how.options(None)?);
        let [changed, reached, already] =
            [flips.changed, flips.reached, flips.already].map(|share| 100.0 * share);
        lines.push(format!(
            "{} counterfactuals ({how}): {changed:.1} % change the decision, \
             {reached:.1} % are the target after ({already:.1} % before)",
            flips.images
        ));
        lines.push(format!("  mean change of a pixel {:.1} % of the range", 100.0 * flips.mean_change));
    }
    Ok(Measured::new(serde_json::json!({ "counterfactuals": flips }), lines))
}
