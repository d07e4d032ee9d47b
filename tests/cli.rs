//! The command `duet` end to end: train, interrupt, resume, evaluate, sample, explain, and everything that can be wrong.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn duet(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_duet")).args(arguments).stdin(Stdio::null()).output().unwrap()
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
                    image::Luma([shade + (x as u8 * 3 + y as u8 * i) % 16])
                });
                picture.save(path.join(format!("{i}.png"))).unwrap();
            }
        }
        let recipe = format!(
            "[data]\nkind = \"folder\"\npath = {:?}\ntest_share = 0.25\n\
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
    let log = std::fs::read_to_string(project.path("run/log.csv")).unwrap();
    assert_eq!(log.lines().count(), 7, "{log}");
    assert!(project.path("run/samples_0000006.png").exists());
    let model = project.text("run/checkpoint.safetensors");

    let picture = project.text("data/light/0.png");
    let answer = ok(&["classify", "--model", &model, &picture]);
    assert!(answer.contains("dark") && answer.contains("light") && answer.contains('%'), "{answer}");
    let eval =
        ["--json", "eval", "--model", &model, "--counterfactuals", "2", "--steps", "10", "--alpha", "1"];
    let json: serde_json::Value = serde_json::from_str(&ok(&eval)).unwrap();
    assert_eq!(json["counterfactuals"]["images"], 4, "{json}");
    assert!(json["accuracy"].as_f64().unwrap() >= 0.0 && json["mse_by_quarter"][3].is_number(), "{json}");

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
        let mut command = Command::new(env!("CARGO_BIN_EXE_duet"));
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
    fails(&["explain", "--model", &model, &picture, "--to", "purple"], &["purple", "dark, light"]);
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
    let output = Command::new(env!("CARGO_BIN_EXE_duet"))
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

#[test]
fn tune_keeps_a_table_that_later_commands_read() {
    let project = Project::new();
    let (recipe, table) = (project.text("recipe.toml"), project.text("tables/here.json"));
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_duet"));
        command.args(arguments).env("XDG_CONFIG_HOME", project.path("config")).stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let measured = run(&["tune", &recipe, "--seconds", "0", "--batch", "2", "--out", &table]);
    assert!(measured.0 && measured.1.contains("conv_forward batch=2 height=8"), "{measured:?}");
    let text = std::fs::read_to_string(&table).unwrap();
    let read = duet::variants::Tuning::parse(Path::new(&table), &text).unwrap();
    assert!(read.choices.iter().all(|row| row.direct_ms.is_some() && row.tiled_ms.is_some()));
    assert!(!read.choices.is_empty());

    // Without --out it goes where later commands look.
    let measured = run(&["--json", "tune", &recipe, "--seconds", "0", "--batch", "1"]);
    assert!(measured.0, "{measured:?}");
    let mut kept = std::fs::read_dir(project.path("config/duet/tuning")).unwrap();
    let kept = kept.next().unwrap().unwrap().path();
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), measured.1);
    assert!(run(&["check"]).0);
    std::fs::write(&kept, text.replacen("\"batch\"", "\"bach\"", 1)).unwrap();
    let refused = run(&["check"]);
    assert!(!refused.0 && refused.2.contains("choices[0].shape.bach"), "{refused:?}");
    assert!(refused.2.contains(&*kept.to_string_lossy()), "{refused:?}");

    // A table named on the command line takes the folder's place, and must be of this adapter.
    assert!(run(&["check", "--tuning", &table]).0);
    let other = project.text("other.json");
    let changed = text.replacen(&format!("{:?}", read.adapter), "\"some other GPU\"", 1);
    std::fs::write(&other, changed).unwrap();
    let refused = run(&["check", "--tuning", &other]);
    assert!(
        !refused.0 && refused.2.contains("other.json") && refused.2.contains("some other GPU"),
        "{refused:?}"
    );
    assert!(!run(&["check", "--tuning", &project.text("none.json")]).0);
}
