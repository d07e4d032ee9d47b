//! Training by a recipe: what the command's `duet train` does at each step, with images in memory and a page that listens.

use crate::engine::{Engine, array, closed, inference_of, set};
use duet::checkpoint::{Dtype, Figures};
use duet::infer::ImageClassifier;
use duet::model::{Head, Labels, Target, UNLABELLED, WeightSet, argmax};
use duet::recipe::{CHANGE_NO_STEP, MemoryRecipe, Network, fingerprint};
use duet::rng::Seed;
use duet::sampling::{ChainOptions, Guidance, Sampler, StepSpec, Watch};
use duet::train::{Batch, BatchOrder, ClassifierInput, Examples, Metrics, Pixels, Trainer};
use duet::{Error, Result};
use js_sys::{Float32Array, Object, Uint8Array};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::ops::ControlFlow;
use wasm_bindgen::prelude::*;

/// Images of the held-out part computed at once.
const BATCH: usize = 32;
/// Most classes of which samples are made: the first ones.
const MOST_SAMPLED: usize = 16;

#[wasm_bindgen]
extern "C" {
    /// Who hears of a run. Nothing that it does throws.
    pub type Listener;

    /// Before a step, which waits for it: whether to go on.
    #[wasm_bindgen(method, catch)]
    async fn before(this: &Listener, step: f64) -> std::result::Result<JsValue, JsValue>;

    /// Whether to go on, asked while something takes long.
    #[wasm_bindgen(method, catch, js_name = goesOn)]
    fn goes_on(this: &Listener) -> std::result::Result<bool, JsValue>;

    /// Figures of the steps since it was last told.
    #[wasm_bindgen(method, catch)]
    fn stepped(this: &Listener, figures: &Object) -> std::result::Result<(), JsValue>;

    /// The file that the run goes on with from here, which waits until it is kept.
    #[wasm_bindgen(method, catch)]
    async fn save(this: &Listener, step: f64, bytes: Uint8Array) -> std::result::Result<JsValue, JsValue>;

    /// What was found of held-out images.
    #[wasm_bindgen(method, catch)]
    fn evaluated(this: &Listener, figures: &Object) -> std::result::Result<(), JsValue>;

    /// Samples, one of each class.
    #[wasm_bindgen(method, catch)]
    fn sampled(this: &Listener, step: f64, images: Float32Array) -> std::result::Result<(), JsValue>;
}

/// Options of a run beside its recipe, as the TypeScript layer writes them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunText {
    /// The recipe; left out: the one that the run began with.
    recipe: Option<Value>,
    /// It may go on otherwise than it began, and on other images.
    otherwise: bool,
    /// Whether samples are looked at.
    samples: bool,
}

/// Levels of images \[N,C,H,W\] and the class of each.
struct Given {
    levels: Vec<u8>,
    labels: Labels,
}

/// Means of the steps since they were last told.
#[derive(Default)]
struct Tally {
    steps: u32,
    labelled: u32,
    loss: f64,
    mse: f64,
    classifier_loss: f64,
}

impl Tally {
    fn add(&mut self, metrics: &Metrics, labelled: bool) {
        self.steps += 1;
        self.labelled += u32::from(labelled);
        self.loss += f64::from(metrics.loss);
        self.mse += f64::from(metrics.mse);
        self.classifier_loss += f64::from(metrics.classifier_loss);
    }

    /// The means by the names that pages know, which begin anew.
    fn take(&mut self) -> [(&'static str, f64); 3] {
        let tally = std::mem::take(self);
        let mean = |sum: f64, count: u32| if count == 0 { 0.0 } else { sum / f64::from(count) };
        [
            ("loss", mean(tally.loss, tally.steps)),
            ("mse", mean(tally.mse, tally.steps)),
            ("classifierLoss", mean(tally.classifier_loss, tally.labelled)),
        ]
    }
}

/// A run on its way.
struct Run<'a> {
    recipe: MemoryRecipe,
    fingerprint: String,
    images: usize,
    trainer: Trainer,
    held_out: &'a Given,
    listener: &'a Listener,
    samples: bool,
    classifier: Option<ImageClassifier>,
    sampler: Option<Sampler>,
}

