//! A loaded model on a device.

use crate::error::{bad_options, to_js};
use duet::checkpoint::{Checkpoint, Dtype};
use duet::diffusion::Solver;
use duet::evaluation::Evaluation;
use duet::gpu::{Device, DeviceOptions};
use duet::model::{Head, JointModel, Labels, WeightSet};
use duet::recipe::{Adapted, MemoryRecipe};
use duet::rng::Seed;
use duet::sampling::{Guidance, Progress, StepSpec};
use duet::typicality::{Typicality, UNLIKE};
use duet::weights::Weights;
use duet::{Duet, Error, LoadOptions, Result, SampleOptions};
use js_sys::{Array, Float32Array, Float64Array, Function, Object, Reflect};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use wasm_bindgen::prelude::*;

/// Dispatches per submission: a page's own drawing gets its turn in between.
const DISPATCHES_PER_SUBMIT: usize = 48;

/// What a model's file calls training after the one that its figures are of.
const TRAINED_FURTHER: &str = "trained further";

/// A model and everything made of it on one device.
#[wasm_bindgen]
pub struct Engine {
    pub(crate) checkpoint: Arc<Checkpoint>,
    pub(crate) model: Arc<JointModel>,
    instance: Option<wgpu::Instance>,
    pub(crate) device: Option<Device>,
    /// The model on the device.
    duet: Option<Duet>,
    /// Steps that it was trained here.
    trained_further: u32,
    /// Where a training by a recipe stands: all that it goes on with, its average among it.
    pub(crate) run: Option<Checkpoint>,
    /// What is measured at the moment.
    pub(crate) evaluation: Option<Evaluation>,
}

/// Options of samples, as the TypeScript layer writes them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SampleText {
    steps: String,
    alpha: f32,
    seed: u64,
    eta: Option<f64>,
    guided: bool,
}

/// DDIM's solver of a share of noise, or the reference's ancestral one.
pub(crate) fn solver(eta: Option<f64>) -> Solver {
    eta.map_or(Solver::ancestral(), Solver::ddim)
}

