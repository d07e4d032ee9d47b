//! Counterfactuals of many images, and what became of each.

use crate::io::output::progress;
use crate::io::session::go_on;
use duet::Result;
use duet::explain::{Explainer, Explanation, Request, Variants};
use duet::model::{Head, Target, argmax};
use duet::rng::Seed;
use duet::sampling::{Progress, Watch};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};

/// The second most probable class of a row.
///
/// # Errors
/// [`duet::Error::NotFinite`] where one is no number.
pub fn second(row: &[f32]) -> Result<usize> {
    let first = argmax(row, row.len())?.first().copied().unwrap_or(0);
    let others = (0..row.len()).filter(|c| *c != first);
    Ok(others.max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap_or(first))
}

/// Whether a counterfactual is what it was to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The image was of the target's class before: nothing had to change.
    Already,
    /// The decision changed to the target.
    Reached,
    /// It changed, but not to the target.
    Other,
    /// It did not change.
    Unchanged,
}

impl Verdict {
    /// Of a counterfactual. The decision is the most probable class; of a multi-label model each label is decided for itself, at
    /// one half, and the target is reached where no other label changed.
    pub fn of(head: Head, made: &Explanation) -> Result<Verdict> {
        let (was, is) = (head.decisions(&made.before)?, head.decisions(&made.after)?);
        Ok(match was.get(made.target.class) {
            Some(label) if *label == made.target.present => Verdict::Already,
            _ if made.reached => Verdict::Reached,
            _ if was == is => Verdict::Unchanged,
            _ => Verdict::Other,
        })
    }

    /// What is said of a counterfactual that is none; nothing of one that is.
    pub fn lacking(self) -> Option<&'static str> {
        match self {
            Verdict::Reached => None,
            Verdict::Already => Some("already"),
            Verdict::Other | Verdict::Unchanged => Some("not reached"),
        }
    }

    /// What it means, of a target and the decisions (the most probable classes) before and after, by their names.
    pub fn words(self, target: &str, was: &str, is: &str) -> String {
        match self {
            Verdict::Already if is == was => format!("already {target}: nothing to change"),
            Verdict::Already => format!("already {target}: nothing to change; what was made is {is}"),
            Verdict::Reached => format!("reached: {target}"),
            Verdict::Other => format!("not reached: {is} instead of {target}"),
            Verdict::Unchanged => format!("not reached: still {is}"),
        }
    }
}

/// Answers `requests` about `images` \[N,C,H,W\], in their order; `quiet` shows no progress.
///
/// # Errors
/// As [`explain_towards`].
pub fn explain_requests(
    explainer: &mut Explainer,
    images: &[f32],
    requests: &[Request],
    quiet: bool,
) -> Result<Vec<Explanation>> {
    let bar = steps(quiet);
    let made = answer(explainer, images, requests, 0, &bar)?;
    bar.finish_and_clear();
    Ok(made)
}

/// Batches that are explained together: an answer's last bits may depend on how many are at work at once, since plans of other widths
/// may run other kernels, so whoever explains many images, or a part of them, does so in the same groups.
const BATCHES: usize = 4;

/// Images that are explained together, of `batch` answers at a time and `variants` answers of each.
pub fn group(batch: usize, variants: usize) -> usize {
    (BATCHES * batch / variants.max(1)).max(1)
}

/// Moves `images` \[N,C,H,W\] to their `targets`, in groups of `group`; `quiet` shows no progress. Image `i` has the noise of row
/// `first_row + i`.
///
/// # Errors
/// As [`explain_towards`].
pub fn explain_each(
    explainer: &mut Explainer,
    images: &[f32],
    targets: &[Target],
    (seed, first_row): (Seed, usize),
    group: usize,
    quiet: bool,
) -> Result<Vec<Explanation>> {
    let bar = steps(quiet);
    let len = images.len() / targets.len().max(1);
    let mut made = Vec::with_capacity(targets.len());
    for (number, targets) in targets.chunks(group).enumerate() {
        let first = number * group;
        let request = |(image, target): (usize, &Target)| Request { image, target: *target, seed };
        let requests: Vec<Request> = targets.iter().enumerate().map(request).collect();
        let images = &images[first * len..][..targets.len() * len];
        made.extend(answer(explainer, images, &requests, (first_row + first) as u32, &bar)?);
    }
    bar.finish_and_clear();
    Ok(made)
}

/// Answers `requests` about `images` \[N,C,H,W\], in their order, with noise of rows from `first_row` on; `bar` shows the steps.
fn answer(
    explainer: &mut Explainer,
    images: &[f32],
    requests: &[Request],
    first_row: u32,
    bar: &ProgressBar,
) -> Result<Vec<Explanation>> {
    let before = bar.position();
    let mut step = |progress: Progress| {
        // Images that do not reach their target at once take more steps.
        bar.set_length(before + progress.total as u64);
        bar.set_position(before + progress.done as u64);
        go_on()
    };
    pollster::block_on(explainer.explain(images, requests, first_row, Watch::Progress(&mut step)))
}

