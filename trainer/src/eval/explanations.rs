//! Counterfactuals of many images, and what became of each.

use crate::io::output::progress;
use crate::io::session::go_on;
use duet::Result;
use duet::explain::{Explainer, Explanation};
use duet::model::{Head, ModelConfig, argmax};
use duet::sampling::Watch;
use serde::Serialize;
use std::time::Instant;

/// The second most probable class of a row.
pub fn second(row: &[f32]) -> Result<usize> {
    let first = argmax(row, row.len())?.first().copied().unwrap_or(0);
    let others = (0..row.len()).filter(|c| *c != first);
    Ok(others.max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap_or(first))
}

/// Whether a counterfactual is what it was to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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
    /// Of the probabilities of an image before and after. The decision is the most probable class; of a multi-label model each
    /// label is decided for itself, at one half.
    pub fn of(head: Head, target: usize, before: &[f32], after: &[f32]) -> Result<Verdict> {
        let decided = |row: &[f32]| -> Result<Vec<bool>> {
            let best = argmax(row, row.len())?;
            let is = |(class, p): (usize, &f32)| match head {
                Head::Multiclass => best.first() == Some(&class),
                Head::MultiLabel => *p > 0.5,
            };
            Ok(row.iter().enumerate().map(is).collect())
        };
        let (was, is) = (decided(before)?, decided(after)?);
        Ok(match (was.get(target), is.get(target)) {
            (Some(true), _) => Verdict::Already,
            (_, Some(true)) => Verdict::Reached,
            _ if was == is => Verdict::Unchanged,
            _ => Verdict::Other,
        })
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

/// The probabilities before and after for people: the decision's, then in brackets the others of both decisions and the target,
/// the more probable first. `classes` are the target and the decisions before and after.
pub fn shares(config: &ModelConfig, classes: [usize; 3], before: &[f32], after: &[f32]) -> [String; 2] {
    let [_, was, is] = classes;
    [(was, before), (is, after)].map(|(decision, row)| {
        let share = |class: usize| format!("{} {:.1} %", config.class_name(class), 100.0 * row[class]);
        let mut others: Vec<usize> = classes.into_iter().filter(|class| *class != decision).collect();
        others.sort_by(|a, b| row[*b].total_cmp(&row[*a]).then(a.cmp(b)));
        others.dedup();
        match others[..] {
            [] => share(decision),
            _ => {
                let others: Vec<String> = others.into_iter().map(share).collect();
                format!("{} ({})", share(decision), others.join(", "))
            }
        }
    })
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
    quiet: bool,
) -> Result<Made> {
    let (count, batch) = (wanted.len(), explainer.batch());
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
    use super::{Verdict, second, shares};
    use duet::model::{Head, ModelConfig};

    #[test]
    fn the_second_most_probable_class() {
        assert_eq!(second(&[0.1, 0.6, 0.3]).unwrap(), 2);
        assert_eq!(second(&[0.5, 0.5]).unwrap(), 1, "of equals the first is the decision");
        assert_eq!(second(&[0.0, 0.0, 1.0]).unwrap(), 1);
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
            assert_eq!(Verdict::of(Head::Multiclass, target, &coat, &after).unwrap(), verdict);
            assert_eq!(verdict.words(names[target], names[0], names[is]), words);
        }
        // Labels are decided one by one: the most probable one says nothing of the others.
        let labels = |target, after: [f32; 3]| {
            Verdict::of(Head::MultiLabel, target, &[0.9, 0.6, 0.2], &after).unwrap()
        };
        assert_eq!(labels(1, [0.9, 0.1, 0.1]), Verdict::Already);
        assert_eq!(labels(2, [0.9, 0.6, 0.6]), Verdict::Reached);
        assert_eq!(labels(2, [0.9, 0.6, 0.4]), Verdict::Unchanged);
        assert_eq!(labels(2, [0.9, 0.4, 0.4]), Verdict::Other);
    }

    #[test]
    fn the_target_s_share_before_and_the_old_class_s_after_are_shown() {
        let class_names = ["Coat", "Shirt", "Dress"].map(String::from).to_vec();
        let config = ModelConfig { num_classes: 3, class_names, ..ModelConfig::default() };
        let shares = |classes, after| shares(&config, classes, &[0.9, 0.03, 0.07], after);
        assert_eq!(
            shares([1, 0, 1], &[0.12, 0.8, 0.08]),
            ["Coat 90.0 % (Shirt 3.0 %)", "Shirt 80.0 % (Coat 12.0 %)"]
        );
        assert_eq!(
            shares([1, 0, 2], &[0.3, 0.2, 0.5]),
            ["Coat 90.0 % (Dress 7.0 %, Shirt 3.0 %)", "Dress 50.0 % (Coat 30.0 %, Shirt 20.0 %)"]
        );
        assert_eq!(
            shares([1, 0, 0], &[0.6, 0.3, 0.1]),
            ["Coat 90.0 % (Shirt 3.0 %)", "Coat 60.0 % (Shirt 30.0 %)"]
        );
        assert_eq!(shares([0, 0, 0], &[0.98, 0.01, 0.01]), ["Coat 90.0 %", "Coat 98.0 %"]);
    }
}
