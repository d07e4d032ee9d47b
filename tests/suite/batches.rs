//! The order in which training sees the data, and how batches are put together.

use crate::harness::{tiny_config, values};
use duet::model::{Head, Labels, ModelConfig};
use duet::train::{BatchOrder, Examples, Pixels};

#[test]
fn an_epoch_visits_each_image_once_and_any_step_can_be_asked_for() {
    let mut order = BatchOrder::new(10, 3);
    let mut seen: Vec<u32> = (0..3).flat_map(|step| order.indices(step, 3)).collect();
    let later = order.indices(7, 3);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 9);
    assert_eq!(BatchOrder::new(10, 3).indices(7, 3), later);
    assert_ne!(BatchOrder::new(10, 4).indices(7, 3), later);
    let mut small = BatchOrder::new(2, 1).indices(5, 6);
    small.sort_unstable();
    assert_eq!(small, [0, 0, 0, 1, 1, 1], "a small set is repeated within a batch");
    assert!(BatchOrder::new(0, 1).indices(5, 6).is_empty() && BatchOrder::new(6, 1).indices(5, 0).is_empty());
}

#[test]
fn about_half_of_the_images_are_mirrored() {
    let order = BatchOrder::new(10, 3);
    let mirrored = (0..400).filter(|row| {
        let mut image = [0.0, 1.0];
        order.flip(5, *row, &mut image, 2);
        image[0] == 1.0
    });
    assert!((150..250).contains(&mirrored.count()));
}

/// Grey levels of seven images of the tiny model.
fn levels() -> Vec<u8> {
    (0..7 * 64).map(|i| (i * 37 % 256) as u8).collect()
}

#[test]
fn a_batch_is_the_images_of_its_step_scaled_and_mirrored() {
    let (config, levels) = (tiny_config(), levels());
    let labels = Labels::Classes((0..7).map(|i| i % 3).collect());
    let examples = Examples::new(&config, Pixels::Levels(&levels), &labels).unwrap();
    let (mut order, mut again) = (BatchOrder::new(examples.len(), 5), BatchOrder::new(7, 5));
    let mut turned = 0;
    for step in 0..6 {
        let plain = examples.next(&mut order, step, 3, false).unwrap();
        let flipped = examples.next(&mut order, step, 3, true).unwrap();
        let rows = again.indices(step, 3);
        assert_eq!(plain.labels, Labels::Classes(rows.iter().map(|row| row % 3).collect()));
        for (n, row) in rows.iter().enumerate() {
            let source = &levels[*row as usize * 64..][..64];
            let want: Vec<f32> = source.iter().map(|level| f32::from(*level) / 127.5 - 1.0).collect();
            assert_eq!(plain.images[n * 64..][..64], want);
            let mut mirrored = want.clone();
            mirrored.chunks_exact_mut(8).for_each(<[f32]>::reverse);
            let got = &flipped.images[n * 64..][..64];
            assert!(got == want || got == mirrored);
            turned += usize::from(got == mirrored);
        }
    }
    assert!((1..18).contains(&turned), "{turned} of 18 are mirrored");
}

#[test]
fn values_and_targets_are_taken_as_they_are() {
    let config = ModelConfig { head: Head::MultiLabel, ..tiny_config() };
    let images = values(1, 2 * 64);
    let labels = Labels::MultiLabel(vec![0.0, 0.5, 1.0, 1.0, 0.0, 0.25]);
    let examples = Examples::new(&config, Pixels::Values(&images), &labels).unwrap();
    let batch = examples.batch(&[1, 0, 1]).unwrap();
    assert_eq!(batch.images, [&images[64..], &images[..64], &images[64..]].concat());
    let want = vec![1.0, 0.0, 0.25, 0.0, 0.5, 1.0, 1.0, 0.0, 0.25];
    assert_eq!(batch.labels, Labels::MultiLabel(want));
    assert!(examples.batch(&[2]).unwrap_err().to_string().contains("row 2 of 2"));
}

#[test]
fn images_and_labels_must_fit() {
    let (config, levels) = (tiny_config(), levels());
    for count in [0, 6, 8] {
        let labels = Labels::Classes(vec![0; count]);
        let error = Examples::new(&config, Pixels::Levels(&levels), &labels).unwrap_err().to_string();
        assert!(error.contains(&format!("448 values for {count} images of 64")), "{error}");
    }
}

#[test]
fn large_logits_have_probabilities_and_labels_are_counted_by_image() {
    let got = Head::Multiclass.probabilities(&[1000.0, 999.0, -1000.0, -999.0], 2).unwrap();
    for (got, want) in got.iter().zip([0.731_058_6, 0.268_941_4, 0.268_941_4, 0.731_058_6]) {
        assert!((got - want).abs() < 1e-5, "{got} instead of {want}");
    }
    assert_eq!((Labels::MultiLabel(vec![0.0; 6]).len(3), Labels::Classes(vec![0; 6]).len(3)), (2, 6));
}

#[test]
fn epochs_differ_and_every_order_is_possible() {
    let epoch = |seed: u64, step: u64| BatchOrder::new(5, seed).indices(step, 5);
    assert!((0..10).any(|seed| epoch(seed, 0) != epoch(seed, 1)), "every epoch is in the same order");
    // An image may stay where it was: of 5 items that is so in 76 of 120 orders.
    let stays = |seed: u64| epoch(seed, 0).iter().enumerate().any(|(i, item)| i as u32 == *item);
    let count = (0..200).filter(|seed| stays(*seed)).count();
    assert!((100..155).contains(&count), "{count} of 200 orders keep an image in its place");
}
