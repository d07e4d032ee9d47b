//! Which pixels changed, as lines around them: paths of SVG in units of pixels.

/// Share of the answers from which on a change counts as stable.
const STABLE: f32 = 0.5;

/// The edges of changed regions, as the `d` of SVG paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// Around what changed in most answers, or in the only one.
    pub stable: String,
    /// Around what else changed in this one.
    pub unstable: String,
}

impl Outline {
    /// Around the pixels that changed of an image `size` pixels wide; `stability` is the share of the answers that change each.
    pub fn of(touched: &[bool], stability: Option<&[f32]>, size: usize) -> Outline {
        let stable =
            |pixel: usize| stability.is_none_or(|share| share.get(pixel).is_some_and(|s| *s >= STABLE));
        let part = |wanted: bool| -> Vec<bool> {
            touched.iter().enumerate().map(|(pixel, touched)| *touched && stable(pixel) == wanted).collect()
        };
        Outline { stable: edges(&part(true), size), unstable: edges(&part(false), size) }
    }
}

/// Lines between what is inside and what is not: from left to right, then from top to bottom, neighbours as one line.
fn edges(inside: &[bool], size: usize) -> String {
    let at = |x: usize, y: usize| x < size && y < size && inside.get(y * size + x) == Some(&true);
    // One before the first wraps round to what lies outside.
    let mut path = String::new();
    for (letter, transposed) in [('h', false), ('v', true)] {
        let at = |along: usize, line: usize| if transposed { at(line, along) } else { at(along, line) };
        for line in 0..=size {
            let is_edge = |along: usize| at(along, line) != at(along, line.wrapping_sub(1));
            let mut along = 0;
            while along < size {
                let run = (along..size).take_while(|a| is_edge(*a)).count();
                if run > 0 {
                    let (x, y) = if transposed { (line, along) } else { (along, line) };
                    path.push_str(&format!("M{x} {y}{letter}{run}"));
                }
                along += run.max(1);
            }
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_around_what_changed() {
        // Two neighbours in the first row of three, and the last corner.
        let touched = [true, true, false, false, false, false, false, false, true];
        let outline = Outline::of(&touched, None, 3);
        assert_eq!(outline.stable, "M0 0h2M0 1h2M2 2h1M2 3h1M0 0v1M2 0v1M2 2v1M3 2v1");
        assert_eq!(outline.unstable, "");
        let shares = [1.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.4];
        let outline = Outline::of(&touched, Some(&shares), 3);
        assert_eq!(outline.unstable, "M2 2h1M2 3h1M2 2v1M3 2v1");
        assert!(outline.stable.starts_with("M0 0h2M0 1h2"));
        assert_eq!(Outline::of(&[false; 9], None, 3), Outline::default());
        assert_eq!(Outline::of(&[true; 4], None, 2).stable, "M0 0h2M0 2h2M0 0v2M2 0v2", "one line a side");
    }
}
