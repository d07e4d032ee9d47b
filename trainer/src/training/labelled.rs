//! Training with few labels: which images have them, and which of these the classifier sees in a step.

use crate::data::Dataset;
use crate::recipe::{LabelledBy, Recipe, TrainRecipe};
use duet::model::{Labels, UNLABELLED};
use duet::rng::{Seed, shuffle};
use duet::train::terms::{Feed, Terms, joint, semi_supervised};
use duet::train::{Batch, BatchOrder, ClassifierInput, Examples, TrainOptions, TrainSpec};
use duet::{Error, Result};
use duet::{diffusion::DiffusionConfig, model::JointModel};
use serde_json::{Value, json};
use std::collections::{HashSet, VecDeque};

/// Where a checkpoint notes them.
pub const LABELLED: &str = "labelled";
/// What their feed's buffers begin with.
const PREFIX: &str = "labelled.";
/// Makes the choice of labels another one than the order of the images.
const CHOICE: u64 = u64::from_be_bytes(*b"labelled");

/// Images that have labels, and who of them is next.
pub struct Labelled {
    /// Their rows, ascending.
    rows: Vec<u32>,
    known: HashSet<u32>,
    by: LabelledBy,
    /// Their order where each step has a batch of them.
    order: BatchOrder,
    /// Rows that wait for a batch of them to be full.
    buffer: VecDeque<u32>,
}

