//! Runs that go on, that are refused, and that outlive what goes wrong around them.

use super::{Project, duet, fails, ok, weights};
use duet::checkpoint::Checkpoint;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub const FILE: &str = "checkpoint.safetensors";

pub fn step(run: &Path) -> u64 {
    weights(&run.join(FILE)).training.unwrap().step
}

/// Everything that steps depend on, without figures of time.
pub fn state(run: &Path) -> Checkpoint {
    let mut checkpoint = weights(&run.join(FILE));
    let training = checkpoint.training.as_mut().unwrap();
    training.last = None;
    training.recipe = serde_json::Value::Null;
    checkpoint
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The lines of a run's file of figures.
pub fn figures(run: &Path) -> Vec<serde_json::Value> {
    lines(&std::fs::read_to_string(run.join("metrics.jsonl")).unwrap())
}

fn lines(output: &str) -> Vec<serde_json::Value> {
    output.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
}

impl Project {
    /// Changes the recipe.
    pub fn set(&self, changes: &[(&str, &str)]) {
        let path = self.path("recipe.toml");
        let mut recipe = std::fs::read_to_string(&path).unwrap();
        for (from, to) in changes {
            assert!(recipe.contains(from), "{from}");
            recipe = recipe.replace(from, to);
        }
        std::fs::write(path, recipe).unwrap();
    }

    fn arguments(&self, run: &str, more: &[&str]) -> Vec<String> {
        let first = ["train".to_owned(), self.text("recipe.toml"), "--out".into(), self.text(run)];
        first.into_iter().chain(more.iter().map(|a| (*a).to_owned())).collect()
    }

    fn refused(&self, run: &str, more: &[&str], words: &[&str]) {
        let arguments = self.arguments(run, more);
        fails(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), words);
    }

    pub fn command(&self, run: &str, more: &[&str]) -> Command {
        let mut command = super::program();
        command
            .args(self.arguments(run, more))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }
}

