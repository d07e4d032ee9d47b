//! Counterfactuals of many images.

use crate::io::output::progress;
use crate::io::session::go_on;
use duet::Result;
use duet::explain::{Explainer, Explanation};
use duet::model::argmax;
use duet::sampling::Watch;
use std::time::Instant;

/// The second most probable class of a row.
fn second(row: &[f32]) -> Result<usize> {
    let first = argmax(row, row.len())?.first().copied().unwrap_or(0);
    let others = (0..row.len()).filter(|c| *c != first);
    Ok(others.max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap_or(first))
}

/// Everything that was made, image after image.
pub struct Made {
    /// As the library gives it.
    pub all: Explanation,
    /// Class to move each image to.
    pub targets: Vec<usize>,
    /// Seconds of each image: its share of its batch.
    pub seconds: Vec<f64>,
}

/// Explains all `images` \[N,C,H,W\], a batch at a time, each towards its class of `wanted`, or its second one for `None`.
///
/// # Errors
/// [`duet::Error::Aborted`] after Ctrl-C; [`duet::Error::NotFinite`] where the step size is too large; device errors.
pub fn explain_all(
    explainer: &Explainer,
    images: &[f32],
    wanted: &[Option<usize>],
    batch: usize,
    quiet: bool,
) -> Result<Made> {
    let count = wanted.len();
    let before = pollster::block_on(explainer.probabilities(images))?;
    let rows = before.chunks_exact(before.len() / count.max(1));
    let choose = |(wanted, row): (&Option<usize>, &[f32])| wanted.map_or_else(|| second(row), Ok);
    let targets: Vec<usize> = wanted.iter().zip(rows).map(choose).collect::<Result<_>>()?;
    let work = explainer.steps() * count.div_ceil(batch);
    let bar = progress(work as u64, 0, "explaining {wide_bar} {pos}/{len} steps {eta}", quiet);
    let (len, classes) = (images.len() / count, before.len() / count);
    let all = Explanation {
        noised: Vec::new(),
        counterfactual: Vec::new(),
        difference: Vec::new(),
        before,
        after: Vec::new(),
        curve: vec![Vec::new(); explainer.steps()],
    };
    let mut made = Made { all, targets, seconds: Vec::new() };
    let order: Vec<usize> = (0..count).collect();
    for part in order.chunks(batch) {
        // The last batch is filled up with its own images, which are dropped.
        let rows: Vec<usize> = (0..batch).map(|i| part[i % part.len()]).collect();
        let these: Vec<f32> = rows.iter().flat_map(|row| &images[row * len..][..len]).copied().collect();
        let classes_now: Vec<usize> = rows.iter().map(|row| made.targets[*row]).collect();
        let begin = Instant::now();
        let targets = pollster::block_on(explainer.targets(&these, &classes_now))?;
        let mut step = |_| {
            bar.inc(1);
            go_on()
        };
        let watch = Watch::Progress(&mut step);
        let new = pollster::block_on(explainer.explain(&these, &targets, part[0] as u32, watch))?;
        let seconds = begin.elapsed().as_secs_f64() / part.len() as f64;
        made.seconds.extend(part.iter().map(|_| seconds));
        made.all.noised.extend_from_slice(&new.noised[..part.len() * len]);
        made.all.counterfactual.extend_from_slice(&new.counterfactual[..part.len() * len]);
        made.all.difference.extend_from_slice(&new.difference[..part.len() * len]);
        made.all.after.extend_from_slice(&new.after[..part.len() * classes]);
        for (step, values) in made.all.curve.iter_mut().zip(&new.curve) {
            step.extend_from_slice(&values[..part.len()]);
        }
    }
    bar.finish_and_clear();
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::second;

    #[test]
    fn the_second_most_probable_class() {
        assert_eq!(second(&[0.1, 0.6, 0.3]).unwrap(), 2);
        assert_eq!(second(&[0.5, 0.5]).unwrap(), 1, "of equals the first is the decision");
        assert_eq!(second(&[0.0, 0.0, 1.0]).unwrap(), 1);
    }
}
