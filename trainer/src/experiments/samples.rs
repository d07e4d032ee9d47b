//! Table 2 and Figures 4 to 6: what the models generate, with and without guidance, and the way to the class.

use super::joint::{DATA, Models, ahead, train};
use super::lab::{Lab, Trained};
use super::table::{Cell, Column, Row, Table};
use crate::cli::{ChainArgs, Data, GuidanceKind, Model, Study, WeightSet};
use crate::eval::chains::Chains;
use crate::io::session::{Session, go_on};
use crate::metrics::frechet::{Gaussian, Reference};
use crate::metrics::manifold::{Manifold, Scale};
use crate::report::plot::{Figure, Panel, Series, rising};
use duet::Result;
use duet::infer::{ImageClassifier, ImageFeatures};
use duet::model::argmax;

/// Images at once.
const BATCH: usize = 25;
/// Neighbours of precision and recall.
const NEIGHBOURS: usize = 3;

/// The options of a chain of `steps` steps.
fn options(trained: &Trained, guidance: GuidanceKind, steps: usize, per_class: usize, seed: u64) -> Study {
    Study {
        model: Model { model: trained.checkpoint.clone(), weights: WeightSet::default() },
        data: Data { recipe: None, data: None },
        chain: ChainArgs {
            steps: steps.to_string(),
            sampler: "ddim".into(),
            eta: 1.0,
            guidance,
            no_clip: false,
            seed,
            force: false,
        },
        step_sizes: Vec::new(),
        per_class,
        neighbours: NEIGHBOURS,
        batch: BATCH,
        out: std::path::PathBuf::new(),
    }
}

/// Who looks at generated images: a classifier trained apart, and the test images as it sees them.
pub struct Judge {
    classifier: ImageClassifier,
    features: ImageFeatures,
    scale: Scale,
    real: Manifold,
    reference: Reference,
    classes: usize,
}

/// What is found of generated images.
struct Found {
    frechet: f64,
    precision: f64,
    recall: f64,
    recognised: f64,
}

impl Found {
    /// Its figures.
    fn columns() -> Vec<Column> {
        vec![
            Column::number("Fréchet distance", 2),
            Column::percent("precision"),
            Column::percent("recall"),
            Column::percent("taken for its class"),
        ]
    }

    /// Adds them to those of other seeds.
    fn add_to(&self, cells: &mut [Vec<f64>; 4]) {
        let figures = [self.frechet, self.precision, self.recall, self.recognised];
        cells.iter_mut().zip(figures).for_each(|(values, figure)| values.push(figure));
    }
}

impl Judge {
    /// Of the classifier `alone`, and `count` test images.
    ///
    /// # Errors
    /// Device errors.
    pub fn new(lab: &Lab<'_>, alone: &Trained, count: usize) -> Result<Judge> {
        let session = lab.open(alone)?;
        let split = lab.split(&session, DATA)?;
        let rows = split.test.spread(count);
        let features = pollster::block_on(ImageFeatures::new(&session.weights, BATCH, session.set))?;
        let mut real = Vec::new();
        for part in rows.chunks(BATCH) {
            real.extend(pollster::block_on(features.get(&split.test.images_f32(part)))?);
        }
        let columns = features.columns();
        let scale = Scale::of(&real, columns);
        Ok(Judge {
            classifier: pollster::block_on(ImageClassifier::new(&session.weights, BATCH, session.set))?,
            reference: Reference::new(Gaussian::of(&real, columns)?)?,
            real: Manifold::new(scale.apply(real), columns, NEIGHBOURS)?,
            features,
            scale,
            classes: session.config().num_classes,
        })
    }

    fn look(&self, images: &[f32], labels: &[usize]) -> Result<Found> {
        let rows = pollster::block_on(self.features.get(images))?;
        let columns = self.features.columns();
        let frechet = self.reference.distance(&Gaussian::of(&rows, columns)?)?;
        let quality = self.real.quality_of(&Manifold::new(self.scale.apply(rows), columns, NEIGHBOURS)?);
        let answers = argmax(&pollster::block_on(self.classifier.logits(images))?, self.classes)?;
        let right = answers.iter().zip(labels).filter(|(answer, label)| answer == label).count();
        let recognised = right as f64 / labels.len().max(1) as f64;
        Ok(Found { frechet, precision: quality.precision, recall: quality.recall, recognised })
    }
}

/// Chains of a model, of as many images of each class.
fn chains(session: &Session, study: &Study) -> Result<Chains> {
    let classes: Vec<usize> = (0..session.config().num_classes).collect();
    Chains::new(session, study, &classes)
}

/// The share of a model's guided samples that a judge takes for their class; a classifier guides though it never saw noised images.
///
/// # Errors
/// Device errors.
pub fn taken_for_its_class(lab: &Lab<'_>, trained: &Trained, judge: &Judge, seed: u64) -> Result<f64> {
    let [per_class, steps] = [lab.scale.number("samples_per_class")?, lab.scale.number("sample_steps")?];
    let session = lab.open(trained)?;
    let mut study = options(trained, GuidanceKind::Representation, steps, per_class, seed);
    study.chain.force = true;
    let chains = chains(&session, &study)?;
    let made = chains.generate(lab.scale.number("alpha")? as f32, go_on)?;
    Ok(judge.look(&made.images, chains.labels())?.recognised)
}