/// Tells a callback of a chain's progress.
pub(crate) fn tell(callback: &Function, arguments: &[JsValue]) -> ControlFlow<()> {
    if go_on(callback, arguments) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

/// Tells a callback of progress; it answers `false` to stop.
pub(crate) fn go_on(callback: &Function, arguments: &[JsValue]) -> bool {
    callback.apply(&JsValue::NULL, &Array::from_iter(arguments)).is_ok_and(|answer| !answer.is_falsy())
}

pub(crate) fn set(object: &Object, key: &str, value: impl Into<JsValue>) {
    // Setting a property of a fresh plain object cannot fail.
    let _ = Reflect::set(object, &JsValue::from_str(key), &value.into());
}

pub(crate) fn array(values: &[f32]) -> Float32Array {
    Float32Array::from(values)
}

#[wasm_bindgen]
impl Engine {
    /// Reads and checks a checkpoint; nothing touches the GPU yet. With `training` what a run goes on with is kept, which the
    /// file must have.
    #[wasm_bindgen(constructor)]
    pub fn new(bytes: &[u8], name: &str, training: bool) -> std::result::Result<Engine, JsValue> {
        let open = || {
            let path = Path::new(name);
            let read = Checkpoint::from_bytes(bytes, path)?;
            let model = read.joint_model(path)?;
            if training && read.training.is_none() {
                let detail = "holds no training state: it was exported for inference".into();
                return Err(Error::Checkpoint { path: path.into(), detail });
            }
            if training {
                return Ok(Engine::of(inference_of(&read), model, Some(read)));
            }
            Ok(Engine::of(read.into_inference(), model, None))
        };
        open().map_err(|e| to_js(&e))
    }

    /// A new model by a recipe, its weights drawn by `seed`, or by the recipe's own: those that the command would begin with.
    pub fn create(recipe: &str, seed: Option<f64>) -> std::result::Result<Engine, JsValue> {
        let open = || {
            let recipe = MemoryRecipe::parse(recipe, None)?;
            let model = JointModel::new(&recipe.model)?;
            let seed = seed.map_or(recipe.train.seed, |seed| seed as u64);
            let weights = model.params.initial(Seed(seed));
            let note = format!("not yet: its weights were drawn by seed {seed}");
            let checkpoint = Checkpoint {
                pictures: recipe.data,
                info: BTreeMap::from([("trained".to_owned(), note)]),
                ..Checkpoint::new(recipe.model, recipe.diffusion, weights)
            };
            Ok(Engine::of(checkpoint, model, None))
        };
        open().map_err(|e: Error| to_js(&e))
    }

    /// A recipe of the command, TOML or JSON, as this module can train by it: `{ recipe, leftOut: [{ field, value, reason }] }` as JSON.
    #[wasm_bindgen(js_name = adaptRecipe)]
    pub fn adapt_recipe(text: &str) -> std::result::Result<String, JsValue> {
        let Adapted { written, left_out, .. } = MemoryRecipe::adapt(text, None).map_err(|e| to_js(&e))?;
        Ok(serde_json::json!({ "recipe": written, "leftOut": left_out }).to_string())
    }

    /// Takes `navigator.gpu` as it is at this moment; [`Engine::open`] opens a device of it. Separate and synchronous,
    /// so that an embedder's device can be put in its place for just this call.
    pub fn prepare(&mut self) {
        self.instance = Some(instance());
    }

    /// Opens a device and uploads the weights, in place of whatever was open before.
    pub async fn open(&mut self) -> std::result::Result<(), JsValue> {
        self.close();
        let outcome = async {
            self.device = Some(open(self.instance.take()).await?);
            self.upload().await
        };
        outcome.await.map_err(|e| to_js(&e))
    }

    /// Frees everything on the device. The device itself is its opener's to destroy.
    pub fn release(&mut self) {
        self.close();
    }

    /// What is known of the model, as JSON.
    pub fn info(&self) -> String {
        let config = &self.checkpoint.model;
        let names: Vec<String> = (0..config.num_classes).map(|c| config.class_name(c)).collect();
        let guidable = self.weights().is_ok_and(duet::sampling::guidable);
        let state = self.run.as_ref().and_then(|run| run.training.as_ref());
        serde_json::json!({
            "imageSize": config.image_size, "channels": config.in_channels, "numClasses": config.num_classes,
            "classNames": names, "head": config.head, "parameters": self.model.params.parameter_count(),
            "diffusionSteps": self.checkpoint.diffusion.diffusion_steps, "denoises": !self.checkpoint.classifier_only,
            "guidable": guidable,
            "info": self.told(), "ground": self.checkpoint.pictures.ground,
            "fit": self.checkpoint.pictures.fit, "resize": self.checkpoint.pictures.resize,
            "resizeTo": self.checkpoint.preparation().inside()[0], "unlikeBeyond": self.checkpoint.typicality.as_ref().map(|_| UNLIKE),
            "training": state.map(|state| serde_json::json!({"step": state.step, "recipe": state.recipe})),
        })
        .to_string()
    }

    /// Probabilities \[N,K\] of any number of images.
    pub async fn classify(&mut self, images: Vec<f32>) -> std::result::Result<Float32Array, JsValue> {
        let outcome = match self.duet() {
            Ok(duet) => duet.probabilities(&images).await,
            Err(error) => Err(error),
        };
        self.finish(outcome.map(|p| array(&p)))
    }

    /// How like the training data any number of images \[N,C,H,W\] are: of each the percentile, 0 to 100, which says so
    /// beyond `unlikeBeyond` of [`Engine::info`]; `undefined` where the model's file does not tell.
    pub async fn typicality(
        &mut self,
        images: Vec<f32>,
    ) -> std::result::Result<Option<Float64Array>, JsValue> {
        let outcome = match self.duet() {
            Ok(duet) => duet.typicality(&images).await,
            Err(error) => Err(error),
        };
        let percentiles = |all: Vec<Typicality>| all.iter().map(|t| t.percentile).collect::<Vec<_>>();
        self.finish(outcome.map(|all| all.map(|all| Float64Array::from(&percentiles(all)[..]))))
    }

    /// The noise in images \[N,C,H,W\], each at its timestep.
    #[wasm_bindgen(js_name = predictNoise)]
    pub async fn predict_noise(
        &mut self,
        images: Vec<f32>,
        timesteps: Vec<u32>,
    ) -> std::result::Result<Float32Array, JsValue> {
        let timesteps: Vec<usize> = timesteps.iter().map(|t| *t as usize).collect();
        let outcome = match self.duet() {
            Ok(duet) => duet.predict_noise(&images, &timesteps).await,
            Err(error) => Err(error),
        };
        self.finish(outcome.map(|noise| array(&noise)))
    }

    /// Samples: `labels` has a class for each image and is ignored where the options do not guide.
    pub async fn sample(
        &mut self,
        options: String,
        labels: Vec<f32>,
        on_step: Function,
    ) -> std::result::Result<Float32Array, JsValue> {
        let options: SampleText = serde_json::from_str(&options).map_err(|e| bad_options(&e))?;
        let outcome = self.run_samples(&options, &labels, &on_step).await;
        self.finish(outcome.map(|images| array(&images)))
    }

    /// Notes in what the model's file tells that it was trained for so many more steps: its figures are of before.
    #[wasm_bindgen(js_name = noteTraining)]
    pub fn note_training(&mut self, steps: u32) {
        self.trained_further = self.trained_further.saturating_add(steps);
    }

    /// The file that a training goes on with, here and by the command: everything, as f32.
    #[wasm_bindgen(js_name = exportTraining)]
    pub fn export_training(&self) -> std::result::Result<Vec<u8>, JsValue> {
        let none = || {
            Error::config(
                "training",
                "there is none that goes on: this model was not trained by a recipe here",
            )
        };
        self.run.as_ref().ok_or_else(none).and_then(|run| run.to_bytes(Dtype::F32)).map_err(|e| to_js(&e))
    }

    /// The model as a file: f16, or f32.
    pub fn export(&self, f32: bool) -> std::result::Result<Vec<u8>, JsValue> {
        let dtype = if f32 { Dtype::F32 } else { Dtype::F16 };
        if self.trained_further == 0 {
            return self.checkpoint.export(dtype, false).map_err(|e| to_js(&e));
        }
        let noted = Checkpoint { info: self.told(), ..Checkpoint::clone(&self.checkpoint) };
        noted.export(dtype, false).map_err(|e| to_js(&e))
    }

    /// What calls need at a batch size, as JSON.
    pub fn estimate(&self, batch: usize) -> std::result::Result<String, JsValue> {
        self.estimates(batch).map(|value| value.to_string()).map_err(|e| to_js(&e))
    }

    /// Buffers alive, their bytes, pipelines compiled, bytes of the module's own memory in use.
    pub fn usage(&self) -> Vec<f64> {
        let counters = self.device.as_ref().map(Device::counters).unwrap_or_default();
        let heap = crate::heap::bytes_in_use();
        vec![counters.live_buffers as f64, counters.live_bytes as f64, counters.pipelines as f64, heap as f64]
    }

    /// Runs the device's self-test.
    #[wasm_bindgen(js_name = selfTest)]
    pub async fn self_test(&mut self) -> std::result::Result<(), JsValue> {
        let outcome = match &self.device {
            Some(device) => device.self_test().await,
            None => Err(closed()),
        };
        self.finish(outcome)
    }
}

/// The weights to use, as [`Checkpoint::into_inference`] gives them: of what a training goes on with a copy is made.
pub(crate) fn inference_of(run: &Checkpoint) -> Checkpoint {
    let Checkpoint { model, diffusion, weights, classifier_only, pictures, info, .. } = run;
    let mut weights = weights.clone();
    weights.extend(run.ema.clone().unwrap_or_default());
    Checkpoint {
        classifier_only: *classifier_only,
        pictures: *pictures,
        info: info.clone(),
        ..Checkpoint::new(model.clone(), diffusion.clone(), weights)
    }
}

/// An instance of what `navigator.gpu` is at this moment.
pub(crate) fn instance() -> wgpu::Instance {
    wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle())
}

