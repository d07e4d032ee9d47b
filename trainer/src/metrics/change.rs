//! How much a counterfactual changes its image, and where. All amounts are shares of the range of a value, 0 to 1; a pixel's
//! is the largest of its channels', so that a colour picture is no more changed than a grey one.

use serde::{Deserialize, Serialize};

/// A pixel is changed where it differs by more than a tenth of the range.
pub const CHANGED: f64 = 0.1;
/// A change that can be seen: more than 8 of 255 levels.
pub const VISIBLE: f64 = 8.0 / 255.0;
/// What differs from the ground by more than this belongs to the object.
const OBJECT: f64 = 0.2;
/// Pixels around the object that are not far from it.
const MARGIN: usize = 2;
/// Share of a picture's outermost pixels that are ground where it lies on one.
const PLAIN: f64 = 0.5;
/// What rounding to 32 bits may add to an amount: a difference of exactly 8 levels is not more than 8.
const ROUNDING: f64 = 1e-6;

/// An image and its counterfactual, square, \[C,H,W\] in −1..1.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// The image.
    pub original: &'a [f32],
    /// What was made of it, as long.
    pub counterfactual: &'a [f32],
    /// Height and width.
    pub size: usize,
}

/// What changed in an image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Mean absolute difference of a value.
    pub mean: f64,
    /// Share of the pixels that differ by more than [`CHANGED`].
    pub changed: f64,
    /// Share that differ by more than [`VISIBLE`].
    pub visible: f64,
    /// Share whose every value has the original's bits.
    pub equal: f64,
    /// Connected parts (eight neighbours) of the changed pixels.
    pub parts: usize,
    /// Mean absolute difference where the original is the ground to within a level; `None` of a picture without a plain
    /// ground.
    pub at_ground: Option<f64>,
    /// Mean absolute difference of pixels that are far from the object of both pictures: of those more than two pixels away
    /// from any that differs from the ground by more than a fifth of the range. `None` where there are none, and of a
    /// picture without a plain ground.
    pub far: Option<f64>,
}

/// How far two values in −1..1 are apart, as a share of the range.
fn apart(a: f32, b: f32) -> f64 {
    (f64::from(a) - f64::from(b)).abs() / 2.0
}

/// The mean of what there is.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}

impl Pair<'_> {
    fn pixels(&self) -> usize {
        self.size * self.size
    }

    /// The largest amount of a pixel's channels, by pixel.
    fn largest(&self, amount: impl Fn(usize) -> f64) -> Vec<f64> {
        let mut largest = vec![0.0f64; self.pixels()];
        for at in 0..self.original.len() {
            let of_pixel = &mut largest[at % self.size.pow(2)];
            *of_pixel = of_pixel.max(amount(at));
        }
        largest
    }

    /// The largest difference of a pixel's channels, \[H,W\].
    pub fn differences(&self) -> Vec<f64> {
        self.largest(|at| apart(self.original[at], self.counterfactual[at]))
    }

    /// What changed, of a picture on a `ground` in −1..1.
    pub fn change(&self, ground: f32) -> Change {
        let pixels = self.pixels().max(1) as f64;
        let each = self.differences();
        let share = |wanted: &dyn Fn(usize) -> bool| {
            (0..each.len()).filter(|pixel| wanted(*pixel)).count() as f64 / pixels
        };
        let over = |least: f64| share(&|pixel| each[pixel] > least + ROUNDING);
        let unequal = self.largest(|at| {
            f64::from(u8::from(self.original[at].to_bits() != self.counterfactual[at].to_bits()))
        });
        let changed: Vec<bool> = each.iter().map(|amount| *amount > CHANGED + ROUNDING).collect();
        let values = self.original.iter().zip(self.counterfactual).map(|(a, b)| apart(*a, *b));
        let [was, is] =
            [self.original, self.counterfactual].map(|picture| self.largest(|at| apart(picture[at], ground)));
        let plain = self.is_plain(&was);
        // Of a pixel the mean of its channels, as of the whole picture.
        let amount = |pixel: usize| {
            let channels = (pixel..self.original.len()).step_by(self.pixels().max(1));
            mean(channels.map(|at| apart(self.original[at], self.counterfactual[at]))).unwrap_or(0.0)
        };
        let among = |chosen: &[bool]| {
            let pixels = chosen.iter().enumerate().filter(|(_, chosen)| **chosen);
            mean(pixels.map(|(pixel, _)| amount(pixel))).filter(|_| plain)
        };
        let object: Vec<bool> =
            was.iter().zip(&is).map(|(was, is)| was.max(*is) > OBJECT + ROUNDING).collect();
        let far: Vec<bool> = dilate(&object, self.size, MARGIN).into_iter().map(|near| !near).collect();
        let at_ground: Vec<bool> = was.iter().map(|amount| *amount <= 1.0 / 255.0 + ROUNDING).collect();
        Change {
            mean: mean(values).unwrap_or(0.0),
            changed: over(CHANGED),
            visible: over(VISIBLE),
            equal: share(&|pixel| unequal[pixel] == 0.0),
            parts: parts(&changed, self.size),
            at_ground: among(&at_ground),
            far: among(&far),
        }
    }

    /// Whether the picture, whose pixels lie so far from the ground, lies on it: at least half of its outermost pixels do.
    fn is_plain(&self, from_ground: &[f64]) -> bool {
        let last = self.size.saturating_sub(1);
        let outermost = |pixel: &usize| {
            let (row, column) = (pixel / self.size, pixel % self.size);
            row == 0 || column == 0 || row == last || column == last
        };
        let ring: Vec<usize> = (0..self.pixels()).filter(outermost).collect();
        let ground = ring.iter().filter(|pixel| from_ground[**pixel] <= OBJECT + ROUNDING).count();
        ground as f64 >= PLAIN * ring.len() as f64 && !ring.is_empty()
    }
}

