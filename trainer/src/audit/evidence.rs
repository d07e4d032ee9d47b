//! Where counterfactuals change images, summed over many of them: a map for each class and direction.

use duet::explain::Explanation;
use serde::Serialize;

/// Which changes are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Of images that are not of the class, towards it.
    Toward,
    /// Of images of the class, away from it: to the class that comes second for them, or without the label.
    Away,
}

/// What the changes of many images have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// Images that were explained.
    pub images: usize,
    /// How many of them became what they were to become.
    pub reached: usize,
    /// Mean |Δ| of each pixel \[H,W\], the largest of its channels, as a share of the range.
    pub mean: Vec<f32>,
    /// Standard deviation of the same over the images.
    pub spread: Vec<f32>,
    /// Share of the images in which the pixel changes by more than 8 grey levels of 255.
    pub share: Vec<f32>,
    /// What the class has there \[C,H,W\] in −1..1: of changes towards it the counterfactuals, of changes away from it the
    /// originals, each image with the weight of its change.
    pub content: Vec<f32>,
}

impl Evidence {
    /// Of explanations of images of `channels` × `pixels` values.
    pub fn of<'a>(
        explanations: impl Iterator<Item = &'a Explanation>,
        direction: Direction,
        channels: usize,
        pixels: usize,
    ) -> Evidence {
        let zeros = || vec![0.0f32; pixels];
        let (mut mean, mut squares, mut share) = (zeros(), zeros(), zeros());
        let (mut content, mut plain) = (vec![0.0f32; channels * pixels], vec![0.0f32; channels * pixels]);
        let (mut images, mut reached) = (0, 0);
        for one in explanations {
            images += 1;
            reached += usize::from(one.reached);
            let is = |at: usize| match direction {
                Direction::Toward => one.counterfactual[at],
                Direction::Away => one.counterfactual[at] - one.difference[at],
            };
            for (share, touched) in share.iter_mut().zip(one.touched(pixels)) {
                *share += f32::from(u8::from(touched));
            }
            for pixel in 0..pixels {
                let places = (0..channels).map(|channel| channel * pixels + pixel);
                let change = places.clone().map(|at| 0.5 * one.difference[at].abs()).fold(0.0, f32::max);
                mean[pixel] += change;
                squares[pixel] += change * change;
                for at in places {
                    content[at] += change * is(at);
                    plain[at] += is(at);
                }
            }
        }
        let count = images.max(1) as f32;
        for at in 0..channels * pixels {
            // Where nothing changes there is no weight to divide by.
            let weight = mean[at % pixels];
            content[at] = if weight > 0.0 { content[at] / weight } else { plain[at] / count };
        }
        for values in [&mut mean, &mut squares, &mut share] {
            values.iter_mut().for_each(|value| *value /= count);
        }
        let pairs = squares.iter().zip(&mean);
        let spread = pairs.map(|(square, mean)| (square - mean * mean).max(0.0).sqrt()).collect();
        Evidence { images, reached, mean, spread, share, content }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_summed_and_contents_weighed_by_them() {
        // Two images of two channels and two pixels; the second pixel never changes.
        let one = |counterfactual: [f32; 4], difference: [f32; 4], reached| Explanation {
            counterfactual: counterfactual.to_vec(),
            difference: difference.to_vec(),
            reached,
            ..Explanation::unchanged(&[], 0.into(), &[])
        };
        let made = [
            one([1.0, 0.5, 0.0, 0.5], [1.2, 0.0, -0.4, 0.0], true),
            one([-0.5, -0.5, 0.25, 0.0], [0.0, 0.0, 0.4, 0.0], false),
        ];
        let toward = Evidence::of(made.iter(), Direction::Toward, 2, 2);
        assert_eq!((toward.images, toward.reached), (2, 1));
        // The larger change of the channels, as a share of the range: 0.6 and 0.2.
        assert!((toward.mean[0] - 0.4).abs() < 1e-6 && (toward.spread[0] - 0.2).abs() < 1e-6);
        assert_eq!((toward.mean[1], toward.spread[1]), (0.0, 0.0));
        assert_eq!(toward.share, [1.0, 0.0]);
        let near =
            |values: &[f32], right: [f32; 4]| values.iter().zip(right).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near(&toward.content, [0.625, 0.0, 0.0625, 0.25]), "{:?}", toward.content);
        let away = Evidence::of(made.iter(), Direction::Away, 2, 2);
        // Originals: −0.2 and −0.5; 0.4 and −0.15.
        assert!(near(&away.content, [-0.275, 0.0, 0.2625, 0.25]), "{:?}", away.content);
        assert_eq!(Evidence::of(std::iter::empty(), Direction::Away, 1, 3).mean, [0.0; 3]);
    }
}
