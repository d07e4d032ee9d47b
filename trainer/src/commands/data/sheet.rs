//! A sheet of a data set's images: a row of each class.

use crate::data::{Dataset, by_class};
use crate::io::render::Grid;
use duet::model::Labels;
use duet::{Error, Result};
use std::path::Path;

/// Pixels on the screen that small images are drawn as large as.
const SIDE: usize = 64;

/// Draws `count` images of each class, or with each label, spread over those there are, behind its name and their number.
///
/// # Errors
/// [`Error::Config`] for more than a picture can hold; [`Error::Write`].
pub fn draw(path: &Path, set: &Dataset, count: usize) -> Result<()> {
    let names: Vec<String> = set
        .class_names
        .iter()
        .zip(by_class(set))
        .map(|(name, images)| format!("{name} ({images})"))
        .collect();
    let scale = (SIDE / set.size.max(1)).clamp(1, 4) as u32;
    let grid = Grid { channels: set.channels, size: set.size, scale };
    let most = grid.most_columns(names.len(), &names);
    if count > most {
        let detail = format!(
            "must be at most {most} for {} rows, or the picture becomes too large; is {count}",
            names.len()
        );
        return Err(Error::config("count", detail));
    }
    let rows: Vec<Vec<f32>> =
        (0..names.len()).map(|class| set.images_f32(&spread(&rows_of(set, class), count))).collect();
    grid.save_rows(path, &rows, &names)
}

/// The rows of a class, or those that have a label.
fn rows_of(set: &Dataset, class: usize) -> Vec<usize> {
    let is = |row: &usize| match &set.labels {
        Labels::Classes(classes) => classes.get(*row).is_some_and(|own| *own as usize == class),
        Labels::MultiLabel(targets) => {
            targets.get(row * set.class_names.len() + class).is_some_and(|target| *target > 0.0)
        }
    };
    (0..set.len()).filter(is).collect()
}

/// `count` of the rows, spread over them; all where there are fewer.
fn spread(rows: &[usize], count: usize) -> Vec<usize> {
    let chosen = (0..count.min(rows.len())).map(|i| i * rows.len() / count.min(rows.len()).max(1));
    chosen.filter_map(|place| rows.get(place).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_of_their_class_and_spread_over_it() {
        let set = |labels| Dataset {
            images: vec![0; 6].into(),
            labels,
            channels: 1,
            size: 1,
            class_names: vec!["a".into(), "b".into()],
        };
        let classes = set(Labels::Classes(vec![0, 1, 0, 0, 0, 0]));
        assert_eq!((rows_of(&classes, 0), rows_of(&classes, 1)), (vec![0, 2, 3, 4, 5], vec![1]));
        let labels = set(Labels::MultiLabel(
            [[1.0, 0.0], [1.0, 1.0], [0.0; 2], [0.0; 2], [0.0; 2], [0.0; 2]].concat(),
        ));
        assert_eq!((rows_of(&labels, 0), rows_of(&labels, 1)), (vec![0, 1], vec![1]));
        assert_eq!(spread(&[4, 5, 6, 7, 8, 9], 3), [4, 6, 8]);
        assert_eq!(spread(&[4, 5], 9), [4, 5]);
        assert!(spread(&[], 3).is_empty() && spread(&[1], 0).is_empty());
    }
}
