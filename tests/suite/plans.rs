//! Plans of the shipped configurations as committed text, in the families of a software device without subgroups and in those
//! of a GPU: a refactor shows its difference. `DUET_BLESS=1` rewrites them.

use duet::diffusion::DiffusionConfig;
use duet::families::Choices;
use duet::gpu::Traits;
use duet::graph::Plan;
use duet::infer::predict_plan;
use duet::model::{JointModel, ModelConfig, WeightSet};
use duet::sampling::{Guidance, StepSpec, step_plan};
use duet::train::{ClassifierInput, TrainOptions, TrainSpec, apply_plan, backward_plan, train_plan};
use std::path::Path;

fn config(kind: &str) -> ModelConfig {
    match kind {
        "mnist28_c32" => ModelConfig { num_channels: 32, ..ModelConfig::default() },
        "fashion28" => ModelConfig {
            num_channels: 32,
            num_res_blocks: 1,
            channel_mult: vec![1, 2, 2],
            attention_resolutions: vec![],
            ..ModelConfig::default()
        },
        other => panic!("unknown configuration {other}"),
    }
}

/// A GPU of any maker: what its rule chooses runs in tiles.
fn gpu() -> Choices {
    let traits =
        Traits { software: false, invocations: 256, workgroup_bytes: 16384, lanes: 32, matrices: false };
    Choices::of("a GPU without a table", traits, &[])
}

/// The plans whose text is committed: of training what leaves gradients, then what applies them.
fn texts(kind: &str, what: &str, choices: &Choices) -> String {
    let text = |plan: Plan| plan.chosen(choices).unwrap().to_string();
    if what != "train" {
        return text(plan(kind, what));
    }
    let model = JointModel::new(&config(kind)).unwrap();
    let backward = backward_plan(&model, &DiffusionConfig::default(), &training()).unwrap();
    text(backward) + &text(apply_plan(&model, &training()).unwrap())
}

fn training() -> TrainSpec {
    TrainSpec {
        batch: 8,
        classifier_loss_scaling: 0.1,
        classifier_input: ClassifierInput::Both,
        ..TrainSpec::of(&TrainOptions::default())
    }
}

pub fn plan(kind: &str, what: &str) -> Plan {
    let model = JointModel::new(&config(kind)).unwrap();
    let diffusion = DiffusionConfig::default();
    match what {
        "train" => train_plan(&model, &diffusion, &training()).unwrap(),
        "guided" => {
            let spec = StepSpec { guidance: Guidance::Representation, ..StepSpec::new(8) };
            step_plan(&model, &spec, WeightSet::Averaged).unwrap()
        }
        other => panic!("unknown plan {other}"),
    }
}

#[test]
fn plans_are_as_committed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let all = [("fashion28", "train"), ("fashion28", "guided"), ("mnist28_c32", "guided")];
    for ((kind, what), (ending, choices)) in all
        .iter()
        .flat_map(|plan| [("", Choices::default()), ("_gpu", gpu())].map(|families| (plan, families)))
    {
        let path = folder.join(format!("{kind}_{what}_b8{ending}.txt"));
        let text = texts(kind, what, &choices);
        // Where both are the same text, one of them pins nothing.
        assert_eq!(text.contains("_tiled."), !ending.is_empty(), "{}", path.display());
        if std::env::var_os("DUET_BLESS").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, text).unwrap();
            continue;
        }
        let known = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let changed = known.lines().zip(text.lines()).find(|(a, b)| a != b);
        assert!(
            known == text,
            "{} changed, first at {changed:?}; run with DUET_BLESS=1 and look at the difference",
            path.display()
        );
    }
}

/// What is measured as a whole step is what runs in two parts.
#[test]
fn a_whole_step_is_its_two_plans() {
    let kernels = |plan: &Plan| -> Vec<String> {
        plan.program().launches.iter().map(|l| format!("{} {:?}", l.kernel, l.workgroups)).collect()
    };
    let (model, diffusion) = (JointModel::new(&config("fashion28")).unwrap(), DiffusionConfig::default());
    for clip_grad_norm in [None, Some(1.0)] {
        let spec = TrainSpec { clip_grad_norm, ..training() };
        let parts = [backward_plan(&model, &diffusion, &spec), apply_plan(&model, &spec)].map(Result::unwrap);
        let whole = train_plan(&model, &diffusion, &spec).unwrap();
        assert_eq!(kernels(&whole), parts.each_ref().map(kernels).concat());
    }
}

/// Each costs a GPU microseconds with its barrier, whatever it does; one of a single workgroup leaves all cores but one without work.
#[test]
fn a_gpu_is_handed_few_launches() {
    let model = JointModel::new(&config("fashion28")).unwrap();
    let forward = predict_plan(&model, 8, WeightSet::Averaged).unwrap();
    let plans = [
        ("training step", plan("fashion28", "train"), 305, 15),
        ("guided step", plan("fashion28", "guided"), 102, 2),
        ("forward pass", forward, 58, 0),
    ];
    for (what, plan, most, most_small) in plans {
        let plan = plan.chosen(&gpu()).unwrap();
        let launches = &plan.program().launches;
        let small = launches.iter().filter(|launch| launch.workgroups == [1, 1, 1]).count();
        println!("{what}: {} launches, {small} of one workgroup", launches.len());
        assert!(launches.len() <= most, "{what}: {} launches", launches.len());
        assert!(small <= most_small, "{what}: {small} launches of one workgroup");
    }
}

#[test]
fn a_training_step_needs_few_pipelines() {
    let stats = plan("mnist28_c32", "train").stats();
    println!("training step of mnist28_c32: {stats:?}");
    assert!(stats.pipelines <= 43, "{} pipelines: each costs start-up time", stats.pipelines);
}

#[test]
fn memory_is_shared_close_to_the_lower_bound() {
    for kind in ["mnist28_c32", "fashion28"] {
        for what in ["train", "guided"] {
            let stats = plan(kind, what).stats();
            let ratio = stats.slot_bytes as f64 / stats.lower_bound as f64;
            println!(
                "{kind} {what}: {} of at least {} bytes ({ratio:.3})",
                stats.slot_bytes, stats.lower_bound
            );
            assert!(ratio <= 1.15, "{kind} {what}: {ratio:.3} times the lower bound");
            assert!(stats.slot_bytes < stats.unshared_bytes);
        }
    }
}

#[test]
fn guidance_computes_no_weight_gradient() {
    let text = plan("mnist28_c32", "guided").to_string();
    assert!(text.contains("grad_input") && !text.contains("grad_weight"));
}

#[test]
fn what_is_small_is_few_launches() {
    let expect = |kind: &str, what: &str, counts: &[(&str, usize)]| {
        let plan = plan(kind, what);
        for (file, want) in counts {
            let launches = plan.program().launches.iter();
            let count = launches.filter(|launch| launch.kernel.file == *file).count();
            assert_eq!(count, *want, "{file} in {kind} {what}");
        }
    };
    // Two encoders of seven maps each, one of them at timestep 0; two classifiers, three losses.
    let training = [("features", 5), ("batchnorm", 8), ("loss", 5), ("total", 2), ("random", 1)];
    expect("fashion28", "train", &training);
    let guided = [("features", 3), ("batchnorm", 4), ("loss", 1), ("total", 0), ("normalize", 4)];
    expect("fashion28", "guided", &guided);
    // Thirteen maps.
    expect("mnist28_c32", "guided", &[("features", 4), ("normalize", 7)]);
}