#[wasm_bindgen]
impl Engine {
    /// Trains by a recipe on `images`, levels \[N,C,H,W\] with a class each (0xffffffff: none), on from where a run by a recipe stands;
    /// `held_out` images are looked at alone. Afterwards, also where the listener stopped it, the model is the trained one's
    /// average. Where it fails the model is as it was, and the run stands where it was last saved.
    #[wasm_bindgen(js_name = trainByRecipe)]
    pub async fn train_by_recipe(
        &mut self,
        options: String,
        images: Vec<u8>,
        labels: Vec<u32>,
        held_out: Vec<u8>,
        held_out_labels: Vec<u32>,
        listener: Listener,
    ) -> std::result::Result<(), JsValue> {
        let images = Given { levels: images, labels: Labels::Classes(labels) };
        let held_out = Given { levels: held_out, labels: Labels::Classes(held_out_labels) };
        let outcome = self.run_recipe(&options, &images, &held_out, &listener).await;
        self.finish(outcome)
    }
}

impl Engine {
    async fn run_recipe(
        &mut self,
        options: &str,
        images: &Given,
        held_out: &Given,
        listener: &Listener,
    ) -> Result<()> {
        let text: RunText =
            serde_json::from_str(options).map_err(|error| Error::config("recipe", error.to_string()))?;
        let mut recipe = self.recipe(&text)?;
        if recipe.model.head != Head::Multiclass {
            let detail = "an image has one class here: models of several labels are trained by `duet train`";
            return Err(Error::config("model.head", detail));
        }
        let examples = Examples::new(&recipe.model, Pixels::Levels(&images.levels), &images.labels)?;
        if !held_out.levels.is_empty() {
            Examples::new(&recipe.model, Pixels::Levels(&held_out.levels), &held_out.labels)?;
        }
        if recipe.augment.is_on() && recipe.augment.border.is_empty() {
            recipe.augment.border = examples.border();
        }
        let fingerprint = {
            let model = &recipe.model;
            let numbers = [examples.len(), model.in_channels, model.image_size, model.num_classes];
            let len = model.images(1).len();
            fingerprint(numbers, images.levels.chunks_exact(len.max(1)), &images.labels)
        };
        if !text.otherwise {
            self.goes_on(&recipe, &fingerprint)?;
        }
        let options = recipe.options();
        let device = self.device.as_ref().ok_or_else(closed)?;
        let trainer = match &self.run {
            Some(run) => Trainer::resume(device, run, &options).await?,
            // Whatever was learnt by before is no part of a run that begins.
            None => {
                let begin = inference_of(&self.checkpoint);
                Trainer::resume(device, &begin, &options).await?
            }
        };
        let (done, steps) = (trainer.step(), recipe.train.steps);
        if done >= steps {
            let detail =
                format!("{done} are done already, so that there is nothing to do: more go on from there");
            return Err(Error::config("train.steps", format!("is {steps}: {detail}")));
        }
        let (images, samples) = (examples.len(), text.samples && !recipe.train.classifier_only);
        let (classifier, sampler) = (None, None);
        let mut run =
            Run { recipe, fingerprint, images, trainer, held_out, listener, samples, classifier, sampler };
        let stopped = self.steps(&mut run, &examples).await?;
        drop(run);
        self.adopt_run().await?;
        if stopped { Err(Error::Aborted) } else { Ok(()) }
    }

    /// The recipe that is given, or the one that the run began with.
    fn recipe(&self, text: &RunText) -> Result<MemoryRecipe> {
        let at = &self.checkpoint;
        let network =
            Network { model: at.model.clone(), diffusion: at.diffusion.clone(), pictures: at.pictures };
        let noted = self.run.as_ref().and_then(|run| run.training.as_ref()).map(|state| &state.recipe);
        let given = match (&text.recipe, noted) {
            (Some(given), _) => given.clone(),
            (None, Some(noted)) if noted.is_object() => {
                let parts = ["train", "augment"].into_iter();
                let parts: Map<String, Value> =
                    parts.filter_map(|part| Some((part.to_owned(), noted.get(part)?.clone()))).collect();
                // A run of the command may keep more than is kept here: that changes no step.
                let adapted = MemoryRecipe::adapt(&Value::Object(parts).to_string(), Some(&network))?;
                let changes = |field: &str| {
                    let name = field.strip_prefix("train.").unwrap_or(field);
                    !CHANGE_NO_STEP.contains(&name)
                };
                return match adapted.left_out.into_iter().find(|left| changes(&left.field)) {
                    Some(left) => Err(Error::config(left.field, left.reason)),
                    None => Ok(adapted.recipe),
                };
            }
            _ => return Err(Error::config("recipe", "is missing: how is this model to be trained?")),
        };
        MemoryRecipe::parse(&given.to_string(), Some(&network))
    }