/// The pixels of a square picture within `reach` of one along both axes, itself among them.
fn around(pixel: usize, size: usize, reach: usize) -> impl Iterator<Item = usize> {
    let near = |at: usize| at.saturating_sub(reach)..=(at + reach).min(size - 1);
    let (rows, columns) = (near(pixel / size), near(pixel % size));
    rows.flat_map(move |row| columns.clone().map(move |column| row * size + column))
}

/// A region of a square picture and all within `reach` pixels of it, along both axes (a square's dilation).
pub fn dilate(region: &[bool], size: usize, reach: usize) -> Vec<bool> {
    let mut dilated = vec![false; region.len()];
    for pixel in (0..region.len()).filter(|pixel| region[*pixel]) {
        around(pixel, size, reach).for_each(|near| dilated[near] = true);
    }
    dilated
}

/// How many parts a region of a square picture has, pixels that touch at a corner being of one.
pub fn parts(region: &[bool], size: usize) -> usize {
    regions(region, size).len()
}

/// Those parts, the pixels of each.
pub fn regions(all: &[bool], size: usize) -> Vec<Vec<usize>> {
    let mut left = all.to_vec();
    let mut regions = Vec::new();
    for first in 0..left.len() {
        if left[first] {
            regions.push(take_region(first, &mut left, size));
        }
    }
    regions
}

/// The pixels of the part that `first` is in.
pub fn region(first: usize, all: &[bool], size: usize) -> Vec<usize> {
    take_region(first, &mut all.to_vec(), size)
}

