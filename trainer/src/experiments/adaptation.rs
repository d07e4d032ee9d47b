//! Table 6: a model of one domain goes on with images of another, without their labels: only the noise error is minimised, and the
//! head stays as it is.

use super::lab::{Begin, Lab};
use super::table::{Cell, Column, Row, Table};
use duet::Result;

/// The pairs, and the paper's figures: classifier of the source, adapted, classifier of the target.
const PAIRS: [(&str, &str, [f64; 3]); 2] =
    [("usps", "mnist", [54.7, 90.5, 96.8]), ("mnist", "usps", [72.2, 92.7, 99.4])];

/// Runs it.
pub fn run(lab: &Lab<'_>) -> Result<Vec<Table>> {
    let mut rows: Vec<(&str, Vec<Cell>)> = [
        "classifier of the source alone",
        "joint model of the source alone",
        "joint model of the source, adapted",
        "the same at a tenth of the rate",
        "classifier of the target (upper bound)",
    ]
    .map(|name| (name, Vec::new()))
    .into();
    for (source, target, paper) in PAIRS {
        let figures = lab.of_seeds(|seed| {
            let train = |stage: &str, data: &str| lab.train(stage, data, seed, Begin::default());
            let joint = train("joint", source)?;
            let begin = Begin { init: Some(&joint), name: source, ..Begin::default() };
            let [adapted, gently] =
                [lab.train("adapted", target, seed, begin)?, lab.train("gently", target, seed, begin)?];
            let models = [train("alone", source)?, joint.clone(), adapted, gently, train("alone", target)?];
            models.iter().map(|model| lab.accuracy(model, target)).collect::<Result<Vec<f64>>>()
        })?;
        let beside = [Some(paper[0]), None, Some(paper[1]), None, Some(paper[2])];
        for (number, ((_, cells), paper)) in rows.iter_mut().zip(beside).enumerate() {
            let cell = Cell::of(figures.iter().filter_map(|row| row.get(number).copied()).collect());
            cells.push(match paper {
                Some(paper) => cell.beside(paper),
                None => cell,
            });
        }
    }
    let name = |(source, target, _): &(&str, &str, _)| {
        format!("{} → {}", source.to_uppercase(), target.to_uppercase())
    };
    let columns = PAIRS.iter().map(|pair| Column::percent(name(pair))).collect();
    let rows = rows.into_iter().map(|(name, cells)| Row::new(name, cells)).collect();
    let title = "Another domain without its labels: right on the target's test images";
    Ok(vec![lab.table("table6", title, columns, rows, &["usps", "mnist"])?])
}
