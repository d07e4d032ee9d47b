//! The head: what the classifier answers, and everything that follows from it. Labels in and out, the loss, probabilities,
//! how well an answer agrees with what was wanted.

use crate::error::{Error, Result};
use crate::graph::{Graph, NodeId, Place};
use crate::tensor::pad_rows;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Class of an image that has none: the classifier's loss skips it.
pub const UNLABELLED: u32 = u32::MAX;

/// What the classifier head answers.
///
/// ```
/// use duet::model::Head;
///
/// // Logits [N,K] of one image and two classes: one of them, or each of them for itself.
/// let logits = [2.0, 2.0];
/// assert_eq!(Head::Multiclass.probabilities(&logits, 2)?, [0.5, 0.5]);
/// assert!(Head::MultiLabel.probabilities(&logits, 2)?.iter().all(|p| (p - 0.881).abs() < 1e-3));
/// // What is no number is no answer.
/// assert!(Head::Multiclass.probabilities(&[f32::NAN, 1.0], 2).is_err());
/// # Ok::<(), duet::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// One of `num_classes` (softmax, cross-entropy).
    Multiclass,
    /// Any of `num_classes` (sigmoid, binary cross-entropy).
    MultiLabel,
}

/// A decision that is to change: what an image is to become.
///
/// ```
/// use duet::model::{Head, Target};
///
/// // Towards class 7; of a multi-label model: label 7 as well, or no longer.
/// assert_eq!(Target::from(7), Target { class: 7, present: true });
/// let without = Target { class: 0, present: false };
/// // Labels of one image: the first was there and is not any more, and the second one changed with it.
/// let (reached, moved) = Head::MultiLabel.reached(&[0.9, 0.2], &[0.1, 0.8], without)?;
/// assert!(!reached && moved == 1);
/// # Ok::<(), duet::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// The class, or the label.
    pub class: usize,
    /// Of a label: it is to be there (`true`), or no longer (`false`). A class is always `true`.
    pub present: bool,
}

impl From<usize> for Target {
    fn from(class: usize) -> Target {
        Target { class, present: true }
    }
}

impl Target {
    /// How probable it is of an image's probabilities \[K\]; 0 of a class that is not there.
    pub fn probability(self, row: &[f32]) -> f32 {
        let p = row.get(self.class).copied().unwrap_or(0.0);
        if self.present { p } else { 1.0 - p }
    }
}

/// What images are, or are to become: of the kind that a [`Head`] answers.
///
/// ```
/// # fn main() -> duet::Result<()> {
/// use duet::model::{Labels, UNLABELLED};
///
/// // Three images, the last one of unknown class.
/// let classes = Labels::Classes(vec![7, 9, UNLABELLED]);
/// assert_eq!(classes.rows(1..3, 10)?, Labels::Classes(vec![9, UNLABELLED]));
/// // Two images with any of three labels.
/// let several = Labels::MultiLabel(vec![1.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
/// assert_eq!(several.len(3), 2);
/// assert_eq!(several.pick(&[1], 3)?, Labels::MultiLabel(vec![0.0, 0.0, 1.0]));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Labels {
    /// A class each; [`UNLABELLED`] for none.
    Classes(Vec<u32>),
    /// 0 to 1 for each of K labels, row after row \[N,K\].
    MultiLabel(Vec<f32>),
}

/// How the losses of several labels become one number of a sample; a single class has but one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcrossLabels {
    /// Their mean: the loss of training.
    Mean,
    /// Their sum: minus the log probability of all labels together, whose gradient guides.
    Sum,
}

impl Labels {
    /// The rows of `range`, of labels of `classes` classes.
    ///
    /// # Errors
    /// [`Error::Shape`] where there are not so many.
    pub fn rows(&self, range: Range<usize>, classes: usize) -> Result<Labels> {
        let missing =
            || Error::shape("labels", format!("{} given, rows {range:?} asked for", self.len(classes)));
        match self {
            Labels::Classes(list) => {
                list.get(range.clone()).map(|part| Labels::Classes(part.to_vec())).ok_or_else(missing)
            }
            Labels::MultiLabel(list) => {
                let ends = [range.start, range.end].map(|row| row.checked_mul(classes));
                let [Some(start), Some(end)] = ends else { return Err(missing()) };
                list.get(start..end).map(|part| Labels::MultiLabel(part.to_vec())).ok_or_else(missing)
            }
        }
    }

