//! Figure 2b: what representations of noised images hold, by timestep.

use super::lab::{Lab, Trained};
use super::table::{Cell, Column, Row, Table};
use crate::eval::probes::{self, Options};
use crate::io::files::Kind;
use crate::report::probes::{csv, figure};
use duet::Result;
use duet::diffusion::DiffusionConfig;
use duet::rng::Seed;

/// Images at once.
const BATCH: usize = 32;

/// The table of models that are called `ways`, each trained by `model` of a seed and its number, with a picture by class or label
/// of the last of them at the first seed.
///
/// # Errors
/// What training or probing says is wrong.
pub fn table(
    lab: &Lab<'_>,
    name: &str,
    data: &str,
    ways: &[&str],
    model: impl Fn(u64, usize) -> Result<Trained>,
) -> Result<Vec<Table>> {
    let [train, validation, test] = [
        lab.scale.number("probe_train")?,
        lab.scale.number("probe_validation")?,
        lab.scale.number("probe_test")?,
    ];
    let mut found: Vec<Vec<probes::Table>> = vec![Vec::new(); ways.len()];
    for seed in lab.seeds() {
        for (way, found) in found.iter_mut().enumerate() {
            let session = lab.open(&model(seed, way)?)?;
            let split = lab.split(&session, data)?;
            let diffusion: &DiffusionConfig = &session.checkpoint.diffusion;
            let own = Options::new(diffusion);
            let options = Options {
                train,
                validation,
                test,
                batch: BATCH,
                seed: Seed(seed),
                quiet: lab.quiet(),
                ..own
            };
            found.push(probes::by_timestep(&session.weights, diffusion, session.set, &split, &options)?);
        }
    }
    let Some(first) = found.last().and_then(|tables| tables.first()).cloned() else { return Ok(Vec::new()) };
    let share =
        |row: &probes::Row| if first.labels { row.balanced.unwrap_or(row.accuracy) } else { row.accuracy };
    let rows = first.rows.iter().enumerate().map(|(number, row)| {
        let of_way = |tables: &Vec<probes::Table>| {
            Cell::of(tables.iter().filter_map(|table| table.rows.get(number)).map(share).collect())
        };
        let name = if row.timestep == 0 { "t = 0".to_owned() } else { format!("t = {}", row.timestep) };
        Row::new(name, found.iter().map(of_way).collect())
    });
    let columns = ways.iter().map(|way| Column::percent(*way)).collect();
    let what = if first.labels { "balanced, mean of labels" } else { "right" };
    let mut table = lab.table(name, "", columns, rows.collect(), &[data])?;
    table.title = format!("What representations hold, by timestep: logistic probes, {what} (Figure 2b)");
    "images noised to".clone_into(&mut table.head);
    let [train, validation, test] = first.images;
    table.notes.push(format!("{train} images to fit by, {validation} to choose the regularisation by, {test} to test on; the pooled features are standardised; the paper probes 40 attributes of CelebA, by a logistic regression each"));
    let last = ways.last().copied().unwrap_or_default();
    lab.picture(
        &mut table,
        &format!("logistic probes by timestep, {last}, first seed"),
        "probes",
        &figure(&first).svg(),
    )?;
    lab.drawn(name, "probes.csv", |path| Kind::Table.write(path, csv(&first).as_bytes()))?;
    Ok(vec![table])
}
