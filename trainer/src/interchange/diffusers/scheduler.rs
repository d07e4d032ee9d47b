//! `scheduler/scheduler_config.json`: the process, as diffusers' `DDPMScheduler` has it. Both begin at t = 0 with a first β and
//! train on the same ᾱ.

use super::{Reader, VERSION};
use duet::diffusion::{DiffusionConfig, NoiseSchedule, Prediction};
use duet::model::ModelConfig;
use serde_json::{Map, Value, json};

/// The chain that `linear_start` and `linear_end` count for.
const STEPS: f64 = 1000.0;

/// The settings of a process, or every reason why there are none.
pub(super) fn write(model: &ModelConfig, diffusion: &DiffusionConfig) -> Result<Value, Vec<String>> {
    let steps = diffusion.diffusion_steps as f64;
    let [start, end] = [diffusion.linear_start, diffusion.linear_end].map(|beta| beta * STEPS / steps);
    let linear = diffusion.noise_schedule == NoiseSchedule::Linear;
    let mut reasons = Vec::new();
    if linear && (diffusion.diffusion_steps < 10 || start.max(end) > 0.999) {
        reasons.push(format!(
            "a linear schedule of {} steps has β up to {:.3}, which is held at 0.999 here and not there",
            diffusion.diffusion_steps,
            start.max(end)
        ));
    }
    if diffusion.rescale_timesteps && diffusion.diffusion_steps != 1000 {
        reasons.push(format!(
            "its network sees t · 1000 / {}, where diffusers gives it t (rescale_timesteps)",
            diffusion.diffusion_steps
        ));
    }
    if !reasons.is_empty() {
        return Err(reasons);
    }
    Ok(json!({
        "_class_name": "DDPMScheduler", "_diffusers_version": VERSION,
        "num_train_timesteps": diffusion.diffusion_steps,
        // Of a cosine schedule they say nothing.
        "beta_start": if linear { start } else { 0.0001 }, "beta_end": if linear { end } else { 0.02 },
        "beta_schedule": if linear { "linear" } else { "squaredcos_cap_v2" },
        "prediction_type": match diffusion.prediction {
            Prediction::Eps => "epsilon",
            Prediction::XStart => "sample",
            Prediction::V => "v_prediction",
        },
        "variance_type": if model.learn_sigma { "learned_range" } else { "fixed_large" },
        "clip_sample": true, "clip_sample_range": 1.0, "timestep_spacing": "leading", "steps_offset": 0,
    }))
}

/// The process of a scheduler, whichever; or every reason why there is none here. What is not said is as diffusers has it by
/// default.
pub(super) fn read(settings: &Map<String, Value>) -> Result<DiffusionConfig, Vec<String>> {
    let mut reader = Reader::new(settings);
    let null = Value::Null;
    let steps = reader.whole("num_train_timesteps", 1000);
    let [start, end] =
        [("beta_start", 0.0001), ("beta_end", 0.02)].map(|(name, default)| reader.number(name, default));
    let text = |value| Value::as_str(value);
    let schedule = reader.read("beta_schedule", "linear", "a text", text);
    let prediction = reader.read("prediction_type", "epsilon", "a text", text);
    reader.must("trained_betas", &null, std::slice::from_ref(&null));
    reader.must("rescale_betas_zero_snr", &false.into(), &[false.into()]);
    // How chains are run, of which a checkpoint here says nothing.
    reader.pass_over(&[
        "variance_type",
        "clip_sample",
        "clip_sample_range",
        "thresholding",
        "dynamic_thresholding_ratio",
        "sample_max_value",
        "timestep_spacing",
        "steps_offset",
        "set_alpha_to_one",
        "skip_prk_steps",
        "predict_epsilon",
        "tensor_format",
        "solver_order",
        "solver_type",
        "algorithm_type",
        "lower_order_final",
        "euler_at_final",
        "final_sigmas_type",
        "lambda_min_clipped",
        "interpolation_type",
        "use_karras_sigmas",
    ]);
    if settings.get("predict_epsilon") == Some(&Value::Bool(false)) {
        reader.reasons.push("predict_epsilon is false, as old versions said; say prediction_type".into());
    }
    let noise_schedule = match schedule {
        "linear" => NoiseSchedule::Linear,
        "squaredcos_cap_v2" => NoiseSchedule::Cosine,
        other => {
            reader
                .reasons
                .push(format!("beta_schedule is {other:?}, must be \"linear\" or \"squaredcos_cap_v2\""));
            NoiseSchedule::Linear
        }
    };
    let prediction = match prediction {
        "epsilon" => Prediction::Eps,
        "sample" => Prediction::XStart,
        "v_prediction" => Prediction::V,
        other => {
            reader
                .reasons
                .push(format!("prediction_type is {other:?}, must be epsilon, sample or v_prediction"));
            Prediction::Eps
        }
    };
    if noise_schedule == NoiseSchedule::Linear && (steps < 10 || start.max(end) > 0.999) {
        reader
            .reasons
            .push(format!("a linear schedule of {steps} steps up to β = {end} is another one here"));
    }
    reader.finish()?;
    let scale = steps as f64 / STEPS;
    let defaults = DiffusionConfig::default();
    let [linear_start, linear_end] = match noise_schedule {
        NoiseSchedule::Linear => [start * scale, end * scale],
        NoiseSchedule::Cosine => [defaults.linear_start, defaults.linear_end],
    };
    let diffusion = DiffusionConfig {
        diffusion_steps: steps,
        noise_schedule,
        linear_start,
        linear_end,
        prediction,
        ..defaults
    };
    diffusion.validate().map_err(|error| vec![error.to_string()])?;
    Ok(diffusion)
}