/// A device as a page uses it.
pub(crate) async fn open(instance: Option<wgpu::Instance>) -> Result<Device> {
    let options = DeviceOptions { dispatches_per_submit: DISPATCHES_PER_SUBMIT, ..DeviceOptions::default() };
    Device::open_from(instance.unwrap_or_else(self::instance), &options).await
}

pub(crate) fn closed() -> Error {
    Error::DeviceLost { reason: "no device is open".into() }
}

impl Engine {
    fn of(checkpoint: Checkpoint, model: JointModel, run: Option<Checkpoint>) -> Engine {
        Engine {
            checkpoint: Arc::new(checkpoint),
            model: Arc::new(model),
            instance: None,
            device: None,
            duet: None,
            trained_further: 0,
            run,
            evaluation: None,
        }
    }

    /// What the model's file tells, and that it was trained since.
    fn told(&self) -> BTreeMap<String, String> {
        let mut info = self.checkpoint.info.clone();
        if self.trained_further > 0 {
            let before =
                info.get(TRAINED_FURTHER).and_then(|text| text.split(' ').next()?.parse::<u32>().ok());
            let steps = before.unwrap_or(0).saturating_add(self.trained_further);
            let note = format!("{steps} steps in a web page; any figures here are of the model before");
            info.insert(TRAINED_FURTHER.into(), note);
        }
        info
    }

    /// Lets go of everything on the device, and of the device.
    fn close(&mut self) {
        self.duet = None;
        self.device = None;
    }

