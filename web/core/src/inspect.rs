//! One training step looked at from outside, for checks of a browser against the reference's numbers, and times of kernels
//! in a browser.

use crate::engine::{array, set};
use crate::error::to_js;
use duet::checkpoint::Checkpoint;
use duet::families::Tuning;
use duet::gpu::{Device, DeviceOptions};
use duet::model::{JointModel, Labels};
use duet::ops::measure;
use duet::train::{ClassifierInput, StepInput, StepOutput, TrainOptions};
use duet::{Error, Result};
use js_sys::{Float32Array, Object, Reflect, Uint32Array};
use std::path::Path;
use std::sync::Arc;
use wasm_bindgen::prelude::*;

/// Losses, outputs and gradients of a checkpoint for `input` = {x_start, noise, t, labels, noised}.
#[wasm_bindgen]
pub async fn training_step(checkpoint: Vec<u8>, input: Object) -> std::result::Result<Object, JsValue> {
    let get = |key: &str| Reflect::get(&input, &JsValue::from_str(key));
    let floats = |key: &str| get(key).map(|v| Float32Array::new(&v).to_vec());
    let words = |key: &str| get(key).map(|v| Uint32Array::new(&v).to_vec());
    let noised = get("noised")?.is_truthy();
    let step = StepInput {
        x_start: floats("x_start")?,
        noise: floats("noise")?,
        timesteps: words("t")?.into_iter().map(|t| t as usize).collect(),
        labels: Labels::Classes(words("labels")?),
        classifier_input: if noised { ClassifierInput::Noised } else { ClassifierInput::Clean },
        classifier_loss_scaling: TrainOptions::default().classifier_loss_scaling,
    };
    let out = run(&checkpoint, &step).await.map_err(|e| to_js(&e))?;
    let object = Object::new();
    set(&object, "loss", out.loss);
    for (key, values) in [("mse", &out.mse), ("logits", &out.logits), ("model_out", &out.model_out)] {
        set(&object, key, array(values));
    }
    let gradients = Object::new();
    for (name, tensor) in &out.gradients {
        set(&gradients, name, array(&tensor.data));
    }
    set(&object, "gradients", gradients);
    Ok(object)
}

async fn run(bytes: &[u8], input: &StepInput) -> Result<StepOutput> {
    let checkpoint = Checkpoint::from_bytes(bytes, Path::new("checkpoint"))?;
    let model = Arc::new(JointModel::new(&checkpoint.model)?);
    let device = Device::open(&DeviceOptions::default()).await?;
    let step =
        duet::train::training_step(&device, &model, &checkpoint.diffusion, &checkpoint.weights, input).await;
    match device.check() {
        Err(lost @ Error::DeviceLost { .. }) => Err(lost),
        _ => step,
    }
}

/// Times the shapes of a tuning table (JSON) in this browser, each for at least `seconds` seconds: the table with the times
/// and choices found here.
#[wasm_bindgen]
pub async fn tune(table: String, seconds: f64) -> std::result::Result<String, JsValue> {
    measured(&table, seconds).await.map_err(|e| to_js(&e))
}

async fn measured(table: &str, seconds: f64) -> Result<String> {
    let mut table = Tuning::parse(Path::new("shapes"), table)?;
    let device = Device::open(&DeviceOptions::default()).await?;
    for row in &mut table.choices {
        let times = measure::times(&device, &row.key, seconds, || js_sys::Date::now() / 1e3).await?;
        device.check()?;
        *row = times.row(&row.key);
    }
    table.adapter = device.info().name.clone();
    table.measured = format!("in a browser, software {}", device.info().software);
    Ok(table.to_json())
}
