//! Bilinear resizing and its gradient: against an f64 twin and finite differences of it. What PyTorch makes is in
//! `feature_networks.rs`.

use crate::harness::{Harness, assert_close, assert_gradient, dot, values, wide};
use duet::Error;
use duet::graph::{Graph, Place};

/// Image \[N,H,W,C\] and the sides it gets: larger, smaller, each axis apart, the same, one pixel, widths that nothing divides.
const CASES: [([usize; 4], [usize; 2]); 8] = [
    ([1, 1, 1, 1], [1, 1]),
    ([3, 1, 1, 5], [4, 7]),
    ([1, 7, 5, 3], [13, 11]),
    ([3, 9, 5, 5], [4, 3]),
    ([1, 5, 9, 34], [5, 9]),
    ([1, 6, 7, 3], [1, 30]),
    ([2, 14, 7, 1], [3, 14]),
    ([1, 28, 28, 1], [29, 31]),
];

/// The two pixels that an output lies between along an axis, and the second one's weight.
fn between(output: usize, side: usize, made: usize) -> (usize, usize, f64) {
    let at = ((output as f64 + 0.5) * side as f64 / made as f64 - 0.5).max(0.0);
    let first = (at as usize).min(side - 1);
    (first, (first + 1).min(side - 1), at - first as f64)
}

fn twin(x: &[f64], [batch, height, width, channels]: [usize; 4], made: [usize; 2]) -> Vec<f64> {
    let mut y = Vec::new();
    for n in 0..batch {
        for i in 0..made[0] {
            let (top, bottom, v) = between(i, height, made[0]);
            for j in 0..made[1] {
                let (left, right, u) = between(j, width, made[1]);
                for c in 0..channels {
                    let at = |a: usize, b: usize| x[((n * height + a) * width + b) * channels + c];
                    let above = (1.0 - u) * at(top, left) + u * at(top, right);
                    let below = (1.0 - u) * at(bottom, left) + u * at(bottom, right);
                    y.push((1.0 - v) * above + v * below);
                }
            }
        }
    }
    y
}

#[test]
fn resizing_and_its_gradient_match() {
    for (image, made) in CASES {
        let name = format!("{image:?} to {made:?}");
        let x = values(1, image.iter().product());
        let run = || {
            Harness::differentiate(&[(&image, &x)], |graph, leaves| {
                graph.resize_bilinear(leaves[0], made).unwrap()
            })
        };
        let (got, again) = (run(), run());
        let x = wide(&x);
        assert_eq!(got.shape, [image[0], made[0], made[1], image[3]]);
        // Positions are f32: of 30 pixels they are off by 2e-6 at most.
        assert_close(&name, &got.y, &twin(&x, image, made), 1e-5);
        let dy = wide(&got.upstream);
        assert_gradient(&format!("{name} dx"), &got.gradients[0], &x, |x| dot(&twin(x, image, made), &dy));
        assert!(got.y == again.y && got.gradients == again.gradients, "{name}: other bits the second time");
    }
}

#[test]
fn a_constant_stays_and_the_gradient_keeps_its_sum() {
    let image = [1, 9, 7, 2];
    let x = vec![0.75; 9 * 7 * 2];
    for made in [[299, 5], [3, 299], [18, 14]] {
        let got = Harness::differentiate(&[(&image, &x)], |graph, leaves| {
            graph.resize_bilinear(leaves[0], made).unwrap()
        });
        assert!(got.y.iter().all(|y| (y - 0.75).abs() < 1e-6));
        let sums = [&got.gradients[0], &got.upstream].map(|list| wide(list).iter().sum::<f64>());
        assert!((sums[0] - sums[1]).abs() < 1e-3, "{sums:?}");
    }
}

#[test]
fn what_is_no_image_or_no_size_is_refused() {
    let refused = |image: &[usize], made: [usize; 2]| {
        let mut graph = Graph::new();
        let x = graph.leaf(image, Place::whole("x"));
        matches!(graph.resize_bilinear(x, made), Err(Error::Shape { op: "resize_bilinear", .. }))
    };
    assert!(!refused(&[1, 4, 4, 3], [299, 299]));
    for (image, made) in [
        (&[4, 4, 3][..], [2, 2]),
        (&[1, 4, 4, 3], [0, 2]),
        (&[1, 4, 4, 3], [2, usize::MAX]),
        (&[1, 0, 4, 3], [2, 2]),
        (&[0, 4, 4, 3], [2, 2]),
        (&[1, 4, 4, 0], [2, 2]),
    ] {
        assert!(refused(image, made), "{image:?} {made:?}");
    }
}
