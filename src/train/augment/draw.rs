//! What happens to an image at a step, drawn by seed, step and row.

use super::{Augment, ColorJitter, Crop};
use crate::ops::augment::NUMBERS;
use crate::rng::{Seed, Stream, uniform_from};

/// What happens to one image at one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augmentation {
    /// Kinds of color jitter in their order (1 brightness, 2 contrast, 3 saturation, 4 hue), and brightness's, contrast's and
    /// saturation's factors with the turns of hue.
    pub jitter: Option<([u8; 4], [f64; 4])>,
    /// From a place (column, row) in the result to one in the image: column = m\[0\]·column + m\[1\]·row + m\[2\], row of the others.
    pub map: Option<[f64; 6]>,
    /// Factor of contrast.
    pub contrast: f64,
    /// Factor of sharpness.
    pub sharpness: f64,
    /// Factor of brightness, less 1.
    pub brightness: f64,
    /// Share of the neighbour: of an even row the next one, of an odd row the one before.
    pub mixed: f64,
}

impl Augmentation {
    /// As the kernel reads them, see [`NUMBERS`].
    pub fn numbers(&self) -> [f32; NUMBERS] {
        let [a, b, c, d, e, f] = self.map.unwrap_or_default();
        let warped = if self.map.is_some() { 1.0 } else { 0.0 };
        let (order, [brightness, contrast, saturation, hue]) = self.jitter.unwrap_or_default();
        let [first, second, third, fourth] = order.map(f64::from);
        let tone = [self.contrast, self.sharpness, 2.0 * self.brightness];
        [
            a, b, c, warped, d, e, f, self.mixed, tone[0], tone[1], tone[2], 0.0, first, second, third,
            fourth, brightness, contrast, saturation, hue,
        ]
        .map(|number| number as f32)
    }
}

/// Blocks of four numbers that one kind of augmentation may draw.
const BLOCKS: u32 = 8;

/// Numbers that are drawn for one kind and image; each kind has its own, so that none moves where another is switched on.
struct Draws {
    seed: Seed,
    step: u32,
    row: u32,
    kind: u32,
}

impl Draws {
    fn of<const N: usize>(&self) -> [f64; N] {
        let mut values = [0.0f32; N];
        uniform_from(self.seed, Stream::Augment, self.step, self.row, self.kind * BLOCKS, &mut values);
        values.map(f64::from)
    }
}

fn between([low, high]: [f64; 2], at: f64) -> f64 {
    low + (high - low) * at
}

impl Augment {
    /// What happens to the image of \[height, width\] in row `row` of the whole batch at step `step`.
    pub fn draw(&self, seed: Seed, step: u32, row: u32, [height, width]: [usize; 2]) -> Augmentation {
        let draws = |kind: u32| Draws { seed, step, row, kind };
        let size = [width, height].map(|length| length as f64);
        let factor = |kind: u32, chosen: Option<(f64, [f64; 2])>| {
            let [whether, at] = draws(kind).of();
            let chosen = chosen.filter(|(probability, _)| whether < *probability);
            chosen.map(|(_, range)| between(range, at))
        };
        let contrast = factor(4, self.contrast.map(|c| (c.probability, c.factor)));
        let sharpness = factor(5, self.sharpness.map(|s| (s.probability, s.factor)));
        let brightness = factor(6, self.brightness.map(|b| (b.probability, b.factor)));
        let mixed = factor(7, self.mixup.map(|m| (m.probability, m.share)));
        let mut map = None;
        // The last of these comes first on the way from the result to the image.
        let mirrored = self.horizontal_flip.filter(|flip| draws(3).of::<1>()[0] < flip.probability);
        if mirrored.is_some() {
            map = Some([-1.0, 0.0, size[0] - 1.0, 0.0, 1.0, 0.0]);
        }
        let turned = self.rotation.and_then(|rotation| {
            let [whether, at] = draws(2).of();
            (whether < rotation.probability).then_some(rotation.degrees * (2.0 * at - 1.0))
        });
        if let Some(degrees) = turned {
            map = Some(after(turn(degrees, size), map));
        }
        if let Some(part) = self.crop.and_then(|crop| part(&crop, &draws(1), size)) {
            map = Some(after(part, map));
        }
        Augmentation {
            jitter: self.color_jitter.and_then(|jitter| jitters(&jitter, &draws(0))),
            map,
            contrast: contrast.unwrap_or(1.0),
            sharpness: sharpness.unwrap_or(1.0),
            brightness: brightness.map_or(0.0, |factor| factor - 1.0),
            mixed: mixed.unwrap_or(0.0),
        }
    }
}

/// The color jitter that is drawn, if any.
fn jitters(jitter: &ColorJitter, draws: &Draws) -> Option<([u8; 4], [f64; 4])> {
    let [whether, brightness, contrast, saturation, hue, order] = draws.of();
    if whether >= jitter.probability {
        return None;
    }
    let around = |width: f64, at: f64| 1.0 + width * (2.0 * at - 1.0);
    let factors = [
        around(jitter.brightness, brightness),
        around(jitter.contrast, contrast),
        around(jitter.saturation, saturation),
        jitter.hue * (2.0 * hue - 1.0),
    ];
    // One of the 24 orders, by its digits in mixed base.
    let mut number = (order * 24.0) as usize;
    let mut left = vec![1u8, 2, 3, 4];
    let mut kinds = [0; 4];
    for (kind, base) in kinds.iter_mut().zip([4, 3, 2, 1]) {
        *kind = left.remove((number % base).min(left.len() - 1));
        number /= base;
    }
    Some((kinds, factors))
}

/// The map `first`, if any, followed by `second`.
fn after(second: [f64; 6], first: Option<[f64; 6]>) -> [f64; 6] {
    let Some([a, b, c, d, e, f]) = first else { return second };
    let row = |[x, y, shift]: [f64; 3]| [x * a + y * d, x * b + y * e, x * c + y * f + shift];
    let [p, q, r, s, t, u] = second;
    let ([a, b, c], [d, e, f]) = (row([p, q, r]), row([s, t, u]));
    [a, b, c, d, e, f]
}

/// Turned about the middle, against the clock as one looks at it.
fn turn(degrees: f64, [width, height]: [f64; 2]) -> [f64; 6] {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let [x, y] = [0.5 * (width - 1.0), 0.5 * (height - 1.0)];
    [cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y]
}

/// The part that is drawn, if any: corner pixels come to lie on corner pixels. Of ten parts the first that lies within the
/// image counts; where none does it is the whole.
fn part(crop: &Crop, draws: &Draws, [width, height]: [f64; 2]) -> Option<[f64; 6]> {
    let numbers: [f64; 23] = draws.of();
    let [whether, left, top, tries @ ..] = numbers;
    if whether >= crop.probability {
        return None;
    }
    let sizes = tries.chunks_exact(2).filter_map(|pair| {
        let [area, ratio] = *pair else { return None };
        let area = between(crop.scale, area) * width * height;
        let ratio = between(crop.ratio.map(f64::ln), ratio).exp();
        Some([(area * ratio).sqrt(), (area / ratio).sqrt()])
    });
    let mut inside = sizes.filter(|[w, h]| (1.0..=width).contains(w) && (1.0..=height).contains(h));
    let [w, h] = inside.next()?;
    let scale = |part: f64, whole: f64| if whole > 1.0 { (part - 1.0) / (whole - 1.0) } else { 1.0 };
    Some([scale(w, width), 0.0, left * (width - w), 0.0, scale(h, height), top * (height - h)])
}
