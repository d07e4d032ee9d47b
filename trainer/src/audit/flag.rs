//! Which places of a map look like a shortcut: small, always the same, and of one class alone.

use super::evidence::Evidence;
use crate::metrics::change::region;
use serde::Serialize;

/// What a place must be like to be flagged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rule {
    /// It changes by more than this share of all pixels of the other classes' maps do.
    pub percentile: f32,
    /// It changes by so many times as much as at the same place for any other class.
    pub times: f32,
    /// It changes in at least this share of the images: what moves with the thing in the picture does not.
    pub share: f32,
    /// The standard deviation over the images is at most this much of the mean.
    pub spread: f32,
    /// The place reaches as far as the change is this share of its peak.
    pub extent: f32,
    /// It is at most this share of the image.
    pub most: f32,
    /// Fewest images a map is believed of.
    pub images: usize,
}

impl Default for Rule {
    fn default() -> Self {
        Rule { percentile: 0.99, times: 2.0, share: 0.6, spread: 0.8, extent: 0.5, most: 0.08, images: 5 }
    }
}

/// A place that is flagged.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spot {
    /// Its pixels as places in \[H,W\], ascending.
    pub pixels: Vec<usize>,
    /// Mean change of them, as a share of the range.
    pub change: f32,
    /// The most that they change in the mean for another class.
    pub others: f32,
    /// Share of the images in which they change.
    pub share: f32,
}

