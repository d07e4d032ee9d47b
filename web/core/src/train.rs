//! Fine-tuning in the page.

use crate::engine::{Engine, array, closed, go_on};
use crate::error::{bad_options, to_js};
use duet::model::Labels;
use duet::sampling::guidable;
use duet::train::{BatchOrder, ClassifierInput, Examples, Pixels, TrainOptions, Trainer};
use duet::{Error, Result};
use js_sys::{Float32Array, Function};
use serde::Deserialize;
use wasm_bindgen::prelude::*;

/// Options of a training run, as the TypeScript layer writes them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct TrainText {
    steps: u32,
    batch_size: usize,
    learning_rate: f64,
    classifier_loss_scaling: f32,
    seed: u64,
}

#[wasm_bindgen]
impl Engine {
    /// Trains on `images` \[N,C,H,W\] with a class each (0xffffffff: none) and returns the loss of each step. Afterwards,
    /// also where `on_step` stopped it, the model is the trained one, and the next call goes on from there: with the
    /// optimizer's moments, and with the timesteps, noise and order of the steps that follow.
    pub async fn train(
        &mut self,
        options: String,
        images: Vec<f32>,
        labels: Vec<u32>,
        on_step: Function,
    ) -> std::result::Result<Float32Array, JsValue> {
        let options: TrainText = serde_json::from_str(&options).map_err(|e| bad_options(&e))?;
        if options.steps == 0 {
            return Err(to_js(&Error::config("steps", "must be at least 1")));
        }
        let outcome = self.run_training(&options, &images, &labels, &on_step).await;
        self.finish(outcome.map(|losses| array(&losses)))
    }
}

impl Engine {
    async fn run_training(
        &mut self,
        text: &TrainText,
        images: &[f32],
        labels: &[u32],
        on_step: &Function,
    ) -> Result<Vec<f32>> {
        let seen = if guidable(self.weights()?) { ClassifierInput::Both } else { ClassifierInput::Clean };
        let options = TrainOptions {
            batch_size: text.batch_size,
            learning_rate: text.learning_rate,
            classifier_loss_scaling: text.classifier_loss_scaling,
            classifier_input: seen,
            classifier_only: self.checkpoint.classifier_only,
            seed: text.seed,
            ..TrainOptions::default()
        };
        options.validate()?;
        let labels = Labels::Classes(labels.to_vec());
        let examples = Examples::new(&self.model.config, Pixels::Values(images), &labels)?;
        let device = self.device.as_ref().ok_or_else(closed)?;
        let mut trainer = Trainer::resume(device, &self.checkpoint, &options).await?;
        let mut order = BatchOrder::new(examples.len(), text.seed);
        let mut losses = Vec::new();
        let mut stopped = false;
        for step in 0..text.steps {
            // Counted on from the calls before.
            let batch = examples.next(&mut order, trainer.step(), text.batch_size, false)?;
            trainer.train_step(&batch, options.learning_rate)?;
            let metrics = trainer.metrics().await?;
            losses.push(metrics.loss);
            let figures = [f64::from(step + 1), f64::from(text.steps)]
                .into_iter()
                .chain([metrics.loss, metrics.mse, metrics.classifier_loss].map(f64::from))
                .map(JsValue::from);
            if !go_on(on_step, &figures.collect::<Vec<_>>()) {
                stopped = true;
                break;
            }
        }
        let trained = trainer.checkpoint().await?;
        self.replace(trained).await?;
        if stopped { Err(Error::Aborted) } else { Ok(losses) }
    }
}
