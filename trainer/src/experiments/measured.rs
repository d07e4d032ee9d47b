//! What readers ask of the models of Table 1: are they right under noise, other contrast, turned? Do they know how sure they may
//! be? Do they notice images unlike all they have seen? And what do representations hold, by timestep?

use super::joint::{DATA, Models, ahead, train};
use super::lab::{Begin, Lab, Trained};
use super::table::{Cell, Column, Row, Table};
use crate::eval::accuracy;
use crate::eval::corrupted::{self, LEVELS};
use crate::eval::unlike::{Apart, Scorer, Scores, compare, default_timesteps};
use duet::evaluation::Calibration;
use duet::rng::Seed;
use duet::{Error, Result};

/// Images at once.
const BATCH: usize = 32;

type Of = fn(&Models) -> &Trained;

/// The two that classify.
const BOTH: [(&str, Of); 2] =
    [("joint", |models| &models.joint), ("classifier alone", |models| &models.alone)];

/// Accuracy under corruptions that training does not know.
pub fn robustness(lab: &Lab<'_>) -> Result<Vec<Table>> {
    ahead(lab)?;
    let images = lab.scale.number("test_images")?;
    let mut cells = vec![vec![Cell::default(); BOTH.len()]; 1 + LEVELS.len()];
    for seed in lab.seeds() {
        let models = train(lab, seed)?;
        for (column, (_, of)) in BOTH.iter().enumerate() {
            let session = lab.open(of(&models))?;
            let split = lab.split(&session, DATA)?;
            let options = corrupted::Options { images, batch: BATCH, seed: Seed(seed), quiet: lab.quiet() };
            let found = corrupted::accuracies(&session.weights, session.set, &split.test, options, &LEVELS)?;
            let clean = lab.accuracy_of(&session, &split.test, images)?;
            let shares = std::iter::once(clean).chain(found.iter().map(|found| found.share));
            for (row, share) in cells.iter_mut().zip(shares) {
                row[column].values.push(share);
            }
        }
    }
    let names = std::iter::once("as they are".to_owned()).chain(LEVELS.iter().map(ToString::to_string));
    let rows = names.zip(cells).map(|(name, mut cells)| {
        let gain = cells[0].minus(&cells[1]);
        cells.push(gain);
        Row::new(name, cells)
    });
    let names = BOTH.iter().map(|(name, _)| *name).chain(["joint less alone, seed by seed"]);
    let columns = names.map(Column::percent).collect();
    let title = "Right on test images that were changed";
    let mut table = lab.table("robustness", title, columns, rows.collect(), &[DATA])?;
    "test images".clone_into(&mut table.head);
    title.clone_into(&mut table.title);
    table.notes.push(format!("{images} of the test images; noise: standard deviation on values of −1 to 1; contrast: factor about the mid grey; rotation to either side"));
    Ok(vec![table])
}

/// Whether probabilities are what they say.
pub fn calibration(lab: &Lab<'_>) -> Result<Vec<Table>> {
    ahead(lab)?;
    let images = lab.scale.number("test_images")?;
    let mut cells = vec![vec![Cell::default(); 5]; BOTH.len()];
    for seed in lab.seeds() {
        let models = train(lab, seed)?;
        for ((_, of), row) in BOTH.iter().zip(&mut cells) {
            let session = lab.open(of(&models))?;
            let split = lab.split(&session, DATA)?;
            let rows = split.test.spread(images);
            let (set, config) = (session.set, session.config());
            let logits = accuracy::logits(&session.weights, set, &split.test, &rows, BATCH, lab.quiet())?;
            let probabilities = config.head.probabilities(&logits, config.num_classes)?;
            let classes = split.test.classes()?;
            let classes: Vec<u32> = rows.iter().filter_map(|row| classes.get(*row)).copied().collect();
            let found = Calibration::of(&probabilities, &classes, config.num_classes)?;
            let figures = [found.accuracy, found.confidence, found.ece, found.nll, found.brier];
            for (cell, figure) in row.iter_mut().zip(figures) {
                cell.values.push(figure);
            }
        }
    }
    let rows = BOTH.iter().zip(cells).map(|((name, _), cells)| Row::new(*name, cells)).collect();
    let columns = vec![
        Column::percent("right"),
        Column::percent("mean confidence"),
        Column::percent("calibration error"),
        Column::number("negative log-likelihood", 3),
        Column::number("Brier score", 3),
    ];
    let title = "Are probabilities what they say?";
    let mut table = lab.table("calibration", title, columns, rows, &[DATA])?;
    title.clone_into(&mut table.title);
    table.notes.push(format!("{images} of the test images; calibration error: expected, 15 equal bins of the top class's probability; nothing was tuned"));
    Ok(vec![table])
}

