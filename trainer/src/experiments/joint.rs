//! Tables 1 and 2: is one network for both tasks better than one for each, and what are the features of a diffusion model worth
//! that never saw a label?

use super::lab::{Begin, Lab, Order, Trained};
use super::table::{Cell, Column, Row, Table};
use crate::eval::noise_error;
use duet::Result;

/// The paper's accuracies on Fashion-MNIST: joint, classifier alone, head on the frozen features.
const PAPER: [f64; 3] = [95.3, 94.7, 60.6];

/// The data set.
pub const DATA: &str = "fashion-mnist";

/// What one seed trains.
pub struct Models {
    /// Noise error and classifier.
    pub joint: Trained,
    /// The classifier's loss alone.
    pub alone: Trained,
    /// The noise error alone.
    pub diffusion: Trained,
    /// A head on the frozen features of that.
    pub head: Trained,
}

/// Trains them, or finds them.
///
/// # Errors
/// As [`Lab::train`].
pub fn train(lab: &Lab<'_>, seed: u64) -> Result<Models> {
    let one = |stage: &str, init: Option<&Trained>| {
        lab.train(stage, DATA, seed, Begin { init, ..Begin::default() })
    };
    let diffusion = one("diffusion", None)?;
    let head = one("head", Some(&diffusion))?;
    Ok(Models { joint: one("joint", None)?, alone: one("alone", None)?, diffusion, head })
}

/// Trains those of every seed, as many at a time as there may be.
///
/// # Errors
/// As [`Lab::train`].
pub fn ahead(lab: &Lab<'_>) -> Result<()> {
    lab.ahead(&[("diffusion", DATA), ("joint", DATA), ("alone", DATA)])?;
    let diffusion = lab.of_seeds(|seed| lab.train("diffusion", DATA, seed, Begin::default()))?;
    let heads: Vec<Order<'_>> = lab
        .seeds()
        .into_iter()
        .zip(&diffusion)
        .map(|(seed, model)| {
            let begin = Begin { init: Some(model), ..Begin::default() };
            Order { stage: "head", data: DATA, seed, begin }
        })
        .collect();
    lab.train_all(&heads)
}

/// Runs it.
pub fn run(lab: &Lab<'_>) -> Result<Vec<Table>> {
    ahead(lab)?;
    let models = lab.of_seeds(|seed| train(lab, seed))?;
    let images = lab.scale.number("noise_images")?;
    let right = |of: fn(&Models) -> &Trained| -> Result<Cell> {
        models.iter().map(|models| lab.accuracy(of(models), DATA)).collect::<Result<_>>().map(Cell::of)
    };
    let noise = |of: fn(&Models) -> &Trained| -> Result<Cell> {
        let one = |models: &Models| {
            let session = lab.open(of(models))?;
            let split = lab.split(&session, DATA)?;
            let quarters = noise_error::by_quarter(&session, &split.test, images, 32, 0)?;
            Ok(quarters.iter().sum::<f64>() / 4.0)
        };
        models.iter().map(one).collect::<Result<_>>().map(Cell::of)
    };
    let [joint, alone, head] = [right(|m| &m.joint)?, right(|m| &m.alone)?, right(|m| &m.head)?];
    let [joint_noise, diffusion_noise] = [noise(|m| &m.joint)?, noise(|m| &m.diffusion)?];
    let gain = joint.minus(&alone);
    let rows = vec![
        Row::new("joint", vec![joint.beside(PAPER[0]), joint_noise.clone()]),
        Row::new("classifier alone", vec![alone.beside(PAPER[1]), Cell::default()]),
        Row::new("diffusion alone", vec![Cell::default(), diffusion_noise.clone()]),
        Row::new(
            "head on the frozen features of diffusion alone",
            vec![head.beside(PAPER[2]), Cell::default()],
        ),
        Row::new("joint less each alone, seed by seed", vec![gain, joint_noise.minus(&diffusion_noise)]),
    ];
    let columns = vec![Column::percent("right on test images"), Column::number("noise error", 5)];
    let mut table =
        lab.table("table1", "One network for both tasks, or one for each", columns, rows, &[DATA])?;
    table.notes.push(format!(
        "noise error: mean squared error of eps, mean over the chain, of {images} test images"
    ));
    Ok(vec![table])
}
