//! `duet info`: parameters, work and memory of a model, before anything is allocated.

use crate::cli::{Cli, Info, PlanKind, is_recipe_name};
use crate::io::output::{bytes, say, short};
use crate::io::session::load_checkpoint;
use crate::recipe::Recipe;
use clap::ValueEnum as _;
use duet::Result;
use duet::autodiff::{Activations, Precision};
use duet::checkpoint::Checkpoint;
use duet::diffusion::DiffusionConfig;
use duet::graph::Plan;
use duet::infer::classify_plan;
use duet::model::{JointModel, WeightSet};
use duet::sampling::{Guidance, StepSpec, step_plan};
use duet::train::{ClassifierInput, TrainOptions, TrainSpec, train_plan};
use duet::typicality::Reference;

/// Runs the command.
///
/// # Errors
/// A bad checkpoint or recipe.
pub fn run(arguments: &Cli, options: &Info) -> Result<()> {
    let is_recipe = is_recipe_name(&options.model);
    let (model, diffusion, train, info, pictures, typicality) = if is_recipe {
        let recipe = Recipe::load_without_data(&options.model)?;
        let model = JointModel::new(&recipe.model)?;
        let (pictures, train) = (recipe.data, recipe.options());
        (model, recipe.diffusion, train, Default::default(), pictures, None)
    } else {
        let (checkpoint, model) = load_checkpoint(&options.model)?;
        let images = checkpoint.typicality.as_ref().map(Reference::images);
        let Checkpoint { diffusion, info, pictures, classifier_only, .. } = checkpoint;
        let classifier_input = if classifier_only { ClassifierInput::Clean } else { ClassifierInput::Both };
        let train = TrainOptions { classifier_input, classifier_only, ..TrainOptions::default() };
        ((*model).clone(), diffusion, train, info, pictures, images)
    };
    let alone = train.classifier_only;
    let plan = |kind, activations, precision| {
        let train = TrainOptions { activations, precision, ..train.clone() };
        make_plan(&model, &diffusion, &train, options.batch, kind)
    };
    if let Some(kind) = options.plan {
        let text = plan(kind, Activations::Keep, Precision::F32)?.to_string();
        if arguments.json {
            let name = kind.to_possible_value().map(|value| value.get_name().to_owned());
            let lines: Vec<&str> = text.lines().collect();
            say!("{}", serde_json::json!({"plan": name, "batch": options.batch, "lines": lines}));
        } else {
            say!("{}", text.trim_end());
        }
        return Ok(());
    }
    let kinds = [
        ("classify", PlanKind::Classify, Activations::Keep, Precision::F32),
        ("denoising step", PlanKind::Step, Activations::Keep, Precision::F32),
        ("guided step", PlanKind::Guided, Activations::Keep, Precision::F32),
        ("training step", PlanKind::Train, Activations::Keep, Precision::F32),
        ("  recompute", PlanKind::Train, Activations::Recompute, Precision::F32),
        ("  f16", PlanKind::Train, Activations::F16, Precision::F32),
        ("  precision f16", PlanKind::Train, Activations::Keep, Precision::F16),
        ("  and recompute", PlanKind::Train, Activations::Recompute, Precision::F16),
    ];
    let mut rows = Vec::new();
    for (name, kind, activations, precision) in kinds {
        // BatchNorm cannot be trained on one image: no such plan exists. A classifier alone does not denoise.
        let used = match kind {
            PlanKind::Classify => true,
            PlanKind::Step | PlanKind::Guided => !alone,
            PlanKind::Train => options.batch >= 2,
        };
        if !used {
            continue;
        }
        let plan = plan(kind, activations, precision)?;
        rows.push((name, plan.stats(), plan.program().bytes_moved()));
    }
    let parameters = model.params.parameter_count();
    if arguments.json {
        let plans: serde_json::Map<String, serde_json::Value> = rows
            .iter()
            .map(|(name, s, moved)| {
                let row = serde_json::json!({
                    "dispatches": s.dispatches, "pipelines": s.pipelines, "multiply_adds": s.multiply_adds,
                    "slot_bytes": s.slot_bytes, "lower_bound_bytes": s.lower_bound,
                    "unshared_bytes": s.unshared_bytes, "external_bytes": s.external_bytes,
                    "peak_bytes": s.slot_bytes + s.external_bytes, "bytes_moved": moved,
                });
                (name.trim().to_owned(), row)
            })
            .collect();
        let row = serde_json::json!({
            "parameters": parameters, "batch": options.batch, "plans": plans,
            "model": model.config, "diffusion": diffusion, "info": info,
            "pictures": {
                "ground": pictures.ground, "fit": pictures.fit.name(), "resize": pictures.resize.name(),
                "resize_to": pictures.resize_to,
            },
            "typicality_images": typicality,
            "classifier_only": alone,
        });
        say!("{row}");
        return Ok(());
    }
    let c = &model.config;
    say!(
        "{} parameters; {}×{}×{} images, {} classes; width {}, multipliers {:?}, {} blocks per level",
        short(parameters as f64),
        c.in_channels,
        c.image_size,
        c.image_size,
        c.num_classes,
        c.num_channels,
        c.levels()?,
        c.num_res_blocks
    );
    say!("classes: {}", c.class_list());
    if alone {
        say!("a classifier alone: it cannot generate, explain or predict noise");
    }
    let statistics = match typicality {
        Some(images) => format!("statistics of {images} training images tell those unlike them"),
        None => "no statistics of the training data".into(),
    };
    let (fit, by) = (pictures.fit.name(), pictures.resize.name());
    let side = pictures.resize_to.unwrap_or(c.image_size);
    say!(
        "pictures: on grey level {} of 255; fit: {fit}; resized to {side} ({by}); {statistics}",
        pictures.ground
    );
    say!(
        "\nbatch {}          multiply-adds  dispatches  pipelines       peak  activations  (lower bound)      moved",
        options.batch
    );
    for (name, s, moved) in rows {
        say!(
            "{name:<16} {:>15} {:>11} {:>10} {:>10} {:>12} {:>14} {:>10}",
            short(s.multiply_adds as f64),
            s.dispatches,
            s.pipelines,
            bytes(s.slot_bytes + s.external_bytes),
            bytes(s.slot_bytes),
            bytes(s.lower_bound),
            bytes(moved)
        );
    }
    for (topic, text) in info {
        say!("{topic}: {text}");
    }
    Ok(())
}

fn make_plan(
    model: &JointModel,
    diffusion: &DiffusionConfig,
    train: &TrainOptions,
    batch: usize,
    kind: PlanKind,
) -> Result<Plan> {
    match kind {
        PlanKind::Classify => classify_plan(model, batch, WeightSet::Raw),
        PlanKind::Step => step_plan(model, &StepSpec::new(batch), WeightSet::Raw),
        PlanKind::Guided => {
            let spec = StepSpec { guidance: Guidance::Representation, ..StepSpec::new(batch) };
            step_plan(model, &spec, WeightSet::Raw)
        }
        PlanKind::Train => {
            let spec = TrainSpec { batch, micro_batches: 1, ..TrainSpec::of(train) };
            train_plan(model, diffusion, &spec)
        }
    }
}
