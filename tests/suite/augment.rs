//! Augmentation: what is drawn, and the kernels against f64 twins at odd sizes, grey and colour.

use super::harness::{Harness, assert_close, device, values, wide};
use duet::model::ModelConfig;
use duet::ops::augment::{self, Augmented, NUMBERS};
use duet::rng::Seed;
use duet::train::{
    Augment, Augmentation, Augmenter, Brightness, ColorJitter, Contrast, Crop, HorizontalFlip, MixUp,
    Rotation, Sharpness,
};

/// Nothing happens.
const NOTHING: Augmentation =
    Augmentation { jitter: None, map: None, contrast: 1.0, sharpness: 1.0, brightness: 0.0, mixed: 0.0 };

/// Every kind for every image.
pub fn all(channels: usize) -> Augment {
    Augment {
        color_jitter: (channels == 3).then(|| ColorJitter { probability: 1.0, ..ColorJitter::default() }),
        crop: Some(Crop { probability: 1.0, ..Crop::default() }),
        rotation: Some(Rotation { probability: 1.0, ..Rotation::default() }),
        horizontal_flip: Some(HorizontalFlip { probability: 0.5 }),
        contrast: Some(Contrast { probability: 1.0, ..Contrast::default() }),
        sharpness: Some(Sharpness { probability: 1.0, ..Sharpness::default() }),
        brightness: Some(Brightness { probability: 1.0, ..Brightness::default() }),
        mixup: Some(MixUp { probability: 1.0, ..MixUp::default() }),
        border: Vec::new(),
    }
}

fn grey(c: [f64; 3]) -> f64 {
    0.299 * c[0] + 0.587 * c[1] + 0.114 * c[2]
}

/// Through HSV and back by the six sectors of the circle.
fn turned([r, g, b]: [f64; 3], turns: f64) -> [f64; 3] {
    let (value, least) = (r.max(g).max(b), r.min(g).min(b));
    let chroma = value - least;
    if chroma == 0.0 {
        return [r, g, b];
    }
    let sixth = if value == r {
        (g - b) / chroma
    } else if value == g {
        (b - r) / chroma + 2.0
    } else {
        (r - g) / chroma + 4.0
    };
    let hue = (sixth + 6.0 * turns).rem_euclid(6.0);
    let (rising, falling) = (least + chroma * hue.fract(), value - chroma * hue.fract());
    match hue as usize {
        0 => [value, rising, least],
        1 => [falling, value, least],
        2 => [least, value, rising],
        3 => [least, falling, value],
        4 => [rising, least, value],
        _ => [value, least, falling],
    }
}

