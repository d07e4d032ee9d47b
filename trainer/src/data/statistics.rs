//! What the images of a data set are as numbers: levels, and images that are there twice.

use super::Dataset;
use duet::model::Labels;
use std::collections::HashMap;

/// Values of a channel over all images and pixels, in 0 (black) to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, over all values (divided by their number).
    pub deviation: f64,
}

/// Mean and spread of each channel; none of no images.
pub fn spread(set: &Dataset) -> Vec<Spread> {
    let plane = set.size * set.size;
    let count = (set.len() * plane) as f64;
    // Whole numbers: exact up to 2^48 pixels.
    let mut sums = vec![(0u64, 0u64); set.channels];
    for image in set.each() {
        for ((sum, squares), levels) in sums.iter_mut().zip(image.chunks_exact(plane.max(1))) {
            *sum += levels.iter().map(|level| u64::from(*level)).sum::<u64>();
            *squares += levels.iter().map(|level| u64::from(*level).pow(2)).sum::<u64>();
        }
    }
    if count == 0.0 {
        return Vec::new();
    }
    let of = |(sum, squares): (u64, u64)| {
        let mean = sum as f64 / count;
        let variance = (squares as f64 / count - mean * mean).max(0.0);
        Spread { mean: mean / 255.0, deviation: variance.sqrt() / 255.0 }
    };
    sums.into_iter().map(of).collect()
}

/// Images that are others, too: equal in every pixel that a model sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    /// The row of each, and the first row that it equals.
    pub pairs: Vec<[usize; 2]>,
    /// Those whose class or labels are not the same.
    pub of_other_label: usize,
}

/// The images that equal an earlier one of the same part.
pub fn copies_within(set: &Dataset) -> Copies {
    let mut first = HashMap::new();
    let mut pairs = Vec::new();
    for (row, hash) in hashes(set).enumerate() {
        match first.get(&hash) {
            Some(earlier) => pairs.push([row, *earlier]),
            None => drop(first.insert(hash, row)),
        }
    }
    Copies::of(pairs, set, set)
}

/// The images of `set` that are in `other`, too.
pub fn copies_in(set: &Dataset, other: &Dataset) -> Copies {
    let mut first = HashMap::new();
    for (row, hash) in hashes(other).enumerate() {
        first.entry(hash).or_insert(row);
    }
    let of = |(row, hash)| first.get(&hash).map(|earlier| [row, *earlier]);
    Copies::of(hashes(set).enumerate().filter_map(of).collect(), set, other)
}

impl Copies {
    fn of(pairs: Vec<[usize; 2]>, set: &Dataset, other: &Dataset) -> Copies {
        let differ = |[row, earlier]: &&[usize; 2]| !same_label((set, *row), (other, *earlier));
        let of_other_label = pairs.iter().filter(differ).count();
        Copies { pairs, of_other_label }
    }
}

fn hashes(set: &Dataset) -> impl Iterator<Item = [u8; 32]> {
    set.each().map(|image| *blake3::hash(image).as_bytes())
}

fn same_label((a, row_a): (&Dataset, usize), (b, row_b): (&Dataset, usize)) -> bool {
    match (&a.labels, &b.labels) {
        (Labels::Classes(a), Labels::Classes(b)) => a.get(row_a) == b.get(row_b),
        (Labels::MultiLabel(of_a), Labels::MultiLabel(of_b)) => {
            let [labels_a, labels_b] = [a.class_names.len(), b.class_names.len()];
            of_a.get(row_a * labels_a..(row_a + 1) * labels_a)
                == of_b.get(row_b * labels_b..(row_b + 1) * labels_b)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(images: Vec<u8>, channels: usize, labels: Labels) -> Dataset {
        Dataset {
            images: images.into(),
            labels,
            channels,
            size: 1,
            class_names: vec!["a".into(), "b".into()],
        }
    }

    #[test]
    fn mean_and_spread_are_those_of_the_formula() {
        // Two images of two channels: 0 and 51, 255 and 51.
        let data = set(vec![0, 51, 255, 51], 2, Labels::Classes(vec![0, 1]));
        let [first, second] = spread(&data)[..] else { panic!("two channels") };
        assert!((first.mean - 0.5).abs() < 1e-12 && (first.deviation - 0.5).abs() < 1e-12, "{first:?}");
        assert!((second.mean - 0.2).abs() < 1e-12 && second.deviation.abs() < 1e-9, "{second:?}");
        assert!(spread(&set(vec![], 1, Labels::Classes(vec![]))).is_empty());
    }

    #[test]
    fn copies_are_counted_once_each_and_other_labels_are_told() {
        let train = set(vec![1, 2, 1, 3, 1, 2], 1, Labels::Classes(vec![0, 0, 0, 1, 1, 0]));
        let found = copies_within(&train);
        assert_eq!(found, Copies { pairs: vec![[2, 0], [4, 0], [5, 1]], of_other_label: 1 });
        let test = set(vec![9, 3, 1], 1, Labels::Classes(vec![0, 0, 0]));
        assert_eq!(copies_in(&test, &train), Copies { pairs: vec![[1, 3], [2, 0]], of_other_label: 1 });
        let labelled = set(vec![7, 7, 7], 1, Labels::MultiLabel(vec![1.0, 0.0, 1.0, 0.0, 1.0, 1.0]));
        assert_eq!(copies_within(&labelled), Copies { pairs: vec![[1, 0], [2, 0]], of_other_label: 1 });
    }
}
