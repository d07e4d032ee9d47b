//! Fine-tuning in the page.

use crate::engine::{Engine, array, closed, go_on};
use crate::error::{bad_options, to_js};
use duet::model::Labels;
use duet::rng::{Seed, shuffle};
use duet::sampling::guidable;
use duet::train::{Batch, ClassifierInput, TrainOptions, Trainer};
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
    /// also where `on_step` stopped it, the model is the trained one.
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
            seed: text.seed,
            ..TrainOptions::default()
        };
        options.validate()?;
        let config = &self.model.config;
        let len = config.in_channels * config.image_size.pow(2);
        if labels.is_empty() || images.len() != labels.len() * len {
            let detail = format!("{} values for {} images of {len}", images.len(), labels.len());
            return Err(Error::shape("train", detail));
        }
        let device = self.device.as_ref().ok_or_else(closed)?;
        let mut trainer = Trainer::resume(device, &self.checkpoint, &options).await?;
        let mut order = Order::new(labels.len(), text.seed);
        let mut losses = Vec::new();
        let mut stopped = false;
        for step in 0..text.steps {
            let rows = order.next(text.batch_size);
            let batch = Batch {
                images: rows.iter().flat_map(|r| &images[r * len..(r + 1) * len]).copied().collect(),
                labels: Labels::Classes(rows.iter().map(|r| labels[*r]).collect()),
            };
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
        self.replace(trained.weights).await?;
        if stopped { Err(Error::Aborted) } else { Ok(losses) }
    }
}

/// Shuffled passes over the images; a set smaller than a batch is repeated within it.
struct Order {
    seed: Seed,
    pass: u32,
    rows: Vec<u32>,
    at: usize,
}

impl Order {
    fn new(count: usize, seed: u64) -> Order {
        let mut rows: Vec<u32> = (0..count as u32).collect();
        shuffle(Seed(seed), 0, &mut rows);
        Order { seed: Seed(seed), pass: 0, rows, at: 0 }
    }

    fn next(&mut self, batch: usize) -> Vec<usize> {
        let mut list = Vec::with_capacity(batch);
        while list.len() < batch {
            if self.at == self.rows.len() {
                self.pass += 1;
                self.at = 0;
                shuffle(self.seed, self.pass, &mut self.rows);
            }
            list.push(self.rows[self.at] as usize);
            self.at += 1;
        }
        list
    }
}
