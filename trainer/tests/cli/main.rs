//! The command `duet` end to end: train, interrupt, resume, evaluate, sample, explain, and everything that can be wrong.

mod audit;
mod augmenting;
mod automatic;
#[cfg(unix)]
mod board;
mod cache;
mod classes;
mod counterfactuals;
mod data_get;
mod data_info;
mod diffusers;
mod experiments;
mod explaining;
mod few_labels;
mod files;
mod generated;
#[cfg(unix)]
mod hammer;
mod interchange;
mod lasting;
mod measuring;
mod networks;
mod onnx;
mod pictures;
mod place;
mod precision;
mod preparation;
mod printing;
mod processes;
mod readers;
mod real_data;
mod recipes;
mod sampling;
mod serving;
mod shards;
mod study;
mod together;
mod training;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The program, whose decoded pictures are these tests' own and not the user's.
fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_duet"));
    command.env("DUET_CACHE", cache());
    command
}

/// A folder for decoded pictures that is empty when the tests begin.
fn cache() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pictures");
        // What an earlier version decoded is not what is tested.
        let _ = std::fs::remove_dir_all(&folder);
        folder
    })
}

fn duet(arguments: &[&str]) -> Output {
    program().args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn ok(arguments: &[&str]) -> String {
    let output = duet(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs what must fail: no panic, a message with every one of `words`, exit code 1.
fn fails(arguments: &[&str], words: &[&str]) {
    let output = duet(arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
    assert!(!error.contains("panicked"), "{error}");
    for word in words {
        assert!(error.contains(word), "{arguments:?} should say {word:?}: {error}");
    }
}

/// A folder with a data set of two kinds of pictures and a recipe for a tiny model.
struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    fn new() -> Project {
        let folder = tempfile::tempdir().unwrap();
        for (class, shade) in [("dark", 20u8), ("light", 220)] {
            let path = folder.path().join("data").join(class);
            std::fs::create_dir_all(&path).unwrap();
            for i in 0..24u8 {
                let picture = image::GrayImage::from_fn(8, 8, |x, y| {
                    image::Luma([shade + (x as u8 * 3 + y as u8 * i) % 29])
                });
                picture.save(path.join(format!("{i}.png"))).unwrap();
            }
        }
        let recipe = format!(
            "[data]\nkind = \"folder\"\npath = {:?}\ntest_share = 0.25\ngroup = \"(.+)\"\n\
             [model]\nimage_size = 8\nnum_channels = 8\nnum_res_blocks = 1\nchannel_mult = [1, 2]\nnum_groups = 4\n\
             num_heads = 2\nnum_classes = 2\nclassifier_dropout = 0.1\n\
             [train]\nsteps = 12\nbatch_size = 4\nlearning_rate = 2e-3\nema_rate = 0.5\n\
             classifier_loss_scaling = 0.5\nclassifier_input = \"both\"\nlog_every = 2\nsave_every = 4\neval_every = 6\n\
             sample_every = 6\nsample_steps = \"4\"\nsample_alpha = 1.0\n",
            folder.path().join("data")
        );
        std::fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
        Project { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    fn train(&self, run: &str, more: &[&str]) -> String {
        let (recipe, out) = (self.text("recipe.toml"), self.text(run));
        let mut arguments = vec!["train", &recipe, "--out", &out];
        arguments.extend(more);
        ok(&arguments)
    }
}

fn weights(path: &Path) -> duet::checkpoint::Checkpoint {
    duet::checkpoint::Checkpoint::load(path).unwrap()
}

#[test]
fn a_model_is_trained_used_and_exported() {
    let project = Project::new();
    let text = project.train("run", &[]);
    assert!(text.contains("step 12 of 12") && text.contains("test accuracy"), "{text}");
    let figures = std::fs::read_to_string(project.path("run/metrics.jsonl")).unwrap();
    assert_eq!(figures.lines().count(), 6, "{figures}");
    assert!(project.path("run/samples_0000006.png").exists());
    let model = project.text("run/checkpoint.safetensors");

    let picture = project.text("data/light/0.png");
    let answer = ok(&["classify", "--model", &model, &picture]);
    assert!(answer.contains("dark") && answer.contains("light") && answer.contains('%'), "{answer}");
    let eval =
        ["--json", "eval", "--model", &model, "--counterfactuals", "2", "--steps", "10", "--alpha", "1"];
    let json: serde_json::Value = serde_json::from_str(&ok(&eval)).unwrap();
    assert_eq!(json["counterfactuals"]["images"], 4, "{json}");
    // Of a few images a share in whole numbers of them.
    let right = json["accuracy"].as_f64().unwrap() * json["images"].as_f64().unwrap();
    assert!(
        (0.0..=json["images"].as_f64().unwrap()).contains(&right) && (right - right.round()).abs() < 1e-6,
        "{json}"
    );
    assert!(json["mse_by_quarter"][3].is_number(), "{json}");

    let samples = project.text("samples.png");
    let sample =
        ["sample", "--model", &model, "--steps", "5", "--count", "2", "--alpha", "1", "--out", &samples];
    ok(&sample);
    let first = std::fs::read(&samples).unwrap();
    ok(&sample);
    assert_eq!(first, std::fs::read(&samples).unwrap(), "the same seed gives the same picture");
    let strip = project.text("strip.png");
    let explain = ["--json", "explain", "--model", &model, &picture, "--to", "dark", "--alpha", "1"];
    let mut arguments = explain.to_vec();
    arguments.extend(["--steps", "10", "--out", &strip]);
    let json: serde_json::Value = serde_json::from_str(&ok(&arguments)).unwrap();
    assert_eq!(json["explanations"][0]["target_probability_by_step"].as_array().unwrap().len(), 2);
    assert!(image::open(&strip).unwrap().width() > 100);

    let info = ok(&["info", &model, "--batch", "4"]);
    assert!(info.contains("training step") && info.contains("parameters"), "{info}");
    let shipped = project.text("model.safetensors");
    ok(&["export", "--model", &model, "--out", &shipped]);
    let sizes = [&model, &shipped].map(|f| std::fs::metadata(f).unwrap().len());
    assert!(sizes[1] * 5 < sizes[0], "{sizes:?}");
    ok(&["classify", "--model", &shipped, &picture]);
    fails(&["eval", "--model", &shipped, "--weights", "ema"], &["model.safetensors", "moving average"]);
}

#[test]
fn explanations_become_a_report() {
    let project = Project::new();
    project.train("run", &["--steps", "6"]);
    let model = project.text("run/checkpoint.safetensors");
    let images = project.text("images");
    ok(&["export-images", "--recipe", &project.text("recipe.toml"), "--count", "3", "--out", &images]);
    let list = std::fs::read_to_string(project.path("images/index.json")).unwrap();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 3, "{list}");
    let files: Vec<String> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|e| format!("{images}/{}", e["file"].as_str().unwrap()))
        .collect();
    let outside = project.text("data/dark/0.png");
    let (strip, report) = (project.text("strip.png"), project.text("report.html"));
    let mut explain =
        vec!["--json", "explain", "--model", &model, "--steps", "10", "--alpha", "1", "--out", &strip];
    explain.extend(files.iter().map(String::as_str));
    explain.push(&outside);
    let mut batched = explain.clone();
    batched.extend(["--report", &report, "--batch", "3"]);
    let json: serde_json::Value = serde_json::from_str(&ok(&batched)).unwrap();
    let made = json["explanations"].as_array().unwrap();
    assert_eq!(made.len(), 4);
    for (i, one) in made.iter().enumerate() {
        let known = if i < 3 { &list[i]["label"] } else { &serde_json::json!("dark") };
        assert_eq!(&one["true_class"], known);
        assert_ne!(one["target"], one["decision_before"], "the class that comes second: {one}");
    }
    let page = std::fs::read_to_string(&report).unwrap();
    assert_eq!(page.matches("<img alt=").count(), 16);
    for text in
        ["<!DOCTYPE html>", "true class: dark", "2 of a chain of 10", "make web", "checkpoint.safetensors"]
    {
        assert!(page.contains(text), "{text}");
    }
    // As many images at a time as one likes: the noise belongs to the image.
    let whole: serde_json::Value = serde_json::from_str(&ok(&explain)).unwrap();
    let after = |json: &serde_json::Value, i: usize| json["explanations"][i]["after"][0].as_f64().unwrap();
    assert!((0..4).all(|i| (after(&json, i) - after(&whole, i)).abs() < 1e-4), "{json} {whole}");
    let mut bad = explain.clone();
    bad.extend(["--report", "/nonexistent/x.html"]);
    fails(&bad[1..], &["/nonexistent/x.html"]);
    let mut bad = explain.clone();
    bad.extend(["--batch", "0"]);
    fails(&bad[1..], &["batch"]);
    std::fs::write(project.path("images/index.json"), "nothing").unwrap();
    fails(&explain[1..], &["index.json"]);
}

#[test]
fn an_interrupted_run_resumes_bit_for_bit() {
    let project = Project::new();
    project.train("whole", &[]);
    project.train("parts", &["--steps", "12", "--minutes", "0"]);
    assert_eq!(weights(&project.path("parts/checkpoint.safetensors")).training.unwrap().step, 1);
    project.train("parts", &["--resume"]);
    let (a, b) = (
        weights(&project.path("whole/checkpoint.safetensors")),
        weights(&project.path("parts/checkpoint.safetensors")),
    );
    assert!(a.weights == b.weights && a.ema == b.ema, "weights differ after a resume");
    let (a, b) = (a.training.unwrap(), b.training.unwrap());
    assert!(a.adam_m == b.adam_m && a.adam_v == b.adam_v && a.step == b.step);
}

#[cfg(unix)]
#[test]
fn control_c_saves_and_a_kill_loses_nothing_saved() {
    let project = Project::new();
    let (recipe, out) = (project.text("recipe.toml"), project.text("run"));
    let file = project.path("run/checkpoint.safetensors");
    let start = |resume: bool| {
        let mut command = program();
        command.args(["train", &recipe, "--out", &out, "--steps", "100000"]);
        if resume {
            command.arg("--resume");
        }
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let wait_for = |what: &dyn Fn() -> bool| {
        let begin = Instant::now();
        while !what() {
            assert!(begin.elapsed() < Duration::from_secs(120), "nothing happened");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let mut child = start(false);
    wait_for(&|| file.exists());
    let kill = |signal: &str, id: u32| {
        Command::new("kill").args([signal, &id.to_string()]).status().unwrap();
    };
    kill("-INT", child.id());
    assert!(child.wait().unwrap().success(), "Ctrl-C ends a run in order");
    let step = weights(&file).training.unwrap().step;
    let mut child = start(true);
    wait_for(&|| weights(&file).training.unwrap().step > step);
    kill("-KILL", child.id());
    child.wait().unwrap();
    assert!(weights(&file).training.unwrap().step > step, "the last save is whole after a kill");
}

#[test]
fn bad_input_is_refused_with_its_name_and_cause() {
    let project = Project::new();
    let recipe = project.text("recipe.toml");
    let (run, nowhere) = (project.text("run"), project.text("nowhere.toml"));
    fails(&["train", &nowhere, "--out", &run], &["nowhere.toml", "cannot be read"]);
    fails(&["train", &recipe, "--out", &run, "--batch", "1"], &["batch_size"]);
    let empty = project.text("empty");
    std::fs::create_dir(&empty).unwrap();
    fails(&["train", &recipe, "--out", &run, "--data", &empty], &["empty", "class folders"]);
    std::fs::write(project.path("data/dark/broken.png"), b"no picture").unwrap();
    fails(&["train", &recipe, "--out", &run], &["broken.png"]);
    std::fs::remove_file(project.path("data/dark/broken.png")).unwrap();
    project.train("run", &["--steps", "2"]);
    fails(&["train", &recipe, "--out", &run], &["--resume"]);
    fails(&["train", &recipe, "--out", &run, "--resume", "--seed", "9"], &["seed"]);

    let model = project.text("run/checkpoint.safetensors");
    let picture = project.text("data/light/0.png");
    fails(&["classify", "--model", &model, &nowhere], &["nowhere.toml"]);
    fails(&["explain", "--model", &model, &picture, "--to", "purple"], &["purple", "\"dark\", \"light\""]);
    fails(&["explain", "--model", &model, &picture, "--to", "7"], &["\"7\""]);
    fails(&["explain", "--model", &model, &picture, "--to", "0", "--noise", "1.5"], &["noise", "1.5"]);
    fails(&["sample", "--model", &model, "--steps", "ddim7,"], &["ddim7,"]);
    fails(&["sample", "--model", &model, "--sampler", "ddim", "--eta", "2"], &["eta"]);
    fails(
        &["sample", "--model", &model, "--steps", "2", "--out", "/nonexistent/a.png"],
        &["/nonexistent/a.png"],
    );
    fails(&["--gpu", "no such card", "classify", "--model", &model, &picture], &["no such card"]);

    let bytes = std::fs::read(&model).unwrap();
    let short = project.text("short.safetensors");
    std::fs::write(&short, &bytes[..bytes.len() / 2]).unwrap();
    fails(&["classify", "--model", &short, &picture], &["short.safetensors"]);
    std::fs::write(&short, [0xff; 64]).unwrap();
    fails(&["info", &short], &["short.safetensors"]);
    let mut checkpoint = weights(Path::new(&model));
    checkpoint.weights.remove("out.2.weight");
    checkpoint.training = None;
    checkpoint.ema = None;
    checkpoint.save(Path::new(&short)).unwrap();
    fails(&["classify", "--model", &short, &picture], &["short.safetensors", "out.2.weight"]);
}

#[test]
fn a_machine_without_a_driver_is_told_what_to_install() {
    let project = Project::new();
    let output = program()
        .args(["train", &project.text("recipe.toml"), "--out", &project.text("run")])
        // The loader looks for drivers in this file alone.
        .env("VK_DRIVER_FILES", "/nonexistent.json")
        .env("VK_ICD_FILENAMES", "/nonexistent.json")
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("no GPU adapter"), "{error}");
    if cfg!(target_os = "linux") {
        assert!(error.contains("mesa-vulkan-drivers"), "{error}");
    }
}

#[test]
fn a_classifier_of_clean_images_may_not_guide() {
    let project = Project::new();
    let recipe = project.path("recipe.toml");
    let text = std::fs::read_to_string(&recipe).unwrap().replace("\"both\"", "\"clean\"");
    // Enough steps for the running variance of the timestep, which starts at 1, to decay below the limit.
    std::fs::write(&recipe, text.replace("steps = 12", "steps = 30")).unwrap();
    project.train("run", &[]);
    let (model, picture) = (project.text("run/checkpoint.safetensors"), project.text("data/light/0.png"));
    let out = project.text("x.png");
    let mut arguments =
        vec!["explain", "--model", &model, &picture, "--to", "dark", "--steps", "5", "--out", &out];
    fails(&arguments, &["clean images only"]);
    arguments.extend(["--force", "--alpha", "0"]);
    ok(&arguments);
}