/// Images \[N,H,W,C\] of −1..1, one operation after the other on the whole image in 0..1.
fn twin([n, h, w, c]: [usize; 4], x: &[f64], drawn: &[Augmentation], border: &[f64]) -> Vec<f64> {
    let len = h * w * c;
    let clamp = |v: f64| v.clamp(0.0, 1.0);
    let mut images: Vec<Vec<f64>> =
        x.chunks(len).map(|image| image.iter().map(|v| 0.5 * (v + 1.0)).collect()).collect();
    for (image, drawn) in images.iter_mut().zip(drawn) {
        for kind in drawn.jitter.map_or([0; 4], |(order, _)| order) {
            let factors = drawn.jitter.map_or([0.0; 4], |(_, factors)| factors);
            let colors: Vec<[f64; 3]> = image.chunks(c).filter_map(|p| p.try_into().ok()).collect();
            let mean = colors.iter().map(|c| grey(*c)).sum::<f64>() / (h * w) as f64;
            let changed = colors.iter().map(|c| match kind {
                1 => c.map(|v| v * factors[0]),
                2 => c.map(|v| factors[1] * v + (1.0 - factors[1]) * mean),
                3 => c.map(|v| factors[2] * v + (1.0 - factors[2]) * grey(*c)),
                4 => turned(*c, factors[3]),
                _ => *c,
            });
            if kind > 0 {
                *image = changed.flatten().map(clamp).collect();
            }
        }
        if let Some(m) = drawn.map {
            let at = |row: f64, column: f64, channel: usize| {
                let inside = (0.0..h as f64).contains(&row) && (0.0..w as f64).contains(&column);
                let outside = 0.5 * (border[channel % border.len()] + 1.0);
                if inside { image[(row as usize * w + column as usize) * c + channel] } else { outside }
            };
            let mut warped = Vec::new();
            for (row, column) in (0..h).flat_map(|row| (0..w).map(move |column| (row as f64, column as f64)))
            {
                let (from_x, from_y) = (m[0] * column + m[1] * row + m[2], m[3] * column + m[4] * row + m[5]);
                for channel in 0..c {
                    // Every pixel counts by how near it is; beyond the next one not at all.
                    let (left, top) = (from_x.floor(), from_y.floor());
                    let near = |dy: f64, dx: f64| {
                        let share = (1.0 - (from_y - top - dy).abs()) * (1.0 - (from_x - left - dx).abs());
                        share * at(top + dy, left + dx, channel)
                    };
                    warped.push(near(0.0, 0.0) + near(0.0, 1.0) + near(1.0, 0.0) + near(1.0, 1.0));
                }
            }
            *image = warped;
        }
        image
            .iter_mut()
            .for_each(|v| *v = if drawn.contrast == 1.0 { *v } else { clamp(*v * drawn.contrast) });
        let before = image.clone();
        for (row, column) in
            (1..h.saturating_sub(1)).flat_map(|r| (1..w.saturating_sub(1)).map(move |c| (r, c)))
        {
            for channel in 0..c {
                let pixel = |r: usize, k: usize| before[(r * w + k) * c + channel];
                let around: f64 = (row - 1..=row + 1)
                    .flat_map(|r| (column - 1..=column + 1).map(move |k| pixel(r, k)))
                    .sum();
                let (value, mean) = (pixel(row, column), (around + 4.0 * pixel(row, column)) / 13.0);
                if drawn.sharpness != 1.0 {
                    let sharper = drawn.sharpness * value + (1.0 - drawn.sharpness) * mean;
                    image[(row * w + column) * c + channel] = clamp(sharper);
                }
            }
        }
        if drawn.brightness != 0.0 {
            image.iter_mut().for_each(|v| *v = clamp(*v + drawn.brightness));
        }
    }
    let mixed = (0..n).map(|row| {
        let (own, share) = (&images[row], drawn[row].mixed);
        if share == 0.0 {
            return own.clone();
        }
        own.iter().zip(&images[row ^ 1]).map(|(a, b)| (1.0 - share) * a + share * b).collect()
    });
    mixed.flatten().map(|v: f64| 2.0 * v - 1.0).collect()
}

fn kernel(shape: [usize; 4], x: &[f32], drawn: &[Augmentation], border: [f32; 4]) -> Vec<f32> {
    let size = Augmented { shape, border, jitter: shape[3] == 3 };
    let mut h = Harness::new();
    let numbers: Vec<f32> = drawn.iter().flat_map(Augmentation::numbers).collect();
    let reads = [h.input(&shape, x).slice, h.input(&[shape[0], NUMBERS], &numbers).slice];
    let (scratch, y) = (augment::scratch(&size).map(|bytes| h.scratch(bytes)), h.output(&shape));
    h.run(augment::augment(&size, reads, scratch, y.slice));
    h.read(&y)
}

/// Batch, height, width, channels: single pixels, odd sizes, neither width nor height of a vec4, more than one vec4 a pixel.
const IMAGES: [[usize; 4]; 8] = [
    [1, 1, 1, 1],
    [2, 1, 6, 1],
    [4, 7, 5, 1],
    [3, 9, 14, 3],
    [2, 1, 1, 3],
    [6, 28, 28, 3],
    [2, 5, 9, 5],
    [3, 4, 3, 2],
];

