//! Eq. 9 and 10: what a classifier sees in training, clean images, noised ones or both, and what it is worth for guidance.

use super::joint::DATA;
use super::lab::{Begin, Lab};
use super::samples::{Judge, taken_for_its_class};
use super::table::{Cell, Column, Row, Table};
use crate::eval::accuracy::{noise_levels, of_noised};
use duet::Result;
use duet::infer::NoisedClassifier;
use duet::rng::Seed;

/// Images at once.
const BATCH: usize = 32;

/// Runs it.
pub fn run(lab: &Lab<'_>) -> Result<Vec<Table>> {
    let images = lab.scale.number("test_images")?.min(lab.scale.number("unlike_images")?);
    let stages = [
        ("clean images (Eq. 5 to 8)", "clean"),
        ("noised images (Eq. 9 and 10)", "noised"),
        ("both", "joint"),
    ];
    lab.ahead(&["clean", "noised", "joint", "alone"].map(|stage| (stage, DATA)))?;
    let mut rows = Vec::new();
    let mut timesteps = [0; 4];
    for (name, stage) in stages {
        let mut cells = vec![Cell::default(); timesteps.len() + 2];
        for seed in lab.seeds() {
            let trained = lab.train(stage, DATA, seed, Begin::default())?;
            let session = lab.open(&trained)?;
            let split = lab.split(&session, DATA)?;
            let (config, diffusion) = (session.config(), &session.checkpoint.diffusion);
            let mut shares = vec![lab.accuracy_of(&session, &split.test, split.test.len())?];
            let rows = split.test.spread(images);
            let classifier = NoisedClassifier::new(&session.weights, diffusion, BATCH, session.set);
            let classifier = pollster::block_on(classifier)?;
            timesteps = noise_levels(diffusion.diffusion_steps);
            for t in timesteps {
                shares.push(of_noised(&classifier, config, &split.test, &rows, (t, Seed(seed)))?);
            }
            let alone = lab.train("alone", DATA, seed, Begin::default())?;
            let judge = Judge::new(lab, &alone, 100)?;
            shares.push(taken_for_its_class(lab, &trained, &judge, seed)?);
            for (cell, share) in cells.iter_mut().zip(shares) {
                cell.values.push(share);
            }
        }
        rows.push(Row::new(name, cells));
    }
    let columns = std::iter::once("t = 0".to_owned())
        .chain(timesteps.iter().map(|t| format!("t = {t}")))
        .chain(["guided samples taken for their class".to_owned()]);
    let mut table = lab.table(
        "noised",
        "What the classifier sees in training",
        columns.map(Column::percent).collect(),
        rows,
        &[DATA],
    )?;
    "its images".clone_into(&mut table.head);
    table.title =
        "What the classifier sees in training: right on test images noised to t (Eq. 5 to 10)".into();
    table.notes.push(format!("{images} of the test images where they are noised; samples as in Table 2, judged by the classifier alone of the same seed"));
    Ok(vec![table])
}