    /// The rows listed, of labels of `classes` classes.
    ///
    /// # Errors
    /// [`Error::Shape`] where there are not so many.
    pub fn pick(&self, rows: &[usize], classes: usize) -> Result<Labels> {
        let mut list = match self {
            Labels::Classes(_) => Labels::Classes(Vec::with_capacity(rows.len())),
            Labels::MultiLabel(_) => Labels::MultiLabel(Vec::new()),
        };
        for row in rows {
            match (&mut list, self.rows(*row..row.saturating_add(1), classes)?) {
                (Labels::Classes(list), Labels::Classes(one)) => list.extend(one),
                (Labels::MultiLabel(list), Labels::MultiLabel(one)) => list.extend(one),
                _ => {}
            }
        }
        Ok(list)
    }

    /// How many of the images have a label: all but those of no class. Of several labels every image has all.
    pub fn labelled(&self, classes: usize) -> usize {
        match self {
            Labels::Classes(list) => list.iter().filter(|class| **class != UNLABELLED).count(),
            Labels::MultiLabel(_) => self.len(classes),
        }
    }

    /// Images they are of, at `classes` classes.
    pub fn len(&self, classes: usize) -> usize {
        match self {
            Labels::Classes(list) => list.len(),
            Labels::MultiLabel(list) => list.len() / classes.max(1),
        }
    }
}

impl Head {
    /// The leaf of labels of `batch` images in the buffer `name`: classes \[N\] as u32 words, or targets \[N,K\].
    pub fn labels(self, graph: &mut Graph, name: &str, batch: usize, classes: usize) -> NodeId {
        match self {
            Head::Multiclass => graph.leaf(&[batch], Place::whole(name)),
            Head::MultiLabel => graph.leaf(&[batch, classes], Place::whole(name)),
        }
    }

    /// Loss \[N\] of logits \[N,K\] against [`Head::labels`]: cross-entropy, or binary cross-entropies across the labels.
    ///
    /// # Errors
    /// [`Error::Shape`] where the two do not fit.
    pub fn loss(
        self,
        graph: &mut Graph,
        logits: NodeId,
        labels: NodeId,
        across: AcrossLabels,
    ) -> Result<NodeId> {
        match self {
            Head::Multiclass => graph.cross_entropy(logits, labels),
            Head::MultiLabel => graph.bce(logits, labels, across == AcrossLabels::Mean),
        }
    }

    /// The bytes of [`Head::labels`]' buffer for `count` images. Images without a class are allowed.
    ///
    /// # Errors
    /// [`Error::Config`] for labels of the other kind, a class out of range, a target outside 0 to 1; [`Error::Shape`] for
    /// another number of them.
    pub fn pack(self, labels: &Labels, count: usize, classes: usize) -> Result<Vec<u8>> {
        self.check(labels, count, classes)?;
        Ok(match labels {
            Labels::Classes(list) => bytemuck::cast_slice(list).to_vec(),
            Labels::MultiLabel(list) => bytemuck::cast_slice(&pad_rows(list, classes)).to_vec(),
        })
    }

    /// Checks the labels of `count` images, as [`Head::pack`] does.
    pub(crate) fn check(self, labels: &Labels, count: usize, classes: usize) -> Result<()> {
        match (self, labels) {
            (Head::Multiclass, Labels::Classes(list)) => {
                if list.len() != count {
                    let detail = format!("{} given for {count} images", list.len());
                    return Err(Error::shape("labels", detail));
                }
                let bad = list.iter().find(|class| **class as usize >= classes && **class != UNLABELLED);
                bad.map_or(Ok(()), |bad| Err(out_of_range(*bad as usize, classes)))
            }
            (Head::MultiLabel, Labels::MultiLabel(list)) => {
                if Some(list.len()) != count.checked_mul(classes) {
                    let detail =
                        format!("{} targets given for {count} images of {classes} labels", list.len());
                    return Err(Error::shape("labels", detail));
                }
                match list.iter().find(|target| !(0.0..=1.0).contains(*target)) {
                    Some(bad) => Err(Error::config("labels", format!("must be from 0 to 1, one is {bad}"))),
                    None => Ok(()),
                }
            }
            (Head::Multiclass, _) => Err(Error::config("labels", "this model has one class per image")),
            (Head::MultiLabel, _) => {
                Err(Error::config("labels", "this model has any number of labels per image"))
            }
        }
    }

