//! Malaria cells (Figure 7): counterfactuals of whole held-out patients, and what it is worth that patients are held out and not
//! cells.

use super::lab::{Begin, Lab};
use super::table::{Cell, Column, Row, Table};
use crate::report::explained::Explained;
use duet::Result;
use duet::infer::ImageClassifier;
use duet::model::argmax;

/// The data, split by patient and by cell.
const SPLITS: [(&str, &str); 2] = [("patients held out", "by-patient"), ("cells held out", "by-cell")];
/// Images at once.
const BATCH: usize = 32;

/// What a split by cells pretends.
pub fn leakage(lab: &Lab<'_>) -> Result<Vec<Table>> {
    let stages = [("joint", "joint"), ("classifier alone", "alone")];
    let orders = stages.iter().flat_map(|(_, stage)| SPLITS.iter().map(move |(_, data)| (*stage, *data)));
    lab.ahead(&orders.collect::<Vec<_>>())?;
    let mut rows = Vec::new();
    for (name, stage) in stages {
        let mut cells = Vec::new();
        for (_, data) in SPLITS {
            let shares = lab.of_seeds(|seed| {
                let trained = lab.train(stage, data, seed, Begin::default())?;
                lab.accuracy(&trained, data)
            })?;
            cells.push(Cell::of(shares));
        }
        let gain = cells[1].minus(&cells[0]);
        cells.push(gain);
        rows.push(Row::new(name, cells));
    }
    let columns =
        SPLITS.iter().map(|(name, _)| *name).chain(["what the second pretends"]).map(Column::percent);
    let data = SPLITS.map(|(_, data)| data);
    let title = "Held out by patient or by cell: right on test images";
    let mut table = lab.table("leakage", title, columns.collect(), rows, &data)?;
    title.clone_into(&mut table.title);
    table.notes.push("nothing that is learnt here is of clinical worth".into());
    Ok(vec![table])
}

/// Figure 7: what would have to change for a cell to be called infected, or not.
pub fn counterfactuals(lab: &Lab<'_>) -> Result<Vec<Table>> {
    let (data, count) = (SPLITS[0].1, lab.scale.number("explained")?);
    lab.ahead(&[("joint", data), ("alone", data)])?;
    let mut cells = vec![Cell::default(); 4];
    let mut picture = None;
    for seed in lab.seeds() {
        let joint = lab.open(&lab.train("joint", data, seed, Begin::default())?)?;
        let alone = lab.open(&lab.train("alone", data, seed, Begin::default())?)?;
        let judge = pollster::block_on(ImageClassifier::new(&alone.weights, BATCH, alone.set))?;
        let split = lab.split(&joint, data)?;
        let made = Explained::some(&joint, &split.test, count, lab.quiet())?;
        let (mut agrees, mut change) = (0usize, 0.0);
        for answer in made.answers() {
            let seen = pollster::block_on(judge.logits(&answer.counterfactual))?;
            agrees += usize::from(argmax(&seen, 2)?.first() == Some(&answer.target.class));
            change += answer.mean_change();
        }
        let share = |count: usize| count as f64 / made.len().max(1) as f64;
        let right = lab.accuracy_of(&joint, &split.test, split.test.len())?;
        let figures = [right, share(made.reached()), share(agrees), change / made.len().max(1) as f64];
        for (cell, figure) in cells.iter_mut().zip(figures) {
            cell.values.push(figure);
        }
        if picture.is_none() {
            let shown = Explained::some(&joint, &split.test, 8, lab.quiet())?;
            picture =
                Some(lab.drawn("counterfactuals", "strips.png", |path| shown.save(joint.config(), path))?);
        }
    }
    let columns =
        ["right on test images", "other class reached", "classifier alone agrees", "mean change of a pixel"];
    let rows = vec![Row::new("joint model, patients held out", cells)];
    let title = "What would have to change for a cell to be called infected, or not";
    let mut table =
        lab.table("counterfactuals", title, columns.map(Column::percent).into(), rows, &[data])?;
    table.notes.push(format!("{count} test images, of each class as many; the classifier alone of the same seed guides nothing; the paper's figure is without numbers"));
    table.pictures.extend(picture.map(|file| ("original, counterfactual, difference".to_owned(), file)));
    Ok(vec![table])
}