    /// Refuses what would change the steps of the run that stands here.
    fn goes_on(&self, recipe: &MemoryRecipe, fingerprint: &str) -> Result<()> {
        let Some(state) = self.run.as_ref().and_then(|run| run.training.as_ref()) else { return Ok(()) };
        if state.recipe.is_object() {
            recipe.goes_on(&state.recipe)?;
        }
        if !state.data_fingerprint.is_empty() && state.data_fingerprint != fingerprint {
            let detail =
                "are not those that the run was begun on, in their order and with their classes: give these";
            return Err(Error::config("images", detail));
        }
        Ok(())
    }

    /// Steps until the end of the run, or until the listener stops it, and saves; whether it was stopped.
    async fn steps(&mut self, run: &mut Run<'_>, examples: &Examples<'_>) -> Result<bool> {
        let train = run.recipe.train.clone();
        let mut order = BatchOrder::new(examples.len(), train.seed);
        let (mut tally, mut last, mut saved) = (Tally::default(), None, run.trainer.step());
        loop {
            let step = run.trainer.step();
            let stopped = match run.listener.before(step as f64).await {
                Ok(answer) => answer.is_falsy(),
                Err(_) => true,
            };
            if stopped {
                if let Some(figures) = &last
                    && saved < step
                {
                    self.save(run, figures).await?;
                }
                return Ok(true);
            }
            let batch = examples.next(&mut order, step, train.batch_size, train.flip)?;
            let rate = train.rate_at(step, 0.0);
            run.trainer.train_step(&batch, rate)?;
            let step = step + 1;
            let metrics = run.trainer.metrics().await?;
            tally.add(&metrics, batch.labels.labelled(run.recipe.model.num_classes) > 0);
            let finished = step >= train.steps;
            let due = |every: u64| finished || (every > 0 && step.is_multiple_of(every));
            if due(train.log_every) {
                run.tell(step, &mut tally, &metrics, rate);
            }
            let figures = figures(step, &metrics, rate);
            // First what can be gone on from, then looks at it, which may take long.
            if due(train.save_every) {
                self.save(run, &figures).await?;
                saved = step;
            }
            last = Some(figures);
            if due(train.eval_every) {
                run.evaluate(step).await?;
            }
            if run.samples && due(train.sample_every) {
                run.sample(step).await?;
            }
            if finished {
                return Ok(false);
            }
        }
    }

    /// Keeps where the run stands, here and with the listener.
    async fn save(&mut self, run: &Run<'_>, figures: &Figures) -> Result<()> {
        let mut made = run.trainer.checkpoint().await?;
        let recipe = &run.recipe;
        if let Some(state) = &mut made.training {
            state.recipe =
                serde_json::to_value(recipe).map_err(|error| Error::config("recipe", error.to_string()))?;
            state.data_fingerprint.clone_from(&run.fingerprint);
            state.last = Some(figures.clone());
        }
        made.pictures = recipe.data;
        let told = [
            ("data", format!("{} images in a web page", run.images)),
            ("steps", figures.step.to_string()),
            ("seed", recipe.train.seed.to_string()),
        ];
        made.info.extend(told.map(|(topic, text)| (topic.to_owned(), text)));
        let bytes = made.to_bytes(Dtype::F32)?;
        self.run = Some(made);
        // What becomes of the file is the listener's to tell: the run itself stands here.
        let _ = run.listener.save(figures.step as f64, Uint8Array::from(&bytes[..])).await;
        Ok(())
    }
}

/// What was measured at a step, as checkpoints hold it: nothing of it depends on time, so that equal runs give equal files.
fn figures(step: u64, metrics: &Metrics, rate: f64) -> Figures {
    let values = [
        ("loss", f64::from(metrics.loss)),
        ("mse", f64::from(metrics.mse)),
        ("classifier_loss", f64::from(metrics.classifier_loss)),
        ("learning_rate", rate),
    ];
    Figures { step, values: values.map(|(name, value)| (name.to_owned(), value)).into() }
}