impl Labelled {
    /// The images with labels where the recipe lets only a share of them have any: of each class as many, however many the class
    /// has, chosen by the seed; where images have any number of labels, so many of all.
    ///
    /// # Errors
    /// [`Error::Config`] for a share that leaves less than two images.
    pub fn of(data: &Dataset, train: &TrainRecipe) -> Result<Option<Labelled>> {
        let Some(share) = train.labelled_share.filter(|share| *share < 1.0) else { return Ok(None) };
        let rows = choose(data, share, train.seed);
        if rows.len() < 2 {
            let detail = format!("{share} of {} images leaves {} with labels", data.len(), rows.len());
            return Err(Error::config("train.labelled_share", detail));
        }
        let order = BatchOrder::new(rows.len(), train.seed ^ CHOICE);
        let known = rows.iter().copied().collect();
        Ok(Some(Labelled { rows, known, by: train.labelled_by, order, buffer: VecDeque::new() }))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The rows of a classifier that learns alone, in step `step`: it sees no others.
    pub fn alone(&mut self, step: u64, count: usize) -> Vec<usize> {
        let rows = &self.rows;
        self.order.indices(step, count).into_iter().map(|place| rows[place as usize] as usize).collect()
    }

    /// The rows of the classifier's images in step `step`, whose other images are those of `batch`; none where the buffer is not
    /// full.
    pub fn next(&mut self, step: u64, batch: &[u32]) -> Option<Vec<usize>> {
        match self.by {
            LabelledBy::Batch => Some(self.alone(step, batch.len())),
            LabelledBy::Buffer => {
                self.buffer.extend(batch.iter().filter(|row| self.known.contains(row)));
                let full = self.buffer.len() >= batch.len();
                full.then(|| self.buffer.drain(..batch.len()).map(|row| row as usize).collect())
            }
        }
    }

    /// What a checkpoint holds of them.
    pub fn noted(&self) -> Value {
        json!({ "images": self.len(), "hash": self.hash(), "rows": self.rows, "buffer": self.buffer })
    }

    /// Goes on with the buffer that a checkpoint holds; whether its images are these.
    pub fn go_on(&mut self, noted: &Value) -> bool {
        let same = noted.get("hash").and_then(Value::as_str) == Some(self.hash().as_str());
        let rows = noted.get("buffer").and_then(Value::as_array).into_iter().flatten();
        let rows = rows.map(|row| row.as_u64().and_then(|row| u32::try_from(row).ok()));
        match rows.collect::<Option<VecDeque<u32>>>() {
            Some(buffer) if same && buffer.iter().all(|row| self.known.contains(row)) => {
                self.buffer = buffer;
                true
            }
            _ => false,
        }
    }

    fn hash(&self) -> String {
        let hash =
            blake3::hash(bytemuck::cast_slice(&self.rows.iter().map(|r| r.to_le()).collect::<Vec<u32>>()));
        format!("blake3:{}", hash.to_hex())
    }
}

/// The images of `rows` in step `step`; with `flip`, their width, half of them are mirrored by `order`, where they count as rows
/// from `first` on.
///
/// # Errors
/// As [`Examples::batch`].
pub fn batch(
    examples: &Examples<'_>,
    rows: &[usize],
    order: &BatchOrder,
    (step, first): (u64, usize),
    flip: Option<usize>,
) -> Result<Batch> {
    let mut batch = examples.batch(rows)?;
    if let Some(width) = flip {
        let len = batch.images.len() / rows.len().max(1);
        for (row, image) in batch.images.chunks_exact_mut(len.max(1)).enumerate() {
            order.flip(step, first + row, image, width);
        }
    }
    Ok(batch)
}

/// Rows of the images that have labels, ascending.
fn choose(data: &Dataset, share: f64, seed: u64) -> Vec<u32> {
    let seed = Seed(seed ^ CHOICE);
    let whole = share * data.len() as f64;
    let mut chosen = Vec::new();
    match &data.labels {
        Labels::Classes(classes) => {
            let count = data.class_names.len();
            let each = ((whole / count.max(1) as f64).round() as usize).max(1);
            for class in 0..count as u32 {
                let of_class =
                    (0u32..).zip(classes).filter(|(_, label)| **label == class && class != UNLABELLED);
                let mut rows: Vec<u32> = of_class.map(|(row, _)| row).collect();
                shuffle(seed, class, &mut rows);
                chosen.extend(rows.into_iter().take(each));
            }
        }
        Labels::MultiLabel(_) => {
            let mut rows: Vec<u32> = (0..data.len() as u32).collect();
            shuffle(seed, 0, &mut rows);
            chosen.extend(rows.into_iter().take(whole.round() as usize));
        }
    }
    chosen.sort_unstable();
    chosen
}

/// The terms of a recipe's steps, and, where steps may leave out the images with labels, those of such a step with the feed's
/// prefix.
///
/// # Errors
/// As [`joint`] and [`semi_supervised`].
pub fn terms(
    model: &JointModel,
    diffusion: &DiffusionConfig,
    recipe: &Recipe,
    options: &TrainOptions,
) -> Result<(Terms, Option<(&'static str, Terms)>)> {
    let spec = TrainSpec::of(options);
    if recipe.train.classifier_only || !recipe.train.has_few_labels() {
        return Ok((joint(model, diffusion, &spec)?, None));
    }
    let feed = Feed { prefix: PREFIX.into(), batch: spec.batch };
    let terms = semi_supervised(model, diffusion, &spec, &feed)?;
    let rest = match recipe.train.labelled_by {
        LabelledBy::Batch => None,
        LabelledBy::Buffer => {
            let options = TrainOptions {
                classifier_input: ClassifierInput::None,
                augment: Default::default(),
                ..options.clone()
            };
            Some((PREFIX, joint(model, diffusion, &TrainSpec::of(&options))?))
        }
    };
    Ok((terms, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Images of three classes, 60, 30 and 3 of them.
    fn data() -> Dataset {
        let labels: Vec<u32> = (0..93).map(|i| if i < 60 { 0 } else { 1 + u32::from(i >= 90) }).collect();
        let class_names = ["a", "b", "c"].map(str::to_owned).to_vec();
        Dataset {
            images: (0..93).collect(),
            labels: Labels::Classes(labels),
            channels: 1,
            size: 1,
            class_names,
        }
    }

    fn train(share: f64, by: LabelledBy) -> TrainRecipe {
        TrainRecipe { labelled_share: Some(share), labelled_by: by, seed: 3, ..TrainRecipe::default() }
    }

    fn of(share: f64, by: LabelledBy) -> Labelled {
        Labelled::of(&data(), &train(share, by)).unwrap().unwrap()
    }

    #[test]
    fn as_many_of_each_class_have_labels_and_a_seed_chooses_them() {
        let chosen = of(0.2, LabelledBy::Batch);
        // A fifth of 93 is 19, six of each; of the last class there are three.
        let classes = data();
        let classes = classes.classes().unwrap();
        let count = |class: u32| chosen.rows.iter().filter(|row| classes[**row as usize] == class).count();
        assert_eq!([0, 1, 2].map(count), [6, 6, 3]);
        assert!(chosen.rows.is_sorted() && chosen.known.len() == 15);
        assert_eq!(chosen.rows, of(0.2, LabelledBy::Buffer).rows);
        let other = TrainRecipe { seed: 4, ..train(0.2, LabelledBy::Batch) };
        assert_ne!(chosen.rows, Labelled::of(&data(), &other).unwrap().unwrap().rows);
        assert_eq!(of(0.001, LabelledBy::Batch).len(), 3, "one of each");
        assert!(Labelled::of(&data(), &train(1.0, LabelledBy::Batch)).unwrap().is_none());
        assert!(Labelled::of(&data(), &TrainRecipe::default()).unwrap().is_none());
        let several = Dataset { labels: Labels::MultiLabel(vec![0.0; 3 * 93]), ..data() };
        assert_eq!(Labelled::of(&several, &train(0.2, LabelledBy::Batch)).unwrap().unwrap().len(), 19);
        let error = Labelled::of(&several, &train(0.01, LabelledBy::Batch)).err().unwrap().to_string();
        assert!(error.contains("labelled_share") && error.contains("leaves 1"), "{error}");
    }

    #[test]
    fn the_buffer_fills_as_labelled_images_come_by_and_a_checkpoint_holds_it() {
        let mut whole = of(0.2, LabelledBy::Buffer);
        let mut order = BatchOrder::new(93, 3);
        let mut plain = Vec::new();
        let (mut full, mut again) = (0, of(0.2, LabelledBy::Buffer));
        for step in 0..40 {
            let batch = order.indices(step, 8);
            // As the rule says it: what has a label waits, and goes when eight wait.
            plain.extend(batch.iter().filter(|row| whole.rows.contains(row)));
            let want: Option<Vec<usize>> =
                (plain.len() >= 8).then(|| plain.drain(..8).map(|row: u32| row as usize).collect());
            let noted = again.noted();
            again = of(0.2, LabelledBy::Buffer);
            assert!(again.go_on(&noted), "of every step");
            let got = whole.next(step, &batch);
            assert_eq!((&got, &again.next(step, &batch)), (&want, &want), "step {step}");
            full += usize::from(got.is_some());
        }
        assert!((4..8).contains(&full), "about one in six: {full}");
        let mut other = Labelled::of(&data(), &TrainRecipe { seed: 4, ..train(0.2, LabelledBy::Buffer) });
        assert!(!other.as_mut().unwrap().as_mut().unwrap().go_on(&whole.noted()));
        for wrong in
            [json!(null), json!({"hash": whole.hash()}), json!({"hash": whole.hash(), "buffer": [1.5]})]
        {
            let known = wrong.get("hash").is_some() && wrong.get("buffer").is_none();
            assert_eq!(of(0.2, LabelledBy::Buffer).go_on(&wrong), known, "{wrong}");
        }
    }

    #[test]
    fn each_step_may_have_a_batch_of_labelled_images() {
        let mut labelled = of(0.2, LabelledBy::Batch);
        let mut seen = HashSet::new();
        for step in 0..8 {
            let rows = labelled.next(step, &[0; 4]).unwrap();
            assert_eq!(rows, labelled.alone(step, 4));
            assert!(rows.len() == 4 && rows.iter().all(|row| labelled.known.contains(&(*row as u32))));
            seen.extend(rows);
        }
        assert!(seen.len() > 12, "{}", seen.len());
        assert_eq!(
            labelled.next(3, &[0; 4]),
            of(0.2, LabelledBy::Batch).next(3, &[0; 4]),
            "by its step alone"
        );
    }
}
