//! `duet study`: step sizes of guidance, and solvers by their numbers of steps.

use super::{Project, fails, ok, program};
use serde_json::Value;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn a_study_compares_step_sizes() {
    let project = Project::new();
    project.train("run", &["--steps", "6"]);
    let (model, out) = (project.text("run/checkpoint.safetensors"), project.text("study"));
    let study = |more: &[&'static str]| {
        let mut arguments =
            vec!["study".to_owned(), "--model".into(), model.clone(), "--out".into(), out.clone()];
        let rest = ["-n", "2", "--steps", "4", "--neighbours", "2"];
        arguments.extend(rest.iter().chain(more).map(|a| (*a).to_owned()));
        arguments
    };
    let run = |more: &[&'static str]| -> Value {
        let arguments = study(more);
        let arguments: Vec<&str> =
            std::iter::once("--json").chain(arguments.iter().map(String::as_str)).collect();
        serde_json::from_str(&ok(&arguments)).unwrap()
    };
    let json = run(&["--step-sizes", "2,0,2", "--batch", "50"]);
    let sizes = json["step_sizes"].as_array().unwrap();
    assert_eq!(
        sizes.iter().map(|s| s["alpha"].as_f64().unwrap()).collect::<Vec<_>>(),
        [0.0, 2.0],
        "sorted, once"
    );
    for size in sizes {
        assert_eq!(size["images"], 4);
        assert_eq!(size["probability"].as_array().unwrap().len(), 5, "before each step and at the end");
        for space in ["model", "pixels"] {
            let share = |what: &str| size["quality"][space][what].as_f64().unwrap();
            assert!((0.0..=1.0).contains(&share("precision")) && (0.0..=1.0).contains(&share("recall")));
        }
        let by_class = |c: usize| size["probability_by_class"][c][2].as_f64().unwrap();
        let mean = size["probability"][2].as_f64().unwrap();
        assert!((0.5 * (by_class(0) + by_class(1)) - mean).abs() < 1e-6, "{size}");
    }
    assert!(json["other_test_images"]["pixels"]["precision"].is_number(), "{json}");
    let text = |name: &str| std::fs::read_to_string(project.path("study").join(name)).unwrap();
    assert_eq!(text("precision_recall.csv").lines().count(), 1 + 2 * 3);
    assert_eq!(text("probability.csv").lines().count(), 1 + 2 * 3 * 5);
    assert_eq!(serde_json::from_str::<Value>(&text("study.json")).unwrap(), json);
    for plot in ["precision_recall.svg", "probability.svg", "probability_by_class.svg"] {
        assert!(text(plot).contains("<polyline"), "{plot}");
    }
    for picture in ["samples.png", "samples_0_dark.png", "samples_1_light.png"] {
        assert!(image::open(project.path("study").join(picture)).unwrap().height() > 30, "{picture}");
    }
    // The noise belongs to the image: other batches, the same images.
    let again = run(&["--step-sizes", "0,2", "--batch", "3"]);
    let at = |json: &Value, i: usize| json["step_sizes"][i]["probability"][3].as_f64().unwrap();
    assert!((0..2).all(|i| (at(&json, i) - at(&again, i)).abs() < 1e-4), "{json} {again}");

    let refused = |more: &[&'static str], words: &[&str]| {
        let arguments = study(more);
        fails(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), words);
    };
    refused(&["--step-sizes", "nan"], &["step_sizes", "finite"]);
    refused(&["--batch", "0"], &["batch"]);
    refused(&["--data", "/nonexistent"], &["/nonexistent"]);
    refused(&["--sampler", "ddim", "--eta", "7"], &["eta"]);
    let wrong = |name: &str, value: &str, words: &[&str]| {
        let mut arguments = study(&[]);
        let place = arguments.iter().position(|a| a == name).unwrap();
        arguments[place + 1] = value.into();
        fails(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), words);
    };
    wrong("--neighbours", "4", &["neighbours", "from 1 to 3"]);
    wrong("-n", "0", &["per_class"]);
    wrong("-n", "9999", &["per_class", "dark"]);
    wrong("--out", &model, &["checkpoint.safetensors", "cannot be created"]);
}

