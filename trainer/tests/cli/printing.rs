//! What is printed, where it goes, and what happens when it cannot go there.

use super::{Project, duet, fails, ok};
use std::io::Read as _;
use std::process::Stdio;

/// Runs a command whose output nobody reads: its exit code and what it says on stderr.
fn unread(arguments: &[&str]) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = super::program().args(arguments).stdin(Stdio::null()).stdout(writer).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Writes to a device that is full: exit code and stderr.
#[cfg(target_os = "linux")]
fn full(arguments: &[&str]) -> (Option<i32>, String) {
    let device = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = super::program();
    let output = command.args(arguments).stdin(Stdio::null()).stdout(device).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_reader_that_goes_away_ends_commands_quietly_and_training_never() {
    let project = Project::new();
    let (recipe, out) = (project.text("recipe.toml"), project.text("run"));
    assert_eq!(unread(&["train", &recipe, "--out", &out, "--steps", "4"]), (Some(0), String::new()));
    let model = project.text("run/checkpoint.safetensors");
    let done = super::weights(&project.path("run/checkpoint.safetensors")).training.unwrap().step;
    assert_eq!(done, 4, "training goes on without a reader");
    let picture = project.text("data/dark/0.png");
    let commands: [&[&str]; 6] = [
        &["classify", "--model", &model, &picture],
        &["--json", "classify", "--model", &model, &picture],
        &["--json", "info", &model],
        &["info", &model, "--plan", "train"],
        &["eval", "--model", &model, "--loss-images", "0"],
        &["--help"],
    ];
    for arguments in commands {
        let (code, said) = unread(arguments);
        // Which data are measured is told there, as before.
        let wrong: Vec<&str> = said.lines().filter(|line| !line.starts_with("duet: data: ")).collect();
        assert!(code == Some(0) && wrong.is_empty(), "{arguments:?}: {code:?} {said}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_device_is_told_and_training_ends_with_a_save() {
    let project = Project::new();
    let (recipe, out) = (project.text("recipe.toml"), project.text("run"));
    let told = |(code, said): (Option<i32>, String), json: bool| {
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("cannot write to standard output: No space left"), "{said}");
        assert_eq!(said.lines().count(), 1, "once: {said}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&said).is_ok(), json, "{said}");
    };
    told(full(&["train", &recipe, "--out", &out, "--steps", "4"]), false);
    let done = super::weights(&project.path("run/checkpoint.safetensors")).training.unwrap().step;
    assert_eq!(done, 4, "training goes on without its output");
    let (model, picture) = (project.text("run/checkpoint.safetensors"), project.text("data/dark/0.png"));
    told(full(&["classify", "--model", &model, &picture]), false);
    told(full(&["--json", "classify", "--model", &model, &picture]), true);
    told(full(&["--help"]), false);
    told(full(&["--version"]), false);
}

#[test]
fn standard_error_may_be_closed() {
    let project = Project::new();
    project.train("run", &["--steps", "2"]);
    let model = project.text("run/checkpoint.safetensors");
    let run = |arguments: &[&str]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = super::program();
        command.args(arguments).stdin(Stdio::null()).stderr(writer);
        command.output().unwrap().status.code()
    };
    let picture = project.text("data/dark/0.png");
    assert_eq!(run(&["--verbose", "classify", "--model", &model, &picture]), Some(0));
    assert_eq!(run(&["classify", "--model", &model, "none.png"]), Some(1));
    assert_eq!(run(&["classify"]), Some(2), "no such command line");
}

#[test]
fn with_json_every_line_is_json() {
    let project = Project::new();
    let (recipe, run, other) = (project.text("recipe.toml"), project.text("run"), project.text("other"));
    let model = project.text("run/checkpoint.safetensors");
    let [light, dark] = ["light", "dark"].map(|class| project.text(&format!("data/{class}/0.png")));
    let at = |name: &str| project.text(name);
    let (sample, strip, report, table) =
        (at("sample.png"), at("strip.png"), at("report.html"), at("table.json"));
    let (exported, images, study, tree) = (at("model.safetensors"), at("images"), at("study"), at("tree"));
    let bench = ["bench", "--only", "upsample 64", "--batch", "2", "--seconds", "0"];
    let explain = ["explain", "--model", &model, &light, &dark, "--steps", "5", "--alpha", "1"];
    let study_options = ["-n", "2", "--steps", "4", "--neighbours", "2", "--step-sizes", "0,1"];
    let commands: Vec<Vec<&str>> = vec![
        vec!["train", &recipe, "--out", &run, "--steps", "4"],
        vec!["train", &recipe, "--out", &run, "--steps", "4", "--resume"],
        vec!["train", &recipe, "--out", &other, "--steps", "0"],
        vec!["classify", "--model", &model, &light, &dark],
        vec!["eval", "--model", &model, "--counterfactuals", "1", "--steps", "5", "--alpha", "1"],
        vec!["sample", "--model", &model, "--steps", "2", "-n", "2", "--alpha", "1", "--out", &sample],
        [&explain[..], &["--out", &strip, "--report", &report]].concat(),
        vec!["explain", "--all", "--model", &model, "--steps", "5", "-n", "2", "--out", &tree],
        [&["study", "--model", &model, "--out", &study][..], &study_options].concat(),
        vec!["info", &model],
        vec!["info", &recipe, "--plan", "guided"],
        vec!["export", "--model", &model, "--out", &exported],
        vec!["export-images", "--recipe", &recipe, "--count", "2", "--out", &images],
        vec!["tune", &recipe, "--seconds", "0", "--batch", "2", "--out", &table],
        vec!["check"],
    ];
    let parsed = |arguments: &[&str], text: &str| {
        assert!(!text.is_empty(), "{arguments:?}");
        for line in text.lines() {
            let value = serde_json::from_str::<serde_json::Value>(line);
            assert!(value.is_ok(), "{arguments:?}: {line}");
        }
    };
    for arguments in &commands {
        let arguments = [&["--json"], &arguments[..]].concat();
        parsed(&arguments, &ok(&arguments));
    }
    let measured = ok(&[&["--json"][..], &bench].concat());
    parsed(&bench, &measured);
    let kept = at("before.json");
    std::fs::write(&kept, measured).unwrap();
    parsed(&["bench --compare"], &ok(&["--json", "bench", "--compare", &kept, &kept]));
    for arguments in [&["--json", "--help"][..], &["info", "--json", "--help"], &["--version", "--json"]] {
        parsed(arguments, &ok(arguments));
    }
    // What fails is told as JSON as well, on stderr: by a command, and of a command line.
    for arguments in
        [&["--json", "info", "nowhere.safetensors"][..], &["--json", "info"], &["sample", "--json"]]
    {
        let output = duet(arguments);
        assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        let value: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert!(value["error"].as_str().is_some_and(|text| !text.is_empty()), "{said}");
    }
}

#[test]
fn no_colours_go_where_no_terminal_is() {
    let project = Project::new();
    project.train("run", &["--steps", "2"]);
    let model = project.text("run/checkpoint.safetensors");
    let picture = project.text("data/dark/0.png");
    let output = duet(&["--verbose", "classify", "--model", &model, &picture]);
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("DEBUG") && !log.contains('\u{1b}'), "{log:?}");
    for arguments in [&["--help"][..], &["classify", "--help"], &["classify", "--nonsense"]] {
        let output = duet(arguments);
        let text = [output.stdout, output.stderr].concat();
        assert!(text.len() > 50 && !text.contains(&0x1b), "{arguments:?}");
    }
}

#[test]
fn the_command_is_called_duet() {
    for flag in ["--version", "-V"] {
        assert_eq!(ok(&[flag]), format!("duet {}\n", env!("CARGO_PKG_VERSION")));
    }
    assert!(ok(&["sample", "--help"]).contains("Usage: duet sample "));
}

#[test]
fn a_reader_that_stops_after_a_line_gets_that_line() {
    let project = Project::new();
    let mut child = super::program()
        .args(["train", &project.text("recipe.toml"), "--out", &project.text("run"), "--steps", "8"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 6];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"data: ");
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let step = super::weights(&project.path("run/checkpoint.safetensors")).training.unwrap().step;
    assert_eq!(step, 8);
}

#[test]
fn numbers_out_of_range_end_with_their_name() {
    // Before the model is looked for.
    fails(&["sample", "--model", "none", "--alpha", "nan"], &["alpha", "NaN"]);
    fails(&["explain", "--model", "none", "a.png", "--batch", "1000000000"], &["batch", "65536"]);
}