    /// Probabilities of logits \[N,K\]: softmax over the classes, or the sigmoid of each label.
    ///
    /// # Errors
    /// [`Error::NotFinite`] naming the first image of whose logits one is NaN or infinite; [`Error::Shape`] where they are no
    /// whole rows.
    pub fn probabilities(self, logits: &[f32], classes: usize) -> Result<Vec<f32>> {
        let rows = answers(logits, classes)?;
        Ok(match self {
            Head::MultiLabel => logits.iter().map(|v| 1.0 / (1.0 + (-v).exp())).collect(),
            Head::Multiclass => rows
                .flat_map(|row| {
                    let largest = row.iter().fold(f32::MIN, |m, v| m.max(*v));
                    let powers: Vec<f32> = row.iter().map(|v| (v - largest).exp()).collect();
                    let sum: f32 = powers.iter().sum();
                    powers.into_iter().map(move |p| p / sum)
                })
                .collect(),
        })
    }

    /// How probable it is that each image is what `wanted` says, given probabilities \[N,K\]: that of its class (1 where it
    /// has none), or of several labels their mean agreement.
    ///
    /// # Errors
    /// As [`Head::pack`] of `wanted`, and as [`Head::probabilities`].
    pub fn agreement(self, probabilities: &[f32], wanted: &Labels, classes: usize) -> Result<Vec<f32>> {
        let rows = answers(probabilities, classes)?;
        self.check(wanted, rows.len(), classes)?;
        Ok(match wanted {
            Labels::Classes(list) => {
                rows.zip(list).map(|(row, class)| row.get(*class as usize).copied().unwrap_or(1.0)).collect()
            }
            Labels::MultiLabel(list) => rows
                .zip(list.chunks_exact(classes))
                .map(|(row, wanted)| {
                    let agree = |(p, w): (&f32, &f32)| if *w > 0.5 { *p } else { 1.0 - p };
                    row.iter().zip(wanted).map(agree).sum::<f32>() / classes as f32
                })
                .collect(),
        })
    }

    /// What images are to become to be what `wanted` says, given their probabilities \[N,K\] now: that class, or the
    /// labels as they are decided now with that one added or taken away.
    ///
    /// # Errors
    /// [`Error::Config`] for a class out of range, and for one to be taken away of images that have one class;
    /// [`Error::Shape`] where the probabilities are not of as many images.
    pub fn toward(self, now: &[f32], wanted: &[Target], classes: usize) -> Result<Labels> {
        if let Some(target) = wanted.iter().find(|target| target.class >= classes) {
            return Err(out_of_range(target.class, classes));
        }
        if self == Head::Multiclass {
            if wanted.iter().any(|target| !target.present) {
                let detail =
                    "an image has one class, which cannot be taken away: name the class it is to become";
                return Err(Error::config("target", detail));
            }
            let number = |target: &Target| {
                u32::try_from(target.class).map_err(|_| out_of_range(target.class, classes))
            };
            return Ok(Labels::Classes(wanted.iter().map(number).collect::<Result<_>>()?));
        }
        if Some(now.len()) != wanted.len().checked_mul(classes) {
            let detail = format!("{} probabilities of {} images", now.len(), wanted.len());
            return Err(Error::shape("labels", detail));
        }
        let mut labels: Vec<f32> = now.iter().map(|p| f32::from(u8::from(*p > 0.5))).collect();
        for (row, target) in labels.chunks_mut(classes.max(1)).zip(wanted) {
            if let Some(label) = row.get_mut(target.class) {
                *label = f32::from(u8::from(target.present));
            }
        }
        Ok(Labels::MultiLabel(labels))
    }