/// Table 2: what is generated by diffusion alone, by the joint model, and by the joint model with Algorithm 1.
pub fn table2(lab: &Lab<'_>) -> Result<Vec<Table>> {
    let [per_class, steps] = [lab.scale.number("samples_per_class")?, lab.scale.number("sample_steps")?];
    let alpha = lab.scale.number("alpha")? as f32;
    type Of = fn(&Models) -> &Trained;
    let ways: [(&str, Of, GuidanceKind); 4] = [
        ("diffusion alone", |models| &models.diffusion, GuidanceKind::None),
        ("joint, unguided", |models| &models.joint, GuidanceKind::None),
        ("joint, gradient on the noised image (Eq. 12)", |models| &models.joint, GuidanceKind::Gradient),
        ("joint, Algorithm 1", |models| &models.joint, GuidanceKind::Representation),
    ];
    ahead(lab)?;
    let mut cells: Vec<[Vec<f64>; 4]> = vec![Default::default(); ways.len()];
    for seed in lab.seeds() {
        let models = train(lab, seed)?;
        let judge = Judge::new(lab, &models.alone, 10 * per_class)?;
        for ((_, of, guidance), cells) in ways.iter().zip(&mut cells) {
            let session = lab.open(of(&models))?;
            let study = options(of(&models), *guidance, steps, per_class, seed);
            let chains = chains(&session, &study)?;
            // The scale of Eq. 12 multiplies the gradient itself, Algorithm 1's step size a direction.
            let alpha = if *guidance == GuidanceKind::Gradient { 1.0 } else { alpha };
            let made = chains.generate(alpha, go_on)?;
            let found = judge.look(&made.images, chains.labels())?;
            found.add_to(cells);
        }
    }
    let guided = |guidance: GuidanceKind| guidance != GuidanceKind::None;
    let rows =
        ways.iter().zip(cells).map(|((name, _, guidance), [frechet, precision, recall, recognised])| {
            let recognised = if guided(*guidance) { Cell::of(recognised) } else { Cell::default() };
            Row::new(*name, vec![Cell::of(frechet), Cell::of(precision), Cell::of(recall), recognised])
        });
    let rows = rows.collect();
    let mut table = lab.table("table2", "What the models generate", Found::columns(), rows, &[DATA])?;
    table.notes.extend([
        format!("{} images each of {steps} steps (DDIM, η = 1); Algorithm 1 with α = {alpha}, Eq. 12 with the scale 1; all three figures of likeness and the classes are by the features and answers of the classifier alone of the same seed, which guides nothing", 10 * per_class),
        "the paper's Table 2 is of Inception's features and 10,000 images or more: its figures (7.8 / 71.5 / 65.3 of diffusion alone, 5.9 / 63.1 / 63.2 of Algorithm 1) are no measure for these".into(),
    ]);
    Ok(vec![table])
}

/// Figures 4 and 5: the step size of Algorithm 1.
pub fn alpha(lab: &Lab<'_>) -> Result<Vec<Table>> {
    let [per_class, steps] = [lab.scale.number("samples_per_class")?, lab.scale.number("sample_steps")?];
    let alphas = [0.0f32, 5.0, 10.0, 20.0, 40.0];
    ahead(lab)?;
    let mut cells: Vec<[Vec<f64>; 4]> = vec![Default::default(); alphas.len()];
    let mut curves: Vec<Series> = Vec::new();
    for seed in lab.seeds() {
        let models = train(lab, seed)?;
        let judge = Judge::new(lab, &models.alone, 10 * per_class)?;
        let session = lab.open(&models.joint)?;
        let study = options(&models.joint, GuidanceKind::Representation, steps, per_class, seed);
        let chains = chains(&session, &study)?;
        let first = curves.is_empty();
        for (number, (alpha, cells)) in alphas.iter().zip(&mut cells).enumerate() {
            let made = chains.generate(*alpha, go_on)?;
            let found = judge.look(&made.images, chains.labels())?;
            found.add_to(cells);
            if first {
                let mean =
                    |row: &Vec<f32>| row.iter().map(|p| f64::from(*p)).sum::<f64>() / row.len().max(1) as f64;
                let points = made.curve.iter().enumerate().map(|(step, row)| [step as f64, mean(row)]);
                curves.push(Series {
                    name: format!("α = {alpha}"),
                    points: points.collect(),
                    colour: rising(number as f64 / (alphas.len() - 1) as f64),
                    dashed: false,
                    dots: false,
                });
            }
        }
    }
    let rows = alphas
        .iter()
        .zip(cells)
        .map(|(alpha, cells)| Row::new(format!("α = {alpha}"), cells.map(Cell::of).into()));
    let rows = rows.collect();
    let mut table = lab.table("alpha", "The step size of Algorithm 1", Found::columns(), rows, &[DATA])?;
    "step size".clone_into(&mut table.head);
    table.title = "The step size of Algorithm 1 (Figures 4 to 6)".into();
    table.notes.push(format!("{} images each of {steps} steps; likeness and classes by the classifier alone of the same seed, which guides nothing", 10 * per_class));
    let figure = Figure {
        title: "Probability of the class along the chain".into(),
        x_label: "step, from noise to image".into(),
        x: [0.0, steps as f64],
        y: [0.0, 1.0],
        columns: 1,
        size: [420.0, 240.0],
        panels: vec![Panel { title: String::new(), series: curves }],
    };
    lab.picture(
        &mut table,
        "probability of the class along the chain (the model's own, first seed)",
        "chain",
        &figure.svg(),
    )?;
    Ok(vec![table])
}