    /// Puts the checkpoint's weights on the device.
    async fn upload(&mut self) -> Result<()> {
        self.duet = None;
        let device = self.device.clone().ok_or_else(closed)?;
        let options = LoadOptions { adopted: Some(device), ..LoadOptions::default() };
        let duet = Duet::of(Arc::clone(&self.checkpoint), Arc::clone(&self.model), &options);
        self.duet = Some(duet.await?);
        Ok(())
    }

    /// Goes on with the weights of `trained`, and keeps on the host what training goes on with: the step and the optimizer's
    /// moments, twice the weights' memory. On the device nothing of it stays. The average, which starts anew with each
    /// training, is not kept: the model in the page is the trained one itself.
    pub(crate) async fn replace(&mut self, trained: Checkpoint) -> Result<()> {
        // The model on the device shares the checkpoint: without it there is nothing to copy.
        self.duet = None;
        self.run = None;
        let checkpoint = Arc::make_mut(&mut self.checkpoint);
        (checkpoint.weights, checkpoint.training) = (trained.weights, trained.training);
        // It told what the training data looked like to the weights of before.
        checkpoint.typicality = None;
        self.upload().await
    }

    /// Goes on with what the training by a recipe has come to: its average is the model, as of every file with one.
    pub(crate) async fn adopt_run(&mut self) -> Result<()> {
        let Some(run) = &self.run else { return Ok(()) };
        self.checkpoint = Arc::new(inference_of(run));
        self.trained_further = 0;
        self.upload().await
    }

    pub(crate) fn duet(&mut self) -> Result<&mut Duet> {
        self.duet.as_mut().ok_or_else(closed)
    }

    pub(crate) fn weights(&self) -> Result<&Weights> {
        self.duet.as_ref().map(Duet::weights).ok_or_else(closed)
    }

    /// A result on its way out: whatever fails on a lost device fails because it is lost.
    pub(crate) fn finish<T>(&self, outcome: Result<T>) -> std::result::Result<T, JsValue> {
        outcome.map_err(|error| {
            let lost = self.device.as_ref().and_then(|d| d.check().err());
            match lost {
                Some(lost @ Error::DeviceLost { .. }) => to_js(&lost),
                _ => to_js(&error),
            }
        })
    }

    async fn run_samples(
        &mut self,
        text: &SampleText,
        labels: &[f32],
        on_step: &Function,
    ) -> Result<Vec<f32>> {
        let classes = self.model.config.num_classes;
        let labels = match self.model.config.head {
            Head::Multiclass => Labels::Classes(labels.iter().map(|class| *class as u32).collect()),
            Head::MultiLabel => Labels::MultiLabel(labels.to_vec()),
        };
        let options = SampleOptions {
            respacing: text.steps.clone(),
            alpha: text.alpha,
            solver: solver(text.eta),
            seed: Seed(text.seed),
        };
        let mut report = |p: Progress| tell(on_step, &[(p.done as f64).into(), (p.total as f64).into()]);
        let wanted = text.guided.then_some(&labels);
        self.duet()?.sample_watched(wanted, labels.len(classes), &options, &mut report).await
    }

    fn estimates(&self, batch: usize) -> Result<serde_json::Value> {
        use duet::explain::{LocalStep, local_step_plan};
        use duet::train::{ClassifierInput, TrainOptions, TrainSpec, train_plan};
        let (model, diffusion) = (&*self.model, &self.checkpoint.diffusion);
        let guidance = Guidance::Representation;
        let step = StepSpec { guidance, ..StepSpec::new(batch) };
        let local = LocalStep { guidance: Guidance::Gradient, normalize: true, masked: false };
        // The paths of twice as many images, of ten steps.
        let rows = [11, 10].map(|rows| batch.saturating_mul(2 * rows));
        let spec = TrainSpec {
            batch: batch.max(2),
            classifier_input: ClassifierInput::Both,
            ..TrainSpec::of(&TrainOptions::default())
        };
        let row = |plan: duet::graph::Plan| {
            let stats = plan.stats();
            serde_json::json!({
                "bytes": stats.slot_bytes + stats.external_bytes, "multiplyAdds": stats.multiply_adds,
                "dispatches": stats.dispatches,
            })
        };
        Ok(serde_json::json!({
            "batch": batch,
            "weights": model.params.bytes() + model.params.running_bytes(),
            "classify": row(duet::infer::classify_plan(model, batch, WeightSet::Raw)?),
            "step": row(duet::sampling::step_plan(model, &step, WeightSet::Raw)?),
            "explain": row(local_step_plan(model, local, batch, rows, WeightSet::Raw)?),
            "train": row(train_plan(model, diffusion, &spec)?),
        }))
    }
}