#[test]
fn each_kind_equals_the_twin() {
    for shape in IMAGES {
        let [n, height, width, channels] = shape;
        let all = all(channels);
        let only = [
            Augment { color_jitter: all.color_jitter, ..Augment::default() },
            Augment { crop: all.crop, ..Augment::default() },
            Augment { rotation: all.rotation, ..Augment::default() },
            Augment { horizontal_flip: Some(HorizontalFlip { probability: 1.0 }), ..Augment::default() },
            Augment { contrast: all.contrast, ..Augment::default() },
            Augment { sharpness: all.sharpness, ..Augment::default() },
            Augment { brightness: all.brightness, ..Augment::default() },
            Augment { mixup: all.mixup, ..Augment::default() },
            all,
        ];
        let x = values(1, n * height * width * channels);
        for (kind, augment) in only.iter().enumerate() {
            let mut drawn: Vec<Augmentation> =
                (0..n).map(|row| augment.draw(Seed(3), 5, row as u32, [height, width])).collect();
            // The last of an odd number has no neighbour.
            if n % 2 == 1 {
                drawn[n - 1].mixed = 0.0;
            }
            let border = [-1.0, 0.5, -0.25, 0.75];
            let got = kernel(shape, &x, &drawn, border);
            let want = twin(shape, &wide(&x), &drawn, &wide(&border));
            assert_close(&format!("kind {kind} of {shape:?}"), &got, &want, 1e-5);
            let same = got.iter().zip(&x).filter(|(a, b)| a.to_bits() == b.to_bits()).count();
            let something = augment.is_on() && height * width > 100 && kind != 3;
            assert!(!something || same < got.len() / 2, "kind {kind} of {shape:?} changes next to nothing");
        }
    }
}

#[test]
fn more_images_than_one_dispatch_can_count_equal_the_twin() {
    // 65,535 workgroups of 64 vec4s are not enough.
    let shape = [2, 1450, 1450, 1];
    let x = values(1, 2 * 1450 * 1450);
    let drawn = [0, 1].map(|row| all(1).draw(Seed(3), 5, row, [1450, 1450]));
    let got = kernel(shape, &x, &drawn, [-1.0; 4]);
    // Places are f32: of 1450 columns the last ones are known to 1e-4 of a pixel, and neighbours have nothing in common here.
    assert_close("large", &got, &twin(shape, &wide(&x), &drawn, &[-1.0]), 1e-3);
}

#[test]
fn jitter_comes_in_every_order() {
    let shape = [24, 3, 5, 3];
    let x = values(1, 24 * 45);
    let mut drawn = Vec::new();
    for i in 0..=255u8 {
        let order = [1 + i / 64, 1 + i / 16 % 4, 1 + i / 4 % 4, 1 + i % 4];
        if (1..=4).all(|kind| order.contains(&kind)) {
            drawn.push(Augmentation { jitter: Some((order, [1.2, 1.4, 0.6, 0.3])), ..NOTHING });
        }
    }
    let got = kernel(shape, &x, &drawn, [0.0; 4]);
    assert_close("jitter", &got, &twin(shape, &wide(&x), &drawn, &[0.0]), 1e-5);
}

#[test]
fn an_image_that_nothing_happens_to_keeps_its_bits() {
    for shape in [[3, 7, 5, 3], [2, 4, 3, 5]] {
        let x = values(1, shape.iter().product());
        let drawn = vec![NOTHING; shape[0]];
        assert_eq!(kernel(shape, &x, &drawn, [0.3; 4]), x);
        // A mirror too only moves pixels, and mirrored twice they are where they were.
        let flip =
            Augment { horizontal_flip: Some(HorizontalFlip { probability: 1.0 }), ..Augment::default() };
        let drawn = vec![flip.draw(Seed(0), 0, 0, [shape[1], shape[2]]); shape[0]];
        let mirrored = kernel(shape, &x, &drawn, [0.3; 4]);
        assert!(mirrored != x && kernel(shape, &mirrored, &drawn, [0.3; 4]) == x);
    }
}

