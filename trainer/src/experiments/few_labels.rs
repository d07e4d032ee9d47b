//! Table 5: what images without labels are worth to a classifier.

use super::lab::{Begin, Lab, Order, Trained};
use super::table::{Cell, Column, Row, Table};
use duet::Result;

/// Shares of the labels, in thousandths.
const SHARES: [usize; 4] = [1000, 100, 50, 10];

/// Runs it.
pub fn run(lab: &Lab<'_>) -> Result<Vec<Table>> {
    let data = "fashion-mnist";
    let shares: Vec<usize> = {
        let least = lab.scale.number("largest_share_in_thousandths")?;
        SHARES.into_iter().filter(|share| *share <= least).collect()
    };
    let of_share = |share: &usize| {
        let share = *share as f64 / 1000.0;
        (format!("{share}"), [format!("train.labelled_share={share:?}")])
    };
    let named: Vec<(String, [String; 1])> = shares.iter().map(of_share).collect();
    let orders = |stages: &[&'static str], init: &[Trained]| -> Result<()> {
        let mut orders = Vec::new();
        for (number, seed) in lab.seeds().into_iter().enumerate() {
            for (stage, (name, set)) in stages.iter().flat_map(|stage| named.iter().map(move |n| (stage, n)))
            {
                let begin = Begin { init: init.get(number), set, name };
                orders.push(Order { stage, data, seed, begin });
            }
        }
        lab.train_all(&orders)
    };
    lab.ahead(&[("diffusion", data)])?;
    let diffusion = lab.of_seeds(|seed| lab.train("diffusion", data, seed, Begin::default()))?;
    orders(&["joint", "alone"], &[])?;
    orders(&["head"], &diffusion)?;
    let stages = ["alone", "head", "joint"];
    let mut cells: Vec<Vec<Cell>> = vec![Vec::new(); stages.len()];
    for (name, set) in &named {
        for (stage, cells) in stages.iter().zip(&mut cells) {
            let mut values = Vec::new();
            for (seed, diffusion) in lab.seeds().into_iter().zip(&diffusion) {
                let init = (*stage == "head").then_some(diffusion);
                let trained = lab.train(stage, data, seed, Begin { init, set, name })?;
                values.push(lab.accuracy(&trained, data)?);
            }
            cells.push(Cell::of(values));
        }
    }
    let names = [
        "classifier alone",
        "head on the frozen features of diffusion alone, trained on all images",
        "joint",
    ];
    let rows = names.into_iter().zip(cells).map(|(name, cells)| Row::new(name, cells)).collect();
    let columns =
        shares.iter().map(|share| Column::percent(format!("{} % of the labels", *share as f64 / 10.0)));
    let title = "Few labels: right on test images";
    let mut table = lab.table("table5", title, columns.collect(), rows, &[data])?;
    table.notes.push(
        "the same labels, of each class as many, for all three; the paper has no Fashion-MNIST here".into(),
    );
    Ok(vec![table])
}
