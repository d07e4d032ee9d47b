//! Counterfactuals: options as JSON text, answers as plain objects.

use crate::engine::{Engine, array, set, solver, tell};
use crate::error::{bad_options, to_js};
use duet::explain::{ExplainOptions, Explanation, Local, Method, Paper};
use duet::model::Target;
use duet::rng::Seed;
use duet::sampling::{Guidance, Progress, Watch};
use duet::{Error, Result};
use js_sys::{Array, Function, Object};
use serde::Deserialize;
use wasm_bindgen::prelude::*;

/// What is asked, as the TypeScript layer writes it. What is left out is the library's default.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainText {
    ask: AskText,
    method: MethodText,
    steps: String,
    noise: Option<f64>,
    seed: u64,
    /// Whether each step's probabilities are heard of, which are read back for it.
    curve: bool,
}

/// One question.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum AskText {
    /// Towards a class, or a label added or taken away; with several answers by as many seeds.
    One { class: usize, present: bool, variants: usize },
    /// Towards every other class, or each label flipped.
    All {},
    /// Nothing yet: what questions share is done.
    None {},
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum MethodText {
    Local { guidance: Option<GuidanceText>, strength: Option<f32>, locality: Option<f32>, keep: Option<f32> },
    Paper { guidance: Option<GuidanceText>, alpha: Option<f32>, eta: Option<f64>, ancestral: bool },
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum GuidanceText {
    Gradient,
    Representation,
}

impl From<GuidanceText> for Guidance {
    fn from(text: GuidanceText) -> Guidance {
        match text {
            GuidanceText::Gradient => Guidance::Gradient,
            GuidanceText::Representation => Guidance::Representation,
        }
    }
}

impl MethodText {
    fn method(&self) -> Method {
        match *self {
            MethodText::Local { guidance, strength, locality, keep } => {
                let defaults = Local::default();
                Method::Local(Local {
                    guidance: guidance.map_or(defaults.guidance, Guidance::from),
                    ladder: strength.map_or(defaults.ladder, Local::ladder_from),
                    locality: locality.unwrap_or(defaults.locality),
                    keep: keep.unwrap_or(defaults.keep),
                    ..defaults
                })
            }
            MethodText::Paper { guidance, alpha, eta, ancestral } => {
                let defaults = Paper::default();
                Method::Paper(Paper {
                    guidance: guidance.map_or(defaults.guidance, Guidance::from),
                    alpha: alpha.unwrap_or(defaults.alpha),
                    solver: if ancestral {
                        solver(None)
                    } else {
                        eta.map_or(defaults.solver, |e| solver(Some(e)))
                    },
                    ..defaults
                })
            }
        }
    }
}

impl ExplainText {
    fn options(&self, mask: Option<Vec<f32>>) -> ExplainOptions {
        let defaults = ExplainOptions::default();
        ExplainOptions {
            noise: self.noise.unwrap_or(defaults.noise),
            respacing: self.steps.clone(),
            method: self.method.method(),
            seed: Seed(self.seed),
            mask,
            ..defaults
        }
    }
}

#[wasm_bindgen]
impl Engine {
    /// Counterfactuals of one image: `answers`, `rungs` of their ladder, and of several answers to one question their
    /// `stability` \[H,W\]. `on_step` hears of steps done and in all and, where that is asked for, of the target's probability
    /// after each step so far.
    pub async fn explain(
        &mut self,
        options: String,
        image: Vec<f32>,
        mask: Option<Vec<f32>>,
        on_step: Function,
    ) -> std::result::Result<Object, JsValue> {
        let text: ExplainText = serde_json::from_str(&options).map_err(|e| bad_options(&e))?;
        if matches!(text.ask, AskText::One { variants: 0, .. }) {
            return Err(to_js(&Error::config("variants", "must be at least 1")));
        }
        let outcome = self.run_explain(&text, &image, mask, &on_step).await;
        self.finish(outcome)
    }
}

impl Engine {
    async fn run_explain(
        &mut self,
        text: &ExplainText,
        image: &[f32],
        mask: Option<Vec<f32>>,
        on_step: &Function,
    ) -> Result<Object> {
        let options = text.options(mask);
        let report = |p: Progress, curve: JsValue| {
            tell(on_step, &[(p.done as f64).into(), (p.total as f64).into(), curve])
        };
        let mut steps = |p: Progress| report(p, JsValue::UNDEFINED);
        let mut curve = |p: Progress, curve: &[Vec<f32>]| {
            let curve: Vec<f32> = curve.iter().flatten().copied().collect();
            report(p, array(&curve).into())
        };
        let duet = self.duet()?;
        let mut stability = None;
        let answers = match text.ask {
            AskText::None {} => {
                duet.invert(image, &options, Watch::Progress(&mut steps)).await?;
                Vec::new()
            }
            AskText::All {} => duet.explain_all_targets(image, &options, Watch::Progress(&mut steps)).await?,
            AskText::One { class, present, variants: 1 } => {
                let target = Target { class, present };
                let watch = if text.curve { Watch::Curve(&mut curve) } else { Watch::Progress(&mut steps) };
                vec![duet.explain_watched(image, target, &options, watch).await?]
            }
            AskText::One { class, present, variants } => {
                let target = Target { class, present };
                let watch = Watch::Progress(&mut steps);
                let made = duet.explain_variants(image, target, &options, variants, watch).await?;
                stability = Some(made.stability);
                made.answers
            }
        };
        let rungs = match &options.method {
            Method::Local(local) => local.ladder.len(),
            Method::Paper(_) => 1,
        };
        let object = Object::new();
        set(&object, "answers", answers.iter().map(answer).collect::<Array>());
        set(&object, "rungs", rungs as f64);
        if let Some(stability) = stability {
            set(&object, "stability", array(&stability));
        }
        Ok(object)
    }
}

/// An explanation as a plain object.
fn answer(made: &Explanation) -> Object {
    let object = Object::new();
    for (key, values) in [
        ("noised", &made.noised),
        ("counterfactual", &made.counterfactual),
        ("difference", &made.difference),
        ("before", &made.before),
        ("after", &made.after),
        ("curve", &made.curve),
    ] {
        set(&object, key, array(values));
    }
    for (key, number) in [
        ("target", made.target.class as f64),
        ("seed", made.seed.0 as f64),
        ("moved", made.moved as f64),
        ("rung", made.rung as f64),
        ("strength", f64::from(made.strength)),
        ("chains", made.chains as f64),
        ("meanChange", made.mean_change()),
    ] {
        set(&object, key, number);
    }
    set(&object, "present", made.target.present);
    set(&object, "reached", made.reached);
    let passes = Object::new();
    set(&passes, "encoder", made.passes.encoder as f64);
    set(&passes, "decoder", made.passes.decoder as f64);
    set(&passes, "backward", made.passes.backward as f64);
    set(&object, "passes", passes);
    object
}
