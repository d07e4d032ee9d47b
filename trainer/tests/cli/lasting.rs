//! What a run leaves, when it ends, and how it goes on from any of its checkpoints.

use super::training::{FILE, figures, state, step};
use super::{Project, duet, fails, ok, weights};

const BEST: &str = "best.safetensors";

fn names(project: &Project, run: &str) -> Vec<String> {
    let entries = std::fs::read_dir(project.path(run)).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_last_checkpoints_and_the_best_stay_and_each_goes_on_bit_for_bit() {
    let project = Project::new();
    project.set(&[
        ("save_every = 4", "save_every = 2\nkeep_last = 3\nkeep_best = \"loss\"\nema_warmup = true"),
        ("eval_every = 6", "eval_every = 4"),
        ("learning_rate = 2e-3", "learning_rate = 2e-3\nlr_schedule = \"linear\"\nwarmup_steps = 3"),
    ]);
    let text = project.train("whole", &["--tensorboard"]);
    assert!(text.contains("test loss") && text.contains("; best test loss "), "{text}");
    let whole = state(&project.path("whole"));
    let files = names(&project, "whole");
    let kept = ["checkpoint_0000008.safetensors", "checkpoint_0000010.safetensors"];
    assert_eq!(files.iter().filter(|name| name.starts_with("checkpoint_")).collect::<Vec<_>>(), kept);
    // The best is what its figures say, and a checkpoint of just that step.
    let losses: Vec<(u64, f64)> = figures(&project.path("whole"))
        .iter()
        .filter_map(|line| Some((line["step"].as_u64()?, line["test_loss"].as_f64()?)))
        .collect();
    assert_eq!(losses.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [4, 8, 12]);
    let best = losses.iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    let saved = weights(&project.path("whole").join(BEST)).training.unwrap();
    assert_eq!(saved.step, best.0);
    assert_eq!(saved.best.unwrap().values["test_loss"], best.1);
    assert!(files.iter().any(|name| name.starts_with("events.out.tfevents.")), "{files:?}");

    // The best one at another step than the last, whatever this run's is.
    for (number, name) in kept.iter().chain([&BEST]).enumerate() {
        let (from, out) = (project.text(&format!("whole/{name}")), format!("from-{number}"));
        let text = project.train(&out, &["--resume", "--from", &from]);
        if !text.contains("nothing to do") {
            assert!(text.contains("goes on from step ") && text.contains(name), "{text}");
            let mut went_on = state(&project.path(&out));
            let (ours, theirs) = (went_on.training.as_mut().unwrap(), whole.training.as_ref().unwrap());
            // Figures of time are others.
            assert_eq!(ours.best.take().map(|best| best.step), theirs.best.as_ref().map(|best| best.step));
            ours.best.clone_from(&theirs.best);
            assert!(went_on == whole, "{name}");
        }
    }
    // In the run's own folder, which then holds what went on.
    let from = project.text(&format!("whole/{}", kept[0]));
    assert!(project.train("whole", &["--resume", "--from", &from]).contains("goes on from step 8"));
    assert_eq!(step(&project.path("whole")), 12);
    let steps: Vec<u64> =
        figures(&project.path("whole")).iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [2, 4, 6, 8, 10, 12]);
    let recipe = project.text("recipe.toml");
    assert_eq!(
        duet(&["train", &recipe, "--out", &project.text("x"), "--from", &from]).status.code(),
        Some(2)
    );
    let none = project.text("none.safetensors");
    fails(
        &["train", &recipe, "--out", &project.text("x"), "--resume", "--from", &none],
        &["none.safetensors"],
    );
}

#[test]
fn a_run_that_gets_no_better_ends() {
    let project = Project::new();
    // Nothing changes: every evaluation is the first one again.
    project.set(&[
        ("learning_rate = 2e-3", "learning_rate = 0.0\nkeep_best = \"accuracy\"\nearly_stop = 2"),
        ("classifier_input = \"both\"", "classifier_input = \"none\""),
        ("eval_every = 6", "eval_every = 2"),
    ]);
    let text = project.train("run", &[]);
    assert!(
        text.contains("step 6 of 12 after") && text.contains("(no better accuracy in 2 evaluations)"),
        "{text}"
    );
    assert!(project.path("run/samples_0000006.png").exists());
    assert_eq!(weights(&project.path("run").join(BEST)).training.unwrap().step, 2);
    let again = project.train("run", &["--resume"]);
    assert!(
        again.contains("nothing to do: 6 of 12 steps are done: test_accuracy got no better since step 2"),
        "{again}"
    );
    // Killed between saving the best and naming it.
    let newest = project.path("run").join(FILE);
    let mut checkpoint = weights(&newest);
    let training = checkpoint.training.as_mut().unwrap();
    training.best.as_mut().unwrap().step = 6;
    checkpoint.save(&newest).unwrap();
    project.set(&[("early_stop = 2", "early_stop = 3")]);
    let json =
        ok(&["--json", "train", &project.text("recipe.toml"), "--out", &project.text("run"), "--resume"]);
    let last: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!((&last["ended"], &last["step"]), (&"steps".into(), &12.into()), "{json}");
    assert_eq!(weights(&project.path("run").join(BEST)).training.unwrap().step, 6);
    assert_eq!(last["best"]["step"], 6, "{json}");
}

#[test]
fn limited_time_ends_with_a_finished_cosine() {
    let project = Project::new();
    project.set(&[
        ("steps = 12", "steps = 1000000\nlr_schedule = \"cosine\""),
        ("eval_every = 6", "eval_every = 0"),
        ("sample_every = 6", "sample_every = 0"),
        ("log_every = 2", "log_every = 1"),
    ]);
    let run = project.path("run");
    let text = project.train("run", &["--max-time", "4s"]);
    assert!(text.contains("(its 4s are over)"), "{text}");
    let lines = figures(&run);
    let (first, last) = (&lines[0], lines.last().unwrap());
    let rate = |line: &serde_json::Value| line["learning_rate"].as_f64().unwrap();
    // At the end a twentieth is left; a slow machine's last step may begin a little earlier.
    assert!(rate(first) > 1e-3 && rate(last) >= 1e-4 - 1e-12 && rate(last) < 4e-4, "{first} {last}");
    assert!(last["test_accuracy"].is_number() && last["seconds"].as_f64() >= Some(4.0), "{last}");
    assert!(names(&project, "run").iter().any(|name| name.starts_with("samples_")));
    let again = project.train("run", &["--resume", "--max-time", "4s"]);
    assert!(again.contains("its 4s are over; a longer --max-time goes on"), "{again}");
    let done = step(&run);
    let output = project.command("run", &["--resume", "--max-time", "5s"]);
    let output = { output }.stderr(std::process::Stdio::piped()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success()
            && told.contains("train.max_time was 4s, is 5s: from now on the rates of a cosine"),
        "{told}"
    );
    assert!(step(&run) > done);
    let gone_on = figures(&run).into_iter().find(|line| line["step"].as_u64() == Some(done + 1)).unwrap();
    assert!(gone_on["seconds"].as_f64() >= Some(4.0), "the time before counts: {gone_on}");
    fails(
        &["train", &project.text("recipe.toml"), "--out", &project.text("x"), "--max-time", "soon"],
        &["max_time", "soon", "90m"],
    );
}