pub fn wait_for(mut what: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !what() {
        assert!(begin.elapsed() < Duration::from_secs(300), "nothing happened");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(unix)]
fn signal(name: &str, child: &std::process::Child) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn resuming_says_what_it_does_and_nothing_to_do_is_said_as_json_too() {
    let project = Project::new();
    let nothing = ["no checkpoint to go on from", "no-such-run", "--resume=auto"];
    project.refused("no-such-run", &["--resume", "--steps", "2"], &nothing);
    assert!(!project.path("no-such-run").exists(), "a typing error leaves nothing behind");

    let auto = project.train("run", &["--resume=auto", "--steps", "2"]);
    assert!(auto.contains("\nbegins at step 0"), "{auto}");
    let more = project.train("run", &["--resume=auto", "--steps", "4"]);
    assert!(more.contains("\ngoes on from step 2 of ") && more.contains("step 4 of 4"), "{more}");
    project.train("whole", &["--steps", "4"]);
    assert!(state(&project.path("run")) == state(&project.path("whole")));

    let json = |run: &str, more: &[&str]| lines(&project.train(run, &[&["--json"], more].concat()));
    for resume in ["--resume", "--resume=existing", "--resume=auto"] {
        let done = json("run", &[resume, "--steps", "4"]);
        let [_data, begin, end] = &done[..] else { panic!("{done:?}") };
        assert!(begin["resumed"] == true && begin["step"] == 4 && end["nothing_to_do"] == true, "{done:?}");
    }
    let none = json("other", &["--steps", "0"]);
    assert!(none.len() == 1 && none[0]["nothing_to_do"] == true && none[0]["step"] == 0, "{none:?}");
    assert!(!project.path("other").exists());
    let begun = json("third", &["--resume=auto", "--steps", "2"]);
    assert!(begun[1]["resumed"] == false && begun[1]["checkpoint"].is_null(), "{begun:?}");
    assert_eq!(begun.last().unwrap()["step"], 2);
}

#[test]
fn bad_numbers_are_refused_by_name_before_anything_is_read() {
    let project = Project::new();
    // Where nothing is read, missing data are not noticed.
    std::fs::remove_dir_all(project.path("data")).unwrap();
    let cases: [(&[&str], &str); 12] = [
        (&["--minutes", "nan"], "minutes: "),
        (&["--minutes", "-1"], "minutes: "),
        (&["--minutes=-inf"], "minutes: "),
        (&["--lr", "nan"], "learning_rate: "),
        (&["--lr", "inf"], "learning_rate: "),
        (&["--lr", "-1"], "learning_rate: "),
        (&["--lr", "1e300"], "learning_rate: "),
        (&["--batch", "0"], "batch"),
        (&["--batch", "1"], "batch"),
        (&["--batch", "1048577"], "batch"),
        (&["--batch", "1000000000000"], "batch"),
        (&["--batch", "18446744073709551615"], "batch"),
    ];
    for (more, words) in cases {
        project.refused("run", more, &[words]);
    }
    for (option, value) in
        [("--batch", "1e12"), ("--seed", "-1"), ("--steps", "1e300"), ("--minutes", "soon")]
    {
        let output = project.command("run", &[option, value]).stderr(Stdio::piped()).output().unwrap();
        let error = text(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(option.trim_start_matches('-')), "{error}");
    }
    project.set(&[("sample_alpha = 1.0", "sample_alpha = nan")]);
    project.refused("run", &[], &["sample_alpha"]);
    assert!(!project.path("run").exists());
}

#[test]
fn endless_time_is_no_limit() {
    let project = Project::new();
    for (run, minutes) in [("a", "inf"), ("b", "1e300")] {
        let text = project.train(run, &["--steps", "2", "--minutes", minutes]);
        assert!(text.contains("step 2 of 2"), "{text}");
    }
}

#[test]
fn settings_that_differ_are_named_and_overridden_by_who_means_it() {
    let project = Project::new();
    project.train("run", &["--steps", "2"]);
    let resumed = ["--resume", "--steps", "4"];
    let other = [&resumed[..], &["--batch", "6", "--lr", "0.5", "--seed", "9"]].concat();
    let words = [
        "train.batch_size was 4, is 6",
        "train.learning_rate was 0.002, is 0.5",
        "train.seed was 0, is 9",
        "--override",
    ];
    project.refused("run", &other, &words);
    // What changes no step is free, and is not named.
    project.set(&[("log_every = 2", "log_every = 3"), ("save_every = 4", "save_every = 3")]);
    project.set(&[("sample_steps = \"4\"", "sample_steps = \"2\"")]);
    project.set(&[("classifier_input = \"both\"", "classifier_input = \"noised\"")]);
    let words = ["was trained otherwise: train.classifier_input was \"both\", is \"noised\"; --override"];
    project.refused("run", &resumed, &words);
    assert_eq!(step(&project.path("run")), 2);

    // Data with two labels swapped.
    project.set(&[("classifier_input = \"noised\"", "classifier_input = \"both\"")]);
    let [a, b] = ["dark/3.png", "light/3.png"].map(|name| project.path("data").join(name));
    let swapped = std::fs::read(&a).unwrap();
    std::fs::rename(&b, &a).unwrap();
    std::fs::write(&b, swapped).unwrap();
    project.refused("run", &resumed, &["was trained otherwise: data was blake3:"]);
    // Nobody means another network.
    project.set(&[("num_channels = 8", "num_channels = 16")]);
    let network = ["another network: model.num_channels was 8, is 16; begin anew"];
    project.refused("run", &[&resumed[..], &["--override"]].concat(), &network);
    project.set(&[("num_channels = 16", "num_channels = 8")]);

    let output = project
        .command("run", &[&resumed[..], &["--batch", "6", "--override"]].concat())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let told = text(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("train.batch_size was 4, is 6") && told.contains("data was blake3:"), "{told}");
    // From now on the run is one of six images a step.
    project.train("run", &["--resume", "--steps", "6", "--batch", "6"]);
    assert_eq!(step(&project.path("run")), 6);
    let output = project.command("run", &["--override"]).stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.code() == Some(2) && text(&output.stderr).contains("--resume"));
}

