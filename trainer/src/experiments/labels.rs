//! Any number of labels per image: how often each is told, samples guided to vectors of labels, and one label added or removed.

use super::lab::{Begin, Lab, Trained};
use super::table::{Cell, Column, Row, Table};
use crate::eval::accuracy::accuracy;
use crate::eval::chains::from_noise;
use crate::io::session::go_on;
use crate::metrics::statistics::mean_of_known;
use crate::report::explained::Explained;
use duet::diffusion::Solver;
use duet::infer::ImageClassifier;
use duet::model::Labels;
use duet::rng::Seed;
use duet::sampling::{Guidance, Sampler, StepSpec};
use duet::{Error, Result};
use std::ops::Range;

/// Images at once.
const BATCH: usize = 25;

/// An experiment of this kind: the name of its table and its data set's.
#[derive(Clone, Copy)]
struct Subject<'a> {
    lab: &'a Lab<'a>,
    table: &'a str,
    data: &'a str,
}

/// Runs it on the data set called `data`; its tables are called `table` and what begins so.
pub fn run(lab: &Lab<'_>, table: &str, data: &str) -> Result<Vec<Table>> {
    lab.ahead(&["joint", "alone", "diffusion"].map(|stage| (stage, data)))?;
    let subject = Subject { lab, table, data };
    let mut tables = vec![subject.told()?, subject.guided()?];
    tables.extend(super::probed::table(
        lab,
        &format!("{table}-probes"),
        data,
        &["joint", "diffusion alone"],
        |seed, way| subject.train(["joint", "diffusion"][way], seed),
    )?);
    Ok(tables)
}

/// What is found of guided samples and of counterfactuals at one seed.
struct Found {
    /// Labels as asked for, and images with all of them so.
    unguided: [f64; 2],
    guided: [f64; 2],
    reached: f64,
    change: f64,
    agrees: f64,
}