    /// Whether an image whose probabilities \[K\] were `before` and are `after` has become what `target` says, and how many
    /// other labels' decisions changed with it: it has where none did. A class is decided as the most probable one.
    ///
    /// # Errors
    /// As [`Head::probabilities`].
    pub fn reached(self, before: &[f32], after: &[f32], target: Target) -> Result<(bool, usize)> {
        let classes = after.len();
        let rows = [answers(before, classes)?.len(), answers(after, classes)?.len()];
        if rows != [1, 1] {
            return Err(Error::shape("reached", format!("{rows:?} images, not one before and one after")));
        }
        let (was, is) = (self.decisions(before)?, self.decisions(after)?);
        let reached = is.get(target.class).is_some_and(|is| *is == target.present);
        if self == Head::Multiclass {
            return Ok((reached, 0));
        }
        let moved =
            was.iter().zip(&is).enumerate().filter(|(label, (was, is))| *label != target.class && was != is);
        let moved = moved.count();
        Ok((reached && moved == 0, moved))
    }

    /// Which classes an image of these probabilities \[K\] is decided to be of: the most probable one, or each label beyond one
    /// half.
    ///
    /// # Errors
    /// As [`Head::probabilities`].
    pub fn decisions(self, row: &[f32]) -> Result<Vec<bool>> {
        let best = argmax(row, row.len())?;
        let is = |(class, p): (usize, &f32)| match self {
            Head::Multiclass => best == [class],
            Head::MultiLabel => *p > 0.5,
        };
        Ok(row.iter().enumerate().map(is).collect())
    }
}

fn out_of_range(class: usize, classes: usize) -> Error {
    Error::config("class", format!("must be from 0 to {}, is {class}", classes.saturating_sub(1)))
}

/// The rows of a classifier's answers \[N,K\], of which every number must be finite.
fn answers(rows: &[f32], columns: usize) -> Result<std::slice::ChunksExact<'_, f32>> {
    if columns == 0 || !rows.len().is_multiple_of(columns) {
        let detail = format!("{} numbers are no whole rows of {columns}", rows.len());
        return Err(Error::shape("classifier", detail));
    }
    match rows.iter().position(|value| !value.is_finite()) {
        Some(place) => {
            let image = place / columns;
            let detail =
                format!("the classifier's answer for image {image} (counted from 0) is NaN or infinite");
            Err(Error::NotFinite { detail })
        }
        None => Ok(rows.chunks_exact(columns)),
    }
}