#[test]
fn the_map_is_crop_after_rotation_after_mirror() {
    let size = [21, 34];
    let [height, width] = size.map(|length| length as f64);
    let all = all(3);
    let only = [
        Augment { crop: all.crop, ..Augment::default() },
        Augment { rotation: all.rotation, ..Augment::default() },
        Augment { horizontal_flip: all.horizontal_flip, ..Augment::default() },
    ];
    let identity = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0];
    let apply = |m: [f64; 6], [x, y]: [f64; 2]| [m[0] * x + m[1] * y + m[2], m[3] * x + m[4] * y + m[5]];
    let (mut smaller, mut mirrored) = (0, 0);
    for row in 0..200 {
        let map = |augment: &Augment| augment.draw(Seed(1), 9, row, size).map.unwrap_or(identity);
        let [crop, turn, flip] = only.each_ref().map(map);
        let whole = map(&all);
        for p in [[0.0, 0.0], [3.0, 17.0], [33.0, 20.0], [16.5, 10.0]] {
            let (want, got) = (apply(crop, apply(turn, apply(flip, p))), apply(whole, p));
            assert!(
                (want[0] - got[0]).abs() + (want[1] - got[1]).abs() < 1e-9,
                "{got:?} instead of {want:?}"
            );
        }
        // A crop's corners lie within the image, its area and shape in the ranges.
        let ([left, top], [right, bottom]) =
            (apply(crop, [0.0; 2]), apply(crop, [width - 1.0, height - 1.0]));
        assert!(left >= 0.0 && top >= 0.0 && right <= width - 1.0 + 1e-9 && bottom <= height - 1.0 + 1e-9);
        let [w, h] = [right - left + 1.0, bottom - top + 1.0];
        let part = w * h / (width * height);
        assert!((0.5 - 1e-9..=1.0 + 1e-9).contains(&part), "{part}");
        assert!(crop == identity || (0.75 - 1e-9..=4.0 / 3.0 + 1e-9).contains(&(w / h)), "{w} x {h}");
        smaller += usize::from(part < 0.75);
        // A rotation keeps the middle and lengths.
        let middle = [0.5 * (width - 1.0), 0.5 * (height - 1.0)];
        let [x, y] = apply(turn, middle);
        assert!((x - middle[0]).abs() + (y - middle[1]).abs() < 1e-9);
        assert!(
            (turn[0] * turn[4] - turn[1] * turn[3] - 1.0).abs() < 1e-12
                && turn[0] >= 30f64.to_radians().cos()
        );
        assert!(flip == identity || flip == [-1.0, 0.0, width - 1.0, 0.0, 1.0, 0.0]);
        mirrored += usize::from(flip != identity);
    }
    assert!((60..140).contains(&mirrored) && smaller > 20, "{mirrored}, {smaller}");
}

#[test]
fn draws_have_their_probabilities_and_ranges() {
    let default = Augment {
        color_jitter: Some(ColorJitter::default()),
        crop: Some(Crop::default()),
        rotation: Some(Rotation::default()),
        contrast: Some(Contrast::default()),
        sharpness: Some(Sharpness::default()),
        brightness: Some(Brightness::default()),
        mixup: Some(MixUp::default()),
        ..Augment::default()
    };
    const ROWS: u32 = 4000;
    let drawn: Vec<Augmentation> = (0..ROWS).map(|row| default.draw(Seed(2), 1, row, [28, 28])).collect();
    let share = |what: &str, chosen: &dyn Fn(&Augmentation) -> bool, want: f64| {
        let got = drawn.iter().filter(|d| chosen(d)).count() as f64 / f64::from(ROWS);
        // Five standard errors.
        let chance = 5.0 * (want * (1.0 - want) / f64::from(ROWS)).sqrt();
        assert!((got - want).abs() < chance, "{what}: {got} instead of {want}");
    };
    share("jitter", &|d| d.jitter.is_some(), 0.25);
    share("contrast", &|d| d.contrast != 1.0, 0.25);
    share("sharpness", &|d| d.sharpness != 1.0, 0.25);
    share("brightness", &|d| d.brightness != 0.0, 0.25);
    share("mixup", &|d| d.mixed != 0.0, 0.25);
    // Hardly any of ten parts lies within a square image.
    share("crop or rotation", &|d| d.map.is_some(), 1.0 - 0.75 * 0.75);
    share("contrast and brightness", &|d| d.contrast != 1.0 && d.brightness != 0.0, 0.0625);
    let range = |of: &dyn Fn(&Augmentation) -> f64, [low, high]: [f64; 2]| {
        let values: Vec<f64> = drawn.iter().map(of).filter(|v| v.is_finite()).collect();
        let (least, most) = values.iter().fold((f64::MAX, f64::MIN), |(l, m), v| (l.min(*v), m.max(*v)));
        let edge = 0.02 * (high - low);
        assert!(
            least >= low && most <= high && least < low + edge && most > high - edge,
            "{least} to {most}"
        );
    };
    let unless = |v: f64, nothing: f64| if v == nothing { f64::NAN } else { v };
    range(&|d| unless(d.contrast, 1.0), [0.6, 1.8]);
    range(&|d| unless(d.sharpness, 1.0), [0.4, 2.0]);
    range(&|d| unless(d.brightness, 0.0), [-0.4, 0.8]);
    range(&|d| unless(d.mixed, 0.0), [0.0, 1.0]);
    for (i, bounds) in [[0.9, 1.1], [0.9, 1.1], [0.9, 1.1], [-0.1, 0.1]].into_iter().enumerate() {
        range(&|d| d.jitter.map_or(f64::NAN, |(_, factors)| factors[i]), bounds);
    }
    let orders: std::collections::BTreeSet<[u8; 4]> =
        drawn.iter().filter_map(|d| Some(d.jitter?.0)).collect();
    assert_eq!(orders.len(), 24);
    // Neither other kinds nor other rows move a number; seeds and steps do.
    let alone = Augment { contrast: default.contrast, ..Augment::default() };
    for (row, d) in drawn.iter().enumerate().take(50) {
        assert_eq!(alone.draw(Seed(2), 1, row as u32, [28, 28]).contrast, d.contrast);
    }
    let other = |seed: u64, step: u32| {
        (0..50).map(|row| default.draw(Seed(seed), step, row, [28, 28])).collect::<Vec<_>>() != drawn[..50]
    };
    assert!(other(3, 1) && other(2, 2) && !other(2, 1));
}

