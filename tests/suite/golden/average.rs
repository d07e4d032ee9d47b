//! The weights' moving average, by what it moved: its values alone would not tell one that stays.

use super::fixture::Fixture;
use crate::harness::wide;
use duet::tensor::Tensors;
use std::collections::BTreeMap;

/// How far the share of an average's movement may be from 1.
const MOVEMENT: f64 = 0.05;
/// Elements up to this size have a resolution below half of what an average of rate 0.9999 moves in a step of 1e-4.
const SMALL: f32 = 0.0625;

/// An average of weights followed on the host in double precision.
pub struct Followed {
    rate: f64,
    values: BTreeMap<String, Vec<f64>>,
}

impl Followed {
    pub fn new(rate: f64, start: &Tensors) -> Followed {
        let values = start.iter().map(|(name, t)| (name.clone(), wide(&t.data))).collect();
        Followed { rate, values }
    }

    pub fn step(&mut self, weights: &Tensors) {
        for (name, average) in &mut self.values {
            for (a, w) in average.iter_mut().zip(&weights[name].data) {
                *a = self.rate * *a + (1.0 - self.rate) * f64::from(*w);
            }
        }
    }

    /// What `average` moved from `start` as a share of what it must have moved: the projection of the one movement on the
    /// other, over elements that are small enough to resolve it. 1 where it is right, 0 where it stays.
    fn share(&self, names: &[String], start: &Tensors, average: &Tensors) -> f64 {
        let (mut product, mut square) = (0.0, 0.0);
        for name in names {
            let (start, average) = (&start[name].data, &average[name].data);
            for ((start, average), want) in start.iter().zip(average).zip(&self.values[name]) {
                if start.abs() < SMALL {
                    let want = want - f64::from(*start);
                    product += want * (f64::from(*average) - f64::from(*start));
                    square += want * want;
                }
            }
        }
        product / square
    }
}

#[test]
fn an_average_that_stays_is_noticed() {
    let tensors = |value: f64| -> Tensors {
        let data = (0..1000).map(|i| (value + 5.1e-5 * f64::from(i)) as f32).collect();
        [("w".to_owned(), duet::tensor::HostTensor { shape: vec![1000], data })].into()
    };
    let (start, names) = (tensors(0.001), ["w".to_owned()]);
    let mut followed = Followed::new(0.9999, &start);
    followed.step(&tensors(0.0011));
    assert_eq!(followed.share(&names, &start, &start), 0.0);
    // As f32 holds it, and one that moved twice as far.
    let (right, twice) = (tensors(0.001 + 1e-8), tensors(0.001 + 2e-8));
    assert!((followed.share(&names, &start, &right) - 1.0).abs() < MOVEMENT);
    assert!((followed.share(&names, &start, &twice) - 2.0).abs() < MOVEMENT);
}

/// Compares an average's movement, which the comparison of its values cannot see: in one step a rate of 0.9999 moves less than
/// those are rounded to.
pub fn check_movement(
    fixture: &mut Fixture,
    table: &str,
    names: &[String],
    followed: &Followed,
    [start, average]: [&Tensors; 2],
) {
    let share = followed.share(names, start, average);
    let detail = format!("{table} moved {share:.4} of what it must");
    fixture.ratio(&format!("{table} movement"), (share - 1.0).abs() / MOVEMENT, &detail);
}
