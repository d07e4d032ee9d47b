//! Some test images and what would have to change for other decisions: the answers, and a picture of them.

use crate::data::Dataset;
use crate::eval::explanations::{Noise, Verdict, explain_towards, steps, targets};
use crate::eval::row::{Names, Row};
use crate::io::render::{Grid, Palette};
use crate::io::session::Session;
use crate::io::strips::Column;
use duet::Result;
use duet::explain::{ExplainOptions, Explainer, Explanation, Variants};
use duet::model::{Head, ModelConfig, Target};
use std::path::Path;

/// Test images and what would have to change.
pub struct Explained {
    images: Vec<f32>,
    rows: Vec<Row>,
    made: Vec<Variants>,
    names: Names,
}

impl Explained {
    /// Of `count` test images: of each class as many, towards their second class; of several labels one is turned over.
    ///
    /// # Errors
    /// A model that does not explain; device errors.
    pub fn some(session: &Session, test: &Dataset, count: usize, quiet: bool) -> Result<Explained> {
        let config = session.config();
        let rows = match config.head {
            Head::Multiclass => {
                let mut rows = test.of_each_class(0..count.div_ceil(config.num_classes.max(1)))?;
                rows.truncate(count);
                rows
            }
            Head::MultiLabel => test.spread(count.min(test.len())),
        };
        session.checkpoint.require_denoising()?;
        let images = test.images_f32(&rows);
        let options = ExplainOptions::default();
        let diffusion = &session.checkpoint.diffusion;
        let new = Explainer::fitting(&session.weights, diffusion, rows.len(), &options, session.set);
        let mut explainer = pollster::block_on(new)?;
        let before = pollster::block_on(explainer.probabilities(&images))?;
        let wanted: Vec<(usize, Target)> = match config.head {
            Head::Multiclass => targets(&vec![None; rows.len()], &before)?.into_iter().enumerate().collect(),
            Head::MultiLabel => (before.chunks_exact(config.num_classes).enumerate())
                .map(|(image, shares)| {
                    let class = image % config.num_classes;
                    (image, Target { class, present: shares[class] <= 0.5 })
                })
                .collect(),
        };
        let noise = Noise { seed: options.seed, variants: 1, first_row: 0 };
        let bar = steps(quiet);
        let made = explain_towards(&mut explainer, &images, &wanted, noise, &bar)?;
        bar.finish_and_clear();
        let (names, pixels) = (Names::of(config), config.image_size * config.image_size);
        let told = made.iter().zip(&rows);
        let told = told.map(|(made, row)| Row::of(row.to_string(), None, made, &names, pixels, 0.0));
        let rows = told.collect::<Result<_>>()?;
        Ok(Explained { images, rows, made, names })
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The answer for each.
    pub fn answers(&self) -> impl Iterator<Item = &Explanation> {
        self.made.iter().filter_map(|made| made.answers.first())
    }

    /// How many reached their target.
    pub fn reached(&self) -> usize {
        self.rows.iter().filter(|row| row.verdict == Verdict::Reached).count()
    }

    /// Draws originals, counterfactuals and differences.
    ///
    /// # Errors
    /// A picture that cannot be written.
    pub fn save(&self, config: &ModelConfig, path: &Path) -> Result<()> {
        let lines: Vec<Vec<String>> = self.rows.iter().map(|row| row.lines(&self.names)).collect();
        let grid = Grid::for_strips(config.in_channels, config.image_size, lines.len(), 3, &lines.concat())?;
        let len = self.images.len() / self.rows.len().max(1);
        let counterfactuals = self.answers().map(|answer| answer.counterfactual.as_slice()).collect();
        let differences = self.answers().map(|answer| answer.difference.as_slice()).collect();
        let columns = [
            Column::new("original", Palette::Image, self.images.chunks_exact(len.max(1)).collect()),
            Column::new("counterfactual", Palette::Image, counterfactuals),
            Column::new("difference", Palette::Difference, differences),
        ];
        grid.save_strips(path, &lines, &columns)
    }
}