#[cfg(unix)]
#[test]
fn a_second_run_in_a_folder_is_refused_until_the_first_is_gone() {
    let project = Project::new();
    let run = project.path("run");
    let mut first = project.command("run", &["--steps", "100000"]).spawn().unwrap();
    wait_for(|| run.join(FILE).exists());
    let words = format!("another run (pid {}) is at work in this folder", first.id());
    project.refused("run", &["--resume", "--seed", "7"], &[&words]);
    project.refused("run", &["--resume=auto"], &[&words]);
    first.kill().unwrap();
    first.wait().unwrap();
    let step = step(&run);
    let more = (step + 1).to_string();
    assert!(project.train("run", &["--resume", "--steps", &more]).contains("goes on"));
    std::fs::remove_dir_all(&run).unwrap();

    // Two at once in a folder that neither of them has begun yet.
    let pair = [0, 1].map(|_| project.command("both", &["--steps", "100000"]).spawn().unwrap());
    let mut pair = pair.map(|child| (child, None));
    wait_for(|| project.path("both").join(FILE).exists());
    let begin = Instant::now();
    while pair.iter().all(|(_, ended)| ended.is_none()) {
        assert!(begin.elapsed() < Duration::from_secs(60), "both train");
        for (child, ended) in &mut pair {
            *ended = child.try_wait().unwrap();
        }
    }
    let ended: Vec<_> = pair.iter().filter_map(|(_, ended)| *ended).collect();
    assert!(ended.len() == 1 && ended[0].code() == Some(1), "{ended:?}");
    for (child, _) in &mut pair {
        let _ = child.kill();
        child.wait().unwrap();
    }
}

