//! What a classifier takes images of each class for.

use duet::model::UNLABELLED;
use duet::{Error, Result};
use serde::Serialize;

/// Counts of answers by class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// A row for each true class: how many of its images were taken for each class.
    pub counts: Vec<Vec<u64>>,
}

impl Confusion {
    /// Of answers \[N\] to images of these classes \[N\]; images without a class ([`UNLABELLED`]) are passed over.
    ///
    /// # Errors
    /// [`Error::Shape`] where those are not one for each; [`Error::Config`] for a class or an answer that is none of `classes`, or where
    /// no image has a class.
    pub fn of(answers: &[usize], truths: &[u32], classes: usize) -> Result<Confusion> {
        if answers.len() != truths.len() {
            let detail = format!("{} answers to {} images", answers.len(), truths.len());
            return Err(Error::shape("confusion matrix", detail));
        }
        let mut counts = vec![vec![0; classes]; classes];
        for (answer, truth) in answers.iter().zip(truths).filter(|(_, truth)| **truth != UNLABELLED) {
            let cell = counts.get_mut(*truth as usize).and_then(|row| row.get_mut(*answer));
            let none = || Error::config("classes", format!("{truth} or {answer} is none of {classes}"));
            *cell.ok_or_else(none)? += 1;
        }
        if counts.iter().flatten().all(|count| *count == 0) {
            return Err(Error::config("classes", "no image has one: nothing is known to be right"));
        }
        Ok(Confusion { counts })
    }

    /// Images that have a class.
    pub fn images(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// Share of right answers.
    pub fn accuracy(&self) -> f64 {
        let right: u64 = self.counts.iter().enumerate().map(|(class, row)| row[class]).sum();
        right as f64 / self.images() as f64
    }

    /// Of each class the share of its images that are taken for it (recall); `None` of one without images.
    pub fn per_class(&self) -> Vec<Option<f64>> {
        let share = |(class, row): (usize, &Vec<u64>)| ratio(row[class], row.iter().sum());
        self.counts.iter().enumerate().map(share).collect()
    }

    /// Of each class the share of the images taken for it that are of it; `None` of one that nothing is taken for.
    pub fn precision(&self) -> Vec<Option<f64>> {
        let share =
            |class: usize| ratio(self.counts[class][class], self.counts.iter().map(|row| row[class]).sum());
        (0..self.counts.len()).map(share).collect()
    }
}

fn ratio(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| part as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::golden::{figures, numbers};

    #[test]
    fn a_table_as_scikit_learn_has_it() {
        let want = figures();
        let answers = duet::model::argmax(&numbers(&want["logits"]), 5).unwrap();
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
        assert_eq!(found.per_class(), [Some(2.0 / 3.0), Some(0.5), Some(0.0), None]);
        assert_eq!(found.precision(), [Some(2.0 / 3.0), Some(1.0 / 3.0), None, None]);
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