/// The same; they are no longer in what is `left`.
fn take_region(first: usize, left: &mut [bool], size: usize) -> Vec<usize> {
    left[first] = false;
    let (mut found, mut region) = (vec![first], Vec::new());
    while let Some(pixel) = found.pop() {
        region.push(pixel);
        for near in around(pixel, size, 1) {
            if left[near] {
                left[near] = false;
                found.push(near);
            }
        }
    }
    region
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A level of 0 to 255 as images hold it.
    fn value(level: u8) -> f32 {
        duet::picture::value(level)
    }

    fn close(got: Option<f64>, want: f64) {
        let got = got.expect("a number");
        assert!((got - want).abs() < 1e-7, "{got} instead of {want}");
    }

    #[test]
    fn amounts_and_shares_by_hand() {
        // Of 16 black pixels one becomes white, one differs by exactly 8 levels, one by 9, one by 25.5 (a tenth), one by 26.
        let original = vec![value(0); 16];
        let mut counterfactual = original.clone();
        counterfactual[0] = 1.0;
        for (pixel, level) in [(5, 8), (6, 9), (15, 26)] {
            counterfactual[pixel] = value(level);
        }
        counterfactual[10] = -0.8;
        let pair = Pair { original: &original, counterfactual: &counterfactual, size: 4 };
        let found = pair.change(value(0));
        close(Some(found.mean), (1.0 + (8.0 + 9.0 + 25.5 + 26.0) / 255.0) / 16.0);
        assert_eq!(found.changed, 2.0 / 16.0, "a tenth is not more than a tenth");
        assert_eq!(found.visible, 4.0 / 16.0, "8 levels are not more than 8");
        assert_eq!(found.equal, 11.0 / 16.0);
        assert_eq!(found.parts, 2);
        close(found.at_ground, found.mean);
        // The white pixel in the corner reaches over 3 × 3; of the other 7 pixels one differs by 26 levels.
        close(found.far, 26.0 / 255.0 / 7.0);
        let same = Pair { counterfactual: &original, ..pair }.change(value(0));
        let none = Change { mean: 0.0, changed: 0.0, visible: 0.0, equal: 1.0, parts: 0, ..same };
        assert_eq!((same, same.far, same.at_ground), (none, Some(0.0), Some(0.0)));
    }

    #[test]
    fn a_pixel_of_colour_counts_by_the_most_changed_of_its_channels() {
        // Three channels of 2 × 2: the first pixel changes in red by 0.3 and in blue by 0.05, the second in green by 0.06.
        let original = vec![-1.0; 12];
        let mut counterfactual = original.clone();
        for (at, amount) in [(0, 0.3), (8, 0.05), (5, 0.06)] {
            counterfactual[at] += 2.0 * amount;
        }
        let pair = Pair { original: &original, counterfactual: &counterfactual, size: 2 };
        let found = pair.change(-1.0);
        close(Some(found.mean), (0.3 + 0.05 + 0.06) / 12.0);
        assert_eq!((found.changed, found.visible, found.equal), (0.25, 0.5, 0.5));
        close(found.at_ground, found.mean);
        assert_eq!(found.far, None, "all is near the object that appeared");
    }

    #[test]
    fn what_lies_far_from_both_objects_of_a_picture_on_its_ground() {
        // 9 × 9 on white: an object in the corner, which the counterfactual moves to the opposite one; a faint haze
        // everywhere, of 0.15 in the middle.
        let mut original = vec![1.0f32; 81];
        original[0] = -1.0;
        let mut counterfactual: Vec<f32> = original.iter().map(|_| 0.98).collect();
        counterfactual[80] = -1.0;
        counterfactual[40] = 0.7;
        let pair = Pair { original: &original, counterfactual: &counterfactual, size: 9 };
        let found = pair.change(1.0);
        // Each corner with its margin is 3 × 3: 63 pixels are far, and one of them is the middle.
        close(found.far, (62.0 * 0.01 + 0.15) / 63.0);
        close(found.at_ground, (78.0 * 0.01 + 0.15 + 1.0) / 80.0);
        // The same on another ground: nothing is known of it.
        let other = pair.change(-1.0);
        assert_eq!((other.far, other.at_ground, other.mean), (None, None, found.mean));
    }

    #[test]
    fn half_of_the_outermost_pixels_are_a_ground() {
        let plain = |covered: usize| {
            // The ring of 3 × 3 pixels has eight; the object covers the first of them.
            let ring = [0, 1, 2, 3, 5, 6, 7, 8];
            let mut original = vec![-1.0f32; 9];
            ring[..covered].iter().for_each(|pixel| original[*pixel] = 0.0);
            let pair = Pair { original: &original, counterfactual: &original, size: 3 };
            pair.change(-1.0).at_ground.is_some()
        };
        assert_eq!([0, 4, 5, 8].map(plain), [true, true, false, false]);
    }

    #[test]
    fn parts_touch_at_corners_and_not_across_the_picture_s_edge() {
        let region = |rows: [&str; 4]| -> Vec<bool> { rows.concat().chars().map(|c| c == '#').collect() };
        assert_eq!(parts(&region(["#..#", ".#..", "..#.", "#..#"]), 4), 3, "a diagonal is one part");
        assert_eq!(
            parts(&region(["...#", "#...", "....", "...."]), 4),
            2,
            "the next in memory is no neighbour"
        );
        assert_eq!(parts(&region(["####", "#..#", "#..#", "####"]), 4), 1);
        assert_eq!(parts(&region(["....", "....", "....", "...."]), 4), 0);
        let dilated = dilate(&region(["....", "....", "....", "...#"]), 4, 2);
        assert_eq!(dilated, region(["....", ".###", ".###", ".###"]));
    }
}
