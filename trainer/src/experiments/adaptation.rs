//! Table 6: a model of one domain goes on with images of another, without their labels: only the noise error is minimised, and the
//! head stays as it is.

use super::lab::{Begin, Lab, Order};
use super::table::{Cell, Column, Row, Table};
use duet::Result;

/// A pair of domains.
pub struct Pair {
    source: &'static str,
    target: &'static str,
    /// The paper's figures: classifier of the source, adapted, classifier of the target.
    paper: [Option<f64>; 3],
}

/// What a table is of.
pub struct Pairs {
    pairs: &'static [Pair],
    /// Where the table is from, where not from where the plan says.
    source: Option<&'static str>,
    /// What a reader has to know of these pairs.
    notes: &'static [&'static str],
}

/// Table 6's pairs of grey digits.
pub static PAPER: Pairs = Pairs {
    pairs: &[
        Pair { source: "usps", target: "mnist", paper: [Some(54.7), Some(90.5), Some(96.8)] },
        Pair { source: "mnist", target: "usps", paper: [Some(72.2), Some(92.7), Some(99.4)] },
    ],
    source: None,
    notes: &[
        "USPS in the text form of The Elements of Statistical Learning; the paper resizes its digits to 28×28, as the scale \"paper\" does",
    ],
};
/// Digits of eight pixels a side, which the paper does not have.
pub static DIGITS: Pairs = Pairs {
    pairs: &[Pair { source: "digits", target: "mnist", paper: [None; 3] }],
    source: Some("as Table 6, of a pair that the paper does not have"),
    notes: &[
        "the paper does not have this pair; a fifth of the 8×8 digits is held out, and no writer is known",
    ],
};
/// Table 6's pair in colour.
pub static SVHN: Pairs = Pairs {
    pairs: &[Pair { source: "svhn", target: "mnist", paper: [Some(78.8), Some(85.5), Some(96.1)] }],
    source: None,
    notes: &[],
};

impl Pair {
    fn name(&self) -> String {
        format!("{} → {}", self.source.to_uppercase(), self.target.to_uppercase())
    }
}

/// Runs it on pairs.
pub fn run(lab: &Lab<'_>, name: &str, of: &Pairs) -> Result<Vec<Table>> {
    let pairs = of.pairs;
    train(lab, pairs)?;
    let mut rows: Vec<(&str, Vec<Cell>)> = [
        "classifier of the source alone",
        "joint model of the source alone",
        "joint model of the source, adapted",
        "the same at a tenth of the rate",
        "classifier of the target (upper bound)",
    ]
    .map(|name| (name, Vec::new()))
    .into();
    for Pair { source, target, paper: [alone, adapted, bound] } in pairs {
        let figures = lab.of_seeds(|seed| {
            let train = |stage: &str, data: &str| lab.train(stage, data, seed, Begin::default());
            let joint = train("joint", source)?;
            let begin = Begin { init: Some(&joint), name: source, ..Begin::default() };
            let [adapted, gently] =
                [lab.train("adapted", target, seed, begin)?, lab.train("gently", target, seed, begin)?];
            let models = [train("alone", source)?, joint.clone(), adapted, gently, train("alone", target)?];
            models.iter().map(|model| lab.accuracy(model, target)).collect::<Result<Vec<f64>>>()
        })?;
        let beside = [*alone, None, *adapted, None, *bound];
        for (number, ((_, cells), paper)) in rows.iter_mut().zip(beside).enumerate() {
            let cell = Cell::of(figures.iter().filter_map(|row| row.get(number).copied()).collect());
            cells.push(match paper {
                Some(paper) => cell.beside(paper),
                None => cell,
            });
        }
    }
    let columns = pairs.iter().map(|pair| Column::percent(pair.name())).collect();
    let rows = rows.into_iter().map(|(name, cells)| Row::new(name, cells)).collect();
    let title = "Another domain without its labels: right on the target's test images";
    let mut data: Vec<&str> = pairs.iter().flat_map(|pair| [pair.source, pair.target]).collect();
    data.sort_unstable();
    data.dedup();
    let mut table = lab.table(name, title, columns, rows, &data)?;
    if let Some(source) = of.source {
        table.title = format!("{title} ({source})");
    }
    table.notes.extend(of.notes.iter().map(|note| (*note).to_owned()));
    Ok(vec![table])
}

/// Trains what the table needs: what begins from nothing, then what begins with that.
fn train(lab: &Lab<'_>, pairs: &[Pair]) -> Result<()> {
    let stages = |pair: &Pair| [("joint", pair.source), ("alone", pair.source), ("alone", pair.target)];
    lab.ahead(&pairs.iter().flat_map(stages).collect::<Vec<_>>())?;
    let mut begun = Vec::new();
    for pair in pairs {
        for seed in lab.seeds() {
            begun.push((pair, seed, lab.train("joint", pair.source, seed, Begin::default())?));
        }
    }
    let orders: Vec<Order<'_>> = begun
        .iter()
        .flat_map(|(pair, seed, joint)| {
            ["adapted", "gently"].map(|stage| {
                let begin = Begin { init: Some(joint), name: pair.source, ..Begin::default() };
                Order { stage, data: pair.target, seed: *seed, begin }
            })
        })
        .collect();
    lab.train_all(&orders)
}
