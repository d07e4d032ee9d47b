//! Training with few labels: which images have them, and which of these the classifier sees in a step.

use crate::data::Dataset;
use crate::recipe::{LabelledBy, Recipe, TrainRecipe};
use duet::model::{Labels, UNLABELLED};
use duet::rng::{Seed, shuffle};
use duet::train::terms::{ClassifierLoss, Feed, Loss, Pass, Seen, Term, Terms, joint, semi_supervised};
use duet::train::{Augment, Batch, BatchOrder, ClassifierInput, Examples, TrainOptions, TrainSpec};
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
        let rows = match train.labelled_by {
            LabelledBy::ReferenceBuffer => choose_any(data, (share * data.len() as f64) as usize, train.seed),
            LabelledBy::Buffer | LabelledBy::Batch => choose(data, share, train.seed),
        };
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
            LabelledBy::ReferenceBuffer => {
                self.buffer.extend(batch.iter().filter(|row| self.known.contains(row)));
                let full = self.buffer.len() >= batch.len();
                full.then(|| self.buffer.drain(..).map(|row| row as usize).collect())
            }
        }
    }

    /// The labels of all images in a step without a full buffer: of the reference's classifier, which then sees them at no weight,
    /// any at all, else those they have.
    pub fn idle(&self, labels: Labels) -> Labels {
        match (self.by, labels) {
            (LabelledBy::ReferenceBuffer, Labels::Classes(list)) => Labels::Classes(vec![0; list.len()]),
            (_, labels) => labels,
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

/// The images of `rows` in step `step`, of those that `own` says by their places, and the labels of all; with `flip`, their width,
/// half of them are mirrored by `order`, where they count as rows from `first` on.
///
/// # Errors
/// As [`Examples::batch`].
pub fn batch(
    examples: &Examples<'_>,
    (rows, own): (&[usize], &[usize]),
    order: &BatchOrder,
    (step, first): (u64, usize),
    flip: Option<usize>,
) -> Result<Batch> {
    let mut batch = examples.batch_of(rows, own)?;
    if let Some(width) = flip {
        let len = batch.images.len() / own.len().max(1);
        for (row, image) in own.iter().zip(batch.images.chunks_exact_mut(len.max(1))) {
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
        Labels::MultiLabel(_) => return choose_any(data, whole.round() as usize, seed.0 ^ CHOICE),
    }
    chosen.sort_unstable();
    chosen
}

/// Rows of `count` images, whatever they are, ascending.
fn choose_any(data: &Dataset, count: usize, seed: u64) -> Vec<u32> {
    let mut rows: Vec<u32> = (0..data.len() as u32).collect();
    shuffle(Seed(seed ^ CHOICE), 0, &mut rows);
    rows.truncate(count);
    rows.sort_unstable();
    rows
}

/// The terms of a recipe's steps, and those of steps that have other images.
///
/// # Errors
/// As [`joint`] and [`semi_supervised`].
pub fn terms(
    model: &JointModel,
    diffusion: &DiffusionConfig,
    recipe: &Recipe,
    options: &TrainOptions,
) -> Result<(Terms, Vec<Terms>)> {
    let spec = TrainSpec::of(options);
    if recipe.train.classifier_only || !recipe.train.has_few_labels() {
        return Ok((joint(model, diffusion, &spec)?, Vec::new()));
    }
    let quiet = TrainOptions {
        classifier_input: ClassifierInput::None,
        augment: Augment::default(),
        ..options.clone()
    };
    let quiet = || joint(model, diffusion, &TrainSpec::of(&quiet));
    let terms = terms_of(model, diffusion, recipe, options, spec.batch)?;
    let others = match recipe.train.labelled_by {
        LabelledBy::Batch => Vec::new(),
        LabelledBy::Buffer => {
            // Where the buffer is not full.
            vec![quiet()?]
        }
        LabelledBy::ReferenceBuffer => {
            let mut idle = quiet()?;
            let (feed, scaling) = (Feed::first(spec.batch), spec.classifier_loss_scaling);
            idle.push(Box::new(Idle(ClassifierLoss { feed, seen: Seen::Clean, scaling })));
            vec![idle]
        }
    };
    Ok((terms, others))
}

/// The terms of a step whose classifier sees `count` images with labels.
///
/// # Errors
/// As [`semi_supervised`].
pub fn terms_of(
    model: &JointModel,
    diffusion: &DiffusionConfig,
    recipe: &Recipe,
    options: &TrainOptions,
    count: usize,
) -> Result<Terms> {
    // The reference's buffer is seen clean, whatever the classifier sees otherwise.
    let classifier_input = match recipe.train.labelled_by {
        LabelledBy::ReferenceBuffer => ClassifierInput::Clean,
        LabelledBy::Buffer | LabelledBy::Batch => options.classifier_input,
    };
    let spec = TrainSpec::of(&TrainOptions { classifier_input, ..options.clone() });
    semi_supervised(model, diffusion, &spec, &Feed { prefix: PREFIX.into(), batch: count })
}

/// A classifier that sees images at no weight: its statistics move, and its moments as if there were no gradient.
#[derive(Debug)]
struct Idle(ClassifierLoss);

impl Term for Idle {
    fn feed(&self) -> &Feed {
        self.0.feed()
    }

    fn forward(&self, pass: &mut Pass<'_, '_>) -> Result<Loss> {
        let loss = self.0.forward(pass)?;
        Ok(Loss { values: pass.builder.graph.scale(loss.values, 0.0), ..loss })
    }
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

    #[test]
    fn the_reference_s_buffer_is_emptied_whole() {
        let mut labelled = of(0.2, LabelledBy::ReferenceBuffer);
        assert_eq!(labelled.len(), 18, "of 93 × 0.2 the whole part, whatever their class");
        let mut order = BatchOrder::new(93, 3);
        // Plainly, as its code reads.
        let (mut buffer, mut larger): (Vec<usize>, usize) = (Vec::new(), 0);
        for step in 0..60 {
            let batch = order.indices(step, 8);
            let selected: Vec<usize> =
                batch.iter().filter(|row| labelled.rows.contains(row)).map(|row| *row as usize).collect();
            let got = labelled.next(step, &batch);
            if buffer.len() + selected.len() >= 8 {
                let want = [buffer.as_slice(), &selected].concat();
                larger += usize::from(want.len() > 8);
                assert_eq!(got, Some(want), "step {step}");
                buffer.clear();
            } else {
                assert_eq!(got, None, "step {step}");
                buffer.extend(selected);
            }
        }
        assert!(larger > 0, "no step had more than a batch");
        assert_eq!(labelled.idle(Labels::Classes(vec![2, UNLABELLED])), Labels::Classes(vec![0, 0]));
        let kept = Labels::Classes(vec![2, UNLABELLED]);
        assert_eq!(of(0.2, LabelledBy::Buffer).idle(kept.clone()), kept);
    }

    #[test]
    fn without_a_full_buffer_the_reference_s_classifier_drifts() {
        use duet::gpu::{Device, DeviceOptions};
        let text = "[data]\nkind = \"idx\"\npath = \"x\"\n[model]\nimage_size = 8\nnum_channels = 8\nnum_res_blocks = 1\n\
                    channel_mult = [1, 2]\nattention_resolutions = []\nnum_groups = 4\nnum_classes = 3\nclassifier_dropout = 0.0\n\
                    [train]\nbatch_size = 4\nlabelled_share = 0.5\nlabelled_by = \"reference_buffer\"\nclassifier_loss_scaling = 1.0\n";
        let recipe = Recipe::parse(text, std::path::Path::new("recipe.toml")).unwrap();
        let device = pollster::block_on(Device::open(&DeviceOptions::default())).unwrap();
        let alone = crate::processes::Processes::alone();
        let (mut trainer, _) = crate::training::fit::trainer(&device, &recipe, None, &alone, true).unwrap();
        let images = |count: usize| (0..count * 64).map(|i| ((i * 37 % 64) as f32) / 32.0 - 1.0).collect();
        let batch = |count: usize, class: u32| Batch {
            images: images(count),
            labels: Labels::Classes(vec![class; count]),
        };
        // Five of which the buffer is full, at sizes that no plan knew before.
        let (model, options) = (JointModel::new(&recipe.model).unwrap(), recipe.options());
        let five = terms_of(&model, &recipe.diffusion, &recipe, &options, 5).unwrap();
        pollster::block_on(trainer.allow_steps_of(&five)).unwrap();
        trainer.train_step_of(&[&batch(4, 0), &batch(5, 1)], 1e-2).unwrap();
        let before = pollster::block_on(trainer.checkpoint()).unwrap();
        let none = Batch { images: Vec::new(), labels: Labels::Classes(Vec::new()) };
        trainer.train_step_of(&[&batch(4, 0), &none], 1e-2).unwrap();
        let after = pollster::block_on(trainer.checkpoint()).unwrap();
        let [moments, later] = [&before, &after].map(|file| file.training.as_ref().unwrap());
        let mut moved = 0;
        for (name, old) in moments.adam_m.iter().filter(|(name, _)| name.starts_with("clasifier.")) {
            let get = |tensors: &duet::tensor::Tensors| -> Vec<f32> {
                tensors.iter().find(|(other, _)| *other == name).unwrap().1.data.clone()
            };
            let (v, w) = (get(&moments.adam_v), get(&before.weights));
            let (m1, v1, w1) = (get(&later.adam_m), get(&later.adam_v), get(&after.weights));
            for i in 0..old.data.len() {
                // AdamW's second step with a gradient of zero.
                let (m, v) = (0.9 * f64::from(old.data[i]), 0.999 * f64::from(v[i]));
                let step =
                    1e-2 * (m / (1.0 - 0.9f64.powi(2))) / ((v / (1.0 - 0.999f64.powi(2))).sqrt() + 1e-8);
                let close = |got: f32, want: f64| (f64::from(got) - want).abs() <= 1e-5 * want.abs() + 1e-9;
                assert!(close(m1[i], m) && close(v1[i], v), "{name}: {} and {m}, {} and {v}", m1[i], v1[i]);
                assert!((f64::from(w1[i]) - (f64::from(w[i]) - step)).abs() < 1e-5, "{name}");
                moved += usize::from(w1[i] != w[i]);
            }
        }
        assert!(moved > 50, "{moved}");
        let statistics = |file: &duet::checkpoint::Checkpoint| -> Vec<f32> {
            let of_head = file
                .weights
                .iter()
                .filter(|(name, _)| name.starts_with("clasifier.") && name.contains("running"));
            of_head.flat_map(|(_, tensor)| tensor.data.clone()).collect()
        };
        assert_ne!(statistics(&before), statistics(&after), "images without labels move the statistics");
    }
}
