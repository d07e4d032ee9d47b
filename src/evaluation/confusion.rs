//! What a classifier takes images of each class for.

use crate::error::{Error, Result};
use crate::model::UNLABELLED;
use serde::Serialize;

/// Counts of answers by class.
///
/// ```
/// use duet::evaluation::Confusion;
///
/// // Three images of class 0 and one of class 1; one of the first is taken for the second.
/// let found = Confusion::of(&[0, 0, 1, 1], &[0, 0, 0, 1], 2)?;
/// assert_eq!(found.counts, [[2, 1], [0, 1]]);
/// assert_eq!(found.recall(), [Some(2.0 / 3.0), Some(1.0)]);
/// assert_eq!(found.precision(), [Some(1.0), Some(0.5)]);
/// # Ok::<(), duet::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// A row for each true class: how many of its images were taken for each class.
    pub counts: Vec<Vec<u64>>,
}

/// Figures of one class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct OfClass {
    /// Share of its images that are taken for it; `None` where it has none.
    pub recall: Option<f64>,
    /// Share of the images taken for it that are of it; `None` where nothing is.
    pub precision: Option<f64>,
    /// Its images.
    pub images: u64,
}

impl Confusion {
    /// Of no answers yet.
    pub(super) fn new(classes: usize) -> Confusion {
        Confusion { counts: vec![vec![0; classes]; classes] }
    }

    /// Counts answers \[N\] to images of these classes \[N\]; where they do not fit, none of them.
    ///
    /// # Errors
    /// As [`Confusion::of`], but for images without a class.
    pub(super) fn add(&mut self, answers: &[usize], truths: &[u32]) -> Result<()> {
        if answers.len() != truths.len() {
            let detail = format!("{} answers to {} images", answers.len(), truths.len());
            return Err(Error::shape("confusion matrix", detail));
        }
        let classes = self.counts.len();
        let known = || answers.iter().zip(truths).filter(|(_, truth)| **truth != UNLABELLED);
        if let Some((answer, truth)) = known().find(|(a, t)| **a >= classes || **t as usize >= classes) {
            return Err(Error::config("classes", format!("{truth} or {answer} is none of {classes}")));
        }
        for (answer, truth) in known() {
            if let Some(cell) = self.counts.get_mut(*truth as usize).and_then(|row| row.get_mut(*answer)) {
                *cell += 1;
            }
        }
        Ok(())
    }

    /// Of answers \[N\] to images of these classes \[N\]; images without a class ([`UNLABELLED`]) are passed over.
    ///
    /// # Errors
    /// [`Error::Shape`] where those are not one for each; [`Error::Config`] for a class or an answer that is none of `classes`, or where
    /// no image has a class.
    pub fn of(answers: &[usize], truths: &[u32], classes: usize) -> Result<Confusion> {
        let mut found = Confusion::new(classes);
        found.add(answers, truths)?;
        if found.images() == 0 {
            return Err(Error::config("classes", "no image has one: nothing is known to be right"));
        }
        Ok(found)
    }

    /// Images that have a class.
    pub fn images(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// Share of right answers.
    pub fn accuracy(&self) -> f64 {
        self.right().sum::<u64>() as f64 / self.images() as f64
    }

    /// Of each class the share of its images that are taken for it; `None` of one without images.
    pub fn recall(&self) -> Vec<Option<f64>> {
        self.right().zip(&self.counts).map(|(right, row)| ratio(right, row.iter().sum())).collect()
    }

    /// Of each class the share of the images taken for it that are of it; `None` of one that nothing is taken for.
    pub fn precision(&self) -> Vec<Option<f64>> {
        let taken =
            |class: usize| self.counts.iter().map(|row| row.get(class).copied().unwrap_or(0)).sum::<u64>();
        self.right().enumerate().map(|(class, right)| ratio(right, taken(class))).collect()
    }

    /// The figures of each class.
    pub fn per_class(&self) -> Vec<OfClass> {
        let all = self.recall().into_iter().zip(self.precision()).zip(&self.counts);
        all.map(|((recall, precision), row)| OfClass { recall, precision, images: row.iter().sum() })
            .collect()
    }

    /// Right answers of each class.
    fn right(&self) -> impl Iterator<Item = u64> {
        self.counts.iter().enumerate().map(|(class, row)| row.get(class).copied().unwrap_or(0))
    }
}

fn ratio(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| part as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::golden::{figures, numbers};

    #[test]
    fn a_table_as_scikit_learn_has_it() {
        let want = figures();
        let answers = crate::model::argmax(&numbers(&want["logits"]), 5).unwrap();
        let truths: Vec<u32> = numbers(&want["labels"]).into_iter().map(|label| label as u32).collect();
        let got = Confusion::of(&answers, &truths, 5).unwrap();
        assert_eq!(serde_json::json!(got.counts), want["confusion"]);
        assert!((got.accuracy() - want["calibration"]["accuracy"].as_f64().unwrap()).abs() < 1e-12);
    }

    #[test]
    fn seven_images_by_hand() {
        let truths = [0, 0, 0, 1, 1, 2, UNLABELLED];
        let found = Confusion::of(&[0, 0, 1, 1, 0, 1, 2], &truths, 4).unwrap();
        assert_eq!(found.counts, [[2, 1, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]);
        assert_eq!((found.images(), found.accuracy()), (6, 0.5));
        assert_eq!(found.recall(), [Some(2.0 / 3.0), Some(0.5), Some(0.0), None]);
        assert_eq!(found.precision(), [Some(2.0 / 3.0), Some(1.0 / 3.0), None, None]);
        let last = OfClass { recall: None, precision: None, images: 0 };
        assert_eq!((found.per_class()[0].images, found.per_class()[3]), (3, last));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let fails =
            |answers: &[usize], truths: &[u32]| Confusion::of(answers, truths, 2).unwrap_err().to_string();
        assert!(fails(&[0], &[0, 1]).contains("1 answers"));
        assert!(fails(&[0], &[2]).contains("none of 2") && fails(&[2], &[0]).contains("none of 2"));
        assert!(fails(&[0], &[UNLABELLED]).contains("no image") && fails(&[], &[]).contains("no image"));
    }
}