/// The most probable class of each row of \[N,K\]; of equals the first.
///
/// # Errors
/// As [`Head::probabilities`]: where a number is NaN no class is the most probable one.
pub fn argmax(rows: &[f32], columns: usize) -> Result<Vec<usize>> {
    let best = |row: &[f32]| {
        let better = |best: (usize, f32), (i, value): (usize, &f32)| {
            if *value > best.1 { (i, *value) } else { best }
        };
        row.iter().enumerate().fold((0, f32::NEG_INFINITY), better).0
    };
    Ok(answers(rows, columns)?.map(best).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_packed_and_bad_ones_named() {
        let classes = Labels::Classes(vec![2, UNLABELLED, 0]);
        assert_eq!(Head::Multiclass.pack(&classes, 3, 3).unwrap().len(), 12);
        let cases = [
            (Head::Multiclass, classes.clone(), 2, "3 given for 2"),
            (Head::Multiclass, Labels::Classes(vec![3]), 1, "from 0 to 2, is 3"),
            (Head::Multiclass, Labels::MultiLabel(vec![0.0; 3]), 1, "one class per image"),
            (Head::MultiLabel, classes.clone(), 3, "any number of labels"),
            (Head::MultiLabel, Labels::MultiLabel(vec![0.0; 4]), 1, "4 targets given"),
            (Head::MultiLabel, Labels::MultiLabel(vec![0.0, f32::NAN, 1.0]), 1, "one is NaN"),
        ];
        for (head, labels, count, words) in cases {
            let error = head.pack(&labels, count, 3).unwrap_err().to_string();
            assert!(error.contains(words), "{words}: {error}");
        }
        assert_eq!(Head::MultiLabel.pack(&Labels::MultiLabel(vec![1.0; 6]), 2, 3).unwrap().len(), 32);
        assert_eq!(classes.rows(1..3, 3).unwrap(), Labels::Classes(vec![UNLABELLED, 0]));
        assert!(classes.rows(1..4, 3).is_err() && classes.len(3) == 3);
        let several = Labels::MultiLabel(vec![0.0, 1.0, 1.0, 0.0]);
        assert_eq!(several.rows(1..2, 2).unwrap(), Labels::MultiLabel(vec![1.0, 0.0]));
    }

    #[test]
    fn agreement_and_targets() {
        let row = [0.7, 0.2, 0.1];
        assert_eq!(Head::Multiclass.agreement(&row, &Labels::Classes(vec![1]), 3).unwrap(), [0.2]);
        assert_eq!(Head::Multiclass.toward(&row, &[2.into()], 3).unwrap(), Labels::Classes(vec![2]));
        let wanted = Head::MultiLabel.toward(&row, &[1.into()], 3).unwrap();
        assert_eq!(wanted, Labels::MultiLabel(vec![1.0, 1.0, 0.0]));
        let agreed = Head::MultiLabel.agreement(&row, &wanted, 3).unwrap();
        assert!((agreed[0] - (0.7 + 0.2 + 0.9) / 3.0).abs() < 1e-6);
        assert!(
            Head::Multiclass.toward(&row, &[3.into()], 3).is_err()
                && Head::MultiLabel.toward(&row, &[0.into(); 2], 3).is_err()
        );
        assert_eq!(argmax(&[0.5, 0.5, 0.1, 0.2], 2).unwrap(), [0, 1]);
        let without = Target { class: 0, present: false };
        let taken = Head::MultiLabel.toward(&row, &[without], 3).unwrap();
        assert_eq!(taken, Labels::MultiLabel(vec![0.0, 0.0, 0.0]));
        let error = Head::Multiclass.toward(&row, &[without], 3).unwrap_err().to_string();
        assert!(error.contains("cannot be taken away"), "{error}");
    }

    #[test]
    fn a_target_is_reached_where_nothing_else_moved() {
        let before = [0.7, 0.2, 0.1];
        let reached = |head: Head, after: [f32; 3], target| head.reached(&before, &after, target).unwrap();
        assert_eq!(reached(Head::Multiclass, [0.1, 0.5, 0.4], 1.into()), (true, 0));
        assert_eq!(reached(Head::Multiclass, [0.1, 0.4, 0.5], 1.into()), (false, 0));
        assert_eq!(reached(Head::MultiLabel, [0.7, 0.6, 0.1], 1.into()), (true, 0));
        assert_eq!(reached(Head::MultiLabel, [0.4, 0.6, 0.6], 1.into()), (false, 2));
        assert_eq!(
            reached(Head::MultiLabel, [0.4, 0.2, 0.1], Target { class: 0, present: false }),
            (true, 0)
        );
        assert_eq!(
            reached(Head::MultiLabel, [0.6, 0.2, 0.1], Target { class: 0, present: false }),
            (false, 0)
        );
        assert!(Head::MultiLabel.reached(&before, &[0.1, 0.2, f32::NAN], 0.into()).is_err());
    }

    #[test]
    fn what_is_no_number_is_no_answer() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let rows = [0.5, 0.5, 0.1, bad];
            for head in [Head::Multiclass, Head::MultiLabel] {
                let error = head.probabilities(&rows, 2).unwrap_err();
                assert!(matches!(error, Error::NotFinite { .. }) && error.to_string().contains("image 1"));
            }
            assert!(matches!(argmax(&rows, 2), Err(Error::NotFinite { .. })));
            let wanted = Labels::Classes(vec![0, 1]);
            assert!(matches!(Head::Multiclass.agreement(&rows, &wanted, 2), Err(Error::NotFinite { .. })));
        }
    }
}
