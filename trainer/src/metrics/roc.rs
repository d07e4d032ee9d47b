//! How well a score tells two kinds apart, whatever threshold one would choose: area under the receiver operating
//! characteristic, and the share of false alarms at a share of hits.

use duet::{Error, Result};

/// Refuses lists that say nothing.
fn check(positives: &[f64], negatives: &[f64]) -> Result<()> {
    if positives.is_empty() || negatives.is_empty() {
        let detail = format!("of {} and {}: both kinds need one", positives.len(), negatives.len());
        return Err(Error::config("scores", detail));
    }
    match positives.iter().chain(negatives).find(|score| score.is_nan()) {
        Some(_) => Err(Error::config("scores", "one is no number (NaN): it has no rank")),
        None => Ok(()),
    }
}

/// AUROC: how probable it is that a positive's score is above a negative's, a tie counting half; ½ where the score tells
/// nothing. Exact, by ranks (Mann and Whitney's U over the number of pairs).
///
/// # Errors
/// [`Error::Config`] for an empty list and for NaN.
pub fn auroc(positives: &[f64], negatives: &[f64]) -> Result<f64> {
    check(positives, negatives)?;
    let marked = |scores: &[f64], positive: bool| scores.iter().map(|s| (*s, positive)).collect::<Vec<_>>();
    let mut all = [marked(positives, true), marked(negatives, false)].concat();
    all.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(std::cmp::Ordering::Equal));
    // Twice the pairs that are won, ties counting one: integers, so that nothing is rounded.
    let (mut won, mut below) = (0u64, 0u64);
    for tied in all.chunk_by(|a, b| a.0 == b.0) {
        let of_positives = tied.iter().filter(|(_, positive)| *positive).count() as u64;
        let of_negatives = tied.len() as u64 - of_positives;
        won += of_positives * (2 * below + of_negatives);
        below += of_negatives;
    }
    Ok(won as f64 / (2.0 * positives.len() as f64 * negatives.len() as f64))
}

/// The share of negatives at or above the highest threshold that at least the share `hits` (0 to 1) of the positives reach; of
/// 0.95 it is known as FPR95.
///
/// # Errors
/// As [`auroc`]; a share outside of 0 to 1.
pub fn false_positives_at(hits: f64, positives: &[f64], negatives: &[f64]) -> Result<f64> {
    check(positives, negatives)?;
    if !(0.0..=1.0).contains(&hits) {
        return Err(Error::config("hits", format!("must be from 0 to 1, is {hits}")));
    }
    let mut sorted = positives.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    // 0.95 · 20 is a little more than 19 in binary, and still 19.
    let needed = (hits * sorted.len() as f64 - 1e-9).ceil().max(1.0) as usize;
    let threshold = sorted[needed.min(sorted.len()) - 1];
    let false_alarms = negatives.iter().filter(|score| **score >= threshold).count();
    Ok(false_alarms as f64 / negatives.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_by_hand() {
        // Pairs won: 3 of (3 above 1, 2, 2.5), 1 of (2 above 1), half of the tie with 2; of six.
        assert_eq!(auroc(&[3.0, 2.0], &[1.0, 2.0, 2.5]).unwrap(), 4.5 / 6.0);
        assert_eq!(auroc(&[1.0, 2.0], &[-1.0, 0.0]).unwrap(), 1.0);
        assert_eq!(auroc(&[-1.0, 0.0], &[1.0, 2.0]).unwrap(), 0.0);
        assert_eq!(auroc(&[7.0; 5], &[7.0; 3]).unwrap(), 0.5, "a constant tells nothing");
        assert_eq!(auroc(&[0.0], &[-0.0]).unwrap(), 0.5, "the two zeros are equal");
        assert_eq!(auroc(&[f64::INFINITY], &[3.0]).unwrap(), 1.0);
    }

    #[test]
    fn ranks_are_all_pairs() {
        let score = |i: u32| f64::from(i * 7919 % 23);
        let positives: Vec<f64> = (0..40).map(|i| score(i) + 2.0).collect();
        let negatives: Vec<f64> = (40..97).map(score).collect();
        let mut won = 0.0;
        for p in &positives {
            for n in &negatives {
                won += if p > n { 1.0 } else { 0.5 * f64::from(u8::from(p == n)) };
            }
        }
        assert_eq!(auroc(&positives, &negatives).unwrap(), won / (40.0 * 57.0));
    }

    #[test]
    fn false_alarms_by_hand() {
        // Nineteen of twenty positives reach 1: of the negatives 1 and 5 do too.
        let positives: Vec<f64> = (0..20).map(f64::from).collect();
        let negatives = [-3.0, 0.0, 1.0, 5.0];
        assert_eq!(false_positives_at(0.95, &positives, &negatives).unwrap(), 0.5);
        assert_eq!(false_positives_at(1.0, &positives, &negatives).unwrap(), 0.75);
        assert_eq!(false_positives_at(0.0, &positives, &negatives).unwrap(), 0.0);
        assert_eq!(false_positives_at(0.95, &[2.0, 2.0], &[2.0, 1.0]).unwrap(), 0.5, "a tie is an alarm");
    }

    #[test]
    fn what_has_no_rank_is_refused() {
        for (positives, negatives) in [(&[][..], &[1.0][..]), (&[1.0], &[]), (&[1.0], &[f64::NAN])] {
            assert!(auroc(positives, negatives).unwrap_err().to_string().contains("scores"));
            assert!(false_positives_at(0.95, positives, negatives).is_err());
        }
        assert!(false_positives_at(95.0, &[1.0], &[1.0]).unwrap_err().to_string().contains("0 to 1"));
    }
}