#[cfg(unix)]
#[test]
fn an_interrupted_study_leaves_what_is_done() {
    let project = Project::new();
    project.train("run", &["--steps", "6"]);
    let file = project.path("study/study.json");
    let mut child = program()
        .args([
            "study",
            "--model",
            &project.text("run/checkpoint.safetensors"),
            "--out",
            &project.text("study"),
        ])
        .args(["-n", "2", "--steps", "500", "--step-sizes", "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    while !file.exists() {
        assert!(begin.elapsed() < Duration::from_secs(120), "nothing happened");
        std::thread::sleep(Duration::from_millis(10));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "what is not whole is no success");
    let json: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let done = json["step_sizes"].as_array().unwrap().len();
    assert!((1..15).contains(&done), "{done}");
}

#[test]
fn a_study_compares_solvers_by_their_steps() {
    let project = Project::new();
    project.train("run", &["--steps", "6"]);
    project.train("judge", &["--steps", "6", "--seed", "9"]);
    let [model, judge, out] = ["run/checkpoint.safetensors", "judge/checkpoint.safetensors", "study"]
        .map(|name| project.text(name));
    let common = ["study", "--model", &model, "--out", &out, "-n", "2", "--neighbours", "2"];
    let run = |more: &[&str]| -> Value {
        serde_json::from_str(&ok(&[&["--json"], &common[..], more].concat())).unwrap()
    };
    let list = "ddim:4,dpm++:3,ddim:4:0,dpm++sde:3:0";
    let json =
        run(&["--solvers", list, "--step-sizes", "1", "--seeds", "2", "--seed", "5", "--judge", &judge]);
    let rows = json["solvers"].as_array().unwrap();
    let of = |field: &str| rows.iter().map(|row| row[field].clone()).collect::<Vec<Value>>();
    assert_eq!(of("solver"), ["ddim", "dpm++", "ddim", "dpm++sde"]);
    assert_eq!(of("eta"), [Value::from(1.0), Value::Null, Value::from(0.0), Value::from(0.0)]);
    assert_eq!(of("steps"), [4, 3, 4, 3]);
    assert!(
        json["settings"]["judge"]["file"] == judge.as_str() && json["settings"]["alpha"] == 1.0,
        "{json}"
    );
    let figures = ["model_precision", "model_recall", "pixels_precision", "pixels_recall", "frechet"];
    let shares = ["recognised", "judged"];
    for row in rows {
        for figure in figures.iter().chain(&shares) {
            let mean = &row["figures"][figure];
            assert!(mean["mean"].as_f64().unwrap() >= 0.0 && mean["standard_error"].is_number(), "{row}");
            assert_eq!(mean["count"], if shares.contains(figure) { 8 } else { 2 }, "{figure}: {row}");
        }
        let seeds = row["seeds"].as_array().unwrap();
        let sum: u64 = seeds.iter().map(|seed| seed["recognised"].as_u64().unwrap()).sum();
        assert_eq!(row["figures"]["recognised"]["mean"].as_f64().unwrap(), sum as f64 / 8.0);
        assert_eq!(seeds[0]["images"], 4);
        let curve = row["probability"].as_array().unwrap().len();
        assert_eq!((curve, row["timesteps"].as_array().unwrap().len()), (curve, curve));
        assert_eq!(curve as u64, row["steps"].as_u64().unwrap() + 1, "before each step and at the end");
        assert!(row["seconds_per_image"].as_f64().unwrap() > 0.0);
    }
    // The SDE without its noise is the solver without noise; with noise another image comes of the same beginning.
    for field in ["figures", "probability", "seeds"] {
        assert_eq!(rows[1][field], rows[3][field], "{field}");
    }
    assert_ne!(rows[0]["probability"], rows[2]["probability"]);
    assert_eq!((&rows[0]["over_first"], &rows[0]["time_of_first"]), (&Value::Null, &1.0.into()));
    let mean = |row: usize| rows[row]["figures"]["frechet"]["mean"].as_f64().unwrap();
    let over = rows[1]["over_first"]["frechet"]["mean"].as_f64().unwrap();
    assert!((over - (mean(1) - mean(0))).abs() < 1e-6 * mean(0), "{over}");
    assert!(json["other_test_images"]["judged"].is_number(), "{json}");

    let text = |name: &str| std::fs::read_to_string(project.path("study").join(name)).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text("solvers.json")).unwrap(), json);
    let csv = text("solvers.csv");
    let columns = csv.lines().map(|line| line.split(',').count()).collect::<Vec<_>>();
    assert_eq!(columns, [5 + 2 * 7 + 2; 1 + 4 + 1], "{csv}");
    let markdown = text("solvers.md");
    for words in [
        "| solver |",
        "| DDIM, η = 1, 4 steps |",
        "| DPM-Solver++(2M), 3 steps |",
        "| other test images |",
        "| more than DDIM, η = 1, 4 steps |",
        "recognised by the judge",
        "seeds 5 to 6",
        "α = 1,",
    ] {
        assert!(markdown.contains(words), "{words}: {markdown}");
    }
    assert_eq!(text("solvers_probability.svg").matches("<polyline").count(), 4);
    let picture = image::open(project.path("study/solvers.png")).unwrap();
    assert!(picture.height() >= 4 * 16, "a row of images for each");

    // The noise belongs to the image, and a seed's images are the same beside others. Without a judge nothing is said of one.
    let again = run(&["--solvers", "dpm++:3", "--step-sizes", "1", "--seed", "5", "--batch", "3"]);
    let one = &again["solvers"][0]["seeds"][0];
    assert_eq!(one["recognised"], rows[1]["seeds"][0]["recognised"], "{again}");
    let near = |path: &str| {
        let [a, b] =
            [one, &rows[1]["seeds"][0]].map(|seed| seed["quality"].pointer(path).unwrap().as_f64().unwrap());
        assert!((a - b).abs() <= 1e-3 * b, "{path}: {a}, {b}");
    };
    ["/model/precision", "/pixels/recall", "/frechet"].into_iter().for_each(near);
    assert!(again["solvers"][0]["figures"]["judged"].is_null() && one["judged"].is_null(), "{again}");
    assert!(again["solvers"][0]["figures"]["frechet"]["standard_error"].is_null(), "of one seed");

    let refused = |more: &[&str], words: &[&str]| fails(&[&common[..], more].concat(), words);
    refused(&["--solvers", "euler:10"], &["solvers: \"euler:10\"", "none of ddim", "dpm++"]);
    refused(&["--solvers", "ddim"], &["solvers: \"ddim\"", "SOLVER:STEPS"]);
    refused(&["--solvers", "ddim:0"], &["whole number from 1"]);
    refused(&["--solvers", "ddim:4,dpm++:99999"], &["solvers: \"dpm++:99999\"", "99999"]);
    refused(&["--solvers", "ddim:4:2"], &["from 0 to 1"]);
    refused(&["--solvers", "dpm++:4:1"], &["takes no share of noise"]);
    refused(&["--solvers", "ddim:4,ddim:4"], &["is there twice"]);
    refused(&["--solvers", "ddim:4", "--step-sizes", "1,2"], &["step_sizes", "must be one", "are 2"]);
    refused(&["--solvers", "ddim:4", "--judge", &model], &["judge", "is the model that explains"]);
    refused(&["--solvers", "ddim:4", "--judge", "nowhere.safetensors"], &["nowhere.safetensors"]);
    for wrong in [&["--solvers", "ddim:4", "--steps", "4"][..], &["--seeds", "2"], &["--judge", &judge]] {
        let output = super::duet(&[&common[..], wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}