impl Subject<'_> {
    fn train(&self, stage: &str, seed: u64) -> Result<Trained> {
        self.lab.train(stage, self.data, seed, Begin::default())
    }

    /// How often each label is told.
    fn told(&self) -> Result<Table> {
        let Subject { lab, table, data } = *self;
        let stages = [("joint", "joint"), ("classifier alone", "alone")];
        let mut names: Vec<String> = Vec::new();
        let mut cells: Vec<Vec<Cell>> = Vec::new();
        for (column, (_, stage)) in stages.iter().enumerate() {
            for seed in lab.seeds() {
                let session = lab.open(&self.train(stage, seed)?)?;
                let split = lab.split(&session, data)?;
                let test = &split.test;
                let found = accuracy(&session.weights, session.set, test, test.len(), BATCH, lab.quiet())?;
                let balanced = found.balanced.unwrap_or_default();
                if cells.is_empty() {
                    names = split.test.class_names.clone();
                    cells = vec![vec![Cell::default(); 2 * stages.len()]; names.len() + 1];
                }
                let all = [&found.per_class, &balanced].map(|shares| mean_of_known(shares.iter().copied()));
                let each = found.per_class.iter().zip(&balanced).map(|(share, balanced)| [*share, *balanced]);
                for (row, shares) in cells.iter_mut().zip(each.chain([all])) {
                    for (number, share) in shares.into_iter().enumerate() {
                        row[2 * column + number].values.extend(share);
                    }
                }
            }
        }
        names.push("mean of labels".into());
        let rows = names.into_iter().zip(cells).map(|(name, cells)| Row::new(name, cells)).collect();
        let columns = stages.iter().flat_map(|(name, _)| {
            [Column::percent(format!("{name}: right")), Column::percent(format!("{name}: balanced"))]
        });
        let mut table =
            lab.table(table, "Any number of labels per image", columns.collect(), rows, &[data])?;
        "label".clone_into(&mut table.head);
        table.notes.push("balanced: the mean of two shares of right answers, of the images that have a label and of those that do not; who always answers the same has 50 %".into());
        Ok(table)
    }

    /// Samples guided to the labels of real images, and counterfactuals of one label turned over.
    fn guided(&self) -> Result<Table> {
        let Subject { lab, table, data } = *self;
        let name = format!("{table}-guided");
        let [count, steps, alpha, explained] =
            ["samples", "sample_steps", "alpha", "explained"].map(|name| lab.scale.number(name));
        let (count, steps, alpha, explained) = (count?, steps?, alpha? as f32, explained?);
        let mut picture = None;
        let found = lab.of_seeds(|seed| {
            let (joint, alone) =
                (lab.open(&self.train("joint", seed)?)?, lab.open(&self.train("alone", seed)?)?);
            let judge = pollster::block_on(ImageClassifier::new(&alone.weights, BATCH, alone.set))?;
            let split = lab.split(&joint, data)?;
            let (config, diffusion) = (joint.config(), &joint.checkpoint.diffusion);
            let classes = config.num_classes;
            // Labels of training images: vectors that there are.
            let rows = split.train.spread(count);
            let answered = |guidance: Guidance| -> Result<[f64; 2]> {
                let spec = StepSpec {
                    clip: true,
                    guidance,
                    solver: Solver::ddim(1.0),
                    ..StepSpec::new(BATCH.min(count))
                };
                let respacing = steps.to_string();
                let sampler = Sampler::fitting(&joint.weights, diffusion, &respacing, spec, joint.set);
                let sampler = pollster::block_on(sampler)?;
                let labels = |numbers: &[usize]| {
                    let rows: Vec<usize> = numbers.iter().map(|number| rows[*number]).collect();
                    split.train.labels.pick(&rows, classes)
                };
                let (mut right, mut whole, mut done) = (0usize, 0usize, 0usize);
                let take = |made: &[f32], kept: Range<usize>| {
                    let seen = pollster::block_on(judge.probabilities(made))?;
                    let Labels::MultiLabel(wanted) = labels(&kept.collect::<Vec<usize>>())? else {
                        return Err(Error::config("data", "have one class per image"));
                    };
                    for (seen, wanted) in seen.chunks_exact(classes).zip(wanted.chunks_exact(classes)) {
                        let same =
                            seen.iter().zip(wanted).filter(|(p, w)| (**p > 0.5) == (**w > 0.5)).count();
                        right += same;
                        whole += usize::from(same == classes);
                        done += 1;
                    }
                    Ok(())
                };
                from_noise(&sampler, rows.len(), (Seed(seed), alpha), labels, go_on, take)?;
                Ok([right as f64 / (done * classes).max(1) as f64, whole as f64 / done.max(1) as f64])
            };
            let [unguided, guided] = [answered(Guidance::None)?, answered(Guidance::Representation)?];
            let made = Explained::some(&joint, &split.test, explained, lab.quiet())?;
            let (mut agrees, mut change) = (0usize, 0.0);
            for answer in made.answers() {
                let seen = pollster::block_on(judge.probabilities(&answer.counterfactual))?;
                let present = seen.get(answer.target.class).is_some_and(|p| *p > 0.5);
                agrees += usize::from(present == answer.target.present);
                change += answer.mean_change();
            }
            let of = |count: usize| count as f64 / made.len().max(1) as f64;
            if picture.is_none() {
                picture = Some(lab.drawn(&name, "strips.png", |path| made.save(config, path))?);
            }
            Ok(Found {
                unguided,
                guided,
                reached: of(made.reached()),
                change: change / made.len().max(1) as f64,
                agrees: of(agrees),
            })
        })?;
        let of = |figure: fn(&Found) -> f64| Cell::of(found.iter().map(figure).collect());
        let rows = vec![
            Row::new("samples, unguided: labels of a training image", vec![of(|f| f.unguided[0])]),
            Row::new("the same: all of an image", vec![of(|f| f.unguided[1])]),
            Row::new("samples guided to the labels of a training image: labels", vec![of(|f| f.guided[0])]),
            Row::new("the same: all of an image", vec![of(|f| f.guided[1])]),
            Row::new("counterfactuals, one label turned over: reached", vec![of(|f| f.reached)]),
            Row::new("the same: the classifier alone agrees", vec![of(|f| f.agrees)]),
            Row::new("the same: mean change of a pixel", vec![of(|f| f.change)]),
        ];
        let columns = vec![Column::percent("joint model")];
        let mut table = lab.table(&name, "Guidance to labels", columns, rows, &[data])?;
        "what".clone_into(&mut table.head);
        table.notes.push(format!("{count} samples of {steps} steps, Algorithm 1 with α = {alpha}; {explained} test images are explained; labels of samples are the answers of the classifier alone of the same seed, which guides nothing"));
        table.pictures.extend(picture.map(|file| {
            ("one label added or removed: original, counterfactual, difference".to_owned(), file)
        }));
        Ok(table)
    }
}