impl Run<'_> {
    /// Tells the means since they were last told.
    fn tell(&self, step: u64, tally: &mut Tally, metrics: &Metrics, rate: f64) {
        let told = Object::new();
        set(&told, "done", step as f64);
        set(&told, "total", self.recipe.train.steps as f64);
        for (name, value) in tally.take() {
            set(&told, name, value);
        }
        set(&told, "learningRate", rate);
        if let Some(norm) = metrics.gradient_norm {
            set(&told, "gradientNorm", norm);
        }
        if let Some(scale) = metrics.loss_scale {
            set(&told, "lossScale", scale);
        }
        // Who cannot hear stops the run when it asks.
        let _ = self.listener.stepped(&told);
    }

    /// What the average makes of the held-out images: as many as the recipe says, spread over all.
    async fn evaluate(&mut self, step: u64) -> Result<()> {
        let (held_out, listener) = (self.held_out, self.listener);
        let Labels::Classes(classes) = &held_out.labels else { return Ok(()) };
        let all: Vec<usize> =
            (0..classes.len()).filter(|row| classes.get(*row) != Some(&UNLABELLED)).collect();
        let most = self.recipe.train.eval_images;
        let count = if most == 0 { all.len() } else { most.min(all.len()) };
        if count == 0 || self.recipe.train.classifier_input == ClassifierInput::None {
            return Ok(());
        }
        let rows: Vec<usize> = (0..count).filter_map(|i| all.get(i * all.len() / count).copied()).collect();
        let classifier = match self.classifier.take() {
            Some(known) => known,
            None => ImageClassifier::new(self.trainer.weights(), BATCH, WeightSet::Averaged).await?,
        };
        let examples = Examples::new(&self.recipe.model, Pixels::Levels(&held_out.levels), &held_out.labels)?;
        let (mut right, mut log_loss) = (0usize, 0.0);
        let columns = self.recipe.model.num_classes;
        for rows in rows.chunks(BATCH) {
            let Batch { images, labels } = examples.batch(rows)?;
            let probabilities = classifier.probabilities(&images).await?;
            let Labels::Classes(truth) = labels else { continue };
            let best = argmax(&probabilities, columns)?;
            for ((row, best), truth) in probabilities.chunks_exact(columns.max(1)).zip(best).zip(truth) {
                right += usize::from(best == truth as usize);
                let probability = row.get(truth as usize).copied().unwrap_or(0.0);
                log_loss -= f64::from(probability).max(f64::MIN_POSITIVE).ln();
            }
            if !listener.goes_on().unwrap_or(false) {
                self.classifier = Some(classifier);
                return Ok(());
            }
        }
        self.classifier = Some(classifier);
        let told = Object::new();
        set(&told, "step", step as f64);
        set(&told, "images", count as f64);
        set(&told, "accuracy", right as f64 / count as f64);
        set(&told, "nll", log_loss / count as f64);
        let _ = listener.evaluated(&told);
        Ok(())
    }

    /// Samples of the average, one of each class, from the same noise each time; unguided where the classifier never sees noised
    /// images.
    async fn sample(&mut self, step: u64) -> Result<()> {
        let MemoryRecipe { model, diffusion, train, .. } = &self.recipe;
        let noised = matches!(train.classifier_input, ClassifierInput::Noised | ClassifierInput::Both);
        let guidance = if noised { Guidance::Representation } else { Guidance::None };
        let count = model.num_classes.min(MOST_SAMPLED);
        let sampler = match self.sampler.take() {
            Some(known) => known,
            None => {
                // The running statistics on the device are newer than the check that `force` skips.
                let spec = StepSpec { guidance, clip: true, force: true, ..StepSpec::new(count) };
                let weights = self.trainer.weights();
                Sampler::fitting(weights, diffusion, &train.sample_steps, spec, WeightSet::Averaged).await?
            }
        };
        let seed = Seed(train.seed);
        let batch = sampler.batch();
        let mut images = Vec::new();
        for first in (0..count).step_by(batch.max(1)) {
            sampler.start_from_noise(seed, first as u32)?;
            let classes: Vec<Target> =
                (first..first + batch).map(|class| class.min(model.num_classes - 1).into()).collect();
            let labels =
                model.head.toward(&vec![0.0; batch * model.num_classes], &classes, model.num_classes)?;
            let options = ChainOptions { seed, first_row: first as u32, labels, alpha: train.sample_alpha };
            let mut hear = |_| match self.listener.goes_on() {
                Ok(true) => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            };
            match sampler.run(sampler.schedule().len(), &options, Watch::Progress(&mut hear)).await {
                // A run that is stopped ends at its next step, saved.
                Err(Error::Aborted) => return Ok(()),
                other => other?,
            }
            images.extend(sampler.get_images().await?);
        }
        images.truncate(count * model.images(1).len());
        self.sampler = Some(sampler);
        // Early averages may leave every range: such samples show nothing, and end no run.
        if images.iter().all(|value| value.is_finite()) {
            images.iter_mut().for_each(|value| *value = value.clamp(-1.0, 1.0));
            let _ = self.listener.sampled(step as f64, array(&images));
        }
        Ok(())
    }
}
