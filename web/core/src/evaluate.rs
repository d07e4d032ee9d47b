//! How good the model is on labelled images, batch after batch: the sums lie here, and outlive the device.

use crate::engine::{Engine, tell};
use crate::error::{bad_options, to_js};
use duet::evaluation::{EvaluationOptions, Report};
use duet::rng::Seed;
use duet::{Error, Result};
use js_sys::Function;
use serde::Deserialize;
use wasm_bindgen::prelude::*;

/// Options of an evaluation, as the TypeScript layer writes them. What is left out is the library's default.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct EvaluateText {
    images: usize,
    /// Left out of a classifier alone: none.
    timesteps: Option<usize>,
    noise_images: Option<usize>,
    seed: u64,
}

#[wasm_bindgen]
impl Engine {
    /// Begins an evaluation of so many images, in place of one that was begun before.
    #[wasm_bindgen(js_name = beginEvaluation)]
    pub fn begin_evaluation(&mut self, options: String) -> std::result::Result<(), JsValue> {
        let text: EvaluateText = serde_json::from_str(&options).map_err(|e| bad_options(&e))?;
        let defaults = EvaluationOptions::default();
        let steps = self.checkpoint.diffusion.diffusion_steps;
        let own = if self.checkpoint.classifier_only { 0 } else { defaults.timesteps.min(steps) };
        let options = EvaluationOptions {
            timesteps: text.timesteps.unwrap_or(own),
            noise_images: text.noise_images.unwrap_or(defaults.noise_images),
            seed: Seed(text.seed),
        };
        let begun = self.duet().and_then(|duet| duet.evaluation(text.images, &options));
        self.evaluation = Some(self.finish(begun)?);
        Ok(())
    }

    /// Adds the next images \[N,C,H,W\] and the class of each; `go_on` is asked between parts of the work. Where it fails or is
    /// stopped, the evaluation is as it was before.
    pub async fn evaluate(
        &mut self,
        images: Vec<f32>,
        classes: Vec<u32>,
        go_on: Function,
    ) -> std::result::Result<(), JsValue> {
        let outcome = self.run_evaluation(&images, &classes, &go_on).await;
        self.finish(outcome)
    }

    /// Ends the evaluation: what was found, as JSON.
    #[wasm_bindgen(js_name = endEvaluation)]
    pub fn end_evaluation(&mut self) -> std::result::Result<String, JsValue> {
        let report = self.evaluation.take().ok_or_else(none).and_then(|evaluation| evaluation.report());
        report.map(|report| self.report_text(&report)).map_err(|e| to_js(&e))
    }

    /// Lets go of an evaluation that nobody ends.
    #[wasm_bindgen(js_name = dropEvaluation)]
    pub fn drop_evaluation(&mut self) {
        self.evaluation = None;
    }
}

fn none() -> Error {
    Error::config("evaluation", "none was begun")
}

impl Engine {
    async fn run_evaluation(&mut self, images: &[f32], classes: &[u32], go_on: &Function) -> Result<()> {
        // Put back whatever comes of it: it can go on where the device was lost.
        let mut evaluation = self.evaluation.take().ok_or_else(none)?;
        let outcome = match self.duet() {
            Ok(duet) => {
                let mut go_on = || tell(go_on, &[]);
                duet.evaluate_watched(&mut evaluation, images, classes, &mut go_on).await
            }
            Err(error) => Err(error),
        };
        self.evaluation = Some(evaluation);
        outcome
    }

    fn report_text(&self, report: &Report) -> String {
        let Report { calibration, confusion, per_class, noise_error, noise_images, protocol } = report;
        let names = (0..per_class.len()).map(|class| self.checkpoint.model.class_name(class));
        let per_class: Vec<_> = names
            .zip(per_class)
            .map(|(class, of)| {
                serde_json::json!({
                    "class": class, "images": of.images, "recall": of.recall, "precision": of.precision,
                })
            })
            .collect();
        let noise_error: Vec<_> = noise_error
            .iter()
            .map(|of| {
                serde_json::json!({
                    "timestep": of.timestep, "error": of.error, "standardError": of.standard_error,
                })
            })
            .collect();
        serde_json::json!({
            "images": calibration.images, "accuracy": calibration.accuracy, "confidence": calibration.confidence,
            "ece": calibration.ece, "nll": calibration.nll, "brier": calibration.brier, "bins": calibration.bins,
            "confusion": confusion.counts, "perClass": per_class, "noiseError": noise_error,
            "noiseErrorImages": noise_images, "protocol": protocol,
        })
        .to_string()
    }
}
