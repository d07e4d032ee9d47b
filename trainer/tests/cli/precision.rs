//! Runs whose feature maps are stored as f16.

use super::training::{figures, state};
use super::{Project, fails, ok, weights};

#[test]
fn a_run_of_f16_goes_on_to_the_same_bits_and_tells_its_scale() {
    let project = Project::new();
    project.set(&[
        ("[train]\n", "[train]\nprecision = \"f16\"\n"),
        ("log_every = 2", "log_every = 1"),
        ("eval_every = 6\nsample_every = 6", "eval_every = 0\nsample_every = 0"),
    ]);
    for (run, parts) in [("whole", ["3"].as_slice()), ("parts", &["2", "3"])] {
        for (number, steps) in parts.iter().enumerate() {
            let resume: &[&str] = if number > 0 { &["--resume"] } else { &[] };
            project.train(run, &[["--steps", steps].as_slice(), resume].concat());
        }
    }
    assert!(state(&project.path("whole")) == state(&project.path("parts")));
    let rows = figures(&project.path("parts"));
    assert!(!rows.is_empty());
    for row in rows.iter().filter(|row| row["loss"].is_number()) {
        assert_eq!((&row["loss_scale"], &row["skipped"]), (&65_536.0.into(), &0.0.into()), "{row}");
    }
    let file = weights(&project.path("parts/checkpoint.safetensors"));
    let training = file.training.unwrap();
    assert_eq!(training.recipe["train"]["precision"], "f16");
    assert_eq!(training.loss_scale.map(|state| (state.scale, state.good_steps)), Some((65_536.0, 3)));

    project.set(&[("precision = \"f16\"\n", "")]);
    let (recipe, out) = (project.text("recipe.toml"), project.text("parts"));
    let resume = ["train", &recipe, "--out", &out, "--resume", "--steps", "4"];
    fails(&resume, &["train.precision was \"f16\", is not set"]);
    ok(&[&resume[..], &["--override"]].concat());
    let info: serde_json::Value =
        serde_json::from_str(&ok(&["--json", "info", &recipe, "--batch", "4"])).unwrap();
    let plan = |name: &str, figure: &str| info["plans"][name][figure].as_u64().unwrap();
    assert!(plan("precision f16", "bytes_moved") < plan("training step", "bytes_moved"), "{info}");
    assert!(plan("precision f16", "slot_bytes") < plan("training step", "slot_bytes"), "{info}");
}