/// The target of each image by its probabilities \[N,K\]: as wanted, or its second class for `None`.
///
/// # Errors
/// Probabilities that are no numbers.
pub fn targets(wanted: &[Option<Target>], before: &[f32]) -> Result<Vec<Target>> {
    let rows = before.chunks_exact((before.len() / wanted.len().max(1)).max(1));
    let target =
        |(wanted, row): (&Option<Target>, &[f32])| wanted.map_or_else(|| second(row).map(Target::from), Ok);
    wanted.iter().zip(rows).map(target).collect()
}

/// Which noise images are explained with, and how many times.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    /// Of the first answer; of the others the numbers after it.
    pub seed: Seed,
    /// Answers for each image.
    pub variants: usize,
    /// The first image's row of the noise: an image's answer depends on its row and on no other image.
    pub first_row: u32,
}

/// Explains those of `images` \[N,C,H,W\] that are `wanted`, each by its place and with its target; `bar` shows the steps.
///
/// # Errors
/// [`duet::Error::Aborted`] after Ctrl-C; [`duet::Error::NotFinite`] where the strength is too large; device errors.
pub fn explain_towards(
    explainer: &mut Explainer,
    images: &[f32],
    wanted: &[(usize, Target)],
    noise: Noise,
    bar: &ProgressBar,
) -> Result<Vec<Variants>> {
    let seed = |number: usize| Seed(noise.seed.0.wrapping_add(number as u64));
    let requests = wanted.iter().flat_map(|(image, target)| {
        (0..noise.variants).map(move |number| Request { image: *image, target: *target, seed: seed(number) })
    });
    let requests: Vec<Request> = requests.collect();
    let mut made = answer(explainer, images, &requests, noise.first_row, bar)?.into_iter();
    let pixels = explainer.pixels();
    let variants = |_| Variants::of(made.by_ref().take(noise.variants).collect(), pixels);
    Ok(wanted.iter().map(variants).collect())
}

/// A bar for the steps of [`explain_towards`].
pub fn steps(quiet: bool) -> ProgressBar {
    progress(0, 0, "explaining {wide_bar} {pos}/{len} steps {eta}", quiet)
}

#[cfg(test)]
mod tests {
    use super::{Verdict, second, targets};
    use duet::explain::Explanation;
    use duet::model::{Head, Target};

    #[test]
    fn the_second_most_probable_class() {
        assert_eq!(second(&[0.1, 0.6, 0.3]).unwrap(), 2);
        assert_eq!(second(&[0.5, 0.5]).unwrap(), 1, "of equals the first is the decision");
        assert_eq!(second(&[0.0, 0.0, 1.0]).unwrap(), 1);
        let given = Target { class: 0, present: false };
        let found = targets(&[None, Some(given)], &[0.1, 0.6, 0.3, 0.1, 0.6, 0.3]).unwrap();
        assert_eq!(found, [2.into(), given]);
    }

    /// A counterfactual of these probabilities.
    fn made(head: Head, target: Target, before: [f32; 3], after: [f32; 3]) -> Explanation {
        let (reached, moved) = head.reached(&before, &after, target).unwrap();
        Explanation { after: after.to_vec(), reached, moved, ..Explanation::unchanged(&[], target, &before) }
    }

    #[test]
    fn a_counterfactual_is_what_it_was_to_be_or_not() {
        let coat = [0.7, 0.2, 0.1];
        for (target, after, verdict, words) in [
            (1, [0.2, 0.7, 0.1], Verdict::Reached, "reached: Shirt"),
            (1, [0.2, 0.1, 0.7], Verdict::Other, "not reached: Dress instead of Shirt"),
            (1, [0.5, 0.4, 0.1], Verdict::Unchanged, "not reached: still Coat"),
            (0, [0.9, 0.1, 0.0], Verdict::Already, "already Coat: nothing to change"),
            (0, [0.1, 0.9, 0.0], Verdict::Already, "already Coat: nothing to change; what was made is Shirt"),
        ] {
            let names = ["Coat", "Shirt", "Dress"];
            let is = duet::model::argmax(&after, 3).unwrap()[0];
            let made = made(Head::Multiclass, target.into(), coat, after);
            assert_eq!(Verdict::of(Head::Multiclass, &made).unwrap(), verdict);
            assert_eq!(verdict.words(names[target], names[0], names[is]), words);
        }
        // Labels are decided one by one: the most probable one says nothing of the others.
        let labels = |class, present, after: [f32; 3]| {
            let target = Target { class, present };
            Verdict::of(Head::MultiLabel, &made(Head::MultiLabel, target, [0.9, 0.6, 0.2], after)).unwrap()
        };
        assert_eq!(labels(1, true, [0.9, 0.1, 0.1]), Verdict::Already);
        assert_eq!(labels(2, true, [0.9, 0.6, 0.6]), Verdict::Reached);
        assert_eq!(labels(2, true, [0.9, 0.6, 0.4]), Verdict::Unchanged);
        assert_eq!(labels(2, true, [0.9, 0.4, 0.4]), Verdict::Other);
        // One that is reached but takes another label with it is not reached.
        assert_eq!(labels(2, true, [0.9, 0.4, 0.6]), Verdict::Other);
        assert_eq!(labels(1, false, [0.9, 0.4, 0.2]), Verdict::Reached);
        assert_eq!(labels(2, false, [0.9, 0.4, 0.2]), Verdict::Already);
    }
}