/// Images of another data set, told by three scores.
pub fn unlike(lab: &Lab<'_>) -> Result<Vec<Table>> {
    let images = lab.scale.number("test_images")?.min(lab.scale.number("unlike_images")?);
    let pairs = [(DATA, "mnist"), ("mnist", DATA)];
    lab.ahead(&pairs.map(|(known, _)| ("joint", known)))?;
    let scores = ["noise error", "free energy", "1 − largest probability"];
    let mut cells = vec![vec![Cell::default(); 2 * pairs.len()]; scores.len()];
    for seed in lab.seeds() {
        for (number, (known, other)) in pairs.iter().enumerate() {
            let trained = lab.train("joint", known, seed, Begin::default())?;
            let session = lab.open(&trained)?;
            let diffusion = &session.checkpoint.diffusion;
            let timesteps = default_timesteps(diffusion);
            let scorer =
                Scorer::new(&session.weights, diffusion, session.set, BATCH, &timesteps, Seed(seed))?;
            let of = |data: &str| -> Result<Scores> {
                // Classes do not matter: garments are no digits.
                scorer.data(&lab.pixels(&session, data)?.test, images, lab.quiet())
            };
            let found = compare(&of(known)?, &of(other)?)?;
            let noise =
                found.noise_error.ok_or_else(|| Error::config("unlike", "there is no noise error"))?;
            for (row, Apart { auroc, fpr95 }) in cells.iter_mut().zip([noise, found.energy, found.doubt]) {
                row[2 * number].values.push(auroc);
                row[2 * number + 1].values.push(fpr95);
            }
        }
    }
    let rows = scores.into_iter().zip(cells).map(|(name, cells)| Row::new(name, cells)).collect();
    let columns = ["Fashion-MNIST, then MNIST", "MNIST, then Fashion-MNIST"].into_iter().flat_map(|pair| {
        [
            Column::number(format!("{pair}: AUROC"), 3),
            Column::percent(format!("{pair}: wrongly accepted at 95 %")),
        ]
    });
    let title = "Images unlike the training data";
    let mut table = lab.table("unlike", title, columns.collect(), rows, &[DATA, "mnist"])?;
    "score of the joint model".clone_into(&mut table.head);
    title.clone_into(&mut table.title);
    table.notes.push(format!("{images} test images of each; the area under the ROC curve is 0.5 for who guesses; wrongly accepted: share of unlike images where 95 % of those like the training data are accepted; the noise error is the mean at a hundredth and a quarter of the chain, with the same noise for every image"));
    Ok(vec![table])
}

/// Fig. 2b by class: probes on the representations of noised images.
pub fn probed(lab: &Lab<'_>) -> Result<Vec<Table>> {
    ahead(lab)?;
    let ways: [(&str, Of); 2] =
        [("joint", |models| &models.joint), ("diffusion alone", |models| &models.diffusion)];
    super::probed::table(lab, "fig2b", DATA, &ways.map(|(name, _)| name), |seed, way| {
        Ok(ways[way].1(&train(lab, seed)?).clone())
    })
}
