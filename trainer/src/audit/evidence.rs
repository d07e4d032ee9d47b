//! Where counterfactuals change images, summed over many of them: a map for each class and direction.

use duet::explain::Explanation;
use serde::Serialize;

/// Difference of grey levels, as a share of the range, above which a pixel counts as changed: 8 of 255.
const CHANGED: f32 = 8.0 / 255.0;

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
    /// Share of the images in which the pixel changes at all.
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
            for pixel in 0..pixels {
                let places = (0..channels).map(|channel| channel * pixels + pixel);
                let change = places.clone().map(|at| 0.5 * one.difference[at].abs()).fold(0.0, f32::max);
                mean[pixel] += change;
                squares[pixel] += change * change;
                share[pixel] += f32::from(u8::from(change > CHANGED));
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