#[test]
fn the_augmenter_does_as_the_kernel_does() {
    let config = ModelConfig { image_size: 12, in_channels: 3, ..ModelConfig::default() };
    let augment = Augment { border: vec![0.5], ..all(3) };
    let augmenter = pollster::block_on(Augmenter::new(device(), &config, &augment, 2)).unwrap();
    let drawn = [0, 1].map(|row| augment.draw(Seed(3), 5, row, [12, 12]));
    let x = values(1, 2 * 432);
    let got = pollster::block_on(augmenter.apply(&x, &drawn)).unwrap();
    let last = |n: usize, c: usize, p: usize| (n * 3 + c) * 144 + p;
    let places = (0..2).flat_map(|n| (0..144).flat_map(move |p| (0..3).map(move |c| last(n, c, p))));
    let places: Vec<usize> = places.collect();
    let nhwc: Vec<f32> = places.iter().map(|i| x[*i]).collect();
    let want = kernel([2, 12, 12, 3], &nhwc, &drawn, [0.5; 4]);
    assert_eq!(places.iter().map(|i| got[*i]).collect::<Vec<_>>(), want);
    assert!(pollster::block_on(augmenter.apply(&x[1..], &drawn)).is_err());
}

#[test]
fn bad_values_are_named() {
    let bad = [
        (
            Augment { crop: Some(Crop { scale: [0.9, 0.2], ..Crop::default() }), ..Augment::default() },
            "crop.scale",
        ),
        (
            Augment {
                rotation: Some(Rotation { degrees: 200.0, ..Rotation::default() }),
                ..Augment::default()
            },
            "rotation.degrees",
        ),
        (
            Augment { horizontal_flip: Some(HorizontalFlip { probability: f64::NAN }), ..Augment::default() },
            "horizontal_flip.probability",
        ),
        (Augment { border: vec![2.0], ..Augment::default() }, "border"),
        (
            Augment {
                color_jitter: Some(ColorJitter { hue: 0.7, ..ColorJitter::default() }),
                ..Augment::default()
            },
            "color_jitter.hue",
        ),
    ];
    for (augment, key) in bad {
        let error = augment.validate().unwrap_err().to_string();
        assert!(error.starts_with(&format!("augment.{key}: ")), "{error}");
    }
    let grey = ModelConfig::default();
    for (augment, key) in [(all(3), "color_jitter"), (Augment { border: vec![0.0; 3], ..all(1) }, "border")] {
        let error = augment.validate_for(&grey).unwrap_err().to_string();
        assert!(error.starts_with(&format!("augment.{key}: ")), "{error}");
    }
    assert!(!Augment { border: vec![0.0], ..Augment::default() }.is_on() && all(1).is_on());
}
