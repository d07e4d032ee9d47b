//! Random numbers: published known answers, and equality between host and device.

use crate::harness::{Harness, assert_close, values, wide};
use duet::ops::random;
use duet::rng::{Seed, Stream, block, normal_fill, philox4x32, shuffle, uniform_u32_below};

#[test]
fn published_known_answers() {
    // Random123's kat_vectors for philox4x32 with 10 rounds.
    assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
    assert_eq!(philox4x32([u32::MAX; 4], [u32::MAX; 2]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
    let pi = [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344];
    assert_eq!(philox4x32(pi, [0xa4093822, 0x299f31d0]), [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]);
}

/// Bit for bit: every operation is rounded as on the host, on any device.
fn assert_same(got: &[f32], want: &[f32]) {
    let other = got.iter().zip(want).position(|(a, b)| a.to_bits() != b.to_bits());
    assert_eq!(got.len(), want.len());
    assert_eq!(other, None, "{other:?} is {:?}, not {:?}", other.map(|i| got[i]), other.map(|i| want[i]));
}

#[test]
fn the_device_draws_the_host_s_numbers() {
    let seed = Seed(0x0123_4567_89ab_cdef);
    for (batch, pixels, channels) in [(1, 1, 1), (3, 49, 1), (2, 35, 3), (2, 16, 5), (2, 50_000, 4)] {
        let mut h = Harness::new();
        let run = h.words(&[seed.0 as u32, (seed.0 >> 32) as u32, 7, 5]);
        let y = h.output(&[batch, pixels, channels]);
        h.run(random::normal([batch, pixels, channels], Stream::TrainNoise as u32, false, run, y.slice));
        let got = h.read(&y);
        let mut want = vec![0.0; got.len()];
        for n in 0..batch {
            let mut image = vec![0.0; pixels * channels];
            normal_fill(seed, Stream::TrainNoise, 7, 5 + n as u32, &mut image);
            for p in 0..pixels {
                for c in 0..channels {
                    want[(n * pixels + p) * channels + c] = image[c * pixels + p];
                }
            }
        }
        assert_same(&got, &want);
    }
}

#[test]
fn rows_have_runs_of_their_own() {
    let (batch, pixels, channels) = (3, 35, 2);
    let runs = [[7u32, 0, 3, 9], [1 << 31, 5, 0, 0], [7, 0, 4, 9]];
    let mut h = Harness::new();
    let run = h.words(runs.as_flattened());
    let y = h.output(&[batch, pixels, channels]);
    h.run(random::normal([batch, pixels, channels], Stream::Inversion as u32, true, run, y.slice));
    let got = h.read(&y);
    for ([low, high, step, row], got) in runs.into_iter().zip(got.chunks_exact(pixels * channels)) {
        let seed = Seed(u64::from(low) | u64::from(high) << 32);
        let mut image = vec![0.0; pixels * channels];
        normal_fill(seed, Stream::Inversion, step, row, &mut image);
        let place = |i: usize| image[i % channels * pixels + i / channels];
        assert_same(got, &(0..image.len()).map(place).collect::<Vec<f32>>());
    }
}

#[test]
fn masks_follow_the_same_integers_and_serve_backward() {
    let (rows, columns, layer, probability) = (3, 20, 2, 0.3f32);
    let seed = Seed(99);
    let x = values(1, rows * columns);
    let mut h = Harness::new();
    let run = h.words(&[99, 0, 4, 10]);
    let tx = h.input(&[rows, columns], &x);
    let (y, again) = (h.output(&[rows, columns]), h.output(&[rows, columns]));
    let mut launches = random::dropout(rows, columns, layer, probability, [tx.slice, run], y.slice);
    launches.extend(random::dropout(rows, columns, layer, probability, [y.slice, run], again.slice));
    h.run(launches);
    let scale = f64::from(1.0 / (1.0 - probability));
    let threshold = (f64::from(probability) * 4_294_967_296.0) as u32;
    let mut want = wide(&x);
    for (i, value) in want.iter_mut().enumerate() {
        let (row, column) = (i / columns, i % columns);
        let words = block(seed, Stream::Dropout as u32 + layer, 4, 10 + row as u32, (column / 4) as u32);
        *value *= if words[column % 4] >= threshold { scale } else { 0.0 };
    }
    assert_close("dropout", &h.read(&y), &want, 1e-6);
    let twice: Vec<f64> = want.iter().map(|v| v * scale).collect();
    assert_close("the same mask again", &h.read(&again), &twice, 1e-6);
}

#[test]
fn normal_numbers_are_normal() {
    let mut numbers = vec![0.0f32; 200_000];
    normal_fill(Seed(1), Stream::InitialNoise, 0, 0, &mut numbers);
    let count = numbers.len() as f64;
    let moment = |power: i32| numbers.iter().map(|v| f64::from(*v).powi(power)).sum::<f64>() / count;
    assert!(moment(1).abs() < 0.01 && (moment(2) - 1.0).abs() < 0.02 && moment(3).abs() < 0.04);
    assert!((moment(4) - 3.0).abs() < 0.1, "{}", moment(4));
    assert!(numbers.iter().all(|v| v.abs() < 6.0));
}

#[test]
fn bounded_numbers_and_shuffles_are_fair() {
    let mut counts = [0usize; 7];
    for row in 0..7000 {
        counts[uniform_u32_below(7, Seed(3), Stream::Timestep, 0, row) as usize] += 1;
    }
    assert!(counts.iter().all(|c| (850..1150).contains(c)), "{counts:?}");
    let mut items: Vec<u32> = (0..100).collect();
    shuffle(Seed(3), 0, &mut items);
    let mut other: Vec<u32> = (0..100).collect();
    shuffle(Seed(3), 1, &mut other);
    assert_ne!(items, other);
    items.sort_unstable();
    assert!(items.iter().copied().eq(0..100));
}