#[cfg(unix)]
#[test]
fn training_outlives_its_figures_its_samples_and_its_reader() {
    let project = Project::new();
    let run = project.path("run");
    std::fs::create_dir_all(run.join("samples_0000006.png")).unwrap();
    let nowhere = if Path::new("/dev/full").exists() { "/dev/full" } else { "/dev/null" };
    std::os::unix::fs::symlink(nowhere, run.join("metrics.jsonl")).unwrap();
    let output = project.command("run", &["--steps", "6", "--json"]).stderr(Stdio::piped()).output().unwrap();
    let told = lines(&text(&output.stderr));
    assert!(output.status.success(), "{told:?}");
    assert_eq!(told.len(), 2, "{told:?}");
    for (line, words) in told
        .iter()
        .zip([["without a file of figures", "metrics.jsonl"], ["samples_0000006.png", "training goes on"]])
    {
        let warning = line["warning"].as_str().unwrap();
        assert!(words.iter().all(|word| warning.contains(word)), "{warning}");
    }
    assert_eq!(step(&run), 6);

    let mut child = project.command("alone", &["--steps", "6"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(step(&project.path("alone")), 6);
    assert!(state(&project.path("alone")) == state(&run), "nothing of it changes a bit");
}

#[cfg(unix)]
#[test]
fn a_full_disk_ends_the_run_and_the_last_checkpoint_stays() {
    let project = Project::new();
    let run = project.path("run");
    project.train("run", &["--steps", "4"]);
    let before = std::fs::read(run.join(FILE)).unwrap();
    // Files may grow to 64 blocks of 512 or 1024 bytes; the signal that says so is ignored, as writing then fails.
    let limited: Vec<String> = project.arguments("run", &["--resume", "--steps", "12"]);
    let output = Command::new("sh")
        .env("DUET_CACHE", super::cache())
        .args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_duet"))
        .args(&limited)
        .output()
        .unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    // The figures noted in it are of another length, and so may be the file.
    let need = error.split("; ").last().and_then(|end| end.split(' ').next()?.parse::<usize>().ok());
    let need = need.unwrap_or_else(|| panic!("{error}"));
    assert!(
        error.contains(FILE)
            && error.contains("bytes are needed")
            && need.abs_diff(before.len()) < before.len() / 50,
        "{error}"
    );
    assert!(std::fs::read(run.join(FILE)).unwrap() == before);
    assert!(rubbish(&run).is_empty(), "{:?}", rubbish(&run));
    // With room again nothing is amiss.
    project.train("run", &["--resume"]);
    project.train("whole", &[]);
    assert!(state(&run) == state(&project.path("whole")));
}

/// Temporary files.
pub fn rubbish(run: &Path) -> Vec<String> {
    let entries =
        std::fs::read_dir(run).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    entries.filter(|name| name.ends_with(".tmp")).collect()
}

#[test]
fn a_loss_that_is_not_finite_is_saved_over_nothing() {
    let project = Project::new();
    project.train("run", &["--steps", "4"]);
    project.set(&[("save_every = 4", "save_every = 1"), ("log_every = 2", "log_every = 1")]);
    let run = project.path("run");
    let before = std::fs::read(run.join(FILE)).unwrap();
    // Steps of 1e30 end in overflow: the first leaves weights that are finite, and give no numbers.
    let words = [
        "not finite",
        "step 5",
        "became NaN",
        "learning rate of step 5: 1.000e30",
        "last finite values, at step 5: loss ",
        "checkpoint.safetensors is still that of step 4",
        "what to try: a lower learning rate (--lr 3.333e29), or clip_grad_norm = 1.0, or warmup_steps = 500",
        "--resume --override",
    ];
    project.refused("run", &["--resume", "--override", "--lr", "1e30"], &words);
    assert!(rubbish(&run).is_empty());
    assert!(std::fs::read(run.join(FILE)).unwrap() == before, "the last good checkpoint stays");
    let last = figures(&run).pop().unwrap();
    assert!(last["stopped"].is_string() && last["step"].as_u64() > Some(4), "{last}");
}

#[test]
fn several_labels_an_image_are_trained_and_measured() {
    let project = Project::new();
    let folder = project.path("data");
    let mut table = "file,bright,\"high, or not\"\n".to_owned();
    for i in 0..24 {
        table.push_str(&format!("dark/{i}.png,0,{}\nlight/{i}.png,1,{}\n", i % 2, i % 2));
    }
    std::fs::write(folder.join("labels.csv"), table).unwrap();
    project.set(&[
        ("kind = \"folder\"", "kind = \"labels-csv\""),
        ("num_classes = 2", "num_classes = 2\nhead = \"multi_label\""),
    ]);
    let rows = lines(&project.train("run", &["--json"]));
    let accuracies: Vec<f64> = rows.iter().filter_map(|row| row["test_accuracy"].as_f64()).collect();
    assert!(accuracies.len() == 2 && accuracies.iter().all(|a| (0.0..=1.0).contains(a)), "{rows:?}");
    assert!(rows.iter().filter_map(|row| row["classifier_loss"].as_f64()).all(|loss| loss > 0.0));
    let run = project.path("run");
    let grid = image::open(run.join("samples_0000012.png")).unwrap();
    assert!(grid.width() > 4 * 16 && grid.height() >= 2 * 16);
    assert_eq!(figures(&run).last().unwrap()["test_accuracy"], accuracies[1]);
    let saved = weights(&run.join(FILE));
    assert_eq!(saved.model.class_names, ["bright", "high, or not"]);
    assert_eq!(saved.training.unwrap().last.unwrap().values["test_accuracy"], accuracies[1]);
    let model = project.text(&format!("run/{FILE}"));
    let eval: serde_json::Value = serde_json::from_str(&ok(&["--json", "eval", "--model", &model])).unwrap();
    assert_eq!(eval["accuracy"].as_f64().unwrap(), accuracies[1], "{eval}");
    let picture = project.text("data/light/0.png");
    assert!(ok(&["classify", "--model", &model, &picture]).contains("bright"));

    // Of one class per image the class is the label that holds.
    project.set(&[("kind = \"labels-csv\"", "kind = \"folder\"")]);
    project.train("folders", &["--steps", "4"]);
    let model = project.text(&format!("folders/{FILE}"));
    assert_eq!(weights(Path::new(&model)).model.class_names, ["dark", "light"]);
    let eval: serde_json::Value = serde_json::from_str(&ok(&["--json", "eval", "--model", &model])).unwrap();
    assert!(eval["accuracy"].is_number(), "{eval}");
    assert!(project.train("folders", &["--resume", "--steps", "6"]).contains("goes on from step 4"));

    project.set(&[("num_classes = 2", "num_classes = 5")]);
    project.refused("other", &[], &["the data have 2 classes", "the model 5: set num_classes = 2"]);
    project.set(&[
        ("num_classes = 5\nhead = \"multi_label\"", "num_classes = 2"),
        ("kind = \"folder\"", "kind = \"labels-csv\""),
    ]);
    project.refused("other", &[], &["model.head", "multi_label"]);
    assert_eq!(duet(&["info", &model]).status.code(), Some(0));
}

#[cfg(unix)]
#[test]
fn polite_kills_and_closed_terminals_save() {
    let project = Project::new();
    let start = |run: &str, wanted: &str| {
        let begin = project.arguments(run, &["--steps", "100000"]);
        let mut command = Command::new("sh");
        command
            .env("DUET_CACHE", super::cache())
            .args(["-c", &format!("{wanted} exec \"$0\" \"$@\"")])
            .arg(env!("CARGO_BIN_EXE_duet"))
            .args(begin);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let file = project.path(run).join(FILE);
        wait_for(|| file.exists());
        child
    };
    // Closing a terminal sends more than one signal at once.
    for (run, signals) in [("term", &["-TERM"][..]), ("hup", &["-HUP", "-HUP", "-TERM"])] {
        let mut child = start(run, "");
        signals.iter().for_each(|name| signal(name, &child));
        assert_eq!(child.wait().unwrap().code(), Some(0), "{run}");
        let last = figures(&project.path(run)).pop().unwrap();
        assert_eq!(step(&project.path(run)), last["step"], "the last step is saved, whatever its number");
    }
    // As `nohup` starts it.
    let mut child = start("nohup", "trap '' HUP;");
    signal("-HUP", &child);
    let before = step(&project.path("nohup"));
    wait_for(|| step(&project.path("nohup")) > before + 4);
    assert!(child.try_wait().unwrap().is_none());
    signal("-INT", &child);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_classifier_alone_is_trained_resumed_and_used_as_one() {
    let project = Project::new();
    let run = project.path("run");
    let output = project.train("run", &["--classifier-only", "--steps", "4"]);
    assert!(!output.contains("mse") && output.contains("loss"), "{output}");
    assert!(
        std::fs::read_dir(&run).unwrap().all(|f| !f
            .unwrap()
            .file_name()
            .to_string_lossy()
            .contains("samples"))
    );
    // Without the option, or the recipe's word, it would go on as something else.
    project.refused("run", &["--resume", "--steps", "6"], &["train.classifier_only was true, is false"]);
    project.set(&[("[train]\n", "[train]\nclassifier_only = true\n")]);
    let output = ok(&[
        "--json",
        "train",
        &project.text("recipe.toml"),
        "--out",
        &project.text("run"),
        "--resume",
        "--steps",
        "6",
    ]);
    let row = lines(&output).into_iter().find(|row| row["step"] == 6 && row["loss"].is_number()).unwrap();
    assert_eq!((&row["mse"], &row["vb"]), (&serde_json::Value::Null, &serde_json::Value::Null), "{row}");
    assert_eq!(row["loss"], row["classifier_loss"], "{row}");
    let last = figures(&run).pop().unwrap();
    assert!(
        last["mse"].is_null() && last["classifier_loss"].is_number() && last["test_accuracy"].is_number(),
        "{last}"
    );
    // What a judge is worth stands in its file: seed, accuracy, of how many images; in an export too.
    let model = project.text("run/checkpoint.safetensors");
    let exported = project.text("judge.safetensors");
    ok(&["export", "--model", &model, "--out", &exported]);
    let file = weights(Path::new(&exported));
    assert!(file.classifier_only);
    let eval = |model: &str| -> serde_json::Value {
        serde_json::from_str(&ok(&["--json", "eval", "--model", model])).unwrap()
    };
    let measured = eval(&model);
    assert_eq!(file.info["seed"], "0");
    assert_eq!(file.info["test_accuracy"].parse::<f64>().unwrap(), measured["accuracy"].as_f64().unwrap());
    assert_eq!(file.info["test_images"], measured["images"].to_string());
    assert_eq!((&measured["mse_by_quarter"], &measured["mse_images"]), (&serde_json::Value::Null, &0.into()));
    assert!(eval(&exported)["accuracy"].is_number());
    let raw = project.text("raw.safetensors");
    ok(&["export", "--model", &model, "--weights", "raw", "--out", &raw]);
    assert!(!weights(Path::new(&raw)).info.contains_key("test_accuracy"), "it is the average's");
    let info = ok(&["info", &exported]);
    assert!(info.contains("a classifier alone") && info.contains("test_accuracy: "), "{info}");
    assert!(!info.contains("denoising step") && info.contains("training step"), "{info}");

    let picture = project.text("data/light/0.png");
    assert!(ok(&["classify", "--model", &exported, &picture]).contains('%'));
    let words = ["is a classifier alone", "cannot generate, explain or predict noise"];
    let out = project.text("no.png");
    fails(&["sample", "--model", &exported, "--out", &out], &words);
    fails(&["explain", "--model", &exported, &picture, "--out", &out], &words);
    fails(&["eval", "--model", &exported, "--counterfactuals", "1"], &words);
    fails(&["study", "--model", &exported, "--out", &project.text("study")], &words);
    let data = project.text("data");
    fails(&["export", "--model", &model, "--data", &data, "--out", &project.text("no.safetensors")], &words);
    project.set(&[("classifier_input = \"both\"", "classifier_input = \"none\"")]);
    project.refused("other", &[], &["classifier_only", "\"none\""]);
}