/// The value that `percentile` of all `values` are below.
fn percentile(values: impl Iterator<Item = f32>, percentile: f32) -> f32 {
    let mut values: Vec<f32> = values.collect();
    values.sort_unstable_by(f32::total_cmp);
    let at = (percentile * values.len() as f32) as usize;
    values.get(at.min(values.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// Mean of `map` over `pixels`.
fn mean(map: &[f32], pixels: &[usize]) -> f32 {
    pixels.iter().map(|pixel| map[*pixel]).sum::<f32>() / pixels.len().max(1) as f32
}

/// The places of a class's map, \[H,W\] and `width` wide, that stand out against the maps of the `others`; the strongest first.
pub fn spots(mine: &Evidence, others: &[&Evidence], width: usize, rule: &Rule) -> Vec<Spot> {
    let others: Vec<&&Evidence> = others.iter().filter(|other| other.images >= rule.images).collect();
    if mine.images < rule.images || others.is_empty() {
        return Vec::new();
    }
    let usual = percentile(others.iter().flat_map(|other| other.mean.iter().copied()), rule.percentile);
    let theirs: Vec<f32> = (0..mine.mean.len())
        .map(|pixel| others.iter().map(|other| other.mean[pixel]).fold(0.0, f32::max))
        .collect();
    let stands_out = |pixel: usize| {
        let change = mine.mean[pixel];
        change > usual
            && change >= rule.times * theirs[pixel]
            && mine.share[pixel] >= rule.share
            && mine.spread[pixel] <= rule.spread * change
    };
    let mut peaks: Vec<usize> = (0..mine.mean.len()).filter(|pixel| stands_out(*pixel)).collect();
    peaks.sort_by(|a, b| mine.mean[*b].total_cmp(&mine.mean[*a]).then(a.cmp(b)));
    let mut taken = vec![false; mine.mean.len()];
    let mut spots = Vec::new();
    for peak in peaks {
        if taken[peak] {
            continue;
        }
        let inside: Vec<bool> =
            mine.mean.iter().map(|change| *change >= rule.extent * mine.mean[peak]).collect();
        let mut pixels = region(peak, &inside, width);
        pixels.sort_unstable();
        pixels.iter().for_each(|pixel| taken[*pixel] = true);
        if pixels.len() as f32 <= rule.most * mine.mean.len() as f32 {
            let [change, share] = [&mine.mean, &mine.share].map(|map| mean(map, &pixels));
            let others = others.iter().map(|other| mean(&other.mean, &pixels)).fold(0.0, f32::max);
            spots.push(Spot { pixels, change, others, share });
        }
    }
    spots
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::evidence::Direction;
    use duet::explain::Explanation;
    use duet::rng::{Seed, uniform};

    const WIDTH: usize = 12;

    /// An explanation whose image, black before, changes by `change` in −2..2.
    fn changed(change: Vec<f32>) -> Explanation {
        Explanation {
            counterfactual: change.iter().map(|d| d - 1.0).collect(),
            difference: change,
            ..Explanation::unchanged(&[], 0.into(), &[])
        }
    }

    /// The sum over `count` images of what `draw` changes: faint everywhere, with `strong` at the pixels it gives for an image.
    fn evidence(seed: u64, count: usize, draw: impl Fn(usize) -> Vec<usize>) -> Evidence {
        let one = |image: usize| {
            let mut change = vec![0.0; WIDTH * WIDTH];
            uniform(Seed(seed), duet::rng::Stream::Init, 0, image as u32, &mut change);
            change.iter_mut().for_each(|d| *d *= 0.1);
            draw(image).iter().for_each(|pixel| change[*pixel] = 1.2);
            changed(change)
        };
        let all: Vec<Explanation> = (0..count).map(one).collect();
        Evidence::of(all.iter(), Direction::Toward, 1, WIDTH * WIDTH)
    }

    /// A square of `side` pixels at (y, x).
    fn square(y: usize, x: usize, side: usize) -> Vec<usize> {
        (0..side * side).map(|at| (y + at / side) * WIDTH + x + at % side).collect()
    }

    /// Where a thing is that moves with the image.
    fn moving(image: usize) -> Vec<usize> {
        square(image % 9, (7 * image) % 9, 3)
    }

    fn found(mine: &Evidence, others: &[&Evidence]) -> Vec<Vec<usize>> {
        spots(mine, others, WIDTH, &Rule::default()).into_iter().map(|spot| spot.pixels).collect()
    }

    #[test]
    fn a_place_that_stays_is_found_and_nothing_else() {
        let planted = square(1, 9, 2);
        let both = |image: usize| [moving(image), square(1, 9, 2)].concat();
        let others = [evidence(1, 20, moving), evidence(2, 20, |image| moving(image + 3))];
        let others: Vec<&Evidence> = others.iter().collect();
        let mine = evidence(3, 20, both);
        assert_eq!(found(&mine, &others), std::slice::from_ref(&planted));
        let spot = &spots(&mine, &others, WIDTH, &Rule::default())[0];
        assert!((spot.change - 0.6).abs() < 1e-5 && spot.share == 1.0 && spot.others < 0.2, "{spot:?}");
        // In most of the images it still is one; in some of them it could be a part of the thing.
        let often = |image: usize| if !image.is_multiple_of(4) { both(image) } else { moving(image) };
        assert_eq!(found(&evidence(4, 20, often), &others), [planted]);
        let sometimes = |image: usize| if image.is_multiple_of(3) { both(image) } else { moving(image) };
        assert!(found(&evidence(5, 20, sometimes), &others).is_empty());
        assert!(found(&evidence(3, 20, moving), &others).is_empty(), "what moves is none");
    }

    #[test]
    fn what_is_everywhere_large_or_common_is_no_shortcut() {
        let others = [evidence(1, 20, moving), evidence(2, 20, |image| moving(image + 3))];
        let others: Vec<&Evidence> = others.iter().collect();
        let uniform = evidence(3, 20, |_| (0..WIDTH * WIDTH).collect());
        assert!(found(&uniform, &others).is_empty(), "uniform");
        let large = evidence(4, 20, |_| square(3, 3, 4));
        assert!(found(&large, &others).is_empty(), "a ninth of the image is no small place");
        let place = evidence(5, 20, |_| square(1, 9, 2));
        assert!(found(&place, &[others[0], &place]).is_empty(), "of two classes it tells neither");
        assert_eq!(found(&place, &others).len(), 1);
        assert!(found(&evidence(5, 4, |_| square(1, 9, 2)), &others).is_empty(), "too few images");
        assert!(found(&place, &[]).is_empty(), "nothing to compare with");
        let two = evidence(6, 20, |_| [square(1, 9, 2), square(8, 1, 2)].concat());
        assert_eq!(found(&two, &others).len(), 2);
    }
}
